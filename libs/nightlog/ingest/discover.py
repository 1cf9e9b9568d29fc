"""The log files of a night: found under the data folder by a system's path, each with the host that delivered it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nightlog.errors import ConfigError, FormatError
from nightlog.ingest.archives import ENDINGS
from nightlog.ingest.objects import object_store, statuses, store_folder, stored_files
from nightlog.outcomes import OutcomeKind
from nightlog.systems.paths import day_in, expression_of, glob_of
from nightlog.systems.spec import System

WILD = re.compile(r"[*?\[]")
PACKED = re.compile(rf"\.(?:{'|'.join(ENDINGS)})$")
# Endings of a name that are no part of a host: a packing, a rotation's number, what an editor or an operator adds to a copy.
ENDING = re.compile(rf"(?:(?:^|\.)(?:{'|'.join(ENDINGS)}|log|txt|json|out|bak|old|orig|copy)|\.\d{{1,4}}|~)$")
# A broken link of such a name was a file, and its name is not that of a log file of the night; any other may have been a folder of them.
FILE_NAME = re.compile(rf"^\.|\.(?:{'|'.join(ENDINGS)}|log|txt|json|out|err|pid|sock|lock)(?:\.|$)")
NO_LOGS = "lost+found"  # of the file system, for root alone


@dataclass(frozen=True)
class LogFile:
    """A log file: path, name in the lake, host (the parts of the path that vary, empty if none does), bytes, time of change."""

    path: Path
    name: str
    host: str = ""
    size: int = 0
    modified_at: datetime | None = None


@dataclass
class Search:
    """Files that match a pattern, in order, and what kept the search from looking at all of them, in words."""

    paths: list[Path] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def data_folder(given: Path) -> Path:
    """Return the folder of log files as a full path, which may be in an object store or in HDFS.

    Raises ConfigError if it is missing, no folder or unreadable; StoreRefused or TransientError if a store refuses or does not answer.
    """
    if (address := object_store(given)) is not None:
        return store_folder(address)
    text = os.fspath(given)
    if found := re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        text = "/" + text[found.end() :].lstrip("/")
    folder = Path(text).resolve()
    todo = "set NIGHTLOG_DATA (--data) to the folder of the log files, or mount it"
    try:
        with os.scandir(folder):
            return folder
    except FileNotFoundError:
        raise ConfigError(f"the data folder {folder} does not exist: {todo}") from None
    except NotADirectoryError:
        raise ConfigError(f"the data folder {folder} is not a folder: {todo}") from None
    except OSError as error:
        raise ConfigError(f"the data folder {folder} cannot be read: {error.strerror}; {todo}") from error


def search(data: Path, pattern: str) -> Search:
    """Find the files under a folder that match a relative glob; `**` is any number of folders, links to folders are followed."""
    found = Search()
    if not data.is_dir():
        return found
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    found.paths = sorted(set(below(data, parts, (identity(data),), found)))
    found.troubles = list(dict.fromkeys(found.troubles))
    return found


def below(folder: Path, parts: list[str], chain: tuple[tuple[int, int], ...], found: Search) -> Iterator[Path]:
    """Yield the files in a folder that match the parts of a pattern. Args: chain: folders on the way here, never entered again."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        yield from below(folder, rest or ["*"], chain, found)
    elif not WILD.search(first):
        yield from matching(folder / first, rest, chain, found, named=True)
        return
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        found.troubles.append(unreadable(folder, error))
        return
    for name in names:
        if first == "**":
            yield from matching(folder / name, parts, chain, found, named=False)
        elif fnmatchcase(name, first):
            yield from matching(folder / name, rest, chain, found, named=not rest)


def matching(path: Path, rest: list[str], chain: tuple[tuple[int, int], ...], found: Search, named: bool) -> Iterator[Path]:
    """Yield the file at a path, or the files below it that match the rest of a pattern. Args: named: the pattern names just this entry."""
    try:
        status = path.stat()
        is_folder, is_file = path.is_dir(), path.is_file()
    except FileNotFoundError:
        if path.is_symlink() and (named or not FILE_NAME.search(path.name)):
            found.troubles.append(f"{name_of(path)} is a broken link to {name_of(path.readlink())}: restore its target or remove it")
        return
    except OSError as error:
        found.troubles.append(unreadable(path, error))
        return
    if not rest:
        if is_file:
            yield path
    elif is_folder and (number := (status.st_dev, status.st_ino)) not in chain and path.name != NO_LOGS:
        yield from below(path, rest, (*chain, number), found)


def identity(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from all others, whatever path leads to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def unreadable(path: Path, error: OSError) -> str:
    """Say why a file or folder cannot be read."""
    return f"{name_of(path)} cannot be read: {error.strerror}; let the user of the job read it, or correct `input.path`"


def readable(text: str) -> str:
    """Return a name of the file system as valid text: bytes that are not UTF-8 as \\xNN.

    >>> readable("shop-\\udcff.log")
    'shop-\\\\xff.log'
    """
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def name_of(path: Path) -> str:
    """Return a path as valid text."""
    return readable(path.as_posix())


def relative(path: Path, data: Path) -> str:
    """Return a file's name in the lake: relative to the data folder, so that a lake can be moved."""
    return name_of(path.relative_to(data) if path.is_relative_to(data) else path)


def search_night(system: System, data: Path, ds: str) -> Search:
    """Find the files of one night of a system."""
    delivered = system.input.delivered
    if delivered is not None and delivered.isoformat() != ds:
        return Search()
    glob = glob_of(system.input.path, ds)
    if object_store(data) is None:
        return search(data, glob)
    pattern = re.compile(expression_of(system.input.path, ds))
    names = stored_files(data, WILD.split(glob)[0].rpartition("/")[0])
    return Search([data / name for name in names if pattern.fullmatch(name)])


def find_files(system: System, data: Path, ds: str) -> list[Path]:
    """Return the files of one night of a system, in the order of their names; no file is not an error here.

    Raises FormatError if some cannot be reached: a link is broken, a folder or a file cannot be read. Fewer files would look like a quiet
    night.
    """
    found = search_night(system, data, ds)
    local = found.paths if object_store(data) is None else []
    troubles = found.troubles + [unreadable(path, error) for path in local if (error := open_error(path)) is not None]
    if troubles:
        more = f"; and {len(troubles) - 3:,} more" if len(troubles) > 3 else ""
        raise FormatError(f"not all files of {system.name} {ds} can be read: {'; '.join(troubles[:3])}{more}")
    return found.paths


def open_error(path: Path) -> OSError | None:
    """Return why a file cannot be opened for reading, None if it can."""
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return error


def find_days(system: System, data: Path) -> list[str]:
    """Return the nights for which the system has files, in order. What cannot be reached is passed over."""
    return search_days(system, data)[0]


def search_days(system: System, data: Path) -> tuple[list[str], list[str]]:
    """Return the nights for which the system has files, in order, and what kept the search from looking at all files."""
    if system.input.delivered is not None:
        ds = system.input.delivered.isoformat()
        found = search_night(system, data, ds)
        return [ds] if found.paths else [], found.troubles
    found = search(data, glob_of(system.input.path))
    days = {day_in(system.input.path, relative(path, data)) for path in found.paths}
    return sorted(day for day in days if day is not None), found.troubles


def present_systems(systems: Sequence[System], data: Path, rows: Iterable[Mapping[str, Any]]) -> list[System]:
    """Return the systems that have files of any day in the data folder, or had input before; all of them if there are none.

    Systems that ship are not the business of a user who has no such logs. One that had input is, even if its files are gone. In an object
    store no file is looked for. Args: rows of gold.nights (system, outcome).
    """
    had_input = {row["system"] for row in rows if row["outcome"] != OutcomeKind.NO_INPUT}
    return [system for system in systems if system.name in had_input or find_days(system, data)] or list(systems)


def log_files(system: System, data: Path, ds: str, paths: list[Path]) -> list[LogFile]:
    """Return files of a night with their names in the lake, hosts, sizes and times of change."""
    pattern = re.compile(expression_of(system.input.path, ds))
    found = []
    for path, (size, changed) in zip(paths, statuses(paths), strict=True):
        name = relative(path, data)
        found.append(LogFile(path, name, host_of(name, pattern), size, changed))
    return found


def host_of(name: str, pattern: re.Pattern[str]) -> str:
    """Return the parts of a file's name that vary, without what packing, rotation and copying add to its end.

    >>> path = re.compile(expression_of("*/app-{ds}*", "2026-03-04"))
    >>> [host_of(f"web1/app-2026-03-04{end}", path) for end in (".log", ".log.1", ".txt.gz", "-b.log")]
    ['web1', 'web1', 'web1', 'web1/b']
    """
    match = pattern.fullmatch(name)
    if match is None:
        return ""
    groups = list(match.groups())
    if groups and match.end(len(groups)) == len(name):
        while groups[-1] and (ending := ENDING.search(groups[-1])):
            groups[-1] = groups[-1][: ending.start()]
    return "/".join(part for group in groups if (part := group.strip("/._-")))
