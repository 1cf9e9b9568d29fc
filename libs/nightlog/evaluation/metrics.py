"""Scores of sessions, computed from cells: what is scored alike is one cell with its anomalous and its normal sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

DRAWS = 2000
CURVE_DIGITS = 3

Curve = list[tuple[float, int, int]]


@dataclass(frozen=True)
class Scored:
    """Cell i has `probability[i]` (or any score that grows with suspicion), is `flagged[i]`, and holds `anomalous[i]` and `normal[i]`
    sessions. All arrays (n,)."""

    probability: np.ndarray
    flagged: np.ndarray
    anomalous: np.ndarray
    normal: np.ndarray

    def only(self, chosen: np.ndarray) -> Scored:
        """The cells chosen by a mask."""
        return Scored(self.probability[chosen], self.flagged[chosen], self.anomalous[chosen], self.normal[chosen])


def measure(scored: Scored, seed: int = 0) -> dict[str, float | int | None]:
    """Precision, recall, F1 with its 95 % bootstrap interval over sessions, average precision, false alarms per 1,000 sessions.

    Nothing flagged is precision 0. What has no meaning is None: F1, recall and average precision without an anomalous session, false
    alarms without a session.
    """
    flagged = scored.flagged.astype(bool)
    true, missed = int(scored.anomalous[flagged].sum()), int(scored.anomalous[~flagged].sum())
    false, passed = int(scored.normal[flagged].sum()), int(scored.normal[~flagged].sum())
    n_anomalous, n = true + missed, true + missed + false + passed
    low, high = f1_interval(true, false, missed, passed, seed)
    known = n_anomalous > 0
    return {
        "f1": f1(true, false, missed) if known else None,
        "f1_low": low if known else None,
        "f1_high": high if known else None,
        "precision": true / max(1, true + false),
        "recall": true / n_anomalous if known else None,
        "average_precision": average_precision(scored) if known else None,
        "false_alarms_per_1000": 1000 * false / n if n else None,
        "n_sessions": n,
        "n_anomalous": n_anomalous,
    }


def f1(true: int, false: int, missed: int) -> float:
    """F1 of counts; 0 where nothing was found.

    >>> f1(true=1, false=1, missed=0)
    0.6666666666666666
    """
    return 2 * true / max(1, 2 * true + false + missed)


def f1_interval(true: int, false: int, missed: int, passed: int, seed: int) -> tuple[float, float]:
    """The middle 95 % of F1 over sessions drawn with replacement.

    F1 depends on sessions by these four counts alone, so drawing the counts from a multinomial is drawing the sessions.
    """
    cells = np.array([true, false, missed, passed], dtype=np.float64)
    n = int(cells.sum())
    if n == 0:
        return 0.0, 0.0
    drawn = np.random.default_rng(seed).multinomial(n, cells / n, size=DRAWS)
    scores = 2 * drawn[:, 0] / np.maximum(1, 2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2])
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def average_precision(scored: Scored) -> float:
    """Average precision over sessions; ties in the score are one step."""
    labels = np.repeat([1, 0], len(scored.probability))
    weights = np.concatenate([scored.anomalous, scored.normal])
    scores = np.concatenate([scored.probability, scored.probability])
    kept = weights > 0
    return float(average_precision_score(labels[kept], scores[kept], sample_weight=weights[kept]))


def curve_points(scored: Scored) -> Curve:
    """(probability, anomalous sessions, normal sessions) by falling probability: all that a curve needs. Rounded to 3 digits."""
    values, where = np.unique(np.round(scored.probability.astype(float), CURVE_DIGITS), return_inverse=True)
    anomalous = np.bincount(where, weights=scored.anomalous, minlength=len(values))
    normal = np.bincount(where, weights=scored.normal, minlength=len(values))
    return [(float(p), int(a), int(b)) for p, a, b in zip(values[::-1], anomalous[::-1], normal[::-1], strict=True)]
