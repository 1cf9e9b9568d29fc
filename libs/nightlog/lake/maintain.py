"""Upkeep of the lake: drop nights that are too old, compact small files, remove files that no version needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from nightlog.errors import ConfigError
from nightlog.lake.delta import PROPERTIES, sql_condition
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, OUTCOMES, TableSpec

LEAST_REPLAY_DAYS = 7  # Delta refuses to remove younger files: a reader or writer of a long job may still need them

Night = tuple[str, str]


@dataclass(frozen=True)
class Retention:
    """Days for which nights are kept, by layer, and days for which the versions of tables can be read.

    Raises ConfigError if a layer would be kept for less than the `replay` days, in which a past night can be derived again, or if these
    are fewer than Delta allows.
    """

    bronze: int
    silver: int
    gold: int
    replay: int

    def __post_init__(self) -> None:
        if self.replay < LEAST_REPLAY_DAYS:
            raise ConfigError(f"replay_days is {self.replay}; expected at least {LEAST_REPLAY_DAYS}: set NIGHTLOG_REPLAY_DAYS")
        for layer in ("bronze", "silver", "gold"):
            if (days := getattr(self, layer)) < self.replay:
                raise ConfigError(
                    f"{layer}_days is {days}, less than the {self.replay} days in which a night can be replayed: "
                    f"raise NIGHTLOG_{layer.upper()}_DAYS or lower NIGHTLOG_REPLAY_DAYS"
                )

    def days(self, spec: TableSpec) -> int | None:
        """Return the days for which the nights of a table are kept; None: permanently."""
        return None if spec.retention is None else int(getattr(self, spec.retention))


def expired_nights(
    nights: Iterable[Night], last_run: Mapping[Night, date], today: date, days: int, kept: Collection[str] = ()
) -> dict[str, list[str]]:
    """Return the nights (system, ds) that are older than `days`, by system, in order.

    A night is as old as its day or, where it was run later, as its last run: an old day that was backfilled yesterday is not dropped today.
    Systems in `kept` lose nothing.

    >>> expired_nights([("a", "2026-01-01"), ("a", "2026-03-01"), ("b", "2026-01-01")], {}, date(2026, 3, 4), 30, ["b"])
    {'a': ['2026-01-01']}
    """
    oldest = today - timedelta(days=days)
    found: dict[str, list[str]] = {}
    for system, ds in sorted(set(nights)):
        if system not in kept and max(date.fromisoformat(ds), last_run.get((system, ds), date.min)) < oldest:
            found.setdefault(system, []).append(ds)
    return found


def nights_in(lake: Lake, spec: TableSpec) -> set[Night]:
    """Return the nights of which a table with a column `ds` holds rows; the system is empty if a row is about all systems."""
    if "ds" in spec.partition:
        return {(found["system"], found["ds"]) for found in lake.table(spec).partitions()}
    columns = [name for name in ("system", "ds") if name in spec.names]
    rows = lake.dataset(spec).to_table(columns=columns).group_by(columns).aggregate([]).to_pylist()
    return {(row.get("system", ""), row["ds"]) for row in rows if row["ds"] is not None}


def last_runs(lake: Lake, look_back: Mapping[str, int]) -> dict[Night, date]:
    """Return the day of each night's last run, whatever its outcome; a night that looks back needs the days before it as well.

    An empty system stands for all systems of a night.

    Args: look_back, by system the number of days that its nights look back; 0 where it is not named.
    """
    found: dict[Night, date] = {}
    for row in lake.rows(OUTCOMES, ["system", "ds", "at"]):
        for n in range(look_back.get(row["system"], 0) + 1):
            ds, day = str(date.fromisoformat(row["ds"]) - timedelta(days=n)), row["at"].date()
            for night in ((row["system"], ds), ("", ds)):
                found[night] = max(day, found.get(night, day))
    return found


def maintain(
    lake: Lake,
    retention: Retention,
    sources: Collection[str],
    look_back: Mapping[str, int],
    now: datetime,
    tell: Callable[[str], None],
    systems: Collection[str] = (),
    dry_run: bool = False,
) -> dict[str, int]:
    """Drop expired nights, compact small files, and remove files that no version of the replay days needs; table by table.

    Nights of `sources` stay: models are trained on all of them, and dropped nights would have to be read again from files. With `systems`
    only their nights are dropped. With `dry_run` the nights that are too old are only listed. A second run has nothing left to do.

    Returns: n_dropped, nights of tables dropped; n_compacted, small files compacted; n_removed, files removed.
    """
    totals = {"n_dropped": 0, "n_compacted": 0, "n_removed": 0}
    runs = last_runs(lake, look_back)
    for spec in ALL_TABLES:
        if not lake.exists(spec):
            continue
        days = retention.days(spec)
        old = expired_nights(nights_in(lake, spec), runs, now.date(), days, sources) if days is not None else {}
        old = {system: ds for system, ds in old.items() if not systems or system in systems}
        dropped = [f"{system or 'all systems'}: {len(ds)} nights from {ds[0]} to {ds[-1]}" for system, ds in old.items()]
        if dry_run:
            tell(f"{spec.name}: would drop {'; '.join(dropped) or 'nothing'}")
            continue
        if old:
            places = [{"system": system, "ds": ds} if system else {"ds": ds} for system, ds in old.items()]
            lake.table(spec).delete(" or ".join(f"({sql_condition(place)})" for place in places))
        n_compacted = compact(lake, spec) if spec.retention == "gold" or "ds" not in spec.partition else 0
        n_removed = vacuum(lake, spec, retention.replay)
        tell(f"{spec.name}: dropped {'; '.join(dropped) or 'nothing'}; {n_compacted} small files compacted, {n_removed} old files removed")
        for name, n in (("n_dropped", sum(map(len, old.values()))), ("n_compacted", n_compacted), ("n_removed", n_removed)):
            totals[name] += n
    return totals


def compact(lake: Lake, spec: TableSpec) -> int:
    """Compact small files. Returns their number.

    Slices of a day below gold are left alone: they are written once and whole, and their rows stay in order.
    """
    return int(lake.table(spec).optimize.compact()["numFilesRemoved"])


def leftovers(lake: Lake, spec: TableSpec, days: int) -> list[str]:
    """Return the files that no version of the last `days` needs, also those of runs that broke off, by their paths in the table's folder.

    Delta also lists files that an earlier VACUUM has removed, while its log remembers them; in a local lake these are left out.
    """
    found = lake.table(spec).vacuum(retention_hours=24 * days, dry_run=True, full=True, enforce_retention_duration=False)
    return list(found) if "://" in lake.root else [path for path in found if Path(lake.path(spec), unquote(path)).exists()]


def vacuum(lake: Lake, spec: TableSpec, days: int) -> int:
    """Remove the `leftovers`; returns how many there were.

    delta-rs lists a table's folder in one process; Spark starts ten thousand tasks to do so. `days` alone says which files may go; the
    table's own property only keeps Delta's memory of removed files long enough.
    """
    table = lake.table(spec)
    if not table.metadata().configuration.items() >= PROPERTIES.items():
        table.alter.set_table_properties(PROPERTIES)
    if n := len(leftovers(lake, spec, days)):
        lake.table(spec).vacuum(retention_hours=24 * days, dry_run=False, full=True, enforce_retention_duration=False)
    return n
