"""The lake: every table is read and written here.

Read: `rows` (dicts), `arrow` (an Arrow table), `dataset` (for DuckDB and lazy scans), `parts` (files for workers), `read` (Spark).
Write: `append`, `replace` a slice, `merge` by the key; each is one commit. A stage writes through a `transaction.Transaction`, a lake whose
writes wait until it commits them, so that the systems of a night share their commits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from nightlog.lake.delta import DeltaTables, Write, commit_writes, sql_condition
from nightlog.lake.parts import Part, Slice, parts_in, write_parts
from nightlog.lake.runner import LOCAL_BYTES, Runner
from nightlog.lake.schema import Row, arrow_schema, rows_table, spark_schema
from nightlog.lake.storage import file_system
from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads
    from pyspark.sql import DataFrame, SparkSession

    from nightlog.lake.locks import Lock

    class ArrowTable(Protocol):
        """Stands for pyarrow.Table, which has no types here: so mypy refuses rows of another type than those of the table."""

        column_names: list[str]

        def __len__(self) -> int: ...

    # Rows of a table, in Python or in Arrow, or part files that workers have written.
    Data: TypeAlias = Sequence[Row] | ArrowTable | Sequence[Part]


class Lake(DeltaTables):
    """The tables under one root folder, and the runner of the work on them.

    Args: spark: a session, or a function that starts one when it is first needed; None if only this process works. local_bytes: see Runner.
    """

    def __init__(self, root: Path | str, spark: SparkSession | Callable[[], SparkSession] | None = None, local_bytes: float = LOCAL_BYTES):
        super().__init__(root)
        self.runner = Runner(spark, local_bytes, None if "://" in self.root else self.root)

    # Read

    def rows(self, spec: TableSpec[Row], columns: list[str] | None = None, **equal: str | Sequence[str]) -> list[Row]:
        """Return the rows with these values; no rows if the table is not there yet. With `columns` a row holds these alone."""
        found: list[Row] = self.arrow(spec, columns, **equal).to_pylist(maps_as_pydicts="strict")
        return found

    def arrow(self, spec: TableSpec, columns: list[str] | None = None, **equal: str | Sequence[str]) -> pa.Table:
        """Return the rows with these values, as an Arrow table; empty if the table is not there yet."""
        import pyarrow.compute as pc

        if not self.exists(spec):
            return arrow_schema(spec).empty_table().select(columns or spec.names)
        condition = None
        for name, value in equal.items():
            # A merge by delta-rs writes strings in a form that Arrow cannot compare in a filter.
            column = pc.field(name) if name in spec.partition else pc.field(name).cast("string")
            same = column == value if isinstance(value, str) else column.isin(list(value))
            condition = same if condition is None else condition & same
        partition = {name: value for name, value in equal.items() if name in spec.partition}
        return self.dataset(spec, **partition).to_table(columns=columns, filter=condition)

    def dataset(self, spec: TableSpec, **partition: str | Sequence[str]) -> pads.Dataset:
        """Return the committed rows for Arrow, DuckDB and Polars, or those of some partitions alone; nothing of them is read yet.

        Arrow's own file system reads it: delta-rs' leaves threads behind that abort a process which ends at once.
        """
        from pyarrow.fs import SubTreeFileSystem

        files, path = file_system(self.path(spec))
        wanted = [(name, "=", value) if isinstance(value, str) else (name, "in", list(value)) for name, value in partition.items()]
        return self.readable(spec).to_pyarrow_dataset(
            filesystem=SubTreeFileSystem(path, files), schema=arrow_schema(spec), file_pruning_predicate=wanted or None
        )

    def parts(self, spec: TableSpec, **partition: str | Sequence[str]) -> list[Part]:
        """Return the files of the partitions with these values, in the order of their paths."""
        return parts_in(self.readable(spec), spec, partition) if self.exists(spec) else []

    def nights(self, spec: TableSpec, system: str) -> set[str]:
        """Return the nights of which a table partitioned by day holds rows of the system."""
        return {dict(part.partition)["ds"] for part in self.parts(spec, system=system)}

    def read(self, spec: TableSpec, **equal: str | Sequence[str]) -> DataFrame:
        """Return the rows with these values for Spark; no rows if the table is not there yet.

        Spark reads the files that delta-rs lists: it does not read the table's log once more, which takes seconds, and columns that a file
        lacks are null.
        """
        schema, spark = spark_schema(spec), self.runner.spark
        parts = self.parts(spec, **{name: value for name, value in equal.items() if name in spec.partition})
        if not parts:
            return spark.createDataFrame([], schema)
        paths = [f"{self.path(spec)}/{part.path}" for part in parts]
        rows = spark.read.schema(schema).option("basePath", self.path(spec)).parquet(*paths).select(*spec.names)
        return rows.where(sql_condition(equal)) if equal else rows

    # Write

    def under(self, lock: Lock) -> Lake:
        """Return this lake for the holder of a lock: each write checks first that it is still held."""
        found = copy.copy(self)
        found.lock = lock
        return found

    def append(self, spec: TableSpec[Row], data: Data[Row]) -> None:
        """Add rows or part files. No rows make no commit."""
        if len(data):
            self.write(Write(spec, in_table_form(spec, data, {})))

    def replace(self, spec: TableSpec[Row], data: Data[Row], **place: str | Sequence[str]) -> None:
        """Put rows or part files in the place of all rows with these values; none clear the slice.

        Columns of the slice that the rows lack get its value. Whole partitions are replaced by part files.
        """
        if not place:
            raise ValueError(f"{spec.name}: name the slice that is replaced")
        written = in_table_form(spec, data, place)
        if not isinstance(written, tuple) and set(place) <= set(spec.partition):
            written = tuple(write_parts(self.root, spec, written))
        self.write(Write(spec, written, place))

    def merge(self, spec: TableSpec[Row], rows: Iterable[Row], update: Sequence[str] = ()) -> None:
        """Insert rows by the table's key or replace those there, with `update` only these columns of them."""
        if len(table := rows_table(spec, rows)):
            self.write(Write(spec, table, merged=True, update=tuple(update)))

    def write(self, write: Write) -> None:
        """Commit a write now. An empty slice of a table that is not there yet needs no commit. Raises LockLost."""
        if self.lock is not None:
            self.lock.check()
        if isinstance(write.data, tuple) or len(write.data) or self.exists(write.spec):
            commit_writes(self, [write])

    def close(self) -> None:
        """End the Spark session, if one was started."""
        self.runner.close()


def in_table_form(spec: TableSpec[Row], data: Any, place: Slice) -> pa.Table | tuple[Part, ...]:
    """Return part files as they are, and rows in the columns of the table; single values of the slice fill columns that they lack."""
    import pyarrow as pa

    fixed = {name: value for name, value in place.items() if isinstance(value, str)}
    if isinstance(data, pa.Table):
        for name, value in fixed.items():
            if name not in data.column_names:
                data = data.append_column(name, pa.array([value] * len(data), pa.string()))
        return data.select(spec.names).cast(arrow_schema(spec))
    if data and isinstance(data[0], Part):
        return tuple(part for part in data if isinstance(part, Part))
    records: list[Any] = [{**fixed, **row} for row in data if not isinstance(row, Part)]
    return rows_table(spec, records)
