"""Evidence of anomalous sessions: their templates, most telling first, and their raw lines.

Events and lines are read part by part, each by a task that returns no more than can be shown. The lines of a session begin with those of
the template that sets it most apart from normal sessions, see `nightlog.publishing.telling`. Lines of other templates follow: a line tells
more the fewer of the night's sessions have its template, and the more severe its level is. The weights of a model choose nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, read_part
from nightlog.lake.schema import arrow_schema
from nightlog.lake.tables import ANOMALIES, EVENTS_TABLE, LINES_TABLE
from nightlog.systems.spec import LONGEST_RECORD

SHOWN_LINES = 50
# Of a record over several lines, so many lines after the first: the next ones, and of the rest those that are not indented (causes).
CONTINUATION_LINES, NEXT_LINES = 20, 10
# A template in n sessions with this level tells as much as one in n / weight sessions without.
SEVERITY = {
    **dict.fromkeys(("FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC"), 100.0),
    **dict.fromkeys(("ERROR", "ERR", "SEVERE", "FAILURE"), 30.0),
    **dict.fromkeys(("WARN", "WARNING"), 3.0),
}
NO_TIME = np.iinfo(np.int64).min
# Bytes of text that take as long to look through as one row of a part.
EVENT_BYTES, LINE_BYTES = 16, 32
EVENT_COLUMNS = ["session_id", "file", "line_no", "at", "level", "message_id"]
PLACE = ["ds", "file", "line_no"]
TEXTS = pa.schema([("ds", pa.string()), ("file", pa.string()), ("line_no", pa.int64()), ("shown_no", pa.int64()), ("text", pa.string())])


@dataclass(frozen=True)
class TemplateFacts:
    """The facts about a template in a pattern. `telling`: the value of its difference to normal sessions, 0 if it is no difference."""

    template: str | None
    nearest_source_template: str | None
    similarity: float | None
    weight: float | None
    telling: float = 0.0


@dataclass
class Wanted:
    """The anomalous sessions, in order, and what is known of the templates of their patterns.

    `patterns`: for each session the number of its pattern; `names`: template ids in order; `telling`: (patterns, templates), -1 if
    a pattern does not have the template; `n_sessions`: (templates,) the night's sessions with the template; `messages`: message id → number
    of its template.
    """

    sessions: pa.StringArray
    patterns: np.ndarray
    names: list[str]
    telling: np.ndarray
    n_sessions: np.ndarray
    messages: dict[int, int] = field(default_factory=dict)


def wanted(
    found: pa.Table, knowledge: Mapping[str, Mapping[str, TemplateFacts]], messages: Mapping[int, str], n_sessions: Mapping[str, int]
) -> Wanted:
    """Return the sessions with what is known of their templates.

    Args: found (session_id, pattern_id, …), one row per session; knowledge: pattern id → template id → what is known; messages: message
    id → template id; n_sessions: template id → the night's sessions that have it.
    """
    ordered = found.select(["session_id", "pattern_id"]).sort_by("session_id")
    coded = ordered.column("pattern_id").combine_chunks().dictionary_encode()
    patterns = coded.dictionary.to_pylist()
    names = sorted({name for pattern in patterns for name in knowledge.get(pattern, {})})
    numbers = {name: number for number, name in enumerate(names)}
    telling = np.full((len(patterns), len(names)), -1.0)
    for row, pattern in enumerate(patterns):
        for name, known in knowledge.get(pattern, {}).items():
            telling[row, numbers[name]] = known.telling
    of_message = {message: numbers[name] for message, name in messages.items() if name in numbers}
    sessions = ordered.column("session_id").combine_chunks().cast(pa.string())
    rarity = np.array([n_sessions.get(name, 0) for name in names], dtype=np.float64)
    return Wanted(sessions, np.asarray(coded.indices, dtype=np.int64), names, telling, rarity, of_message)


def events_of_part(part: Part, root: str, of: Wanted) -> tuple[pa.Table, pa.Table]:
    """One task: of the wanted sessions how often each template occurs in a part of silver.events (session, template, n), and the events
    that could be shown (session, template, place, ds, file, line_no, at); sessions and templates by their numbers.

    `place`: the order in which events are shown: minus the value of a telling template; of others the sessions with the template, divided
    by the severity of the level.
    """
    rows = read_part(root, EVENTS_TABLE, part.path, EVENT_COLUMNS)
    rows = rows.append_column("session", pc.index_in(rows.column("session_id"), of.sessions)).filter(pc.field("session").is_valid())
    messages = pa.array(list(of.messages), pa.int64())
    templates = pa.array(list(of.messages.values()), pa.int64())
    template = templates.take(pc.index_in(rows.column("message_id"), messages).combine_chunks())
    rows = rows.append_column("template", template).filter(pc.field("template").is_valid())
    session, template = rows.column("session").to_numpy(), rows.column("template").to_numpy()
    telling = of.telling[of.patterns[session], template] if len(rows) else np.zeros(0)
    days = pa.array([dict(part.partition)["ds"]] * len(rows), pa.string())
    level = rows.column("level").combine_chunks().dictionary_encode()
    severity = np.array([1.0, *(SEVERITY.get((each or "").strip().upper(), 1.0) for each in level.dictionary.to_pylist())])
    common = of.n_sessions[template] / severity[np.asarray(level.indices.fill_null(-1), dtype=np.int64) + 1]
    place = np.where(telling > 0, -telling, common)
    own = rows.append_column("place", pa.array(place)).append_column("ds", days).filter(pa.array(telling >= 0))
    counted = own.group_by(["session", "template"]).aggregate([([], "count_all")]).rename_columns({"count_all": "n"})
    return counted, most_telling(own.select(["session", "template", "place", *PLACE, "at"]))


def most_telling(events: pa.Table) -> pa.Table:
    """Return the events of each session that are shown, with their `rank` in it: by `place`, then by template, then the first ones."""
    ordered = sorted_rows(events.drop_columns(["rank"] if "rank" in events.column_names else []), "session", "place", "template", *PLACE)
    rank = rank_in_session(ordered)
    return ordered.append_column("rank", pa.array(rank)).filter(pa.array(rank < SHOWN_LINES))


def rank_in_session(rows: pa.Table) -> np.ndarray:
    """Return the place of each row among those of its session, from 0. Args: rows in the order of sessions."""
    session = rows.column("session").to_numpy()
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    return np.asarray(np.arange(len(session)) - np.repeat(starts, np.diff(np.append(starts, len(session)))))


class OpenRecord(NamedTuple):
    """A record that may go on in the next part of its file: its first line, the number of the next line, and the lines shown so far."""

    ds: str
    file: str
    line_no: int
    next_no: int
    n_shown: int


class PartTexts(NamedTuple):
    """The wanted records of a part of bronze.lines. `rows`: TEXTS; `line_no` is the first line of the record that line `shown_no` is in.

    `first_lines`: the lines before the first record of the part, TEXTS with their own numbers; `last`: the last record, if it is open.
    """

    rows: pa.Table
    first_lines: pa.Table = TEXTS.empty_table()
    last: OpenRecord | None = None


def texts_of_part(part: Part, root: str, places: Mapping[tuple[str, str], np.ndarray], record_start: str | None) -> PartTexts:
    """One task: the wanted records of a part of bronze.lines.

    Args: places: (ds, file) → numbers of first lines, in order; record_start: the expression that begins a record, if records span lines.
    """
    ds = dict(part.partition)["ds"]
    where = read_part(root, LINES_TABLE, part.path, ["file", "line_no"])
    coded = where.column("file").combine_chunks().dictionary_encode()
    names, codes, numbers = coded.dictionary.to_pylist(), np.asarray(coded.indices), where.column("line_no").to_numpy()
    keep = np.zeros(len(where), dtype=bool)
    for code, file in enumerate(names):
        if (ds, file) in places:
            keep |= (codes == code) & np.isin(numbers, places[ds, file])
    rows = np.flatnonzero(keep)
    if record_start is not None and any((ds, file) in places for file in names):
        ordered = np.lexsort((numbers, codes))
        lines = where.append_column("text", read_part(root, LINES_TABLE, part.path, ["text"]).column("text")).take(ordered)
        return records_of_part(ds, lines, np.flatnonzero(keep[ordered]), re.compile(record_start))
    text = read_part(root, LINES_TABLE, part.path, ["text"]).column("text").take(rows) if len(rows) else pa.array([], pa.string())
    return PartTexts(texts_table(ds, where.column("file").take(rows), numbers[rows], numbers[rows], text))


def records_of_part(ds: str, lines: pa.Table, first_rows: np.ndarray, start: re.Pattern[str]) -> PartTexts:
    """As `texts_of_part`, if records span lines. Args: lines (file, line_no, text) in order; first_rows: rows of the wanted records."""
    file, numbers, text = (lines.column(name).combine_chunks() for name in ("file", "line_no", "text"))
    heads, shown = list[int](), list[int]()
    last = None
    for first in first_rows.tolist():
        end = record_end(file, numbers, text, first, start)
        rows = [first, *shown_continuation(range(first + 1, end), text)]
        heads += [first] * len(rows)
        shown += rows
        if end == len(lines):
            last = OpenRecord(ds, file[first].as_py(), numbers[first].as_py(), numbers[end - 1].as_py() + 1, len(rows))
    found = texts_table(
        ds,
        file.take(pa.array(shown, pa.int64())),
        numbers.take(pa.array(heads, pa.int64())),
        numbers.take(pa.array(shown, pa.int64())),
        text.take(pa.array(shown, pa.int64())),
    )
    before = record_end(file, numbers, text, 0, start) if len(lines) and not start.match(text[0].as_py() or "") else 0
    rows = [0, *shown_continuation(range(1, before), text)] if before else []
    first_lines = texts_table(ds, *(column.take(pa.array(rows, pa.int64())) for column in (file, numbers, numbers, text)))
    return PartTexts(found, first_lines, last)


def record_end(file: pa.Array, numbers: pa.Array, text: pa.Array, first: int, start: re.Pattern[str]) -> int:
    """Return the row behind the last line of the record that begins at row `first`."""
    end = first + 1
    while (
        end < min(len(text), first + LONGEST_RECORD)
        and file[end] == file[first]
        and numbers[end].as_py() - numbers[first].as_py() == end - first
        and not start.match(text[end].as_py() or "")
    ):
        end += 1
    return end


def shown_continuation(rows: Sequence[int], text: Sequence[Any]) -> list[int]:
    """Return the rows of a record's lines after the first that are shown: the next ones, and of the rest those that are not indented.

    >>> shown_continuation(range(14), pa.array([*"ABCDEFGHIJ", "  at", "Caused by", "", "  at"]))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    """
    texts = [(row, str(text[row])) for row in rows]
    full = [(row, each) for row, each in texts if each.strip()]
    kept = [row for number, (row, each) in enumerate(full) if number < NEXT_LINES or not each[0].isspace()]
    return kept[:CONTINUATION_LINES]


def texts_table(ds: str, file: Any, line_no: Any, shown_no: Any, text: Any) -> pa.Table:
    """Return columns as TEXTS."""
    columns = [pa.array([ds] * len(file), pa.string()), file, line_no, shown_no, text]
    return pa.table(columns, names=TEXTS.names).cast(TEXTS)


def whole_records(parts: Sequence[PartTexts]) -> pa.Table:
    """Return the records of all parts, TEXTS, each open one with the lines that continue it in the next part."""
    tables = [each.rows for each in parts]
    first_lines = {(rows[0]["ds"], rows[0]["file"], rows[0]["line_no"]): rows for part in parts if (rows := part.first_lines.to_pylist())}
    for each in parts:
        if (last := each.last) is not None and (rows := first_lines.get((last.ds, last.file, last.next_no))):
            more = [row | {"line_no": last.line_no} for row in rows[: max(0, CONTINUATION_LINES + 1 - last.n_shown)]]
            tables.append(pa.Table.from_pylist(more, TEXTS))
    return pa.concat_tables(tables) if tables else TEXTS.empty_table()


def with_evidence(
    lake: Lake,
    found: pa.Table,
    knowledge: Mapping[str, Mapping[str, TemplateFacts]],
    messages: Mapping[int, str],
    n_sessions: Mapping[str, int],
    events: Sequence[Part],
    lines: Sequence[Part],
    record_start: str | None = None,
) -> pa.Table:
    """Add to each anomalous session `found` (session_id, pattern_id, …) its evidence, lines and noticed_at, as gold.anomalies has them.

    Args: events and lines: the parts of silver.events and bronze.lines of the night and its look-back days; record_start: the expression
    that begins a record of the system, if its records span lines; others as those of `wanted`.
    """
    of = wanted(found, knowledge, messages, n_sessions)
    rows = found.sort_by("session_id")
    if not len(rows):
        events = lines = []
    seen = lake.runner.run(events, partial(events_of_part, root=lake.root, of=of), EVENT_BYTES * sum(part.n_rows for part in events))
    empty = pa.schema([("session", pa.int32()), ("template", pa.int64()), ("n", pa.int64())]).empty_table()
    counted = pa.concat_tables([counts for counts, _ in seen]) if seen else empty
    counted = counted.group_by(["session", "template"]).aggregate([("n", "sum")])
    evidence = evidence_column(counted, of, knowledge, rows.column("pattern_id").to_pylist())
    shown = most_telling(pa.concat_tables([top for _, top in seen])) if seen else None
    rows = rows.append_column("evidence", evidence).append_column("lines", lines_column(lake, shown, lines, len(rows), record_start))
    return rows.append_column("noticed_at", noticed_column(shown, len(rows)))


def noticed_column(shown: pa.Table | None, n_sessions: int) -> pa.Array:
    """Return for each session when the template that tells most was first logged; null if none tells more, or it has no time."""
    kind = schema_field("noticed_at")
    if shown is None or not len(shown):
        return pa.nulls(n_sessions, kind)
    first = shown.filter(pa.array(is_first(shown))).filter(pc.field("place") < 0).group_by("session").aggregate([("at", "min")])
    place = pc.index_in(pa.array(range(n_sessions), first.column("session").type), first.column("session").combine_chunks())
    return first.column("at_min").combine_chunks().take(place).cast(kind)


def is_first(shown: pa.Table) -> np.ndarray:
    """Return a mask of the events with the first `place` of their session. Args: shown: as `most_telling` gives them."""
    place, rank = shown.column("place").to_numpy(), shown.column("rank").to_numpy()
    return np.asarray(place <= place[np.flatnonzero(rank == 0)][np.cumsum(rank == 0) - 1])


def evidence_column(
    counted: pa.Table, of: Wanted, knowledge: Mapping[str, Mapping[str, TemplateFacts]], patterns: Sequence[str]
) -> pa.ListArray:
    """The evidence of each session, the most telling template first."""
    evidence: list[list[dict[str, Any]]] = [[] for _ in patterns]
    for session, template, n in zip(*(counted.column(name).to_pylist() for name in ("session", "template", "n_sum")), strict=True):
        name = of.names[template]
        known = knowledge[patterns[session]][name]
        evidence[session].append({"template_id": name, "count": n, "rarity": of.n_sessions[template], **known.__dict__})
    for each in evidence:
        each.sort(key=lambda row: (-row["telling"], row["rarity"], row["template_id"]))
    kept = [[{name: value for name, value in row.items() if name not in ("telling", "rarity")} for row in each] for each in evidence]
    return pa.array(kept, schema_field("evidence"))


def lines_column(lake: Lake, shown: pa.Table | None, lines: Sequence[Part], n_sessions: int, record_start: str | None) -> pa.ListArray:
    """Return the raw lines of each session: the most telling records, then the others; both in the order of day, time, place.

    A line that continues a record follows it. Of more than SHOWN_LINES lines those of the records that tell least are left out.
    """
    if shown is None or not len(shown):
        return pa.array([[]] * n_sessions, schema_field("lines"))
    places = {
        (ds, file): np.unique(shown.filter((pc.field("ds") == ds) & (pc.field("file") == file)).column("line_no").to_numpy())
        for ds, file in {(row["ds"], row["file"]) for row in shown.group_by(["ds", "file"]).aggregate([]).to_pylist()}
    }
    work = partial(texts_of_part, root=lake.root, places=places, record_start=record_start)
    texts = whole_records(lake.runner.run(lines, work, LINE_BYTES * sum(part.n_rows for part in lines)))
    at = shown.column("at").cast(pa.int64()).fill_null(NO_TIME)
    later = pa.array(~is_first(shown))
    shown = shown.set_column(shown.schema.get_field_index("at"), "at", at).append_column("later", later)
    placed = sorted_rows(shown.join(texts, PLACE, join_type="inner"), "session", "rank", "shown_no")
    placed = placed.filter(pa.array(rank_in_session(placed) < SHOWN_LINES))
    placed = sorted_rows(placed, "session", "later", "ds", "at", "file", "line_no", "shown_no").combine_chunks()
    ends = np.searchsorted(placed.column("session").to_numpy(), np.arange(n_sessions + 1))
    kind = schema_field("lines")
    values = pa.StructArray.from_arrays(
        [
            placed.column(name).combine_chunks().cast(kind.value_type.field(to).type)
            for name, to in (("file", "file"), ("shown_no", "line_no"), ("text", "text"))
        ],
        fields=[kind.value_type.field(name) for name in ("file", "line_no", "text")],
    )
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, type=kind)


def sorted_rows(rows: pa.Table, *columns: str) -> pa.Table:
    """Return the rows in ascending order of some columns."""
    return rows.sort_by([(name, "ascending") for name in columns])


def schema_field(name: str) -> Any:
    """The type of a column of gold.anomalies in Arrow."""
    return arrow_schema(ANOMALIES).field(name).type
