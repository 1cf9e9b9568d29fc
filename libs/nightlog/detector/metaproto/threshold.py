"""The threshold on a system without labels: fixed on other systems, or where the system's own scores part; which, held-out sources say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEAST = 1e-9


@dataclass(frozen=True)
class HeldOut:
    """A source that was not trained on: `logit` (n,) of its patterns, and their anomalous and normal sessions."""

    logit: np.ndarray
    anomalous: np.ndarray
    normal: np.ndarray


@dataclass(frozen=True)
class Rule:
    """`fixed`: the logit `at`, the same for every system; `split`: where the system's own scores part. `held_out_f1` is what it reached."""

    kind: Literal["fixed", "split"]
    at: float
    held_out_f1: float

    def threshold(self, logit: np.ndarray, sessions: np.ndarray) -> float:
        """The threshold for a system whose unlabelled patterns have these logits and sessions."""
        return self.at if self.kind == "fixed" or not len(logit) else split_point(logit, sessions)


def choose_rule(held_out: Sequence[HeldOut]) -> Rule:
    """The rule with the better mean F1 over sessions of sources that were not trained on; without any, a logit of 0."""
    if not held_out:
        return Rule("fixed", 0.0, 0.0)
    at, fixed = best_threshold(held_out)
    split = float(np.mean([f1_at(each, split_point(each.logit, each.anomalous + each.normal)) for each in held_out]))
    return Rule("split", 0.0, split) if split >= fixed else Rule("fixed", at, fixed)


def always_anomalous(held_out: Sequence[HeldOut]) -> float:
    """Mean F1 over held-out sources of calling everything anomalous; 0 without any."""
    return float(np.mean([f1_at(each, -np.inf) for each in held_out])) if held_out else 0.0


def least_f1(rule: Rule, held_out: Sequence[HeldOut]) -> float:
    """The F1 that a rule reached on the held-out source where it did worst; 0 without any."""
    return min((f1_at(each, rule.threshold(each.logit, each.anomalous + each.normal)) for each in held_out), default=0.0)


def split_point(logit: np.ndarray, sessions: np.ndarray) -> float:
    """The cut into two groups that differ most for their spread, weighted by sessions (Otsu, 1979); in the middle of the gap.

    >>> split_point(np.array([-3.0, -2.0, 4.0]), np.array([50, 50, 5]))
    1.0
    """
    order = np.argsort(logit, kind="stable")
    value, weight = logit[order].astype(float), sessions[order].astype(float)
    whole = max(LEAST, float(weight.sum()))
    below, sums = np.cumsum(weight)[:-1] / whole, np.cumsum(weight * value)[:-1] / whole
    between = (float((weight * value).sum()) / whole * below - sums) ** 2 / np.maximum(LEAST, below * (1 - below))
    between = np.where(np.diff(value) > 0, between, -1.0)
    if not len(between) or between.max() < 0:
        return float(value[-1]) + 1.0 if len(value) else 0.0
    cut = int(np.argmax(between))
    return float((value[cut] + value[cut + 1]) / 2)


def best_threshold(held_out: Sequence[HeldOut]) -> tuple[float, float]:
    """The logit with the best mean F1 over several systems, in the middle of the gap that it falls into, and this F1."""
    edges = np.unique(np.concatenate([each.logit for each in held_out]))
    middles = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2])
    reached = np.zeros(len(middles))
    for each in held_out:
        order = np.argsort(-each.logit, kind="stable")
        found, false = (np.concatenate([[0.0], np.cumsum(sessions[order])]) for sessions in (each.anomalous, each.normal))
        flagged = np.searchsorted(-each.logit[order], -middles, "right")
        reached += 2 * found[flagged] / np.maximum(LEAST, found[flagged] + false[flagged] + each.anomalous.sum())
    best = int(np.argmax(reached))
    return float(middles[best]), float(reached[best] / len(held_out))


def f1_at(each: HeldOut, threshold: float) -> float:
    """F1 over sessions of what is at or above the threshold."""
    flagged = each.logit >= threshold
    found, false = float(each.anomalous[flagged].sum()), float(each.normal[flagged].sum())
    return 2 * found / max(LEAST, found + false + float(each.anomalous.sum()))


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Probability of a logit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -30.0, 30.0))))
