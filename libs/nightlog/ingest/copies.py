"""Files that were delivered twice: a file of the same host with the same content, or with the first part of it, is read once.

Two hosts may log the same lines, so files are compared only within a host, see `discover.host_of`. A link to a file that is also found by
itself is a copy, whatever its host.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from nightlog.ingest.archives import BROKEN, unpacked
from nightlog.ingest.discover import PACKED, LogFile
from nightlog.ingest.objects import open_log

BLOCK = 1 << 20
HEAD = 1 << 12  # bytes; files whose first bytes differ are not compared any further

Relation = Literal["other", "same", "longer", "shorter"]


def find_copies(files: Iterable[LogFile], timed: bool) -> dict[LogFile, LogFile]:
    """Return copy → the file that is read instead of it.

    Args: timed: lines carry their time. If they do not, only files of the same name, packed or not, are compared: two parts of a log may
    well say the same.
    """
    found: dict[LogFile, LogFile] = {}
    groups: dict[tuple[str, str], list[LogFile]] = {}
    for file in without_links(files, found):
        groups.setdefault((file.host, "" if timed else PACKED.sub("", file.name)), []).append(file)
    for group in groups.values():
        if len(group) > 1:
            add_copies(group, found)
    return {copy: kept_of(copy, found) for copy in found}


def without_links(files: Iterable[LogFile], found: dict[LogFile, LogFile]) -> list[LogFile]:
    """Return one file for each real file, the one that no link leads to if there is one; note the others."""
    real: dict[str, list[LogFile]] = {}
    for file in files:
        real.setdefault(os.path.realpath(file.path), []).append(file)
    kept = []
    for path, same in real.items():
        first = next((file for file in same if os.fspath(file.path) == path), same[0])
        found |= {file: first for file in same if file != first}
        kept.append(first)
    return kept


def add_copies(group: list[LogFile], found: dict[LogFile, LogFile]) -> None:
    """Compare the files of a host, and note those that are copies.

    In the order of their first bytes, a file stands behind all whose first bytes it begins with: only these are compared with it.
    """
    heads = sorted(((next(content(file.path, HEAD), b""), place) for place, file in enumerate(group)))
    alike: list[tuple[bytes, LogFile]] = []
    for head, place in heads:
        file = group[place]
        while alike and not head.startswith(alike[-1][0]):
            alike.pop()
        for number, (start, before) in enumerate(alike):
            relation = compare(before.path, file.path)
            if relation in ("same", "longer"):
                found[file] = before
                break
            if relation == "shorter":
                found[before] = file
                alike[number] = start, file
                break
        else:
            if head:
                alike.append((head, file))


def kept_of(copy: LogFile, found: dict[LogFile, LogFile]) -> LogFile:
    """Return the file that is read instead of a copy, over copies of copies."""
    while copy in found:
        copy = found[copy]
    return copy


def content(path: Path, block: int = BLOCK) -> Iterator[bytes]:
    """Yield the content of a file, unpacked, in blocks of `block` bytes, the last one shorter; it ends at the first damage."""
    try:
        with open_log(path) as raw:
            file = unpacked(path, raw)
            while data := file.read(block):
                yield data
    except BROKEN:
        yield b"\0damaged"  # no file's damage is like another's content: reading it for good reports it


def compare(first: Path, second: Path) -> Relation:
    """Compare two files, unpacked: the first has the "same" content, is "longer" (it begins with the second), "shorter", or "other"."""
    one, two = content(first), content(second)
    while True:
        a, b = next(one, b""), next(two, b"")
        if a == b:
            if not a:
                return "same"
            continue
        if a.startswith(b) and not next(two, b""):
            return "longer"
        return "shorter" if b.startswith(a) and not next(one, b"") else "other"
