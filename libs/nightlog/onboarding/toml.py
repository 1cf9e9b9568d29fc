"""A proposed system as the text of its TOML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

WHY = {
    "input": "where a night's files lie, under the data folder",
    "record": "records span lines: a line that begins like this begins one",
    "header": "how a record is split; `message` is what gets parsed",
    "timestamp": "put together from fields of the header; Spark's datetime pattern",
    "variants": "other forms of records in the same files",
    "gates": "lines inside of a record look like anything: 1 switches the check of joined lines off",
    "session": "what belongs together",
    "masks": "text that is replaced before templates are mined",
}


def quoted(text: str) -> str:
    """A string of TOML, as literal as it can be.

    >>> quoted("a\\\\d"), quoted("it's")
    ("'a\\\\d'", '"it\\'s"')
    """
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text) or "'" in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'
    return f"'{text}'" if "\\" in text or '"' in text else f'"{text}"'


def value_of(value: Any) -> str:
    """A value of TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | int):
        return str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {value_of(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(value_of, value)) + "]"
    return quoted(str(value))


def to_toml(sections: Mapping[str, Any]) -> str:
    """The file's text: plain keys first, then a table for each section."""
    head = [f"{key} = {value_of(value)}" for key, value in sections.items() if not isinstance(value, dict | list)]
    parts = ["\n".join(head)]
    for name, section in sections.items():
        if isinstance(section, list):
            parts += [table(f"[[{name}]]", each, WHY.get(name, "") if number == 0 else "") for number, each in enumerate(section)]
        elif isinstance(section, dict):
            parts.append(table(f"[{name}]", {k: v for k, v in section.items() if not isinstance(v, dict)}, WHY.get(name, "")))
            parts += [table(f"[{name}.{k}]", v, "") for k, v in section.items() if isinstance(v, dict)]
    return "\n\n".join(parts) + "\n"


def table(head: str, entries: Mapping[str, Any], why: str) -> str:
    """A table with its reason as a comment."""
    return "\n".join([*([f"# {why}"] if why else []), head, *(f"{key} = {value_of(value)}" for key, value in entries.items())])
