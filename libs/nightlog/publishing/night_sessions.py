"""The sessions of a night, read by part: their counts, and those that are anomalous, in blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, read_part, schema_of
from nightlog.lake.tables import SESSIONS
from nightlog.parsing.events import BUCKETS
from nightlog.parsing.messages import spark_hash
from nightlog.publishing.evidence import SHOWN_LINES
from nightlog.quality.gates import SessionCounts, count_sessions, sum_counts

COLUMNS = ["session_id", "pattern_id", "started_at", "ended_at", "n_events"]
FEW_LINES = 20
SESSION_BYTES = 64  # of text take as long to look through as one session


class NightSessions(NamedTuple):
    """The sessions of a night, or of a part of it: their counts, and the rows (COLUMNS) of those with an anomalous pattern.

    `buckets`: the buckets of their ids, see silver.counts.
    """

    counts: SessionCounts
    anomalous: pa.Table
    buckets: np.ndarray


def read_sessions(lake: Lake, system: str, ds: str, patterns: Collection[str]) -> NightSessions:
    """Return the night's sessions. Args: patterns: the anomalous ones."""
    parts = lake.parts(SESSIONS, system=system, ds=ds)
    work = partial(sessions_of_part, root=lake.root, patterns=pa.array(sorted(patterns), pa.string()))
    found = lake.runner.run(parts, work, SESSION_BYTES * sum(part.n_rows for part in parts))
    counts = sum_counts([each.counts for each in found])
    buckets, n_parts = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(each.buckets for each in found)]), return_counts=True)
    # The parts of a night have buckets of their own, unless something was written twice.
    shared = [part for part, each in zip(parts, found, strict=True) if np.isin(each.buckets, buckets[n_parts > 1]).any()]
    if shared:
        ids = pa.chunked_array([chunk for part in shared for chunk in ids_of_part(lake.root, part).chunks], pa.string())
        within = sum(each.counts.n_repeated for part, each in zip(parts, found, strict=True) if part in shared)
        counts = replace(counts, n_repeated=counts.n_repeated - within + len(ids) - pc.count_distinct(ids).as_py())
    columns = pa.schema([schema_of(SESSIONS).field(name) for name in COLUMNS])
    return NightSessions(counts, pa.concat_tables([columns.empty_table(), *(each.anomalous for each in found)]), buckets)


def sessions_of_part(part: Part, root: str, patterns: pa.StringArray) -> NightSessions:
    """One task: the sessions of a part of silver.sessions. Args: patterns: the anomalous ones."""
    rows = read_part(root, SESSIONS, part.path, COLUMNS)
    buckets = {spark_hash(name) % BUCKETS for name in rows.column("session_id").to_pylist() if name is not None}
    anomalous = rows.filter(pc.is_in(rows.column("pattern_id"), patterns))
    return NightSessions(count_sessions(rows), anomalous, np.array(sorted(buckets), dtype=np.int64))


def ids_of_part(root: str, part: Part) -> pa.ChunkedArray:
    """Return the session ids of a part."""
    return read_part(root, SESSIONS, part.path, ["session_id"]).column("session_id")


def in_blocks(sessions: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield sessions in blocks, by their start and then by their id; the last block holds those without a time.

    Args: size: the most lines that are shown of a block's sessions; a session with fewer than FEW_LINES counts as so many.
    """
    ordered = sessions.sort_by([("started_at", "ascending"), ("session_id", "ascending")])
    lines = np.clip(ordered.column("n_events").fill_null(0).to_numpy(), FEW_LINES, SHOWN_LINES)
    ends = np.cumsum(lines)
    start = 0
    while start < len(ordered):
        end = max(start + 1, int(np.searchsorted(ends, ends[start] - lines[start] + size, side="right")))
        yield ordered.slice(start, end - start)
        start = end
