"""Calibration: a probability that means something, and the share of anomalies that a system turns out to have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.detector.calibration import EDGE, Calibration, Scored, fit_calibration, logit

P = np.linspace(0.02, 0.98, 200)
ONES = np.ones(200)


def scored(probabilities: np.ndarray, anomalous: np.ndarray, sessions: np.ndarray = ONES) -> Scored:
    return probabilities, anomalous, sessions


def test_a_calibrated_model_is_left_as_it_is() -> None:
    found = fit_calibration([scored(P, P)])
    assert found.slope == pytest.approx(1, abs=0.01) and found.bias == pytest.approx(0, abs=0.01)
    assert np.allclose(found.apply(P), P, atol=0.005)


@pytest.mark.parametrize(("slope", "bias"), [(3.0, 0.0), (0.4, 1.5), (1.0, -4.0)])
def test_a_distorted_model_is_set_right(slope: float, bias: float) -> None:
    found = fit_calibration([scored(Calibration(slope, bias).apply(P), P)])
    assert found.slope == pytest.approx(1 / slope, rel=0.03)
    assert found.bias == pytest.approx(-bias / slope, abs=0.05)
    assert np.allclose(found.apply(Calibration(slope, bias).apply(P)), P, atol=0.01)


def test_a_model_that_ranks_the_wrong_way_round_is_replaced_by_the_share_of_anomalies() -> None:
    sessions = np.where(P > 0.5, 1.0, 4.0)
    share = float(np.average(1 - P, weights=sessions))
    found = fit_calibration([scored(P, 1 - P, sessions)])
    assert found.slope == 0
    assert np.allclose(found.apply(P), share, atol=1e-4)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_teaches_no_calibration(label: float) -> None:
    assert fit_calibration([scored(P, np.full(200, label))]) == Calibration()


def test_every_system_weighs_the_same_whatever_its_size() -> None:
    one, other = scored(P, P), scored(P, P**3)
    often = scored(P, P**3, 1000 * ONES)
    many = scored(np.tile(P, 5), np.tile(P**3, 5), np.ones(1000))
    both = fit_calibration([one, other])
    assert both != fit_calibration([one]) and both != fit_calibration([other])
    for pair in ([one, often], [one, many], [other, one]):
        found = fit_calibration(pair)
        assert (found.slope, found.bias) == pytest.approx((both.slope, both.bias), abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.01, 5),
    st.floats(-5, 5),
    st.lists(st.floats(0, 1), min_size=2, max_size=20),
)
def test_no_calibration_with_a_slope_changes_the_order(slope: float, bias: float, raw: list[float]) -> None:
    found = Calibration(slope, bias).apply(np.sort(np.array(raw)))
    assert ((found >= 0) & (found <= 1)).all() and np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


def test_certainty_stays_finite() -> None:
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert Calibration().apply(np.array([0.0, 1.0])) == pytest.approx([EDGE, 1 - EDGE])
