"""Transactions: writes that wait for each other, so that many systems share one commit per table.

A commit costs the more the more files a table has, whatever it adds: a night of many small systems would pay for each of them. So a stage
writes each system through a transaction of its own, and `commit_together` makes one commit per table of what several of them hold. Tables
are committed in the order in which they were first written, so that rows go in before the rows that refer to them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nightlog.errors import CommitUnknown, NightlogError
from nightlog.lake.delta import DeltaTables, Write, commit_writes, values_of
from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, part_batches
from nightlog.lake.schema import arrow_schema
from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)


class Transaction(Lake):
    """A lake whose writes wait for `commit`; its own reads see them, except through `dataset`. Nothing is committed if its `lock` is lost.

    Nothing is lost by dropping it: part files that were written for it are removed by VACUUM.
    """

    def __init__(self, lake: Lake):
        DeltaTables.__init__(self, lake.root)
        self.lake, self.runner, self.opened = lake, lake.runner, lake.opened
        self.pending: list[Write] = []

    def exists(self, spec: TableSpec) -> bool:
        return self.lake.exists(spec)

    def table(self, spec: TableSpec) -> DeltaTable:
        return self.lake.table(spec)

    def write(self, write: Write) -> None:
        """Let a write wait; a slice that replaces the same slice of before takes its place."""
        if write.replaced:
            self.pending = [old for old in self.pending if (old.spec.name, old.replaced) != (write.spec.name, write.replaced)]
        self.pending.append(write)

    def commit(self) -> None:
        """Commit what waits. Raises the first error; the tables behind it are not written then."""
        for error in commit_together(self.lake, [self]).values():
            raise error

    def waiting(self, spec: TableSpec) -> list[Write]:
        """Return the writes of a table that wait."""
        return [write for write in self.pending if write.spec.name == spec.name]

    def arrow(self, spec: TableSpec, columns: list[str] | None = None, **equal: str | Sequence[str]) -> pa.Table:
        if not (waiting := self.waiting(spec)):
            return super().arrow(spec, columns, **equal)
        rows = super().arrow(spec, None, **equal).cast(arrow_schema(spec))
        for write in waiting:
            rows = after_write(rows, write, self.root)
        for name, value in equal.items():
            rows = rows.filter(has_value(rows, name, value))
        return rows.select(columns or spec.names)

    def parts(self, spec: TableSpec, **partition: str | Sequence[str]) -> list[Part]:
        found = super().parts(spec, **partition)
        for write in self.waiting(spec):
            if isinstance(write.data, tuple):
                found = [part for part in found if not (write.replaced and part.lies_in(write.replaced))]
                found += [part for part in write.data if part.lies_in(partition)]
        return sorted(found, key=lambda part: part.path)

    def read(self, spec: TableSpec, **equal: str | Sequence[str]) -> DataFrame:
        if any(not isinstance(write.data, tuple) for write in self.waiting(spec)):
            self.commit()  # Spark reads files
        return super().read(spec, **equal)


def after_write(rows: pa.Table, write: Write, root: str) -> pa.Table:
    """Return a table's rows as they are after a write."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(write.data, tuple):
        batches = (batch for part in write.data for batch in part_batches(root, write.spec, part, rows.column_names))
        new = pa.Table.from_batches(batches, rows.schema)
    else:
        new = write.data
    if write.replaced:
        stay = None
        for name, value in write.replaced.items():
            other = pc.invert(has_value(rows, name, value))
            stay = other if stay is None else pc.or_(stay, other)
        rows = rows.filter(stay)
    if write.merged:
        key = list(write.spec.key)
        by_key = {tuple(row[name] for name in key): row for row in rows.to_pylist()}
        for row in new.to_pylist():
            same = tuple(row[name] for name in key)
            by_key[same] = by_key[same] | {name: row[name] for name in write.update} if write.update and same in by_key else row
        return pa.Table.from_pylist(list(by_key.values()), rows.schema)
    return pa.concat_tables([rows, new])


def has_value(rows: pa.Table, name: str, value: str | Sequence[str]) -> pa.Array:
    """Return a mask of the rows whose column has the value, or one of the values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(rows.column(name).cast(pa.string()), pa.array(list(values_of(value)), pa.string()))


def commit_together(lake: Lake, transactions: Sequence[Transaction]) -> dict[int, Exception]:
    """Commit several transactions, each table in one commit.

    If a commit fails, each transaction is tried alone. Returns the transactions (by their number) that could not be committed, each with
    the reason; the tables behind that one are not written for them.
    """
    failed: dict[int, Exception] = dict(lost_locks(transactions, range(len(transactions))))
    for group in shared_commits([(number, write) for number, each in enumerate(transactions) for write in each.pending]):
        failed |= lost_locks(transactions, {number for number, _ in group} - failed.keys())
        left = [(number, write) for number, write in group if number not in failed]
        writers = dict.fromkeys(number for number, _ in left)
        if not left:
            continue
        try:
            commit_writes(lake, [write for _, write in left])
        except CommitUnknown as error:  # tried alone, they might be written twice
            failed |= dict.fromkeys(writers, error)
        except Exception as error:
            log.warning(
                "%s: %d writers could not be committed together, each is tried alone: %s", left[0][1].spec.name, len(writers), error
            )
            for writer in writers:
                try:
                    commit_writes(lake, [write for number, write in left if number == writer])
                except Exception as own:
                    failed[writer] = own
    for each in transactions:
        each.pending = []
    return failed


def lost_locks(transactions: Sequence[Transaction], numbers: Iterable[int]) -> dict[int, NightlogError]:
    """Return those of some transactions, by number, whose lock is lost or cannot be checked, each with the error."""
    lost = {}
    for number in numbers:
        if (lock := transactions[number].lock) is not None:
            try:
                lock.check()
            except NightlogError as error:
                lost[number] = error
    return lost


def shared_commits(writes: Sequence[tuple[int, Write]]) -> list[list[tuple[int, Write]]]:
    """Return writes, each with its transaction's number, by the commit that they share, in the order in which tables were first written."""
    order = {name: place for place, name in enumerate(dict.fromkeys(write.spec.name for _, write in writes))}
    groups: dict[object, list[tuple[int, Write]]] = {}
    for number, write in writes:
        groups.setdefault(write.commit_key, []).append((number, write))
    return sorted(groups.values(), key=lambda group: order[group[0][1].spec.name])
