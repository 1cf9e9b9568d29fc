"""Measure probabilities on labelled systems: F1, and the threshold at which it is best."""

from __future__ import annotations

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
