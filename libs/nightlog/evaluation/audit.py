"""The leakage audit: nothing of the target reaches a mode but what it may know. A leak stops the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nightlog.detector.patterns import Source
from nightlog.errors import GateFailed
from nightlog.evaluation.case import Case
from nightlog.evaluation.corpus import Corpus
from nightlog.evaluation.protocols import Split


@dataclass(frozen=True)
class Audit:
    """A case without a leak: sources share templates with the target (counted), but no pattern and no session; the parts of the target
    share patterns (counted), but no session."""

    target: str
    sources: tuple[str, ...]
    source_sessions: int
    adaptation_sessions: int
    test_sessions: int
    templates: int
    templates_in_sources: int
    test_patterns: int
    test_patterns_in_adaptation: int

    def row(self) -> dict[str, Any]:
        """For `audit.json`."""
        return vars(self) | {"sources": ", ".join(self.sources)}


def audit(case: Case, target: Split, sources: tuple[Corpus, ...]) -> Audit:
    """Hold a case against the labelled data that it was made from.

    Raises: GateFailed where a source is the target, is cut from the same lines or holds a pattern of it; where a session is in both
    parts; where a part carries labels or is not the part that is scored.
    """
    bench = target.corpus.bench
    if tuple(source.name for source in case.sources) != tuple(corpus.bench.name for corpus in sources):
        raise leak(case, f"the sources of the case are not those that were read: {', '.join(source.name for source in case.sources)}")
    for corpus in sources:
        if corpus.bench.name == bench.name or corpus.bench.family == bench.family:
            raise leak(case, f"the source {corpus.bench.name} is cut from the same lines: choose sources of other families")
    own = set(target.corpus.patterns.ids)
    for source in case.sources:
        if shared := own & set(source.ids):
            names = f"such as {min(shared)}"
            raise leak(case, f"{len(shared)} of its patterns, {names}, are in the source {source.name}: its sessions were copied into it")
    both = np.intersect1d(names_of(target, target.adaptation), names_of(target, target.test))
    if len(both):
        raise leak(case, f"{len(both)} sessions, such as {both[0]}, are in the adaptation part and in the test part")
    for part, sessions in ((case.adaptation, target.adaptation), (case.test, target.test)):
        if isinstance(part, Source) or hasattr(part, "anomalous"):
            raise leak(case, "a part of the target carries labels")
        if int(part.sessions.sum()) != len(sessions) or not own.issuperset(part.ids):
            raise leak(case, f"a part of {len(sessions)} sessions was given to the mode as {int(part.sessions.sum())} sessions")
    texts = set(case.test.texts)
    return Audit(
        target=case.target,
        sources=tuple(source.name for source in case.sources),
        source_sessions=sum(len(corpus.session_ids) for corpus in sources),
        adaptation_sessions=len(target.adaptation),
        test_sessions=len(target.test),
        templates=len(texts),
        templates_in_sources=len(texts & {text for source in case.sources for text in source.texts}),
        test_patterns=len(case.test.ids),
        test_patterns_in_adaptation=len(set(case.test.ids) & set(case.adaptation.ids)),
    )


def names_of(target: Split, part: np.ndarray) -> np.ndarray:
    """The session ids of a part."""
    return np.array([target.corpus.session_ids[s] for s in part])


def leak(case: Case, what: str) -> GateFailed:
    """The error that stops the run."""
    return GateFailed(f"leakage audit of {case.target}: {what}; no score of this run may be used")


def shuffled(source: Source, seed: int) -> Source:
    """The negative control: the same number of anomalous sessions, dealt out at random. What is learnt from it must be worth nothing."""
    random = np.random.default_rng(seed)
    anomalous = random.multivariate_hypergeometric(
        source.sessions, round(float((source.anomalous * source.sessions).sum())), method="marginals"
    )
    return Source(**(vars(source) | {"anomalous": anomalous / np.maximum(source.sessions, 1)}))
