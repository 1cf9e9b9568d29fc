"""Systems' files and label files, read and checked; the catalogue of systems; the hash of a system's reading rules."""

from __future__ import annotations

import csv
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from nightlog.errors import ConfigError, FormatError, NotThere
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
    """The named systems, once each, in order. Raises NotThere with the known names."""
    chosen = []
    for name in dict.fromkeys(names):
        if name not in catalog:
            raise NotThere(f"no system `{name}`{nearest(name, catalog)}; known: {', '.join(sorted(catalog))}")
        chosen.append(catalog[name])
    return chosen


LABELS = {"0": 0, "1": 1}


def read_label_file(path: Path, system: str) -> dict[str, int]:
    """Session id → 1 anomalous, 0 normal.

    Raises ConfigError where the file or a column is not there; FormatError, with the line, where it is no text, a row is cut, a label is
    neither 0 nor 1, or a session has both.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; the system file of {system} names it under [labels]")
    found: dict[str, int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            columns = rows.fieldnames or []
            if missing := {"session_id", "label"} - set(columns):
                raise ConfigError(f"{path}: no column {', '.join(sorted(missing))}; got {', '.join(columns)}")
            for row in rows:
                session, label = row["session_id"], (row["label"] or "").strip()
                if not session or label not in LABELS:
                    raise FormatError(f"{path}:{rows.line_num}: label `{label[:40]}` of session `{(session or '')[:80]}`; expected 0 or 1")
                if found.setdefault(session, LABELS[label]) != LABELS[label]:
                    raise FormatError(f"{path}:{rows.line_num}: session `{session[:80]}` is labelled 0 and 1; keep one of the lines")
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a CSV file in UTF-8: {error}") from error
    return found


# Raise it when the parser reads the same lines differently.
READING_VERSION = 2


def reading_hash(system: System) -> str:
    """Return 16 hex digits that change when lines of the system would be parsed into other events.

    Covers the header, its variants, records, timestamps, the rules that find a line's session, masks, and templates. `lookback_days` and
    `settle_minutes` only choose the night that judges a session, and gates, signals and the LLM's settings read no line: none of them
    counts.
    """
    rules = system.model_dump(mode="json", include={"header", "record", "timestamp", "templates"})
    rules["session"] = system.session.model_dump(mode="json", include={"kind", "pattern", "field", "window_minutes"})
    rules["variants"] = [each.model_dump(mode="json") for each in system.variants]
    rules["masks"] = [mask.model_dump(mode="json") for mask in system.all_masks]
    return hashlib.sha256(json.dumps([READING_VERSION, rules], sort_keys=True).encode()).hexdigest()[:16]
