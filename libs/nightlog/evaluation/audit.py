"""The leakage audit: nothing of the target reaches a mode but what it may know. A leak stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightlog.detector.patterns import Source
from nightlog.errors import GateFailed
from nightlog.evaluation.labelled import ADAPTATION, TEST, Labelled

COPIED = 0.05  # share of the target's patterns, of at least two templates, from which a source counts as a copy of it


@dataclass(frozen=True)
class Audit:
    """A target without a leak: its sources are of other families and hold no copy of it; the templates, patterns and sessions counted."""

    target: str
    sources: tuple[str, ...]
    source_sessions: int
    adaptation_sessions: int
    test_sessions: int
    templates: int
    templates_in_sources: int
    patterns: int
    patterns_in_sources: int
    test_patterns: int
    test_patterns_in_adaptation: int

    def row(self) -> dict[str, Any]:
        """For `audit.json`."""
        return vars(self) | {"sources": ", ".join(self.sources)}


def audit(system: Labelled, sources: Sequence[Labelled]) -> Audit:
    """Check a target against the labelled systems that teach.

    Raises: GateFailed if a source is the target, is held out, is cut from the same lines or holds a copy of the target; or if a part of the
    target is empty.
    """
    for source in sources:
        if source.name == system.name or source.family == system.family:
            raise leak(system, f"the source {source.name} is cut from the same lines: choose sources of other families")
        if source.held_out:
            raise leak(system, f"the source {source.name} is held out: it may teach nothing")
    own = dict(zip(*(system.patterns.column(name).to_pylist() for name in ("pattern_id", "events")), strict=True))
    telling = {name for name, events in own.items() if len(events) > 1}
    shared: set[str] = set()
    for source in sources:
        same = own.keys() & set(source.patterns.column("pattern_id").to_pylist())
        if len(same & telling) > COPIED * max(1, len(telling)):
            raise leak(system, f"{len(same)} of its patterns, such as {min(same)}, were copied into the source {source.name}")
        shared |= same
    sessions = system.counts.sum(axis=2)
    if not sessions.sum(axis=0).all():
        raise leak(system, "one of its parts has no sessions")
    texts, known = set(system.templates.text), {text for source in sources for text in source.templates.text}
    return Audit(
        target=system.name,
        sources=tuple(source.name for source in sources),
        source_sessions=int(sum(source.counts.sum() for source in sources)),
        adaptation_sessions=int(sessions[:, ADAPTATION].sum()),
        test_sessions=int(sessions[:, TEST].sum()),
        templates=len(texts),
        templates_in_sources=len(texts & known),
        patterns=len(own),
        patterns_in_sources=len(shared),
        test_patterns=int((sessions[:, TEST] > 0).sum()),
        test_patterns_in_adaptation=int((sessions > 0).all(axis=1).sum()),
    )


def leak(system: Labelled, fault: str) -> GateFailed:
    """The error that stops the run."""
    return GateFailed(f"leakage audit of {system.name}: {fault}; no score of this run may be used")


def shuffled(source: Source, seed: int) -> Source:
    """The negative control: the same number of anomalous sessions, dealt out at random. A model taught by it must know nothing."""
    random = np.random.default_rng(seed)
    anomalous = random.multivariate_hypergeometric(
        source.sessions, round(float((source.anomalous * source.sessions).sum())), method="marginals"
    )
    return Source(**(vars(source) | {"anomalous": anomalous / np.maximum(source.sessions, 1)}))
