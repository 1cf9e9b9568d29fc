"""Modes that learn from labelled sources: MetaProto, other learners on its features, and the papers' GRU.

`metaproto` has no label of the target; `metaproto+Kanswers` asks the case's oracle about K patterns that it chooses without labels.
`learner:NAME` knows the sources alone; its threshold is a probability of one half, both classes weighing the same. `gru` reads sentence
vectors and is meta-trained on the sources. What several cells of the benchmark share is computed once per process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightlog.detector.examples import sequences
from nightlog.detector.meta import Config
from nightlog.detector.metaproto.detector import HALF, adapted, ask, learn, teachers
from nightlog.detector.metaproto.features import View
from nightlog.detector.metaproto.learning import Task, oversample, stacked
from nightlog.detector.network import predict
from nightlog.detector.patterns import Patterns, Source
from nightlog.detector.training import Transfer, fit, measure_transfer, with_shape
from nightlog.errors import ConfigError
from nightlog.evaluation.case import Case, Judgement, Mode

T = TypeVar("T")
KEPT = 64

_kept: dict[str, object] = {}


def once(name: str, seed: int, patterns: Sequence[Patterns], make: Callable[[], T]) -> T:
    """Return what `make` gives for these patterns, their labels where they are a source's, and this seed; it is made the first time.

    `name` says what it is: whatever else it depends on must be in there.
    """
    digest = hashlib.sha256(f"{name}\0{seed}".encode())
    for part in patterns:
        digest.update("\0".join((part.name, *part.ids)).encode())
        for array in (part.vectors, part.sessions, getattr(part, "anomalous", np.zeros(0))):
            digest.update(np.ascontiguousarray(array).tobytes())
    key = digest.hexdigest()
    if key not in _kept:
        while len(_kept) >= KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = make()
    return _kept[key]  # type: ignore[return-value]


LEARNERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "gradient_boosting": lambda seed: HistGradientBoostingClassifier(max_bins=32, random_state=seed),
    "logistic_regression": lambda seed: LogisticRegression(C=0.1, max_iter=1000),
    "random_forest": lambda seed: RandomForestClassifier(n_estimators=100, min_samples_leaf=5, max_depth=6, random_state=seed, n_jobs=1),
}


def metaproto(case: Case) -> Judgement:
    """MetaProto with as many labelled examples as the case grants: none, or k. Raises ConfigError if there is no oracle for k answers."""
    source_model = once("metaproto", case.seed, case.sources, lambda: learn(case.sources, case.seed))
    detector = adapted(source_model, case.adaptation)
    detail = {"drift_support": float(len(detector.support))}
    if case.answers:
        oracle, questions = case.oracle, case.adaptation.questions
        if oracle is None:
            raise ConfigError(f"metaproto on {case.target}: {case.answers} answers need an oracle")
        labelled = ask(detector, case.adaptation, case.answers, lambda number: oracle([questions[number]]))
        detector = detector.with_labels(case.adaptation, labelled)
        detail["labelled"] = float(len(labelled))
    probability = detector.probability(case.test)
    return Judgement(probability, probability >= HALF, detail=detail)


def learner(name: str) -> Mode:
    """Return the mode of a learner trained on the sources, on MetaProto's features. Raises ConfigError if it is not known."""
    if name not in LEARNERS:
        raise ConfigError(f"no learner `{name}`; known: {', '.join(LEARNERS)}")

    def mode(case: Case) -> Judgement:
        model = once(
            f"learner {name}", case.seed, case.sources, lambda: trained(name, [Task.of(each) for each in teachers(case.sources)], case.seed)
        )
        x = View(case.adaptation).see(case.test)
        probability = model.predict_proba(x)[:, 1].astype(float) if len(x) else np.zeros(0)
        return Judgement(probability, probability >= HALF)

    return mode


def trained(name: str, tasks: list[Task], seed: int) -> ClassifierMixin:
    """Return a learner that was trained on the sources with both classes."""
    x, bad, weight = stacked([oversample(task, seed) for task in tasks if task.has_both])
    with threadpool_limits(1):  # threads that wait for each other on busy cores take minutes for what one does in seconds
        return LEARNERS[name](seed).fit(x, bad, sample_weight=weight * len(weight) / weight.sum())


METAPROTO_MODES: dict[str, Mode] = {"metaproto": metaproto} | {f"learner:{name}": learner(name) for name in LEARNERS}


LEFT_OUT = 4  # sources on which calibration and threshold are measured, each by a model trained on the others of them


def gru(case: Case) -> Judgement:
    """Train on the sources, with the adaptation part as the unlabelled target; the threshold comes from sources left out in turn."""
    config = with_shape(Config(seed=case.seed, device=case.device), case.adaptation.vectors.shape[1])
    network = once("gru", case.seed, [*case.sources, case.adaptation], lambda: fit(case.sources, [case.adaptation], config))
    found = once("transfer", 0, case.sources, lambda: transfer(case, replace(config, seed=0)))
    probability = found.calibration.apply(predict(network, sequences(case.test), case.test.vectors)[0])
    return Judgement(probability, found.flags(probability), detail={"threshold": found.threshold or 1.0, "left_out_f1": found.f1})


def transfer(case: Case, config: Config) -> Transfer:
    """Measure the transfer between some of the sources; all of them would take an hour. A hash of their names chooses."""
    return measure_transfer(sorted(case.sources, key=order)[:LEFT_OUT], config)


def order(source: Source) -> str:
    """The place of a source in a fixed order that no label has an influence on."""
    return hashlib.sha256(source.name.encode()).hexdigest()
