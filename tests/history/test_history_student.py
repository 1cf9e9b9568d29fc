"""The student of a system in the lake: who has taught it, when it judges, and what it asks next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from history_help import Pattern
from nightlog.history.student import ENOUGH_JUDGED, SystemStudent
from nightlog.lake.lake import Lake
from nightlog.lake.tables import PATTERNS, TEMPLATES
from nightlog.systems.spec import Input, Session, System

APP = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="id", pattern="(x)"))
DS = "2026-03-02"
# Usual sessions of many lengths, and rare ones that stop after a step that nothing else has.
USUAL: dict[str, Pattern] = {f"usual{n}": {"open": 1, "read": 1 << n, "close": 1} for n in range(9)}
STOPPED: dict[str, Pattern] = {f"stopped{n}": {"open": 1, "halt": 1, "read": 1 << n} for n in range(6)}
USUAL_LABELS = dict.fromkeys(USUAL, 0.02)
STOPPED_LABELS = {"stopped0": 0.95, "stopped2": 0.95}


def fill(lake: Lake, ds: str, sessions: dict[str, int]) -> None:
    """Write the patterns of a night."""
    events = USUAL | STOPPED
    rows = [
        {"pattern_id": name, "question_id": name, "n_sessions": n, "system": "app", "ds": ds}
        | {"events": [{"template_id": template, "count": count} for template, count in events[name].items()]}
        for name, n in sessions.items()
    ]
    lake.replace(PATTERNS, rows, system="app", ds=ds)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return a lake with a night, and a second one with patterns that are new."""
    made = Lake(tmp_path / "lake")
    made.merge(TEMPLATES, [{"system": "app", "template_id": name, "text": f"{name} it"} for name in ("open", "read", "close", "halt")])
    fill(made, "2026-03-01", dict.fromkeys(USUAL, 200) | {"stopped0": 20, "stopped2": 15})
    fill(made, DS, dict.fromkeys(USUAL, 200) | {"stopped1": 20, "stopped3": 15, "stopped5": 2})
    return made


def student(lake: Lake, known: set[str]) -> SystemStudent:
    """Return the student of the second night."""
    return SystemStudent.of(lake, APP, DS, known)


def test_it_judges_what_nobody_judged_by_verdicts_about_other_patterns_of_earlier_nights(lake: Lake) -> None:
    verdicts = USUAL_LABELS | STOPPED_LABELS
    about = student(lake, set(verdicts))
    judged = about.judge(verdicts, {})
    assert judged.judges
    probability = {name: judged.posterior.probability[number] for name, number in about.number.items()}
    assert all(probability[name] > 0.5 for name in ("stopped1", "stopped3"))
    assert {name: probability[name] for name in verdicts} == verdicts, "a verdict is kept"
    assert about.questions[judged.nearest[about.number["stopped1"]]] in STOPPED_LABELS
    before = about.judge(USUAL_LABELS, {}).posterior.probability[about.number["stopped3"]]
    assert probability["stopped3"] > before, "the verdicts on others have taught it"


def test_with_fewer_judged_patterns_it_judges_nothing(lake: Lake) -> None:
    for n, judges in ((ENOUGH_JUDGED - 1, False), (ENOUGH_JUDGED, True)):
        verdicts = dict(list(USUAL_LABELS.items())[: n - 1]) | {"stopped0": 0.95}
        assert student(lake, set(verdicts)).judge(verdicts, {}).judges is judges


def test_a_history_that_is_learning_has_no_student(lake: Lake) -> None:
    fill(lake, "2026-03-01", dict.fromkeys(USUAL, 1) | {"stopped0": 1})
    fill(lake, DS, dict.fromkeys(USUAL, 1) | {"stopped1": 1})
    verdicts = USUAL_LABELS | {"stopped0": 0.95}
    assert not student(lake, set(verdicts)).judge(verdicts, {}).judges


def test_an_answer_outranks_a_verdict_and_later_nights_change_nothing(lake: Lake) -> None:
    verdicts = USUAL_LABELS | STOPPED_LABELS
    about = student(lake, set(verdicts))
    answered = about.judge(verdicts, {"stopped0": 0.0, "stopped2": 0.0})
    assert not (answered.posterior.probability > 0.5)[[about.number[name] for name in STOPPED_LABELS]].any()
    judged = about.judge(verdicts, {})
    assert answered.posterior.probability[about.number["stopped3"]] < judged.posterior.probability[about.number["stopped3"]]
    fill(lake, "2026-03-03", dict.fromkeys(STOPPED, 900))
    again = student(lake, set(verdicts))
    assert again.version(verdicts, {}) == about.version(verdicts, {}) != about.version(verdicts, {"stopped0": 0.0})
    assert np.array_equal(again.judge(verdicts, {}).posterior.probability, judged.posterior.probability)


def test_the_next_questions_are_open_ones_of_the_night_that_may_be_asked(lake: Lake) -> None:
    about = student(lake, {"stopped0"})
    judged = about.judge({"stopped0": 0.95}, {})
    assert set(about.next(judged, set(STOPPED), 20)) == {"stopped1", "stopped3", "stopped5"}
    assert about.next(judged, set(STOPPED), 1)[0] in ("stopped1", "stopped3"), "many sessions"
    assert about.next(judged, {"stopped5"}, 20) == ["stopped5"]
    assert not judged.is_enough


def test_a_doubtful_verdict_on_the_normal_side_is_overruled_and_a_confident_one_is_not(lake: Lake) -> None:
    sure = USUAL_LABELS | {"stopped0": 0.95, "stopped2": 0.95, "stopped1": 0.95}
    about = student(lake, {*sure, "stopped5"})
    number = about.number["stopped5"]
    for verdict, overruled in ((0.45, True), (0.1, False)):
        assert about.judge(sure | {"stopped5": verdict}, {}).is_overruled[number] == overruled
    judged = about.judge(sure | {"stopped5": 0.45}, {"stopped5": 0.0})
    assert not judged.is_overruled[number], "an analyst is never overruled"
