"""A sample of the lines of some files: a few blocks of lines that follow each other, so that sessions and records stay whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nightlog.errors import ConfigError, FormatError, NotThere
from nightlog.ingest.archives import BROKEN, is_packed, unpacked
from nightlog.parsing.records import COLOUR

READ = 64 << 20  # unpacked bytes of a file that are looked at
BLOCKS = ((0.0, 0.5), (0.5, 0.25), (1.0, 0.25))  # where a block ends at the latest, and its share of the lines
UTF16 = (b"\xff\xfe", b"\xfe\xff")


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


def read_file(path: Path) -> tuple[list[bytes], float]:
    """The first lines of a file, and how many times as much the file has. Raises FormatError where it cannot be read."""
    try:
        with path.open("rb") as raw:
            content = unpacked(path, raw)
            found = content.read(READ)
            whole = not content.read(1)
            done, size = raw.tell(), path.stat().st_size
    except BROKEN as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise FormatError(f"{path}: not readable as {path.suffix[1:]}: {error}; deliver it again") from error
    if found[:2] in UTF16:
        raise FormatError(f"{path}: UTF-16, and lines must be UTF-8: convert it, for example: iconv -f UTF-16 -t UTF-8")
    lines = found.split(b"\n")
    if whole:
        return lines[:-1] if not lines[-1] else lines, 1.0
    return lines[:-1], max(1.0, size / max(1, done)) if is_packed(path) else size / len(found)


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
    """About `n` lines of the files, each file having its part. Raises NotThere if a file is missing, ConfigError if all are empty."""
    for path in paths:
        if not path.is_file():
            raise NotThere(f"{path}: no such file")
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
