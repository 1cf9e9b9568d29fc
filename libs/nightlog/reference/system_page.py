"""`docs/reference/system-toml.md`, from the model that reads a system's file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nightlog.reference.markdown import NOTE, bounds, default_words, markdown_table, type_words
from nightlog.systems.spec import DEFAULT_MASKS, System

HEAD = f"""# A system's file

{NOTE}

One TOML file describes one system. `nightlog try FILE…` proposes it ([how](../how-to/add-a-system.md)); `libs/nightlog/systems/shipped/`
and `libs/nightlog/sample/systems/` have ready ones. An unknown key is refused with the nearest known one. Regular expressions are written
as Python and Java both understand them; one that would take for ever on some line is refused. A key that has no default and is not needed
may be left out.

"""


def system_page() -> str:
    """The page, as Markdown."""
    parts = [HEAD, about("The file itself", System)]
    for key, model, is_list in sections(System):
        parts.append(about(f"`[[{key}]]`" if is_list else f"`[{key}]`", model))
    masks = markdown_table(("mask", "pattern"), [(f"`<{mask.name}>`", f"`{mask.pattern}`") for mask in DEFAULT_MASKS])
    parts.append(f"## Masks that every system has\n\nUnless `default_masks = false`; a system's own come first.\n\n{masks}")
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel], bool]]:
    """(key, model, whether there may be several) of each section."""
    for key, field in model.model_fields.items():
        for kind in kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield key, kind, get_origin(field.annotation) is tuple


def kinds(annotation: Any) -> list[Any]:
    """A type, and the types in it."""
    return [annotation, *(kind for part in get_args(annotation) for kind in kinds(part))]


def about(title: str, model: type[BaseModel]) -> str:
    """One section: what it is, and its keys. Sections are listed by their own headings."""
    inner = {key for key, *_ in sections(model)}
    rows = [key_row(key, field) for key, field in model.model_fields.items() if key not in inner]
    return f"## {title}\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n{markdown_table(('key', 'value', 'default', 'meaning'), rows)}"


def key_row(key: str, field: FieldInfo) -> tuple[str, str, str, str]:
    """A row: key, what it takes, default, meaning."""
    value = ", ".join(part for part in (type_words(field.annotation), bounds(field)) if part)
    default = "needed" if field.is_required() else default_words(field.default) and f"`{json.dumps(field.default)}`"
    return f"`{key}`", value, default, field.description or ""
