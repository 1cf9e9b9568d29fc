"""The known systems: those that ship with Nightlog, and those of the user's own folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from nightlog.errors import ConfigError
from nightlog.systems.spec import System


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that was probably meant.

    >>> nearest("pathh", ["path", "delivered"])
    ' (did you mean `path`?)'
    """
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean `{close[0]}`?)" if close else ""


def fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are allowed in the section that a pydantic error location points into."""
    for step in loc[:-1]:
        if isinstance(step, int) or step not in model.model_fields:
            continue
        kinds = [model.model_fields[step].annotation]
        while kinds:
            kind = kinds.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
                break
            kinds.extend(getattr(kind, "__args__", ()))
    return list(model.model_fields)


def explain(error: ValidationError, where: str) -> ConfigError:
    """All of a file's faults in one message, each with its key."""
    faults = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"])) or "file"
        if fault["type"] == "extra_forbidden":
            faults.append(f"unknown key `{key}`{nearest(str(fault['loc'][-1]), fields_at(System, fault['loc']))}")
        else:
            faults.append(f"`{key}`: {fault['msg'].removeprefix('Value error, ')}")
    return ConfigError(f"{where}: " + "; ".join(faults))


def parse_system(text: str, where: str) -> System:
    """Read one system from TOML text. Raises ConfigError with file, key and what was meant."""
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from error
    try:
        return System.model_validate(found)
    except ValidationError as error:
        raise explain(error, where) from error


def system_files(extra: Path | None) -> Iterator[tuple[str, str]]:
    """(where, text) of each system file: shipped ones first, the user's after them."""
    package = files("nightlog")
    for folder in (package / "systems" / "shipped", package / "sample" / "systems"):
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            if entry.name.endswith(".toml"):
                yield entry.name, entry.read_text(encoding="utf-8")
    for path in own_files(extra) if extra is not None else ():
        try:
            yield str(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8: {error.reason} at byte {error.start:,}") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def own_files(folder: Path) -> list[Path]:
    """Return the files of the user's own systems. Raises ConfigError if the folder is missing or unreadable, or has none."""
    todo = "NIGHTLOG_SYSTEMS must name a folder of system files (*.toml); unset it to use the systems that ship with Nightlog"
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except FileNotFoundError:
        raise ConfigError(f"{folder}: no such folder; {todo}") from None
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}; {todo}") from error
    if not found:
        raise ConfigError(f"{folder}: no system file; {todo}")
    return found


def load_catalog(extra: Path | None = None) -> dict[str, System]:
    """Name → system. A user's file replaces a shipped one of the same name."""
    catalog: dict[str, System] = {}
    for where, text in system_files(extra):
        system = parse_system(text, where)
        catalog[system.name] = system
    return catalog


def choose(catalog: Mapping[str, System], names: Iterable[str]) -> list[System]:
    """The named systems, once each, in order. Raises ConfigError with the known names."""
    chosen = []
    for name in dict.fromkeys(names):
        if name not in catalog:
            raise ConfigError(f"no system `{name}`{nearest(name, catalog)}; known: {', '.join(sorted(catalog))}")
        chosen.append(catalog[name])
    return chosen
