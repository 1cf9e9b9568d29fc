from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from metaproto_help import QUICK, fit, system, unlabelled
from nightlog.detector.metaproto import detector
from nightlog.detector.metaproto.detector import Fold, by_class
from nightlog.errors import ConfigError
from nightlog.evaluation import metaproto as modes
from nightlog.evaluation.case import Case
from nightlog.evaluation.metaproto import LEARNERS, METAPROTO_MODES, learner, metaproto_asking
from nightlog.systems.catalog import load_catalog

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TARGET = system("c", seed=3, n=80)
PARTS = np.arange(80) % 2 == 0


@pytest.fixture
def case(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(modes, "Options", lambda: QUICK)
    monkeypatch.setattr(detector, "Options", lambda: QUICK)
    whole = unlabelled(TARGET)
    return Case(
        target="c",
        seed=0,
        system=load_catalog()["hdfs"],
        sources=(system("a", seed=1), system("b", seed=2)),
        adaptation=whole.take(np.flatnonzero(PARTS)),
        test=whole.take(np.flatnonzero(~PARTS)),
        judge=None,
    )


def test_sessions_of_both_kinds_stand_apart_and_none_is_lost() -> None:
    mixed = replace(system("a"), anomalous=np.linspace(0, 1, 60))
    name, x, bad, sessions = by_class(mixed, np.arange(60, dtype=np.float32)[:, None])
    assert name == "a" and len(x) == len(bad) == len(sessions) == 118
    assert sessions[bad].sum() == pytest.approx((mixed.sessions * mixed.anomalous).sum()) and sessions.sum() == mixed.sessions.sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metaproto", *(f"learner:{name}" for name in LEARNERS)])
def test_each_mode_says_a_probability_and_a_flag_of_every_test_pattern(case: Case, name: str) -> None:
    said = METAPROTO_MODES[name](case)
    assert said.probability.shape == said.flagged.shape == (40,) and said.flagged.dtype == bool
    assert ((said.probability >= 0) & (said.probability <= 1)).all() and (said.flagged == (said.probability >= 0.5)).all()
    assert said.asked == 0 and all(np.isfinite(value) for value in said.detail.values())
    bad = TARGET.anomalous[~PARTS] > 0
    assert said.probability[bad].mean() > said.probability[~bad].mean()


class Certain:
    """Says 0 and 1 in the precision of its features, as logistic regression does."""

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.array([[1, 0], [0, 1]], dtype=np.float32)


def test_a_learner_that_is_certain_has_finite_logits() -> None:
    logits = modes._logits(Certain(), np.zeros((2, 1), dtype=np.float32))
    assert np.isfinite(logits).all() and logits[0] < 0 < logits[1]


@pytest.mark.slow
def test_answers_come_from_the_oracle_alone_and_are_counted(case: Case) -> None:
    asked: list[str] = []
    labels = dict(zip(TARGET.questions, (TARGET.anomalous > 0).tolist(), strict=True))

    def oracle(questions: Sequence[str]) -> bool:
        asked.extend(questions)
        return labels[questions[0]]

    said = metaproto_asking(10)(replace(case, answers=10, oracle=oracle))
    assert len(set(asked)) == len(asked) == 10 and set(asked) <= set(case.adaptation.questions)
    assert said.detail["labelled"] == 10
    given = {case.adaptation.questions.index(question): labels[question] for question in asked}
    taught = fit(case.sources, case.adaptation, case.seed).with_labels(case.adaptation, given)
    np.testing.assert_array_equal(taught.probability(case.test), said.probability)


def test_without_an_oracle_or_with_an_unknown_learner_it_says_so(case: Case) -> None:
    with pytest.raises(ConfigError, match="needs an oracle with 5 answers"):
        metaproto_asking(5)(case)
    with pytest.raises(ConfigError, match="known: gradient_boosting"):
        learner("xgb")


@pytest.mark.slow
def test_labels_dealt_out_at_random_do_not_become_what_is_rare(spark: SparkSession) -> None:
    """The same share of anomalous sessions everywhere: prototypes of both classes fall together."""
    flat = [replace(system(name, seed=seed), anomalous=np.full(60, 0.2)) for name, seed in (("a", 1), ("b", 2))]
    fold = Fold.of(flat, QUICK.selector)
    for task in fold.tasks:
        means = [np.average(task.x[task.bad == wanted], axis=0, weights=task.sessions[task.bad == wanted]) for wanted in (False, True)]
        np.testing.assert_allclose(means[0], means[1], atol=1e-4)


def test_every_mode_is_a_function_of_this_module() -> None:
    assert {mode.__module__ for mode in METAPROTO_MODES.values()} == {modes.__name__}
