"""Part files of a table that workers write beside each other, and the one commit that puts them in the place of a slice.

Nothing is seen of a part before its commit; parts of a run that broke off are removed by VACUUM.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightlog.lake.files import file_system
from nightlog.lake.idempotent_commit import commit_once
from nightlog.lake.lake import PROPERTIES, Lake, arrow_schema
from nightlog.lake.schema_growth import delta_schema
from nightlog.lake.tables import TableSpec
from nightlog.lake.transaction import Parts, pending

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

# One compression for what lines and events are made of: half the bytes of snappy, and quicker to write (docs/decisions.md).
COMPRESSION, LEVEL = "zstd", 1
ROW_GROUP, SORTED_ROW_GROUP = 1 << 19, 1 << 15


@dataclass(frozen=True)
class Part:
    """A written file of a partition: its path under the table's root, its bytes and rows."""

    path: str
    partition: tuple[tuple[str, str], ...]
    n_bytes: int
    n_rows: int


def schema_of(spec: TableSpec) -> pa.Schema:
    """The columns of a part file: those of the table without the partition's."""
    import pyarrow as pa

    return pa.schema([field for field in arrow_schema(spec) if field.name not in spec.partition])


def write_part(root: str, spec: TableSpec, rows: pa.Table, **partition: str) -> Part:
    """Write rows (every column of the table but the partition's, in any order) as one file of a partition."""
    import pyarrow.parquet as pq

    schema = schema_of(spec)
    filesystem, base = file_system(root)
    place = "/".join(f"{name}={partition[name]}" for name in spec.partition)
    path = f"{place}/part-{uuid.uuid4()}.{COMPRESSION}.parquet"
    whole = f"{base}/{spec.path}/{path}"
    filesystem.create_dir(whole.rsplit("/", 1)[0], recursive=True)
    # What repeats is coded by a dictionary; numbers that rise are stored as differences; other strings as they are.
    coded = [name for name in rows.column_names if name in ("file", "level", "message_id")]
    rising = {"line_no": "DELTA_BINARY_PACKED"} if "line_no" in rows.column_names else None
    shaped = rows.select(schema.names).cast(schema)
    pq.write_table(
        shaped,
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


def read_part(root: str, spec: TableSpec, path: str, columns: Sequence[str], between: tuple[str, int, int] | None = None) -> pa.Table:
    """Some columns of a part file; the partition's are not among them. With `between` (column, from, below) only rows in this range."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    filesystem, base = file_system(root)
    shape = pa.schema([arrow_schema(spec).field(name) for name in columns])
    wanted = None
    if between is not None:
        name, low, high = between
        wanted = (pc.field(name) >= low) & (pc.field(name) < high)
    known = schema_of(spec)  # what an older file lacks is read as null
    return pads.dataset(f"{base}/{spec.path}/{path}", known, "parquet", filesystem).to_table(list(columns), wanted).cast(shape)


def count_nulls(root: str, spec: TableSpec, path: str, columns: Sequence[str]) -> int:
    """Return the number of rows of a part file with a null in one of the columns; no column is read if the file's statistics say it."""
    from functools import reduce
    from operator import or_

    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    filesystem, base = file_system(root)
    rows = pads.dataset(f"{base}/{spec.path}/{path}", filesystem=filesystem, format="parquet")
    return int(rows.count_rows(filter=reduce(or_, (pc.field(name).is_null() for name in columns))))


def parts_of(lake: Lake, spec: TableSpec, **equal: str | Sequence[str]) -> list[Part]:
    """The files of the partitions with these values, committed or gathered, in the order of their paths."""
    found = committed(lake, spec, **equal)
    for write in pending(lake, spec):
        if isinstance(write, Parts):
            found = [part for part in found if not lies_in(part, write.place)]
            found += [part for part in write.parts if lies_in(part, equal)]
    return sorted(found, key=lambda part: part.path)


def read_parts(lake: Lake, spec: TableSpec, **equal: str | Sequence[str]) -> DataFrame:
    """The rows of the files of `parts_of`, for Spark, without its reading the table's log once more, which takes seconds."""
    assert lake.spark is not None, f"{spec.name} is read by Spark, and this stage has no session"
    paths = [f"{lake.path(spec)}/{part.path}" for part in parts_of(lake, spec, **equal)]
    if not paths:
        return lake.spark.createDataFrame([], spec.schema)
    return lake.spark.read.schema(spec.schema).option("basePath", lake.path(spec)).parquet(*paths).select(*spec.schema.names)


def lies_in(part: Part, place: Mapping[str, str | Sequence[str]]) -> bool:
    """Whether a part's partition has these values, or one of them."""
    of = dict(part.partition)
    return all(of[name] == value if isinstance(value, str) else of[name] in value for name, value in place.items())


def committed(lake: Lake, spec: TableSpec, **equal: str | Sequence[str]) -> list[Part]:
    """The committed files of the partitions with these values."""
    from urllib.parse import unquote

    import pyarrow as pa
    import pyarrow.compute as pc

    if not lake.exists(spec):
        return []
    rows = pa.table(lake.checked(spec).get_add_actions(flatten=True))
    for name, value in equal.items():
        wanted = pa.array([value] if isinstance(value, str) else list(value), pa.string())
        rows = rows.filter(pc.is_in(rows.column(f"partition.{name}").cast(pa.string()), wanted))
    found = []
    for row in rows.select(["path", "size_bytes", "num_records", *(f"partition.{name}" for name in spec.partition)]).to_pylist():
        partition = tuple((name, row[f"partition.{name}"]) for name in spec.partition)
        found.append(Part(unquote(row["path"]), partition, row["size_bytes"], row["num_records"] or 0))
    return sorted(found, key=lambda part: part.path)


def commit_parts(lake: Lake, spec: TableSpec, parts: Sequence[Part], **equal: str | Sequence[str]) -> None:
    """Put the parts in the place of all files of the partitions with these values, in one commit. No parts clear the slice."""
    if lake.gathered is not None:
        lake.gathered.append(Parts(spec, tuple(parts), equal))
    else:
        commit_slices(lake, spec, [(parts, equal)])


def commit_slices(lake: Lake, spec: TableSpec, slices: Sequence[tuple[Sequence[Part], Mapping[str, str | Sequence[str]]]]) -> None:
    """As `commit_parts`, for slices of several systems in one commit."""
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

    schema = delta_schema(spec)
    parts = [part for of_slice, _ in slices for part in of_slice]
    old = [part for part in committed(lake, spec) if any(lies_in(part, place) for _, place in slices)]
    if lake.grown(spec) is None:
        DeltaTable.create(lake.path(spec), schema, partition_by=list(spec.partition), configuration=PROPERTIES)
    now = int(time.time() * 1000)
    actions: list[Any] = [
        AddAction(part.path, part.n_bytes, dict(part.partition), now, True, json.dumps({"numRecords": part.n_rows})) for part in parts
    ]
    actions += [RemoveAction(part.path, True, now, part.n_bytes, dict(part.partition)) for part in old]
    if actions:
        table, parted = lake.table(spec), list(spec.partition)
        commit_once(
            lake.path(spec), lambda named: table.create_write_transaction(actions, "append", schema, parted, commit_properties=named)
        )


def replace_rows(lake: Lake, spec: TableSpec, rows: Sequence[dict[str, Any]], **place: str) -> None:
    """Put rows, few enough for one machine, in the place of a partition, in one commit; columns that a row lacks are null."""
    import pyarrow as pa

    parts = [write_part(lake.root, spec, pa.Table.from_pylist(list(rows), schema_of(spec)), **place)] if rows else []
    commit_parts(lake, spec, parts, **place)
