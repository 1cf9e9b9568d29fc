"""Nights of the sample corpus: real logs, recorded verdicts, all stages. One by an untrained model, or the demo's three without any."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from nightlog.lake.lake import Lake
from nightlog.outcomes import Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog
from nights import add_toy_model

EARLIER, DS = ("2026-03-02", "2026-03-03"), "2026-03-04"


def run_sample_night(root: Path | str, beside: Path, run_id: str = "sample") -> Lake:
    """Run the last night by an untrained model, without Spark, for which the sample is too small; what is handed off lies in the folder
    `beside`. Raises AssertionError if a stage did not end well."""
    lake = Lake(root)
    add_toy_model(lake, {"held_out_f1": 0.5})
    run_one(lake, DS, run_id, Settings(llm="recorded", device="cpu", exports=beside / "exports", metrics=beside / "nightlog.prom"))
    return lake


def run_demo_nights(root: Path | str) -> Lake:
    """Run the nights of `make demo`, which has no trained model. Raises AssertionError if a stage did not end well."""
    lake = Lake(root)
    for ds in (*EARLIER, DS):
        run_one(lake, ds, f"demo {ds}", Settings(llm="recorded", device="cpu"))
    return lake


def run_one(lake: Lake, ds: str, run_id: str, settings: Settings) -> None:
    """Run one night of the sample."""
    night = Night(ds, run_id, [load_catalog()["dovecot"]], lake, settings, lambda: datetime.now(UTC))
    for stage in Stage:
        for outcome in night.run_stage(stage):
            assert outcome.outcome == "done", f"{ds} {stage}: {outcome.detail}"
