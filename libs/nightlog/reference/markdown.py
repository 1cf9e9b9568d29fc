"""What the pages share: tables, and types and defaults in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from nightlog.reference.dictionary import cell

NOTE = "This page is generated: `python -m nightlog.reference docs/reference`."
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "text, secret"}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, with an empty line behind it."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows), "", ""])


def type_words(kind: Any) -> str:
    """A type in words.

    >>> type_words(Literal["id", "field"]), type_words(int | None), type_words(tuple[str, ...])
    ('`"id"`, `"field"`', 'whole number', 'list of text')
    """
    inner, parts = get_origin(kind), get_args(kind)
    if inner is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in parts)
    if inner in (Union, UnionType):
        return " or ".join(type_words(part) for part in parts if part is not NoneType)
    if isinstance(inner, type) and issubclass(inner, tuple | list):
        return f"list of {type_words(parts[0])}"
    if isinstance(inner, type) and issubclass(inner, Mapping):
        return "table"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{each.value}`" for each in kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def bounds(field: FieldInfo) -> str:
    """The least and the greatest value that a field takes, empty where there are none."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    found = [(name, getattr(rule, name)) for rule in field.metadata for name in words if getattr(rule, name, None) is not None]
    return ", ".join(f"{words[name]} {limit:,}" for name, limit in found)


def default_words(value: Any) -> str:
    """A default as one would write it; empty where there is none.

    >>> default_words(""), default_words(20), default_words(Path("lake")), default_words(None)
    ('', '`20`', '`lake`', '')
    """
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"
