"""Recognise time stamps in text: the form they have, as a regular expression and as a datetime pattern.

A form never depends on the digits of a sample: day, month, hour, minute and second may have one or two digits, padded by a blank or not,
so that a file of the 23rd is read on the 3rd as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nightlog.systems.time_formats import MONTHS, ZONES

NAMES = sorted({*MONTHS, *(name[:3] for name in MONTHS), "sept"}, key=len, reverse=True)
MON = rf"(?:{'|'.join(name.capitalize() for name in NAMES)}|{'|'.join(name.upper() for name in NAMES)}|{'|'.join(NAMES)})"
YEARS = (1990, 2070)

# Kind → the expression of a date. `s` is what separates its parts; ambiguous numbers (a, b, c) are distinguished over many lines.
DATES = {
    "yMd": r"(?P<a>\d{4})(?P<s>[-/.])(?P<b>\d{1,2})(?P=s) ?(?P<c>\d{1,2})(?!\d)",
    "xxy": r"(?P<a>\d{1,2})(?P<s>[-/.])(?P<b>\d{1,2})(?P=s)(?P<c>\d{4})(?!\d)",
    "xxx": r"(?P<a>\d{2})(?P<s>[-/.])(?P<b>\d{2})(?P=s)(?P<c>\d{2})(?!\d)",
    "dNy": rf"(?P<a>\d{{1,2}})(?P<s>[-/ ])(?P<n>{MON})(?P=s)(?P<c>\d{{4}})(?!\d)",
    "dNs": rf"(?P<a>\d{{1,2}})(?P<s>[-/ ])(?P<n>{MON})(?P=s)(?P<c>\d{{2}})(?![\d:])",
    "Ndy": rf"(?P<n>{MON})(?P<s>[-/ ]) *(?P<a>\d{{1,2}})(?P<e>,? +|[-/])(?P<c>\d{{4}})(?!\d)",
    "Nds": rf"(?P<n>{MON})(?P<s>[-/])(?P<a>\d{{1,2}})(?P<e>[-/])(?P<c>\d{{2}})(?![\d:])",
    "yNd": rf"(?P<c>\d{{4}})(?P<s>[-/ ])(?P<n>{MON})(?P=s) *(?P<a>\d{{1,2}})(?!\d)",
    "Nd": rf"(?P<n>{MON})(?P<s>\.? +)(?P<a>\d{{1,2}})(?!\d)",
    "dN": rf"(?P<a>\d{{1,2}})(?P<s>[- ])(?P<n>{MON})(?![a-z])",
    "y8": r"(?P<a>\d{4})(?P<s>)(?P<b>\d{2})(?P<c>\d{2})(?!\d)",
    "y6": r"(?P<a>\d{2})(?P<s>)(?P<b>\d{2})(?P<c>\d{2})(?!\d)",
    "xx": r"(?P<a>\d{2})(?P<s>[-/.])(?P<b>\d{2})(?!\d)",
    "m4": r"(?P<a>\d{2})(?P<s>)(?P<b>\d{2})(?!\d)",
    "": "",
}
ORDERS = {
    "yMd": "yMd",
    "y8": "yMd",
    "y6": "sMd",
    "dNy": "dNy",
    "dNs": "dNs",
    "Ndy": "Ndy",
    "Nds": "Nds",
    "yNd": "yNd",
    "Nd": "Nd",
    "dN": "dN",
}
JOINS = r"(?P<j>T|, +| +|[-_:])"
ZONE_NAME = "|".join(sorted((name.upper() for name in ZONES if name != "z"), key=len, reverse=True))
TIME = (
    r"(?:(?P<h>\d{1,2})(?P<t>[:.])(?P<m>\d{1,2})(?P=t)(?P<sec>\d{1,2})(?!\d)|(?P<hms>(?:[01]\d|2[0-3])[0-5]\d[0-5]\d)(?!\d))"
    r"(?:(?P<f>[.,:])(?P<frac>\d{1,9})(?!\d))?(?P<half> ?[AaPp][Mm]\b)?"
    rf"(?P<zone> ?(?:[+-]\d{{2}}(?::?\d{{2}})?(?![\d:])|Z\b|(?:{ZONE_NAME})\b))?"
)
SCANS = tuple((kind, re.compile(date + (JOINS if date else "") + TIME)) for kind, date in DATES.items())
YEAR_AFTER = re.compile(rf"(?P<gap> (?:(?:{ZONE_NAME}) )?)(?P<year>(?:19|20)\d{{2}})(?![\d:])")
EPOCH = re.compile(r"(\d{10})(?:(\.\d{1,9})|(\d{3})|(\d{6})|(\d{9}))?(?![\d.]\d|\d)")
TWO = r"\d{1,2}"
OFFSET_PATTERN = r"(?:Z|[+-]\d{2}(?::?\d{2})?)"


@dataclass(frozen=True)
class Seen:
    """A time stamp in one line.

    `style` holds the separators and what else two stamps of one form share; `numbers` shows the order of day, month and year.
    """

    kind: str
    style: tuple[str, ...]
    end: int
    numbers: tuple[int, ...] = ()
    fraction: str = ""  # the mark and the digits
    zone: str = ""
    start: int = 0


@dataclass(frozen=True)
class Form:
    """The form of a system's time stamps: a regular expression without groups, and a datetime pattern.

    `without` is "" for a whole stamp, "year" or "day" for what is missing. `doubtful`: day and month could be the other way round.
    """

    pattern: str
    format: str
    without: str = ""
    doubtful: bool = False


Key = tuple[str, tuple[str, ...]]


def scan(text: str, at: int = 0) -> Seen | None:
    """Return the time stamp that begins at a place of a text, None if there is none."""
    if epoch := EPOCH.match(text, at):
        seconds = int(epoch[1])
        if YEARS[0] <= datetime.fromtimestamp(seconds, UTC).year <= 2040 and seconds > 10**9 // 2:
            unit = "epoch_ms" if epoch[3] else "epoch_us" if epoch[4] else "epoch_ns" if epoch[5] else "epoch"
            return Seen("epoch", (unit,), epoch.end(), fraction=epoch[2] or "", start=at)
    for kind, pattern in SCANS:
        if (found := pattern.match(text, at)) and (seen := checked(kind, found, text)):
            return seen
    return None


def checked(kind: str, found: re.Match[str], text: str) -> Seen | None:
    """Return a match as a time stamp, if its numbers can be a date and a time."""
    part = found.groupdict()
    hour, minute, second = (int(part["hms"][i : i + 2]) for i in (0, 2, 4)) if part["hms"] else (int(part[k]) for k in ("h", "m", "sec"))
    numbers = tuple(int(v) for k in "abc" if (v := part.get(k)))
    if hour > 23 or minute > 59 or second > 60 or not plausible(kind, numbers):
        return None
    if part["hms"] and kind not in ("y8", "y6"):
        return None
    # Addresses and versions are no times: points stand between pairs of digits, and behind a date.
    short = not part["hms"] and (len(part["m"]) < 2 or len(part["sec"]) < 2)
    if (part["t"] == "." and (short or not kind)) or (short and not kind):
        return None
    if kind == "m4" and (part["f"] is None or part["j"] != " "):
        return None
    join = (
        " " if (part.get("j") or "").isspace() else (part.get("j") or "").strip() + (" " if (part.get("j") or "").startswith(",") else "")
    )
    end, zone, tail = found.end(), part["zone"] or "", ""
    if kind in ("Nd", "dN") and (year := YEAR_AFTER.match(text, end)):
        end, tail = year.end(), "year"
        zone = year["gap"].rstrip() or zone
    month = "long" if part.get("n") and len(part["n"]) > 4 else "name" if part.get("n") else ""
    style = (fold(part.get("s")), fold(part.get("e")), join, part["t"] or "", "half" if part["half"] else "", tail, month)
    return Seen(kind, style, end, numbers, (part["f"] or "") + (part["frac"] or ""), zone, found.start())


def fold(separator: str | None) -> str:
    """Return a separator with each run of blanks as one blank."""
    return re.sub(r" +", " ", separator or "")


def plausible(kind: str, numbers: Sequence[int]) -> bool:
    """Return whether the numbers of a date can be one."""
    if kind in ("yMd", "y8", "y6"):
        year, month, day = numbers
        return (kind == "y6" or YEARS[0] <= year <= YEARS[1]) and 1 <= month <= 12 and 1 <= day <= 31
    if "N" in kind:
        return 1 <= numbers[0] <= 31 and ("y" not in kind or YEARS[0] <= numbers[-1] <= YEARS[1])
    if kind in ("xxy", "xx", "m4"):
        return all(1 <= n <= 31 for n in numbers[:2]) and min(numbers[:2]) <= 12 and (kind != "xxy" or YEARS[0] <= numbers[2] <= YEARS[1])
    return kind == "" or all(1 <= n <= 99 for n in numbers)


def form_of(stamps: Iterable[Seen]) -> tuple[Form, Key] | None:
    """Return the form that most stamps have, and its key; None if there is no stamp."""
    by_key: dict[Key, list[Seen]] = {}
    for seen in stamps:
        by_key.setdefault(key_of(seen), []).append(seen)
    if not by_key:
        return None
    key = max(by_key, key=lambda k: (len(by_key[k]), k))
    return build(by_key[key]), key


def key_of(seen: Seen) -> Key:
    """Return what two stamps of one form share; a missing fraction or zone is no difference."""
    return seen.kind, seen.style


def literal(text: str) -> str:
    """Return text as a regular expression that people can read."""
    return re.sub(r"([\\.\[\](){}*+?^$|])", r"\\\1", text)


def quoted(text: str) -> str:
    """Return literal text of a datetime pattern: letters in quotes."""
    return re.sub(r"([A-Za-z]+)", r"'\1'", text)


def build(stamps: Sequence[Seen]) -> Form:
    """Return the form of stamps that share a key."""
    first, kind = stamps[0], stamps[0].kind
    if kind == "epoch":
        fraction = r"(?:\.\d+)?" if any(s.fraction for s in stamps) else ""
        digits = {"epoch": 10, "epoch_ms": 13, "epoch_us": 16, "epoch_ns": 19}[first.style[0]]
        return Form(rf"\d{{{digits}}}{fraction}", first.style[0])
    separator, ending, join, colon, half, tail, month = first.style
    order, doubtful = order_of(kind, stamps)
    name = "[A-Za-z]+" if month == "long" or any(s.style[6] == "long" for s in stamps) else "[A-Za-z]{3,4}"
    parts = {
        "y": (r"\d{4}", "yyyy"),
        "s": (r"\d{2}", "yy"),
        "M": (TWO, "M"),
        "d": (TWO, "d"),
        "N": (name, "MMM"),
    }
    if kind in ("y8", "y6", "m4"):
        date_pattern = {"y8": r"\d{8}", "y6": r"\d{6}", "m4": r"\d{4}"}[kind]
        date_format = {"y8": "yyyyMMdd", "y6": "yyMMdd", "m4": "MMdd"}[kind]
    else:
        between = [separator, ending or separator]
        date_pattern = date_format = ""
        for place, letter in enumerate(order):
            gap = between[min(place, len(between)) - 1] if place else ""
            padded = " *" if letter == "d" and place and gap != " " else ""
            date_pattern += re.sub(" ", " +", literal(gap)) + padded + parts[letter][0]
            date_format += gap + parts[letter][1]
    join_pattern, join_format = re.sub(" ", " +", literal(join)), quoted(join)
    if colon:
        c = literal(colon)
        time_pattern, time_format = rf"{TWO}{c}{TWO}{c}{TWO}", f"{'h' if half else 'H'}{colon}m{colon}s"
    else:
        time_pattern, time_format = r"\d{6}", "HHmmss"
    fraction_pattern, fraction_format = fraction_of(stamps)
    half_pattern, half_format = (r" ?[AaPp][Mm]", "[ ]a") if half else ("", "")
    zone_pattern, zone_format = zone_of(stamps)
    year_pattern, year_format = (r" \d{4}", " yyyy") if tail else ("", "")
    pattern = date_pattern + join_pattern + time_pattern + fraction_pattern + half_pattern + zone_pattern + year_pattern
    form = date_format + join_format + time_format + fraction_format + half_format + zone_format + year_format
    without = "" if tail else "day" if kind == "" else "" if "y" in order or "s" in order else "year"
    return Form(pattern, form, without, doubtful)


def fraction_of(stamps: Sequence[Seen]) -> tuple[str, str]:
    """Return pattern and format of the fraction of a second; optional if some stamps have none."""
    marks = Counter(s.fraction[0] for s in stamps if s.fraction)
    if not marks:
        return "", ""
    mark = marks.most_common(1)[0][0]
    most = max(len(s.fraction) - 1 for s in stamps)
    pattern, form = rf"{literal(mark)}\d{{1,9}}", f"{mark}{'S' * most}"
    return (pattern, form) if all(s.fraction for s in stamps) else (f"(?:{pattern})?", f"[{form}]")


def zone_of(stamps: Sequence[Seen]) -> tuple[str, str]:
    """Return pattern and format of the zone: an offset, an abbreviation, or either; optional if some stamps have none."""
    zones = [s.zone for s in stamps]
    named = any(re.search("[A-Y]", zone) for zone in zones)
    numbered = any(re.search(r"[Z+-]", zone) and not re.search("[A-Y]", zone) for zone in zones)
    if not named and not numbered:
        return "", ""
    blank = " " if any(zone.startswith(" ") for zone in zones) else ""
    patterns = ([OFFSET_PATTERN] if numbered else []) + (["[A-Z]{3,5}"] if named else [])
    pattern = blank + (patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})")
    form = blank + ("[X][z]" if named and numbered else "z" if named else "X")
    return (pattern, form) if all(zones) else (f"(?:{pattern})?", f"[{form}]")


def order_of(kind: str, stamps: Sequence[Seen]) -> tuple[str, bool]:
    """Return the order of year, month and day, and whether it is a guess: what exceeds 12 is no month, and years hardly change."""
    if kind in ORDERS:
        return ORDERS[kind], False
    if kind in ("m4", ""):
        return "Md" if kind == "m4" else "", False
    n_numbers = len(stamps[0].numbers)
    most = [max(s.numbers[place] for s in stamps) for place in range(n_numbers)]
    kinds = [len({s.numbers[place] for s in stamps}) for place in range(n_numbers)]
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
