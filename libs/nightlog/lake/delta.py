"""The Delta tables under one root, and the commits to them.

A library may report a commit as failed although it is in the table's log: a checkpoint after it failed, or the answer of an object store
was lost. A caller that believed the error would append the rows a second time. So each commit has a name, and the log decides.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightlog.errors import CommitUnknown, SchemaMismatch, first_line
from nightlog.lake.parts import Part, Slice, parts_in
from nightlog.lake.schema import add_missing_columns, delta_schema, in_columns_of, missing_columns
from nightlog.lake.storage import clear_storage_errors
from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable

    from nightlog.lake.locks import Lock


# Checkpoints forget removed files after this time (Delta's default is a week), and VACUUM takes forgotten files for leftovers. It is longer
# than any `replay_days`, and just below the 30 days after which Delta's log ends.
PROPERTIES = {"delta.deletedFileRetentionDuration": "interval 29 days"}


def lake_root(given: Path | str) -> str:
    """Return the root of a lake: a URI (a Path has lost one of its slashes), or a folder's full path.

    >>> lake_root(Path("s3://logs/lake")), lake_root(Path("file:///srv/lake/"))
    ('s3://logs/lake', 'file:///srv/lake')
    """
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*?)/*$", str(given))
    if found is None:
        return str(Path(given).resolve())
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}"


class DeltaTables:
    """The tables under a root: a folder or the URI of an object store. `lock`, if there is one, must be held at each commit."""

    def __init__(self, root: Path | str):
        self.root = lake_root(root)
        self.opened: dict[str, DeltaTable] = {}
        self.lock: Lock | None = None

    def path(self, spec: TableSpec) -> str:
        """Return the folder or the URI of a table."""
        return f"{self.root}/{spec.path}"

    def exists(self, spec: TableSpec) -> bool:
        """Return true if the table is there."""
        from deltalake import DeltaTable

        with clear_storage_errors(self.root):
            return spec.name in self.opened or DeltaTable.is_deltatable(self.path(spec))

    def table(self, spec: TableSpec) -> DeltaTable:
        """Return the table at its latest version.

        It is opened once; afterwards only new commits are read, so that a night of many systems does not read a log again for each of them.
        """
        from deltalake import DeltaTable

        with clear_storage_errors(self.root):
            if spec.name not in self.opened:
                self.opened[spec.name] = DeltaTable(self.path(spec))
            else:
                self.opened[spec.name].update_incremental()
        return self.opened[spec.name]

    def readable(self, spec: TableSpec) -> DeltaTable:
        """Return the table, to be read in the columns of its spec. Raises SchemaMismatch if a column or the protocol is another one."""
        table = self.table(spec)
        protocol = table.protocol()
        if protocol.min_reader_version > 1:
            raise SchemaMismatch(
                f"{spec.name} at {self.path(spec)} has Delta's reader version {protocol.min_reader_version}, expected 1: another program "
                "has changed it; restore the version before (nightlog restore) or rebuild it, see docs/how-to/recover.md"
            )
        missing_columns(spec, table)
        return table

    def writable(self, spec: TableSpec) -> DeltaTable | None:
        """Return the table with all columns of its spec, to be written. None if it is not there yet. Raises SchemaMismatch."""
        if not self.exists(spec):
            return None
        add_missing_columns(self.table(spec), spec)
        return self.table(spec)


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


def sql_condition(values: Slice) -> str:
    """Return the SQL condition that each named column has its value, or one of its values.

    >>> sql_condition({"system": "hdfs", "ds": ["2008-11-09", "2008-11-10"]})
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
    """Append rows, or replace all rows with the `replaced` values by them."""
    from deltalake import write_deltalake

    if (there := tables.writable(spec)) is None:
        target, parted = tables.path(spec), list(spec.partition) or None
        make = partial(write_deltalake, target, rows, mode="append", partition_by=parted, configuration=PROPERTIES)
    elif replaced:
        make = partial(write_deltalake, there, in_columns_of(there, rows), mode="overwrite", predicate=sql_condition(replaced))
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
    """Put part files into a table instead of all files of their slices; no files clear a slice, no slice appends."""
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

    for parts, place in slices:
        if stray := next((part for part in parts if not part.lies_in(place)), None):
            raise SchemaMismatch(f"{spec.name}: {stray.path} lies outside the slice that it is to replace, {sql_condition(place)}")
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
