"""Trivial and classical detectors on the same test sessions. No learned method is worth reporting without them beside it.

A baseline scores distinct exact count vectors, so sessions are scored one by one at the price of a few thousand rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nightlog.evaluation.protocols import Split

CONTAMINATION = 0.05
SHARE_OF_NORMALS = 0.01
FOREST_SAMPLE = 20_000
VARIANCE = 0.95
SEVERITY = re.compile(
    r"(?i)\b(?:errors?|fail(?:s|ed|ure|ures|ing)?|fatal|\w*exceptions?|critical|severe|panic|abort(?:ed|ing)?|corrupt(?:ed|ion)?|denied|"
    r"refused|timed? ?out|unable|cannot|could not|invalid|lost)\b"
)


@dataclass(frozen=True)
class View:
    """What a baseline is shown. Row i of `known` and `test` is a distinct count vector over `texts`, of `n_known[i]` sessions of the
    adaptation part and of `n_test[i]` of the test part.

    `n_normal` (of the adaptation part) and the test part's `anomalous` and `normal` sessions come from labels of the target: only the
    baselines that say so look at them.
    """

    texts: tuple[str, ...]
    known: np.ndarray
    n_known: np.ndarray
    n_normal: np.ndarray
    test: np.ndarray
    anomalous: np.ndarray
    normal: np.ndarray
    n_normal_target: int
    seed: int


@dataclass(frozen=True)
class Baseline:
    """`score` gives suspicion and flags by test vector; `note` says what it knows and how its threshold came about."""

    score: Callable[[View], tuple[np.ndarray, np.ndarray]]
    note: str
    seeded: bool = False


def view(target: Split, seed: int) -> View:
    """A split as count vectors."""
    corpus, labels = target.corpus, target.corpus.anomalous
    known, test = target.adaptation, target.test
    in_known, in_test = np.unique(corpus.vector[known]), np.unique(corpus.vector[test])
    anomalous, normal = target.truth(corpus.vector, test)
    _, n_normal = target.truth(corpus.vector, known)
    return View(
        texts=corpus.patterns.texts,
        known=corpus.counts[in_known],
        n_known=np.bincount(corpus.vector[known], minlength=len(corpus.counts))[in_known],
        n_normal=n_normal,
        test=corpus.counts[in_test],
        anomalous=anomalous,
        normal=normal,
        n_normal_target=int((~labels[np.concatenate([known, test])]).sum()),
        seed=seed,
    )


def upper(scores: np.ndarray, sessions: np.ndarray, share: float = CONTAMINATION) -> float:
    """The least score that at most this share of the sessions exceeds."""
    order = np.argsort(scores, kind="stable")
    passed = np.cumsum(sessions[order]) / sessions.sum()
    return float(scores[order][np.searchsorted(passed, 1 - share)])


def always_anomalous(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Everything."""
    return np.ones(len(data.test)), np.ones(len(data.test), dtype=bool)


def severity_keywords(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Sessions with a template that has a word of trouble in it; the more such templates, the higher."""
    hits = (data.test > 0) @ np.array([bool(SEVERITY.search(text)) for text in data.texts], dtype=np.int64)
    return hits.astype(float), hits > 0


def unseen_event(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Sessions with a template that no normal session of the adaptation part has."""
    seen = (data.known[data.n_normal > 0] > 0).any(axis=0)
    new = ((data.test > 0) & ~seen).sum(axis=1)
    return new.astype(float), new > 0


def unseen_event_set(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Sessions whose set of templates no normal session of the adaptation part has."""
    sets = {row.tobytes() for row in data.known[data.n_normal > 0] > 0}
    new = np.array([row.tobytes() not in sets for row in data.test > 0], dtype=bool)
    return new.astype(float), new


def sequence_length(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Sessions that are shorter or longer than nearly all of the adaptation part."""
    lengths, own = data.known.sum(axis=1), data.test.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    lengths, below = lengths[order], np.concatenate([[0], np.cumsum(data.n_known[order])]) / data.n_known.sum()
    shorter = below[np.searchsorted(lengths, own, side="left")]
    longer = 1 - below[np.searchsorted(lengths, own, side="right")]
    tail = np.minimum(1 - longer, 1 - shorter)  # share of sessions that are as short or shorter, as long or longer
    return 1 - tail, tail < CONTAMINATION / 2


def count_vector_nn(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Distance of a count vector to the nearest of a few normal sessions: sum of differences / sum of larger counts."""
    random = np.random.default_rng(data.seed)
    size = min(max(1, round(SHARE_OF_NORMALS * data.n_normal_target)), int(data.n_normal.sum()))
    drawn = random.multivariate_hypergeometric(data.n_normal, size, method="marginals") if size else np.zeros(len(data.known))
    reference = data.known[drawn > 0]
    if not len(reference):
        return np.ones(len(data.test)), np.ones(len(data.test), dtype=bool)
    sums = reference.sum(axis=1)
    distance = np.empty(len(data.test))
    for i, row in enumerate(data.test):
        common = np.minimum(reference, row).sum(axis=1)
        larger = sums + row.sum() - common
        distance[i] = ((larger - common) / larger).min()
    return distance, distance >= best_threshold(distance, data.anomalous, data.normal)


def best_threshold(scores: np.ndarray, anomalous: np.ndarray, normal: np.ndarray) -> float:
    """The threshold with the best F1, by the labels of what it is used on."""
    values, where = np.unique(scores, return_inverse=True)
    true = np.cumsum(np.bincount(where, weights=anomalous)[::-1])[::-1]
    flagged = true + np.cumsum(np.bincount(where, weights=normal)[::-1])[::-1]
    return float(values[np.argmax(true / (flagged + anomalous.sum()))])


def isolation_forest(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Return how few random cuts isolate a session's counts."""
    from sklearn.ensemble import IsolationForest

    random = np.random.default_rng(data.seed)
    known, test = np.log1p(data.known), np.log1p(data.test)
    drawn = random.choice(len(known), min(FOREST_SAMPLE, int(data.n_known.sum())), p=data.n_known / data.n_known.sum())
    forest = IsolationForest(random_state=data.seed).fit(known[drawn])
    scores = -forest.score_samples(test)
    return scores, scores > upper(-forest.score_samples(known), data.n_known)


def pca(data: View) -> tuple[np.ndarray, np.ndarray]:
    """Return what is left of a session's counts outside the principal components (Xu et al., SOSP 2009)."""
    known, test = np.log1p(data.known), np.log1p(data.test)
    mean = np.average(known, axis=0, weights=data.n_known)
    values, axes = np.linalg.eigh(np.cov(known, rowvar=False, fweights=data.n_known, bias=True).reshape(len(mean), len(mean)))
    explained = np.cumsum(values[::-1]) / max(values.sum(), 1e-12)
    main = axes[:, ::-1][:, : 1 + int(np.searchsorted(explained, VARIANCE))]

    def residual(counts: np.ndarray) -> np.ndarray:
        centred = counts - mean
        return np.round(((centred - centred @ main @ main.T) ** 2).sum(axis=1), 9)  # type: ignore[no-any-return]

    scores = residual(test)
    return scores, scores > upper(residual(known), data.n_known)


UNLABELLED = f"adaptation part without labels; threshold: {CONTAMINATION:.0%} of its sessions are assumed anomalous"
NORMALS = "knows which sessions of the target's adaptation part are normal; flags any that is new"
BASELINES = {
    "always_anomalous": Baseline(always_anomalous, "knows nothing"),
    "severity_keywords": Baseline(severity_keywords, "a fixed list of words; flags one hit"),
    "unseen_event": Baseline(unseen_event, NORMALS),
    "unseen_event_set": Baseline(unseen_event_set, NORMALS),
    "sequence_length": Baseline(sequence_length, UNLABELLED),
    "count_vector_nn": Baseline(
        count_vector_nn,
        "knows 1 % of the target's normal sessions; threshold chosen by the test labels, as published (Landauer et al.)",
        True,
    ),
    "isolation_forest": Baseline(isolation_forest, UNLABELLED, True),
    "pca": Baseline(pca, UNLABELLED),
}
