"""Calibrate probabilities on sources that are held out in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightlog.detector.measures import Scored

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
