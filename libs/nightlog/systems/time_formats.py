"""Formats of time stamps: Spark's datetime patterns as regular expressions.

More lenient than Spark where logs are: numbers of two digits may have one, padded by a blank or not; a fraction of a second may have any
number of digits behind a point or a comma; an offset may be written in each usual way; a time zone may be named by its abbreviation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Parts of a second that a number counts, by the name of its format.
EPOCHS = {"epoch": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
# Hours east of UTC; of an abbreviation with several meanings the one that logs use most.
ZONES = {
    **{"utc": 0, "gmt": 0, "z": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "msk": 3},
    **{"ist": 5.5, "sgt": 8, "hkt": 8, "jst": 9, "kst": 9, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13, "brt": -3},
    **{"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "akst": -9, "akdt": -8, "hst": -10},
}
PIECES = re.compile(r"'(?P<quoted>(?:[^']|'')*)'|(?P<letters>([A-Za-z])\3*)|.", re.DOTALL)
NUMBERS = {"y": "year", "u": "year", "M": "month", "L": "month", "d": "day", "H": "hour", "h": "half_hour", "m": "minute", "s": "second"}
OFFSETS = frozenset("xXZO")


@dataclass(frozen=True)
class TimeFormat:
    """A format as a regular expression on bytes in which any digit stands for each other.

    `literals`: name of the group → the digit that must stand there. `has_zone`: a stamp says how far it is from UTC.
    """

    pattern: re.Pattern[bytes]
    literals: dict[str, int]
    has_zone: bool


def compile_format(form: str) -> TimeFormat:
    """Compile a datetime pattern. Raises ValueError with the letters that are not known or stand there twice.

    >>> compile_format("yyyy-MM-dd HH:mm").pattern.fullmatch(b"2026-3-04  5:06")["hour"]
    b'5'
    """
    pieces = list(PIECES.finditer(form))
    pattern, literals = "", dict[str, int]()
    for number, piece in enumerate(pieces):
        if piece["letters"]:
            alone = not any(is_number(pieces[at][0]) for at in (number - 1, number + 1) if 0 <= at < len(pieces))
            pattern += field_pattern(piece["letters"], alone)
        elif piece["quoted"] is None and piece[0] in "[]":
            pattern += "(?:" if piece[0] == "[" else ")?"
        elif piece[0] in ".," and pieces[number + 1 : number + 2] and pieces[number + 1][0][0] == "S":
            pattern += "[.,]"
        elif piece["quoted"] is None and piece[0] in "{}#":
            raise ValueError(f"`{piece[0]}` is reserved: quote it as '{piece[0]}'")
        else:
            for text in re.split(r"([0-9])", piece[0] if piece["quoted"] is None else piece["quoted"].replace("''", "'") or "'"):
                if text.isdecimal():
                    literals[f"literal_{len(literals)}"] = int(text)
                    pattern += rf"(?P<literal_{len(literals) - 1}>\d)"
                else:
                    pattern += " +" if text == " " else re.escape(text)
    try:
        compiled = re.compile(pattern.encode(), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"not a datetime pattern: {error}; each field may stand there once") from None
    return TimeFormat(compiled, literals, bool({"offset", "zone"} & compiled.groupindex.keys()))


def is_number(piece: str) -> bool:
    """Return True if a piece of a format stands for digits alone."""
    return (piece[0] in NUMBERS and not (piece[0] in "ML" and len(piece) > 2)) or piece[0] == "S" or piece.isdecimal()


def field_pattern(letters: str, alone: bool) -> str:
    """Return the expression of a run of equal letters. Args: alone, no digits stand directly before or behind it."""
    letter, n = letters[0], len(letters)
    if letter == "S" and n <= 9:
        return r"(?P<fraction>\d{1,9})" if alone else rf"(?P<fraction>\d{{{n}}})"
    if letter in "yu" and n in (2, 4):
        return rf"(?P<{'short_year' if letters == 'yy' else 'year'}>\d{{{n}}})"
    if letter in "ML" and n in (3, 4):
        return f"(?P<month_name>{'|'.join(sorted({*MONTHS, *(name[:3] for name in MONTHS), 'sept'}, key=len, reverse=True))})\\.?"
    if letter in NUMBERS and letter not in "yu" and n <= 2:
        return rf" ?(?P<{NUMBERS[letter]}>\d{{1,2}})" if alone else rf"(?P<{NUMBERS[letter]}>\d{{{n}}})"
    if letter == "a" and n == 1:
        return "(?P<half>am|pm)"
    if letter == "E" and n <= 4:
        return f"(?:{'|'.join([*WEEKDAYS, *(name[:3] for name in WEEKDAYS)])})"
    if letter in OFFSETS and n <= 3:
        return r"(?P<offset>z|(?:gmt|utc)?[-+]\d\d(?::?\d\d)?)"
    if letter in "zV" and n <= 4:
        return f"(?P<zone>{'|'.join(sorted(ZONES, key=len, reverse=True))})"
    raise ValueError(f"unknown letters `{letters}`")
