"""A sample of the lines of some files: a few blocks of lines that follow each other, so that sessions and records stay whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from nightlog.errors import ConfigError, FormatError
from nightlog.ingest.archives import BROKEN, is_packed, unpacked
from nightlog.parsing.records import COLOUR

READ = 64 << 20  # unpacked bytes of a file that are looked at
BLOCKS = ((0.0, 0.5), (0.5, 0.25), (1.0, 0.25))  # where a block ends at the latest, and its share of the lines
UTF16 = (b"\xff\xfe", b"\xfe\xff")
# A day in a file's name, with the hour and what else of the time stands behind it.
DAY = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d{2})(?P<mark>[-_./]?)(?P<month>[01]\d)(?P=mark)(?P<day>[0-3]\d)"
    r"(?:(?P<before>[-_.T/]?)(?P<hour>[01]\d|2[0-3])(?P<more>(?:[-_.:]?\d{2}){1,2}Z?)?)?(?!\d)"
)


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
    """Return the files' path in a system file, the data folder that it is under, and the latest day in their names.

    A day that all names have becomes placeholders, and so does an hour behind it. What else differs between the names becomes `*`. If only
    folders name the day, the data folder is the one above them.
    """
    full = [path.resolve() for path in paths]
    folder = full[0].parent
    while not all(path.is_relative_to(folder) for path in full):
        folder = folder.parent
    if data is not None and all(path.is_relative_to(data.resolve()) for path in full):
        folder = data.resolve()
    elif not day_of(full[0].relative_to(folder).as_posix()) and (found := day_of(folder.as_posix() + "/")):
        folder = Path(folder.as_posix()[: found.start()].rpartition("/")[0] or "/")
    names = [path.relative_to(folder).as_posix() for path in full]
    days = [date_of(found) for name in names if (found := day_of(name))]
    escaped = [re.sub(r"[\[*?{]", r"[\g<0>]", name) for name in names]
    dated = [DAY.sub(placeholders, name) for name in escaped]
    if len(days) < len(names) or len({tuple(re.findall(r"\{\w+\}", name)) for name in dated}) > 1:
        return common(escaped), folder, None
    return common(dated), folder, max(days)


def day_of(name: str) -> re.Match[str] | None:
    """Return the last day in a file's name."""
    return next((found for found in reversed(list(DAY.finditer(name))) if date_of(found)), None)


def date_of(found: re.Match[str]) -> str:
    """Return a day in a name as YYYY-MM-DD, "" if there is no such day."""
    text = f"{found['year']}-{found['month']}-{found['day']}"
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


def placeholders(found: re.Match[str]) -> str:
    """Return the placeholders that a day in a name stands for."""
    if not date_of(found):
        return found[0]
    mark = found["mark"]
    day = {"-": "{ds}", "": "{ds_nodash}"}.get(mark) or mark.join(("{year}", "{month}", "{day}"))
    hour = f"{found['before']}{{hour}}" if found["hour"] else ""
    return day + hour + ("*" if found["more"] else "")


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
