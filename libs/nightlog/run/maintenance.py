"""Upkeep runs: the command `nightlog maintain`, the job `jobs/maintain.py`."""

from __future__ import annotations

from collections.abc import Callable

from nightlog.lake.maintain import Retention, maintain
from nightlog.run.context import utc_now
from nightlog.run.entry import open_lake
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog


def run_maintenance(settings: Settings, names: str, tell: Callable[[str], None], dry_run: bool = False) -> None:
    """Maintain the lake by the days that are set; the named systems alone lose nights, or all but the sources."""
    retention = Retention(settings.bronze_days, settings.silver_days, settings.gold_days, settings.replay_days)
    catalog = load_catalog(settings.systems)
    sources = {name for name, system in catalog.items() if system.role == "source"}
    look_back = {name: system.session.lookback_days for name, system in catalog.items()}
    systems = [name.strip() for name in names.split(",") if name.strip()]
    with open_lake(settings, "nightlog maintain", not dry_run) as lake:
        totals = maintain(lake, retention, sources, look_back, utc_now(), tell, systems, dry_run)
    if not dry_run:
        tell("{n_dropped} nights of tables dropped, {n_compacted} small files put together, {n_removed} old files removed".format(**totals))
