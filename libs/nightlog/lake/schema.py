"""Tables: their declaration by the type of their rows, their types for Delta, Arrow and Spark, and additive schema growth.

A table is declared once, as the `TypedDict` of its rows. Fields are columns, their type is that of the column, and `Annotated` gives the
meaning and the rule that its values are checked by; the docstring is the meaning of a row. Code reads and writes rows of this type, so that
mypy knows each column.

A lake is kept for years, and a later version of Nightlog may know more columns (or more fields of a nested record) than the tables have.
Readers see nulls in them. The first write adds them to the table, in a commit of their own. Any other difference is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from nightlog.errors import SchemaMismatch

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, Field, Schema
    from deltalake.schema import DataType
    from pyspark.sql.types import StructType
    from typing_extensions import TypeVar as TypeVarWithDefault


# Types in the words of Delta's log, which Spark and delta-rs both read: a name, or the parts of a nested type.
Type = str | Mapping[str, Any]
STRING, INT, LONG, FLOAT, DOUBLE, TIME, BOOLEAN = "string", "integer", "long", "float", "double", "timestamp", "boolean"


@dataclass(frozen=True)
class Rule:
    """The values that a column may have; a value that breaks the rule is a breach of this severity. Null breaks it only if `required`.

    `values`: the known ones; `low` and `high`: bounds, of a list those of its length; `not_before`: a column that is not later; `unique`:
    no value occurs twice in a slice.
    """

    required: bool = False
    values: tuple[str | int, ...] = ()
    low: float | None = None
    high: float | None = None
    not_before: str = ""
    unique: bool = False
    severity: Literal["critical", "warning"] = "critical"

    @property
    def expected(self) -> str:
        """The values that are expected, in words.

        >>> Rule(required=True, low=0, high=1).expected, Rule(values=("open", "lost")).expected
        ('a value, 0 to 1', 'one of open, lost')
        """
        bounds = f"at least {self.low:g}" if self.high is None and self.low is not None else f"{self.low} to {self.high}"
        parts = {
            "a value": self.required,
            "each value once": self.unique,
            f"one of {', '.join(map(str, self.values))}": bool(self.values),
            bounds: self.low is not None or self.high is not None,
            f"not before {self.not_before}": bool(self.not_before),
        }
        return ", ".join(text for text, applies in parts.items() if applies)


class Column(NamedTuple):
    """A column: its name, its type, its meaning, and the rule of its values, if there is one."""

    name: str
    type: Type
    meaning: str
    rule: Rule | None = None

    @property
    def is_list(self) -> bool:
        """True if each value is a list."""
        return not isinstance(self.type, str) and self.type["type"] == "array"


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


class StoredAs(NamedTuple):
    """The type of a column, if it is narrower than that of Python's type."""

    type: str


# Narrower numbers, and the columns that many tables have.
Int32 = Annotated[int, StoredAs(INT)]
Float32 = Annotated[float, StoredAs(FLOAT)]
SystemName = Annotated[str, "name of the system"]
Ds = Annotated[str, "the night's day, YYYY-MM-DD"]
LogFile = Annotated[str, "log file, relative to the data folder"]
LineNo = Annotated[int, "line number in the file, from 1"]
RunId = Annotated[str, "the run that wrote the row"]

Note = TypeVar("Note")
# A row of a table, by the names of its columns; bare `TableSpec` is a table of any rows.
if TYPE_CHECKING:
    Row = TypeVarWithDefault("Row", bound=Mapping[str, Any], default=Any)
else:
    Row = TypeVar("Row", bound=Mapping[str, Any])  # a default needs Python 3.13


@dataclass(frozen=True, eq=False)
class TableSpec(Generic[Row]):
    """One table: `schema.name`, its columns, the key of a row, its partition, and the meaning of a row. `table` makes it.

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


def table(
    row: type[Row],
    name: str,
    key: tuple[str, ...],
    partition: tuple[str, ...] = ("system", "ds"),
    sorted_by: str | None = None,
    retention: Literal["bronze", "silver", "gold"] | None = None,
) -> TableSpec[Row]:
    """Return the table of rows of a type, a TypedDict whose fields are annotated; for the other arguments see TableSpec."""
    about = (row.__doc__ or "").removesuffix(".")
    columns = tuple(
        Column(field, column_type(hint), note(hint, str) or "", note(hint, Rule))
        for field, hint in get_type_hints(row, include_extras=True).items()
    )
    return TableSpec(name, columns, key, partition, sorted_by, retention, about[:1].lower() + about[1:])


def column_type(hint: Any) -> Type:
    """Return the type of a column from that of a row's field. Any column may be null, also one whose field does not allow None.

    >>> column_type(dict[str, Int32] | None)["valueType"]
    'integer'
    """
    if get_origin(hint) is Annotated:
        stored = next((each.type for each in hint.__metadata__ if isinstance(each, StoredAs)), None)
        return stored or column_type(hint.__origin__)
    if get_origin(hint) in (Union, UnionType):
        return column_type(next(each for each in get_args(hint) if each is not type(None)))
    if get_origin(hint) is Literal:
        return STRING
    if get_origin(hint) is list:
        return array(column_type(get_args(hint)[0]))
    if get_origin(hint) is dict:
        return mapping(*map(column_type, get_args(hint)))
    if is_typeddict(hint):
        return struct(**{name: column_type(each) for name, each in get_type_hints(hint, include_extras=True).items()})
    return {str: STRING, int: LONG, float: DOUBLE, datetime: TIME, bool: BOOLEAN}[hint]


def note(hint: Any, kind: type[Note]) -> Note | None:
    """Return the note of a kind that a field is annotated with: its meaning (str) or its rule (Rule); None without one.

    >>> note(Annotated[Int32, "rounds", Rule(low=1)], Rule).low
    1
    """
    return next((each for each in hint.__metadata__ if isinstance(each, kind)), None)


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


def rows_table(spec: TableSpec[Row], rows: Iterable[Row]) -> pa.Table:
    """Return rows in the columns and types of the table; columns that a row lacks are null.

    Raises SchemaMismatch if a row has a column that the table does not have, or a value of another type.
    """
    import pyarrow as pa

    names, dicts = set(spec.names), list(rows)
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
