"""The systems: their files can be read, their paths find logs, their last nights are published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from nightlog.doctor import CheckResult, error, ok, warning
from nightlog.errors import ConfigError
from nightlog.ingest.discover import data_folder, relative, search_days, search_night
from nightlog.ingest.objects import object_store
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS, NightRow
from nightlog.outcomes import Stage, exit_kind, is_published
from nightlog.parsing.readings import Readings
from nightlog.sessions.waiting import overdue as overdue_nights
from nightlog.systems.catalog import parse_system, system_files
from nightlog.systems.spec import System

AREA = "systems"
FIX = "fix the file; `nightlog try` proposes one from the logs"


def catalogue(own: Path | None) -> tuple[dict[str, System], set[str], list[CheckResult]]:
    """Return the systems whose files can be read, the names of the user's own, and the faults of the other files."""
    found: dict[str, System] = {}
    named: set[str] = set()
    faults: list[CheckResult] = []
    try:
        for where, text in system_files(own):
            try:
                system = parse_system(text, where)
            except ConfigError as trouble:
                faults.append(error(AREA, str(trouble), where, FIX))
                continue
            found[system.name] = system
            if own is not None and Path(where).parent == own:
                if system.name in named:
                    faults.append(warning(AREA, f"two files describe {system.name}, the last one counts", where, "remove one"))
                named.add(system.name)
    except (ConfigError, OSError, UnicodeDecodeError) as trouble:
        faults.append(error(AREA, str(trouble), str(own), "name the folder of the system files: NIGHTLOG_SYSTEMS"))
    return found, named, faults


def targets(found: Mapping[str, System], own: set[str]) -> list[System]:
    """Return the systems of a night without names: the user's own targets if there are any, else all."""
    return [system for system in found.values() if system.role == "target" and (not own or system.name in own)]


def inputs(systems: Iterable[System], logs: Path) -> Iterator[CheckResult]:
    """Check that each system's path finds files, and that all of them can be reached. Args: logs: the data folder as it is set."""
    if (address := object_store(logs)) is not None:
        yield ok(AREA, "the log files are in an object store or in HDFS; a night looks for them", address)
        return
    try:
        data = data_folder(logs)
    except ConfigError as wrong:
        yield error(AREA, str(wrong), str(logs), "name the folder of the log files: NIGHTLOG_DATA")
        return
    for system in systems:
        days, troubles = search_days(system, data)
        for trouble in troubles[:3]:
            more = f"; and {len(troubles) - 3:,} more like this" if len(troubles) > 3 and trouble == troubles[2] else ""
            yield error(AREA, f"{system.name}: {trouble}{more}", str(data), "a night that may have files there fails until then")
        if days:
            yield ok(AREA, f"{system.name}: files of {len(days)} days, the last of {days[-1]}", f"{data}/{system.input.path}")
        else:
            todo = "correct `input.path` in its file, or NIGHTLOG_DATA; or run the others alone: --system"
            yield warning(AREA, f"{system.name}: no file matches", f"{data}/{system.input.path}", todo)


def last_nights(
    systems: Iterable[System], rows: Iterable[Mapping[str, Any]], outcomes: Iterable[Mapping[str, Any]], days: Mapping[str, str]
) -> Iterator[CheckResult]:
    """Yield the outcome of each system's last night.

    Args: rows of gold.nights; outcomes: rows of ops.outcomes, a failure there may be younger than what is published; days: system → the
    last day of which it has files.
    """
    last, ended = newest(rows, "ds"), newest((row for row in outcomes if row.get("stage") != Stage.REPORT), "at")
    for name in (system.name for system in systems):
        run, row = ended.get(name), last.get(name)
        if run is not None and exit_kind(run["outcome"], run.get("counts")) in ("gated", "failed", "transient"):
            row = run
        if row is None:
            yield warning(AREA, f"{name}: no night yet", "gold.nights", f"nightlog run --ds {days.get(name, 'DAY')} --system {name}")
        elif row["outcome"] == "gated":
            todo = f"fix it and run the night again, or: nightlog approve --ds {row['ds']} --system {name}"
            yield error(AREA, f"{name}: the last night, {row['ds']}, is held back: {row['detail']}", "gold.nights", todo)
        elif exit_kind(row["outcome"], row.get("counts")) in ("failed", "transient"):
            todo = f"see ops.outcomes, then: nightlog run --ds {row['ds']} --system {name}"
            failed = "has no input" if row["outcome"] == "no_input" else "failed"
            yield error(AREA, f"{name}: the last night, {row['ds']}, {failed}: {row['detail']}", "gold.nights", todo)
        elif row["outcome"] != "done":
            yield warning(AREA, f"{name}: the last night, {row['ds']}: {row['outcome']}: {row['detail']}", "gold.nights", "see its files")
        elif (latest := days.get(name)) is not None and behind(row["ds"], latest) > 1:
            todo = f"see if Airflow runs; for the last day: nightlog run --ds {latest} --system {name}"
            yield warning(AREA, f"{name}: the last night is {row['ds']}, and there are files of {latest}", "gold.nights", todo)
        else:
            yield ok(AREA, f"{name}: last night {row['ds']}, {row['n_anomalies'] or 0:,} anomalies", "gold.nights")


def newest(rows: Iterable[Mapping[str, Any]], by: str) -> dict[str, Mapping[str, Any]]:
    """Return system → its row with the greatest value of a column."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["system"] not in found or row[by] > found[row["system"]][by]:
            found[row["system"]] = row
    return found


def late_files(systems: Iterable[System], rows: Iterable[Mapping[str, Any]], data: Path, nights: int = 7) -> Iterator[CheckResult]:
    """Yield the systems with files that came, or changed, after their night had been published. Args: nights: the last nights to check."""
    by_system: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if is_published(row["outcome"]) and row["run_at"] is not None:
            by_system.setdefault(row["system"], []).append(row)
    for system in systems:
        for row in sorted(by_system.get(system.name, ()), key=lambda row: str(row["ds"]))[-nights:]:
            at = row["run_at"].timestamp()
            late = [path for path in search_night(system, data, row["ds"]).paths if path.stat().st_mtime > at]
            if late:
                todo = f"nightlog run --ds {row['ds']} --system {system.name}"
                first = relative(late[0], data)
                found = f"{system.name}: {len(late)} files of {row['ds']} came or changed after the night was published, e.g. {first}"
                yield warning(AREA, found, str(data), todo)


def stale_nights(systems: Iterable[System], lake: Lake) -> Iterator[CheckResult]:
    """Yield the nights whose sessions may begin on a day that has other events now."""
    for system in systems:
        readings = Readings(lake, system)
        for ds, days in readings.stale().items():
            found = f"{system.name}: {ds} is stale: lines of {', '.join(days)} that its sessions may begin with have changed since"
            yield warning(AREA, found, "silver.readings", f"nightlog run --ds {ds} --system {system.name}")


def overdue(systems: Iterable[System], lake: Lake, now: datetime) -> Iterator[CheckResult]:
    """Yield the systems with sessions that still wait after the last night that was to judge them."""
    before = (now.date() - timedelta(days=1)).isoformat()
    for name, ds in overdue_nights(lake, [system.name for system in systems], before).items():
        found = f"{name}: sessions that were to be judged by {ds} at the latest still wait"
        yield warning(AREA, found, "silver.waiting", f"`nightlog maintain` judges them, or: nightlog run --ds {ds} --system {name}")


def behind(last: str, newest: str) -> int:
    """Return the days between the last night and the newest files.

    >>> behind("2026-02-28", "2026-03-04")
    4
    """
    return (date.fromisoformat(newest) - date.fromisoformat(last)).days


def nights(lake: Lake) -> list[NightRow]:
    """Return the rows of gold.nights, with a few columns."""
    return lake.rows(NIGHTS, ["ds", "system", "outcome", "detail", "n_anomalies", "run_at"])


def clock(now: datetime, rows: Iterable[Mapping[str, Any]]) -> Iterator[CheckResult]:
    """Check that no night of the lake is later than today: otherwise a clock was wrong, or a day was mistyped."""
    if late := sorted({row["ds"] for row in rows if row["ds"] > now.date().isoformat()}):
        yield warning(AREA, f"nights of the future: {', '.join(late[:5])}", "gold.nights", "see the machine's clock, and who ran them")
