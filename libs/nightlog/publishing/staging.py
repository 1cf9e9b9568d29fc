"""Rows of gold.anomalies before they are published: made, checked and written block by block, so that memory is bounded by a block."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, schema_of, write_part
from nightlog.lake.tables import ANOMALIES
from nightlog.publishing.evidence import Sources, with_evidence
from nightlog.publishing.night_sessions import in_blocks
from nightlog.publishing.reuse import PublishedEvidence, evidence_hashes
from nightlog.quality.gates import Breach, check_slice, import_expectations, merge_breaches, narrow_frame

BLOCK = 2_000_000  # lines of anomalous sessions that are worked through at a time
# One value per pattern: a dictionary holds it once, not once per session.
CODED = pa.dictionary(pa.int32(), pa.string())
DECIDED = [("score", pa.float64()), *((name, CODED) for name in ("route", "decided_by", "status", "reason"))]
DECISIONS = pa.schema([("pattern_id", pa.string()), *DECIDED])
TIMES = [(name, pa.timestamp("us", "UTC")) for name in ("started_at", "ended_at", "noticed_at")]
FOUND = pa.schema([("session_id", pa.string()), ("pattern_id", pa.string()), *TIMES, *DECIDED])


@dataclass
class Staged:
    """Rows that the night would publish, block by block, in part files that no reader sees before they are committed.

    `found`: of all rows the columns that findings are made of; `aside`: rows that break a rule, as text, with the breach.
    """

    parts: list[Part] = field(default_factory=list)
    found: pa.Table = field(default_factory=FOUND.empty_table)
    breaches: list[Breach] = field(default_factory=list)
    aside: list[tuple[Breach, dict[str, str]]] = field(default_factory=list)

    def add(self, lake: Lake, rows: pa.Table, place: Mapping[str, str]) -> bool:
        """Check a block of rows of gold.anomalies, without the partition's columns, and write it. Returns False if a breach is critical."""
        breaches = check_slice(ANOMALIES, rows)
        if broken := sorted({number for breach in breaches for number in breach.rows}):
            shown = dict(zip(broken, text_rows(rows.take(broken), place), strict=True))
            self.aside += [(breach, shown[number]) for breach in breaches for number in breach.rows]
        self.breaches = merge_breaches([*self.breaches, *breaches])
        self.found = pa.concat_tables([self.found, rows.select(FOUND.names).cast(FOUND)])
        is_sound = all(breach.severity != "critical" for breach in breaches)
        if is_sound:
            self.parts.append(write_part(lake.root, ANOMALIES, rows, **place))
        return is_sound


def stage_anomalies(
    lake: Lake,
    place: Mapping[str, str],
    sessions: pa.Table,
    decided: pa.Table,
    sources: Sources,
    same: Mapping[str, object],
) -> Staged:
    """Stage the rows of all anomalous sessions, block by block, until a block has a critical breach.

    Args:
        place: system and night. sessions: the anomalous ones, see `read_sessions`. decided: DECISIONS. same: column → value of all rows.
    """
    staged = Staged()
    if not len(sessions):
        return staged
    # Great Expectations is imported while other processes read the lines.
    threading.Thread(target=import_expectations).start()
    hashes = evidence_hashes(sources)
    published = PublishedEvidence.of(lake, place, hashes)
    hashes_of = pa.table({"pattern_id": list(hashes), "run_evidence": list(hashes.values())})
    schema = schema_of(ANOMALIES)
    for block in in_blocks(sessions, BLOCK):
        kept, left = published.divide(with_pattern_columns(block, hashes_of))
        rows = pa.concat_tables([kept, with_evidence(lake, left, sources).select(kept.column_names)]).sort_by("session_id")
        rows = with_pattern_columns(rows, decided)
        for name, value in same.items():
            rows = rows.append_column(name, pa.array([value] * len(rows), schema.field(name).type))
        if not staged.add(lake, rows.select(schema.names).cast(schema), place):
            break
    return staged


def with_pattern_columns(rows: pa.Table, patterns: pa.Table) -> pa.Table:
    """Return rows (pattern_id, …) with the columns of their patterns. Args: patterns (pattern_id, …), one row per pattern."""
    place = pc.index_in(rows.column("pattern_id"), patterns.column("pattern_id"))
    for name in patterns.column_names:
        if name != "pattern_id":
            rows = rows.append_column(name, patterns.column(name).take(place))
    return rows


def text_rows(rows: pa.Table, place: Mapping[str, str]) -> list[dict[str, str]]:
    """Return rows of gold.anomalies as texts, without lines and evidence."""
    found: list[dict[str, str]] = narrow_frame(ANOMALIES, rows).assign(**place).astype(str).to_dict("records")
    return found
