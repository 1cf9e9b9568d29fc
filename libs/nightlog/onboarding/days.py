"""The origin of files (path, day in their names, last change), and the times of a trial checked against it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa

from nightlog.onboarding.trial import Event, Trial
from nightlog.parsing.timestamps import reader
from nightlog.systems.spec import Timestamp
from nightlog.systems.time_formats import EPOCHS, compile_format

MOST_DAYS = 2  # a night's file may begin before midnight
A_DAY, LATE, EXACT = timedelta(days=1), timedelta(minutes=5), timedelta(minutes=1)
LOOKED_AT = 2000  # events
FIRST_YEAR = 1990  # an earlier change of a file is none
# A day in a file's name, with the hour and what else of the time stands behind it.
DAY = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d{2})(?P<mark>[-_./]?)(?P<month>[01]\d)(?P=mark)(?P<day>[0-3]\d)"
    r"(?:(?P<before>[-_.T/]?)(?P<hour>[01]\d|2[0-3])(?P<more>(?:[-_.:]?\d{2}){1,2}Z?)?)?(?!\d)"
)
TOKENS = re.compile(r"'[^']*'|([A-Za-z])\1*|.", re.DOTALL)


@dataclass(frozen=True)
class Origin:
    """The origin of files: their path in a system file, the data folder that it is under, the days in their names (in order; none if
    a name lacks one), and when the last of them was written, UTC; None if the file system does not say, as archives with times of 1970."""

    path: str
    folder: Path
    days: tuple[str, ...]
    modified: datetime | None

    @property
    def ds(self) -> str:
        """The night that the files are of: the last day in their names, or else that of their last change, or else today."""
        return self.days[-1] if self.days else (self.modified or datetime.now(UTC)).date().isoformat()


def origin_of(paths: Sequence[Path], data: Path | None) -> Origin:
    """Return the origin of files.

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
        days, dated = [], escaped
    modified = max(datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in paths)
    return Origin(common(dated), folder, tuple(sorted(set(days))), modified if modified.year >= FIRST_YEAR else None)


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


def midnight(ds: str) -> datetime:
    """Return the first instant of a day, UTC."""
    return datetime.fromisoformat(ds).replace(tzinfo=UTC)


def reordered(stamp: dict[str, str], events: Sequence[Event], ds: str) -> dict[str, str] | None:
    """Return the section of the time with year, month and day in another order, if only then the times are of the files' day.

    Args: stamp: a section [timestamp] of the events; ds: the day in the files' names, or else of their last change.
    """
    if stamp["format"] in EPOCHS:
        return None
    texts = stamps_of(stamp, events, ds)
    shares = {form: share_near(texts, stamp | {"format": form}, ds) for form in (stamp["format"], *orders(stamp["format"]))}
    best = max(shares, key=lambda form: shares[form])
    return stamp | {"format": best} if shares[stamp["format"]] < 0.5 and shares[best] >= 0.9 else None


def confirmed(stamp: dict[str, str], events: Sequence[Event], ds: str) -> bool:
    """Return whether the times are of the files' day, and would be of others if month and day were the other way round."""
    texts = stamps_of(stamp, events, ds)
    others = [share_near(texts, stamp | {"format": form}, ds) for form in orders(stamp["format"])]
    return share_near(texts, stamp, ds) >= 0.9 and max(others, default=0.0) < 0.9


def stamps_of(stamp: dict[str, str], events: Sequence[Event], ds: str) -> pa.StringArray:
    """Return the stamps of events as text."""
    given = {"ds": ds, "ds_year": ds[:4]}
    names = set(re.findall(r"\{(\w+)\}", stamp["value"])) - given.keys()
    rows = [event.fields for event in events[:LOOKED_AT] if names <= event.fields.keys()]
    return pa.array([stamp["value"].format_map(given | fields) for fields in rows], pa.string())


def orders(form: str) -> list[str]:
    """Return a datetime pattern with its numbers of two digits for year, month and day in each other order; none if a year leads them.

    >>> orders("dd/MM/yyyy HH:mm"), orders("d MMM yyyy"), orders("yyyy-MM-dd HH:mm")
    (['MM/dd/yyyy HH:mm'], [], [])
    """
    if re.match(r"y{4}[^ ]", form):
        return []
    tokens = [found[0] for found in TOKENS.finditer(form)]
    places = [place for place, token in enumerate(tokens) if re.fullmatch(r"yy|MM?|dd?", token)]
    found = []
    for order in permutations([tokens[place] for place in places]):
        other = list(tokens)
        for place, token in zip(places, order, strict=True):
            other[place] = token
        found.append("".join(other))
    return [each for each in dict.fromkeys(found) if each != form]


def share_near(texts: pa.StringArray, stamp: dict[str, str], ds: str) -> float:
    """Return the share of stamps that are read as times of a day, or of the days beside it."""
    at = reader(Timestamp.model_validate(stamp))(texts)
    micros = np.asarray(at.fill_null(0))
    first, last = ((midnight(ds) + n * A_DAY).timestamp() * 1e6 for n in (-1, 2))
    return float((np.asarray(at.is_valid()) & (micros >= first) & (micros < last)).mean()) if len(at) else 0.0


def doubts(trial: Trial, origin: Origin) -> list[str]:
    """Return what speaks against the times of a trial."""
    stamp = trial.system.timestamp
    times = sorted(event.at for event in trial.matched if event.at is not None)
    if stamp is None or not times:
        return []
    found = []
    if origin.days and "{ds}" not in stamp.value:
        first, last = midnight(origin.days[0]), midnight(origin.days[-1])
        outside = sum(not first - A_DAY <= at < last + 2 * A_DAY for at in times) / len(times)
        if outside > 0.05:
            found.append(
                f"{outside:.0%} of the records are of other days than the files' names say: they are of {spanned(times)}, the names say "
                f"{' to '.join(origin.days)}; look at a line of which you know the time, and correct [timestamp] format or timezone"
            )
        elif sum(at < first for at in times) > 0.9 * len(times):
            found.append(
                "the records are of the day before the one in the files' names, as log rotation leaves them: the night of "
                f"{origin.days[0]} reads those of {(first - A_DAY).date()}"
            )
    elif not origin.days and len({at.date() for at in times}) > MOST_DAYS:
        n_days = (times[-1].date() - times[0].date()).days + 1
        found.append(
            f"the lines are of {n_days:,} days, {times[0].date()} to {times[-1].date()}, and make one night; for nights that can be "
            "compared deliver a file a day, with the day in its name"
        )
    return found if origin.modified is None else found + against_change(times, stamp, origin.modified, bool(origin.days))


def against_change(times: Sequence[datetime], stamp: Timestamp, modified: datetime, is_dated: bool) -> list[str]:
    """Return what the files' last change says against the times: none can be later. Args: is_dated: the files' names have days."""
    behind = modified - times[-1]
    changed = f"the last change of the files, {modified:%Y-%m-%d %H:%M} UTC"
    zoned = stamp.format in EPOCHS or compile_format(stamp.format).has_zone
    if behind < -LATE:
        why = "a wrong day" if behind < -A_DAY else "a time zone that [timestamp] timezone does not name" if not zoned else "a wrong clock"
        return [f"the last record is of {times[-1]:%Y-%m-%d %H:%M}, after {changed}: {why}?"]
    hours = round(behind / timedelta(hours=1))
    if not zoned and 1 <= hours <= 12 and abs(behind - timedelta(hours=hours)) <= EXACT:
        local = "if the stamps are local times, name their zone in [timestamp] timezone"
        return [f"the last record is of just {hours} hours before {changed}: {local}"]
    if re.search(r"(?<!y)yy(?!y)", stamp.format) and not is_dated and abs(behind) > 366 * A_DAY:
        return [f"the times are of {spanned(times)}, far from {changed}: year, month and day may stand in another order"]
    return []


def spanned(times: Sequence[datetime]) -> str:
    """Return the first and the last day of times."""
    return " to ".join(dict.fromkeys([str(times[0].date()), str(times[-1].date())]))
