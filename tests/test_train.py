"""What training takes from analysts: the last answer about each question, and nothing that was taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from nightlog.detector.metaproto.serving import labelled_rows
from nightlog.detector.patterns import Patterns
from nightlog.distillation.retrain import final_verdicts
from nightlog.feedback.store import label_row, record, suppression_row, take_back
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, VERDICTS
from nightlog.llm.prompt import prompt_hash
from nightlog.run.train import answered, labelled_folder
from nightlog.settings import Settings
from nightlog.systems.spec import Input, Labels, Session, System

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
APP = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"), detector="metaproto")


def test_answers_are_the_labelled_examples_of_their_system(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert answered(lake, APP) == {}
    given = [("app", "g1", "anomalous", ["q1", "q2"]), ("app", "g2", "normal", ["q3"]), ("app", "g3", "normal", ["q4"])]
    given += [("app", "g3", None, ["q4"]), ("app", "g4", "normal", ["q2"]), ("web", "g5", "anomalous", ["q3"])]
    for minute, (system, group, label, asked) in enumerate(given):
        answer = {"system": system, "group": group, "label": label, "questions": asked, "answered_by": "kim"}
        lake.append(ANSWERS, [answer | {"answered_at": NOW + timedelta(minutes=minute)}])
    assert answered(lake, APP) == {"q1": True, "q2": False, "q3": False}


def test_labels_are_examples_of_their_pattern_alone_above_what_the_llm_said_until_they_are_taken_back(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    said = {"label": "anomalous", "confidence": 0.9, "reason": "x", "round": 1, "prompt": prompt_hash(APP), "llm": "judge", "asked_at": NOW}
    lake.append(VERDICTS, [{"system": "app", "question_id": "q1"} | said])
    record(lake, label_row("app", "p1", "normal", "kim", NOW))
    record(lake, suppression_row("app", "pattern", "p2", "2026-04-01", "kim", NOW))
    taught = final_verdicts(lake, APP)
    assert {name: (verdict.label, verdict.round) for name, verdict in taught.items()} == {"q1": ("anomalous", 1), "p1": ("normal", 0)}
    patterns = Patterns(
        "app", np.eye(2, dtype=np.float32), ("a", "b"), ("p1", "p2"), (((0, 1),), ((1, 1),)), np.ones(2), False, ("q1", "q1")
    )
    assert labelled_rows(patterns, answered(lake, APP)) == {0: False}
    assert labelled_rows(patterns, answered(lake, APP) | {"q1": True}) == {0: False, 1: True}
    take_back(lake, "label", "pattern", "p1", "lee", NOW + timedelta(minutes=1))
    assert final_verdicts(lake, APP).keys() == {"q1"} and answered(lake, APP) == {}


def test_who_has_no_labelled_system_is_taught_by_the_sample(tmp_path: Path) -> None:
    given = {"role": "source", "session": Session(kind="field"), "labels": Labels(file="app.csv")}
    source = System(name="app", input=Input(path="app/{ds}.log"), **given)  # type: ignore[arg-type]
    settings = Settings(data=tmp_path)
    assert labelled_folder(settings, [source]) == settings.sample_logs.resolve()
    assert labelled_folder(Settings(), [source]) == settings.sample_logs.resolve()
    log = tmp_path / "app" / "2026-03-04.log"
    log.parent.mkdir()
    log.touch()
    assert labelled_folder(settings, [source]) == tmp_path.resolve()
    log.unlink()  # rotated away, and what it taught is in the lake: the labels are still there
    (tmp_path / "app.csv").touch()
    assert labelled_folder(settings, [source]) == tmp_path.resolve()
