"""MetaProto: taught by labelled systems, adapted to one without labels, or with a few; stored; applied to a night's patterns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from metaproto_help import QUICK, fit, system, unlabelled
from nightlog.detector.metaproto.detector import MetaProto, adapted, ask, learn, pack, teachers, unpack
from nightlog.detector.metaproto.drift import Drift
from nightlog.detector.metaproto.features import NAMES, View
from nightlog.detector.metaproto.learning import Config, Task, choose_columns, class_weights, left_out_f1, oversample, train_head
from nightlog.detector.metaproto.serving import NightTemplates, score_frame
from nightlog.errors import ConfigError
from nightlog.evaluation.case import Case
from nightlog.evaluation.learned import LEARNERS, METAPROTO_MODES, learner, metaproto
from nightlog.systems.catalog import load_catalog

SOURCES = (system("a", seed=1), system("b", seed=2))
TARGET = system("c", seed=3)


@pytest.fixture(scope="module")
def fitted() -> MetaProto:
    return fit(SOURCES, unlabelled(TARGET), 0)


def noise(name: str, seed: int = 0) -> Task:
    """Columns 3 and 7 tell the label, the others nothing; column 5 is constant."""
    random = np.random.default_rng(seed)
    x, bad = random.standard_normal((200, 12)), random.random(200) < 0.3
    x[bad, 3] += 3
    x[bad, 7] -= 3
    x[:, 5] = 1
    return Task(name, x, bad, random.integers(1, 9, 200))


def test_features_mean_the_same_in_systems_that_name_their_templates_differently() -> None:
    one, other = (
        unlabelled(TARGET),
        replace(unlabelled(TARGET), texts=tuple(f"word {n}" for n in range(9)), template_ids=tuple("ihgfedcba")),
    )
    seen, again = View(one).see(one), View(other).see(other)
    assert seen.shape == (60, len(NAMES)) and np.isfinite(seen).all()
    wording = [NAMES.index(name) for name in ("words", "score", "suspicion", "severity_in_tail", "tail")]
    np.testing.assert_allclose(np.delete(seen, wording, axis=1), np.delete(again, wording, axis=1), atol=1e-6)


def test_the_columns_that_tell_are_kept() -> None:
    assert choose_columns([noise("a"), noise("b", 1)], 2, 0).tolist() == [3, 7]
    assert choose_columns([noise("a")], 99, 0).tolist() == list(range(12))


def test_sessions_weigh_and_classes_are_balanced() -> None:
    weight = class_weights(np.array([True, False, False]), np.array([5, 1, 9]))
    assert weight.tolist() == pytest.approx([0.5, 0.125, 0.375])


def test_the_rare_class_is_filled_up_within_its_system_alone() -> None:
    task = noise("a")
    full = oversample(task, 0)
    assert full.bad.sum() == (~full.bad).sum() and (full.x[:200] == task.x).all()
    made = full.x[200:]
    low, high = task.x[task.bad].min(axis=0), task.x[task.bad].max(axis=0)
    assert ((made >= low - 1e-9) & (made <= high + 1e-9)).all()


def test_sessions_of_both_kinds_stand_apart_and_none_is_lost() -> None:
    mixed = replace(system("a"), anomalous=np.linspace(0, 1, 60))
    task = Task.of(mixed)
    assert len(task.x) == len(task.bad) == len(task.sessions) == 118
    assert task.sessions[task.bad].sum() == pytest.approx((mixed.sessions * mixed.anomalous).sum())


def test_a_head_adapts_faster_to_a_new_system_than_one_that_never_adapted() -> None:
    """Two systems whose labels lie in opposite columns: no fixed head serves both, one that takes steps on a support does."""
    tasks = [noise("a"), replace(noise("b", 1), x=noise("b", 1).x[:, ::-1].copy())]
    head = train_head(tasks, Config(keep=12, episodes=200, weight_decay=0.0), 0)
    assert {3, 7, 4, 8} & set(head.chosen[np.argsort(-np.abs(head.weights))[:4]].tolist())


def test_anomalies_of_a_like_system_are_found_without_its_labels(fitted: MetaProto) -> None:
    flagged = fitted.probability(unlabelled(TARGET)) >= 0.5
    assert flagged[TARGET.anomalous > 0].mean() > 0.8 and flagged[TARGET.anomalous == 0].mean() < 0.2
    assert not fitted.support and not fitted.drifted


def test_a_score_depends_on_pattern_and_model_alone(fitted: MetaProto) -> None:
    order = np.random.default_rng(0).permutation(len(TARGET.ids))
    target = unlabelled(TARGET)
    whole = fitted.probability(target)
    np.testing.assert_allclose(fitted.probability(target.take(order)), whole[order], atol=1e-9)
    np.testing.assert_allclose(fitted.probability(target.take([5])), whole[[5]], atol=1e-9)
    assert fitted.probability(target.take([])).shape == (0,)


def test_the_same_seed_gives_the_same_scores_and_the_target_has_no_say_on_the_head(fitted: MetaProto) -> None:
    again, other = fit(SOURCES, unlabelled(TARGET), 0), fit(SOURCES, unlabelled(system("d", seed=8, templates=11)), 0)
    np.testing.assert_array_equal(again.probability(unlabelled(TARGET)), fitted.probability(unlabelled(TARGET)))
    np.testing.assert_array_equal(other.head.weights, fitted.head.weights)


def test_a_left_out_source_is_seen_by_neither_selection_nor_oversampling() -> None:
    tasks = [Task.of(source) for source in SOURCES]
    lied = [tasks[0], Task("b", tasks[1].x, ~tasks[1].bad, tasks[1].sessions)]
    first, again = left_out_f1(tasks, QUICK, 0), left_out_f1(lied, QUICK, 0)
    assert len(first) == 2 and first[1] != again[1], "the truth about b is what its own figure is of"
    alone = train_head([tasks[0]], QUICK, 0)
    assert np.array_equal(alone.weights, train_head([lied[0]], QUICK, 0).weights)
    assert first[1][0] == pytest.approx(1.0, abs=0.4) and first[1][0] > first[1][1]


def test_labels_of_an_analyst_take_the_place_of_the_sources_word(fitted: MetaProto) -> None:
    target = unlabelled(TARGET)
    labelled = fitted.with_labels(target, {number: not bool(TARGET.anomalous[number]) for number in range(40)})
    found = labelled.probability(target)
    assert found[TARGET.anomalous == 0].mean() > found[TARGET.anomalous > 0].mean()
    assert fitted.with_labels(target, {}) is fitted


def test_a_target_that_shares_templates_with_a_source_has_a_drift_labelled_support() -> None:
    source_model = replace(learn(SOURCES, 0, QUICK), drift=Drift(normal=30.0))
    found = adapted(source_model, replace(unlabelled(SOURCES[0]), name="like a"))
    labels = np.array([label for _, label in found.support])
    assert found.drifted and (labels > 0.5).sum() > 5 and (labels < 0.5).sum() > 5


def test_questions_are_asked_once_each_and_until_there_are_none_left(fitted: MetaProto) -> None:
    target = unlabelled(TARGET)
    asked: list[int] = []

    def answer(number: int) -> bool:
        asked.append(number)
        return bool(TARGET.anomalous[number])

    known = ask(fitted, target, 8, answer)
    assert len(known) == len(set(asked)) == 8
    assert len(ask(fitted, target, 999, answer)) == 60


def test_a_source_whose_faults_leave_no_trace_teaches_nothing() -> None:
    blind = replace(system("blind", seed=5), anomalous=np.full(60, 0.05))
    assert teachers([*SOURCES, blind]) == [*SOURCES] and teachers([blind]) == [blind]
    np.testing.assert_array_equal(learn([*SOURCES, blind], 0, QUICK).head.weights, learn(SOURCES, 0, QUICK).head.weights)


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(ConfigError, match="nothing to learn from"):
        fit([replace(SOURCES[0], anomalous=np.zeros(60))], unlabelled(TARGET), 0)


def test_a_stored_detector_comes_back_bit_for_bit(fitted: MetaProto) -> None:
    target = unlabelled(TARGET)
    labelled = fitted.with_labels(target, {1: True, 2: False})
    for detector in (fitted, labelled):
        tensors, kept = pack(detector)
        back = unpack(tensors, json.loads(json.dumps(kept)))
        np.testing.assert_array_equal(back.probability(target), detector.probability(target))


def test_a_template_of_a_later_night_is_new_and_weighs_most(fitted: MetaProto) -> None:
    names = TARGET.template_ids
    night = NightTemplates((*names, "new"), (*TARGET.texts, "panic: out of memory"))
    own = [{"template_id": names[row], "count": count} for row, count in TARGET.events[1]]
    frame = pd.DataFrame({"pattern_id": ["usual", "strange"], "events": [own, [*own, {"template_id": "new", "count": 1}]]})
    found = score_frame(frame, fitted, night).set_index("pattern_id")
    assert found.loc["strange", "probability"] > found.loc["usual", "probability"]
    for name in found.index:
        weights = {each["template_id"]: each["weight"] for each in found.loc[name, "weights"]}
        assert sum(weights.values()) == pytest.approx(1, abs=1e-4)
    assert max(weights, key=weights.__getitem__) == "new"
    alone = score_frame(frame.iloc[:1], fitted, NightTemplates(names, TARGET.texts))
    assert alone["probability"].item() == found.loc["usual", "probability"]


# The modes of the evaluation


@pytest.fixture
def case() -> Case:
    whole, part = unlabelled(TARGET), np.arange(60) % 2 == 0
    adaptation, test = (whole.take(np.flatnonzero(chosen)) for chosen in (part, ~part))
    return Case("c", 0, load_catalog()["hdfs"], SOURCES, adaptation, test)


@pytest.mark.parametrize("name", ["metaproto", *(f"learner:{name}" for name in LEARNERS)])
def test_each_mode_returns_a_probability_and_a_flag_for_each_test_pattern(case: Case, name: str) -> None:
    judged = METAPROTO_MODES[name](case)
    assert judged.probability.shape == judged.flagged.shape == (30,) and judged.flagged.dtype == bool
    assert ((judged.probability >= 0) & (judged.probability <= 1)).all() and judged.asked == 0
    bad = TARGET.anomalous[np.arange(60) % 2 == 1] > 0
    assert judged.probability[bad].mean() > judged.probability[~bad].mean()


def test_answers_come_from_the_oracle_alone_and_are_counted(case: Case) -> None:
    asked: list[str] = []
    labels = dict(zip(TARGET.questions, (TARGET.anomalous > 0).tolist(), strict=True))

    def oracle(questions: Sequence[str]) -> bool:
        asked.extend(questions)
        return labels[questions[0]]

    judged = metaproto(replace(case, answers=10, oracle=oracle))
    assert len(set(asked)) == len(asked) == 10 and set(asked) <= set(case.adaptation.questions)
    assert judged.detail["labelled"] == 10
    with pytest.raises(ConfigError, match="need an oracle"):
        metaproto(replace(case, answers=5))
    with pytest.raises(ConfigError, match="known: gradient_boosting"):
        learner("xgb")
