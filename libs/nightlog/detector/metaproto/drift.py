"""Dynamic drift-based labelling: what an unlabelled system's templates and patterns are worth by their likeness to labelled ones.

Source: MetaProto, arXiv 2601.14336: a template takes the label of a known one where both the semantic match (cosine) and the fuzzy match
(token-set ratio) clear their thresholds, else it is a new pattern. The thresholds, and what makes a source template anomalous, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.fuzz import token_set_ratio

from nightlog.detector.patterns import Patterns, Source
from nightlog.encoding.encoder import plain_text
from nightlog.routing.router import most_similar

NEW = -1


@dataclass(frozen=True)
class Drift:
    """Thresholds: `cosine` in [-1, 1], `ratio` in [0, 100].

    A source template is anomalous where the share of anomalous sessions among those with it is at least `anomalous`, normal where it is
    no more than the source's base rate times `normal`; else it says nothing.
    """

    cosine: float = 0.8
    ratio: float = 80.0
    anomalous: float = 0.9
    normal: float = 1.5


@dataclass(frozen=True)
class DriftLabels:
    """Labels of a system's templates and patterns: 1 anomalous, 0 normal, NEW (-1) none, with confidence 0; else it is in (0, 1]."""

    templates: np.ndarray
    template_confidence: np.ndarray
    patterns: np.ndarray
    confidence: np.ndarray


def known_templates(source: Source, drift: Drift) -> tuple[np.ndarray, np.ndarray]:
    """Return what a source's session labels make of its templates: label (1, 0, or NEW where they leave it open) and the confidence in it
    (T,).

    The confidence is the share of the template's sessions that agree, as if two sessions more had been seen, one of each kind.
    """
    sessions, anomalous = np.zeros(len(source.texts)), np.zeros(len(source.texts))
    for events, n, share in zip(source.events, source.sessions.tolist(), source.anomalous.tolist(), strict=True):
        rows = sorted({row for row, _ in events})
        sessions[rows] += n
        anomalous[rows] += n * share
    base = float((source.sessions * source.anomalous).sum()) / max(1.0, float(source.sessions.sum()))
    rate = anomalous / np.maximum(1.0, sessions)
    labels = np.where(rate >= drift.anomalous, 1, np.where(rate <= min(0.5, base * drift.normal), 0, NEW))
    agreeing = np.where(labels == 1, anomalous, sessions - anomalous)
    return np.where(sessions > 0, labels, NEW), np.where((sessions > 0) & (labels != NEW), (agreeing + 1) / (sessions + 2), 0.0)


def label_by_drift(target: Patterns, sources: Sequence[Source], drift: Drift) -> DriftLabels:
    """Label the target's templates by the most similar known one, and its patterns by their templates.

    A pattern is anomalous if any of its templates is, as sure as the surest of them; normal if all of them are known to be normal, as sure
    as the least sure; else it is new.
    """
    labels, confidence = np.full(len(target.texts), NEW), np.zeros(len(target.texts))
    known = [(source, *known_templates(source, drift)) for source in sources if len(source.texts)]
    if known and len(target.texts):
        where, cosine = most_similar(target.vectors, np.concatenate([source.vectors for source, _, _ in known]))
        texts = [text for source, _, _ in known for text in source.texts]
        ratio = np.array([token_set_ratio(plain_text(own), plain_text(texts[at])) for own, at in zip(target.texts, where, strict=True)])
        matched = (cosine >= drift.cosine) & (ratio >= drift.ratio)
        labels[matched] = np.concatenate([each for _, each, _ in known])[where[matched]]
        sure = np.concatenate([each for _, _, each in known])[where[matched]]
        confidence[matched] = np.where(labels[matched] == NEW, 0.0, sure * cosine[matched] * ratio[matched] / 100)
    patterns, trust = np.full(len(target.ids), NEW), np.zeros(len(target.ids))
    for number, events in enumerate(target.events):
        rows = sorted({row for row, _ in events})
        bad = [row for row in rows if labels[row] == 1]
        if bad:
            patterns[number], trust[number] = 1, confidence[bad].max()
        elif rows and all(labels[row] == 0 for row in rows):
            patterns[number], trust[number] = 0, confidence[rows].min()
    return DriftLabels(labels, confidence, patterns, np.clip(trust, 0.0, 1.0))


def choose_drift(sources: Sequence[Source], candidates: Sequence[Drift]) -> Drift:
    """The thresholds that label held-out sources best, each source in turn being the unlabelled one.

    The worth of thresholds is the number of patterns labelled rightly, less four times those labelled wrongly, as a share of each source's
    patterns; among equals the first stands. So a label is worth having at four in five right, and no label is better than a bad one.
    """
    worth = []
    for candidate in candidates:
        each = []
        for number, source in enumerate(sources):
            others = [other for i, other in enumerate(sources) if i != number]
            found = label_by_drift(source, others, candidate).patterns
            right = (found == (source.anomalous >= 0.5)) & (found != NEW)
            each.append((right.sum() - 4 * ((found != NEW) & ~right).sum()) / max(1, len(found)))
        worth.append(float(np.mean(each)) if each else 0.0)
    return candidates[int(np.argmax(worth))]
