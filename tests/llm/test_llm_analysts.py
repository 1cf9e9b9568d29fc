"""Answers: the last counts, they can be taken back, and they hold for later members of the group and under another prompt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nightlog.detector.manifest import OF_GENERAL
from nightlog.errors import ConfigError
from nightlog.feedback.questions import answers_by_question, questions, record_answer, system_answers
from nightlog.feedback.store import current_statements, take_back
from nightlog.history.night import score_night
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, VERDICTS
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.verdicts import latest_verdicts
from nightlog.publishing.decide import Thresholds, decisions, llm_cause
from nightlog.publishing.inputs import learn, read_judged, verdicts_and_answers
from nightlog.systems.spec import System

DS = "2008-11-10"
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)


def given(group: str, label: str | None, minute: int, *asked: str) -> dict[str, Any]:
    return {"system": "hdfs", "group": group, "label": label, "questions": list(asked), "answered_at": NOON + timedelta(minutes=minute)}


def test_the_last_answer_about_a_group_counts_and_can_be_taken_back() -> None:
    rows = [given("a", "normal", 1), given("a", "anomalous", 2), given("b", "normal", 1), given("b", None, 2), given("c", None, 1)]
    for mixed in (rows, rows[::-1]):
        assert [(row["group"], row["label"]) for row in current_statements(mixed)] == [("a", "anomalous")]
    assert [row["label"] for row in current_statements([*rows, given("b", "anomalous", 3)])] == ["anomalous", "anomalous"]
    assert current_statements([]) == []


def test_an_answer_holds_for_its_questions_then_and_the_groups_members_now() -> None:
    groups = {"q1": "a", "q3": "a", "q4": "b"}
    found = answers_by_question([given("a", "normal", 1, "q1", "q2")], groups)
    assert {name: row["label"] for name, row in found.items()} == dict.fromkeys(("q1", "q2", "q3"), "normal")
    both = answers_by_question([given("b", "anomalous", 2, "q1", "q4"), given("a", "normal", 1, "q1", "q2")], groups)
    assert {name: row["label"] for name, row in both.items()} == {"q1": "anomalous", "q2": "normal", "q3": "normal", "q4": "anomalous"}
    assert answers_by_question([], groups) == {}


@pytest.fixture
def judged(lake: Lake, put_night: Any, system: System) -> Lake:
    """A night of five patterns: one sure, two of a group, one single in doubt, one that occurs no more."""
    patterns = {name: [("open", 1), (name, 1)] for name in ("sure", "fan-1", "fan-2", "alone")}
    put_night(lake, patterns, sessions={"sure": 1000, "fan-1": 10, "fan-2": 30, "alone": 20})
    said = [
        ("sure", "normal", 0.97, 1, None),
        ("fan-1", "anomalous", 0.6, 2, "fan stopped"),
        ("fan-2", "anomalous", 0.7, 2, "fan stopped"),
        ("alone", "unclear", 0.5, 1, None),
        ("gone", "unclear", 0.5, 1, None),
    ]
    rows = [
        {
            "system": "hdfs",
            "question_id": name,
            "prompt": prompt_hash(system),
            "llm": "judge",
            "label": label,
            "confidence": confidence,
            "reason": f"about {name}",
            "round": number,
            "group": group,
            "added": [{"template": name, "count": 2}] if group else None,
            "missing": [{"template": "close", "count": None}] if group else None,
            "events": [{"template": "open", "count": 1}],
            "asked_at": NOON,
        }
        for name, label, confidence, number, group in said
    ]
    lake.append(VERDICTS, rows)
    return lake


def test_questions_say_what_where_and_how_much(judged: Lake, system: System, systems: Callable[..., System]) -> None:
    first, second = questions(judged, [systems("bgl"), system])
    assert first == {
        "system": "hdfs",
        "group": first["group"],
        "what": "fan stopped",
        "patterns": 2,
        "sessions": 40,
        "decision": "anomalous",
        "probability": 0.675,
        "answer": None,
        "weight": 2.05548,
        "example": "+2× fan-2; -close",
    }
    assert (second["what"], second["patterns"], second["sessions"], second["example"]) == ("about alone", 1, 20, "1× open")
    assert questions(judged, []) == questions(judged, [system], with_answer=True) == []


def test_an_answer_settles_its_group_until_it_is_taken_back(judged: Lake, system: System) -> None:
    before = questions(judged, [system])
    group = before[0]["group"]
    row, _ = record_answer(judged, [system], group, "normal", "kim", NOON)
    assert (row["system"], row["name"], row["questions"], row["answered_by"]) == ("hdfs", "fan stopped", ["fan-2", "fan-1"], "kim")
    assert [each["group"] for each in questions(judged, [system])] == [before[1]["group"]]
    assert [(each["group"], each["answer"]) for each in questions(judged, [system], with_answer=True)] == [(group, "normal")]
    verdicts = latest_verdicts(judged, system, prompt_hash(system), None)
    assert {name: row["label"] for name, row in system_answers(judged, system, verdicts).items()} == {"fan-1": "normal", "fan-2": "normal"}

    record_answer(judged, [system], group, "anomalous", "lee", NOON + timedelta(minutes=1))
    assert questions(judged, [system], with_answer=True)[0]["answer"] == "anomalous", "an answer can be changed"

    assert take_back(judged, "answer", "group", group, "kim", NOON + timedelta(minutes=2))["name"] == "fan stopped"
    assert questions(judged, [system]) == before
    assert len(judged.rows(ANSWERS)) == 3, "what was answered stays readable"
    with pytest.raises(ConfigError, match="no answer about group"):
        take_back(judged, "answer", "group", group, "kim", NOON + timedelta(minutes=3))


def test_an_answer_outlives_the_prompt(judged: Lake, system: System, systems: Callable[..., System]) -> None:
    group = questions(judged, [system])[0]["group"]
    record_answer(judged, [system], group, "normal", "kim", NOON)
    ruled = systems(policy="Fans are noisy.")
    assert latest_verdicts(judged, ruled, prompt_hash(ruled), None) == {}
    assert system_answers(judged, ruled, {}).keys() == {"fan-1", "fan-2"}
    assert take_back(judged, "answer", "group", group, "kim", NOON + timedelta(minutes=1))["label"] is None


def test_an_unknown_group_is_told(judged: Lake, system: System) -> None:
    with pytest.raises(ConfigError, match=r"no group `1234`: `nightlog questions`"):
        record_answer(judged, [system], "1234", "normal", "kim", NOON)
    assert not judged.exists(ANSWERS)


def flagged(lake: Lake, system: System) -> set[str]:
    """Return the patterns that the next publishing flags, without an LLM."""
    night = read_judged(lake, system, DS)
    verdicts, answers = verdicts_and_answers(lake, system, prompt_hash(system), None)
    learn(lake, system, DS, night, verdicts, answers)
    scores = [{"pattern_id": row["pattern_id"], "probability": 0.1} for row in night.patterns]
    given = (night.patterns, night.routes, scores, verdicts, answers, Thresholds.of(OF_GENERAL), llm_cause(system, None))
    return {each.pattern_id for each in decisions(*given, night.history) if each.anomalous}


def test_without_an_llm_unjudged_patterns_are_asked_about_and_ten_answers_change_what_is_flagged(
    lake: Lake, put_night: Any, system: System
) -> None:
    """A fault hits every fifth session, so it is not rare, and its wording is harmless: the history misses it."""
    usual = {f"usual{n}": [("open it", 1), ("read it", 1 << n % 6), (f"step {n // 6}", 1), ("close it", 1)] for n in range(24)}
    halted = {f"halted{n}": [("open it", 1), ("read it", 1 << n % 6), ("went elsewhere", 1 + n // 6)] for n in range(12)}
    put_night(lake, usual | halted, sessions=dict.fromkeys(usual, 100) | dict.fromkeys(halted, 50))
    score_night(lake, system, DS)
    assert not flagged(lake, system) & halted.keys()
    answered = set()
    for number in range(10):
        first = questions(lake, [system])[0]
        assert first["patterns"] == 1 and first["example"]
        row, _ = record_answer(
            lake,
            [system],
            first["group"],
            "anomalous" if "elsewhere" in first["example"] else "normal",
            "kim",
            NOON + timedelta(minutes=number),
        )
        assert not answered & set(row["questions"]), "what was answered is not asked again"
        answered |= set(row["questions"])
    assert {name.rstrip("0123456789") for name in answered} == {"usual", "halted"}
    assert flagged(lake, system) == halted.keys(), "patterns that nobody answered about are flagged, too"
