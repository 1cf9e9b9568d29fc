"""Time stamps in text: what form they have, and what they say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MON = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
DAY_NAME = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? "
YEARS = (1990, 2070)

# Kind → what it looks like; ambiguous numbers (`a`, `b`, `c`) are told apart over many lines.
DATES = {
    "ymd": r"(?P<a>\d{4})(?P<s>[-/.])(?P<b>\d{1,2})(?P=s)(?P<c>\d{1,2})(?!\d)",
    "xxy": r"(?P<a>\d{1,2})(?P<s>[-/.])(?P<b>\d{1,2})(?P=s)(?P<c>\d{4})(?!\d)",
    "xxx": r"(?P<a>\d{2})(?P<s>[-/.])(?P<b>\d{2})(?P=s)(?P<c>\d{2})(?!\d)",
    "dMy": rf"(?P<a>\d{{1,2}})(?P<s>[-/ ])(?P<b>{MON})(?P=s)(?P<c>\d{{4}})(?!\d)",
    "Mdy": rf"(?P<b>{MON}) +(?P<a>\d{{1,2}})(?P<s>,? )(?P<c>\d{{4}})(?!\d)",
    "Md": rf"(?P<b>{MON})(?P<s> +)(?P<a>\d{{1,2}})(?!\d)",
    "y8": r"(?P<a>\d{4})(?P<s>)(?P<b>\d{2})(?P<c>\d{2})(?!\d)",
    "y6": r"(?P<a>\d{2})(?P<s>)(?P<b>\d{2})(?P<c>\d{2})(?!\d)",
    "xx": r"(?P<a>\d{2})(?P<s>[-/.])(?P<b>\d{2})(?!\d)",
    "m4": r"(?P<a>\d{2})(?P<s>)(?P<b>\d{2})(?!\d)",
    "": "",
}
JOINS = r"(?P<j>T|, | +|[-_:])"
TIME = (
    r"(?:(?P<h>\d{1,2})(?P<t>[:.])(?P<m>\d{2})(?P=t)(?P<sec>\d{2})(?!\d)|(?P<hms>(?:[01]\d|2[0-3])[0-5]\d[0-5]\d)(?!\d))"
    r"(?:(?P<f>[.,:])(?P<frac>\d{1,9})(?!\d))?(?P<half> ?[AaPp][Mm]\b)?"
    r"(?P<zone> ?(?:[+-]\d{2}:\d{2}(?!\d)|[+-]\d{4}(?!\d)|Z\b))?"
)
SCANS = tuple((kind, re.compile(date + (JOINS if date else "") + TIME)) for kind, date in DATES.items())
YEAR_AFTER = re.compile(r"(?P<gap> (?:[A-Z]{3,4} )?)(?P<year>(?:19|20)\d{2})(?!\d)")
EPOCH = re.compile(r"(\d{10})(?:(\.\d{1,9})|(\d{3})|(\d{6})|(\d{9}))?(?![\d.]\d|\d)")


@dataclass(frozen=True)
class Seen:
    """A time stamp as it stands in one line: its form, its end, and the numbers that show how to read it."""

    kind: str
    style: tuple[str, ...]  # separators, and what else must be alike for two stamps to have the same form
    end: int
    numbers: tuple[int, ...] = ()
    narrow: tuple[bool, bool] = (False, False)  # of day (or month) and hour: whether one digit stands alone
    fraction: int = 0
    wide: bool = False  # several blanks between date and time


@dataclass(frozen=True)
class Form:
    """How a system's stamps look and are read: a regular expression without groups, what follows it is not part of it.

    `year_apart` is the expression of what stands between stamp and year where the year comes last. `without` is "" for a whole stamp,
    "year" or "day" for what is missing.
    """

    pattern: str
    format: str
    without: str = ""
    year_apart: str = ""
    doubtful: bool = False  # day and month could be the other way round


def scan(text: str, at: int = 0) -> Seen | None:
    """The time stamp that begins at this place, if there is one."""
    if epoch := EPOCH.match(text, at):
        seconds = int(epoch[1])
        if YEARS[0] <= datetime.fromtimestamp(seconds, UTC).year <= 2040 and seconds > 10**9 // 2:
            unit = "epoch_ms" if epoch[3] else "epoch_us" if epoch[4] else "epoch_ns" if epoch[5] else "epoch"
            return Seen("epoch", (unit,), epoch.end(), fraction=len(epoch[2] or ""))
    for kind, pattern in SCANS:
        if (found := pattern.match(text, at)) and (seen := checked(kind, found, text)):
            return seen
    return None


def checked(kind: str, found: re.Match[str], text: str) -> Seen | None:
    """A match as a stamp, if its numbers can be a date and a time."""
    part = found.groupdict()
    hour, minute, second = (int(part["hms"][i : i + 2]) for i in (0, 2, 4)) if part["hms"] else (int(part[k]) for k in ("h", "m", "sec"))
    numbers = tuple(MONTHS.index(v.lower()) + 1 if v.isalpha() else int(v) for k in "abc" if (v := part.get(k)))
    if hour > 23 or minute > 59 or second > 60 or not plausible(kind, numbers):
        return None
    if (part["hms"] is not None) != (kind in ("y8", "y6")) and part["hms"]:
        return None
    if (kind == "m4") and (part["f"] is None or part["j"] != " "):
        return None
    zone = (part["zone"] or "").strip()
    zoned = ("" if not zone else "Z" if zone == "Z" else "colon" if ":" in zone else "plain") + (
        " " if (part["zone"] or "").startswith(" ") else ""
    )
    join = " " if (part.get("j") or "").strip() == "" and part.get("j") else part.get("j") or ""
    separator = " " if (part.get("s") or "").strip() == "" and part.get("s") else part.get("s") or ""
    end, tail = found.end(), ""
    if kind == "Md" and not zone and (year := YEAR_AFTER.match(text, end)):
        end, tail = year.end(), "year after"
    style = (separator, join, part["t"] or "", part["f"] or "", "half" if part["half"] else "", zoned, tail)
    day = part.get("a") if kind in ("dMy", "Mdy", "Md") else min((v for k in "abc" if (v := part.get(k))), key=len, default="00")
    narrow = (len(day or "00") == 1, len(part["h"] or "00") == 1)
    return Seen(kind, style, end, numbers, narrow, len(part["frac"] or ""), len(part.get("j") or "") > 1 and join == " ")


def plausible(kind: str, numbers: Sequence[int]) -> bool:
    """Whether the numbers of a date can be one."""
    if kind in ("ymd", "y8", "y6"):
        year, month, day = numbers
        return (kind == "y6" or YEARS[0] <= year <= YEARS[1]) and 1 <= month <= 12 and 1 <= day <= 31
    if kind in ("dMy", "Mdy", "Md"):
        return 1 <= numbers[0] <= 31 and (len(numbers) < 3 or YEARS[0] <= numbers[2] <= YEARS[1])
    if kind in ("xxy", "xx", "m4"):
        return all(1 <= n <= 31 for n in numbers[:2]) and min(numbers[:2]) <= 12
    return kind == "" or all(1 <= n <= 99 for n in numbers)


def form_of(stamps: Iterable[Seen]) -> tuple[Form, tuple[str, tuple[str, ...]]] | None:
    """The form that most stamps have, and its key (kind, style without fraction); None where there is no stamp."""
    by_key: dict[tuple[str, tuple[str, ...]], list[Seen]] = {}
    for seen in stamps:
        by_key.setdefault(key_of(seen), []).append(seen)
    if not by_key:
        return None
    key = max(by_key, key=lambda k: (len(by_key[k]), k))
    return build(by_key[key]), key


def literal(text: str) -> str:
    """Text as a regular expression that people can read."""
    return re.sub(r"([\\.\[\](){}*+?^$|])", r"\\\1", text)


def key_of(seen: Seen) -> tuple[str, tuple[str, ...]]:
    """What two stamps must share to have one form: a missing fraction is no difference."""
    return seen.kind, tuple(piece for place, piece in enumerate(seen.style) if place != 3)


def build(stamps: Sequence[Seen]) -> Form:
    """The form of stamps that share a key."""
    first, kind = stamps[0], stamps[0].kind
    if kind == "epoch":
        fraction = r"(?:\.\d+)?" if any(s.fraction for s in stamps) else ""
        digits = {"epoch": 10, "epoch_ms": 13, "epoch_us": 16, "epoch_ns": 19}[first.style[0]]
        return Form(rf"\d{{{digits}}}{fraction}", first.style[0])
    separator, join, colon, _, half, zone, tail = first.style
    short_day, short_hour = any(s.narrow[0] for s in stamps), any(s.narrow[1] for s in stamps)
    two, d = (r"\d{1,2}", "d") if short_day else (r"\d{2}", "dd")
    month = "M" if short_day else "MM"
    s = literal(separator) if separator.strip() else " +" if separator else ""
    order, doubtful = order_of(kind, stamps)
    numbers = {"y": (r"\d{4}", "yyyy"), "s": (r"\d{2}", "yy"), "M": (two, month), "d": (two, d)}
    if kind in ("dMy", "Mdy", "Md"):
        gap = literal(separator) if separator.strip() not in ("", ",") else separator.replace(" ", " +") if kind != "dMy" else " "
        date_pattern = {
            "dMy": rf"{two}{gap}[A-Z][a-z][a-z]{gap}\d{{4}}",
            "Mdy": rf"[A-Z][a-z][a-z] +{two}{gap}\d{{4}}",
            "Md": rf"[A-Z][a-z][a-z] +{two}",
        }[kind]
        date_format = {"dMy": f"{d}{separator}MMM{separator}yyyy", "Mdy": f"MMM {d}{separator}yyyy", "Md": f"MMM {d}"}[kind]
    else:
        date_pattern = {"y8": r"\d{8}", "y6": r"\d{6}", "m4": r"\d{4}"}.get(kind) or s.join(numbers[letter][0] for letter in order)
        date_format = separator.join(numbers[letter][1] for letter in order)
    join_format = "'T'" if join == "T" else join
    join_pattern = " +" if any(s.wide for s in stamps) else literal(join)
    if colon:
        hour = ("h" if half else "H") * (1 if short_hour else 2)
        c = literal(colon)
        time_pattern = (r"\d{1,2}" if short_hour else r"\d{2}") + rf"{c}\d{{2}}{c}\d{{2}}"
        time_format = f"{hour}{colon}mm{colon}ss"
    else:
        time_pattern, time_format = r"\d{6}", "HHmmss"
    fraction_pattern, fraction_format = fraction_of(stamps)
    half_pattern, half_format = (r" ?[AaPp][Mm]", " a") if half else ("", "")
    blank = " " if zone.endswith(" ") else ""
    zone_pattern, zone_format = {"": ("", ""), "Z": ("Z", "X"), "colon": (r"[+-]\d{2}:\d{2}", "XXX"), "plain": (r"[+-]\d{4}", "XX")}[
        zone.strip()
    ]
    pattern = date_pattern + join_pattern + time_pattern + fraction_pattern + half_pattern + blank + zone_pattern
    form = date_format + join_format + time_format + fraction_format + half_format + blank + zone_format
    without = "" if tail else "day" if kind == "" else "year" if kind in ("Md", "xx", "m4") else ""
    return Form(pattern, form, without, r" (?:[A-Z]{3,4} )?" if tail else "", doubtful)


def fraction_of(stamps: Sequence[Seen]) -> tuple[str, str]:
    """The fraction of a second: (pattern, format), optional where some stamps have none."""
    marks = Counter(s.style[3] for s in stamps if s.fraction)
    if not marks:
        return "", ""
    mark, most = marks.most_common(1)[0][0], max(s.fraction for s in stamps)
    pattern, form = rf"{literal(mark)}\d{{1,{most}}}", f"{mark}{'S' * most}"
    return (pattern, form) if all(s.fraction for s in stamps) else (f"(?:{pattern})?", f"[{form}]")


def order_of(kind: str, stamps: Sequence[Seen]) -> tuple[str, bool]:
    """In which order year, month and day stand, and whether that is a guess: what exceeds 12 is no month, and years hardly change."""
    if kind in ("ymd", "y8"):
        return "yMd", False
    if kind == "y6":
        return "sMd", False
    if kind in ("m4", "", "dMy", "Mdy", "Md"):
        return "Md" if kind == "m4" else "", False
    most = [max(s.numbers[place] for s in stamps) for place in range(len(stamps[0].numbers))]
    kinds = [len({s.numbers[place] for s in stamps}) for place in range(len(stamps[0].numbers))]
    half = any(s.style[4] for s in stamps)
    if kind in ("xxy", "xx"):
        year = "y" if kind == "xxy" else ""
        if most[0] > 12 or most[1] > 12:
            return ("dM" if most[0] > 12 else "Md") + year, False
        # Of two small numbers that of the day changes faster; month first is what goes with am and pm, and with dates that lack the year.
        if kinds[0] != kinds[1]:
            return ("dM" if kinds[0] > kinds[1] else "Md") + year, True
        return ("Md" if half or not year or stamps[0].style[0] == "/" else "dM") + year, True
    ranked = [order for order in ("sMd", "dMs", "Mds") if most[order.index("M")] <= 12 and most[order.index("d")] <= 31]
    now = [order for order in ranked if len({s.numbers[order.index("s")] for s in stamps}) == 1]
    return (now or ranked or ["sMd"])[0], len(now or ranked) > 1


LETTERS = re.compile(r"'[^']*'|y+|M+|d+|H+|h+|m+|s+|S+|a|X+|.", re.S)


@lru_cache(maxsize=64)
def reader(form: str) -> Callable[[str], datetime | None]:
    """The function that reads stamps of a Spark datetime pattern, as a night will: UTC, None where a stamp is not of this form.

    >>> reader("yyyy-MM-dd'T'HH:mm:ss[.SSS]XXX")("2026-03-04T05:06:07.8+01:00").isoformat()
    '2026-03-04T04:06:07.800000+00:00'
    """
    units = {"epoch": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
    if form in units:

        def read_epoch(text: str) -> datetime | None:
            try:
                return datetime.fromtimestamp(float(text) / units[form], UTC)
            except (ValueError, OverflowError, OSError):
                return None

        return read_epoch
    compiled = re.compile("".join(map(letter_pattern, LETTERS.findall(form))), re.ASCII | re.IGNORECASE)

    def read(text: str) -> datetime | None:
        found = compiled.fullmatch(text)
        return stamp_of(found.groupdict()) if found else None

    return read


def letter_pattern(piece: str) -> str:
    """A piece of a Spark datetime pattern as a regular expression."""
    if piece in "[]":
        return "(?:" if piece == "[" else ")?"
    if piece[0] == "'":
        return literal(piece.strip("'"))
    name, n = piece[0], len(piece)
    if name == "y":
        return r"(?P<yy>\d{2})" if n == 2 else r"(?P<y>\d{4})"
    if name == "M" and n == 3:
        return rf"(?P<mon>{MON})"
    if name in "MdHhms":
        group = {"M": "mo", "d": "d", "H": "h", "h": "h12", "m": "mi", "s": "s"}[name]
        return rf"(?P<{group}>\d{{{'1,2' if n == 1 else n}}})"
    if name == "S":
        return rf"(?P<f>\d{{1,{n}}})"
    if name == "a":
        return "(?P<half>AM|PM)"
    if name == "X":
        return r"(?P<z>Z|[+-]\d{2}" + (":" if n == 3 else "") + (r"\d{2})" if n > 1 else ")")
    return literal(piece)


def stamp_of(part: dict[str, str | None]) -> datetime | None:
    """The time that the pieces of a stamp make."""
    hour = int(part.get("h") or part.get("h12") or 0)
    if half := part.get("half"):
        hour = hour % 12 + (12 if half.upper() == "PM" else 0)
    month = MONTHS.index(str(part["mon"]).lower()) + 1 if part.get("mon") else int(part.get("mo") or 1)
    year = int(part.get("y") or 2000 + int(part.get("yy") or 0))
    zone = (part.get("z") or "Z").replace(":", "")
    offset = timedelta() if zone in "Zz" else timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5] or 0)) * (-1 if zone[0] == "-" else 1)
    try:
        at = datetime(
            year, month, int(part.get("d") or 1), hour, int(part.get("mi") or 0), int(part.get("s") or 0), tzinfo=timezone(offset)
        )
        return at.replace(microsecond=int((part.get("f") or "0").ljust(6, "0")[:6])).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
