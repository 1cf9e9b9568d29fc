"""Learn from the first answers: judge patterns nobody has judged, choose the next questions, and combine verdicts with the history.

The student is a Gaussian process classifier (Laplace approximation) over the patterns: its mean is the history's prior, its kernel the
similarity of multisets. So without an answer it is the history detector, near an answer it follows the answer, and it knows how
sure it is. It is the same for an analyst's answers and for an LLM's verdicts, which are soft labels.

Rasmussen, Williams: Gaussian Processes for Machine Learning, 2006, algorithms 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightlog.history.reference import Multisets

DOUBLING = 0.25  # a template counts 1, each doubling of its count this much more
LENGTH = 0.6  # similarity = exp(-Jaccard distance / LENGTH)
SCALE = 1.6  # standard deviation of the log-odds around the prior
LABEL_WEIGHT = 10.0  # an answer counts as this many observations
LABEL_RANGE = (0.02, 0.98)
BATCH = 20  # an LLM's questions at a time
SPREAD = 0.9
ENOUGH = 0.03  # share of open doubt at which an LLM is asked no more
UNCERTAIN = (0.30, 0.86)  # verdicts in between are not confident
FUSION_TAIL = 1.5
STEPS = 50


@dataclass(frozen=True)
class Posterior:
    """Of n patterns: mean and variance of the log-odds of an anomaly, and its probability; what is judged has its label as probability.

    `shift`: the change of the log-odds of a pattern that shares no template with a judged one.
    """

    mean: np.ndarray
    variance: np.ndarray
    probability: np.ndarray
    shift: float = 0.0

    @property
    def doubt(self) -> np.ndarray:
        """Probability that the likelier label is wrong."""
        return np.asarray(np.minimum(self.probability, 1 - self.probability))


class Student:
    """Judges the patterns of a system by the answers about some of them. `prior` (n,) are log-odds, such as `Scored.prior`."""

    def __init__(self, patterns: Multisets, prior: np.ndarray):
        self._patterns, self.prior = patterns, np.asarray(prior, dtype=float)
        self._value = 1 + DOUBLING * (patterns.level - 1)
        self._size = np.bincount(patterns.row, weights=self._value, minlength=len(patterns))
        self._columns: dict[int, np.ndarray] = {}

    def similarity(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return (n, k) similarities in (0, 1] of all patterns to those with these numbers."""
        return np.stack([self._column(int(row)) for row in rows], axis=1) if len(rows) else np.zeros((len(self._patterns), 0))

    def _column(self, row: int) -> np.ndarray:
        if row not in self._columns:
            own = slice(int(self._patterns.starts[row]), int(self._patterns.starts[row + 1]))
            value = np.zeros(len(self._patterns.template_ids))
            value[self._patterns.template[own]] = self._value[own]
            least = np.minimum(self._value, value[self._patterns.template])
            common = np.bincount(self._patterns.row, weights=least, minlength=len(self._patterns))
            union = self._size + self._size[row] - common
            self._columns[row] = np.exp((np.where(union > 0, common / np.maximum(union, 1e-12), 1.0) - 1) / LENGTH)
        return self._columns[row]

    def posterior(self, judged: Sequence[int] | np.ndarray, labels: Sequence[float] | np.ndarray) -> Posterior:
        """Judge all patterns.

        Args: judged, numbers of patterns, each once; labels, the probability of an anomaly of each: 0 or 1 for an analyst's answer.
        """
        rows, label = np.asarray(judged, dtype=np.int64), np.asarray(labels, dtype=float)
        if not len(rows):
            variance = np.full(len(self.prior), SCALE**2)
            return Posterior(self.prior, variance, averaged(self.prior, variance))
        kernel = SCALE**2 * self.similarity(rows)
        own, soft = kernel[rows], np.clip(label, *LABEL_RANGE)

        def fit(coefficient: np.ndarray) -> float:
            log_odds = self.prior[rows] + own @ coefficient
            likelihood = LABEL_WEIGHT * (soft * log_odds - np.logaddexp(0, log_odds)).sum()
            return float(likelihood - 0.5 * coefficient @ own @ coefficient)

        coefficient = np.zeros(len(rows))
        best = fit(coefficient)
        for _ in range(STEPS):
            share = sigmoid(self.prior[rows] + own @ coefficient)
            weight = LABEL_WEIGHT * np.maximum(share * (1 - share), 1e-6)
            root = np.sqrt(weight)
            inner = np.eye(len(rows)) + root[:, None] * own * root[None, :]
            target = weight * (own @ coefficient) + LABEL_WEIGHT * (soft - share)
            step = target - root * np.linalg.solve(inner, root * (own @ target)) - coefficient
            size = 1.0
            while size > 1e-6 and (reached := fit(coefficient + size * step)) < best:
                size /= 2  # a full Newton step can overshoot if many similar patterns are judged
            if size <= 1e-6 or reached - best < 1e-9:
                break
            coefficient, best = coefficient + size * step, reached
        mean = self.prior + kernel @ coefficient
        variance = SCALE**2 - (kernel * np.linalg.solve(inner, root[:, None] * kernel.T).T * root[None, :]).sum(axis=1)
        variance = np.maximum(variance, 1e-6)
        probability = averaged(mean, variance)
        probability[rows] = label
        return Posterior(mean, variance, probability, SCALE**2 * float(np.exp(-1 / LENGTH) * coefficient.sum()))


def next_questions(student: Student, posterior: Posterior, sessions: np.ndarray, is_open: np.ndarray, batch: int = 1) -> list[int]:
    """Return the numbers of the patterns to ask about next, at most `batch`: many sessions, much doubt, and not like each other.

    Args: sessions (n,) of each pattern; is_open (n,) bool, nobody has judged it. Of equal ones the first is taken.
    """
    gain = np.where(is_open & (sessions > 0), np.sqrt(np.maximum(sessions, 0)) * posterior.doubt, 0.0)
    chosen: list[int] = []
    while len(chosen) < batch and gain.max(initial=0.0) > 0:
        best = int(np.argmax(gain))
        chosen.append(best)
        gain = gain * (1 - SPREAD * student.similarity([best])[:, 0])
        gain[best] = 0.0
    return chosen


def open_doubt(posterior: Posterior, sessions: np.ndarray, is_open: np.ndarray, usual: float = 0.0) -> float:
    """Return the sessions that the student is expected to judge wrongly, as a share of those expected to be anomalous.

    An LLM is asked until this is at most ENOUGH or the budget is spent; 1.0 if nothing is expected to be anomalous but doubt is left.

    Args: sessions (n,) of a night; is_open (n,) bool, may be asked about; usual, anomalous sessions of a usual night, if that is more.
    """
    wrong = float((sessions * posterior.doubt)[is_open].sum())
    anomalous = max(usual, float((sessions * posterior.probability).sum()))
    return min(1.0, wrong / anomalous) if anomalous > 0 else float(wrong > 0)


def fuse(verdict: np.ndarray, unlikeness: np.ndarray, tail: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Return a mask of anomalous patterns from verdicts and history; it only adds to what the verdicts say.

    An LLM judges words; how unusual a pattern is in its system it hardly sees. So the unlikeness channels are weighted by the system's own
    confident verdicts (logistic regression, by root of sessions), and a verdict that left a doubt on the normal side is overruled if the
    pattern is in the tail and both log-odds add up to an anomaly.

    Args: verdict (n,), probability of an anomaly, NaN if nobody judged; unlikeness (n, 4) and tail (n,) of `Scored`; sessions (n,).
    """
    judged = ~np.isnan(verdict)
    known = np.where(judged, verdict, 0.5)
    flagged = judged & (known > 0.5)
    confident = judged & ((known <= UNCERTAIN[0]) | (known >= UNCERTAIN[1])) & (sessions > 0)
    label = known > 0.5
    doubtful = judged & (known >= UNCERTAIN[0]) & ~flagged & (tail >= FUSION_TAIL)
    if not doubtful.any() or len(np.unique(label[confident])) < 2:
        return np.asarray(flagged)
    weight = np.sqrt(sessions[confident].astype(float))
    coefficients, intercept = logistic_regression(unlikeness[confident], label[confident], weight / weight.mean())
    soft = np.clip(known[doubtful], *LABEL_RANGE)
    flagged[np.flatnonzero(doubtful)[np.log(soft / (1 - soft)) + unlikeness[doubtful] @ coefficients + intercept >= 0]] = True
    return np.asarray(flagged)


def logistic_regression(features: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the coefficients (d,) and the intercept that fit labels best, with a ridge of 1 on the coefficients, by Newton's method.

    scikit-learn fits the same; importing it takes a second in each stage of a night. Args: features (n, d); label (n,) bool, of both
    kinds; weight (n,) > 0.
    """
    inputs = np.column_stack([features, np.ones(len(features))])
    ridge = np.append(np.ones(features.shape[1]), 0.0)

    def loss(found: np.ndarray) -> float:
        log_odds = inputs @ found
        return float((weight * (np.logaddexp(0, log_odds) - label * log_odds)).sum() + 0.5 * (ridge * found**2).sum())

    found = np.zeros(len(ridge))
    for _ in range(STEPS):
        share = sigmoid(inputs @ found)
        slope = inputs.T @ (weight * (share - label)) + ridge * found
        curvature = (inputs * (weight * np.maximum(share * (1 - share), 1e-9))[:, None]).T @ inputs + np.diag(ridge)
        step, size = np.linalg.solve(curvature, slope), 1.0
        while size > 1e-6 and loss(found - size * step) > loss(found):
            size /= 2
        found = found - size * step
        if np.abs(size * step).max() < 1e-8:
            break
    return found[:-1], float(found[-1])


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Return probabilities of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -40, 40))))


def averaged(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the mean of the sigmoid over a normal distribution of log-odds, by MacKay's approximation."""
    return sigmoid(mean / np.sqrt(1 + np.pi * variance / 8))
