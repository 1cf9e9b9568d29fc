"""Scores of cells are the scores of their sessions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.evaluation.metrics import Scored, bootstrap, family_mean, measure
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
    labels = np.repeat([1, 0], len(cells.score))
    return np.repeat(labels, counts), np.repeat(np.tile(cells.score, 2), counts), np.repeat(np.tile(cells.flagged, 2), counts)


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
    one, other = measure(scored(cells)), measure(scored(moved))
    drawn = ("f1_low", "f1_high", "ap_low", "ap_high")  # which pattern is drawn depends on the order
    assert {name: one[name] for name in one if name not in drawn} == {name: other[name] for name in one if name not in drawn}


def test_the_bootstrap_is_over_patterns() -> None:
    cells = Scored(np.array([3.0, 2.0, 1.0]), np.array([True, True, False]), np.array([900, 0, 0]), np.array([0, 500, 5000]))
    low, high, ap_low, ap_high = bootstrap(cells)
    assert low == 0.0 and high == 1.0  # a draw without the large pattern has nothing to find, one without the second no false alarm
    assert ap_low <= 1.0 <= ap_high + 1e-9
    more = Scored(*(np.repeat(column, 50) for column in (cells.score, cells.flagged, cells.anomalous, cells.normal)))
    narrow = bootstrap(more)
    assert narrow[1] - narrow[0] < (high - low) / 3


def test_nothing_to_score_has_no_score() -> None:
    nothing = Scored(np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    found = measure(nothing)
    assert found["f1"] is None and found["false_alarms_per_1000"] is None and found["n_sessions"] == 0


def test_family_mean_counts_families_not_systems() -> None:
    assert family_mean([("a", 0.0), ("a", 1.0), ("b", 1.0)]) == pytest.approx(0.75)
