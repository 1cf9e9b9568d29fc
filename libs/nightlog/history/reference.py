"""The reference of a system: its patterns with their sessions, bounded and versioned, merged from nights.

A reference is built from `silver.patterns` alone, so it knows no label. The reference of a night is the merge of the nights up to it;
a backfill merges the nights before it and gets the reference of then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.errors import FormatError

KERNEL = 2  # raise it when the same patterns are scored differently
MAX_PATTERNS = 10_000
TONIGHT = 0.5  # weight of a session of the night that is scored
EVENTS = pa.list_(pa.struct([("template_id", pa.string()), ("count", pa.int64())]))
SCHEMA = pa.schema([("pattern_id", pa.string()), ("events", EVENTS), ("n_sessions", pa.float64())])
METADATA = b"nightlog.history"


@dataclass(frozen=True)
class Multisets:
    """The templates of n patterns, in compressed rows.

    Row i holds the entries `starts[i]` to `starts[i + 1]`: its templates `template` (numbers of `template_ids`, rising) and their
    `level`, the bit length of the count; 1 if counts are not used.
    """

    template_ids: tuple[str, ...]
    starts: np.ndarray
    template: np.ndarray
    level: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def row(self) -> np.ndarray:
        """The row of each entry."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @staticmethod
    def of(events: pa.Array | pa.ChunkedArray, counted: bool, template_ids: Sequence[str] = ()) -> Multisets:
        """Read a column of events (template_id, count).

        Templates that are not in `template_ids` are added behind them, in order. A null list is an empty pattern; events without a
        template are left out; a null count is 1; counts of a repeated template add up.
        """
        column = events.combine_chunks() if isinstance(events, pa.ChunkedArray) else events
        column = column.cast(EVENTS)
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        row, flat = np.repeat(np.arange(len(column)), lengths), column.flatten()
        names, counts = flat.field("template_id"), pc.fill_null(flat.field("count"), 1).to_numpy(zero_copy_only=False).astype(np.int64)
        kept = pc.is_valid(names).to_numpy(zero_copy_only=False) & (counts > 0)
        names, counts, row = names.filter(pa.array(kept)), counts[kept], row[kept]
        known = list(template_ids)
        known += sorted(set(pc.unique(names).to_pylist()) - set(known))
        number = pc.index_in(names, value_set=pa.array(known, pa.string())).to_numpy(zero_copy_only=False).astype(np.int64)
        key, place = np.unique(row * max(1, len(known)) + number, return_inverse=True)
        total = np.bincount(place, weights=counts, minlength=len(key)).astype(np.int64) if counted else np.ones(len(key), dtype=np.int64)
        row, number = key // max(1, len(known)), key % max(1, len(known))
        starts = np.searchsorted(row, np.arange(len(column) + 1))
        return Multisets(tuple(known), starts, number, np.frexp(total.astype(float))[1].astype(np.int64))

    def dense(self, templates: np.ndarray, presence: bool = True) -> np.ndarray:
        """Return (n, k) float32: the presence, or the level, of the templates with these numbers."""
        column = np.full(len(self.template_ids), -1)
        column[templates] = np.arange(len(templates))
        found = column[self.template] >= 0
        values = np.zeros((len(self), len(templates)), dtype=np.float32)
        values[self.row[found], column[self.template[found]]] = 1 if presence else self.level[found]
        return values

    def largest(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each row the largest of `values` (one per entry), at least 0, and its entry; -1 if no value exceeds 0."""
        best, entry = np.zeros(len(self)), np.full(len(self), -1)
        np.maximum.at(best, self.row, values)
        at = np.flatnonzero((values > 0) & (values == best[self.row]))[::-1]
        entry[self.row[at]] = at
        return best, entry


@dataclass(frozen=True)
class Reference:
    """The patterns of a system's nights (SCHEMA, in order of their ids; `n_sessions` is their weight), and the nights.

    `counted` says if counts are used: they mean something in the life of one thing (a block, a request), not in what a node or an hour
    happened to log.
    """

    rows: pa.Table
    counted: bool
    nights: tuple[str, ...]

    @staticmethod
    def of_night(patterns: pa.Table, counted: bool, night: str = "") -> Reference:
        """Read the patterns of one night: `silver.patterns` (pattern_id, question_id, events, n_sessions); null sessions are 0.

        If counts are not used, all patterns of one set of templates are one row.
        """
        key = "pattern_id" if counted else "question_id"
        rows = [patterns.column(key).cast(pa.string()), patterns.column("events").cast(EVENTS)]
        rows.append(pc.fill_null(patterns.column("n_sessions").cast(pa.float64()), 0.0))
        return Reference(bounded(pa.table(rows, schema=SCHEMA), MAX_PATTERNS), counted, (night,) if night else ())

    @staticmethod
    def merge(references: Sequence[Reference], limit: int = MAX_PATTERNS) -> Reference:
        """Add up references of different nights; their order does not matter.

        Raises: FormatError if a night occurs twice or only some of them use counts.
        """
        if not references:
            return Reference(SCHEMA.empty_table(), True, ())
        nights = sorted(night for reference in references for night in reference.nights)
        if len(set(nights)) < len(nights):
            raise FormatError(f"history: a night is merged twice: {nights}")
        if len({reference.counted for reference in references}) > 1:
            raise FormatError("history: references with and without counts cannot be merged; the session rule of the system has changed")
        rows = bounded(pa.concat_tables([reference.rows for reference in references]), limit)
        return Reference(rows, references[0].counted, tuple(nights))

    def including(self, tonight: Reference) -> Reference:
        """Add the night that is to be scored, so that what has become usual tonight is usual; its sessions count half.

        Without it, a system that behaves differently from one night to the next would have many sessions flagged. With full weight, a
        fault that hits many sessions tonight would look usual. The first night is its own reference.
        """
        if not self.rows.num_rows:
            return tonight
        sessions = pa.array(tonight.rows.column("n_sessions").to_numpy() * TONIGHT)
        return Reference.merge([self, Reference(tonight.rows.set_column(2, "n_sessions", sessions), tonight.counted, tonight.nights)])

    @cached_property
    def n_sessions(self) -> float:
        """Sessions of all patterns."""
        return float(pc.sum(self.rows.column("n_sessions")).as_py() or 0.0)

    @cached_property
    def version(self) -> str:
        """Hash of patterns, weights and kernel: the same version gives the same scores."""
        content = [KERNEL, self.counted, *(self.rows.column(name).to_pylist() for name in ("pattern_id", "n_sessions"))]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def to_arrow(self) -> pa.Table:
        """Return the rows, with `counted`, nights and version in the schema's metadata."""
        content = {"counted": self.counted, "nights": self.nights, "version": self.version}
        return self.rows.replace_schema_metadata({METADATA: json.dumps(content).encode()})

    @staticmethod
    def from_arrow(table: pa.Table) -> Reference:
        """Read `to_arrow` back. Raises FormatError if it is not such a table or its version is not that of its rows."""
        stored = (table.schema.metadata or {}).get(METADATA)
        if stored is None:
            raise FormatError("history: the table has no reference in it (no metadata)")
        content: Mapping[str, object] = json.loads(stored)
        nights = content["nights"]
        assert isinstance(nights, list)
        reference = Reference(table.cast(SCHEMA).replace_schema_metadata(None), bool(content["counted"]), tuple(map(str, nights)))
        if reference.version != content["version"]:
            raise FormatError(f"history: reference {content['version']} does not match its rows ({reference.version}); build it again")
        return reference


def bounded(rows: pa.Table, limit: int) -> pa.Table:
    """Add up rows of the same id and keep at most `limit`, in order of their ids.

    Beyond the limit it is a priority sample: a row is kept by sessions / hash of its id, and light rows that are kept stand for those
    that are not, so that expected sums stay right and a merge does not depend on order or chance.
    """
    if not rows.num_rows:
        return SCHEMA.empty_table()
    rows = rows.filter(pc.is_valid(rows.column("pattern_id"))).sort_by("pattern_id")
    ids = rows.column("pattern_id").combine_chunks().dictionary_encode()
    _, first, place = np.unique(np.asarray(ids.indices), return_index=True, return_inverse=True)
    sessions = np.bincount(place, weights=rows.column("n_sessions").to_numpy(), minlength=len(first))
    rows = rows.take(pa.array(first))
    chosen = np.flatnonzero(sessions > 0)
    if len(chosen) > limit:
        priority = sessions[chosen] / np.array([uniform(name) for name in rows.column("pattern_id").take(pa.array(chosen)).to_pylist()])
        order = np.argsort(-priority, kind="stable")
        chosen, least = np.sort(chosen[order[:limit]]), priority[order[limit]]
        sessions = np.maximum(sessions, least)
    kept = rows.take(pa.array(chosen))
    return pa.table([kept.column("pattern_id"), kept.column("events"), pa.array(sessions[chosen])], schema=SCHEMA)


def uniform(name: str) -> float:
    """Return a number in (0, 1] that depends on the name alone."""
    return (int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big") + 1) / 2**56
