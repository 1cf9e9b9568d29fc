"""The columns of a table: their declaration, their types for Delta, Arrow and Spark, and additive schema growth.

A lake is kept for years, and a later version of Nightlog may know more columns (or more fields of a nested record) than the tables have.
Readers see nulls in them. The first write adds them to the table, in a commit of their own. Any other difference is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from nightlog.errors import SchemaMismatch

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, Field, Schema
    from deltalake.schema import DataType
    from pyspark.sql.types import StructType


# Types in the words of Delta's log, which Spark and delta-rs both read: a name, or the parts of a nested type.
Type = str | Mapping[str, Any]
STRING, INT, LONG, FLOAT, DOUBLE, TIME, BOOLEAN = "string", "integer", "long", "float", "double", "timestamp", "boolean"


class Column(NamedTuple):
    """A column: its name, its type, and its meaning."""

    name: str
    type: Type
    meaning: str


def struct(**fields: Type) -> Type:
    """Return the type of a nested record."""
    return {"type": "struct", "fields": [field_json(name, kind) for name, kind in fields.items()]}


def array(element: Type) -> Type:
    """Return the type of a list."""
    return {"type": "array", "elementType": element, "containsNull": True}


def mapping(key: Type, value: Type) -> Type:
    """Return the type of a map."""
    return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}


def field_json(name: str, kind: Type, **metadata: str) -> dict[str, Any]:
    """Return a field as Delta's log describes it."""
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


SYSTEM = Column("system", STRING, "name of the system")
DS = Column("ds", STRING, "the night's day, YYYY-MM-DD")
FILE = Column("file", STRING, "log file, relative to the data folder")
LINE_NO = Column("line_no", LONG, "line number in the file, from 1")
RUN_ID = Column("run_id", STRING, "the run that wrote the row")


@dataclass(frozen=True, eq=False)
class TableSpec:
    """One table: `schema.name`, its columns, the key of a row, its partition, and the meaning of a row.

    Columns may be added (nullable ones; fields of nested records too), never changed in type. `retention`: its nights are dropped after
    `NIGHTLOG_BRONZE_DAYS`, `NIGHTLOG_SILVER_DAYS` or `NIGHTLOG_GOLD_DAYS`; None: nothing is dropped, because its rows belong to no night.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ("system", "ds")
    sorted_by: str | None = None
    retention: Literal["bronze", "silver", "gold"] | None = None
    about: str = ""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def json(self) -> dict[str, Any]:
        """The columns as Delta's log describes them."""
        fields = [field_json(column.name, column.type, comment=column.meaning) for column in self.columns]
        return {"type": "struct", "fields": fields}

    @property
    def path(self) -> str:
        """The table's folder under the lake's root."""
        return self.name.replace(".", "/")


class NamedRow(Protocol):
    """A named tuple whose fields are columns of a table."""

    def _asdict(self) -> dict[str, Any]: ...


Row = Mapping[str, Any] | NamedRow


def row_dict(row: Row) -> Mapping[str, Any]:
    """Return a row by its columns' names."""
    return row if isinstance(row, Mapping) else row._asdict()


@cache
def delta_schema(spec: TableSpec) -> Schema:
    """Return the table's columns in Delta's types, with their meanings."""
    from deltalake import Schema

    return Schema.from_json(json.dumps(spec.json))


@cache
def arrow_schema(spec: TableSpec) -> pa.Schema:
    """Return the table's columns in Arrow's types."""
    import pyarrow as pa

    return pa.schema(delta_schema(spec).to_arrow())


def spark_schema(spec: TableSpec) -> StructType:
    """Return the table's columns in Spark's types."""
    from pyspark.sql.types import StructType

    return StructType.fromJson(spec.json)


def rows_table(spec: TableSpec, rows: Iterable[Row]) -> pa.Table:
    """Return rows in the columns and types of the table; columns that a row lacks are null.

    Raises SchemaMismatch if a row has a column that the table does not have, or a value of another type.
    """
    import pyarrow as pa

    names, dicts = set(spec.names), [row_dict(row) for row in rows]
    if unknown := {name for row in dicts for name in row} - names:
        raise SchemaMismatch(f"{spec.name} has no column {', '.join(sorted(unknown))}; it has {', '.join(spec.names)}")
    try:
        return pa.Table.from_pylist(dicts, arrow_schema(spec))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaMismatch(f"{spec.name}: a value has another type than its column: {error}") from error


def missing_columns(spec: TableSpec, table: DeltaTable) -> list[Field]:
    """Return the columns of the spec that the table lacks, or whose nested records lack a field.

    Raises SchemaMismatch if a column has another type, or if a column of the key or the partition is missing.
    """
    there = {field.name: field.type for field in table.schema().fields}
    missing, refused = [], []
    for field in delta_schema(spec).fields:
        if field.name not in there:
            missing.append(field)
            if field.name in (*spec.key, *spec.partition):
                refused.append(f"lacks {field.name}, which identifies a row")
        elif (wider := is_wider(field.type, there[field.name])) is None:
            refused.append(f"has {field.name} of type {type_name(there[field.name])}, expected {type_name(field.type)}")
        elif wider:
            missing.append(field)
    if refused:
        raise SchemaMismatch(
            f"{spec.name} at {table.table_uri.rstrip('/')} {'; '.join(refused)}. New columns are added by themselves, but a type never "
            "changes: restore the version before (nightlog restore), or move the table away and run its nights again, see "
            "docs/how-to/recover.md"
        )
    return missing


def is_wider(wanted: DataType, there: DataType) -> bool | None:
    """Return true if the wanted type has nested fields that the other lacks, false if it has none, None if the types differ."""
    from deltalake.schema import ArrayType, MapType, StructType

    if isinstance(wanted, StructType) and isinstance(there, StructType):
        known = {field.name: field.type for field in there.fields}
        wider = [field.name not in known or is_wider(field.type, known[field.name]) for field in wanted.fields]
        return None if None in wider else any(wider)
    if isinstance(wanted, ArrayType) and isinstance(there, ArrayType):
        return is_wider(wanted.element_type, there.element_type)
    if isinstance(wanted, MapType) and isinstance(there, MapType):
        key, value = is_wider(wanted.key_type, there.key_type), is_wider(wanted.value_type, there.value_type)
        return None if key is not False or value is None else value
    return False if type_name(wanted) == type_name(there) else None


def type_name(kind: DataType) -> str:
    """Return a type in Delta's words.

    >>> from deltalake.schema import ArrayType, PrimitiveType
    >>> type_name(PrimitiveType("long"))
    'long'
    """
    named = json.loads(kind.to_json())
    return named if isinstance(named, str) else json.dumps(named)


def add_missing_columns(table: DeltaTable, spec: TableSpec) -> None:
    """Add the columns of the spec that the table lacks, in one commit; none if it lacks none. Raises SchemaMismatch."""
    from deltalake.exceptions import DeltaError

    if not (missing := missing_columns(spec, table)):
        return
    try:
        table.alter.add_columns(missing)
    except DeltaError:  # another process may have added them at the same moment
        table.update_incremental()
        if missing_columns(spec, table):
            raise


def in_columns_of(table: DeltaTable, rows: pa.Table) -> pa.Table:
    """Return rows in the columns of a table, with nulls in those that only the table has: a later version of Nightlog has added them.

    The table's own descriptions of its columns are kept: delta-rs refuses rows that describe a column in other words.
    Raises SchemaMismatch if the table lacks a column of the rows.
    """
    import pyarrow as pa

    schema = pa.schema(table.schema().to_arrow())
    if unknown := sorted({*rows.column_names} - {*schema.names}):
        raise SchemaMismatch(f"{table.table_uri.rstrip('/')} has no column {', '.join(unknown)}")
    columns = [
        rows.column(field.name).cast(field.type) if field.name in rows.column_names else pa.nulls(len(rows), field.type) for field in schema
    ]
    return pa.table(columns, schema=schema)
