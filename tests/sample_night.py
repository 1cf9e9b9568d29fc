"""A night of the sample corpus as the demo runs it, by an untrained model: real logs, recorded verdicts, all stages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from nightlog.lake.lake import Lake
from nightlog.outcomes import Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog
from nights import add_toy_model

DS = "2026-03-04"


def run_sample_night(root: Path | str, beside: Path, run_id: str = "sample") -> Lake:
    """Run it without Spark, for which the sample is too small; what is handed off lies in the folder `beside`. Raises AssertionError where
    a stage did not end well."""
    lake = Lake(root)
    add_toy_model(lake, {"held_out_f1": 0.5})
    settings = Settings(llm="recorded", device="cpu", exports=beside / "exports", metrics=beside / "nightlog.prom")
    night = Night(DS, run_id, [load_catalog()["dovecot"]], lake, settings, lambda: datetime.now(UTC))
    for stage in Stage:
        for outcome in night.run_stage(stage):
            assert outcome.outcome == "done", f"{stage}: {outcome.detail}"
    return lake
