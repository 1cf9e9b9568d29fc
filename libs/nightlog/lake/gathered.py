"""Writes that wait for others, so that many systems share one commit of a table.

A commit costs the more the more files a table has, whatever it adds: a night of many small systems would pay for each of them. What a
stage writes for one system is gathered (`Lake.gathering`), and `commit` makes one commit a table of what several systems have gathered.
The tables are committed in the order in which they were first written, so that what is referred to goes in before what refers to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from nightlog.lake.parts import Part
    from nightlog.lake.store import Lake

log = logging.getLogger(__name__)

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


def commit(lake: Lake, waiting: Sequence[Sequence[Write]]) -> dict[int, Exception]:
    """Make the writes of several writers, those of a table in one commit. In one call, a table's rows are either appended or replaced.

    Where a table's commit fails, each writer is tried alone. Returns the writers (by their number) whose writes could not be committed,
    each with the reason; the tables behind that one are not written for them.
    """
    failed: dict[int, Exception] = {}
    for name in dict.fromkeys(write.spec.name for writes in waiting for write in writes):
        of_table = {number: [write for write in writes if write.spec.name == name] for number, writes in enumerate(waiting)}
        left = {number: found for number, found in of_table.items() if found and number not in failed}
        try:
            commit_table(lake, [write for found in left.values() for write in found])
        except Exception as error:
            log.warning("%s: %d writers could not be committed together, each is tried alone: %s", name, len(left), error)
            for number, found in left.items():
                try:
                    commit_table(lake, found)
                except Exception as own:
                    failed[number] = own
    return failed


def commit_table(lake: Lake, writes: Sequence[Write]) -> None:
    """Make writes of one table: one commit, or one for each way in which rows are replaced."""
    from nightlog.lake.parts import commit_slices

    if slices := [write for write in writes if isinstance(write, Parts)]:
        commit_slices(lake, slices[0].spec, [(write.parts, write.place) for write in slices])
    for rows in joined([write for write in writes if isinstance(write, Rows)]):
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
