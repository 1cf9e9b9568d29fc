"""Reads and writes of the lake: day slices replaced whole, keyed state merged, small tables by delta-rs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from nightlog.errors import SchemaMismatch
from nightlog.lake.files import file_system
from nightlog.lake.idempotent_commit import commit_once
from nightlog.lake.schema_growth import add_missing_columns, delta_schema, in_columns_of, missing_columns
from nightlog.lake.storage_errors import clear_storage_errors
from nightlog.lake.tables import TableSpec
from nightlog.lake.transaction import Rows, Write, commit, pending

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as pads
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)


# Checkpoints forget removed files after this time (Delta's default is a week), and what they have forgotten VACUUM takes for leftovers.
# Longer than any `replay_days`, and just below the 30 days after which Delta's log ends.
PROPERTIES = {"delta.deletedFileRetentionDuration": "interval 29 days"}


def quoted(value: str) -> str:
    """A string literal of SQL.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def where(values: Mapping[str, str | Sequence[str]]) -> str:
    """The SQL condition that each named column has its value, or one of its values.

    >>> where({"system": "hdfs", "ds": ["2008-11-09", "2008-11-10"]})
    "system = 'hdfs' and ds in ('2008-11-09', '2008-11-10')"
    """
    return " and ".join(
        f"{name} = {quoted(value)}" if isinstance(value, str) else f"{name} in ({', '.join(map(quoted, value))})"
        for name, value in values.items()
    )


def lake_root(given: Path | str) -> str:
    """Where a lake lies: a URI as it was meant (a Path has lost one of its slashes), or a folder's full path.

    >>> lake_root(Path("s3://logs/lake")), lake_root(Path("file:///srv/lake/"))
    ('s3://logs/lake', 'file:///srv/lake')
    """
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*?)/*$", str(given))
    if found is None:
        return str(Path(given).resolve())
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}"


class Lake:
    """The tables under one root folder.

    `spark` is a session, or what starts one when it is first needed; None where only delta-rs is used. `in_process`: small work is done
    in this process, see `here`.
    """

    def __init__(self, root: Path | str, spark: SparkSession | Callable[[], SparkSession] | None = None, in_process: bool = True):
        self.root = lake_root(root)
        self.session = spark
        self.in_process = in_process
        self.opened: dict[str, DeltaTable] = {}
        self.gathered: list[Write] | None = None

    @cached_property
    def spark(self) -> SparkSession | None:
        """The Spark session, started if it has to be."""
        return self.session() if callable(self.session) else self.session

    def here(self, amount: int, few: int) -> bool:
        """Whether work of this size is done in this process: starting Spark would take longer, or there is no Spark."""
        return self.session is None or (self.in_process and amount <= few)

    def close(self) -> None:
        """End the session, if one was started and its JVM is still there."""
        started = self.__dict__.get("spark")
        if started is None:
            return
        from py4j.protocol import Py4JError

        try:
            started.stop()
        except (OSError, Py4JError) as error:
            log.warning("Spark could not be asked to stop, its JVM is gone: %s", error)

    @contextmanager
    def gathering(self) -> Iterator[list[Write]]:
        """Within the block small writes and part files are gathered instead of committed; reads see them. The caller commits them, with
        those of others, by `gathered.commit`."""
        self.gathered = found = list[Write]()
        try:
            yield found
        finally:
            self.gathered = None

    def settle(self) -> None:
        """Commit now what has been gathered so far: somebody else is to read it, or it is to be merged with."""
        if self.gathered:
            waiting, self.gathered = self.gathered, None
            try:
                failed = commit(self, [waiting])
                waiting.clear()
            finally:
                self.gathered = waiting
            for error in failed.values():
                raise error

    def path(self, spec: TableSpec) -> str:
        return f"{self.root}/{spec.path}"

    # Spark

    def read(self, spec: TableSpec, **equal: str | Sequence[str]) -> DataFrame:
        """The table's rows where every named column has the given value, or one of them; no rows where the table is not there yet."""
        import pyarrow as pa

        assert self.spark is not None, f"{spec.name} is read by Spark, and this stage has no session"
        self.settle()
        if not self.exists(spec):
            return self.spark.createDataFrame([], spec.schema)
        if missing_columns(spec, table := self.checked(spec)):  # Spark reads as null what a Parquet file lacks, not what a table lacks
            paths = [f"{self.path(spec)}/{unquote(path)}" for path in pa.table(table.get_add_actions()).column("path").to_pylist()]
            if not paths:
                return self.spark.createDataFrame([], spec.schema)
            rows = self.spark.read.schema(spec.schema).option("basePath", self.path(spec)).parquet(*paths)
        else:
            rows = self.spark.read.format("delta").load(self.path(spec))
        rows = rows.select(*spec.schema.names)
        return rows.where(where(equal)) if equal else rows

    def replace_slice(self, spec: TableSpec, rows: DataFrame, **equal: str | Sequence[str]) -> None:
        """Put `rows` in the place of all rows with these values, in one commit. No rows clear the slice."""
        shaped = rows.select(*[rows[field.name].cast(field.dataType).alias(field.name, metadata=field.metadata) for field in spec.columns])
        self.settle()
        writer = shaped.write.format("delta").mode("overwrite").partitionBy(*spec.partition)
        writer = writer.option("replaceWhere", where(equal)) if self.grown(spec) else writer.options(**PROPERTIES)
        writer.save(self.path(spec))

    def append(self, spec: TableSpec, rows: DataFrame) -> None:
        """Add rows of a keyed table that are known to be new."""
        shaped = rows.select(*[rows[field.name].cast(field.dataType).alias(field.name, metadata=field.metadata) for field in spec.columns])
        self.settle()
        writer = shaped.write.format("delta").mode("append").partitionBy(*spec.partition)
        (writer if self.grown(spec) else writer.options(**PROPERTIES)).save(self.path(spec))

    # delta-rs

    @staticmethod
    def frame(rows: DataFrame) -> pd.DataFrame:
        """Rows that are few enough for one machine, as pandas."""
        return cast("pd.DataFrame", rows.toPandas())

    def exists(self, spec: TableSpec) -> bool:
        from deltalake import DeltaTable

        with clear_storage_errors(self.root):
            return spec.name in self.opened or DeltaTable.is_deltatable(self.path(spec))

    def nights(self, spec: TableSpec, system: str) -> set[str]:
        """The nights of which a table partitioned by day holds rows of the system."""
        if pending(self, spec):
            self.settle()
        if not self.exists(spec):
            return set()
        return {found["ds"] for found in self.table(spec).partitions(file_pruning_predicate=[("system", "=", system)])}

    def table(self, spec: TableSpec) -> DeltaTable:
        """The table at its latest version. Opened once; afterwards only the commits since are read, so that a night of many systems does
        not read a log again for each of them."""
        from deltalake import DeltaTable

        with clear_storage_errors(self.root):
            if spec.name not in self.opened:
                self.opened[spec.name] = DeltaTable(self.path(spec))
            else:
                self.opened[spec.name].update_incremental()
        return self.opened[spec.name]

    def checked(self, spec: TableSpec) -> DeltaTable:
        """The table, if its protocol is one that all readers of the lake follow. Raises SchemaMismatch."""
        table = self.table(spec)
        protocol = table.protocol()
        if protocol.min_reader_version > 1:
            raise SchemaMismatch(
                f"{spec.name} at {self.path(spec)} has Delta's reader version {protocol.min_reader_version}, expected 1: another program "
                "has changed it; restore the version before (nightlog restore) or rebuild it, see docs/how-to/recover.md"
            )
        return table

    def grown(self, spec: TableSpec) -> DeltaTable | None:
        """Return the table, ready to be written: it has all columns of its spec. None if it is not there yet. Raises SchemaMismatch."""
        if not self.exists(spec):
            return None
        add_missing_columns(self.table(spec), spec)
        return self.table(spec)

    def rows(self, spec: TableSpec, columns: list[str] | None = None, **equal: str) -> list[dict[str, Any]]:
        """Small results without Spark: the rows with these values, as dicts."""
        found: list[dict[str, Any]] = self.arrow(spec, columns, **equal).to_pylist()
        return found

    def arrow(self, spec: TableSpec, columns: list[str] | None = None, **equal: str) -> pa.Table:
        """As `rows`, as an Arrow table; empty where the table is not there yet."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if waiting := pending(self, spec):
            if all(isinstance(write, Rows) and not write.place for write in waiting):
                gathered, self.gathered = self.gathered, None
                try:
                    before = self.arrow(spec, columns, **equal)
                finally:
                    self.gathered = gathered
                return pa.concat_tables(
                    [before, *(chosen(write.rows, before.schema, equal) for write in waiting if isinstance(write, Rows))]
                )
            self.settle()
        if not self.exists(spec):
            schema = arrow_schema(spec)
            return (schema if columns is None else pa.schema([schema.field(name) for name in columns])).empty_table()
        condition = None
        for name, value in equal.items():
            column = pc.field(name)
            # A merge by delta-rs writes strings in a form that Arrow cannot compare in a filter.
            same = (column if name in spec.partition else column.cast("string")) == value
            condition = same if condition is None else condition & same
        dataset = self.dataset(spec, **{name: value for name, value in equal.items() if name in spec.partition})
        return dataset.to_table(columns=columns, filter=condition)

    def dataset(self, spec: TableSpec, **partition: str) -> pads.Dataset:
        """The table for Arrow, DuckDB and Polars, or the files of some partitions alone. It is read by Arrow's own file system: reads
        through delta-rs' leave threads behind that abort a process which ends at once."""
        from pyarrow.fs import SubTreeFileSystem

        files, path = file_system(self.path(spec))
        wanted = [(name, "=", value) for name, value in partition.items()] or None
        table, schema = self.checked(spec), arrow_schema(spec)
        missing_columns(spec, table)
        return table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(path, files), schema=schema, file_pruning_predicate=wanted)

    def put(self, spec: TableSpec, rows: list[dict[str, Any]], **replace: str | Sequence[str]) -> None:
        """Write small rows in one commit: appended, or in the place of all rows with the `replace` values."""
        if rows or (replace and self.exists(spec)):
            self.put_arrow(spec, arrow_table(spec, rows), **replace)

    def put_arrow(self, spec: TableSpec, rows: pa.Table, **replace: str | Sequence[str]) -> None:
        """As `put`, rows with all columns of the table, in any order."""
        table = rows.select(spec.schema.names).cast(arrow_schema(spec))
        if self.gathered is not None:
            self.gathered.append(Rows(spec, table, replace))
        else:
            self.write_rows(spec, table, **replace)

    def write_rows(self, spec: TableSpec, table: pa.Table, **replace: str | Sequence[str]) -> None:
        """`put_arrow` without waiting for others. Args: table, in the columns and types of the table."""
        from deltalake import CommitProperties, write_deltalake

        if (there := self.grown(spec)) is not None:
            table = in_columns_of(there, table)

        def write(named: CommitProperties) -> None:
            if replace and there is not None:
                write_deltalake(there, table, mode="overwrite", predicate=where(replace), commit_properties=named)
            else:
                place, parted = there or self.path(spec), list(spec.partition) or None
                write_deltalake(place, table, mode="append", partition_by=parted, configuration=PROPERTIES, commit_properties=named)

        commit_once(self.path(spec), write)

    def upsert(self, spec: TableSpec, rows: list[dict[str, Any]], update: Iterable[str] = ()) -> None:
        """Insert small rows by the table's key or replace those there, in one commit; with `update` only these columns of them."""
        self.settle()
        if (there := self.grown(spec)) is None:
            return self.write_rows(spec, arrow_table(spec, rows)) if rows else None
        merge = there.merge(
            in_columns_of(there, arrow_table(spec, rows)),
            " and ".join(f"old.{key} = new.{key}" for key in spec.key),
            source_alias="new",
            target_alias="old",
        )
        changed = {name: f"new.{name}" for name in update}
        merge = merge.when_matched_update(changed) if changed else merge.when_matched_update_all()
        merge.when_not_matched_insert_all().execute()
        return None


def chosen(rows: pa.Table, schema: pa.Schema, equal: Mapping[str, str]) -> pa.Table:
    """The rows with these values, in the columns and types of a schema."""
    import pyarrow.compute as pc

    for name, value in equal.items():
        rows = rows.filter(pc.equal(rows.column(name).cast("string"), value))
    return rows.select(schema.names).cast(schema)


def arrow_schema(spec: TableSpec) -> pa.Schema:
    """The table's columns in Arrow's types."""
    import pyarrow as pa

    return pa.schema(delta_schema(spec).to_arrow())


def arrow_table(spec: TableSpec, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows in the types of the table; columns that a row lacks are null."""
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=arrow_schema(spec))
