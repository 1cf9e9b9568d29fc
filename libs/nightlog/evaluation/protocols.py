"""How a target is split, and what of it a mode may see."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nightlog.detector.patterns import Patterns
from nightlog.errors import GateFailed
from nightlog.evaluation.corpus import Corpus

Protocol = Literal["deployment", "paper"]
PROTOCOLS: tuple[Protocol, ...] = ("deployment", "paper")


@dataclass(frozen=True)
class Split:
    """Two parts of a target: `adaptation` and `test` are numbers of the corpus' sessions."""

    corpus: Corpus
    adaptation: np.ndarray
    test: np.ndarray

    def patterns(self, part: np.ndarray) -> Patterns:
        """The patterns that occur in a part, without labels; `sessions` counts those of the part."""
        n = np.bincount(self.corpus.pattern[part], minlength=len(self.corpus.patterns.ids))
        chosen = np.flatnonzero(n)
        whole = self.corpus.patterns.take(chosen)
        return Patterns(**(vars(whole) | {"sessions": n[chosen]}))

    def truth(self, groups: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The anomalous and the normal sessions of a part by group, `groups[s]` the group of session s; groups without any are left out."""
        own, labels = groups[part], self.corpus.anomalous[part]
        n = np.bincount(own)
        anomalous = np.bincount(own, weights=labels, minlength=len(n)).astype(np.int64)
        chosen = n > 0
        return anomalous[chosen], n[chosen] - anomalous[chosen]


def split(corpus: Corpus, protocol: Protocol, seed: int) -> Split:
    """Cut a target in two by a hash of its session ids, since their order in time is unknown.

    deployment: all sessions, at their natural prevalence; the seed has no influence. paper: as many normal as anomalous sessions, the
    larger class drawn by the seed with the help of the labels, as the papers' published code does.
    """
    sessions = np.arange(len(corpus.session_ids))
    if protocol == "paper":
        random = np.random.default_rng(seed)
        classes = [np.flatnonzero(corpus.anomalous), np.flatnonzero(~corpus.anomalous)]
        size = min(map(len, classes))
        sessions = np.sort(np.concatenate([random.choice(members, size, replace=False) for members in classes]))
    first = in_first_half([corpus.session_ids[s] for s in sessions])
    if first.all() or not first.any():
        raise GateFailed(f"{corpus.bench.name}, {protocol}: {len(sessions)} sessions cannot be split into adaptation and test")
    return Split(corpus, sessions[first], sessions[~first])


def in_first_half(names: Sequence[str]) -> np.ndarray:
    """Return which names a fixed hash puts into the first of two halves."""
    return np.array([hashlib.blake2b(name.encode(), digest_size=1).digest()[0] < 128 for name in names], dtype=bool)


class Analyst:
    """Answers for a group of questions by the majority of its sessions' labels, at most `answers` times."""

    def __init__(self, target: Split, answers: int):
        self.left = answers
        corpus = target.corpus
        sessions = np.concatenate([target.adaptation, target.test])
        found = (sessions[corpus.anomalous[sessions]], sessions)
        anomalous, n = (np.bincount(corpus.pattern[part], minlength=len(corpus.patterns.ids)) for part in found)
        self._known: dict[str, np.ndarray] = {}
        for question, counts in zip(corpus.patterns.questions, np.stack([anomalous, n], axis=1), strict=True):
            self._known[question] = self._known.get(question, np.zeros(2, dtype=np.int64)) + counts

    def __call__(self, questions: Sequence[str]) -> bool:
        """Return whether more than half of the sessions behind these questions are anomalous. Raises GateFailed beyond the last answer."""
        if self.left <= 0:
            raise GateFailed("the mode asks the analyst for more answers than it was given")
        self.left -= 1
        unknown = [question for question in questions if question not in self._known]
        if unknown or not questions:
            raise GateFailed(f"the analyst is asked about questions that the target does not have: {unknown[:3]}")
        anomalous, n = sum((self._known[question] for question in dict.fromkeys(questions)), np.zeros(2, dtype=np.int64))
        return bool(2 * anomalous > n)
