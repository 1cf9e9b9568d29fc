"""MetaProto as a detector: fitted on labelled systems, adapted to one that has no labels, or a few.

Source: arXiv 2601.14336. Where it leaks or is silent: drift labels adapt the detector and never score it; features are chosen, and SMOTE is
done, on the training fold's sources alone; the threshold comes from sources held out in turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pyspark.sql import SparkSession

from nightlog.detector.metaproto.drift import NEW, Drift, choose_drift, label_by_drift
from nightlog.detector.metaproto.few_shot import Config, Embedding, Support, Task, anomaly_logits, meta_train
from nightlog.detector.metaproto.selection import Selection, Selector, select_features
from nightlog.detector.metaproto.threshold import HeldOut, Rule, always_anomalous, choose_rule, least_f1, sigmoid
from nightlog.detector.metaproto.view import View, scaled
from nightlog.detector.patterns import Patterns, Source
from nightlog.encoding.encoder import one_thread
from nightlog.errors import ConfigError
from nightlog.spark import start_spark

DRIFTS = tuple(Drift(cosine, ratio) for cosine, ratio in ((0.8, 80.0), (0.9, 90.0), (0.7, 70.0), (0.6, 60.0)))
HALF = 0.5
SUSPECT, ORDINARY = 0.1, 0.5
_selected: dict[str, Selection] = {}
Part = tuple[str, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Options:
    """How MetaProto is fitted; `drifts` are the thresholds of drift labelling to choose from."""

    few_shot: Config = Config()
    selector: Selector = Selector()
    drifts: tuple[Drift, ...] = DRIFTS


@dataclass(frozen=True)
class Fold:
    """The sources of a training fold as the network sees them, their columns chosen within the fold."""

    sources: tuple[Source, ...]
    tasks: tuple[Task, ...]
    chosen: np.ndarray

    @staticmethod
    def of(sources: Sequence[Source], selector: Selector) -> Fold:
        """See each source on its own scale, and choose the columns. Raises ConfigError where no source has both classes."""
        if not two_classes(sources):
            raise ConfigError("no labelled system has both normal and anomalous sessions: there is nothing to learn from")
        parts = [by_class(source, View.of(source).see(source)) for source in sources]
        chosen = chosen_columns(parts, selector)
        tasks = tuple(Task(name, scaled(x, chosen), each, sessions) for name, x, each, sessions in parts)
        return Fold(tuple(sources), tasks, chosen)


def by_class(source: Source, x: np.ndarray) -> Part:
    """A pattern's anomalous and its normal sessions apart: (name, features, bad, sessions). A pattern with sessions of both is there twice.

    Rounding a share to a label instead would make rare patterns of what is dealt out at random, and so teach that rare is anomalous.
    """
    anomalous = source.sessions * source.anomalous
    sessions = np.concatenate([source.sessions - anomalous, anomalous])
    there = sessions > 0
    bad = np.repeat([False, True], len(source.ids))
    return source.name, np.concatenate([x, x])[there], bad[there], sessions[there]


def chosen_columns(parts: Sequence[Part], selector: Selector) -> np.ndarray:
    """The columns that Spark chooses; remembered for the process, as all seeds and targets of a fold share them."""
    digest = hashlib.sha256(repr(selector).encode())
    for name, x, bad, sessions in parts:
        for content in (name.encode(), x.tobytes(), bad.tobytes(), sessions.tobytes()):
            digest.update(content)
    key = digest.hexdigest()
    if key not in _selected:
        spark = SparkSession.getActiveSession() or start_spark("nightlog metaproto", "local[2]", "2g")
        _selected[key] = select_features(spark, parts, selector)
    return _selected[key].chosen


@dataclass(frozen=True)
class MetaProto:
    """A fitted detector for one target.

    `support` are the examples that it is adapted to; `threshold` is the logit at and above which a pattern is anomalous, and where its
    probability is a half; `scale` is what a logit is divided by, so that probabilities do not all end at 0 and 1.
    """

    networks: tuple[Embedding, ...]
    chosen: np.ndarray
    view: View
    support: Support
    threshold: float
    scale: float
    options: Options
    detail: dict[str, float] = field(default_factory=dict)

    def see(self, patterns: Patterns) -> np.ndarray:
        """The chosen features of patterns over the target's templates (n, k)."""
        return scaled(self.view.see(patterns), self.chosen)

    @one_thread()
    def probability(self, patterns: Patterns) -> np.ndarray:
        """Probability of an anomaly (n,) for patterns over the target's templates, in whatever order they come."""
        if not len(patterns.ids):
            return np.zeros(0)
        logit = anomaly_logits(self.networks, self.see(patterns), self.support, self.options.few_shot)
        return sigmoid((logit - self.threshold) / self.scale)

    @one_thread()
    def with_labels(self, adaptation: Patterns, labelled: Mapping[int, bool]) -> MetaProto:
        """Adapted to labelled patterns of the adaptation part (number → anomalous) instead of the support without labels.

        Where they are of one class alone, the other class stays as it was. The threshold is the logit 0.
        """
        if not labelled:
            return self
        numbers = sorted(labelled)
        bad = np.array([labelled[number] for number in numbers], dtype=bool)
        support = Support(self.see(adaptation.take(numbers)), bad, np.ones(len(numbers)))
        if bad.all() or not bad.any():
            support = support.joined(self.support.only(self.support.bad != bad[0]))
        logit = anomaly_logits(self.networks, self.see(adaptation), support, self.options.few_shot)
        detail = self.detail | {"labelled": float(len(numbers)), "threshold_split": 0.0, "threshold_logit": 0.0}
        return replace(self, support=support, threshold=0.0, scale=spread(logit, adaptation.sessions), detail=detail)


@dataclass(frozen=True)
class Learnt:
    """What the sources teach, whatever the target: networks, columns, the rule of the threshold, the thresholds of drift labelling.

    Of sources held out in turn, `least_f1` is what the rule reached on the one where it did worst, `trivial_f1` the mean of "always
    anomalous"; both 0 without any.
    """

    sources: tuple[Source, ...]
    networks: tuple[Embedding, ...]
    chosen: np.ndarray
    rule: Rule
    drift: Drift
    least_f1: float
    trivial_f1: float
    options: Options


@one_thread()
def learn(sources: Sequence[Source], seed: int, options: Options | None = None) -> Learnt:
    """Meta-train on the sources, and choose on sources held out in turn how the threshold and drift labels are set.

    Deterministic for given input and seed. Raises ConfigError where no source has both classes.
    """
    options = options or Options()
    fold = Fold.of(sources, options.selector)
    networks = tuple(meta_train(fold.tasks, options.few_shot, seed))
    scored = held_out(fold, options, seed)
    drift = choose_drift(sources, options.drifts) if len(sources) > 1 else options.drifts[0]
    rule = choose_rule(scored)
    return Learnt(tuple(sources), networks, fold.chosen, rule, drift, least_f1(rule, scored), always_anomalous(scored), options)


@one_thread()
def adapted(learnt: Learnt, adaptation: Patterns) -> MetaProto:
    """Label the target's adaptation part by drift, and set the threshold.

    Where drift labels do not make both classes, `support_without_labels` stands in. Deterministic for given input.
    """
    networks, config, rule = learnt.networks, learnt.options.few_shot, learnt.rule
    view = View.of(adaptation)
    found = label_by_drift(adaptation, learnt.sources, learnt.drift)
    numbers = np.flatnonzero((found.patterns != NEW) & (found.confidence > 0))
    x = scaled(view.see(adaptation), learnt.chosen)
    support = Support(x[numbers], found.patterns[numbers] == 1, found.confidence[numbers])
    drifted = bool(support.bad.any() and not support.bad.all())
    if not drifted:
        support = support.joined(support_without_labels(networks, x, adaptation.sessions, config))
    logit = anomaly_logits(networks, x, support, config)
    threshold = 0.0 if drifted else rule.threshold(logit, adaptation.sessions)
    detail = {
        "drift_cosine": learnt.drift.cosine,
        "drift_ratio": learnt.drift.ratio,
        "drift_templates": float((found.templates != NEW).sum()),
        "drift_normal": float((found.patterns[numbers] == 0).sum()),
        "drift_anomalous": float((found.patterns[numbers] == 1).sum()),
        "drift_support": float(drifted),
        "threshold_split": float(rule.kind == "split" and not drifted),
        "threshold_logit": threshold,
        "held_out_f1": rule.held_out_f1,
    }
    return MetaProto(networks, learnt.chosen, view, support, threshold, spread(logit, adaptation.sessions), learnt.options, detail)


def support_without_labels(networks: Sequence[Embedding], x: np.ndarray, sessions: np.ndarray, config: Config) -> Support:
    """Return what stands in for a drift-labelled sample where the target shares no template with the sources.

    By the prototypes of the sources: the most anomalous tenth of the sessions, and the most normal half of them, both by whole patterns;
    they weigh by sessions on a root scale. What is anomalous is the sources' word alone; that rare is anomalous is not assumed.
    """
    none = Support.none(x.shape[1])
    if not len(x) or not sessions.sum():
        return none
    logit = anomaly_logits(networks, x, none, config)
    order = np.argsort(logit, kind="stable")
    below = np.cumsum(sessions[order]) / sessions.sum()
    low, high = (logit[order][int(np.searchsorted(below, share))] for share in (ORDINARY, 1 - SUSPECT))
    if low >= high:
        return none
    chosen = np.flatnonzero((logit <= low) | (logit >= high))
    weight = np.sqrt(sessions[chosen].astype(float))
    return Support(x[chosen], logit[chosen] >= high, weight / weight.mean())


def spread(logit: np.ndarray, sessions: np.ndarray) -> float:
    """Standard deviation of the logits over a system's sessions, at least 1."""
    if not sessions.sum():
        return 1.0
    return max(1.0, float(np.sqrt(np.average((logit - np.average(logit, weights=sessions)) ** 2, weights=sessions))))


def held_out(fold: Fold, options: Options, seed: int) -> list[HeldOut]:
    """Return how each source is scored by what the others alone teach; columns are chosen anew without it."""
    scored = []
    for number, held in enumerate(fold.sources):
        others = [source for i, source in enumerate(fold.sources) if i != number]
        if two_classes([held]) and two_classes(others):
            inner = Fold.of(others, options.selector)
            networks = meta_train(inner.tasks, options.few_shot, seed)
            x = scaled(View.of(held).see(held), inner.chosen)
            support = support_without_labels(networks, x, held.sessions, options.few_shot)
            logit = anomaly_logits(networks, x, support, options.few_shot)
            scored.append(HeldOut(logit, held.sessions * held.anomalous, held.sessions * (1 - held.anomalous)))
    return scored


def two_classes(sources: Sequence[Source]) -> bool:
    """Is there a source with both normal and anomalous sessions?"""
    return any((source.anomalous > 0).any() and (source.anomalous < 1).any() for source in sources)


def examples_to_label(detector: MetaProto, adaptation: Patterns, k: int) -> list[int]:
    """Numbers of k patterns whose labels would tell most, chosen without any: medoids, weighted by sessions on a root scale.

    Greedy: each next one takes most off the sum of distances to the nearest example. Ties go to the first by id.
    """
    order = sorted(range(len(adaptation.ids)), key=adaptation.ids.__getitem__)
    x = detector.see(adaptation.take(order)).astype(float)
    square = (x**2).sum(axis=1)
    distance = np.sqrt(np.maximum(0.0, square[:, None] + square[None, :] - 2 * x @ x.T))
    weight = np.sqrt(adaptation.sessions[order].astype(float))
    nearest = np.full(len(order), distance.max(initial=0.0))
    chosen: list[int] = []
    for _ in range(min(k, len(order))):
        gain = (weight[:, None] * np.maximum(0.0, nearest[:, None] - distance)).sum(axis=0)
        gain[chosen] = -1.0
        chosen.append(int(np.argmax(np.round(gain, 9))))
        nearest = np.minimum(nearest, distance[:, chosen[-1]])
    return [order[number] for number in chosen]
