"""From channels to one score, its tail, and a threshold without labels.

    score      = the strongest of the four unlikeness channels * (1 + severity) / 2
    tail       = -log10(share of the reference's sessions with at least this score)
    suspicion  = the score, or 0.7 * tail if that is larger and the score is at least 1/2

An unlikeness channel is put on the scale z = ln(1 + max(0, value - median) / max(90 % quantile - median, 1/2)), by sessions of the
reference, so that channels and systems can be compared. Severity is the larger of words and level. Nothing is added up, so the score
of a pattern has one reason, and its reason is its strongest channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nightlog.history.channels import SEVERITY, UNLIKENESS, Channels, Templates
from nightlog.history.general import general
from nightlog.history.reasons import reasons_of
from nightlog.history.reference import Multisets, Reference

GENERAL = general()
CHANNEL_SCALE = np.array([GENERAL.channels[name] for name in UNLIKENESS])  # sums over templates, as in bern, have longer tails
TAIL_WEIGHT = GENERAL.tail_weight
LONGEST_TAIL = GENERAL.longest_tail
LEAST_SCORE = GENERAL.least_score  # below it, a pattern is not suspicious for being in the tail: a system without trouble has one, too
THRESHOLD = GENERAL.threshold  # without answers and LLM, anomalous is this score, or the top 3 % (a tail of 1.5)
SLOPE = GENERAL.slope  # of the log-odds prior over suspicion
USABLE_SESSIONS = GENERAL.usable_sessions  # below, scores are unreliable
SCORES = pa.schema(
    [
        ("pattern_id", pa.string()),
        ("score", pa.float64()),
        ("tail", pa.float64()),
        ("suspicion", pa.float64()),
        ("channels", pa.map_(pa.string(), pa.float64())),
        ("reasons", pa.list_(pa.struct([("channel", pa.string()), ("text", pa.string())]))),
    ]
)


@dataclass(frozen=True)
class Scored:
    """Scores of n patterns, each (n,). `unlikeness` (n, 4) in the order of UNLIKENESS; `words` and `level` in [0, 1]."""

    score: np.ndarray
    tail: np.ndarray
    unlikeness: np.ndarray
    words: np.ndarray
    level: np.ndarray

    @property
    def suspicion(self) -> np.ndarray:
        """The score and its rarity in the system as one number; it is comparable between systems."""
        tail = TAIL_WEIGHT * np.minimum(self.tail, LONGEST_TAIL)
        return np.asarray(np.where(self.score >= LEAST_SCORE, np.maximum(self.score, tail), self.score))

    @property
    def prior(self) -> np.ndarray:
        """Log-odds of an anomaly before any answer or verdict."""
        return np.asarray(SLOPE * (self.suspicion - THRESHOLD))

    @property
    def flagged(self) -> np.ndarray:
        """A mask of the patterns that are anomalous by the history alone."""
        return np.asarray(self.suspicion >= THRESHOLD)


class Scorer:
    """Scores patterns against a reference. Fitting takes a second or two for 10,000 patterns, scoring the same."""

    def __init__(self, reference: Reference, templates: Templates):
        self.channels = Channels(reference, templates)
        raw = self.channels.values(self.channels.known).raw
        self._scale = {name: location(raw[name], self.channels.sessions) for name in UNLIKENESS}
        own = self._score(raw)[0]
        order = np.argsort(own, kind="stable")
        self._scores, self._below = own[order], np.append(0.0, np.cumsum(self.channels.sessions[order]))

    @property
    def is_usable(self) -> bool:
        """The reference has enough sessions for a score to mean something."""
        return self.channels.n >= USABLE_SESSIONS

    def score(self, patterns: Multisets) -> Scored:
        """Score patterns that `channels.read` gave."""
        raw = self.channels.values(patterns).raw
        score, unlikeness = self._score(raw)
        return Scored(score, self._tail(score), unlikeness, *(raw[name] for name in SEVERITY))

    def table(self, patterns: pa.Table, explained: int = 500) -> pa.Table:
        """Score `silver.patterns` rows (pattern_id, events): SCORES, in their order.

        Only the `explained` patterns with the highest scores, and those that are flagged, get reasons.
        """
        rows = self.channels.read(patterns.column("events"))
        values = self.channels.values(rows)
        score, unlikeness = self._score(values.raw)
        scored = Scored(score, self._tail(score), unlikeness, *(values.raw[name] for name in SEVERITY))
        order = np.argsort(-scored.score, kind="stable")
        explain = set(order[: max(explained, int(scored.flagged.sum()))].tolist())
        named = {name: unlikeness[:, i] for i, name in enumerate(UNLIKENESS)} | {"words": scored.words, "level": scored.level}
        channels = [[(name, round(float(column[i]), 6)) for name, column in named.items()] for i in range(len(rows))]
        strength = [{name: float(column[i]) for name, column in named.items()} for i in range(len(rows))]
        reasons = [reasons_of(self.channels, rows, values, i, strength[i]) if i in explain else [] for i in range(len(rows))]
        numbers = [scored.score, scored.tail, scored.suspicion]
        nested = [pa.array(rows, SCORES.field(name).type) for name, rows in (("channels", channels), ("reasons", reasons))]
        return pa.table([patterns.column("pattern_id"), *map(pa.array, numbers), *nested], SCORES)

    def _score(self, raw: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        columns = [np.log1p(np.maximum(0, raw[name] - median) / spread) for name, (median, spread) in self._scale.items()]
        unlikeness = np.stack(columns, axis=1)
        return combine(unlikeness, np.maximum(raw["words"], raw["level"])), unlikeness

    def _tail(self, score: np.ndarray) -> np.ndarray:
        total = self._below[-1]
        if total <= 0:
            return np.zeros(len(score))
        above = total - self._below[np.searchsorted(self._scores, score - 1e-9, side="left")]
        return np.asarray(-np.log10(np.minimum(np.maximum(above, 0.5) / total, 1.0)))


def combine(unlikeness: np.ndarray, severity: np.ndarray) -> np.ndarray:
    """Return the score of (n, 4) unlikeness, in the order of UNLIKENESS, and (n,) severity in [0, 1]."""
    return np.asarray(np.round((unlikeness * CHANNEL_SCALE).max(axis=1, initial=0.0) * (1 + severity) / 2, 9))


def location(values: np.ndarray, sessions: np.ndarray) -> tuple[float, float]:
    """Return the median and the spread (90 % quantile - median, at least 1/2) of values, by sessions."""
    if not len(values):
        return 0.0, 0.5
    order = np.argsort(values, kind="stable")
    below = np.cumsum(sessions[order]) / sessions.sum()
    median, high = (values[order][min(int(np.searchsorted(below, share - 1e-12)), len(order) - 1)] for share in (0.5, 0.9))
    return float(median), max(float(high - median), 0.5)
