"""MetaProto as a detector: taught by labelled systems, adapted to one that has no labels, or a few.

Source: arXiv 2601.14336. The sources' prototypes are the prior; every labelled pattern of the target is a prototype of its neighbourhood (a
Gaussian process over the similarity of patterns, `history.answers.Student`). Without labels of an analyst, drift labels are the support.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nightlog.detector.calibration import f1_at
from nightlog.detector.metaproto.drift import NEW, Drift, choose_drift, label_by_drift
from nightlog.detector.metaproto.features import View
from nightlog.detector.metaproto.learning import Config, Head, Task, left_out_f1, train_head
from nightlog.detector.patterns import Events, Patterns, Source
from nightlog.history.answers import Student, next_questions, sigmoid

if TYPE_CHECKING:
    from torch import Tensor

ARRAYS = ("chosen", "mean", "spread", "weights")
NAMES = ("name", "texts", "ids", "questions", "template_ids", "levels", "counted")
HALF = 0.5
DRIFTS = tuple(Drift(cosine, ratio) for cosine, ratio in ((0.8, 80.0), (0.9, 90.0), (0.7, 70.0), (0.6, 60.0)))


@dataclass(frozen=True)
class SourceModel:
    """The result of training on the sources, for any target."""

    sources: tuple[Source, ...]
    head: Head
    drift: Drift
    config: Config
    seed: int

    @cached_property
    def left_out(self) -> list[tuple[float, float]]:
        """F1 on each source, left out in turn, and that of "always anomalous" there. It takes as many trainings."""
        return left_out_f1([Task.of(source) for source in self.sources], self.config, self.seed)

    @property
    def least_f1(self) -> float:
        """The F1 on the left-out source where it was worst; 0 without any."""
        return min((reached for reached, _ in self.left_out), default=0.0)

    @property
    def beats_trivial(self) -> bool:
        """The mean F1 on left-out sources is above that of "always anomalous"."""
        return bool(self.left_out) and float(np.mean([reached - trivial for reached, trivial in self.left_out])) > 0


def teachers(sources: Sequence[Source]) -> list[Source]:
    """Return the sources whose patterns tell their sessions apart: F1 of at least one half with the labels known; all if there is none.

    A source whose faults leave no trace in its patterns would teach that labels are chance.
    """
    return [each for each in sources if f1_at(each.anomalous, each.anomalous, each.sessions, HALF) >= HALF] or list(sources)


def learn(sources: Sequence[Source], seed: int, config: Config | None = None) -> SourceModel:
    """Meta-train on the sources. Deterministic for given input and seed. Raises ConfigError if no source has both classes."""
    config, sources = config or Config(), teachers(sources)
    tasks = [Task.of(source) for source in sources]
    drift = choose_drift(sources, DRIFTS) if len(sources) > 1 else DRIFTS[0]
    return SourceModel(tuple(sources), train_head(tasks, config, seed), drift, config, seed)


@dataclass(frozen=True)
class MetaProto:
    """A detector for one target.

    `view` is what is usual in it. `support` are patterns over the view's templates with the probability that each is anomalous, and
    `drifted` says that they come from drift labels, not from an analyst.
    """

    head: Head
    view: View
    support: tuple[tuple[Events, float], ...] = ()
    drifted: bool = False

    def probability(self, patterns: Patterns) -> np.ndarray:
        """Return the probability of an anomaly (n,) of patterns over the view's templates; it does not depend on the other patterns."""
        own = replace(
            patterns,
            ids=(*patterns.ids, *(f"support {number}" for number in range(len(self.support)))),
            questions=(),
            events=(*patterns.events, *(events for events, _ in self.support)),
            sessions=np.ones(len(patterns.ids) + len(self.support)),
        )
        student = Student(self.view.rows(own), self.head.logits(self.view.see(own)))
        n = len(patterns.ids)
        posterior = student.posterior(np.arange(n, len(own.ids)), [label for _, label in self.support])
        return np.asarray(sigmoid(posterior.mean[:n]))

    def with_labels(self, adaptation: Patterns, labelled: Mapping[int, bool]) -> MetaProto:
        """Adapt to labelled patterns of the adaptation part (number → anomalous), instead of drift labels."""
        if not labelled:
            return self
        support = tuple((adaptation.events[number], float(label)) for number, label in sorted(labelled.items()))
        return replace(self, support=support, drifted=False)


def adapted(source_model: SourceModel, adaptation: Patterns) -> MetaProto:
    """Adapt to a target without labels: its own sessions are the measure, and its drift-labelled patterns the support."""
    found = label_by_drift(adaptation, source_model.sources, source_model.drift)
    numbers = np.flatnonzero((found.patterns != NEW) & (found.confidence > 0))
    labels = np.where(found.patterns == 1, 0.5 + found.confidence / 2, 0.5 - found.confidence / 2)
    support = tuple((adaptation.events[number], float(labels[number])) for number in numbers)
    return MetaProto(source_model.head, View(adaptation), support, bool(support))


def ask(detector: MetaProto, adaptation: Patterns, k: int, answer: Callable[[int], bool]) -> dict[int, bool]:
    """Put k questions about patterns of the adaptation part, one at a time: many sessions, much doubt, unlike each other.

    Args: answer, called with the number of a pattern, returns True if it is anomalous. Returns: number → answer.
    """
    student = Student(detector.view.rows(adaptation), detector.head.logits(detector.view.see(adaptation)))
    known: dict[int, bool] = {}
    is_open = np.ones(len(adaptation.ids), dtype=bool)
    while len(known) < k:
        posterior = student.posterior(list(known), [float(label) for label in known.values()])
        chosen = next_questions(student, posterior, adaptation.sessions, is_open)
        if not chosen:
            break
        known[chosen[0]] = answer(chosen[0])
        is_open[chosen[0]] = False
    return known


def pack(detector: MetaProto) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a detector, and the rest of it as JSON can hold it."""
    import torch

    patterns = detector.view.reference
    arrays = {name: getattr(detector.head, name) for name in ARRAYS} | {
        "sessions": patterns.sessions,
        "events": np.array([pair for events in patterns.events for pair in events], dtype=np.int64).reshape(-1, 2),
        "lengths": np.array([len(events) for events in patterns.events], dtype=np.int64),
    }
    kept = {
        "bias": detector.head.bias,
        "drifted": detector.drifted,
        "support": [[list(events), label] for events, label in detector.support],
        "patterns": {name: getattr(patterns, name) for name in NAMES},
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}, kept


def unpack(tensors: Mapping[str, Tensor], kept: Mapping[str, Any]) -> MetaProto:
    """Return the detector that `pack` took apart; its reference has no vectors, which only drift labels need."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    ends = np.cumsum(arrays["lengths"]).tolist()
    pairs = [(int(row), int(count)) for row, count in arrays["events"]]
    named: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept["patterns"].items()}
    patterns = Patterns(
        **named,
        vectors=np.zeros((len(named["texts"]), 0), dtype=np.float32),
        sessions=arrays["sessions"],
        events=tuple(tuple(pairs[start:end]) for start, end in zip([0, *ends], ends, strict=False)),
    )
    head = Head(**{name: arrays[name] for name in ARRAYS}, bias=float(kept["bias"]))
    support = tuple((tuple((int(row), int(count)) for row, count in events), float(label)) for events, label in kept["support"])
    return MetaProto(head, View(patterns), support, bool(kept["drifted"]))
