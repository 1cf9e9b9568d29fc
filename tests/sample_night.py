"""A night of the sample corpus as the demo runs it, by an untrained model: real logs, recorded verdicts, all stages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from nightlog.detector.calibration import Calibration
from nightlog.detector.network import Network, Shape
from nightlog.detector.registry import Manifest, promote, save
from nightlog.encoding.encoder import DIMENSIONS, ENCODER
from nightlog.lake.store import Lake
from nightlog.night import Night, Stage
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog

DS = "2026-03-04"


def run_sample_night(root: Path) -> Lake:
    """Run it without Spark, for which the sample is too small. Raises AssertionError where a stage did not end well."""
    lake = Lake(root)
    torch.manual_seed(1)
    manifest = Manifest(
        encoder=ENCODER,
        tau=0.9,
        threshold=0.0,
        foreign_threshold=0.0,
        foreign=Calibration(1.0, 0.0),
        shape=Shape(DIMENSIONS, 8),
        source_texts=("alpha", "beta"),
        source_systems=("x", "y"),
        sources=("x", "y"),
        data={},
    )
    model = save(lake, Network(manifest.shape), np.eye(2, DIMENSIONS, dtype=np.float32), manifest, {"held_out_f1": 0.5}, datetime.now(UTC))
    promote(lake, model.version)
    settings = Settings(llm="recorded", device="cpu", exports=root.parent / "exports", metrics=root.parent / "nightlog.prom")
    night = Night(DS, "sample", [load_catalog()["dovecot"]], lake, settings, lambda: datetime.now(UTC))
    for stage in Stage:
        for outcome in night.run_stage(stage):
            assert outcome.outcome == "done", f"{stage}: {outcome.detail}"
    return lake
