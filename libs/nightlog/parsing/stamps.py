"""Time stamps by Spark's datetime patterns, read in Python: each distinct stamp once.

Gives what Spark's own `try_to_timestamp` gives (java.time, strict resolver, letters of any case); `reader` returns None for
patterns with letters that it does not know, and those are left to Spark.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from nightlog.systems.spec import System, Timestamp

Read = Callable[[str], int | None]

MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# A stamp outside of these is an error, as in `lines`.
EARLIEST, LATEST = 0, (datetime(2262, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
NUMBER = re.compile(r"[ \t]*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[dDfF]?[ \t]*")
LETTERS = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']")
FIELDS = {
    **{"yyyy": r"(?P<year>\d{4})", "uuuu": r"(?P<year>\d{4})", "yy": r"(?P<short_year>\d{2})"},
    **{"M": r"(?P<month>\d{1,19})", "MM": r"(?P<month>\d{2})"},
    "MMM": f"(?P<month_name>{'|'.join(name[:3] for name in MONTHS)})",
    "MMMM": f"(?P<month_name>{'|'.join(MONTHS)})",
    **{letter: rf"(?P<{name}>\d{{1,19}})" for letter, name in zip("dHhms", ("day", "hour", "half_hour", "minute", "second"), strict=True)},
    **{letter * 2: rf"(?P<{name}>\d{{2}})" for letter, name in zip("dHhms", ("day", "hour", "half_hour", "minute", "second"), strict=True)},
    "a": "(?P<half>am|pm)",
    **{"X": r"(?P<offset>z|[-+]\d\d(?:\d\d)?)", "XX": r"(?P<offset>z|[-+]\d{4})", "XXX": r"(?P<offset>z|[-+]\d\d:\d\d)"},
    **{"x": r"(?P<offset>[-+]\d\d(?:\d\d)?)", "xx": r"(?P<offset>[-+]\d{4})", "xxx": r"(?P<offset>[-+]\d\d:\d\d)"},
    **dict.fromkeys(("Z", "ZZ", "ZZZ"), r"(?P<offset>[-+]\d{4})"),
    **{"S" * n: rf"(?P<fraction>\d{{1,{n}}})" for n in range(1, 10)},
}


def reader(stamp: Timestamp) -> Read | None:
    """What reads a stamp as microseconds since 1970 in UTC, None where it cannot be read; None where the format is not known here.

    >>> read = reader(Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"))
    >>> read("1970-01-01 00:00:01"), read("1970-02-30 00:00:00")
    (1000000, None)
    """
    if stamp.format == "epoch":
        return seconds
    pattern = ""
    for piece in LETTERS.finditer(stamp.format):
        if piece[1] is not None:
            pattern += re.escape(piece[1].replace("''", "'") or "'")
        elif piece[2] is None:
            if piece[0] in "[]{}#":
                return None
            pattern += re.escape(piece[0])
        elif piece[0] in FIELDS:
            pattern += FIELDS[piece[0]]
        else:
            return None
    try:
        whole = re.compile(pattern, re.IGNORECASE | re.ASCII)
    except re.error:  # a field stands there twice
        return None
    zone = None if stamp.timezone == "UTC" else ZoneInfo(stamp.timezone)

    def read(text: str) -> int | None:
        found = whole.fullmatch(text)
        return None if found is None else within(microseconds(found.groupdict(), zone))

    return read


def within(at: int | None) -> int | None:
    """A time between 1970 and 2262; what is outside is taken for unreadable."""
    return at if at is not None and EARLIEST <= at <= LATEST else None


def seconds(text: str) -> int | None:
    """Seconds since 1970, as Spark casts strings to doubles."""
    if NUMBER.fullmatch(text) is None:
        return None
    number = float(text.strip().rstrip("dDfF"))
    return within(int(number * 1_000_000)) if abs(number) < 1e13 else None


def microseconds(found: dict[str, str | None], zone: ZoneInfo | None) -> int | None:
    """The fields of a stamp as microseconds since 1970; None where there is no such day or time."""
    year = int(found.get("year") or 0) or (2000 + int(found["short_year"] or 0) if "short_year" in found else 1970)
    month = int(found.get("month") or 1)
    if name := found.get("month_name"):
        month = 1 + next(i for i, each in enumerate(MONTHS) if each.startswith(name.lower()))
    hour = int(found.get("hour") or 0)
    if half := found.get("half"):
        hour = int(found.get("half_hour") or 0) % 12 + 12 * (half.lower() == "pm")
        if not 1 <= int(found.get("half_hour") or 12) <= 12:
            return None
    fraction = int((found.get("fraction") or "0")[:6].ljust(6, "0"))
    try:
        at = datetime(year, month, int(found.get("day") or 1), hour, int(found.get("minute") or 0), int(found.get("second") or 0), fraction)
    except (ValueError, OverflowError):
        return None
    offset = found.get("offset")
    if offset and offset.lower() != "z":
        minutes = int(offset[1:3]) * 60 + int(offset[-2:] if len(offset) > 3 else 0)
        at -= timedelta(minutes=minutes if offset[0] == "+" else -minutes)
    return (at.replace(tzinfo=zone or UTC) - EPOCH) // MICROSECOND


def stamp_pieces(system: System) -> list[str]:
    """The value of a system's stamp as literals (even places) and header groups (odd places)."""
    return re.split(r"\{(\w+)\}", system.timestamp.value) if system.timestamp else []
