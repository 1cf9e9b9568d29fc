"""Scores of cells are the scores of their sessions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.evaluation.curves import pooled, precision_recall, reliability
from nightlog.evaluation.metrics import Scored, curve_points, f1_interval, measure
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

CELLS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.50004, 0.9, 1.0]), st.booleans(), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=12,
)


def scored(cells: list[tuple[float, bool, int, int]]) -> Scored:
    probability, flagged, anomalous, normal = (np.array(column) for column in zip(*cells, strict=True))
    return Scored(probability, flagged.astype(bool), anomalous, normal)


def expanded(cells: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, probability and flag of each session."""
    counts = np.concatenate([cells.anomalous, cells.normal])
    labels = np.repeat([1, 0], len(cells.probability))
    return np.repeat(labels, counts), np.repeat(np.tile(cells.probability, 2), counts), np.repeat(np.tile(cells.flagged, 2), counts)


@given(CELLS)
@settings(deadline=None, max_examples=200)
def test_measures_of_cells_are_those_of_sklearn_on_sessions(cells: list[tuple[float, bool, int, int]]) -> None:
    own = scored(cells)
    labels, probability, flagged = expanded(own)
    found = measure(own)
    assert (found["n_sessions"], found["n_anomalous"]) == (len(labels), labels.sum())
    if not labels.sum():
        assert found["f1"] is None and found["recall"] is None and found["average_precision"] is None
        return
    precision, recall, f1, _ = precision_recall_fscore_support(labels, flagged, average="binary", zero_division=0)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((precision, recall, f1))
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, probability))
    assert found["false_alarms_per_1000"] == pytest.approx(1000 * (flagged & (labels == 0)).sum() / len(labels))
    assert 0 <= found["f1_low"] <= found["f1_high"] <= 1


@given(CELLS, st.randoms())
@settings(deadline=None, max_examples=50)
def test_the_order_of_cells_has_no_influence(cells: list[tuple[float, bool, int, int]], random: object) -> None:
    moved = list(cells)
    random.shuffle(moved)  # type: ignore[attr-defined]
    assert measure(scored(cells)) == measure(scored(moved))
    assert curve_points(scored(cells)) == curve_points(scored(moved))


def test_the_interval_is_that_of_sessions_drawn_again() -> None:
    labels = np.repeat([1, 1, 0, 0], [40, 10, 12, 300])
    flagged = np.repeat([1, 0, 1, 0], [40, 10, 12, 300])
    random, drawn = np.random.default_rng(3), []
    for _ in range(3000):
        chosen = random.integers(0, len(labels), len(labels))
        true, n = (labels[chosen] & flagged[chosen]).sum(), labels[chosen].sum() + flagged[chosen].sum()
        drawn.append(2 * true / n)
    low, high = f1_interval(true=40, false=12, missed=10, passed=300, seed=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)
    assert low < 2 * 40 / (2 * 40 + 22) < high
    narrow = f1_interval(true=4000, false=1200, missed=1000, passed=30000, seed=1)
    assert narrow[1] - narrow[0] < (high - low) / 5


def test_nothing_to_score_has_no_score() -> None:
    nothing = Scored(np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    found = measure(nothing)
    assert found["f1"] is None and found["false_alarms_per_1000"] is None and found["n_sessions"] == 0
    assert curve_points(nothing) == [] and precision_recall([]) == [] and reliability([]) == []


def test_curves_are_made_of_what_cells_store() -> None:
    own = scored([(0.9, True, 6, 2), (0.9, False, 2, 0), (0.2, False, 0, 4), (0.0, False, 2, 4)])
    points = curve_points(own)
    assert points == [(0.9, 8, 2), (0.2, 0, 4), (0.0, 2, 4)]
    assert precision_recall(points) == [(0.8, 0.8), (0.8, 8 / 14), (1.0, 0.5)]
    assert np.allclose(reliability(points), [(0.0, 2 / 6), (0.2, 0.0), (0.9, 0.8)])
    assert pooled([points, points]) == [(p, 2 * a, 2 * n) for p, a, n in points]
