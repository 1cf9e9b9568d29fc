"""Scores of what was flagged against labels, on sets that one can count by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.evaluation.nights import evaluate_nights, read_labels, score
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, SESSIONS
from nightlog.systems.spec import Input, Labels, Session, System

TRUTH = {"a": True, "b": True, "c": False, "d": False, "e": False}


@pytest.mark.parametrize(
    ("flagged", "precision", "recall", "f1", "found", "false"),
    [
        ({"a", "b"}, 1, 1, 1, 2, 0),
        ({"a"}, 1, 0.5, 0.6667, 1, 0),
        ({"a", "c"}, 0.5, 0.5, 0.5, 1, 1),
        ({"a", "b", "c", "d", "e"}, 0.4, 1, 0.5714, 2, 3),
        ({"c", "d"}, 0, 0, 0, 0, 2),
        (set(), 0, 0, 0, 0, 0),
        ({"a", "without label"}, 1, 0.5, 0.6667, 1, 0),
    ],
)
def test_flagged_sessions_are_scored_among_the_labelled_ones(
    flagged: set[str], precision: float, recall: float, f1: float, found: int, false: int
) -> None:
    scored = score(flagged, TRUTH)
    assert (scored["precision"], scored["recall"], scored["f1"]) == (precision, recall, f1)
    assert (scored["found"], scored["false"], scored["anomalous"], scored["sessions"]) == (found, false, 2, 5)
    assert scored["false_alarms_per_1000"] == 200 * false


def test_nothing_to_find_is_no_success() -> None:
    assert score(set(), {"a": False})["f1"] == 0
    assert score(set(), {})["f1"] == 0
    assert score({"a"}, {"a": False})["precision"] == 0


def system(labels: Labels | None) -> System:
    return System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"), labels=labels)


LABELLED = system(Labels(file="truth.csv"))


def test_labels_are_read_from_the_file_that_the_system_names(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text('label,session_id,more\n1,"a, b",x\n0,c,x\n1,ü,x\n', encoding="utf-8")
    assert read_labels(LABELLED, tmp_path) == {"a, b": True, "c": False, "ü": True}


def test_without_a_label_file_the_message_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give `file` under \[labels\]"):
        read_labels(system(None), tmp_path)
    with pytest.raises(ConfigError, match=r"truth\.csv: no such file"):
        read_labels(LABELLED, tmp_path)


@pytest.fixture
def bare(tmp_path: Path) -> Lake:
    (tmp_path / "truth.csv").write_text("session_id,label\na,1\nb,1\nc,0\nd,0\nelsewhere,1\n")
    lake = Lake(tmp_path / "lake")
    nights = {"2026-03-03": ["a", "c", "nameless"], "2026-03-04": ["a", "b", "d"], "2026-03-05": ["elsewhere"]}
    lake.append(SESSIONS, [{"system": "app", "ds": ds, "session_id": name} for ds, names in nights.items() for name in names])
    flagged = [("2026-03-03", "a"), ("2026-03-03", "nameless"), ("2026-03-04", "a"), ("2026-03-04", "d")]
    lake.append(ANOMALIES, [{"system": "app", "ds": ds, "session_id": name} for ds, name in flagged])
    lake.append(ANOMALIES, [{"system": "web", "ds": "2026-03-04", "session_id": "b"}])
    return lake


def test_a_session_counts_once_over_all_nights_and_only_where_it_occurred(bare: Lake, tmp_path: Path) -> None:
    ours, trivial = evaluate_nights(bare, LABELLED, ["2026-03-03", "2026-03-04"], tmp_path)
    assert (ours["found"], ours["false"], ours["anomalous"], ours["sessions"], ours["without_label"]) == (1, 1, 2, 4, 1)
    assert (ours["mode"], ours["nights"]) == ("nightlog", 2)
    assert (trivial["found"], trivial["false"], trivial["recall"], trivial["precision"]) == (2, 2, 1, 0.5)
    one_night, _ = evaluate_nights(bare, LABELLED, ["2026-03-03"], tmp_path)
    assert (one_night["f1"], one_night["sessions"]) == (1, 2)


def test_nights_that_were_not_run_are_refused_with_what_to_do(bare: Lake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run these nights first"):
        evaluate_nights(bare, LABELLED, ["2026-01-01"], tmp_path)
