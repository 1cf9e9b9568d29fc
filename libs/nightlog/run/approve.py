"""Approving a night that a gate held back: what was outside is recorded, then the night goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nightlog.errors import ConfigError
from nightlog.lake.tables import OUTCOMES
from nightlog.quality.approvals import Approval, findings, read_past, record_approval
from nightlog.run.night import Night
from nightlog.run.stages import Outcome, Stage
from nightlog.systems.spec import System


def held_at(night: Night, system: System) -> tuple[Stage, dict[str, Any]]:
    """The stage whose gate holds the night back, and its outcome. Raises ConfigError where no gate does."""
    where = f"{system.name} {night.ds}"
    for stage in Stage:
        row = night.latest().get((system.name, stage.value))
        if row is None:
            raise ConfigError(f"{where}: stage {stage} was never run, so there is nothing to approve: run the night first")
        if row["outcome"] == "gated":
            return stage, row
        if row["outcome"] != "done":
            raise ConfigError(f"{where}: it is no gate that stopped it, stage {stage} ended as {row['outcome']}: {row['detail']}")
    raise ConfigError(f"{where}: nothing to approve, the night is published")


def approve(night: Night, approval: Approval) -> Iterator[Outcome]:
    """Record the approval of the night's one system, and run what is left of the night; what earlier stages wrote stays as it is.

    Broken rows cannot be approved: the gate that found them finds them again. Raises ConfigError where no gate holds the night back.
    """
    (system,) = night.systems
    stage, row = held_at(night, system)
    counts = {name: int(n) for name, n in dict(row["counts"] or ()).items()}
    found = findings(night.lake, system, night.ds, stage.value, night.counted(system) | counts, read_past(night.lake)) if counts else []
    if held := [each for each in found if each.severity == "critical"]:
        record_approval(night.lake, system.name, night.ds, stage.value, held, approval, night.clock(), night.run_id)
    if stage == Stage.PARSE:
        why = f": {approval.reason}" if approval.reason else ""
        detail = "; ".join([f"approved by {approval.by}{why}", *(each.text for each in held)])
        noted = {"run_id": night.run_id, "ds": night.ds, "system": system.name, "stage": stage.value, "outcome": "done"}
        night.lake.put(OUTCOMES, night.timed([noted | {"detail": detail, "counts": counts, "seconds": row["seconds"]}]))
    for later in list(Stage)[list(Stage).index(stage) + (stage == Stage.PARSE) :]:
        yield from night.run_stage(later)
