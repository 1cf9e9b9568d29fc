"""Teaching MetaProto: one for each system whose file names it, adapted to the system's patterns in the lake, registered and promoted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import Manifest
from nightlog.detector.metaproto.detector import HALF, Learnt, MetaProto, Options, adapted, learn
from nightlog.detector.patterns import Patterns, Source
from nightlog.detector.registry import promote, save
from nightlog.detector.training import TRUSTED_F1, tau_of
from nightlog.errors import NightlogError
from nightlog.lake.lake import Lake

MOST_PATTERNS = 8192  # distances between patterns are held in memory; what is rarer than these is as new to the detector as a new pattern


def teach_metaproto(
    lake: Lake,
    targets: Mapping[str, Patterns | None],
    sources: Sequence[Source],
    base: Manifest,
    answers: Mapping[str, Mapping[str, bool]],
    seed: int,
    now: datetime,
    tell: Callable[[str], None],
    options: Options | None = None,
) -> None:
    """Adapt a MetaProto to each target and let it serve that system alone; what the sources teach is learnt once for all.

    The router and its source templates are those of the general model `base`. Patterns that look like a source's are left to MetaProto,
    and the LLM is not asked about them, only where it was right more often than not on each of the sources held out in turn: the next
    system may be like the worst of them. A system that fails does not stop the others; the
    first error is raised when all are through.

    Args: targets, by name their patterns over all nights, None where the lake has none; answers, by system and question, or pattern where
        it was labelled: anomalous or not.
    """
    seen = {name: frequent(patterns) for name, patterns in targets.items() if patterns is not None}
    for name in [name for name in targets if name not in seen]:
        tell(f"{name}: no night of it is in the lake yet; the general model serves it until MetaProto is taught after its first night")
    if not seen:
        return
    learnt = learn(sources, seed, options)
    failed: list[NightlogError] = []
    for name, patterns in seen.items():
        try:
            labelled = labelled_rows(patterns, answers.get(name, {}))
            detector = adapted(learnt, patterns).with_labels(patterns, labelled)
            manifest = manifest_of(name, patterns, len(labelled), learnt, sources, base)
            vectors = np.concatenate([source.vectors for source in sources])
            model = save(lake, detector, vectors, manifest, detector.detail, now)
            promote(lake, model.version)
            tell(f"{name}: MetaProto {model.version} serves: {story(patterns, detector, learnt)}")
        except NightlogError as error:
            failed.append(error)
            tell(f"{name}: MetaProto was not taught: {error}")
    if failed:
        raise failed[0]


def labelled_rows(patterns: Patterns, said: Mapping[str, bool]) -> dict[int, bool]:
    """Row of a pattern → anomalous or not, of those that analysts spoke about; a pattern's own label outranks its question's answer."""
    found = {}
    for row, (pattern, question) in enumerate(zip(patterns.ids, patterns.questions, strict=True)):
        anomalous = said.get(pattern, said.get(question))
        if anomalous is not None:
            found[row] = anomalous
    return found


def frequent(patterns: Patterns) -> Patterns:
    """The patterns that most sessions have, as many as fit; in the order they came in."""
    if len(patterns.ids) <= MOST_PATTERNS:
        return patterns
    order = sorted(range(len(patterns.ids)), key=lambda i: (-int(patterns.sessions[i]), patterns.ids[i]))
    return patterns.take(sorted(order[:MOST_PATTERNS]))


def manifest_of(name: str, patterns: Patterns, n_answered: int, learnt: Learnt, sources: Sequence[Source], base: Manifest) -> Manifest:
    """The manifest of a MetaProto: its probability is at one half where its threshold is, on every pattern."""
    trusted = learnt.least_f1 >= TRUSTED_F1 and learnt.rule.held_out_f1 > learnt.trivial_f1
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


def story(patterns: Patterns, detector: MetaProto, learnt: Learnt) -> str:
    """Return what a MetaProto was adapted to, and what its word is worth on sources that it had not seen."""
    detail = detector.detail
    support = "no examples"
    if "labelled" in detail:
        support = f"{detail['labelled']:.0f} patterns that analysts answered about"
    elif detail["drift_support"]:
        support = f"{detail['drift_normal'] + detail['drift_anomalous']:.0f} patterns labelled by their likeness to source templates"
    elif len(detector.support.x):
        support = "its own most and least suspicious patterns, no label being known"
    return (
        f"adapted to {len(patterns.ids):,} patterns of {int(patterns.sessions.sum()):,} sessions by {support}; F1 on held-out sources "
        f"{learnt.rule.held_out_f1:.3f}, on the worst of them {learnt.least_f1:.3f}, always anomalous {learnt.trivial_f1:.3f}"
    )
