"""A sample of the lines of some files: a few blocks of lines that follow each other, so that sessions and records stay whole."""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, cast

from nightlog.errors import ConfigError, FormatError
from nightlog.parsing.records import COLOUR

READ = 64 << 20  # unpacked bytes of a file that are looked at
BLOCKS = ((0.0, 0.5), (0.5, 0.25), (1.0, 0.25))  # where a block ends at the latest, and its share of the lines
UTF16 = (b"\xff\xfe", b"\xfe\xff")
DAY = re.compile(r"(?<!\d)(?:19|20)\d{2}-[01]\d-[0-3]\d(?!\d)")


@dataclass(frozen=True)
class Sample:
    """The lines looked at; `n_lines` is how many the files have, `estimated` where they were not read to their end.

    `spread` are single lines from all over the files: they show rare headers that blocks of lines may lack.
    """

    lines: list[str]
    spread: list[str]
    n_lines: int
    estimated: bool
    n_replaced: int  # lines with bytes that are not UTF-8
    n_control: int  # lines with bytes that no text has


def opened(path: Path, raw: IO[bytes]) -> IO[bytes]:
    """The file's bytes, unpacked."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    return cast(IO[bytes], lzma.LZMAFile(raw)) if path.suffix == ".xz" else raw


def read_file(path: Path) -> tuple[list[bytes], float]:
    """The first lines of a file, and how many times as much the file has. Raises FormatError where it cannot be read."""
    try:
        with path.open("rb") as raw, opened(path, raw) as unpacked:
            found = unpacked.read(READ)
            whole = not unpacked.read(1)
            done, size = raw.tell(), path.stat().st_size
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise FormatError(f"{path}: not readable as {path.suffix[1:]}: {error}; deliver it again") from error
    if found[:2] in UTF16:
        raise FormatError(f"{path}: UTF-16, and lines must be UTF-8: convert it, for example: iconv -f UTF-16 -t UTF-8")
    lines = found.split(b"\n")
    if whole:
        return lines[:-1] if not lines[-1] else lines, 1.0
    return lines[:-1], max(1.0, size / max(1, done)) if path.suffix in (".gz", ".xz") else size / len(found)


def blocks(lines: Sequence[bytes], n: int) -> list[bytes]:
    """Blocks of lines from the beginning, the middle and the end, `n` lines together; all of them where there are no more."""
    if len(lines) <= n:
        return list(lines)
    found: list[bytes] = []
    for place, share in BLOCKS:
        size = int(n * share)
        begin = int((len(lines) - size) * place)
        found += lines[begin : begin + size]
    return found


def read_sample(paths: Sequence[Path], n: int) -> Sample:
    """About `n` lines of the files, each file having its part. Raises ConfigError where a file is missing, or all are empty."""
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
    lines, spread, total, estimated = list[bytes](), list[bytes](), 0.0, False
    for number, path in enumerate(paths):
        found, times = read_file(path)
        total += len(found) * times
        estimated |= times > 1
        spread += found[:: max(1, len(found) * len(paths) // n)]
        lines += blocks(found, max(1, (n - len(lines)) // (len(paths) - number)))
    texts, single = ([line.removesuffix(b"\r").decode("utf-8", errors="replace") for line in part] for part in (lines, spread))
    texts, single = ([re.sub(COLOUR, "", text) for text in part] for part in (texts, single))
    if not any(text.strip() for text in texts):
        raise ConfigError(f"{', '.join(map(str, paths))}: no line with text")
    replaced = sum("\ufffd" in text for text in texts)
    control = sum(re.search(r"[\x00-\x06\x0e-\x1a]", text) is not None for text in texts)
    return Sample(texts, single, round(total), estimated, replaced, control)


def input_path(paths: Sequence[Path], data: Path | None) -> tuple[str, Path, str | None]:
    """(the files' path in a system file, the data folder that it is under, the latest day in their names).

    What differs between the names becomes `*`, and a day that all names have becomes {ds}.
    """
    full = [path.resolve() for path in paths]
    folder = full[0].parent
    while not all(path.is_relative_to(folder) for path in full):
        folder = folder.parent
    if data is not None and all(path.is_relative_to(data.resolve()) for path in full):
        folder = data.resolve()
    names = [path.relative_to(folder).as_posix() for path in full]
    days = [DAY.findall(name) for name in names]
    day = max(found[-1] for found in days) if all(days) else None
    if day is not None:
        names = ["{ds}".join(name.rsplit(found[-1], 1)) for name, found in zip(names, days, strict=True)]
    return common(names), folder, day


def common(names: Sequence[str]) -> str:
    """One name for all: what differs becomes `*`, in each folder of its own.

    >>> common(["a/x-1.log", "a/x-2.log"])
    'a/x-*.log'
    """
    if len(set(names)) == 1:
        return names[0]
    parts = [name.split("/") for name in names]
    if len({len(part) for part in parts}) > 1:
        return "**/*"
    found = []
    for same in zip(*parts, strict=True):
        least = min(map(len, same))
        begin = next((n for n in range(least) if len({s[n] for s in same}) > 1), least)
        end = next((n for n in range(least - begin) if len({s[-1 - n] for s in same}) > 1), least - begin)
        found.append(same[0] if len(set(same)) == 1 else same[0][:begin] + "*" + (same[0][len(same[0]) - end :] if end else ""))
    return "/".join(found)


def modified(paths: Sequence[Path]) -> str:
    """The day on which the last of the files was written, UTC."""
    return max(datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in paths).date().isoformat()
