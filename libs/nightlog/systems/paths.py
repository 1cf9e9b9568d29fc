"""The day in the paths of log files: placeholders of `input.path`, as globs and as regular expressions."""

from __future__ import annotations

import re
from datetime import date
from fnmatch import translate

# Placeholder → how many digits each of its runs has; hyphens stand between the runs.
DIGITS = {"ds": (4, 2, 2), "ds_nodash": (8,), "year": (4,), "month": (2,), "day": (2,), "hour": (2,)}
PLACEHOLDER = re.compile(r"\{(\w*)\}")
DAYS = ({"ds"}, {"ds_nodash"}, {"year", "month", "day"})


def names_day(path: str) -> bool:
    """Return whether the placeholders of a path name a whole day. Raises ValueError for a placeholder that does not exist."""
    used = set(PLACEHOLDER.findall(path))
    if unknown := used - DIGITS.keys():
        raise ValueError(f"no placeholder {{{min(unknown)}}}; there are {', '.join(f'{{{name}}}' for name in DIGITS)}")
    return any(day <= used for day in DAYS)


def of_day(ds: str | None, name: str) -> str | None:
    """Return what a placeholder stands for on a day; None if any digits can stand there: without a day, and for the hour."""
    if ds is None or name == "hour":
        return None
    year, month, day = ds.split("-")
    return {"ds": ds, "ds_nodash": year + month + day, "year": year, "month": month, "day": day}[name]


def glob_of(path: str, ds: str | None = None) -> str:
    """Return a path's glob for the files of a day, or of any day.

    >>> glob_of("{year}/{month}/app-{ds_nodash}{hour}.log", "2026-03-04")
    '2026/03/app-20260304[0-9][0-9].log'
    """
    return PLACEHOLDER.sub(lambda found: of_day(ds, found[1]) or "-".join("[0-9]" * n for n in DIGITS[found[1]]), path)


def expression_of(path: str, ds: str | None = None) -> str:
    """Return a path as a regular expression for the files of a day, or of any day; each wildcard is an unnamed group of its own.

    Without a day, each placeholder is a named group. A placeholder that stands there again must match the same.

    >>> re.fullmatch(expression_of("*/app-{ds}.log*", "2026-03-04"), "web1/app-2026-03-04.log.gz").groups()
    ('web1', '.gz')
    """
    seen: set[str] = set()

    def placeholder(name: str) -> str:
        digits = "-".join(rf"\d{{{n}}}" for n in DIGITS[name])
        if name == "hour" or ds is not None:
            return re.escape(of_day(ds, name) or "") or digits
        again = name in seen
        seen.add(name)
        return f"(?P={name})" if again else f"(?P<{name}>{digits})"

    parts = [part for part in path.split("/") if part not in ("", ".")]
    pieces = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            pieces.append("(.*)" if last else "((?:[^/]+/)*)")
            continue
        text = ""
        for piece in re.findall(r"\{\w+\}|\[!?\]?[^\]]*\]|\*+|\?|.", part, re.DOTALL):
            if PLACEHOLDER.fullmatch(piece):
                text += placeholder(piece[1:-1])
            elif piece[0] in "*?" or len(piece) > 1:
                text += "([^/]*)" if piece[0] == "*" else "([^/])" if piece == "?" else f"({translate(piece)[4:-3]})"
            else:
                text += re.escape(piece)
        pieces.append(text if last else text + "/")
    return "".join(pieces)


def day_in(path: str, name: str) -> str | None:
    """Return the day of a file that a path finds; None if the path does not match, or its placeholders name no day or several.

    >>> day_in("{year}/{month}/{day}/app-{hour}.log", "2026/03/04/app-05.log"), day_in("app-{ds}.log", "app-2026-02-30.log")
    ('2026-03-04', None)
    """
    found = re.fullmatch(expression_of(path), name)
    if found is None:
        return None
    part = found.groupdict()
    text = part.get("ds") or part.get("ds_nodash") or "-".join(part[name] for name in ("year", "month", "day"))
    try:
        ds = date.fromisoformat(text).isoformat()
    except ValueError:
        return None
    return ds if re.fullmatch(expression_of(path, ds), name) else None
