"""Verdicts of nights against labels, on sessions that one can count by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.evaluation.nights import against_labels, judged_patterns, label_audit, reliability
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, NIGHTS, PATTERNS, SCORES, SESSIONS, VERDICTS
from nightlog.systems.spec import Input, Labels, Session, System

DAY, NEXT = "2026-03-03", "2026-03-04"
APP = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"), labels=Labels(file="truth.csv"))
TRUTH = {"a": True, "b": False, "c": True, "d": False, "elsewhere": True}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two nights: session a grows from pattern p into q; the night's prompt is p2."""
    lake = Lake(tmp_path / "lake")
    at = datetime(2026, 3, 5, tzinfo=UTC)
    sessions = {DAY: {"a": "p", "b": "p"}, NEXT: {"a": "q", "c": "q", "d": "q", "nameless": "r"}}
    for ds, found in sessions.items():
        place = {"system": "app", "ds": ds}
        lake.append(SESSIONS, [place | {"session_id": name, "pattern_id": pattern} for name, pattern in found.items()])
        lake.append(PATTERNS, [place | {"pattern_id": pattern, "question_id": f"{pattern}?"} for pattern in sorted(set(found.values()))])
        lake.append(NIGHTS, [place | {"outcome": "done", "versions": {"prompt": "p2", "llm": "judge"}}])
    lake.append(SCORES, [{"system": "app", "ds": NEXT, "pattern_id": "q", "probability": 0.2}])
    lake.append(ANOMALIES, [{"system": "app", "ds": NEXT, "session_id": "c", "pattern_id": "q"}])
    verdicts = [("p?", "p2", "normal", 0.9), ("q?", "p2", "anomalous", 0.7), ("q?", "p1", "normal", 1.0)]
    asked = {"system": "app", "llm": "judge", "asked_at": at}
    lake.append(VERDICTS, [asked | {"question_id": q, "prompt": p, "label": label, "confidence": c} for q, p, label, c in verdicts])
    return lake


def test_a_session_counts_once_by_its_last_pattern_and_under_the_nights_prompt(lake: Lake) -> None:
    p, q = judged_patterns(lake, APP, [NEXT, DAY], TRUTH)
    assert (p["pattern_id"], p["n_normal"], p["n_anomalous"], p["label"], p["flagged"]) == ("p", 1, 0, "normal", False)
    assert (q["n_normal"], q["n_anomalous"], q["label"], q["confidence"], q["small_model"], q["flagged"]) == (
        1,
        2,
        "anomalous",
        0.7,
        0.2,
        True,
    )
    (before,) = judged_patterns(lake, APP, [DAY], TRUTH)
    assert (before["n_normal"], before["n_anomalous"]) == (1, 1)


def test_labels_come_from_the_systems_file_and_without_one_it_is_told(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("session_id,label\na,1\nb,0\n")
    assert [(row["n_normal"], row["n_anomalous"]) for row in against_labels(lake, APP, [DAY, NEXT], tmp_path)] == [(1, 0), (0, 1)]
    with pytest.raises(ConfigError, match="label"):
        against_labels(lake, APP.model_copy(update={"labels": None}), [DAY], tmp_path)


def test_mixed_patterns_bound_what_any_verdict_can_reach() -> None:
    pure = [{"n_normal": 5, "n_anomalous": 0}, {"n_normal": 0, "n_anomalous": 2}]
    assert label_audit(pure) == {"n_patterns": 2, "n_mixed": 0, "n_mixed_sessions": 0, "best_f1": 1.0}
    assert label_audit([*pure, {"n_normal": 1, "n_anomalous": 1}])["best_f1"] == 0.8
    assert label_audit([])["best_f1"] == 0


def test_confidence_is_weighed_by_sessions_and_unclear_is_no_verdict() -> None:
    row = {"label": "normal", "confidence": 0.95, "n_normal": 8, "n_anomalous": 0}
    rows = [
        row,
        row | {"confidence": 1.0, "n_normal": 0, "n_anomalous": 8},
        row | {"label": "unclear"},
        row | {"label": None, "confidence": None},
    ]
    rows.append({"label": "anomalous", "confidence": 0.55, "n_normal": 1, "n_anomalous": 3})
    assert reliability(rows) == [(0.55, 0.75, 4), (0.975, 0.5, 16)]
