"""Approval of a night that a gate held back: the excess is recorded, then the night goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator

from nightlog.errors import ConfigError
from nightlog.outcomes import SUCCESSES, OutcomeKind, Stage
from nightlog.quality.approvals import Approval, findings, read_past, record_approval
from nightlog.run.night import Night
from nightlog.run.progress import Row
from nightlog.run.stages import Outcome
from nightlog.systems.spec import System


def held_at(night: Night, system: System) -> tuple[Stage, Row]:
    """Return the stage whose gate holds the night back, and its outcome. Raises ConfigError if no gate does."""
    where = f"{system.name} {night.context.ds}"
    for stage in Stage.REPORT.before:
        row = night.progress.latest.get((system.name, stage.value))
        if row is None:
            raise ConfigError(f"{where}: stage {stage} was never run, so there is nothing to approve: run the night first")
        if row["outcome"] == OutcomeKind.GATED:
            return stage, row
        if row["outcome"] not in SUCCESSES:
            raise ConfigError(f"{where}: no gate stopped it, stage {stage} ended as {row['outcome']}: {row['detail']}")
    raise ConfigError(f"{where}: nothing to approve, the night is published")


def approve(night: Night, approval: Approval) -> Iterator[Outcome]:
    """Record the approval of the night's one system, and run the stages that are left; the rows of earlier stages stay as they are.

    Broken rows cannot be approved: the gate that found them finds them again. Raises ConfigError if no gate holds the night back.
    """
    context, progress = night.context, night.progress
    (system,) = context.systems
    stage, row = held_at(night, system)
    counts = {name: int(n) for name, n in dict(row["counts"] or ()).items()}
    found = []
    if counts:
        found = findings(context.lake, system, context.ds, stage.value, progress.counts(system) | counts, read_past(context.lake))
    if held := [each for each in found if each.severity == "critical"]:
        record_approval(context.lake, system.name, context.ds, stage.value, held, approval, context.clock(), context.run_id)
    if stage == Stage.PARSE:
        why = f": {approval.reason}" if approval.reason else ""
        detail = "; ".join([f"approved by {approval.by}{why}", *(each.text for each in held)])
        approved = {"system": system.name, "stage": stage.value, "outcome": OutcomeKind.DONE.value}
        progress.add([approved | {"detail": detail, "counts": counts, "seconds": row["seconds"]}])
    for later in night.stages_from(stage.onwards[stage == Stage.PARSE]):
        yield from night.run_stage(later)
