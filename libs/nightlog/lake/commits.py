"""Writes of a table, and the one commit that makes them.

A library may report a commit as failed although it is in the table's log: a checkpoint after it failed, or the answer of an object store
was lost. A caller that believed the error would append the rows a second time. So each commit has a name, and the log decides.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from nightlog.errors import CommitUnknown, SchemaMismatch, first_line
from nightlog.lake.delta import PROPERTIES, DeltaTables
from nightlog.lake.parts import Part, Slice, parts_in
from nightlog.lake.schema import delta_schema, in_columns_of
from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties

log = logging.getLogger(__name__)

# The key of a commit's name, in its own entry of the log. Transaction ids would do as well, but stay in the table's state permanently.
MARK = "nightlog_commit"
# More than the commits that others make while one is made.
RECENT_COMMITS = 100


@dataclass(frozen=True)
class Write:
    """Rows or part files for a table.

    With `replaced` they replace all rows with these values. With `merged` they replace the rows with the same key, or only their `update`
    columns, and are added otherwise. Else they are appended.
    """

    spec: TableSpec
    data: pa.Table | tuple[Part, ...]
    replaced: Slice = field(default_factory=dict)
    merged: bool = False
    update: tuple[str, ...] = ()

    @property
    def commit_key(self) -> tuple[Any, ...]:
        """Writes with the same key can share a commit: part files of a table, and rows whose slices differ in the system alone."""
        if isinstance(self.data, tuple):
            return (self.spec.name, "parts")
        same = sorted(
            (name, value if isinstance(value, str) else tuple(value)) for name, value in self.replaced.items() if name != "system"
        )
        return (self.spec.name, self.merged, self.update, bool(self.replaced), tuple(same))


def sql_string(value: str) -> str:
    """Return a string literal of SQL.

    >>> sql_string("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def where(values: Slice) -> str:
    """Return the SQL condition that each named column has its value, or one of its values.

    >>> where({"system": "hdfs", "ds": ["2008-11-09", "2008-11-10"]})
    "system = 'hdfs' and ds in ('2008-11-09', '2008-11-10')"
    """
    return " and ".join(
        f"{name} = {sql_string(value)}" if isinstance(value, str) else f"{name} in ({', '.join(map(sql_string, value))})"
        for name, value in values.items()
    )


def commit_writes(tables: DeltaTables, writes: Sequence[Write]) -> None:
    """Make writes with the same `commit_key` in one commit."""
    import pyarrow as pa

    first = writes[0]
    if isinstance(first.data, tuple):
        commit_parts(tables, first.spec, [(write.data, write.replaced) for write in writes if isinstance(write.data, tuple)])
        return
    rows = pa.concat_tables([write.data for write in writes if not isinstance(write.data, tuple)])
    if first.merged:
        merge_rows(tables, first.spec, rows, first.update)
    else:
        place = dict(first.replaced)
        if "system" in place:
            place["system"] = sorted({name for write in writes for name in values_of(write.replaced["system"])})
        write_rows(tables, first.spec, rows, place)


def values_of(value: str | Sequence[str]) -> Sequence[str]:
    """Return a value of a slice as a list."""
    return [value] if isinstance(value, str) else value


def write_rows(tables: DeltaTables, spec: TableSpec, rows: pa.Table, replaced: Slice) -> None:
    """Append rows, or put them in the place of all rows with the `replaced` values."""
    from deltalake import write_deltalake

    if (there := tables.writable(spec)) is None:
        target, parted = tables.path(spec), list(spec.partition) or None
        make = partial(write_deltalake, target, rows, mode="append", partition_by=parted, configuration=PROPERTIES)
    elif replaced:
        make = partial(write_deltalake, there, in_columns_of(there, rows), mode="overwrite", predicate=where(replaced))
    else:
        make = partial(write_deltalake, there, in_columns_of(there, rows), mode="append")
    commit_once(tables.path(spec), make)


def merge_rows(tables: DeltaTables, spec: TableSpec, rows: pa.Table, update: Sequence[str]) -> None:
    """Insert rows by the table's key or replace those there, with `update` only these columns of them."""
    if (there := tables.writable(spec)) is None:
        write_rows(tables, spec, rows, {})
        return
    same = " and ".join(f"old.{key} = new.{key}" for key in spec.key)
    shaped = in_columns_of(there, rows)

    def make(commit_properties: CommitProperties) -> None:
        merge = there.merge(shaped, same, source_alias="new", target_alias="old", commit_properties=commit_properties)
        merge = merge.when_matched_update({name: f"new.{name}" for name in update}) if update else merge.when_matched_update_all()
        merge.when_not_matched_insert_all().execute()

    commit_once(tables.path(spec), make)


def commit_parts(tables: DeltaTables, spec: TableSpec, slices: Sequence[tuple[Sequence[Part], Slice]]) -> None:
    """Put part files into a table, in the place of all files of their slices; no files clear a slice, no slice appends."""
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

    for parts, place in slices:
        if stray := next((part for part in parts if not part.lies_in(place)), None):
            raise SchemaMismatch(f"{spec.name}: {stray.path} lies outside the slice that it is to replace, {where(place)}")
    parts = [part for of_slice, _ in slices for part in of_slice]
    if (table := tables.writable(spec)) is None:
        DeltaTable.create(tables.path(spec), delta_schema(spec), partition_by=list(spec.partition), configuration=PROPERTIES)
        table = tables.table(spec)
    replaced = [place for _, place in slices if place]
    old = [part for part in parts_in(table, spec, {}) if any(part.lies_in(place) for place in replaced)] if replaced else []
    now = int(time.time() * 1000)
    actions: list[Any] = [
        AddAction(part.path, part.n_bytes, dict(part.partition), now, True, json.dumps({"numRecords": part.n_rows})) for part in parts
    ]
    actions += [RemoveAction(part.path, True, now, part.n_bytes, dict(part.partition)) for part in old]
    if actions:
        make = partial(table.create_write_transaction, actions, "append", delta_schema(spec), list(spec.partition))
        commit_once(tables.path(spec), make)


def commit_once(path: str, make: Callable[..., object]) -> None:
    """Let `make(commit_properties=…)` make one commit to the table at this path.

    Raises its error if the commit is not in the log, and CommitUnknown if the log cannot be read then.
    """
    from deltalake import CommitProperties

    name = uuid.uuid4().hex
    try:
        make(commit_properties=CommitProperties(custom_metadata={MARK: name}))
    except Exception as error:
        try:
            there = is_in_log(path, name)
        except Exception as unread:
            raise CommitUnknown(
                f"{path}: a commit failed ({first_line(error)}), and whether it was made cannot be read ({first_line(unread)}); "
                "run the stage again: it looks first at what is there"
            ) from error
        if not there:
            raise
        log.warning("%s: reported as failed, but the commit is in the table's log: %s", path, first_line(error))


def is_in_log(path: str, name: str) -> bool:
    """Return true if one of the table's last commits has this name."""
    from deltalake import DeltaTable

    return DeltaTable.is_deltatable(path) and any(each.get(MARK) == name for each in DeltaTable(path).history(RECENT_COMMITS))
