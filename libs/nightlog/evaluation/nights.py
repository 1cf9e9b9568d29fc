"""The published rows of real nights, compared with the system's label file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightlog.errors import ConfigError, NotThere
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, SESSIONS
from nightlog.systems.catalog import read_label_file
from nightlog.systems.spec import System


def read_labels(system: System, data: Path) -> dict[str, bool]:
    """Session id → whether it is anomalous, from the system's label file."""
    if system.labels is None or system.labels.file is None:
        raise ConfigError(f"{system.name} has no label file: give `file` under [labels]")
    return {session: label == 1 for session, label in read_label_file(data / system.labels.file, system.name).items()}


def score(flagged: set[str], truth: dict[str, bool]) -> dict[str, float]:
    """Precision, recall, F1 and false alarms per 1,000 of flagged sessions among those with a label."""
    true = sum(truth[session] for session in flagged & truth.keys())
    false = len(flagged & truth.keys()) - true
    anomalous = sum(truth.values())
    precision, recall = true / max(1, true + false), true / max(1, anomalous)
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
        "found": true,
        "false": false,
        "anomalous": anomalous,
        "sessions": len(truth),
        "false_alarms_per_1000": round(1000 * false / max(1, len(truth)), 2),
    }


def evaluate_nights(lake: Lake, system: System, nights: list[str], data: Path) -> list[dict[str, Any]]:
    """One row for what Nightlog flagged on all these nights together, and one for "always anomalous" beside it.

    A session counts once, flagged if any of the nights flagged it; sessions that did not occur on the nights are left out.
    """
    truth = read_labels(system, data)
    seen = {row["session_id"] for ds in nights for row in lake.rows(SESSIONS, ["session_id"], system=system.name, ds=ds)}
    flagged = {row["session_id"] for ds in nights for row in lake.rows(ANOMALIES, ["session_id"], system=system.name, ds=ds)}
    occurring = {session: label for session, label in truth.items() if session in seen}
    if not occurring:
        raise NotThere(f"no labelled session of {system.name} occurs on {', '.join(nights)}: run these nights first")
    common = {"system": system.name, "nights": len(nights), "without_label": len(seen - truth.keys())}
    return [
        common | {"mode": "nightlog"} | score(flagged, occurring),
        common | {"mode": "baseline:always_anomalous"} | score(set(occurring), occurring),
    ]
