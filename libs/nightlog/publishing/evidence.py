"""Evidence of anomalous sessions: their templates, most telling first, and their raw lines.

Events and lines are read part by part, each by a task that returns no more than can be shown. The lines of a session begin with those of
the template that sets it most apart from normal sessions, see `nightlog.publishing.telling`. Lines of other templates follow: a line tells
more the fewer of the night's sessions have its template, and the more severe its level is. The weights of a model choose nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, groups_between, open_part, read_group
from nightlog.lake.schema import arrow_schema
from nightlog.lake.tables import ANOMALIES, EVENTS_TABLE
from nightlog.publishing.raw_lines import PLACE, texts_of_part, whole_records

SHOWN_LINES = 50
# A template in n sessions with this level tells as much as one in n / weight sessions without.
SEVERITY = {
    **dict.fromkeys(("FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC"), 100.0),
    **dict.fromkeys(("ERROR", "ERR", "SEVERE", "FAILURE"), 30.0),
    **dict.fromkeys(("WARN", "WARNING"), 3.0),
}
NO_TIME, LAST_TIME = np.iinfo(np.int64).min, np.iinfo(np.int64).max
JOINED_ROWS = 4_000_000  # events of several parts, before those that are not shown are dropped
# Bytes of text that take as long to look through as one row of a part.
EVENT_BYTES, LINE_BYTES = 16, 32
CODED = ["file", "level"]
EVENTS = pa.schema(
    [
        ("session", pa.int32()),
        ("pair", pa.int64()),
        ("place", pa.float64()),
        ("ds", pa.string()),
        ("file", pa.string()),
        ("line_no", pa.int64()),
        ("at", pa.int64()),
    ]
)
COUNTS = pa.schema([("session", pa.int32()), ("pair", pa.int64()), ("n", pa.int64())])


@dataclass(frozen=True)
class TemplateFacts:
    """The facts about a template in a pattern. `telling`: the value of its difference to normal sessions, 0 if it is no difference.

    `n_sessions`: the night's sessions that have the template.
    """

    template: str | None
    nearest_source_template: str | None
    similarity: float | None
    weight: float | None
    telling: float = 0.0
    n_sessions: int = 0


Knowledge = Mapping[str, Mapping[str, TemplateFacts]]  # pattern id → template id → facts


@dataclass(frozen=True)
class Pairs:
    """The templates of patterns, one row per pair (pattern, template), by pattern and then by template id.

    `patterns`, `templates`: ids in order; `keys`: (n,) rising, number of the pattern * templates + number of the template; `telling`: (n,)
    the rank of its telling value in the pattern, 0 if it has none, the most telling highest; `rarity`: (n,) the night's sessions with the
    template; `order`: (n,) its place in the evidence; `facts`: (template_id, template, nearest_source_template, similarity, weight).
    """

    patterns: list[str]
    templates: list[str]
    keys: np.ndarray
    telling: np.ndarray
    rarity: np.ndarray
    order: np.ndarray
    facts: pa.Table

    @staticmethod
    def of(knowledge: Knowledge) -> Pairs:
        """Return the pairs of the patterns that are known."""
        patterns = sorted(knowledge)
        templates = sorted({name for known in knowledge.values() for name in known})
        number = {name: place for place, name in enumerate(templates)}
        keys, telling, order, rows = list[int](), list[int](), list[int](), list[dict[str, Any]]()
        for pattern, name in enumerate(patterns):
            known = sorted(knowledge[name].items())
            values = sorted({0.0, *(facts.telling for _, facts in known)})
            by_worth = sorted(known, key=lambda each: (-each[1].telling, each[1].n_sessions, each[0]))
            place_of = {template: place for place, (template, _) in enumerate(by_worth)}
            for template, facts in known:
                keys.append(pattern * len(templates) + number[template])
                telling.append(values.index(facts.telling))
                order.append(place_of[template])
                rows.append({"template_id": template, **facts.__dict__})
        columns = [field for field in schema_field("evidence").value_type if field.name != "count"]
        rarity = np.array([row["n_sessions"] for row in rows], dtype=np.float64)
        facts_table = pa.Table.from_pylist(rows, pa.schema(columns))
        return Pairs(patterns, templates, integers(keys), integers(telling), rarity, integers(order), facts_table)

    def find(self, pattern: np.ndarray, template: np.ndarray) -> np.ndarray:
        """Return the row of each pair of numbers, -1 if the pattern does not have the template."""
        key = pattern * len(self.templates) + template
        place = np.searchsorted(self.keys, key)
        there = place < len(self.keys)
        there[there] = self.keys[place[there]] == key[there]
        return np.where(there & (template >= 0), place, -1)


@dataclass(frozen=True)
class Wanted:
    """The anomalous sessions, in order, and the templates of their patterns.

    `pattern`: (n,) the number of each session's pattern; `first`, `last`: (n,) microseconds since 1970 of its first and last event;
    `messages`, `template_of`: message ids and the numbers of their templates.
    """

    sessions: pa.StringArray
    pattern: np.ndarray
    first: np.ndarray
    last: np.ndarray
    pairs: Pairs
    messages: pa.Int64Array
    template_of: np.ndarray

    @staticmethod
    def of(rows: pa.Table, pairs: Pairs, messages: Mapping[int, str]) -> Wanted:
        """Return the sessions.

        Args: rows (session_id, pattern_id, started_at, ended_at), in the order of ids; messages: message id → template id.
        """
        pattern = pc.index_in(rows.column("pattern_id").combine_chunks(), pa.array(pairs.patterns, pa.string()))
        number = {name: place for place, name in enumerate(pairs.templates)}
        known = {message: number[name] for message, name in messages.items() if name in number}
        return Wanted(
            rows.column("session_id").combine_chunks(),
            np.asarray(pattern.fill_null(-1), dtype=np.int64),
            times(rows.column("started_at"), NO_TIME),
            times(rows.column("ended_at"), LAST_TIME),
            pairs,
            pa.array(list(known), pa.int64()),
            np.array(list(known.values()), dtype=np.int64),
        )


def integers(values: Sequence[int]) -> np.ndarray:
    """Return numbers as (n,) int64."""
    return np.array(values, dtype=np.int64)


def times(column: pa.ChunkedArray, default: int) -> np.ndarray:
    """Return times as (n,) int64 microseconds since 1970, the default for null."""
    return np.asarray(column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).fill_null(default).to_numpy())


def events_of_part(part: Part, root: str, of: Wanted) -> tuple[pa.Table, pa.Table]:
    """One task: of the wanted sessions how often each template occurs in a part of silver.events (COUNTS), and the events that could be
    shown (EVENTS); sessions by their numbers, templates by their pairs.

    `place`: the order in which events are shown: minus the rank of a telling template; of others the sessions with the template, divided
    by the severity of the level.
    """
    seen, (low, high) = [EVENTS.empty_table()], (of.first.min(initial=LAST_TIME), of.last.max(initial=NO_TIME))
    with open_part(root, EVENTS_TABLE, part.path, CODED) as file:
        for group in groups_between(file, "at", low, high):
            own = read_group(file, EVENTS_TABLE, group, ["session_id", "message_id"])
            session, pair = wanted_events(own, of)
            rows = np.flatnonzero(pair >= 0)
            if len(rows):
                where = read_group(file, EVENTS_TABLE, group, ["file", "line_no", "at", "level"], CODED).take(rows)
                seen.append(placed_events(dict(part.partition)["ds"], session[rows], pair[rows], where, of))
    events = pa.concat_tables(seen)
    counted = events.group_by(["session", "pair"]).aggregate([([], "count_all")]).rename_columns({"count_all": "n"})
    return counted.cast(COUNTS), most_telling(events)


def join_events(found: Iterable[tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    """Return the results of several parts as one, see `events_of_part`; no more than JOINED_ROWS events and one part's are held."""
    counts, shown = COUNTS.empty_table(), most_telling(EVENTS.empty_table())
    for part_counts, part_shown in found:
        counts, shown = pa.concat_tables([counts, part_counts]), pa.concat_tables([shown, part_shown])
        if len(shown) > JOINED_ROWS:
            counts, shown = sum_events(counts), most_telling(shown)
    return sum_events(counts), most_telling(shown)


def sum_events(counted: pa.Table) -> pa.Table:
    """Return COUNTS with one row per session and pair."""
    return counted.group_by(["session", "pair"]).aggregate([("n", "sum")]).rename_columns({"n_sum": "n"}).cast(COUNTS)


def wanted_events(events: pa.Table, of: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Return the session and the pair of each event (session_id, message_id); the pair is -1 if it is not wanted."""
    session = np.asarray(pc.index_in(events.column("session_id"), of.sessions).fill_null(-1), dtype=np.int64)
    pair = np.full(len(session), -1)
    rows = np.flatnonzero(session >= 0)
    message = pc.index_in(events.column("message_id").take(rows), of.messages).fill_null(len(of.messages)).to_numpy()
    template = np.append(of.template_of, -1)[message]
    pair[rows] = of.pairs.find(of.pattern[session[rows]], template)
    return session, pair


def placed_events(ds: str, session: np.ndarray, pair: np.ndarray, where: pa.Table, of: Wanted) -> pa.Table:
    """Return EVENTS of the sessions that are in their time. Args: where (file, line_no, at, level), the columns of the events."""
    level = where.column("level").unify_dictionaries().combine_chunks()
    severity = np.array([1.0, *(SEVERITY.get((each or "").strip().upper(), 1.0) for each in level.dictionary.to_pylist())])
    common = of.pairs.rarity[pair] / severity[np.asarray(level.indices.fill_null(-1), dtype=np.int64) + 1]
    telling, at = of.pairs.telling[pair], times(where.column("at"), NO_TIME)
    columns = [session, pair, np.where(telling > 0, -telling, common), pa.repeat(pa.scalar(ds), len(pair))]
    columns += [where.column("file"), where.column("line_no"), pa.array(at, mask=at == NO_TIME)]
    in_time = (at == NO_TIME) | ((at >= of.first[session]) & (at <= of.last[session]))
    return pa.table(columns, EVENTS.names).cast(EVENTS).filter(pa.array(in_time))


def most_telling(events: pa.Table) -> pa.Table:
    """Return the events of each session that are shown, with their `rank` in it: by `place`, then by template, then the first ones."""
    ordered = sorted_rows(events.select(EVENTS.names), "session", "place", "pair", *PLACE)
    rank = rank_in_session(ordered)
    return ordered.append_column("rank", pa.array(rank)).filter(pa.array(rank < SHOWN_LINES))


def rank_in_session(rows: pa.Table) -> np.ndarray:
    """Return the place of each row among those of its session, from 0. Args: rows in the order of sessions."""
    session = rows.column("session").to_numpy()
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    return np.asarray(np.arange(len(session)) - np.repeat(starts, np.diff(np.append(starts, len(session)))))


@dataclass(frozen=True)
class Sources:
    """The sources of a night's evidence: the templates of its anomalous patterns, the system's messages (id → template id), and the parts
    of silver.events and bronze.lines of the night and its look-back days.

    `record_start`: the expression that begins a record of the system, if its records span lines.
    """

    pairs: Pairs
    messages: Mapping[int, str]
    events: Sequence[Part]
    lines: Sequence[Part]
    record_start: str | None = None


def with_evidence(lake: Lake, found: pa.Table, sources: Sources) -> pa.Table:
    """Return anomalous sessions in the order of their ids, with evidence, lines and noticed_at as gold.anomalies has them.

    Args: found (session_id, pattern_id, started_at, ended_at, …), one row per session.
    """
    rows = found.sort_by("session_id")
    of = Wanted.of(rows, sources.pairs, sources.messages)
    events = sources.events if len(rows) else []
    work = partial(events_of_part, root=lake.root, of=of)
    counted, shown = lake.runner.run_joined(events, work, join_events, EVENT_BYTES * sum(part.n_rows for part in events))
    rows = rows.append_column("evidence", evidence_column(counted, sources.pairs, len(rows)))
    rows = rows.append_column("lines", lines_column(lake, shown, sources, len(rows)))
    return rows.append_column("noticed_at", noticed_column(shown, len(rows)))


def noticed_column(shown: pa.Table, n_sessions: int) -> pa.Array:
    """Return for each session when the template that tells most was first logged; null if none tells more, or it has no time."""
    first = shown.filter(pa.array(is_first(shown))).filter(pc.field("place") < 0).group_by("session").aggregate([("at", "min")])
    place = pc.index_in(pa.array(np.arange(n_sessions, dtype=np.int32)), first.column("session").combine_chunks())
    return first.column("at_min").combine_chunks().take(place).cast(schema_field("noticed_at"))


def is_first(shown: pa.Table) -> np.ndarray:
    """Return a mask of the events with the first `place` of their session. Args: shown: as `most_telling` gives them."""
    place, rank = shown.column("place").to_numpy(), shown.column("rank").to_numpy()
    return np.asarray(place <= place[np.flatnonzero(rank == 0)][np.cumsum(rank == 0) - 1])


def evidence_column(counted: pa.Table, pairs: Pairs, n_sessions: int) -> pa.ListArray:
    """Return the evidence of each session, the most telling template first. Args: counted: COUNTS, one row per session and pair."""
    order = pa.array(pairs.order[counted.column("pair").to_numpy()])
    ordered = sorted_rows(counted.append_column("order", order), "session", "order")
    facts = pairs.facts.take(ordered.column("pair")).append_column("count", ordered.column("n"))
    return list_column("evidence", ordered, facts, n_sessions)


def list_column(name: str, rows: pa.Table, values: pa.Table, n_sessions: int) -> pa.ListArray:
    """Return a column of lists of gold.anomalies. Args: rows (session, …), in the order of sessions; values: a row for each of them."""
    kind = schema_field(name)
    ends = np.searchsorted(rows.column("session").to_numpy(), np.arange(n_sessions + 1))
    fields = list(kind.value_type)
    structs = pa.StructArray.from_arrays([values.column(field.name).cast(field.type).combine_chunks() for field in fields], fields=fields)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs, type=kind)


def lines_column(lake: Lake, shown: pa.Table, sources: Sources, n_sessions: int) -> pa.ListArray:
    """Return the raw lines of each session: the most telling records, then the others; both in the order of day, time, place.

    A line that continues a record follows it. Of more than SHOWN_LINES lines those of the records that tell least are left out.
    """
    numbers = sorted_rows(shown.group_by(PLACE).aggregate([]), *PLACE)
    files = numbers.group_by(["ds", "file"], use_threads=False).aggregate([("line_no", "list")])
    names = zip(files.column("ds").to_pylist(), files.column("file").to_pylist(), strict=True)
    places = {name: found.values.to_numpy() for name, found in zip(names, files.column("line_no_list"), strict=True)}
    parts = [part for part in sources.lines if dict(part.partition)["ds"] in {ds for ds, _ in places}]
    work = partial(texts_of_part, root=lake.root, places=places, record_start=sources.record_start)
    texts = whole_records(lake.runner.run(parts, work, LINE_BYTES * sum(part.n_rows for part in parts)))
    shown = shown.append_column("later", pa.array(~is_first(shown)))
    shown = shown.set_column(shown.schema.get_field_index("at"), "at", shown.column("at").fill_null(NO_TIME))
    rows = sorted_rows(shown.join(texts, PLACE, join_type="inner"), "session", "rank", "shown_no")
    rows = rows.filter(pa.array(rank_in_session(rows) < SHOWN_LINES))
    rows = sorted_rows(rows, "session", "later", "ds", "at", "file", "line_no", "shown_no")
    return list_column("lines", rows, rows.drop_columns("line_no").rename_columns({"shown_no": "line_no"}), n_sessions)


def sorted_rows(rows: pa.Table, *columns: str) -> pa.Table:
    """Return the rows in ascending order of some columns."""
    return rows.sort_by([(name, "ascending") for name in columns])


def schema_field(name: str) -> Any:
    """Return the type of a column of gold.anomalies in Arrow."""
    return arrow_schema(ANOMALIES).field(name).type
