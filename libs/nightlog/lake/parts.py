"""Part files of a table: workers write and read them beside each other, and one commit puts them into the table.

No reader sees a part before its commit; VACUUM removes the parts of a run that broke off.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from nightlog.lake.schema import arrow_schema, spark_schema
from nightlog.lake.storage import file_system
from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads
    import pyarrow.parquet as pq
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame

# One compression for what lines and events are made of: half the bytes of snappy, and quicker to write (docs/decisions.md).
COMPRESSION, LEVEL = "zstd", 1
ROW_GROUP, SORTED_ROW_GROUP = 1 << 19, 1 << 15
BATCH_ROWS = 2048

# Columns with a value, or one of several values: they select partitions or rows.
Slice = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Part:
    """A written file of a partition: its path under the table's root, its bytes and rows."""

    path: str
    partition: tuple[tuple[str, str], ...]
    n_bytes: int
    n_rows: int

    def lies_in(self, place: Slice) -> bool:
        """Return true if the part's partition has these values."""
        values = dict(self.partition)
        return all(values[name] == value if isinstance(value, str) else values[name] in value for name, value in place.items())


def schema_of(spec: TableSpec) -> pa.Schema:
    """Return the columns of a part file: those of the table without the partition's."""
    import pyarrow as pa

    return pa.schema([field for field in arrow_schema(spec) if field.name not in spec.partition])


def write_part(root: str, spec: TableSpec, rows: pa.Table, **partition: str) -> Part:
    """Write rows (every column of the table except the partition's, in any order) as one file of a partition."""
    import pyarrow.parquet as pq

    schema = schema_of(spec)
    filesystem, base = file_system(root)
    folder = "/".join(f"{name}={partition[name]}" for name in spec.partition)
    path = f"{folder}/part-{uuid.uuid4()}.{COMPRESSION}.parquet"
    whole = f"{base}/{spec.path}/{path}"
    filesystem.create_dir(whole.rsplit("/", 1)[0], recursive=True)
    # Values that repeat are coded by a dictionary, rising numbers are stored as differences, other strings as they are.
    coded = [name for name in rows.column_names if name in ("file", "level", "message_id")]
    rising = {"line_no": "DELTA_BINARY_PACKED"} if "line_no" in rows.column_names else None
    pq.write_table(
        rows.select(schema.names).cast(schema),
        whole,
        filesystem=filesystem,
        compression=COMPRESSION,
        compression_level=LEVEL,
        use_dictionary=coded,
        column_encoding=rising,
        row_group_size=SORTED_ROW_GROUP if spec.sorted_by else ROW_GROUP,
        coerce_timestamps="us",
        store_schema=False,
    )
    return Part(path, tuple((name, partition[name]) for name in spec.partition), filesystem.get_file_info(whole).size, len(rows))


def write_parts(root: str, spec: TableSpec, rows: pa.Table) -> list[Part]:
    """Write rows with all columns of a table, one file per partition."""
    import pyarrow.compute as pc

    written = []
    for values in rows.select(list(spec.partition)).group_by(list(spec.partition)).aggregate([]).to_pylist():
        same = reduce(pc.and_, (pc.equal(rows.column(name), value) for name, value in values.items()))
        written.append(write_part(root, spec, rows.filter(same), **values))
    return written


def write_frame(root: str, spec: TableSpec, rows: DataFrame) -> list[Part]:
    """Let Spark's workers write rows with all columns of a table: one file per task and partition."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        if found := list(batches):
            for part in write_parts(root, spec, pa.Table.from_batches(found)):
                yield pa.RecordBatch.from_pylist([{"part": json.dumps([part.path, part.partition, part.n_bytes, part.n_rows])}])

    shaped = rows.select(*[rows[field.name].cast(field.dataType) for field in spark_schema(spec).fields])
    written = [json.loads(row["part"]) for row in shaped.mapInArrow(write, "part string").collect()]
    return [Part(path, tuple((name, value) for name, value in partition), n_bytes, n_rows) for path, partition, n_bytes, n_rows in written]


def names_hash(parts: Iterable[Part]) -> str:
    """Return 16 hex digits of the names of some parts, in any order; a part that is written again has another name."""
    return hashlib.sha256("\n".join(sorted(part.path for part in parts)).encode()).hexdigest()[:16]


def are_there(root: str, spec: TableSpec, parts: Sequence[Part]) -> bool:
    """Return true if the storage holds all these files in their sizes; no file is opened."""
    filesystem, base = file_system(root)
    found = filesystem.get_file_info([f"{base}/{spec.path}/{part.path}" for part in parts])
    return all(info.is_file and info.size == part.n_bytes for info, part in zip(found, parts, strict=True))


def part_dataset(root: str, spec: TableSpec, path: str) -> pads.Dataset:
    """Return a part file as a dataset; columns that an older file lacks are read as null, those of the partition are not among them."""
    import pyarrow.dataset as pads

    filesystem, base = file_system(root)
    return pads.dataset(f"{base}/{spec.path}/{path}", schema_of(spec), "parquet", filesystem)


def part_batches(root: str, spec: TableSpec, part: Part, columns: Sequence[str], n_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Yield columns of a part file, those of the partition too, in batches of `n_rows`; columns that an older file lacks are null.

    Arrow's own scans hold all nested columns of a file in memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    filesystem, base = file_system(root)
    schema, partition = pa.schema([arrow_schema(spec).field(name) for name in columns]), dict(part.partition)
    with pq.ParquetFile(f"{base}/{spec.path}/{part.path}", filesystem=filesystem) as file:
        stored = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(n_rows, columns=stored):
            rows = [batch[name] if name in stored else pa.repeat(partition.get(name), len(batch)) for name in columns]
            yield pa.RecordBatch.from_arrays([each.cast(field.type) for each, field in zip(rows, schema, strict=True)], schema=schema)


def read_part(root: str, spec: TableSpec, path: str, columns: Sequence[str], between: tuple[str, int, int] | None = None) -> pa.Table:
    """Return some columns of a part file. With `between` (column, from, below) only rows in this range."""
    import pyarrow.compute as pc

    wanted = None
    if between is not None:
        name, low, high = between
        wanted = (pc.field(name) >= low) & (pc.field(name) < high)
    return part_dataset(root, spec, path).to_table(list(columns), wanted, batch_size=ROW_GROUP)


@contextmanager
def open_part(root: str, spec: TableSpec, path: str, coded: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Open a part file, to read it by row groups. Args: coded: columns of strings that are read as dictionaries."""
    import pyarrow.parquet as pq

    filesystem, base = file_system(root)
    whole = f"{base}/{spec.path}/{path}"
    metadata = pq.read_metadata(whole, filesystem=filesystem)
    stored = [name for name in coded if name in metadata.schema.names]
    with pq.ParquetFile(whole, metadata=metadata, filesystem=filesystem, read_dictionary=stored) as file:
        yield file


def read_group(file: pq.ParquetFile, spec: TableSpec, group: int, columns: Sequence[str], coded: Sequence[str] = ()) -> pa.Table:
    """Return some columns of one row group of a part file; columns that an older file lacks are null. Args: coded: as for `open_part`."""
    import pyarrow as pa

    kinds = {name: schema_of(spec).field(name).type for name in columns}
    kinds |= {name: pa.dictionary(pa.int32(), kind) for name, kind in kinds.items() if name in coded}
    rows = file.read_row_group(group, [name for name in columns if name in file.schema_arrow.names], use_threads=False)
    for name in columns:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(len(rows), kinds[name]))
    return rows.select(columns).cast(pa.schema(kinds))


def groups_between(file: pq.ParquetFile, column: str, low: int, high: int) -> list[int]:
    """Return the row groups that may hold a null or a time from `low` to `high`, microseconds since 1970, by the file's statistics."""
    names = [file.schema.column(number).path for number in range(len(file.schema))]
    found = []
    for group in range(file.num_row_groups):
        known = file.metadata.row_group(group).column(names.index(column)).statistics if column in names else None
        is_exact = known is not None and known.has_min_max and known.null_count == 0 and file.schema_arrow.field(column).type.unit == "us"
        if known is None or not is_exact or (known.max_raw >= low and known.min_raw <= high):
            found.append(group)
    return found


def count_nulls(root: str, spec: TableSpec, path: str, columns: Sequence[str]) -> int:
    """Return the number of rows of a part file with a null in one of the columns; no column is read if the file's statistics say it."""
    import pyarrow.compute as pc

    return int(part_dataset(root, spec, path).count_rows(filter=reduce(or_, (pc.field(name).is_null() for name in columns))))


def parts_in(table: DeltaTable, spec: TableSpec, place: Slice) -> list[Part]:
    """Return the files of a table in the partitions with these values, in the order of their paths."""
    from urllib.parse import unquote

    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.table(table.get_add_actions(flatten=True))
    for name, value in place.items():
        wanted = pa.array([value] if isinstance(value, str) else list(value), pa.string())
        rows = rows.filter(pc.is_in(rows.column(f"partition.{name}").cast(pa.string()), wanted))
    found = []
    for row in rows.select(["path", "size_bytes", "num_records", *(f"partition.{name}" for name in spec.partition)]).to_pylist():
        partition = tuple((name, row[f"partition.{name}"]) for name in spec.partition)
        found.append(Part(unquote(row["path"]), partition, row["size_bytes"], row["num_records"] or 0))
    return sorted(found, key=lambda part: part.path)
