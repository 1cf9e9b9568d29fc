"""All checks, one after the other. Each is quick and starts no Spark; one that breaks is a finding itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from nightlog.doctor import endpoint, machine, models, systems, tables
from nightlog.doctor.finding import Finding, State, error
from nightlog.errors import ConfigError, SettingsError
from nightlog.ingest.discover import data_folder, find_days
from nightlog.lake.lake import Lake
from nightlog.lake.tables import OUTCOMES
from nightlog.settings import Settings


def look(settings: Settings, java_home: str | None, now: datetime, online: bool) -> list[Finding]:
    """Everything that a night needs, looked at; nothing is changed and, unless `online`, nobody is asked."""
    lake = Lake(settings.lake)
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        (machine.AREA, lambda: of_machine(settings, lake, java_home)),
        (tables.AREA, lambda: tables.folder(lake)),
        (tables.AREA, lambda: tables.tables(lake, settings.replay_days)),
        (models.AREA, lambda: models.models(lake)),
        (endpoint.AREA, lambda: endpoint.endpoint(settings, online, lake)),
        (systems.AREA, lambda: of_systems(settings, lake, now)),
    ]
    return [finding for area, check in checks for finding in guarded(area, check)]


def of_settings(trouble: SettingsError) -> list[Finding]:
    """The settings that are wrong; nothing else can be looked at then."""
    return [error("settings", f"{name}: {why}", "the environment", "correct or unset it") for name, why in trouble.wrong]


def guarded(area: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds; that it broke off, if it did."""
    try:
        yield from check()
    except Exception as trouble:
        yield error(area, f"could not be looked at: {tables.short(trouble)}", "", tables.RECOVER)


def of_machine(settings: Settings, lake: Lake, java_home: str | None) -> Iterator[Finding]:
    """The machine, as it is."""
    yield machine.python(sys.version_info[:3])
    yield machine.java(machine.ask_java(java_home))
    yield from machine.packages(machine.pinned())
    yield machine.jars()
    yield machine.memory(machine.total_memory(), settings.driver_memory)
    if "://" not in lake.root:
        place = next(each for each in (Path(lake.root), *Path(lake.root).parents) if each.exists())
        yield machine.disk(shutil.disk_usage(place).free, str(place))


def of_systems(settings: Settings, lake: Lake, now: datetime) -> Iterator[Finding]:
    """The systems of a night, their files and their last nights."""
    found, own, faults = systems.catalogue(settings.systems)
    yield from faults
    chosen = systems.targets(found, own)
    yield from systems.inputs(chosen, settings.logs)
    rows = systems.nights(lake)
    data: Path | None = None
    with suppress(ConfigError):  # `inputs` reports it
        data = data_folder(settings.logs)
    days = {system.name: dated[-1] for system in chosen if data is not None and (dated := find_days(system, data))}
    outcomes = lake.rows(OUTCOMES, ["system", "ds", "stage", "outcome", "detail", "counts", "at"])
    yield from systems.last_nights(chosen, rows, outcomes, days)
    yield from models.unjudged_ahead(lake, chosen, settings.provider == "off")
    if data is not None:
        yield from systems.late_files(chosen, rows, data)
    yield from systems.stale_nights(chosen, lake)
    yield from systems.overdue(chosen, lake, now)
    yield from systems.clock(now, rows)


def worst(findings: Iterable[Finding]) -> State:
    """The worst of all findings."""
    states = {finding.state for finding in findings}
    return next((state for state in (State.ERROR, State.WARNING) if state in states), State.OK)
