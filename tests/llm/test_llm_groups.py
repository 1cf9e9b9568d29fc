"""What analysts are asked first, by sessions and doubt alone."""

from __future__ import annotations

import random

from nightlog.feedback.groups import Group, group_ids, rank_questions
from nightlog.llm.items import Verdict


def verdict(name: str, label: str, confidence: float, number: int = 2, group: str | None = None) -> Verdict:
    return Verdict(name, label, confidence, "why", number, group)  # type: ignore[arg-type]


VERDICTS = {
    each.id: each
    for each in (
        verdict("sure", "normal", 0.97, 1),
        verdict("sure-again", "normal", 0.95, 2, "clear"),
        verdict("fan-1", "anomalous", 0.6, 2, "fan stopped"),
        verdict("fan-2", "anomalous", 0.7, 2, "fan stopped"),
        verdict("alone", "unclear", 0.5, 1),
        verdict("stands", "normal", 0.6, 2),
        verdict("gone", "unclear", 0.5, 1),
    )
}
SESSIONS = {"sure": 100_000, "sure-again": 1_000, "fan-1": 10, "fan-2": 30, "alone": 20, "stands": 5}


def test_the_most_doubtful_sessions_come_first_and_what_is_sure_is_not_asked() -> None:
    found = rank_questions("bgl", VERDICTS, SESSIONS)
    assert [(group.name, group.questions, group.sessions, group.label, group.weight) for group in found] == [
        ("clear", ("sure-again",), 1_000, "normal", 50.0),
        ("fan stopped", ("fan-2", "fan-1"), 40, "anomalous", 13.0),
        (None, ("alone",), 20, "unclear", 10.0),
        (None, ("stands",), 5, "normal", 2.0),
    ], "sessions × uncertainty"
    assert found[1].probability == 0.675


def test_the_order_of_the_verdicts_has_no_influence() -> None:
    wanted = rank_questions("bgl", VERDICTS, SESSIONS)
    for seed in range(5):
        names = random.Random(seed).sample(sorted(VERDICTS), len(VERDICTS))
        assert rank_questions("bgl", {name: VERDICTS[name] for name in names}, SESSIONS) == wanted
    assert rank_questions("bgl", {}, {}) == rank_questions("bgl", VERDICTS, {}) == []


def test_ids_are_those_of_the_group_in_its_system() -> None:
    def ids(groups: list[Group]) -> set[str]:
        return {group.id for group in groups}

    later = VERDICTS | {"fan-3": verdict("fan-3", "anomalous", 0.65, 2, "fan stopped")}
    assert ids(rank_questions("bgl", later, SESSIONS | {"fan-3": 9})) == ids(rank_questions("bgl", VERDICTS, SESSIONS))
    assert ids(rank_questions("hdfs", VERDICTS, SESSIONS)).isdisjoint(ids(rank_questions("bgl", VERDICTS, SESSIONS)))
    named, single = verdict("x", "normal", 0.6, 2, "y"), verdict("y", "normal", 0.6, 2)
    assert len(set(group_ids("bgl", {"x": named, "y": single}, {}).values())) == 2, "a name is no id"


def test_questions_without_a_name_are_asked_together_where_they_differ_alike() -> None:
    more = VERDICTS | {"stands-2": verdict("stands-2", "normal", 0.6, 2)}
    sessions = SESSIONS | {"stands-2": 10}
    keys = {"stands": "k1", "stands-2": "k1", "fan-1": "k2", "fan-2": "k3"}
    found = rank_questions("bgl", more, sessions, keys)
    assert [(group.name, group.questions) for group in found if group.name != "clear"] == [
        ("fan stopped", ("fan-2", "fan-1")),
        (None, ("alone",)),
        (None, ("stands-2", "stands")),
    ]
    assert [group.id for group in found] != [group.id for group in rank_questions("bgl", more, sessions)]


def test_what_has_no_name_goes_with_the_one_group_that_differs_alike() -> None:
    keys = {"fan-1": "k1", "fan-2": "k2", "stands": "k1"}
    (fan,) = (group for group in rank_questions("bgl", VERDICTS, SESSIONS, keys) if group.name == "fan stopped")
    assert fan.questions == ("fan-2", "fan-1", "stands")
    torn = VERDICTS | {"other": verdict("other", "normal", 0.6, 2, "fan noisy")}
    found = rank_questions("bgl", torn, SESSIONS | {"other": 1}, keys | {"other": "k1"})
    assert (None, ("stands",)) in {(group.name, group.questions) for group in found}, "two groups differ so: it goes with neither"
