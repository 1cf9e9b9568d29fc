"""Small systems, a small model, and what compares lakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import Manifest, Shape
from nightlog.detector.network import Network
from nightlog.detector.registry import promote, save
from nightlog.encoding.encoder import DIMENSIONS, ENCODER
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, TableSpec
from nightlog.outcomes import Outcome, Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.spec import Header, Input, Session, System

NOW = datetime(2026, 3, 5, 2, 0, tzinfo=UTC)
# Columns that describe the run, not the night.
OF_THE_RUN = ("run_id", "asked_at", "at", "seconds")
# Cosines are rounded to 4 digits and scores to 6; sums of floats depend on how texts are batched.
CLOSE = 2e-4


def small_system(name: str, **more: Any) -> System:
    """A system whose lines are `LEVEL id message`."""
    return System(
        name=name,
        role="target",
        input=Input(path=f"{name}/{{ds}}.log*"),
        header=Header(pattern=r"(?P<level>INFO|WARN|ERROR) (?P<id>s\d+) (?P<message>.*)"),
        session=Session(kind="field", field="id"),
        **more,
    )


def add_toy_model(lake: Lake, metrics: Mapping[str, float] | None = None, seed: int = 1) -> str:
    """An untrained model whose sources know nothing that any test logs; it serves from now on. Returns its version."""
    import torch

    torch.manual_seed(seed)
    vectors = np.eye(2, DIMENSIONS, dtype=np.float32)
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
    model = save(lake, Network(manifest.shape), vectors, manifest, dict(metrics or {}), NOW)
    promote(lake, model.version)
    return model.version


def run_night(lake: Lake, settings: Settings, systems: list[System], ds: str, run_id: str) -> dict[tuple[str, Stage], Outcome]:
    night = Night(ds, run_id, systems, lake, settings, lambda: datetime.now(UTC))
    return {(outcome.system, stage): outcome for stage in Stage for outcome in night.run_stage(stage)}


def content(lake: Lake, spec: TableSpec) -> list[str]:
    """A table's rows without the columns of the run, in order."""
    rows = [{key: value for key, value in row.items() if key not in OF_THE_RUN and not key.startswith("run_")} for row in lake.rows(spec)]
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)


def snapshot(lake: Lake) -> dict[str, list[str]]:
    """All silver and gold tables."""
    return {spec.name: content(lake, spec) for spec in ALL_TABLES if spec.name.startswith(("silver.", "gold."))}


def comparable_rows(lake: Lake, spec: TableSpec) -> list[dict[str, Any]]:
    """A table's rows without the columns of the run, in the order of its key."""
    rows = [{key: value for key, value in row.items() if key not in OF_THE_RUN and not key.startswith("run_")} for row in lake.rows(spec)]
    return sorted(rows, key=lambda row: [str(row.get(name)) for name in spec.key])


def same_values(one: Any, other: Any) -> bool:
    """True if two values of a table are the same, floats within CLOSE."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= CLOSE
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same_values(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same_values, one, other))
    return bool(one == other)


def rows_of(lake: Lake, spec: TableSpec, **equal: str) -> list[dict[str, Any]]:
    return lake.rows(spec, None, **equal)
