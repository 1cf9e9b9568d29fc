"""Runs that an operator or the week begins: the approval of a night that a gate held back, and the upkeep of the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from nightlog.errors import NightlogError, NotThere
from nightlog.lake.lake import Lake
from nightlog.lake.maintain import Retention, maintain
from nightlog.lake.tables import LINES_TABLE, NIGHTS
from nightlog.outcomes import SUCCESSES, Outcome, OutcomeKind, Stage
from nightlog.quality.approvals import Approval, find_outliers, read_past, record_approval
from nightlog.run.context import utc_now
from nightlog.run.entry import new_run_id, open_lake
from nightlog.run.night import Night
from nightlog.sessions.waiting import overdue
from nightlog.settings import Settings
from nightlog.systems.catalog import choose, load_catalog
from nightlog.systems.spec import System


def held_at(night: Night, system: System) -> Outcome:
    """Return the outcome of the stage whose gate holds the night back. Raises NotThere if no gate does."""
    where = f"{system.name} {night.context.ds}"
    for stage in Stage.REPORT.before:
        found = night.progress.latest.get((system.name, stage))
        if found is None:
            raise NotThere(f"{where}: stage {stage} was never run, so there is nothing to approve: run the night first")
        if found.outcome == OutcomeKind.GATED:
            return found
        if found.outcome not in SUCCESSES:
            raise NotThere(f"{where}: no gate stopped it, stage {stage} ended as {found.outcome}: {found.detail}")
    raise NotThere(f"{where}: nothing to approve, the night is published")


def approve(night: Night, approval: Approval) -> Iterator[Outcome]:
    """Record the approval of the night's one system, and run the stages that are left; the rows of earlier stages stay as they are.

    Broken rows cannot be approved: the gate that found them finds them again. Raises NotThere if no gate holds the night back.
    """
    context, progress = night.context, night.progress
    (system,) = context.systems
    held = held_at(night, system)
    stage, found = held.stage, []
    if held.counts:
        counts = progress.counts(system) | held.counts
        found = find_outliers(context.lake, system, context.ds, stage.value, counts, read_past(context.lake))
    if critical := [each for each in found if each.severity == "critical"]:
        record_approval(context.lake, system.name, context.ds, stage.value, critical, approval, context.clock(), context.run_id)
    if stage == Stage.PARSE:
        why = f": {approval.reason}" if approval.reason else ""
        detail = "; ".join([f"approved by {approval.by}{why}", *(each.text for each in critical)])
        progress.add([Outcome(system.name, stage, OutcomeKind.DONE, detail, held.counts, held.seconds)])
    for later in night.stages_from(stage.onwards[stage == Stage.PARSE]):
        yield from night.run_stage(later)


def run_maintenance(settings: Settings, names: str, tell: Callable[[str], None], dry_run: bool = False) -> None:
    """Judge the sessions that have waited too long, then maintain the lake by the days that are set.

    Only nights of the named systems are judged and dropped; without names those of all systems except the sources. Raises NotThere if
    neither the catalogue nor the lake has a named system.
    """
    retention = Retention(settings.bronze_days, settings.silver_days, settings.gold_days, settings.replay_days)
    catalog = load_catalog(settings.systems)
    sources = {name for name, system in catalog.items() if system.role == "source"}
    look_back = {name: system.session.lookback_days for name, system in catalog.items()}
    systems = [name.strip() for name in names.split(",") if name.strip()]
    with open_lake(settings, "nightlog maintain", not dry_run) as lake:
        in_lake = {row["system"] for row in lake.rows(NIGHTS, ["system"])}  # the file of a system may be gone, and its nights still there
        choose(catalog, [name for name in systems if name not in in_lake])
        targets = [system for name, system in catalog.items() if name not in sources and (not systems or name in systems)]
        judge_overdue(lake, settings, targets, tell, dry_run)
        totals = maintain(lake, retention, sources, look_back, utc_now(), tell, systems, dry_run)
    if not dry_run:
        tell("{n_dropped} nights of tables dropped, {n_compacted} small files compacted, {n_removed} old files removed".format(**totals))


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
