"""One task of parsing: a part of bronze.lines → its events, the counts of its sessions, and its distinct masked messages.

Works on whole columns of bytes; only each new shape of a line, or of a time stamp, is looked at by Python (see `shapes`, `stamps`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.parts import Part, read_part, write_part
from nightlog.lake.tables import COUNTS_TABLE, EVENTS_TABLE, LINES_TABLE
from nightlog.parsing.flat_records import is_direct
from nightlog.parsing.line_shapes import Found, ShapeCache, numbers_of, shapes_of
from nightlog.parsing.messages import MessageCap, Messages, spark_hash, with_ids
from nightlog.parsing.number_ranges import find_ranges, joined_ranges
from nightlog.parsing.records import Joined, flat_column, join_records, without_colours
from nightlog.parsing.shapes import LineParser, Shape, Text
from nightlog.parsing.structured import flat_system, flatten
from nightlog.parsing.timestamps import AT, Read, astray, has_bounds, line_times, reader
from nightlog.systems.levels import normal_level
from nightlog.systems.spec import LONGEST_RECORD, System
from nightlog.templates.miner import catch_all

DAY_US = 86_400_000_000
SHOWN_UNPARSED = 100
# Rows of numbers and totals of several parts, beyond which they are added up.
MOST_ROWS = 200_000
# Sessions fall into so many buckets; a task of the next step takes a range of them.
BUCKETS = 1 << 16
TALLIED = (
    "n_parsed",
    "n_blank",
    "n_unparsed",
    "n_continuation",
    "n_swallowed",
    "n_untimed",
    "n_astray",
    "n_without_session",
    "n_events",
)


@dataclass
class Parsed:
    """The result of parsing one part: its files, its counts, its messages by id with the night, and the first lines without a header."""

    events: list[Part] = field(default_factory=list)
    counts: list[Part] = field(default_factory=list)
    tally: dict[str, int] = field(default_factory=dict)
    messages: Messages = field(default_factory=dict)
    unmatched: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[pa.Table] = field(default_factory=list)
    totals: list[pa.Table] = field(default_factory=list)


@dataclass(frozen=True)
class PartTask:
    """A part of bronze.lines to be parsed, and the parts with the lines right before and after it in its first and last file."""

    part: Part
    before: tuple[Part, ...] = ()
    after: tuple[Part, ...] = ()


def part_tasks(root: str, parts: Sequence[Part], system: System) -> list[PartTask]:
    """Return the tasks of some parts. Where records span lines, a record may begin in one part of a large file and end in the next."""
    if system.record is None or len(parts) < 2:
        return [PartTask(part) for part in parts]
    ends = {part.path: part_ends(root, part) for part in parts}
    day_of = {part.path: dict(part.partition)["ds"] for part in parts}
    begins_at = {(day_of[part.path], *ends[part.path][0]): part for part in parts}
    ends_at = {(day_of[part.path], *ends[part.path][1]): part for part in parts}

    def chain(part: Part, step: int) -> tuple[Part, ...]:
        """Return the parts that go on in the same file before (step -1) or after (1) a part, until they hold the longest record."""
        found: list[Part] = []
        while sum(each.n_rows for each in found) < LONGEST_RECORD:
            file, number = ends[part.path][0 if step < 0 else 1]
            following = (ends_at if step < 0 else begins_at).get((day_of[part.path], file, number + step))
            if following is None:
                break
            found.append(following)
            part = following
        return tuple(found[::step])

    return [PartTask(part, chain(part, -1), chain(part, 1)) for part in parts]


def part_ends(root: str, part: Part) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return (file, line_no) of the first and the last line of a part of bronze.lines."""
    places = read_part(root, LINES_TABLE, part.path, ["file", "line_no"])
    first, last = places.slice(0, 1).to_pylist()[0], places.slice(len(places) - 1, 1).to_pylist()[0]
    return (str(first["file"]), int(first["line_no"])), (str(last["file"]), int(last["line_no"]))


def parse_part(task: PartTask, root: str, system: System, cap: MessageCap) -> Parsed:
    """Parse one part of bronze.lines and write its events and counts beside those of the other parts, uncommitted."""
    ds = dict(task.part.partition)["ds"]
    columns = ["file", "line_no", "text"]
    lines = read_part(root, LINES_TABLE, task.part.path, columns)
    before, after = (
        pa.concat_tables([lines.slice(0, 0), *(read_part(root, LINES_TABLE, part.path, columns) for part in parts)])
        for parts in (task.before, task.after)
    )
    before, after = before.slice(max(0, len(before) - LONGEST_RECORD)), after.slice(0, LONGEST_RECORD)
    own = slice(len(before), len(before) + len(lines))
    events, parsed = parse_lines(pa.concat_tables([before, lines, after]), system, ds, own)
    write_event_parts(parsed, within_cap(parsed, events, cap), root, system.name, ds)
    return parsed


def within_cap(parsed: Parsed, events: pa.Table, cap: MessageCap) -> pa.Table:
    """Map the messages of one task that are beyond the bound to catch-alls, in its account and in its events, which are returned.

    The numbers of such messages are dropped, as those of all catch-alls: they have no places in common.
    """
    beyond = cap.beyond(parsed.messages)
    if not beyond:
        return events
    to = {}
    for number in beyond:
        text, ds = parsed.messages.pop(number)
        short = catch_all(len(text.split()))
        to[number] = spark_hash(short)
        parsed.messages[to[number]] = short, ds
    parsed.totals = [with_ids(each, to) for each in parsed.totals]
    mapped = pa.array(beyond, pa.int64())
    parsed.numbers = [each.filter(pc.invert(pc.is_in(each.column("message_id"), mapped))) for each in parsed.numbers]
    return with_ids(events, to)


def parse_lines(lines: pa.Table, system: System, ds: str, own: slice = slice(None)) -> tuple[pa.Table, Parsed]:
    """Parse lines of any format: join records that span lines, flatten structured ones, parse the result by shape.

    Args:
        lines: (file, line_no, text) of one night, in the order of files and lines; labels are not in the texts any more.
        own: the rows whose records are parsed; the rows around them only complete these records.
    Returns: as `parse_table`; every own line is counted in n_parsed, n_blank, n_unparsed or n_continuation.
    """
    lines = without_colours(lines)
    joined = join_records(lines, system.record, own) if system.record is not None else Joined(lines)
    rows, tables, forms = joined.rows, [], []
    for form in system.forms():
        events, parsed, left = parse_form(rows, form, ds)
        tables.append(events)
        forms.append(parsed)
        rows = rows.filter(pa.array(left))
        if not len(rows):
            break
    whole = forms[0] if len(forms) == 1 else joined_forms(forms)
    whole.tally["n_blank"] += joined.n_blank
    swallowed = 0 if system.header.kind == "export" else joined.n_swallowed
    whole.tally |= {"n_continuation": joined.n_continuation, "n_swallowed": swallowed}
    events = tables[0] if len(tables) == 1 else pa.concat_tables(tables).sort_by([("file", "ascending"), ("line_no", "ascending")])
    return events, whole


def joined_forms(forms: Sequence[Parsed]) -> Parsed:
    """Return the parsed records of several forms as of one; what the last form does not match is unparsed."""
    whole = joined(forms)
    whole.tally["n_unparsed"], whole.unmatched = forms[-1].tally["n_unparsed"], forms[-1].unmatched
    return whole


def parse_form(rows: pa.Table, system: System, ds: str) -> tuple[pa.Table, Parsed, np.ndarray]:
    """Parse records of one form. Returns events, the account, and a mask of the rows with text that do not have this form."""
    if system.header.kind == "pattern":
        events, parsed, matched, blank = parse_table(rows, flat_system(system), ds)
        return events, parsed, ~matched & ~blank
    if is_direct(system.header):
        return parse_records(rows, system, ds)
    return parse_flattened(rows, system, ds)


def parse_records(rows: pa.Table, system: System, ds: str) -> tuple[pa.Table, Parsed, np.ndarray]:
    """Parse structured records by their shape; those that no shape holds for are flattened first. Returns what `parse_form` returns."""
    parser, known, _ = parser_of(system.model_dump_json())
    found = shapes_of(Text(rows.column("text")), parser, known)
    has_shape = found.of_line >= 0
    if not has_shape.any():
        return parse_flattened(rows, system, ds)
    if has_shape.all():
        events, parsed, _, _ = parse_table(rows, system, ds, found)
        return events, parsed, ~has_shape
    direct, rest = rows.filter(pa.array(has_shape)), rows.filter(pa.array(~has_shape))
    shaped = parse_table(direct, system, ds, replace(found, of_line=found.of_line[has_shape]))
    others, parsed, left = parse_flattened(rest, system, ds)
    unknown = ~has_shape
    unknown[unknown] = left
    events = pa.concat_tables([shaped[0], others]).sort_by([("file", "ascending"), ("line_no", "ascending")])
    return events, joined([shaped[1], parsed]), unknown


def parse_flattened(rows: pa.Table, system: System, ds: str) -> tuple[pa.Table, Parsed, np.ndarray]:
    """Parse structured records as flat lines. Returns what `parse_form` returns."""
    texts, matched = flatten(flat_column(rows, "text"), system)
    flat_rows = rows.set_column(2, "text", texts).filter(pa.array(matched))
    events, parsed, _, _ = parse_table(flat_rows, flat_system(system), ds)
    blank = np.asarray(pc.equal(pc.utf8_trim(texts, " "), ""))
    unmatched = np.flatnonzero(~matched & ~blank)
    parsed.tally |= {"n_blank": int((blank & ~matched).sum()), "n_unparsed": len(unmatched)}
    parsed.unmatched = unparsed_rows(rows, unmatched, ds)
    return events, parsed, ~matched & ~blank


def unparsed_rows(lines: pa.Table, unmatched: np.ndarray, ds: str) -> list[dict[str, Any]]:
    """Return the first lines that do not match, as many as are shown."""
    if not len(unmatched):
        return []
    return [row | {"ds": ds} for row in lines.take(pa.array(unmatched[:SHOWN_UNPARSED])).to_pylist()]


def write_event_parts(parsed: Parsed, events: pa.Table, root: str, system: str, ds: str) -> None:
    """Write the events of a part and their counts, and note the files."""
    if len(events):
        parsed.events = [write_part(root, EVENTS_TABLE, events, system=system, ds=ds)]
        counted = count_sessions(events)
        parsed.counts = [write_part(root, COUNTS_TABLE, counted, system=system, ds=ds)] if len(counted) else []


def joined(parts: Iterable[Parsed], cap: MessageCap | None = None) -> Parsed:
    """Return the results of several parts, or of several such results, as one. Args: cap: the bound on messages, of whole parts."""
    whole = Parsed(tally=dict.fromkeys(TALLIED, 0))
    most = 0 if cap is None else cap.room
    for each in parts:
        whole.events += each.events
        whole.counts += each.counts
        whole.unmatched = first_rows([*whole.unmatched, *each.unmatched])
        whole.numbers = few_rows([*whole.numbers, *each.numbers], joined_ranges)
        whole.totals = few_rows([*whole.totals, *each.totals], joined_totals)
        for name, n in each.tally.items():
            whole.tally[name] += n
        for number, (message, ds) in each.messages.items():
            before = whole.messages.get(number)
            whole.messages[number] = (message, ds if before is None else min(ds, before[1]))
        if cap is not None and len(whole.messages) > most:
            cap.shorten(whole.messages)
            most = len(whole.messages) + cap.room
    if cap is not None:
        cap.shorten(whole.messages)
    return whole


def first_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first of some lines, as many as are shown."""
    return sorted(rows, key=lambda row: (row["ds"], row["file"], row["line_no"]))[:SHOWN_UNPARSED]


def few_rows(tables: list[pa.Table], join: Callable[[pa.Table], pa.Table]) -> list[pa.Table]:
    """Return tables, joined to one if they have many rows, and many more than the first, which may be joined already."""
    n = sum(map(len, tables))
    return [join(pa.concat_tables(tables))] if len(tables) > 1 and n > max(MOST_ROWS, 2 * len(tables[0])) else tables


def joined_totals(totals: pa.Table) -> pa.Table:
    """Return totals (ds, message_id, level, n, last_at) with one row per day, message and level."""
    summed = totals.group_by(["ds", "message_id", "level"]).aggregate([("n", "sum"), ("last_at", "max")])
    return summed.rename_columns({"n_sum": "n", "last_at_max": "last_at"}).select(totals.column_names)


@lru_cache(maxsize=16)
def parser_of(system: str) -> tuple[LineParser, ShapeCache, Read | None]:
    """The compiled expressions of a system (as JSON), what this worker remembers of shapes, and what reads its stamps."""
    spec = System.model_validate_json(system)
    return LineParser(spec), ShapeCache(), reader(spec.timestamp) if spec.timestamp else None


def parse_table(lines: pa.Table, system: System, ds: str, found: Found | None = None) -> tuple[pa.Table, Parsed, np.ndarray, np.ndarray]:
    """Parse lines (file, line_no, text) of one night by their shapes. Args: found: these shapes, if they are known.

    Returns: events, the columns of silver.events except the partition's, one row per session that a line names, or one without a session;
    the account; masks of the lines that match and of those that are blank.
    """
    parser, known, read = parser_of(system.model_dump_json())
    text = Text(lines.column("text"))
    found = found or shapes_of(text, parser, known)
    shapes, of_line = found.shapes, found.of_line
    assert (of_line >= 0).all(), "records without a shape are flattened before: see parse_records"
    matched, blank = (np.array([getattr(shape, name) for shape in shapes], dtype=bool)[of_line] for name in ("matched", "blank"))
    rows = np.flatnonzero(matched)
    at = line_times(text, shapes, of_line, rows, parser, read, ds, has_bounds(system))
    session_rows, sessions = session_column(text, shapes, of_line, rows, at, system)
    texts = {message: number for number, message in enumerate(dict.fromkeys(shape.message for shape in shapes if shape.matched))}
    ids = np.array([spark_hash(message) for message in texts], dtype=np.int64)
    message = np.array([texts.get(shape.message, 0) for shape in shapes], dtype=np.int64)
    code = message[of_line[rows]]
    levels = {level: number for number, level in enumerate(dict.fromkeys(normal_level(shape.level) for shape in shapes))}
    level = np.array([levels[normal_level(shape.level)] for shape in shapes], dtype=np.int32)[of_line[rows]]
    places = lines.select(["file", "line_no"]).take(rows[session_rows])
    events = pa.table(
        {
            "file": places.column("file"),
            "line_no": places.column("line_no"),
            "at": at.take(session_rows),
            "level": pa.DictionaryArray.from_arrays(level[session_rows], pa.array(list(levels), pa.string())).cast(pa.string()),
            "session_id": sessions,
            "message_id": ids[code[session_rows]] if len(ids) else np.zeros(0, dtype=np.int64),
        }
    )
    unmatched = np.flatnonzero(~matched & ~blank)
    named = np.zeros(len(rows), dtype=bool)
    named[session_rows[np.asarray(pc.is_valid(sessions))]] = True
    parsed = Parsed(messages={number: (message, ds) for number, message in zip(ids.tolist(), texts, strict=True)})
    parsed.tally = {
        "n_parsed": len(rows),
        "n_blank": int(blank.sum()),
        "n_unparsed": len(unmatched),
        "n_untimed": at.null_count,
        "n_astray": astray(at, system, ds),
        "n_without_session": int(len(rows) - named.sum()),
        "n_events": len(events),
    }
    parsed.unmatched = unparsed_rows(lines, unmatched, ds)
    parsed.totals = [totals_table(code, level, at, ids, list(levels), ds)]
    stand = numbers_of(found, parser, known.numbers)
    numbers = find_ranges(text.data, text.starts[rows], stand, of_line[rows], message, len(ids))
    parsed.numbers = [numbers_table(numbers, ids, lines.select(["file", "line_no"]), rows, ds)] if len(numbers["n"]) else []
    return events, parsed, matched, blank


def totals_table(code: np.ndarray, level: np.ndarray, at: pa.Array, ids: np.ndarray, levels: Sequence[str | None], ds: str) -> pa.Table:
    """Return how many records each message has at each level, as rows (ds, message_id, level, n, last_at).

    `last_at`: the last time of the message within the day, null if there is none. Args: code, level: (n,) places in `ids` and `levels`, per
    record; at: (n,) its time.
    """
    pairs, n = np.unique(code * len(levels) + level, return_counts=True)
    message, place = np.divmod(pairs, max(1, len(levels)))
    time = at.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    start = np.datetime64(ds, "us").astype(np.int64)
    last = np.full(len(ids), -1, dtype=np.int64)
    np.maximum.at(last, code, np.where((time >= start) & (time < start + DAY_US), time, -1))
    columns = {"ds": pa.array([ds] * len(n), pa.string()), "message_id": ids[message]}
    columns |= {"level": pa.array([levels[each] for each in place], pa.string()), "n": n}
    return pa.table(columns | {"last_at": pa.array(last[message], pa.timestamp("us", "UTC"), mask=last[message] < 0)})


def numbers_table(found: dict[str, np.ndarray], ids: np.ndarray, lines: pa.Table, rows: np.ndarray, ds: str) -> pa.Table:
    """Return what `find_ranges` has found, as rows (ds, message_id, nth, n, low, low_file, low_line, high, high_file, high_line)."""
    columns = {"ds": pa.array([ds] * len(found["n"])), "message_id": ids[found["code"]], "nth": found["nth"], "n": found["n"]}
    for side in ("low", "high"):
        where = lines.take(rows[found[f"{side}_row"]])
        columns |= {side: found[side], f"{side}_file": where.column("file").cast(pa.string()), f"{side}_line": where.column("line_no")}
    return pa.table(columns)


def session_column(
    text: Text, shapes: Sequence[Shape], of_line: np.ndarray, rows: np.ndarray, at: pa.TimestampArray, system: System
) -> tuple[np.ndarray, pa.StringArray]:
    """The events of the matched lines `rows`: for each event its place in `rows`, and its session, null where the line names none."""
    everyone = np.arange(len(rows))
    if system.session.kind == "window":
        width = system.session.window_minutes * 60 * 1_000_000
        micros = at.cast(pa.int64())
        numbers = np.asarray(micros.fill_null(0)) // width * width
        starts = pa.array(numbers, mask=np.asarray(micros.is_null())).cast(AT).dictionary_encode()
        names = [f"{start:%Y-%m-%dT%H:%MZ}" for start in starts.dictionary.to_pylist()]
        return everyone, pa.array(names, pa.string()).take(starts.indices)
    of_row = of_line[rows]
    n_ids = np.array([len(shape.ids) for shape in shapes], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(n_ids)])
    flat = np.array([span for shape in shapes for span in shape.ids], dtype=np.int64).reshape(-1, 2)
    n = n_ids[of_row]
    event_rows = np.repeat(everyone, n)
    nth = np.arange(len(event_rows)) - np.repeat(np.cumsum(n) - n, n)
    spans = flat[begins[of_row[event_rows]] + nth]
    sessions = text.take(rows[event_rows], spans[:, 0], spans[:, 1])
    several = np.flatnonzero(n[event_rows] > 1)
    if len(several):
        coded = sessions.take(pa.array(several)).dictionary_encode()
        pairs = event_rows[several] * len(coded.dictionary) + np.asarray(coded.indices)
        keep = np.ones(len(event_rows), dtype=bool)
        keep[several] = False
        keep[several[np.unique(pairs, return_index=True)[1]]] = True
        event_rows, sessions = event_rows[keep], sessions.filter(pa.array(keep))
    alone = np.flatnonzero(n == 0)
    if len(alone):
        order = np.argsort(np.concatenate([event_rows, alone]), kind="stable")
        event_rows = np.concatenate([event_rows, alone])[order]
        sessions = pa.concat_arrays([sessions, pa.nulls(len(alone), pa.string())]).take(order)
    return event_rows, sessions


def count_sessions(events: pa.Table) -> pa.Table:
    """Return how often each message stands in each session of some events, from when to when: the columns of silver.counts, by bucket."""
    named = events.select(["session_id", "message_id", "at"]).filter(pc.is_valid(events.column("session_id")))
    grouped = named.group_by(["session_id", "message_id"]).aggregate([([], "count_all"), ("at", "min"), ("at", "max")])
    rows = grouped.rename_columns({"count_all": "n", "at_min": "first_at", "at_max": "last_at"})
    coded = rows.column("session_id").combine_chunks().dictionary_encode()
    buckets = np.array([spark_hash(each) % BUCKETS for each in coded.dictionary.to_pylist()], dtype=np.int32)
    placed = rows.append_column("bucket", pa.array(buckets[np.asarray(coded.indices)], pa.int32()))
    return placed.sort_by([("bucket", "ascending"), ("session_id", "ascending")])
