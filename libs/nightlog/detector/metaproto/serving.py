"""MetaProto in the lake: taught for each system whose file names it, stored with its model, and applied to a night's patterns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import Manifest
from nightlog.detector.metaproto.detector import HALF, MetaProto, SourceModel, adapted, learn
from nightlog.detector.metaproto.features import View
from nightlog.detector.metaproto.learning import Config
from nightlog.detector.patterns import Patterns, Source
from nightlog.detector.registry import promote, save
from nightlog.detector.training import TRUSTED_F1, tau_of
from nightlog.errors import NightlogError
from nightlog.history.night import template_weights
from nightlog.lake.lake import Lake

MOST_PATTERNS = 8192  # what is rarer than these is as new to the detector as a new pattern


def teach_metaproto(
    lake: Lake,
    targets: Mapping[str, Patterns | None],
    sources: Sequence[Source],
    base: Manifest,
    answers: Mapping[str, Mapping[str, bool]],
    seed: int,
    now: datetime,
    tell: Callable[[str], None],
    config: Config | None = None,
) -> None:
    """Adapt a MetaProto to each target and let it serve that system alone; what the sources teach is learnt once for all.

    Router and source templates are those of the base model. The LLM is skipped for patterns that look like a source's only if MetaProto was
    right more often than not on each left-out source: the next system may be like the worst of them. A system that fails does not stop
    the others; the first error is raised at the end.

    Args: targets, by name their patterns over all nights, None if the lake has none; answers, by system and by question or pattern:
        anomalous or not.
    """
    seen = {name: frequent(patterns) for name, patterns in targets.items() if patterns is not None}
    for name in [name for name in targets if name not in seen]:
        tell(f"{name}: no night of it is in the lake yet; the base model serves it until MetaProto is taught after its first night")
    if not seen:
        return
    source_model = learn(sources, seed, config)
    failed: list[NightlogError] = []
    for name, patterns in seen.items():
        try:
            labelled = labelled_rows(patterns, answers.get(name, {}))
            detector = adapted(source_model, patterns).with_labels(patterns, labelled)
            manifest = manifest_of(name, patterns, len(labelled), source_model, sources, base)
            vectors = np.concatenate([source.vectors for source in sources])
            detail = {"support": float(len(detector.support)), "left_out_worst_f1": source_model.least_f1}
            model = save(lake, detector, vectors, manifest, detail, now)
            promote(lake, model.version)
            tell(f"{name}: MetaProto {model.version} serves: {story(patterns, detector, source_model)}")
        except NightlogError as error:
            failed.append(error)
            tell(f"{name}: MetaProto was not taught: {error}")
    if failed:
        raise failed[0]


def labelled_rows(patterns: Patterns, answers: Mapping[str, bool]) -> dict[int, bool]:
    """Return row of a pattern → anomalous or not, for answered ones; a pattern's own label outranks its question's answer."""
    rows = enumerate(zip(patterns.ids, patterns.questions, strict=True))
    found = {row: answers.get(pattern, answers.get(question)) for row, (pattern, question) in rows}
    return {row: anomalous for row, anomalous in found.items() if anomalous is not None}


def frequent(patterns: Patterns) -> Patterns:
    """Return the patterns with the most sessions, at most MOST_PATTERNS, in their order."""
    if len(patterns.ids) <= MOST_PATTERNS:
        return patterns
    order = sorted(range(len(patterns.ids)), key=lambda i: (-int(patterns.sessions[i]), patterns.ids[i]))
    return patterns.take(sorted(order[:MOST_PATTERNS]))


def manifest_of(
    name: str, patterns: Patterns, n_answered: int, source_model: SourceModel, sources: Sequence[Source], base: Manifest
) -> Manifest:
    """Return the manifest of a MetaProto: it flags at a probability of one half, on every pattern."""
    trusted = source_model.least_f1 >= TRUSTED_F1 and source_model.beats_trivial
    own = {"patterns": len(patterns.ids), "sessions": int(patterns.sessions.sum()), "answered_patterns": n_answered}
    return replace(
        base,
        tau=tau_of(sources) if trusted else None,
        threshold=HALF,
        foreign_threshold=HALF,
        calibration=Calibration(),
        foreign=Calibration(),
        data={**base.data, name: own},
        system=name,
        detector="metaproto",
    )


def story(patterns: Patterns, detector: MetaProto, source_model: SourceModel) -> str:
    """Return what a MetaProto was adapted to, and its F1 on sources that it had not seen, in words."""
    origin = "labelled by their likeness to source templates" if detector.drifted else "that analysts answered about"
    support = f"{len(detector.support):,} patterns {origin}" if detector.support else "no examples"
    worst = f"F1 on the worst left-out source {source_model.least_f1:.3f}" if source_model.left_out else "no source could be left out"
    return f"adapted to {len(patterns.ids):,} patterns of {int(patterns.sessions.sum()):,} sessions by {support}; {worst}"


@dataclass(frozen=True)
class NightTemplates:
    """The templates of a night: ids and texts, in one order."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]


def with_templates(patterns: Patterns, more: Sequence[tuple[str, str]]) -> Patterns:
    """Return patterns over more templates (id, text), which stand behind the known ones."""
    return replace(
        patterns,
        template_ids=(*patterns.template_ids, *(name for name, _ in more)),
        texts=(*patterns.texts, *(text for _, text in more)),
        levels=(*patterns.levels, *("" for _ in more)) if patterns.levels else (),
    )


def score_frame(frame: pd.DataFrame, detector: MetaProto, night: NightTemplates) -> pd.DataFrame:
    """Return patterns (pattern_id, events) with their probability of an anomaly and their templates' weights, which sum to 1.

    Templates that the detector was not adapted to are new to the system. Numbers are rounded to 6 digits, so that the batch a pattern
    falls into cannot change a row. A weight is the rarity of a template; it does not say what moved the score.
    """
    known = detector.view.reference
    names = set(known.template_ids)
    new = sorted((name, text) for name, text in zip(night.ids, night.texts, strict=True) if name not in names)
    if new:
        detector = replace(detector, view=View(with_templates(known, new)))
    more = detector.view.reference
    rows = {name: row for row, name in enumerate(more.template_ids)}
    events = tuple(tuple((rows[each["template_id"]], int(each["count"])) for each in pattern) for pattern in frame["events"])
    ids = tuple(frame["pattern_id"])
    patterns = replace(more, ids=ids, questions=ids, events=events, sessions=np.ones(len(ids)))
    weights = template_weights(detector.view.scorer, pa.table({"events": detector.view.table(events)}))
    probabilities = np.round(detector.probability(patterns), 6)
    return pd.DataFrame({"pattern_id": frame["pattern_id"].to_list(), "probability": probabilities, "weights": weights})
