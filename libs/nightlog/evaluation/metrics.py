"""Scores of sessions, computed from cells: sessions that are scored alike are one cell with its anomalous and its normal sessions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sklearn.metrics import average_precision_score

DRAWS = 400


@dataclass(frozen=True)
class Scored:
    """Cell i has `score[i]` (higher is more suspicious), is `flagged[i]`, and holds `anomalous[i]` and `normal[i]` sessions; all (n,)."""

    score: np.ndarray
    flagged: np.ndarray
    anomalous: np.ndarray
    normal: np.ndarray

    def only(self, chosen: np.ndarray) -> Scored:
        """The cells chosen by a mask."""
        return Scored(self.score[chosen], self.flagged[chosen], self.anomalous[chosen], self.normal[chosen])


def measure(scored: Scored, seed: int = 0) -> dict[str, float | int | None]:
    """Precision, recall, F1 and average precision, both with a 95 % interval over patterns, and false alarms per 1,000 sessions.

    A detector that flags nothing has precision 0. A measure without meaning is None: F1, recall and average precision without an
    anomalous session, false alarms without a session.
    """
    scored = scored.only((scored.anomalous + scored.normal) > 0)
    flagged = scored.flagged.astype(bool)
    true, missed = int(scored.anomalous[flagged].sum()), int(scored.anomalous[~flagged].sum())
    false, n = int(scored.normal[flagged].sum()), int((scored.anomalous + scored.normal).sum())
    known = true + missed > 0
    f1_low, f1_high, ap_low, ap_high = bootstrap(scored, seed) if known else (None,) * 4
    return {
        "f1": f1(true, false, missed) if known else None,
        "f1_low": f1_low,
        "f1_high": f1_high,
        "precision": true / max(1, true + false),
        "recall": true / (true + missed) if known else None,
        "average_precision": average_precision(scored) if known else None,
        "ap_low": ap_low,
        "ap_high": ap_high,
        "false_alarms_per_1000": 1000 * false / n if n else None,
        "n_sessions": n,
        "n_anomalous": true + missed,
        "n_patterns": len(flagged),
    }


def f1(true: int, false: int, missed: int) -> float:
    """F1 of counts; 0 if nothing was found.

    >>> f1(true=1, false=1, missed=0)
    0.6666666666666666
    """
    return 2 * true / max(1, 2 * true + false + missed)


def average_precision(scored: Scored) -> float:
    """Average precision over sessions; ties in the score are one step. 0 without an anomalous session."""
    labels = np.repeat([1, 0], len(scored.score))
    weights = np.concatenate([scored.anomalous, scored.normal])
    scores = np.concatenate([scored.score, scored.score])
    kept = weights > 0
    if not scored.anomalous.sum():
        return 0.0
    return float(average_precision_score(labels[kept], scores[kept], sample_weight=weights[kept]))


def bootstrap(scored: Scored, seed: int = 0) -> tuple[float, float, float, float]:
    """Return the middle 95 % of F1 and of average precision over patterns drawn with replacement.

    All sessions of a pattern are scored alike, so sessions are no independent observations; an interval over sessions is too narrow.
    """
    order = np.argsort(-scored.score, kind="stable")
    score, flag, bad, good = (values[order].astype(float) for values in (scored.score, scored.flagged, scored.anomalous, scored.normal))
    last = np.append(score[1:] != score[:-1], True)
    drawn = draws(len(score), seed)
    true, all_bad = drawn @ (bad * flag), np.maximum(drawn @ bad, 1e-9)
    found = 2 * true / np.maximum(drawn @ ((bad + good) * flag) + all_bad, 1e-9)
    hit, shown = np.cumsum(drawn * bad, axis=1)[:, last], np.cumsum(drawn * (bad + good), axis=1)[:, last]
    gain = np.diff(np.concatenate([np.zeros((DRAWS, 1)), hit], axis=1), axis=1)
    precision = (gain * hit / np.maximum(shown, 1e-9)).sum(axis=1) / all_bad
    low, high, ap_low, ap_high = (float(value) for each in (found, precision) for value in np.quantile(each, [0.025, 0.975]))
    return low, high, ap_low, ap_high


@lru_cache(maxsize=4)
def draws(n: int, seed: int) -> np.ndarray:
    """Return (DRAWS, n) how often each of n patterns is drawn, n at a time with replacement."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)


def family_mean(values: Iterable[tuple[str, float]]) -> float:
    """Return the mean over families of the means over their systems, of pairs (family, value).

    >>> round(family_mean([("bgl", 0.2), ("bgl", 0.4), ("hdfs", 0.9)]), 3)
    0.6
    """
    families: dict[str, list[float]] = {}
    for family, value in values:
        families.setdefault(family, []).append(value)
    return statistics.fmean(statistics.fmean(each) for each in families.values())
