"""The columns that tables are made of: their types, those that many tables share, and the declaration of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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
    """One table: `schema.name`, its columns, the key of a row, its partition, and what a row is.

    Columns may be added (nullable ones; fields of nested records too), never changed in type: see nightlog.lake.schema.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ("system", "ds")
    sorted_by: str | None = None
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
