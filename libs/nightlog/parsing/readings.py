"""The readings of a system's days (silver.readings): by which rules, from which files, and which nights were made with it.

A night reads the lines of an earlier day again if they were parsed by other rules, or were replaced since. A night is stale if an earlier
day that its sessions were made with has other events now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nightlog.lake.parts import Part, names_hash
from nightlog.lake.tables import EVENTS_TABLE, LINES_TABLE, READINGS, ReadingRow
from nightlog.systems.catalog import reading_hash

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake
    from nightlog.systems.spec import System

NEW, RULES, LINES, GONE = "never parsed", "the system's reading rules have changed", "its lines have been replaced", "its lines are gone"


@dataclass
class Reading:
    """A row of silver.readings."""

    rules: str
    lines: str
    content: str = ""
    earlier: dict[str, str] | None = None
    n_waiting: int | None = None
    parts: str | None = None
    messages: str | None = None
    tally: dict[str, int] | None = None


class Readings:
    """The readings of one system's days, changed in memory until `write`."""

    def __init__(self, lake: Lake, system: System):
        self.lake = lake
        self.system = system.name
        self.rules = reading_hash(system)
        self.rows = {row["ds"]: reading_of(row) for row in lake.rows(READINGS, system=system.name)}
        self.changed: set[str] = set()

    def earlier_days(self, ds: str) -> list[str]:
        """Return the earlier days that the night looked at when it was last run."""
        return sorted((row.earlier or {}) if (row := self.rows.get(ds)) else {})

    def outdated(self, days: Sequence[str]) -> dict[str, str]:
        """Return the days whose events are not those of their lines by today's rules, each with the reason: NEW, RULES, LINES or GONE."""
        with_lines, with_events = (self.lake.nights(spec, self.system) for spec in (LINES_TABLE, EVENTS_TABLE))
        lines = self.lines_of([day for day in days if day in with_lines])
        found = {}
        for day in days:
            row = self.rows.get(day)
            if day in with_lines:
                if row is None:
                    found[day] = NEW
                elif row.rules != self.rules:
                    found[day] = RULES
                elif row.lines != lines[day]:
                    found[day] = LINES
            elif day in with_events and (row is None or row.rules != self.rules):
                found[day] = GONE
        return found

    def lines_of(self, days: Sequence[str]) -> dict[str, str]:
        """Return for each day a hash of the names of its files of bronze.lines."""
        parts: dict[str, list[Part]] = {day: [] for day in days}
        if days:
            for part in self.lake.parts(LINES_TABLE, system=self.system, ds=list(days)):
                parts[dict(part.partition)["ds"]].append(part)
        return {day: names_hash(of_day) for day, of_day in parts.items()}

    def parsed(self, days: Sequence[str]) -> None:
        """Note that the days' lines, as they are in the lake now, have been parsed by today's rules."""
        for day, lines in self.lines_of(days).items():
            before = self.rows.get(day)
            kept = (before.content, before.earlier, before.n_waiting) if before else ("", None, None)
            self.put(day, Reading(self.rules, lines, *kept))

    def put(self, ds: str, reading: Reading) -> None:
        """Replace a row in memory."""
        if self.rows.get(ds) != reading:
            self.rows[ds] = reading
            self.changed.add(ds)

    def write(self, run_id: str) -> None:
        """Commit the rows that have changed."""
        days = sorted(self.changed)
        if days:
            self.lake.replace(READINGS, [self.as_row(ds, run_id) for ds in days], system=self.system, ds=days)

    def as_row(self, ds: str, run_id: str) -> ReadingRow:
        """Return a day's reading as a row of the table."""
        row = self.rows[ds]
        return {
            "system": self.system,
            "ds": ds,
            "rules": row.rules,
            "content": row.content,
            "earlier": row.earlier,
            "n_waiting": row.n_waiting,
            "run_id": run_id,
            "run_lines": row.lines,
            "run_parts": row.parts,
            "run_messages": row.messages,
            "run_tally": row.tally,
        }

    def mark_stale(self, nights: Iterable[str], day: str) -> None:
        """Note that an earlier day is not what these nights were made with."""
        for night in nights:
            if (row := self.rows.get(night)) is not None:
                self.put(night, replace(row, earlier=(row.earlier or {}) | {day: ""}))

    def stale(self) -> dict[str, list[str]]:
        """Return the nights whose sessions were made with earlier days that have other events now: night → these days."""
        return stale_nights(self.rows)


def reading_of(row: Mapping[str, Any]) -> Reading:
    """Return a row of the table as a reading."""
    earlier, tally = (None if row[name] is None else dict(row[name]) for name in ("earlier", "run_tally"))
    made_from = row["run_parts"], row["run_messages"], tally
    return Reading(row["rules"], row["run_lines"], row["content"], earlier, row["n_waiting"], *made_from)


def stale_nights(rows: Mapping[str, Reading]) -> dict[str, list[str]]:
    """Return the nights whose earlier days have other events now: night → these days. Days parsed by other rules since do not count."""
    found: dict[str, list[str]] = {}
    for ds, row in sorted(rows.items()):
        days = [day for day, content in (row.earlier or {}).items() if is_changed(rows, row, day, content)]
        if days:
            found[ds] = sorted(days)
    return found


def is_changed(rows: Mapping[str, Reading], of: Reading, day: str, content: str) -> bool:
    """Return whether a day has other events than a night was made with, under the night's own rules."""
    now = rows.get(day)
    return now is not None and now.rules == of.rules and now.content != content


def rules_of(lake: Lake, system: str, ds: str) -> str | None:
    """Return the hash of the rules by which a night was parsed; None if an earlier version of Nightlog did so."""
    return next((row["rules"] for row in lake.rows(READINGS, ["rules"], system=system, ds=ds)), None)
