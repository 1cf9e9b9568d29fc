"""Writes that wait for others, so that many systems share one commit of a table.

A commit costs the more the more files a table has, whatever it adds: a night of many small systems would pay for each of them. What a
stage writes for one system is gathered (`Lake.gathering`), and `commit` makes one commit a table of what several systems have gathered.
The tables are committed in the order in which they were first written, so that what is referred to goes in before what refers to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightlog.errors import CommitUnknown
from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from nightlog.lake.lake import Lake
    from nightlog.lake.parts import Part

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

    Where a commit fails, each writer is tried alone. Returns the writers (by their number) whose writes could not be committed, each with
    the reason; the tables behind that one are not written for them.
    """
    failed: dict[int, Exception] = {}
    for group in alike([(number, write) for number, writes in enumerate(waiting) for write in writes]):
        left = [(number, write) for number, write in group if number not in failed]
        writers = dict.fromkeys(number for number, _ in left)
        try:
            commit_together(lake, [write for _, write in left])
        except CommitUnknown as error:  # tried alone, they might be written twice
            failed |= dict.fromkeys(writers, error)
        except Exception as error:
            log.warning(
                "%s: %d writers could not be committed together, each is tried alone: %s", group[0][1].spec.name, len(writers), error
            )
            for writer in writers:
                try:
                    commit_together(lake, [write for number, write in left if number == writer])
                except Exception as own:
                    failed[writer] = own
    return failed


def alike(writes: Sequence[tuple[int, Write]]) -> list[list[tuple[int, Write]]]:
    """Writes, each with its writer's number, by what one commit can hold: the part files of a table, and rows of it whose places differ in
    nothing but the system. Tables come in the order in which they were first written."""
    groups: dict[tuple[str, Any], list[tuple[int, Write]]] = {}
    for number, write in sorted(writes, key=lambda each: isinstance(each[1], Rows)):
        kept = sorted((name, value if isinstance(value, str) else tuple(value)) for name, value in write.place.items() if name != "system")
        groups.setdefault((write.spec.name, tuple(kept) if isinstance(write, Rows) else None), []).append((number, write))
    order = list(dict.fromkeys(write.spec.name for _, write in writes))
    return [groups[key] for key in sorted(groups, key=lambda key: order.index(key[0]))]


def commit_together(lake: Lake, writes: Sequence[Write]) -> None:
    """Make writes that are alike in one commit."""
    import pyarrow as pa

    from nightlog.lake.parts import commit_slices

    if slices := [write for write in writes if isinstance(write, Parts)]:
        commit_slices(lake, slices[0].spec, [(write.parts, write.place) for write in slices])
    elif rows := [write for write in writes if isinstance(write, Rows)]:
        place = dict(rows[0].place)
        if "system" in place:
            place["system"] = sorted({str(write.place["system"]) for write in rows})
        lake.write_rows(rows[0].spec, pa.concat_tables([write.rows for write in rows]), **place)


def pending(lake: Lake, spec: TableSpec) -> list[Write]:
    """What has been gathered for a table and is not committed yet."""
    return [write for write in lake.gathered or () if write.spec.name == spec.name]
