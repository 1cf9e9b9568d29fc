"""What a fitted MetaProto says of a night's patterns, and which templates it finds unusual in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nightlog.detector.metaproto.detector import MetaProto
from nightlog.detector.metaproto.reference import Flat, Reference
from nightlog.detector.patterns import Patterns


@dataclass(frozen=True)
class NightTemplates:
    """The templates of a night: ids, texts, and vectors (n, d) float32, in one order."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: np.ndarray


def score_frame(frame: pd.DataFrame, detector: MetaProto, night: NightTemplates) -> pd.DataFrame:
    """Patterns (pattern_id, events) with their probability of an anomaly and their templates' weights, which sum to 1.

    Templates that the detector was not adapted to are new to the system. Numbers are rounded to 6 digits, so that the batch a pattern
    falls into cannot change a row.
    """
    detector, patterns = placed(frame, detector, night)
    names = detector.view.reference.patterns.template_ids
    weights: list[list[dict[str, object]]] = [[] for _ in patterns.ids]
    flat, surprise = template_surprise(patterns, detector.view.reference)
    for pattern, template, weight in zip(flat.pattern.tolist(), flat.template.tolist(), surprise.tolist(), strict=True):
        if template >= 0:
            weights[pattern].append({"template_id": names[template], "weight": round(weight, 6)})
    probabilities = np.round(detector.probability(patterns), 6)
    return pd.DataFrame({"pattern_id": frame["pattern_id"].to_list(), "probability": probabilities, "weights": weights})


def placed(frame: pd.DataFrame, detector: MetaProto, night: NightTemplates) -> tuple[MetaProto, Patterns]:
    """The detector over its own templates and those of the night that it does not know, in the order of their ids; and the patterns."""
    known = set(detector.view.reference.patterns.template_ids)
    new = sorted((i for i, name in enumerate(night.ids) if name not in known), key=night.ids.__getitem__)
    if new:
        view = detector.view.over([night.ids[i] for i in new], [night.texts[i] for i in new], night.vectors[new])
        detector = replace(detector, view=view)
    whole = detector.view.reference.patterns
    rows = {name: row for row, name in enumerate(whole.template_ids)}
    events = tuple(tuple((rows[each["template_id"]], int(each["count"])) for each in pattern) for pattern in frame["events"])
    ids = tuple(frame["pattern_id"])
    return detector, replace(whole, ids=ids, questions=ids, events=events, sessions=np.ones(len(ids), dtype=np.int64))


def template_surprise(patterns: Patterns, reference: Reference) -> tuple[Flat, np.ndarray]:
    """Return how unusual each template of each pattern is, as a share of the pattern's whole: a weight for each event of the flat patterns.

    The surprise of a template is -log10 of the share of the system's sessions that have it as often (by powers of two). It says what is
    rare, not what moved the score: what a pattern lacks, and how its templates come together, has no template to stand at.
    """
    flat = Flat.of(patterns)
    share = np.append(reference.share, 1.0)[flat.template]
    levels = np.vstack([reference.level_share, np.ones((1, reference.level_share.shape[1]))])
    inside = np.minimum(flat.level, levels.shape[1] - 1)
    sessions = np.where(inside == flat.level, share * levels[flat.template, inside] * reference.total, 0.0)
    surprise = np.maximum(0.0, -np.log10((sessions + 0.5) / (reference.total + 0.5)))
    whole = flat.total(surprise)[flat.pattern]
    equal = 1 / np.maximum(1.0, flat.total(np.ones(len(surprise))))[flat.pattern]
    return flat, np.where(whole > 0, surprise / np.where(whole > 0, whole, 1.0), equal)
