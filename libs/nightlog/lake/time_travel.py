"""The lake as it was at some time, the versions of a table, and going back to one of them (a new version: nothing is lost by it)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nightlog.errors import ConfigError, NotThere
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, VERDICTS, TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

# Rows that are replaced or added later say when they were written; those of day slices and templates are written once.
WRITTEN_AT = {VERDICTS.name: "asked_at", ANSWERS.name: "answered_at"}


class PastLake(Lake):
    """A lake that reads each table as it was `at` a time (UTC); for reads by `rows` and `arrow` alone.

    Where a version of then is no longer kept (NIGHTLOG_REPLAY_DAYS), the table is read as it is now, without rows that say that they are
    younger, and its name is in `as_now`.
    """

    def __init__(self, root: Path | str, at: datetime):
        super().__init__(root)
        self.at = at
        self.as_now: set[str] = set()

    def exists(self, spec: TableSpec) -> bool:
        """Return true if the table was there then, or may have been."""
        if not super().exists(spec):
            return False
        history = super().table(spec).history()
        return version_at(history, self.at) is not None or not holds_first_commit(history)

    def table(self, spec: TableSpec) -> DeltaTable:
        table = super().table(spec)
        version = version_at(table.history(), self.at)
        if version is None:
            self.as_now.add(spec.name)
        else:
            table.load_as_version(version)
        return table

    def arrow(self, spec: TableSpec, columns: list[str] | None = None, **equal: str | Sequence[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            found = super().arrow(spec, columns, **equal)
        except FileNotFoundError:
            self.as_now.add(spec.name)
            found = Lake(self.root).arrow(spec, columns, **equal)
        written = WRITTEN_AT.get(spec.name)
        if spec.name in self.as_now and written in found.column_names:
            then = pa.scalar(self.at, pa.timestamp("us", "UTC"))
            found = found.filter(pc.less_equal(found.column(written).cast(then.type), then))
        return found


def version_at(history: Iterable[Mapping[str, Any]], at: datetime) -> int | None:
    """The last version that was committed by then; None where the history knows none. Args: history (version, timestamp in ms).

    >>> from datetime import UTC
    >>> commits = [{"version": n, "timestamp": 1000 * n} for n in range(3)]
    >>> version_at(commits, datetime.fromtimestamp(1.5, UTC)), version_at(commits[2:], datetime.fromtimestamp(1.5, UTC))
    (1, None)
    """
    until = at.timestamp() * 1000
    return max((int(row["version"]) for row in history if row["timestamp"] <= until), default=None)


def holds_first_commit(history: Iterable[Mapping[str, Any]]) -> bool:
    """Return true if a history holds the first commit of the table: before it there was no table."""
    return any(row["version"] == 0 for row in history)


class Version(NamedTuple):
    """A version of a table: its number, when it was written (UTC), and by what kind of write."""

    version: int
    at: datetime
    operation: str


def versions(lake: Lake, spec: TableSpec) -> list[Version]:
    """The versions that Delta's log still knows, the newest first. Raises NotThere if there is no such table."""
    if not lake.exists(spec):
        raise NotThere(f"no table {spec.name} in the lake {lake.root}")
    history = lake.table(spec).history()
    return [Version(row["version"], datetime.fromtimestamp(row["timestamp"] / 1000, UTC), str(row.get("operation", ""))) for row in history]


def restore(lake: Lake, spec: TableSpec, to: int | datetime) -> int:
    """Put a table back to a version, or to the last one at a time. Returns the version that it went back to.

    Raises NotThere if there is none, ConfigError if files of it were removed because they were older than `replay_days`.
    """
    known = versions(lake, spec)
    if isinstance(to, datetime):
        found = next((each.version for each in known if each.at <= to), None)
        if found is None:
            raise NotThere(f"{spec.name} has no version that early: its first is of {known[-1].at:%Y-%m-%d %H:%M:%S} UTC")
    else:
        found = to
    if not 0 <= found <= (newest := lake.table(spec).version()):
        raise NotThere(f"{spec.name} has versions up to {newest}, and not {found}")
    try:
        lake.table(spec).restore(found, protocol_downgrade_allowed=True)
    except Exception as error:
        raise ConfigError(
            f"{spec.name} cannot go back to version {found}, some of its files are gone ({str(error)[:200]}); "
            "versions can be read for NIGHTLOG_REPLAY_DAYS days: take a younger one, or rebuild the table, see docs/how-to/recover.md"
        ) from error
    return found
