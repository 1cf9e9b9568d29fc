"""Upkeep runs: the command `nightlog maintain`, the job `jobs/maintain.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from nightlog.errors import NightlogError
from nightlog.lake.lake import Lake
from nightlog.lake.maintain import Retention, maintain
from nightlog.lake.tables import LINES_TABLE
from nightlog.outcomes import SUCCESSES, Stage
from nightlog.run.context import utc_now
from nightlog.run.entry import new_run_id, open_lake
from nightlog.run.night import Night
from nightlog.sessions.waiting import overdue
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import System


def run_maintenance(settings: Settings, names: str, tell: Callable[[str], None], dry_run: bool = False) -> None:
    """Judge the sessions that have waited too long, then maintain the lake by the days that are set.

    Only nights of the named systems are judged and dropped; without names those of all systems except the sources.
    """
    retention = Retention(settings.bronze_days, settings.silver_days, settings.gold_days, settings.replay_days)
    catalog = load_catalog(settings.systems)
    sources = {name for name, system in catalog.items() if system.role == "source"}
    look_back = {name: system.session.lookback_days for name, system in catalog.items()}
    systems = [name.strip() for name in names.split(",") if name.strip()]
    with open_lake(settings, "nightlog maintain", not dry_run) as lake:
        targets = [system for name, system in catalog.items() if name not in sources and (not systems or name in systems)]
        judge_overdue(lake, settings, targets, tell, dry_run)
        totals = maintain(lake, retention, sources, look_back, utc_now(), tell, systems, dry_run)
    if not dry_run:
        tell("{n_dropped} nights of tables dropped, {n_compacted} small files put together, {n_removed} old files removed".format(**totals))


def judge_overdue(lake: Lake, settings: Settings, systems: Sequence[System], tell: Callable[[str], None], dry_run: bool) -> None:
    """Run the night of each system that had to judge sessions which still wait. The night before today's is left to its own run.

    A night that was ingested before is parsed again from the lake: its files may be gone by now.
    """
    by_name = {system.name: system for system in systems}
    before = (utc_now().date() - timedelta(days=1)).isoformat()
    for name, ds in overdue(lake, by_name, before).items():
        if dry_run:
            tell(f"{name}: would run the night {ds}, which has to judge sessions that still wait")
            continue
        night = Night(ds, new_run_id(ds), [by_name[name]], lake, settings, utc_now, notify=tell)
        begin = Stage.PARSE if ds in lake.nights(LINES_TABLE, name) else Stage.INGEST
        failures = []
        try:
            for stage in begin.onwards:
                failures += [f"{each.stage}: {each.detail}" for each in night.run_stage(stage) if each.outcome not in SUCCESSES]
        except NightlogError as error:
            failures.append(str(error))
        if failures:
            tell(f"{name}: sessions still wait for the night {ds}: {failures[0]}")
        else:
            tell(f"{name}: ran the night {ds}, which judged sessions that still waited")
