"""Read time stamps by their format, whole columns at once, and check the times of a night's lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.systems.spec import DAY_FIELDS, System, Timestamp
from nightlog.systems.time_formats import EPOCHS, MONTHS, ZONES, TimeFormat, compile_format

if TYPE_CHECKING:
    from nightlog.parsing.shapes import LineParser, Shape, Text

Read = Callable[[pa.StringArray], pa.Int64Array]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
AT = pa.timestamp("us", tz="UTC")
DAY = 24 * 3600 * 1_000_000
# A time stamp outside of these is an error, and pandas and Python could not hold it.
EARLIEST, LATEST = 0, (datetime(2262, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
SERIAL = r":[0-9]+$"
PLAIN = r"^[0-9]{1,15}(\.[0-9]+)?$"
NUMBER = re.compile(r"[ \t]*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[dDfF]?[ \t]*")


def reader(stamp: Timestamp) -> Read:
    """Return a function that reads time stamps, (n,) strings without nulls, as microseconds since 1970 in UTC, null if unreadable.

    >>> read = reader(Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"))
    >>> read(pa.array(["1970-01-01 00:00:01", "1970-02-30 00:00:00"])).to_pylist()
    [1000000, None]
    """
    if stamp.format in EPOCHS:
        return partial(since_1970, per_second=EPOCHS[stamp.format])
    form = compile_format(stamp.format)
    zone = None if stamp.timezone == "UTC" or form.has_zone else ZoneInfo(stamp.timezone)
    return partial(by_pattern, form=form, zone=zone)


def since_1970(stamps: pa.StringArray, per_second: int) -> pa.Int64Array:
    """Return numbers of seconds, or of parts of one, since 1970. A serial number behind a colon, as audit has it, is left out."""
    stamps = pc.replace_substring_regex(stamps, SERIAL, "")
    plain = pc.match_substring_regex(stamps, PLAIN)
    numbers = pc.cast(pc.if_else(plain, stamps, None), pa.float64())
    if not pc.all(plain).as_py():
        odd = pc.filter(stamps, pc.invert(plain)).to_pylist()
        cast = [float(each.strip().rstrip("dDfF")) if NUMBER.fullmatch(each) else None for each in odd]
        numbers = pc.replace_with_mask(numbers, pc.invert(plain), pa.array(cast, pa.float64()))
    found = np.asarray(numbers.fill_null(np.nan)) / per_second
    readable = np.abs(found) < 1e13
    return within((np.where(readable, found, 0) * 1_000_000).astype(np.int64), readable)


def by_pattern(stamps: pa.StringArray, form: TimeFormat, zone: ZoneInfo | None) -> pa.Int64Array:
    """Stamps of a pattern. Digits are made one; what then is equal is matched once, and its numbers are cut out of all at the same
    places."""
    _, offsets, data = stamps.buffers()
    starts = np.frombuffer(offsets, np.int32)[stamps.offset : stamps.offset + len(stamps) + 1].astype(np.int64)
    content = np.frombuffer(data, np.uint8)[: starts[-1]] if data is not None else np.zeros(0, np.uint8)
    alike = np.where((content >= ord("0")) & (content <= ord("9")), np.uint8(ord("0")), content)
    shapes = pa.BinaryArray.from_buffers(pa.binary(), len(stamps), [None, pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(alike)])
    coded = shapes.dictionary_encode()
    of_stamp = np.asarray(coded.indices, dtype=np.int64)
    order = np.argsort(of_stamp, kind="stable")
    bounds = np.searchsorted(of_stamp[order], np.arange(len(coded.dictionary) + 1))
    at, readable = np.zeros(len(stamps), np.int64), np.zeros(len(stamps), bool)
    for number, shape in enumerate(coded.dictionary.to_pylist()):
        if (found := form.pattern.fullmatch(shape)) is not None:
            rows = order[bounds[number] : bounds[number + 1]]
            at[rows], readable[rows] = microseconds(Cut(content, starts[rows], found), form.literals)
    return within(at, readable) if zone is None else in_utc(within(at, readable, slack=DAY), zone)


@dataclass(frozen=True)
class Cut:
    """Stamps of one shape: the fields of a match of their shape, at the same places in all of them."""

    content: np.ndarray
    starts: np.ndarray
    match: re.Match[bytes]

    def text(self, name: str) -> str:
        """The field in their shape; "" where the pattern has none."""
        return (self.match[name] or b"").decode().lower() if name in self.match.re.groupindex else ""

    def number(self, name: str, first: int = 0, digits: int | None = None, otherwise: int = 0) -> np.ndarray:
        """The digits of a field as (n,) numbers, some of them alone where `digits` says how many, from the `first` on."""
        found = np.zeros(len(self.starts), np.int64)
        if name not in self.match.re.groupindex or self.match[name] is None:
            return found + otherwise
        begin, end = self.match.span(name)
        for place in range(begin + first, min(end, begin + first + digits) if digits is not None else end):
            found = found * 10 + (self.content[self.starts + place] - ord("0"))
        return found


def microseconds(of: Cut, literals: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) microseconds since 1970, and whether there are such a day and time; a pattern that names no year means 1970, and so on."""
    year = of.number("short_year") + 2000 if of.text("short_year") else of.number("year", otherwise=1970)
    month = of.number("month", otherwise=1)
    if name := of.text("month_name"):
        month += next(i for i, each in enumerate(MONTHS) if each.startswith(name))
    day, minute, second = of.number("day", otherwise=1), of.number("minute"), of.number("second")
    hour, valid = of.number("hour"), np.ones(len(year), bool)
    if half := of.text("half"):
        clock = of.number("half_hour", otherwise=12)
        valid, hour = (clock >= 1) & (clock <= 12), clock % 12 + 12 * (half == "pm")
    n_digits = min(6, len(of.text("fraction")))
    fraction = of.number("fraction", digits=6) * 10 ** (6 - n_digits)
    for name, wanted in literals.items():
        valid &= of.number(name) == wanted
    for value, low, high in ((year, 1, 9999), (month, 1, 12), (day, 1, 31), (hour, 0, 23), (minute, 0, 59), (second, 0, 59)):
        valid &= (value >= low) & (value <= high)
    months = np.where(valid, (year - 1970) * 12 + month - 1, 0)
    first, following = ((months + n).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for n in (0, 1))
    valid &= day <= following - first
    if (offset := of.text("offset")) not in ("", "z"):
        sign = len(offset) - len(offset.lstrip("gmtuc"))
        east = of.number("offset", sign + 1, 2) * 60 + (of.number("offset", len(offset) - 2, 2) if len(offset) - sign > 3 else 0)
        minute = minute - east * (1 if offset[sign] == "+" else -1)
    if zone := of.text("zone"):
        minute = minute - round(ZONES[zone] * 60)
    days = np.where(valid, first + day - 1, 0)
    return ((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction, valid


def within(at: np.ndarray, readable: np.ndarray, slack: int = 0) -> pa.Int64Array:
    """Times between 1970 and 2262, or so many microseconds around them; out-of-range values become null."""
    return pa.array(at, mask=~(readable & (at >= EARLIEST - slack) & (at <= LATEST + slack)))


def in_utc(at: pa.Int64Array, zone: ZoneInfo) -> pa.Int64Array:
    """Local times of a zone in UTC. Clocks are set at full minutes, and a day has few of them."""
    coded = pc.divide(at, 60_000_000).dictionary_encode()
    minutes = [(EPOCH + timedelta(minutes=each)).replace(tzinfo=zone) for each in coded.dictionary.to_pylist()]
    ahead = pa.array([(each.utcoffset() or timedelta()) // MICROSECOND for each in minutes], pa.int64())
    utc = pc.subtract(at, ahead.take(coded.indices))
    return within(np.asarray(utc.fill_null(-1)), np.asarray(utc.is_valid()))


def line_times(
    text: Text,
    shapes: Sequence[Shape],
    of_line: np.ndarray,
    rows: np.ndarray,
    parser: LineParser,
    read: Read | None,
    ds: str,
    of_one_night: bool,
) -> pa.TimestampArray:
    """Return the times of the matched lines `rows`; null where one cannot be read. Without stamps the night's first instant."""
    if read is None:
        return pa.array(np.full(len(rows), day_start(ds))).cast(AT)
    of_row = of_line[rows]
    columns: list[Any] = []
    for number, piece in enumerate(parser.pieces):
        if number % 2 == 0 or piece in DAY_FIELDS:
            value = {"ds": ds, "ds_year": ds[:4]}[piece] if number % 2 else piece
            columns.append(pa.scalar(value, pa.string()))
            continue
        spans = np.array([shape.stamp[number] if shape.stamp else (0, 0) for shape in shapes], dtype=np.int64).reshape(-1, 2)[of_row]
        columns.append(text.take(rows, spans[:, 0], spans[:, 1]))
    columns = [each for each in columns if not isinstance(each, pa.Scalar) or each.as_py()]
    coded = (columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "")).dictionary_encode()
    at = read(coded.dictionary)
    if "ds_year" in parser.pieces[1::2]:
        at = with_year(at, coded.dictionary, read, ds, of_one_night)
    return at.cast(AT).take(coded.indices)


def with_year(at: pa.Int64Array, stamps: pa.StringArray, read: Read, ds: str, of_one_night: bool) -> pa.Int64Array:
    """Let stamps without a year be of the year before, if the night's year would put them into its future.

    On New Year's Eve the first minutes of the next year are those of the year after, unless a delivery may hold the lines of a whole year.
    """
    end = day_start(ds) + 2 * DAY

    def in_year(year: int) -> pa.Int64Array:
        return read(pc.replace_substring_regex(stamps, rf"\b{ds[:4]}", f"{year:04d}", max_replacements=1))

    late = pc.greater_equal(at, end)
    if pc.any(late).as_py():
        at = pc.if_else(pc.fill_null(late, False), in_year(int(ds[:4]) - 1), at)
    if of_one_night and ds[5:] == "12-31":
        after = in_year(int(ds[:4]) + 1)
        at = pc.if_else(pc.fill_null(pc.less(after, end), False), after, at)
    return at


def day_start(ds: str) -> int:
    """Return the first instant of a day, microseconds since 1970."""
    return (datetime.fromisoformat(ds).replace(tzinfo=UTC) - EPOCH) // MICROSECOND


def astray(at: pa.TimestampArray, system: System, ds: str) -> int:
    """Return how many times are far from the night: a clock was wrong, or a year is missing. None where a delivery may hold many days."""
    if (bounds := night_bounds(system, ds)) is None:
        return 0
    micros = np.asarray(at.cast(pa.int64()).drop_null())
    return int(((micros < bounds[0]) | (micros >= bounds[1])).sum())


def has_bounds(system: System) -> bool:
    """Return whether the times of a system's lines tell that they are of another night: it has time stamps, and files for each night."""
    return system.timestamp is not None and system.input.delivered is None


def night_bounds(system: System, ds: str) -> tuple[int, int] | None:
    """Between which times (microseconds since 1970) the lines of a night are expected: its day, and one more on either side."""
    if not has_bounds(system):
        return None
    midnight = datetime.fromisoformat(ds).replace(tzinfo=UTC)
    first, last = (((midnight + timedelta(days=n)) - EPOCH) // MICROSECOND for n in (-1, 2))
    return first, last
