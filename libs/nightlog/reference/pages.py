"""The pages of docs/reference, from the application, the settings and the model of a system's file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from nightlog.reference.dictionary import cell
from nightlog.settings import Settings
from nightlog.systems.spec import DEFAULT_MASKS, System

NOTE = "This page is generated: `python -m nightlog.reference docs/reference`."
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "text, secret"}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, followed by an empty line."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows), "", ""])


def type_words(kind: Any) -> str:
    """Return a type in words.

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
    """Return the least and the greatest value of a field, in words; empty if it has no bounds."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    found = [(name, getattr(rule, name)) for rule in field.metadata for name in words if getattr(rule, name, None) is not None]
    return ", ".join(f"{words[name]} {limit:,}" for name, limit in found)


def default_words(value: Any) -> str:
    """Return a default as a user would write it; empty if there is none.

    >>> default_words(""), default_words(20), default_words(Path("lake")), default_words(None)
    ('', '`20`', '`lake`', '')
    """
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


EXAMPLE = "Example: "
CLI_HEAD = f"""# The command line

{NOTE}

`nightlog COMMAND --help` prints the same on the terminal. `nightlog --install-completion` adds the names to the shell. Rows are printed as
a table, or with `--format json` and `--format csv` as data. In CSV an apostrophe stands before text that a spreadsheet would take for a
formula. Options that are not given come from environment variables ([settings](settings.md)). `--system` takes names of systems; the
setting `NIGHTLOG_SYSTEMS` is the folder of their files. Former names still work: `nightlog answer` for `label`, `--systems` for `--system`.

## Exit codes

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | `replay`: the verdict is different now; `doctor`: something is an error |
| 2 | wrong usage: an option, a day or a query that is not valid, or options that exclude each other |
| 4 | not there: an unknown system, session, group, table or file, a night that was never run or had no input |
| 10 | a quality gate held a system back; `nightlog approve` publishes it |
| 20 | transient: try again |
| 30 | configuration or permanent error; input that was due is missing |
| 40 | incomplete: published, but nobody judged some sessions |

One system that fails never stops the others; a run has the code of its worst outcome. Commands that read a night (`anomalies`, `signals`,
`compare`, `report`, `show`, `questions`) end with the night's code. Rows go to standard output, messages about the night to standard error.
[Reliability](../reliability.md) lists every situation with its exit code.

"""


def commands_page() -> str:
    """Return the page, as Markdown."""
    commands = registered()
    listed = markdown_table(
        ("command", "what it does"), [(f"[`{name}`](#nightlog-{name})", first_line(command.help)) for name, command in commands.items()]
    )
    return CLI_HEAD + listed + "\n".join(section(name, command) for name, command in commands.items())


def registered() -> dict[str, Any]:
    """Return name → command, in the order of `nightlog --help`."""
    from typer.main import get_command

    import nightlog.cli  # noqa: F401  # registers the commands
    from nightlog.cli.app import app

    group: Any = get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


def first_line(text: str) -> str:
    """Return the first line of a help text."""
    return text.strip().splitlines()[0]


def examples(text: str) -> list[str]:
    """Return the example command lines in a help text.

    >>> examples("Do it.\\n\\nExample: nightlog do\\n\\nExample: nightlog do --fast")
    ['nightlog do', 'nightlog do --fast']
    """
    return [line.strip().removeprefix(EXAMPLE) for line in text.splitlines() if line.strip().startswith(EXAMPLE)]


def section(name: str, command: Any) -> str:
    """Return the section of one command: help, examples, arguments and options."""
    lines = [line for line in command.help.strip().splitlines() if not line.strip().startswith(EXAMPLE)]
    about = "\n".join(lines).strip()
    while "\n\n\n" in about:
        about = about.replace("\n\n\n", "\n\n")
    shown = "\n".join(examples(command.help))
    rows = [parameter(each) for each in command.params]
    table = markdown_table(("argument or option", "value", "default", "meaning"), rows) if rows else ""
    return f"## nightlog {name}\n\n{about}\n\n```\n{shown}\n```\n\n{table}"


def parameter(found: Any) -> tuple[str, str, str, str]:
    """Return a row for an argument or option: name, value, default, meaning."""
    is_option = found.opts[0].startswith("-")
    names = ", ".join(f"`{name}`" for name in found.opts) if is_option else f"`{found.name.upper()}`"
    value = "" if getattr(found, "is_flag", False) else type_words(found.type_descriptor.annotation)
    default = "needed" if found.required else "" if getattr(found, "is_flag", False) else default_words(found.default)
    return names, value, default, found.help or ""


SETTINGS_HEAD = f"""# Settings

{NOTE}

Settings come from environment variables, or from the file `nightlog.toml` in the working folder (or where `NIGHTLOG_CONFIG` says). The
environment goes before the file, options of a command (`--lake`, `--data`, `--master`) before both. In the file a setting has the name
of its variable in small letters, without `NIGHTLOG_`: `lake = "/srv/nightlog/lake"`. A relative path begins at the file's folder. An
unknown key is refused. `nightlog init` writes such a file with every setting commented out, and `nightlog doctor` shows where each value
came from. Secrets belong into the environment; they are never printed, logged or stored.

"""

SETTINGS_TAIL = """## Of Airflow's tasks alone

| variable | default | meaning |
|---|---|---|
| `NIGHTLOG_HOME` | the folder above `dags/` | the repository with its `.venv`, or `share/nightlog` of an environment with the wheel |
| `NIGHTLOG_STAGE_TIMEOUT_S` | `14400` | a stage that takes longer is ended with its children, and tried again |
| `NIGHTLOG_RETRY_DELAY_S` | `60` | the first pause before another try; each later one is twice as long |

All other variables of the worker's environment reach the programs as they are.
"""


def settings_page() -> str:
    """Return the page, as Markdown."""
    rows = []
    prefix = str(Settings.model_config.get("env_prefix", ""))
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"{prefix}{name}".upper())
        value = ", ".join(part for part in (type_words(field.annotation), bounds(field)) if part)
        rows.append((f"`{variable}`", value, default_words(field.default), field.description or ""))
    return SETTINGS_HEAD + markdown_table(("variable", "value", "default", "meaning"), rows) + SETTINGS_TAIL


SYSTEM_HEAD = f"""# A system's file

{NOTE}

One TOML file describes one system. `nightlog try FILE…` proposes it ([how](../how-to/add-a-system.md)); `libs/nightlog/systems/shipped/`
and `libs/nightlog/sample/systems/` have ready ones. An unknown key is refused with the nearest known one. Regular expressions are written
as Python and Java both understand them; one that would never end on some line is refused. A key that has no default and is not needed
may be left out.

"""


def system_page() -> str:
    """Return the page, as Markdown."""
    parts = [SYSTEM_HEAD, about("The file itself", System)]
    for key, model, is_list in sections(System):
        parts.append(about(f"`[[{key}]]`" if is_list else f"`[{key}]`", model))
    masks = markdown_table(("mask", "pattern"), [(f"`<{mask.name}>`", f"`{mask.pattern}`") for mask in DEFAULT_MASKS])
    parts.append(f"## Masks that every system has\n\nUnless `default_masks = false`; a system's own come first.\n\n{masks}")
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel], bool]]:
    """Yield (key, model, is_list) of each section."""
    for key, field in model.model_fields.items():
        for kind in kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield key, kind, get_origin(field.annotation) is tuple


def kinds(annotation: Any) -> list[Any]:
    """Return a type, and the types in it."""
    return [annotation, *(kind for part in get_args(annotation) for kind in kinds(part))]


def about(title: str, model: type[BaseModel]) -> str:
    """Return one section of the file with its keys; sections in it have their own headings."""
    inner = {key for key, *_ in sections(model)}
    rows = [key_row(key, field) for key, field in model.model_fields.items() if key not in inner]
    return f"## {title}\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n{markdown_table(('key', 'value', 'default', 'meaning'), rows)}"


def key_row(key: str, field: FieldInfo) -> tuple[str, str, str, str]:
    """Return a row for a key: key, value, default, meaning."""
    value = ", ".join(part for part in (type_words(field.annotation), bounds(field)) if part)
    default = "needed" if field.is_required() else default_words(field.default) and f"`{json.dumps(field.default)}`"
    return f"`{key}`", value, default, field.description or ""


PAGES: dict[str, Callable[[], str]] = {"cli.md": commands_page, "system-toml.md": system_page, "settings.md": settings_page}
