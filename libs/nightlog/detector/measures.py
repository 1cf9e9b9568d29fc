"""How well probabilities of patterns tell anomalous sessions, and the threshold at which they tell them best."""

from __future__ import annotations

import numpy as np

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]


def f1_at(probabilities: np.ndarray, anomalous: np.ndarray, sessions: np.ndarray, threshold: float) -> float:
    """F1 over sessions of calling patterns anomalous at or above the threshold; `anomalous` is each pattern's share."""
    flagged = probabilities >= threshold
    true = float((sessions * anomalous)[flagged].sum())
    return 2 * true / max(1e-9, float(sessions[flagged].sum()) + float((sessions * anomalous).sum()))


def best_threshold(scored: list[Scored]) -> tuple[float, float]:
    """The threshold with the best mean F1 over several (probabilities, anomalous, sessions), and this F1.

    It is put in the middle of the gap between probabilities that it falls into.
    """
    edges = np.unique(np.concatenate([probabilities for probabilities, _, _ in scored]))
    middles = [float(edges[0]), *((edges[1:] + edges[:-1]) / 2).tolist()]
    reached = [float(np.mean([f1_at(*each, at) for each in scored])) for at in middles]
    best = int(np.argmax(reached))
    return round(middles[best], 4), reached[best]
