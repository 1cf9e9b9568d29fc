"""Ready formats of common programs (formats.toml): recognise the one that the records of a sample have."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from nightlog.onboarding.trial import lines_table
from nightlog.parsing.records import CONTINUES, join_records
from nightlog.systems.spec import Record

MACRO = re.compile(r"%\{(\w+)\}")
MOSTLY = 0.9  # of the records must match
STARTING = 0.5  # of the lines must begin a record, unless the others look like continuations


@dataclass(frozen=True)
class Ready:
    """A ready format: its header pattern, how its time is put together and read, and sample records.

    `lines` is how many lines a record has at least. `needs`: one of these words stands in a part of the lines. `status`: the message ends
    in a status of HTTP. A format without time stamps has the `format` "".
    """

    name: str
    pattern: str
    format: str
    value: str = "{time}"
    lines: int = 1
    needs: tuple[str, ...] = ()
    status: bool = False
    sample: tuple[str, ...] = ()

    @property
    def start(self) -> str:
        """The expression of what a record begins with, without groups: up to the time stamp."""
        return start_of(self.pattern)


@dataclass(frozen=True)
class Recognised:
    """A ready format and the share of records that match it; `spans`: records span lines."""

    ready: Ready
    share: float
    spans: bool


@cache
def ready_formats() -> tuple[Ready, ...]:
    """Return the ready formats in the order in which they are tried."""
    found = tomllib.loads((files("nightlog.onboarding") / "formats.toml").read_text(encoding="utf-8"))
    macros: dict[str, str] = found["macros"]
    ready = []
    for entry in found["format"]:
        pattern = entry["pattern"]
        while MACRO.search(pattern):
            pattern = MACRO.sub(lambda macro: macros[macro[1]], pattern)
        more = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
        ready.append(Ready(**more | {"pattern": pattern}))
    return tuple(ready)


def start_of(pattern: str) -> str:
    """Return a header pattern up to the end of its time stamp, without named groups.

    >>> start_of(r"\\[(?P<time>\\d+(?:ms)?)\\] (?P<message>.*)")
    '\\\\[(?:\\\\d+(?:ms)?)'
    """
    start = re.sub(r"\(\?P<\w+>", "(?:", pattern[: end_of_time(pattern)])
    bare = re.sub(r"\\.", "", start)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    return start + ")" * (bare.count("(") - bare.count(")"))


def end_of_time(pattern: str) -> int:
    """Return the place behind the group `time` of a header pattern."""
    end = end_of_group(pattern, pattern.index("(?P<time>"))
    return end + 1 if pattern[end : end + 1] == "?" else end


def end_of_group(pattern: str, begin: int) -> int:
    """Return the place behind the group of a pattern that begins at a place.

    >>> end_of_group(r"x([^()\\]](a)\\)) y", 1)
    15
    """
    depth, in_class = 0, False
    for end in range(begin, len(pattern)):
        if (end - len(pattern[:end].rstrip("\\"))) % 2:
            continue
        in_class = pattern[end] == "[" or (in_class and pattern[end] != "]")
        depth += 0 if in_class else {"(": 1, ")": -1}.get(pattern[end], 0)
        if depth == 0:
            return end + 1
    raise ValueError(f"a group of {pattern} does not end")


def recognise(lines: Sequence[str], names: Sequence[str] = ()) -> Recognised | None:
    """Return the ready format that nearly all records have, None if there is none. Args: names: only these formats."""
    total = sum(bool(line.strip()) for line in lines)
    best: Recognised | None = None
    for ready in (each for each in ready_formats() if not names or each.name in names):
        start = re.compile(ready.start, re.ASCII)
        firsts = [start.match(line) is not None for line in lines]
        if sum(firsts) < max(1, 0.002 * total):
            continue
        others = [line for line, first in zip(lines, firsts, strict=True) if not first and line.strip()]
        continuing = sum(re.match(CONTINUES, line) is not None for line in others)
        if sum(firsts) < STARTING * total and ready.lines == 1 and continuing < 0.7 * len(others):
            continue
        if ready.needs and sum(any(word in line for word in ready.needs) for line in lines) < 0.2 * total:
            continue
        texts = [line for line, first in zip(lines, firsts, strict=True) if first]
        if ready.lines > 1:
            texts = join_records(lines_table(lines), Record(start=ready.start)).rows.column("text").to_pylist()
        whole = re.compile(ready.pattern, re.ASCII | re.DOTALL)
        n_matched = sum(whole.fullmatch(text) is not None for text in texts)
        share = n_matched / max(1, len(texts))
        if (
            n_matched
            and len(texts) - n_matched <= max(len(texts) >= 4, (1 - MOSTLY) * len(texts))
            and (best is None or share > best.share + 0.02)
        ):
            best = Recognised(ready, share, bool(others))
    return best


def lenient(pattern: str) -> str:
    """Return a header pattern in which what stands between time stamp and message may be missing.

    >>> lenient(r"(?P<time>\\d+) (?P<host>\\S+): (?P<message>.*)")
    '(?P<time>\\\\d+)(?: (?P<host>\\\\S+): )?(?P<message>.*)'
    """
    end = end_of_time(pattern)
    between = pattern[end:].removesuffix("(?P<message>.*)")
    if not pattern.endswith("(?P<message>.*)") or not between.strip():
        return pattern
    return f"{pattern[:end]}(?:{between})?(?P<message>.*)"
