"""A table as it was: its versions, and going back to one of them. Nothing is lost by it: going back is a new version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import TableSpec


class Version(NamedTuple):
    """A version of a table: its number, when it was written (UTC), and by what kind of write."""

    version: int
    at: datetime
    operation: str


def versions(lake: Lake, spec: TableSpec) -> list[Version]:
    """The versions that Delta's log still knows, the newest first. Raises ConfigError where there is no such table."""
    if not lake.exists(spec):
        raise ConfigError(f"no table {spec.name} in the lake {lake.root}")
    history = lake.table(spec).history()
    return [Version(row["version"], datetime.fromtimestamp(row["timestamp"] / 1000, UTC), str(row.get("operation", ""))) for row in history]


def restore(lake: Lake, spec: TableSpec, to: int | datetime) -> int:
    """Put a table back to a version, or to the last one at a time. Returns the version that it went back to.

    Raises ConfigError where there is none, or where files of it were removed because they were older than `replay_days`.
    """
    known = versions(lake, spec)
    if isinstance(to, datetime):
        found = next((each.version for each in known if each.at <= to), None)
        if found is None:
            raise ConfigError(f"{spec.name} has no version that early: its first is of {known[-1].at:%Y-%m-%d %H:%M:%S} UTC")
    else:
        found = to
    if not 0 <= found <= (newest := lake.table(spec).version()):
        raise ConfigError(f"{spec.name} has versions up to {newest}, and not {found}")
    try:
        lake.table(spec).restore(found, protocol_downgrade_allowed=True)
    except Exception as error:
        raise ConfigError(
            f"{spec.name} cannot go back to version {found}, some of its files are gone ({str(error)[:200]}); "
            "versions can be read for NIGHTLOG_REPLAY_DAYS days: take a younger one, or rebuild the table, see docs/how-to/recover.md"
        ) from error
    return found
