"""All checks, one after the other. Each is quick and starts no Spark; a check that breaks gives a result that says so."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from nightlog.doctor import CheckResult, State, endpoint, error, machine, ok, systems, tables
from nightlog.errors import ConfigError, SettingsError
from nightlog.ingest.discover import data_folder, find_days, present_systems
from nightlog.ingest.objects import object_store
from nightlog.lake.lake import Lake
from nightlog.lake.tables import OUTCOMES
from nightlog.settings import Settings, sources


def look(settings: Settings, java_home: str | None, now: datetime, online: bool) -> list[CheckResult]:
    """Check everything that a night needs. Nothing is changed and, unless `online`, no endpoint is asked."""
    lake = Lake(settings.lake)
    checks: list[tuple[str, Callable[[], Iterable[CheckResult]]]] = [
        ("settings", lambda: [ok("settings", f"{name} = {value}", source) for name, value, source in sources()]),
        (machine.AREA, lambda: of_machine(settings, lake, java_home)),
        (tables.AREA, lambda: tables.folder(lake)),
        (tables.AREA, lambda: tables.tables(lake, settings.replay_days)),
        (tables.MODELS_AREA, lambda: tables.models(lake)),
        (endpoint.AREA, lambda: endpoint.endpoint(settings, online, lake)),
        (systems.AREA, lambda: of_systems(settings, lake, now)),
    ]
    return [result for area, check in checks for result in guarded(area, check)]


def of_settings(trouble: SettingsError) -> list[CheckResult]:
    """Return the settings that are wrong; nothing else can be checked then."""
    return [error("settings", f"{name}: {why}", "environment or nightlog.toml", "correct or unset it") for name, why in trouble.wrong]


def guarded(area: str, check: Callable[[], Iterable[CheckResult]]) -> Iterator[CheckResult]:
    """Yield the results of a check, and one more if it broke off."""
    try:
        yield from check()
    except Exception as trouble:
        if isinstance(trouble, ModuleNotFoundError) and machine.reads_only():
            yield ok(area, f"not checked without {trouble.name}; {machine.READS_ONLY}", "")
            return
        yield error(area, f"could not be checked: {tables.one_line(trouble)}", "", tables.RECOVER)


def of_machine(settings: Settings, lake: Lake, java_home: str | None) -> Iterator[CheckResult]:
    """Check the machine."""
    yield machine.python(sys.version_info[:3])
    yield from machine.packages(machine.requirements())
    if not machine.reads_only():
        yield machine.java(machine.ask_java(java_home))
        yield machine.jars()
        yield machine.memory(machine.total_memory(), settings.driver_memory)
    if "://" not in lake.root:
        place = next(each for each in (Path(lake.root), *Path(lake.root).parents) if each.exists())
        yield machine.disk(shutil.disk_usage(place).free, str(place))


def of_systems(settings: Settings, lake: Lake, now: datetime) -> Iterator[CheckResult]:
    """Check the systems of a night, their files and their last nights."""
    found, own, faults = systems.catalogue(settings.systems)
    yield from faults
    rows = systems.nights(lake)
    chosen = systems.targets(found, own)
    chosen = chosen if own else present_systems(chosen, settings.logs, rows)
    yield from systems.inputs(chosen, settings.logs)
    data: Path | None = None
    if object_store(settings.logs) is None:
        with suppress(ConfigError):  # `inputs` reports it
            data = data_folder(settings.logs)
    days = {system.name: dated[-1] for system in chosen if data is not None and (dated := find_days(system, data))}
    outcomes = lake.rows(OUTCOMES, ["system", "ds", "stage", "outcome", "detail", "counts", "at"])
    yield from systems.last_nights(chosen, rows, outcomes, days)
    yield from tables.unjudged_ahead(lake, chosen, settings.provider == "off")
    if data is not None:
        yield from systems.late_files(chosen, rows, data)
    yield from systems.stale_nights(chosen, lake)
    yield from systems.overdue(chosen, lake, now)
    yield from systems.clock(now, rows)


def worst(results: Iterable[CheckResult]) -> State:
    """Return the worst state of all results."""
    states = {result.state for result in results}
    return next((state for state in (State.ERROR, State.WARNING) if state in states), State.OK)
