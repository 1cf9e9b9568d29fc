"""The progress of a night: the rows of ops.outcomes, and the questions that a run asks about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from nightlog.lake.tables import OUTCOMES
from nightlog.outcomes import SUCCESSES, OutcomeKind, Stage
from nightlog.run.context import Context, Versions
from nightlog.systems.spec import System

Row = dict[str, Any]


class Progress:
    """The last outcome of each system and stage of a night, of whatever run, and the outcomes that this run adds."""

    def __init__(self, context: Context):
        self.context = context
        self.latest: dict[tuple[str, str], Row] = {}
        self.begun: set[str] = set()
        self.pinned: dict[str, Versions] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the table again: another run may have added rows."""
        rows = sorted(self.context.lake.rows(OUTCOMES, ds=self.context.ds), key=lambda row: row["at"])
        own = [row for row in rows if row["run_id"] == self.context.run_id]
        self.latest = {(str(row["system"]), str(row["stage"])): row for row in rows}
        self.begun = {str(row["system"]) for row in own if row["stage"] == Stage.INGEST}
        self.pinned |= {str(row["system"]): versions for row in own if (versions := Versions.from_row(row)) is not None}

    def of(self, system: System) -> list[Row]:
        """Return the last rows of a system, in the order of the stages."""
        return [row for stage in Stage if (row := self.latest.get((system.name, stage.value))) is not None]

    def versions(self, system: System, pins: Sequence[str]) -> Versions:
        """Return the versions that a stage uses: those that the run has pinned for the system, with the ones named by `pins` as of now."""
        pinned = self.pinned.get(system.name)
        if pinned is None or pinned.model is None:
            pinned = self.context.versions_now(system)
        elif pins:
            pinned = pinned.renewed(self.context.versions_now(system), pins)
        self.pinned[system.name] = pinned
        return pinned

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows of ops.outcomes (system, stage, outcome, detail, counts, seconds), each with run, day, versions and time.

        Rows are ordered by `at`, so each is later than all rows of the night in the lake: a run on a machine whose clock was ahead must not
        look later than the runs after it.
        """
        context = self.context
        last = max((row["at"] for row in context.lake.rows(OUTCOMES, ["at"], ds=context.ds)), default=None)
        added = []
        for row in rows:
            now, versions = context.clock(), self.pinned.get(row["system"])
            last = now if last is None else max(now, last + timedelta(microseconds=1))
            stored = {"versions": versions.as_map() if versions is not None else None, "at": last}
            added.append({"run_id": context.run_id, "ds": context.ds} | row | stored)
        context.lake.append(OUTCOMES, added)
        for row in added:
            self.latest[row["system"], row["stage"]] = row

    def overtaken_by(self, system: System) -> str | None:
        """Return the id of a run that began the system's night after this one did; None if there is none.

        Two runs of a night never mix: the later one runs all of its stages, the earlier one runs and adds nothing more. A stage that is run
        alone, under a run id of its own, does not begin a night.
        """
        first = self.latest.get((system.name, Stage.INGEST.value))
        if first is None or first["run_id"] == self.context.run_id or system.name not in self.begun:
            return None
        return str(first["run_id"])

    def is_finished(self, system: System, stage: Stage) -> bool:
        """Return True if this run has finished the stage for the system, and no stage was run for the system since.

        So a retry of a task goes on with the systems that are left, and a run that is started again does everything again.
        """
        own = self.latest.get((system.name, stage.value))
        if own is None or own["run_id"] != self.context.run_id or own["outcome"] not in SUCCESSES:
            return False
        return all(row["at"] <= own["at"] for row in self.of(system))

    def failed_before(self, system: System, stage: Stage) -> Row | None:
        """Return the first earlier stage without success for the system, as its row; None if all succeeded."""
        for earlier in stage.before:
            row = self.latest.get((system.name, earlier.value))
            if row is None:
                return {"outcome": OutcomeKind.FAILED.value, "detail": f"stage {earlier} was never run for this night"}
            if row["outcome"] not in SUCCESSES:
                return row
        return None

    def counts(self, system: System) -> dict[str, int]:
        """Return the counts of the system's stages, from their last successful outcomes."""
        found: dict[str, int] = {}
        for row in self.of(system):
            if row["outcome"] in SUCCESSES:
                found |= {name: int(count) for name, count in dict(row["counts"] or ()).items()}
        return found

    def seconds(self, system: System) -> float:
        """Return the wall time of the system's stages."""
        return round(sum(float(row["seconds"] or 0) for row in self.of(system)), 3)

    def llm_trouble(self, system: System) -> str | None:
        """Return the trouble with the LLM, in words, None if there was none."""
        return self.latest.get((system.name, Stage.LABEL.value), {}).get("detail")
