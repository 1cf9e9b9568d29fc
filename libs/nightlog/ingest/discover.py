"""The day's log files of a system: which they are, which are copies of others, and their names in the lake."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from nightlog.ingest.splits import BROKEN, OPENERS
from nightlog.systems.spec import System

DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"


def find_files(system: System, data: Path, ds: str) -> list[Path]:
    """The files that hold the system's lines of one night, in order of their names; none is not an error here."""
    delivered = system.input.delivered
    if delivered is not None and delivered.isoformat() != ds:
        return []
    return sorted(path for path in data.glob(system.input.path.replace("{ds}", ds)) if path.is_file())


def find_days(system: System, data: Path) -> list[str]:
    """The nights for which the system has files, in order."""
    if system.input.delivered is not None:
        ds = system.input.delivered.isoformat()
        return [ds] if find_files(system, data, ds) else []
    wanted = system.input.path.replace("{ds}", DAY)
    # Names may hold other days than the one that {ds} stands for.
    seen = {day for path in data.glob(wanted) for day in re.findall(r"\d{4}-\d{2}-\d{2}", relative(path, data))}
    return sorted(day for day in seen if find_files(system, data, day))


def relative(path: Path, data: Path) -> str:
    """A file's name in the lake: relative to the data folder, so that a lake can be moved."""
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else path.as_posix()


LEAST_COPY = 1024  # bytes; smaller files may well be equal by chance
BLOCK = 1 << 20


def unpacked_size(path: Path) -> int | None:
    """How many bytes a file holds: of a plain one its size, of a gzip file what its end says (modulo 4 GiB), else None."""
    if path.suffix == ".gz":
        size = path.stat().st_size
        if size < 18:
            return 0
        with path.open("rb") as file:
            file.seek(-4, 2)
            return int.from_bytes(file.read(4), "little")
    return None if path.suffix in OPENERS else path.stat().st_size % (1 << 32)


def digest(path: Path) -> str | None:
    """Hash of what a file holds, unpacked; None where it cannot be read to its end: that is told when it is read for good."""
    found = hashlib.blake2b(digest_size=16)
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            while data := file.read(BLOCK):
                found.update(data)
    except BROKEN:
        return None
    return found.hexdigest()


def copies(paths: Iterable[Path]) -> dict[Path, Path]:
    """The files that hold the very same as one before them, packed or not: copy → the first. Only files that may be equal are read.

    Small files are taken for what they are: a line or two may be equal by chance.
    """
    alike: dict[tuple[str, int], list[Path]] = {}
    for path in paths:
        size = unpacked_size(path)
        key = ("packed", path.stat().st_size) if size is None else ("plain", size)
        if size is None or size >= LEAST_COPY:
            alike.setdefault(key, []).append(path)
    found: dict[Path, Path] = {}
    for same in (group for group in alike.values() if len(group) > 1):
        first: dict[str, Path] = {}
        for path in same:
            if (content := digest(path)) is not None and first.setdefault(content, path) != path:
                found[path] = first[content]
    return found
