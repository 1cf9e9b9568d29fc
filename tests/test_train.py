"""What training takes from analysts: the last answer about each question, and nothing that was taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightlog.lake.store import Lake
from nightlog.lake.tables import ANSWERS
from nightlog.systems.spec import Input, Session, System
from nightlog.train import answered

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
APP = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"), detector="metaproto")


def test_answers_are_the_labelled_examples_of_their_system(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert answered(lake, APP) == {}
    given = [("app", "g1", "anomalous", ["q1", "q2"]), ("app", "g2", "normal", ["q3"]), ("app", "g3", "normal", ["q4"])]
    given += [("app", "g3", None, ["q4"]), ("app", "g4", "normal", ["q2"]), ("web", "g5", "anomalous", ["q3"])]
    for minute, (system, group, label, asked) in enumerate(given):
        answer = {"system": system, "group": group, "label": label, "questions": asked, "answered_by": "kim"}
        lake.put(ANSWERS, [answer | {"answered_at": NOW + timedelta(minutes=minute)}])
    assert answered(lake, APP) == {"q1": True, "q2": False, "q3": False}
