"""A night: its stages in order, for all of its systems. A system that fails in one stage never stops the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from nightlog.errors import GateFailed, NightlogError, NoInput, first_line, outcome_of
from nightlog.handoff.lineage import Place, with_lineage
from nightlog.lake.lake import Lake
from nightlog.lake.locks import is_free, locked
from nightlog.lake.storage import clear_storage_errors
from nightlog.lake.tables import NIGHTS, ROUTES, SCORES
from nightlog.lake.transaction import Transaction
from nightlog.outcomes import SUCCESSES, Outcome, OutcomeKind, Stage
from nightlog.publishing.account import llm_sentence, next_step, unjudged_sentence
from nightlog.run.commit_window import CommitWindow
from nightlog.run.context import Context, Versions, check_ds
from nightlog.run.progress import Progress
from nightlog.run.stages import STEPS, Step
from nightlog.settings import Settings
from nightlog.systems.spec import System

log = logging.getLogger(__name__)


class Night:
    """One run of one night. `run` runs its stages; under Airflow each stage is a process that calls `run_stage` with the same run id."""

    def __init__(
        self,
        ds: str,
        run_id: str,
        systems: Sequence[System],
        lake: Lake,
        settings: Settings,
        clock: Callable[[], datetime],
        as_run: bool = False,
        notify: Callable[[str], None] = log.info,
        fewer_lines: bool = False,
        read_again: bool = False,
    ):
        self.context = Context(check_ds(ds), run_id, tuple(systems), lake, settings, clock, as_run, notify, fewer_lines, read_again)
        self.progress = Progress(self.context)

    def stages_from(self, first: Stage) -> tuple[Stage, ...]:
        """Return the stages to run from `first` on; from `route` on if an earlier run routed or scored the night by another model."""
        from nightlog.publishing.inputs import stale_stage

        context, place = self.context, {"ds": self.context.ds}
        if first in (*Stage.ROUTE.before, Stage.ROUTE, Stage.REPORT):
            return first.onwards
        for system in context.systems:
            model = context.models[system.name].version
            rows = (context.lake.rows(spec, ["model"], system=system.name, **place) for spec in (ROUTES, SCORES))
            found = stale_stage(model, *rows)
            if found is not None:
                context.notify(
                    f"{system.name} {context.ds}: the rows of stage {found[0]} are of model {found[1]}, the night is judged by "
                    f"model {model}: stage {Stage.ROUTE} and those after it are run again"
                )
                return Stage.ROUTE.onwards
        return first.onwards

    def remarks(self) -> list[str]:
        """Return a sentence for each of the run's systems that no LLM judged, and one for unjudged sessions and what to do about them."""
        names = {system.name for system in self.context.systems}
        rows = sorted(self.context.lake.rows(NIGHTS, ds=self.context.ds), key=lambda row: str(row["system"]))
        found = []
        for row in (row for row in rows if row["system"] in names):
            found += [f"{row['system']}: {sentence}"] if (sentence := llm_sentence(row)) is not None else []
            found += [f"{row['system']}: {sentence}. To do: {next_step(row)}"] if (sentence := unjudged_sentence(row)) is not None else []
        return found

    def run_stage(self, stage: Stage) -> Iterator[Outcome]:
        """Run one stage for every system, and add each outcome to ops.outcomes; lineage events report it where they are configured.

        Systems that this run has finished are passed over, and those whose earlier stages failed.
        """
        context = self.context
        place = Place(context.ds, context.run_id, str(context.lake.root), str(context.settings.logs))
        yield from with_lineage(stage, place, self.run_systems(stage), context.clock)

    def run_systems(self, stage: Stage) -> Iterator[Outcome]:
        """Run one stage for every system that is left."""
        self.progress.refresh()
        step, systems = STEPS[stage], [each for each in self.context.systems if not self.progress.is_finished(each, stage)]
        if step.work is None:
            yield from self.report(systems)
            return
        versions = {each.name: self.progress.versions(each, step.pins) for each in systems}
        with CommitWindow(self.context.lake, self.progress) as window:
            for system in systems:
                yield from self.run_system(step, system, versions[system.name], window)
                if window.is_due:
                    yield from window.commit()
            yield from window.commit()

    def run_system(self, step: Step, system: System, versions: Versions, window: CommitWindow) -> Iterator[Outcome]:
        """Run one stage for one system, unless another run has taken over the night or an earlier stage failed.

        What it writes waits in the window. Yields the outcomes that are final: of this system, or of those that waited before it.
        """
        if (lost := self.progress.lost.get(system.name)) is not None:
            yield replace(lost, stage=step.stage, counts={}, seconds=0.0)
            return
        if step.stage != Stage.INGEST and (other := self.progress.overtaken_by(system)) is not None:
            detail = f"run {other} began this night after this run did, so this run leaves the night to it"
            yield Outcome(system.name, step.stage, OutcomeKind.FAILED, detail, {}, 0.0)
            return
        transaction, outcome = Transaction(self.context.lake), None
        last = failed = self.progress.failed_before(system, step.stage)
        if failed is None:
            if window.waiting and not is_free(self.context.lake.root, system.name):
                yield from window.commit()  # nothing is locked while this run waits for another
            last = outcome = self.attempt(step, system, versions, transaction, window)
        if step.stage == Stage.PUBLISH and last is not None and last.outcome not in SUCCESSES:
            self.note_unpublished(transaction, system, last.outcome, last.detail)
        if outcome is not None or step.stage == Stage.PUBLISH:
            window.add(outcome, transaction)

    def attempt(self, step: Step, system: System, versions: Versions, transaction: Transaction, window: CommitWindow) -> Outcome:
        """Run one stage for one system, which writes to its transaction. Returns the outcome; an error becomes one.

        The system's lock is held until the window is committed. Nothing is written if it is lost before that.
        """
        assert step.work is not None
        lake, settings, started = self.context.lake, self.context.settings, time.monotonic()
        try:
            with clear_storage_errors(lake.root):
                lock = locked(lake.root, system.name, lease_s=settings.lock_lease_s, owner=f"run {self.context.run_id}")
                transaction.lock = window.locks.enter_context(lock)
                written = lake.under(transaction.lock) if step.writes_at_once else transaction
                counts, detail, kind = step.work(written, self.context, system, versions, self.progress)
        except (GateFailed, NoInput) as error:
            (kind, detail), counts = outcome_of(error), error.counts
        except Exception as error:
            (kind, detail), counts = outcome_of(error), {}
            if not isinstance(error, NightlogError):
                log.exception("%s %s %s", system.name, self.context.ds, step.stage)
        return Outcome(system.name, step.stage, kind, detail, counts, round(time.monotonic() - started, 3))

    def note_unpublished(self, transaction: Transaction, system: System, outcome: str, detail: str | None) -> None:
        """Write to gold.nights that the system is not published."""
        from nightlog.publishing.publish import publish_unfinished

        context = self.context
        publish_unfinished(transaction, system.name, context.run_id, context.ds, outcome, detail, context.clock())

    def report(self, systems: Sequence[System]) -> Iterator[Outcome]:
        """Report the whole night, once no stage before it runs any more, and add the outcome of each of the systems."""
        if not systems:
            return
        started = time.monotonic()
        failures = report(self.context)
        seconds = round((time.monotonic() - started) / len(systems), 3)
        outcomes = []
        for system in systems:
            detail = failures.get(system.name)
            kind = OutcomeKind.DONE if detail is None else OutcomeKind.FAILED
            outcomes.append(Outcome(system.name, Stage.REPORT, kind, detail, {}, seconds))
        own = [each for each in outcomes if each.system not in self.progress.lost]
        self.progress.add([each for each in own if not self.progress.overtaken_by(self.context.system(each.system))])
        yield from outcomes


def report(run: Context) -> dict[str, str]:
    """Join the night's findings to incidents, find its signals, write its pages, then hand it off.

    Each part is tried, whatever the outcome of the one before.

    Nothing of what was published is changed, and a failure here hides none of it.

    Returns: the systems that lack incidents, signals or a page, each with the reason. A receiver that cannot be reached is a row of
    ops.handoffs.
    """
    from nightlog.handoff.handoff import hand_off
    from nightlog.pages.page import write_pages
    from nightlog.publishing.incidents import write_incidents
    from nightlog.signals.find import find_signals

    reasons: dict[str, list[str]] = {}
    names = [system.name for system in run.systems]
    try:
        write_incidents(run.lake, run.ds, run.run_id)
    except Exception as error:
        log.exception("%s: no incidents", run.ds)
        reasons = {name: [f"no incidents: {first_line(error)}"] for name in names}
    try:
        failed = find_signals(run.lake, run.systems, run.ds, run.run_id)
    except Exception as error:
        log.exception("%s: no signals", run.ds)
        failed = dict.fromkeys(names, first_line(error))
    for name, reason in failed.items():
        reasons.setdefault(name, []).append(f"no signals: {reason}")
    try:
        written = write_pages(run.lake, run.ds, run.settings.alerts_per_night, run.settings.lines_url)
        failed = written.failed
        if written.calendar is not None:
            for name in names:
                reasons.setdefault(name, []).append(f"no calendar: {written.calendar}")
    except Exception as error:
        log.exception("%s: no pages", run.ds)
        failed = dict.fromkeys(names, first_line(error))
    for name, reason in failed.items():
        reasons.setdefault(name, []).append(f"no page: {reason}")
    hand_off(run.lake, run.ds, run.run_id, run.settings.hand_off, run.clock)
    return {name: "; ".join(each) for name, each in reasons.items()}
