"""The sessions and patterns of nights: silver.counts → silver.sessions, patterns, waiting."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.ingest.ingest import look_back
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import message_templates
from nightlog.lake.parts import Part, part_batches, read_part, schema_of, write_part
from nightlog.lake.tables import COUNTS_TABLE, PATTERNS, SESSIONS
from nightlog.parsing.events import BUCKETS
from nightlog.parsing.readings import Readings
from nightlog.sessions import group
from nightlog.sessions.group import Assignment, Grouped, Pattern, add_patterns, fingerprint, group_sessions, merge_patterns, question_id
from nightlog.sessions.waiting import LONGEST_WAIT_DAYS, NONE_DUE, WaitingList, days_between, settle_window
from nightlog.systems.spec import System

# Counts that one task groups in a second or two, and the bytes of text that take as long as one of them.
COUNTS_PER_TASK, COUNT_BYTES = 1_500_000, 64
# A session of more events than this is noted: an id that so much has in common tells little.
LONG_SESSION = 1_000_000
# Each task opens all parts; if there were more tasks than these, each part is read once, and its rows are sent to the tasks.
MOST_READERS = 8
# Rows of a part that are sent together: some tens of MB.
SENT_ROWS = 1 << 18
# Parts of silver.sessions in which ids are looked up at once: each time all ids are looked at.
LOOKED_UP = 16
COLUMNS = ["session_id", "message_id", "n", "first_at", "last_at", "bucket"]


@dataclass(frozen=True)
class Task:
    """The values that all tasks of a night share.

    `days`: the earlier days whose events belong to the night's sessions; `extra`: days before these, for sessions that are due alone.
    `due`: (session_id, since), sessions that the night takes over; their events count from the day on since which they wait.
    `write`: write the sessions; without it only the waiting sessions are found.
    """

    root: str
    system: str
    ds: str
    days: tuple[str, ...]
    extra: tuple[str, ...]
    due: pa.Table
    elsewhere: dict[str, pa.Table]
    window: tuple[int, int] | None
    assignment: Assignment
    parts: tuple[Part, ...]
    write: bool = True


@dataclass
class Result:
    """The sessions of a night, or of some buckets of it; `content`: day → fingerprint of its counts."""

    grouped: Grouped
    parts: list[Part] = field(default_factory=list)
    n_long: int = 0
    content: dict[str, int] = field(default_factory=dict)


def earlier_days(system: System, ds: str, due: pa.Table) -> list[str]:
    """Return the earlier days that a night reads: its look-back days, and those since which what is due has waited."""
    days = set(look_back(system, ds))
    for since in due.column("since").unique().to_pylist():
        last = (date.fromisoformat(since) + timedelta(days=LONGEST_WAIT_DAYS + 1)).isoformat()
        days.update(days_between(since, min(ds, last)))
    return sorted(days)


def write_sessions(
    lake: Lake, system: System, nights: Sequence[str], readings: Readings, waiting: WaitingList
) -> tuple[dict[str, int], list[str]]:
    """Write the sessions and patterns of nights, in their order, and what each leaves to a later one.

    Returns:
        n_ids (sessions that the nights account for) = n_sessions (judged) + n_waiting + n_unchanged + n_outside; n_judged_again,
        n_patterns, n_templates, n_long_sessions; and what an operator should know.
    """
    assignment = Assignment.of(message_templates(lake, system.name).items())
    done: dict[str, list[Part]] = {}
    patterns: list[Part] = []
    found: dict[str, Pattern] = {}
    counts = dict.fromkeys(("n_ids", "n_sessions", "n_waiting", "n_unchanged", "n_judged_again", "n_outside", "n_long_sessions"), 0)
    notes = []
    for ds in sorted(nights):
        list_waiting_of_day_before(lake, system, ds, readings, waiting, assignment)
        due = waiting.due(ds, readings.earlier_days(ds))
        days = earlier_days(system, ds, due)
        others = judged_elsewhere(lake, system, ds, due, waiting, done)
        result = group_night(lake, system, ds, days, due, others, assignment)
        grouped = result.grouped
        done[ds] = result.parts
        found = merge_patterns([found, grouped.patterns])
        if grouped.patterns:
            table = patterns_table(grouped.patterns, system.session.kind == "id")
            patterns.append(write_part(lake.root, PATTERNS, table, system=system.name, ds=ds))
        waiting.take(ds, due)
        later = waiting.leave(ds, grouped.waiting, grouped.unchanged)
        notes += waited_long(due, ds)
        note_contents(readings, ds, days, result)
        readings.mark_stale(later, ds)
        for name, n in {
            "n_ids": grouped.n_ids,
            "n_sessions": sum(part.n_rows for part in result.parts),
            "n_waiting": len(grouped.waiting),
            "n_unchanged": len(grouped.unchanged),
            "n_judged_again": judged_before(lake, system.name, days, done, grouped.again),
            "n_outside": grouped.n_outside,
            "n_long_sessions": result.n_long,
        }.items():
            counts[name] += n
    lake.replace(SESSIONS, [part for parts in done.values() for part in parts], system=system.name, ds=list(nights))
    lake.replace(PATTERNS, patterns, system=system.name, ds=list(nights))
    counts |= {"n_patterns": len(found), "n_templates": len({name for each in found.values() for name, _ in each.events})}
    return counts, notes


def list_waiting_of_day_before(
    lake: Lake, system: System, ds: str, readings: Readings, waiting: WaitingList, assignment: Assignment
) -> None:
    """List what the day before leaves to this night, if it is in the lake as a look-back day but was never run itself."""
    (before,) = days_between((date.fromisoformat(ds) - timedelta(days=1)).isoformat(), ds)
    reading = readings.rows.get(before)
    if reading is None or reading.n_waiting is not None or settle_window(system, before) is None:
        return
    due, days = NONE_DUE, look_back(system, before)
    result = group_night(lake, system, before, days, due, {}, assignment, write=False)
    waiting.leave(before, result.grouped.waiting, result.grouped.unchanged)
    readings.put(before, replace(reading, n_waiting=len(result.grouped.waiting)))


def group_night(
    lake: Lake,
    system: System,
    ds: str,
    days: Sequence[str],
    due: pa.Table,
    elsewhere: dict[str, pa.Table],
    assignment: Assignment,
    write: bool = True,
) -> Result:
    """Group one night's sessions from the counts of its events and those of earlier days. Arguments as those of `Task`."""
    parts = lake.parts(COUNTS_TABLE, system=system.name, ds=[*days, ds])
    n = sum(part.n_rows for part in parts)
    edges = np.linspace(0, BUCKETS, 2 + n // COUNTS_PER_TASK).astype(int)
    tasks = list(itertools.pairwise(edges.tolist())) if n else []
    usual = set(look_back(system, ds))
    shared = Task(
        lake.root,
        system.name,
        ds,
        tuple(day for day in days if day in usual),
        tuple(day for day in days if day not in usual),
        due,
        elsewhere,
        settle_window(system, ds),
        assignment,
        tuple(parts),
        write,
    )
    n_due = len(due.column("session_id").unique())
    n_bytes = COUNT_BYTES * n
    if len(tasks) <= MOST_READERS:
        return join_results(lake.runner.run(tasks, partial(group_buckets, shared=shared), n_bytes), n_due)
    alone = replace(shared, parts=())
    split = partial(split_part, root=lake.root, edges=edges)
    return join_results(lake.runner.run_shuffled(parts, split, len(tasks), partial(group_sent, shared=alone), n_bytes), n_due)


def group_buckets(buckets: tuple[int, int], shared: Task) -> Result:
    """Group the sessions of some buckets of all parts. Returns what `group_counts` returns."""
    days = (dict(part.partition)["ds"] for part in shared.parts)
    rows = (read_part(shared.root, COUNTS_TABLE, part.path, COLUMNS, ("bucket", *buckets)) for part in shared.parts)
    return group_counts(zip(days, rows, strict=True), shared)


def split_part(part: Part, root: str, edges: np.ndarray) -> Iterator[tuple[int, tuple[str, bytes]]]:
    """Yield the rows of a part of silver.counts by ranges of buckets: the number of the range, the day, and the rows as an Arrow stream."""
    for batch in part_batches(root, COUNTS_TABLE, part, COLUMNS, SENT_ROWS):
        rows = batch.sort_by("bucket")
        places = np.searchsorted(rows.column("bucket").to_numpy(), edges)
        for number in np.flatnonzero(np.diff(places)).tolist():
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as stream:
                stream.write_batch(rows.slice(places[number], places[number + 1] - places[number]))
            yield number, (dict(part.partition)["ds"], sink.getvalue().to_pybytes())


def group_sent(_: int, sent: Iterable[tuple[str, bytes]], shared: Task) -> Result:
    """Group the sessions of one range of buckets. Args: sent: what `split_part` yields for it. Returns what `group_counts` returns."""
    return group_counts(((day, pa.ipc.open_stream(rows).read_all()) for day, rows in sent), shared)


def group_counts(counts: Iterable[tuple[str, pa.Table]], shared: Task) -> Result:
    """Group the sessions of some counts, and write those that are judged beside those of the other tasks.

    Args: counts: days with their rows of silver.counts (COLUMNS).
    """
    tables: list[pa.Table] = []
    content: dict[str, int] = {}
    for day, of_day in counts:
        rows = of_day
        content[day] = (content.get(day, 0) + fingerprint(rows)) % (1 << 64)
        if day in shared.extra:
            waiting = shared.due.filter(pc.less_equal(shared.due.column("since"), day)).column("session_id")
            rows = rows.filter(pc.is_in(rows.column("session_id"), waiting.combine_chunks()))
        tables.append(rows.drop_columns("bucket").append_column("own", pa.array(np.full(len(rows), day == shared.ds))))
    due = shared.due.column("session_id").combine_chunks()
    whole = pa.concat_tables(tables) if tables else group.COUNTS.empty_table()
    grouped = group_sessions(whole, shared.assignment, shared.window, due, shared.elsewhere, shared.ds)
    sessions = grouped.judged
    grouped.judged = group.SESSIONS.empty_table()  # written here; the driver has no use for them
    written = []
    if shared.write and len(sessions):
        written = [write_part(shared.root, SESSIONS, sessions, system=shared.system, ds=shared.ds)]
    n_long = int((sessions.column("n_events").to_numpy() > LONG_SESSION).sum())
    return Result(grouped, written, n_long, content)


def join_results(results: Iterable[Result], n_due: int) -> Result:
    """Return several tasks' results as one. Of `n_due` sessions those that no task has seen have no events left: no rule can judge them.

    Only what each night needs of each session is kept: of those that wait or are judged elsewhere, and the ids of those judged again.
    """
    waiting, unchanged, again = [group.SESSIONS.empty_table()], [group.UNCHANGED.empty_table()], [pa.array([], pa.string())]
    patterns: dict[str, Pattern] = {}
    whole = Result(Grouped(waiting[0], waiting[0], unchanged[0], patterns, again[0]))
    for each in results:
        grouped = each.grouped
        waiting.append(grouped.waiting)
        unchanged.append(grouped.unchanged)
        again.append(grouped.again)
        add_patterns(patterns, grouped.patterns)
        whole.grouped.n_ids += grouped.n_ids
        whole.grouped.n_due += grouped.n_due
        whole.grouped.n_outside += grouped.n_outside
        whole.parts += each.parts
        whole.n_long += each.n_long
        for day, value in each.content.items():
            whole.content[day] = (whole.content.get(day, 0) + value) % (1 << 64)
    n_gone = n_due - whole.grouped.n_due
    whole.grouped = replace(
        whole.grouped,
        waiting=pa.concat_tables(waiting),
        unchanged=pa.concat_tables(unchanged),
        again=pa.concat_arrays(again),
        n_ids=n_gone + whole.grouped.n_ids,
        n_due=n_due,
        n_outside=n_gone + whole.grouped.n_outside,
    )
    return whole


def long_due(due: pa.Table, ds: str) -> list[str]:
    """Return the nights, except the one just before, since which sessions have waited for this one."""
    return [since for since in sorted(due.column("since").unique().to_pylist()) if len(days_between(since, ds)) > 1]


def judged_elsewhere(
    lake: Lake, system: System, ds: str, due: pa.Table, waiting: WaitingList, done: Mapping[str, list[Part]]
) -> dict[str, pa.Table]:
    """Return sessions (SESSIONS) that other nights may have judged on the same events, by night.

    A later night may have taken them over before this night was run, and a night before this one may have come late, after this night took
    over what it would have judged.
    """
    reach = max(LONGEST_WAIT_DAYS, system.session.lookback_days)
    first = (date.fromisoformat(ds) - timedelta(days=reach)).isoformat()
    wanted = waiting.taken_after(ds, [*days_between(first, ds), ds])
    for since in long_due(due, ds):
        ids = due.filter(pc.equal(due.column("since"), since)).column("session_id").combine_chunks()
        for night in days_between(since, ds)[1:]:
            wanted[night] = pa.concat_arrays([wanted[night], ids]) if night in wanted else ids
    found = {}
    for night, ids in sorted(wanted.items()):
        parts = done.get(night) or lake.parts(SESSIONS, system=system.name, ds=night)
        tables = [read_part(lake.root, SESSIONS, part.path, group.SESSIONS.names) for part in parts]
        rows = pa.concat_tables([group.SESSIONS.empty_table(), *(table.cast(group.SESSIONS) for table in tables)])
        rows = rows.filter(pc.is_in(rows.column("session_id"), ids))
        if len(rows):
            found[night] = rows.combine_chunks()
    return found


def judged_before(lake: Lake, system: str, days: Sequence[str], done: Mapping[str, list[Part]], ids: pa.Array) -> int:
    """Return the number of ids that were judged on one of the days.

    Args:
        done: sessions that this run has written and not committed yet, by night.
    """
    if not len(ids) or not days:
        return 0
    parts = [part for day in days for part in done.get(day, ())]
    parts += lake.parts(SESSIONS, system=system, ds=[day for day in days if day not in done])
    found = np.zeros(len(ids), dtype=bool)
    for start in range(0, len(parts), LOOKED_UP):
        paths = [part.path for part in parts[start : start + LOOKED_UP]]
        judged = pa.concat_tables([read_part(lake.root, SESSIONS, path, ["session_id"]) for path in paths]).column("session_id")
        found |= pc.is_in(ids, judged.cast(ids.type)).to_numpy(zero_copy_only=False)
    return int(found.sum())


def note_contents(readings: Readings, ds: str, days: Sequence[str], result: Result) -> None:
    """Note the contents of the days that a night was made with."""
    for day in days:
        if day in result.content and (before := readings.rows.get(day)) is not None:
            readings.put(day, replace(before, content=f"{result.content[day]:016x}"))
    earlier = {day: f"{result.content.get(day, 0):016x}" for day in days}
    if (own := readings.rows.get(ds)) is not None:
        content = f"{result.content.get(ds, 0):016x}"
        readings.put(ds, replace(own, content=content, earlier=earlier, n_waiting=len(result.grouped.waiting)))


def waited_long(due: pa.Table, ds: str) -> list[str]:
    """Return a message for each night, except the one just before, since which sessions have waited for this one."""
    n_since = {row["values"]: row["counts"] for row in due.column("since").value_counts().to_pylist()}
    return [f"{n_since[since]:,} sessions that had waited since {since} are judged" for since in long_due(due, ds)]


def patterns_table(patterns: Mapping[str, Pattern], counted: bool) -> pa.Table:
    """Return patterns as the columns of silver.patterns except the partition's.

    Args:
        counted: whether two patterns that differ in counts alone are two questions.
    """
    rows = [
        {
            "pattern_id": name,
            "question_id": question_id(pattern.events, counted),
            "events": [{"template_id": template, "count": count} for template, count in pattern.events],
            "n_sessions": pattern.n_sessions,
            "example_session_id": pattern.example_session_id,
        }
        for name, pattern in sorted(patterns.items())
    ]
    return pa.Table.from_pylist(rows, schema_of(PATTERNS))
