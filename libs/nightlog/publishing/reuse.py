"""Evidence that a night has been published with: it is taken over if nothing that it was made from has changed.

A row of gold.anomalies has a hash of what its evidence was made from: the files of events and lines, which are never changed, and what is
known of the templates of its pattern. Of the telling values only their order counts: it alone chooses lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, part_batches, read_part, schema_of
from nightlog.lake.tables import ANOMALIES
from nightlog.publishing.evidence import Sources

KERNEL = 1  # raise it when the same sources give other evidence
SAME = ["run_evidence", "started_at", "ended_at", "n_events"]
TAKEN = ["evidence", "lines", "noticed_at"]


def evidence_hashes(sources: Sources) -> dict[str, str]:
    """Return pattern id → hash of all that the evidence of its sessions is made from, except the sessions themselves."""
    pairs, paths = sources.pairs, sorted(part.path for part in (*sources.events, *sources.lines))
    common = hashlib.sha256(json.dumps([KERNEL, sources.record_start, paths]).encode())
    edges = np.searchsorted(pairs.keys, np.arange(len(pairs.patterns) + 1) * len(pairs.templates)).tolist()
    values = list(zip(pairs.facts.to_pylist(), pairs.telling.tolist(), pairs.rarity.tolist(), strict=True))
    found = {}
    for number, pattern in enumerate(pairs.patterns):
        own = common.copy()
        own.update(json.dumps(values[edges[number] : edges[number + 1]]).encode())
        found[pattern] = own.hexdigest()[:16]
    return found


@dataclass(frozen=True)
class PublishedEvidence:
    """The published evidence of a night. `sessions`: (session_id, run_evidence, started_at, ended_at, n_events, part), `part` a number."""

    root: str
    parts: tuple[Part, ...]
    sessions: pa.Table

    @staticmethod
    def of(lake: Lake, place: Mapping[str, str], hashes: Mapping[str, str]) -> PublishedEvidence:
        """Return the evidence in gold.anomalies that has one of the hashes; nested columns are not read yet."""
        parts = tuple(lake.parts(ANOMALIES, **place))
        columns = ["session_id", *SAME]
        found = [pa.schema([*(schema_of(ANOMALIES).field(name) for name in columns), ("part", pa.int64())]).empty_table()]
        for number, part in enumerate(parts):
            rows = read_part(lake.root, ANOMALIES, part.path, columns)
            rows = rows.filter(pc.is_in(rows.column("run_evidence"), pa.array(list(hashes.values()), pa.string())))
            found.append(rows.append_column("part", pa.array(np.full(len(rows), number))))
        return PublishedEvidence(lake.root, parts, pa.concat_tables(found))

    def divide(self, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the rows whose evidence is published, with it, and the others. Args: rows (session_id, run_evidence, started_at, …)."""
        place = pc.index_in(rows.column("session_id"), self.sessions.column("session_id"))
        published = self.sessions.take(place)
        same = pc.is_valid(place)
        for name in SAME:
            one, other = rows.column(name), published.column(name)
            same = pc.and_(same, pc.if_else(pc.is_null(one), pc.is_null(other), pc.fill_null(pc.equal(one, other), False)))
        kept = rows.filter(same)
        wanted, tables = kept.column("session_id"), []
        for number in published.filter(same).column("part").unique().to_pylist():
            for batch in part_batches(self.root, ANOMALIES, self.parts[number], ["session_id", *TAKEN]):
                tables.append(pa.Table.from_batches([batch]).filter(pc.is_in(batch.column("session_id"), wanted)))
        empty = pa.schema([schema_of(ANOMALIES).field(name) for name in ("session_id", *TAKEN)]).empty_table()
        taken = pa.concat_tables([empty, *tables])
        taken = taken.take(pc.index_in(wanted, taken.column("session_id")))
        for name in TAKEN:
            kept = kept.append_column(name, taken.column(name))
        return kept, rows.filter(pc.invert(same))
