"""Learning from answers: posterior, next questions, fusion."""

from __future__ import annotations

import numpy as np
import pytest
from history_help import random_system, table
from nightlog.history.answers import (
    LABEL_RANGE,
    LABEL_WEIGHT,
    LENGTH,
    SCALE,
    Student,
    fuse,
    logistic_regression,
    next_questions,
    open_doubt,
    sigmoid,
)
from nightlog.history.reference import Multisets

ROWS, SESSIONS = random_system(3, n=30)
READ = Multisets.of(table(ROWS, SESSIONS).column("events"), True)
PRIOR = np.random.default_rng(1).normal(-2, 1, len(ROWS))


def test_similarity_is_that_of_weighted_jaccard() -> None:
    found = Student(READ, PRIOR).similarity(range(len(ROWS)))
    worth = [{name: 1 + 0.25 * (n.bit_length() - 1) for name, n in row.items()} for row in ROWS]
    for i, one in enumerate(worth):
        for j, other in enumerate(worth):
            names = one.keys() | other.keys()
            common = sum(min(one.get(name, 0), other.get(name, 0)) for name in names)
            union = sum(max(one.get(name, 0), other.get(name, 0)) for name in names)
            distance = 1 - common / union if union else 0.0
            assert found[i, j] == pytest.approx(np.exp(-distance / LENGTH))


def test_without_answers_the_student_is_the_history() -> None:
    posterior = Student(READ, PRIOR).posterior([], [])
    assert posterior.mean.tolist() == PRIOR.tolist()
    assert np.array_equal(posterior.probability > 0.5, PRIOR > 0)


def test_the_mean_is_the_mode_of_the_log_posterior() -> None:
    student, judged, labels = Student(READ, PRIOR), [0, 4, 7, 9], np.array([1.0, 0.0, 1.0, 0.3])
    mean = student.posterior(judged, labels).mean[judged]
    kernel = SCALE**2 * student.similarity(judged)[judged]
    soft = np.clip(labels, *LABEL_RANGE)
    slope = LABEL_WEIGHT * (soft - sigmoid(mean)) - np.linalg.solve(kernel, mean - PRIOR[judged])
    assert np.abs(slope).max() < 1e-4


def test_answers_move_what_is_like_them_and_are_kept() -> None:
    student = Student(READ, PRIOR)
    target = 5
    like = student.similarity([target])[:, 0]
    yes, no = student.posterior([target], [1.0]), student.posterior([target], [0.0])
    assert yes.probability[target] == 1.0 and no.probability[target] == 0.0
    others = np.arange(len(ROWS)) != target
    shift = (yes.mean - PRIOR)[others]
    assert (shift >= 0).all() and np.argmax(shift) == np.argmax(like[others])
    assert (no.mean <= PRIOR + 1e-9).all()
    assert (yes.variance <= SCALE**2 + 1e-9).all() and yes.variance[target] < SCALE**2 / 2


def test_the_order_of_answers_does_not_matter() -> None:
    student = Student(READ, PRIOR)
    one, other = student.posterior([1, 2, 8], [1, 0, 1]), student.posterior([8, 1, 2], [1, 1, 0])
    assert one.probability == pytest.approx(other.probability)


def test_patterns_without_templates_are_like_each_other() -> None:
    read = Multisets.of(table([{}, {}, {"a": 1}], [1, 1, 1]).column("events"), True)
    found = Student(read, np.zeros(3)).similarity([0, 1, 2])
    assert found[0, 1] == 1.0 and found[0, 2] == pytest.approx(np.exp(-1 / LENGTH))


def test_questions_are_about_many_sessions_in_doubt_that_are_not_alike() -> None:
    rows = [{"a": 1}, {"a": 2}, {"b": 1}, {"c": 1}]
    student = Student(Multisets.of(table(rows, [1] * 4).column("events"), True), np.array([0.0, 0.0, 0.1, -6.0]))
    posterior = student.posterior([], [])
    is_open = np.ones(4, dtype=bool)
    assert next_questions(student, posterior, np.array([100, 90, 60, 100]), is_open, 3) == [0, 2, 1]
    assert next_questions(student, posterior, np.array([100, 90, 60, 100]), np.array([False, True, True, True]), 1) == [1]
    assert next_questions(student, posterior, np.zeros(4), is_open, 2) == []
    assert next_questions(student, posterior, np.ones(4), ~is_open, 2) == []


def test_fusion_adds_flags_in_the_tail_alone() -> None:
    random = np.random.default_rng(0)
    bad = np.repeat([False, True], 20)
    unlikeness = random.normal(0.2, 0.1, (40, 4)) + 3.0 * bad[:, None]
    verdict = np.where(bad, 0.95, 0.05)
    verdict[[0, 1, 20, 21]] = 0.4
    verdict[[22, 23]] = np.nan
    tail = np.where(bad, 2.0, 0.1)
    tail[[1, 21]] = 1.4
    found = fuse(verdict, unlikeness, tail, np.full(40, 10))
    assert found.tolist() == [*[False] * 20, True, False, False, False, *[True] * 16]


def test_fusion_without_verdicts_of_both_kinds_follows_the_verdicts() -> None:
    verdict = np.array([0.1, 0.4, 0.2])
    assert not fuse(verdict, np.ones((3, 4)), np.full(3, 3.0), np.ones(3)).any()
    assert not fuse(np.full(3, np.nan), np.ones((3, 4)), np.full(3, 3.0), np.ones(3)).any()
    assert not fuse(np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0)).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_logistic_regression_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(seed)
    features = random.exponential(1.0, (60, 4))
    label = features @ random.normal(size=4) * 4 > random.normal() if seed else np.arange(60) == 7  # a single anomaly, or mostly separable
    weight = random.uniform(0.1, 5.0, 60)
    fitted = LogisticRegression(max_iter=10_000, tol=1e-10).fit(features, label, sample_weight=weight)
    coefficients, intercept = logistic_regression(features, label, weight)
    np.testing.assert_allclose(coefficients, fitted.coef_[0], atol=1e-4)
    assert intercept == pytest.approx(fitted.intercept_[0], abs=1e-4)


def test_many_similar_verdicts_do_not_break_the_student() -> None:
    rows = [{f"t{t}": 1 for t in range(60) if t != i % 40} | ({"bad": 1} if i % 3 == 0 else {}) for i in range(240)]
    read = Multisets.of(table(rows, [1] * len(rows)).column("events"), True)
    bad = np.arange(240) % 3 == 0
    student = Student(read, np.full(240, -3.0))
    judged = np.arange(0, 240, 2)
    posterior = student.posterior(judged, bad[judged].astype(float))
    assert np.isfinite(posterior.mean).all()
    soft, kernel = np.clip(bad[judged], *LABEL_RANGE), SCALE**2 * student.similarity(judged)[judged]
    slope = LABEL_WEIGHT * (soft - sigmoid(posterior.mean[judged])) - np.linalg.lstsq(kernel, posterior.mean[judged] + 3.0)[0]
    assert np.abs(kernel @ slope).max() < 1e-3


def test_open_doubt_falls_to_zero_as_patterns_are_judged() -> None:
    student, sessions, is_open = Student(READ, PRIOR), np.array(SESSIONS), np.ones(len(ROWS), dtype=bool)
    labels = (PRIOR > -1).astype(float)
    judged: list[int] = []
    doubts = []
    while True:
        posterior = student.posterior(judged, labels[judged])
        is_open[judged] = False
        doubts.append(open_doubt(posterior, sessions, is_open))
        new = next_questions(student, posterior, sessions, is_open, 10)
        if not new:
            break
        judged += new
    assert sorted(judged) == list(range(len(ROWS)))
    assert doubts[0] > 0.1 and doubts[-1] == 0.0 and doubts == sorted(doubts, reverse=True)
    nothing = Student(READ, np.full(len(ROWS), -1e9)).posterior([], [])
    assert open_doubt(nothing, np.zeros(len(ROWS)), is_open) == 0.0
