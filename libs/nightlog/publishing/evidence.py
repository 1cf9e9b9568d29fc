"""What is shown of anomalous sessions: their templates, most telling first, and their raw lines.

Events and lines are read part by part, each by a task that gives back no more than can be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake, arrow_schema
from nightlog.lake.parts import Part, read_part
from nightlog.lake.runner import run_tasks
from nightlog.lake.tables import ANOMALIES, EVENTS_TABLE, LINES_TABLE

SHOWN_LINES = 50
NO_TIME = np.iinfo(np.int64).min
# Bytes of text that take as long to look through as one row of a part.
EVENT_BYTES, LINE_BYTES = 16, 32
EVENT_COLUMNS = ["session_id", "file", "line_no", "at", "message_id"]
PLACE = ["ds", "file", "line_no"]


@dataclass(frozen=True)
class Known:
    """What is known of a template in a pattern."""

    template: str | None
    nearest_source_template: str | None
    similarity: float | None
    weight: float


@dataclass
class Wanted:
    """The anomalous sessions, in order, and what is known of the templates of their patterns.

    `patterns`: for each session the number of its pattern; `names`: template ids in order; `weights`: (patterns, templates), -1 where
    a pattern does not have the template; `messages`: message id → number of its template.
    """

    sessions: pa.StringArray
    patterns: np.ndarray
    names: list[str]
    weights: np.ndarray
    messages: dict[int, int] = field(default_factory=dict)


def wanted(found: pa.Table, knowledge: Mapping[str, Mapping[str, Known]], messages: Mapping[int, str]) -> Wanted:
    """Args: found (session_id, pattern_id, …), one row a session; knowledge: pattern id → template id → what is known; messages: message
    id → template id."""
    ordered = found.select(["session_id", "pattern_id"]).sort_by("session_id")
    coded = ordered.column("pattern_id").combine_chunks().dictionary_encode()
    patterns = coded.dictionary.to_pylist()
    names = sorted({name for pattern in patterns for name in knowledge.get(pattern, {})})
    numbers = {name: number for number, name in enumerate(names)}
    weights = np.full((len(patterns), len(names)), -1.0)
    for row, pattern in enumerate(patterns):
        for name, known in knowledge.get(pattern, {}).items():
            weights[row, numbers[name]] = known.weight
    of_message = {message: numbers[name] for message, name in messages.items() if name in numbers}
    sessions = ordered.column("session_id").combine_chunks().cast(pa.string())
    return Wanted(sessions, np.asarray(coded.indices, dtype=np.int64), names, weights, of_message)


def events_of_part(part: Part, root: str, of: Wanted) -> tuple[pa.Table, pa.Table]:
    """One task: of the wanted sessions how often each template stands in a part of silver.events (session, template, n), and the events
    that could be shown (session, template, weight, ds, file, line_no, at); sessions and templates by their numbers."""
    rows = read_part(root, EVENTS_TABLE, part.path, EVENT_COLUMNS)
    rows = rows.append_column("session", pc.index_in(rows.column("session_id"), of.sessions)).filter(pc.field("session").is_valid())
    messages = pa.array(list(of.messages), pa.int64())
    templates = pa.array(list(of.messages.values()), pa.int64())
    template = templates.take(pc.index_in(rows.column("message_id"), messages).combine_chunks())
    rows = rows.append_column("template", template).filter(pc.field("template").is_valid())
    session, template = rows.column("session").to_numpy(), rows.column("template").to_numpy()
    weight = of.weights[of.patterns[session], template] if len(rows) else np.zeros(0)
    days = pa.array([dict(part.partition)["ds"]] * len(rows), pa.string())
    own = rows.append_column("weight", pa.array(weight)).append_column("ds", days).filter(pc.field("weight") >= 0)
    counted = own.group_by(["session", "template"]).aggregate([([], "count_all")]).rename_columns({"count_all": "n"})
    return counted, most_telling(own.select(["session", "template", "weight", *PLACE, "at"]))


def most_telling(events: pa.Table) -> pa.Table:
    """Of each session the events that are shown: those of the templates with the greatest weight, then the first ones."""
    order = [("session", "ascending"), ("weight", "descending"), ("template", "ascending"), *((name, "ascending") for name in PLACE)]
    ordered = events.sort_by(order)
    session = ordered.column("session").to_numpy()
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    rank = np.arange(len(session)) - np.repeat(starts, np.diff(np.append(starts, len(session))))
    return ordered.filter(pa.array(rank < SHOWN_LINES))


def texts_of_part(part: Part, root: str, places: Mapping[tuple[str, str], np.ndarray]) -> pa.Table:
    """One task: the wanted lines of a part of bronze.lines, (ds, file, line_no, text). Args: places: (ds, file) → line numbers in order."""
    ds = dict(part.partition)["ds"]
    where = read_part(root, LINES_TABLE, part.path, ["file", "line_no"])
    coded = where.column("file").combine_chunks().dictionary_encode()
    numbers, files = where.column("line_no").to_numpy(), np.asarray(coded.indices)
    keep = np.zeros(len(where), dtype=bool)
    for code, file in enumerate(coded.dictionary.to_pylist()):
        if (ds, file) in places:
            keep |= (files == code) & np.isin(numbers, places[ds, file])
    rows = np.flatnonzero(keep)
    text = read_part(root, LINES_TABLE, part.path, ["text"]).column("text").take(rows) if len(rows) else pa.array([], pa.string())
    return where.take(rows).append_column("text", text).append_column("ds", pa.array([ds] * len(rows), pa.string()))


def with_evidence(
    lake: Lake,
    found: pa.Table,
    knowledge: Mapping[str, Mapping[str, Known]],
    messages: Mapping[int, str],
    events: Sequence[Part],
    lines: Sequence[Part],
) -> pa.Table:
    """Add to each anomalous session `found` (session_id, pattern_id, …) its evidence and its lines, as gold.anomalies has them.

    Of a longer session the lines of the most telling templates are kept, then put back in order. Args: events and lines: the parts of
    silver.events and bronze.lines of the night and its look-back days; others as those of `wanted`.
    """
    of = wanted(found, knowledge, messages)
    rows = found.sort_by("session_id")
    if not len(rows):
        events = lines = []
    seen = run_tasks(lake, events, partial(events_of_part, root=lake.root, of=of), EVENT_BYTES * sum(part.n_rows for part in events))
    empty = pa.schema([("session", pa.int32()), ("template", pa.int64()), ("n", pa.int64())]).empty_table()
    counted = pa.concat_tables([counts for counts, _ in seen]) if seen else empty
    counted = counted.group_by(["session", "template"]).aggregate([("n", "sum")])
    evidence = evidence_column(counted, of, knowledge, rows.column("pattern_id").to_pylist())
    shown = most_telling(pa.concat_tables([top for _, top in seen])) if seen else None
    return rows.append_column("evidence", evidence).append_column("lines", lines_column(lake, shown, lines, len(rows)))


def evidence_column(counted: pa.Table, of: Wanted, knowledge: Mapping[str, Mapping[str, Known]], patterns: Sequence[str]) -> pa.ListArray:
    """The evidence of each session, the most telling template first."""
    told: list[list[dict[str, Any]]] = [[] for _ in patterns]
    for session, template, n in zip(*(counted.column(name).to_pylist() for name in ("session", "template", "n_sum")), strict=True):
        name = of.names[template]
        known = knowledge[patterns[session]][name]
        told[session].append({"template_id": name, "count": n, **known.__dict__})
    for each in told:
        each.sort(key=lambda row: (-row["weight"], row["template_id"]))
    return pa.array(told, schema_field("evidence"))


def lines_column(lake: Lake, shown: pa.Table | None, lines: Sequence[Part], n_sessions: int) -> pa.ListArray:
    """The raw lines of each session in the order of day, time and place."""
    if shown is None or not len(shown):
        return pa.array([[]] * n_sessions, schema_field("lines"))
    places = {
        (ds, file): np.unique(shown.filter((pc.field("ds") == ds) & (pc.field("file") == file)).column("line_no").to_numpy())
        for ds, file in {(row["ds"], row["file"]) for row in shown.group_by(["ds", "file"]).aggregate([]).to_pylist()}
    }
    n = sum(part.n_rows for part in lines)
    texts = pa.concat_tables(run_tasks(lake, lines, partial(texts_of_part, root=lake.root, places=places), LINE_BYTES * n))
    at = shown.column("at").cast(pa.int64()).fill_null(NO_TIME)
    placed = shown.set_column(shown.schema.get_field_index("at"), "at", at).join(texts, PLACE, join_type="inner")
    placed = placed.sort_by([(name, "ascending") for name in ("session", "ds", "at", "file", "line_no")]).combine_chunks()
    ends = np.searchsorted(placed.column("session").to_numpy(), np.arange(n_sessions + 1))
    kind = schema_field("lines")
    values = pa.StructArray.from_arrays(
        [placed.column(name).combine_chunks().cast(kind.value_type.field(name).type) for name in ("file", "line_no", "text")],
        fields=[kind.value_type.field(name) for name in ("file", "line_no", "text")],
    )
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, type=kind)


def schema_field(name: str) -> Any:
    """The type of a column of gold.anomalies in Arrow."""
    return arrow_schema(ANOMALIES).field(name).type
