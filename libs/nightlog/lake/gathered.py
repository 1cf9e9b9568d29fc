"""Writes that wait for others, so that many systems share one commit of a table.

A commit costs the more the more files a table has, whatever it adds: a night of many small systems would pay for each of them. What a
stage writes for one system is gathered (`Lake.gathering`), and `commit` makes one commit a table of what several systems have gathered.
The tables are committed in the order in which they were first written, so that what is referred to goes in before what refers to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from nightlog.lake.parts import Part
    from nightlog.lake.store import Lake

Place = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Parts:
    """Part files that are to be in the place of all files of the partitions with these values."""

    spec: TableSpec
    parts: tuple[Part, ...]
    place: Place


@dataclass(frozen=True)
class Rows:
    """Rows to be appended or, where a place is given, to be in the place of all rows with these values."""

    spec: TableSpec
    rows: pa.Table
    place: Place


Write = Parts | Rows


def commit(lake: Lake, writes: Iterable[Write]) -> None:
    """Make all these writes, those of a table in one commit. In one call, a table's rows are either appended or replaced."""
    from nightlog.lake.parts import commit_slices

    by_table: dict[str, list[Write]] = {}
    for write in writes:
        by_table.setdefault(write.spec.name, []).append(write)
    for found in by_table.values():
        if slices := [write for write in found if isinstance(write, Parts)]:
            commit_slices(lake, slices[0].spec, [(write.parts, write.place) for write in slices])
        for rows in joined([write for write in found if isinstance(write, Rows)]):
            lake.write_rows(rows.spec, rows.rows, **rows.place)


def joined(writes: Sequence[Rows]) -> list[Rows]:
    """Rows of one table whose places differ in nothing but the system, as one write each."""
    import pyarrow as pa

    alike: dict[tuple[tuple[str, str | tuple[str, ...]], ...], list[Rows]] = {}
    for write in writes:
        same = {name: value if isinstance(value, str) else tuple(value) for name, value in write.place.items() if name != "system"}
        alike.setdefault(tuple(sorted(same.items())), []).append(write)
    found = []
    for group in alike.values():
        place = dict(group[0].place)
        if "system" in place:
            place["system"] = sorted({str(write.place["system"]) for write in group})
        found.append(Rows(group[0].spec, pa.concat_tables([write.rows for write in group]), place))
    return found


def pending(lake: Lake, spec: TableSpec) -> list[Write]:
    """What has been gathered for a table and is not committed yet."""
    return [write for write in lake.gathered or () if write.spec.name == spec.name]
