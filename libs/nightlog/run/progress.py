"""The progress of a night: the rows of ops.outcomes, and the questions that a run asks about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nightlog.lake.tables import OUTCOMES, OutcomeRow
from nightlog.outcomes import SUCCESSES, Outcome, OutcomeKind, Stage
from nightlog.run.context import Context, Versions
from nightlog.systems.spec import System


@dataclass(frozen=True)
class RecordedOutcome(Outcome):
    """A row of ops.outcomes: an outcome, the run that recorded it, and when."""

    run_id: str
    at: datetime

    @staticmethod
    def from_row(row: OutcomeRow) -> RecordedOutcome:
        """Return a row of the table, typed. An outcome that is not known counts as failed. Raises ValueError if the stage is not known."""
        kind = OutcomeKind(row["outcome"]) if row["outcome"] in list(OutcomeKind) else OutcomeKind.FAILED
        counts, seconds = row["counts"] or {}, row["seconds"] or 0.0
        return RecordedOutcome(row["system"], Stage(row["stage"]), kind, row["detail"], counts, seconds, row["run_id"], row["at"])


class Progress:
    """The last outcome of each system and stage of a night, of whatever run, and the outcomes that this run adds."""

    def __init__(self, context: Context):
        self.context = context
        self.latest: dict[tuple[str, Stage], RecordedOutcome] = {}
        self.begun: set[str] = set()
        self.lost: dict[str, Outcome] = {}
        self.pinned: dict[str, Versions] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the table again: another run may have added rows."""
        rows = sorted(self.context.lake.rows(OUTCOMES, ds=self.context.ds), key=lambda row: row["at"])
        own = [row for row in rows if row["run_id"] == self.context.run_id]
        recorded = [RecordedOutcome.from_row(row) for row in rows if row["stage"] in list(Stage)]
        self.latest = {(each.system, each.stage): each for each in recorded}
        self.begun = {row["system"] for row in own if row["stage"] == Stage.INGEST}
        self.pinned |= {row["system"]: versions for row in own if (versions := Versions.from_row(row)) is not None}

    def lose(self, outcome: Outcome) -> None:
        """Leave a system to the process that has taken over its lock: this run neither records the outcome nor runs later stages."""
        self.lost[outcome.system] = outcome

    def of(self, system: System) -> list[RecordedOutcome]:
        """Return the last outcomes of a system, in the order of the stages."""
        return [each for stage in Stage if (each := self.latest.get((system.name, stage))) is not None]

    def versions(self, system: System, pins: Sequence[str]) -> Versions:
        """Return the versions that a stage uses: those that the run has pinned for the system, with the ones named by `pins` as of now."""
        pinned = self.pinned.get(system.name)
        if pinned is None or pinned.model is None:
            pinned = self.context.versions_now(system)
        elif pins:
            pinned = pinned.renewed(self.context.versions_now(system), pins)
        self.pinned[system.name] = pinned
        return pinned

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Add outcomes to the table, each with run, day, versions and time.

        Rows are ordered by `at`, so each is later than all rows of the night in the lake: a run on a machine whose clock was ahead must not
        look later than the runs after it.
        """
        context = self.context
        last = max((row["at"] for row in context.lake.rows(OUTCOMES, ["at"], ds=context.ds)), default=None)
        rows: list[OutcomeRow] = []
        for outcome in outcomes:
            now, versions = context.clock(), self.pinned.get(outcome.system)
            last = now if last is None else max(now, last + timedelta(microseconds=1))
            rows.append(
                {
                    "run_id": context.run_id,
                    "ds": context.ds,
                    "system": outcome.system,
                    "stage": outcome.stage,
                    "outcome": outcome.outcome,
                    "detail": outcome.detail,
                    "counts": outcome.counts,
                    "seconds": outcome.seconds,
                    "versions": versions.as_map() if versions is not None else None,
                    "at": last,
                }
            )
        context.lake.append(OUTCOMES, rows)
        for recorded in map(RecordedOutcome.from_row, rows):
            self.latest[recorded.system, recorded.stage] = recorded

    def overtaken_by(self, system: System) -> str | None:
        """Return the id of a run that began the system's night after this one did; None if there is none.

        Two runs of a night never mix: the later one runs all of its stages, the earlier one runs and adds nothing more. A stage that is run
        alone, under a run id of its own, does not begin a night.
        """
        first = self.latest.get((system.name, Stage.INGEST))
        if first is None or first.run_id == self.context.run_id or system.name not in self.begun:
            return None
        return first.run_id

    def is_finished(self, system: System, stage: Stage) -> bool:
        """Return True if this run has finished the stage for the system, and no stage was run for the system since.

        So a retry of a task goes on with the systems that are left, and a run that is started again does everything again.
        """
        own = self.latest.get((system.name, stage))
        if own is None or own.run_id != self.context.run_id or own.outcome not in SUCCESSES:
            return False
        return all(each.at <= own.at for each in self.of(system))

    def failed_before(self, system: System, stage: Stage) -> Outcome | None:
        """Return the outcome of the first earlier stage without success for the system; None if all succeeded."""
        for earlier in stage.before:
            found = self.latest.get((system.name, earlier))
            if found is None:
                return Outcome(system.name, earlier, OutcomeKind.FAILED, f"stage {earlier} was never run for this night", {}, 0.0)
            if found.outcome not in SUCCESSES:
                return found
        return None

    def counts(self, system: System) -> dict[str, int]:
        """Return the counts of the system's stages, from their last successful outcomes."""
        found: dict[str, int] = {}
        for each in self.of(system):
            if each.outcome in SUCCESSES:
                found |= each.counts
        return found

    def seconds(self, system: System) -> float:
        """Return the wall time of the system's stages."""
        return round(sum(each.seconds for each in self.of(system)), 3)

    def llm_trouble(self, system: System) -> str | None:
        """Return the trouble with the LLM, in words, None if there was none."""
        labelled = self.latest.get((system.name, Stage.LABEL))
        return labelled.detail if labelled is not None else None
