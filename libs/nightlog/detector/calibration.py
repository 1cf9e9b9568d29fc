"""Measure and calibrate probabilities on labelled systems: F1, the threshold at which it is best, and a calibration on held-out sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]


def f1_at(probabilities: np.ndarray, anomalous: np.ndarray, sessions: np.ndarray, threshold: float) -> float:
    """F1 over sessions of calling patterns anomalous at or above the threshold; `anomalous` is each pattern's share."""
    flagged = probabilities >= threshold
    true = float((sessions * anomalous)[flagged].sum())
    return 2 * true / max(1e-9, float(sessions[flagged].sum()) + float((sessions * anomalous).sum()))


def best_threshold(scored: list[Scored]) -> tuple[float, float]:
    """Return the threshold with the best mean F1 over several (probabilities, anomalous, sessions), and this F1.

    The threshold lies in the middle of a gap between probabilities. It is not rounded: a rounded one may lie on the other side of some.

    >>> at, f1 = best_threshold([(np.array([0.00001, 0.00008]), np.array([0.0, 1.0]), np.array([1.0, 1.0]))])
    >>> round(at, 6), f1
    (4.5e-05, 1.0)
    """
    edges = np.unique(np.concatenate([probabilities for probabilities, _, _ in scored]))
    middles = edges[:-1] + (edges[1:] - edges[:-1]) / 2
    middles = np.where(middles > edges[:-1], middles, edges[1:])  # between neighbouring floats there is no middle
    thresholds = [float(edges[0]), *middles.tolist()]
    reached = [float(np.mean([f1_at(*each, at) for each in scored])) for at in thresholds]
    best = int(np.argmax(reached))
    return thresholds[best], reached[best]


EDGE = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Raw probability p → sigmoid(slope · logit(p) + bias); Platt 1999. A slope of 0 says that the model knows nothing there."""

    slope: float = 1.0
    bias: float = 0.0

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n,) in [0, 1].

        >>> Calibration().apply(np.array([0.25])), Calibration(slope=0.0).apply(np.array([0.99]))
        (array([0.25]), array([0.5]))
        """
        return np.asarray(1 / (1 + np.exp(-(self.slope * logit(probabilities) + self.bias))))

    def reaches(self, threshold: float | None) -> bool:
        """Return True if some probability of the model is at or above the threshold; None stands for "never".

        >>> Calibration().reaches(0.5), Calibration(slope=0.0, bias=-2.0).reaches(0.5), Calibration().reaches(None)
        (True, False, False)
        """
        return threshold is not None and bool(self.apply(np.array([0.0, 1.0])).max() >= threshold)


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Log odds, of probabilities kept off 0 and 1."""
    inside = np.clip(probabilities, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


def fit_calibration(scored: Sequence[Scored]) -> Calibration:
    """The calibration under which these (probabilities, anomalous shares, sessions) are most likely; each entry weighs the same.

    A model that ranks the wrong way round gets slope 0: its word is replaced by the share of anomalies that sources have.
    """
    from sklearn.linear_model import LogisticRegression

    logits, truth, weights = [], [], []
    for probabilities, anomalous, sessions in scored:
        mass = sessions / sessions.sum()
        logits += [logit(probabilities)] * 2
        truth += [np.ones(len(mass)), np.zeros(len(mass))]
        weights += [mass * anomalous, mass * (1 - anomalous)]
    x, y, w = np.concatenate(logits)[:, None], np.concatenate(truth), np.concatenate(weights)
    if not 0 < float(w[y == 1].sum()) < float(w.sum()):
        return Calibration()
    fitted = LogisticRegression(C=1e6).fit(x, y, sample_weight=w * len(w) / w.sum())
    slope, bias = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope > 0:
        return Calibration(round(slope, 4), round(bias, 4))
    share = float(w[y == 1].sum() / w.sum())
    return Calibration(0.0, round(float(np.log(share / (1 - share))), 4))
