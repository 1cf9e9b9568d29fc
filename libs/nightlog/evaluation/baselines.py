"""Trivial and classical detectors on the same test sessions: no learned method is worth reporting without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nightlog.detector.calibration import best_threshold
from nightlog.evaluation.labelled import ADAPTATION
from nightlog.evaluation.simulate import Outcome, Subject
from nightlog.history.channels import UNLIKENESS
from nightlog.history.severity import level_severity, wording_severity

CONTAMINATION = 0.05
TOP_SHARE = 0.03
SHARE_OF_NORMALS = 0.01
FOREST_SAMPLE = 20_000
VARIANCE = 0.95
ERROR = level_severity("error")

Scores = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class View:
    """The data of a baseline. Row i of `counts` is a pattern (counts are powers of two), of `n_known[i]` sessions of the adaptation part.

    `n_normal` (of the adaptation part), and the test part's `anomalous` and `normal` sessions, are labels of the target: only the
    baselines that say so use them.
    """

    texts: tuple[str, ...]
    levels: tuple[str, ...]
    counts: np.ndarray
    n_known: np.ndarray
    n_normal: np.ndarray
    anomalous: np.ndarray
    normal: np.ndarray
    seed: int = 0

    @staticmethod
    def of(subject: Subject, seed: int) -> View:
        """The patterns of a labelled system."""
        system, texts = subject.system, subject.patterns.template_ids
        level = subject.patterns.dense(np.arange(len(texts)), presence=False)
        cells = system.counts[:, ADAPTATION]
        levels = tuple(system.templates.level.get(text, "") for text in texts)
        counts = np.where(level > 0, 2.0 ** (level - 1), 0)
        return View(texts, levels, counts, cells.sum(axis=1), cells[:, 0], system.anomalous, system.normal, seed)


def always_anomalous(data: View) -> Scores:
    """Everything is anomalous."""
    return np.zeros(len(data.counts)), np.ones(len(data.counts), dtype=bool)


def severity_words(data: View) -> Scores:
    """Sessions with a template that is worded as trouble; the more such templates, the higher."""
    hits = (data.counts > 0) @ np.array([wording_severity(text) >= ERROR - 0.1 for text in data.texts], dtype=np.int64)
    return hits.astype(float), hits > 0


def level_error(data: View) -> Scores:
    """Sessions with a template of level ERROR or worse."""
    severity = np.array([level_severity(level) for level in data.levels])
    worst = ((data.counts > 0) * severity).max(axis=1, initial=0.0)
    return worst, worst >= ERROR


def unseen_event(data: View) -> Scores:
    """Sessions with a template that no normal session of the adaptation part has."""
    seen = (data.counts[data.n_normal > 0] > 0).any(axis=0)
    new = ((data.counts > 0) & ~seen).sum(axis=1)
    return new.astype(float), new > 0


def unseen_event_set(data: View) -> Scores:
    """Sessions whose set of templates no normal session of the adaptation part has."""
    sets = {row.tobytes() for row in data.counts[data.n_normal > 0] > 0}
    new = np.array([row.tobytes() not in sets for row in data.counts > 0], dtype=bool)
    return new.astype(float), new


def sequence_length(data: View) -> Scores:
    """Sessions that are shorter or longer than nearly all of the adaptation part."""
    own = data.counts.sum(axis=1)
    order = np.argsort(own, kind="stable")
    lengths, below = own[order], np.concatenate([[0], np.cumsum(data.n_known[order])]) / max(1, data.n_known.sum())
    shorter = 1 - below[np.searchsorted(lengths, own, side="left")]
    longer = below[np.searchsorted(lengths, own, side="right")]
    tail = np.minimum(longer, shorter)  # share of sessions that are as short or shorter, as long or longer
    return 1 - tail, tail < CONTAMINATION / 2


def count_vector_nn(data: View) -> Scores:
    """Distance of a count vector to the nearest of a few normal sessions: sum of differences / sum of larger counts."""
    random = np.random.default_rng(data.seed)
    size = min(max(1, round(SHARE_OF_NORMALS * (data.n_normal.sum() + data.normal.sum()))), int(data.n_normal.sum()))
    drawn = random.multivariate_hypergeometric(data.n_normal, size, method="marginals")
    reference = data.counts[drawn > 0]
    if not len(reference):
        return always_anomalous(data)
    sums = reference.sum(axis=1)
    distance = np.empty(len(data.counts))
    for i, row in enumerate(data.counts):
        common = np.minimum(reference, row).sum(axis=1)
        larger = sums + row.sum() - common
        distance[i] = ((larger - common) / larger).min()
    sessions = data.anomalous + data.normal
    chosen = sessions > 0
    at, _ = best_threshold([(distance[chosen], (data.anomalous / np.maximum(1, sessions))[chosen], sessions[chosen])])
    return distance, distance >= at


def isolation_forest(data: View) -> Scores:
    """Return how few random cuts isolate a pattern's counts."""
    from sklearn.ensemble import IsolationForest

    random = np.random.default_rng(data.seed)
    counts = np.log1p(data.counts)
    drawn = random.choice(len(counts), min(FOREST_SAMPLE, int(data.n_known.sum())), p=data.n_known / data.n_known.sum())
    scores = -IsolationForest(random_state=data.seed).fit(counts[drawn]).score_samples(counts)
    return scores, scores > upper(scores, data.n_known, CONTAMINATION)


def pca(data: View) -> Scores:
    """Return what is left of a pattern's counts outside the principal components (Xu et al., SOSP 2009)."""
    counts, known = np.log1p(data.counts), data.n_known > 0
    mean = np.average(counts, axis=0, weights=data.n_known)
    cov = np.cov(counts[known], rowvar=False, fweights=data.n_known[known], bias=True).reshape(len(mean), len(mean))
    values, axes = np.linalg.eigh(cov)
    explained = np.cumsum(values[::-1]) / max(values.sum(), 1e-12)
    main = axes[:, ::-1][:, : 1 + int(np.searchsorted(explained, VARIANCE))]
    centred = counts - mean
    scores = np.round(((centred - centred @ main @ main.T) ** 2).sum(axis=1), 9)
    return scores, scores > upper(scores, data.n_known, CONTAMINATION)


def labels_of_patterns(data: View) -> Scores:
    """The share of anomalous sessions of a pattern in the test part."""
    share = data.anomalous / np.maximum(1, data.anomalous + data.normal)
    return share, share > 0.5


def upper(scores: np.ndarray, sessions: np.ndarray, share: float) -> float:
    """Return the lowest score that at most this share of the sessions exceeds."""
    order = np.argsort(scores, kind="stable")
    passed = np.cumsum(sessions[order]) / sessions.sum()
    return float(scores[order][np.searchsorted(passed, 1 - share)])


UNLABELLED = f"adaptation part without labels; threshold: {CONTAMINATION:.0%} of its sessions are assumed anomalous"
NORMALS = "knows which sessions of the target's adaptation part are normal; flags any that is new"
NEIGHBOUR = "knows 1 % of the target's normal sessions; threshold chosen by the test labels, as published (Landauer et al.)"
CHANNEL = f"adaptation part without labels, one channel of the history; threshold: top {TOP_SHARE:.0%} of its sessions"
BASELINES: dict[str, tuple[Callable[[View], Scores], str]] = {
    "labels_of_patterns": (labels_of_patterns, "knows the test labels: the most that patterns allow"),
    "always_anomalous": (always_anomalous, "knows nothing"),
    "severity_words": (severity_words, "a fixed list of words; flags one hit"),
    "level_error": (level_error, "flags a template of level ERROR or worse"),
    "unseen_event": (unseen_event, NORMALS),
    "unseen_event_set": (unseen_event_set, NORMALS),
    "sequence_length": (sequence_length, UNLABELLED),
    "count_vector_nn": (count_vector_nn, NEIGHBOUR),
    "isolation_forest": (isolation_forest, UNLABELLED),
    "pca": (pca, UNLABELLED),
}
SEEDED = ("count_vector_nn", "isolation_forest")


def baselines(subject: Subject, seed: int = 0) -> Iterator[tuple[str, Outcome]]:
    """Score a system by all baselines; beyond the first seed by those that depend on chance."""
    data = View.of(subject, seed)
    for name, (score, note) in BASELINES.items():
        if seed == 0 or name in SEEDED:
            yield f"baseline:{name}", Outcome(*score(data), note=note)
    if seed:
        return
    channels = subject.scorer.channels
    raw, own = channels.values(subject.patterns).raw, channels.values(channels.known).raw
    for name in UNLIKENESS:
        yield f"baseline:{name}", Outcome(raw[name], raw[name] > upper(own[name], channels.sessions, TOP_SHARE), note=CHANNEL)
