"""MetaProto and, on the same features, the learners beside it, as modes of the benchmark.

Support of a mode: `metaproto` has the drift-labelled sample, so no true label; `metaproto@K` asks the case's oracle for K patterns that it
chooses without labels. `learner:NAME` knows the sources alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightlog.detector.metaproto.detector import HALF, Fold, MetaProto, Options, adapted, examples_to_label, learn, two_classes
from nightlog.detector.metaproto.few_shot import Task, oversample
from nightlog.detector.metaproto.selection import class_weights
from nightlog.detector.metaproto.threshold import HeldOut, Rule, choose_rule, sigmoid
from nightlog.detector.metaproto.view import View, scaled
from nightlog.detector.patterns import Source
from nightlog.errors import ConfigError
from nightlog.evaluation.case import Case, Judgement, Mode
from nightlog.evaluation.once import once

SHOTS = (5, 10, 20)
BINS = 32  # weighted quantiles of 200 columns take longer than the boosting itself; some hundred patterns have no more to tell
LEARNERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "gradient_boosting": lambda seed: HistGradientBoostingClassifier(max_bins=BINS, random_state=seed),
    "logistic_regression": lambda seed: LogisticRegression(C=0.1, max_iter=1000),
    "random_forest": lambda seed: RandomForestClassifier(n_estimators=100, min_samples_leaf=2, random_state=seed, n_jobs=1),
}


def metaproto(case: Case) -> Judgement:
    """Zero labels: the sources, and the target's drift-labelled sample as far as there is one."""
    return _said(_fitted(case), case)


def metaproto_asking(k: int) -> Mode:
    """The mode with k answers of the case's oracle, about patterns that are chosen without labels.

    It raises ConfigError where the case has no oracle with so many answers.
    """

    def mode(case: Case) -> Judgement:
        if case.oracle is None or case.answers < k:
            raise ConfigError(f"metaproto@{k} on {case.target}: needs an oracle with {k} answers, got {case.answers}")
        detector = _fitted(case)
        numbers = examples_to_label(detector, case.adaptation, k)
        labelled = {number: case.oracle([case.adaptation.questions[number]]) for number in numbers}
        return _said(detector.with_labels(case.adaptation, labelled), case)

    return mode


def learner(name: str) -> Mode:
    """The mode of a learner trained on the sources: features, their choice, SMOTE, weights and threshold are those of MetaProto.

    Raises ConfigError where the learner is not known.
    """
    if name not in LEARNERS:
        raise ConfigError(f"no learner `{name}`; known: {', '.join(LEARNERS)}")

    def mode(case: Case) -> Judgement:
        model, chosen, rule = once(f"learner {name}", case.seed, case.sources, lambda: _learnt(name, case.sources, case.seed))
        view = View.of(case.adaptation)
        at = rule.threshold(_logits(model, scaled(view.see(case.adaptation), chosen)), case.adaptation.sessions)
        probability = sigmoid(_logits(model, scaled(view.see(case.test), chosen)) - at)
        detail = {"threshold_split": float(rule.kind == "split"), "threshold_logit": at, "held_out_f1": rule.held_out_f1}
        return Judgement(probability, probability >= HALF, detail=detail)

    return mode


def metaproto_with_examples(case: Case) -> Judgement:
    """MetaProto with as many labelled examples as the case grants: none, or k."""
    return metaproto_asking(case.answers)(case) if case.answers else metaproto(case)


METAPROTO_MODES: dict[str, Mode] = {"metaproto": metaproto_with_examples} | {f"learner:{name}": learner(name) for name in LEARNERS}


def _fitted(case: Case) -> MetaProto:
    """Return what the sources teach is the same with any number of examples: it is learnt once."""
    return adapted(once("metaproto", case.seed, case.sources, lambda: learn(case.sources, case.seed)), case.adaptation)


def _learnt(name: str, sources: Sequence[Source], seed: int) -> tuple[ClassifierMixin, np.ndarray, Rule]:
    """A learner trained on all sources, the columns that it reads, and the rule of its threshold from sources held out in turn."""
    selector, scored = Options().selector, []
    for number, held in enumerate(sources):
        others = [source for i, source in enumerate(sources) if i != number]
        if two_classes([held]) and two_classes(others):
            inner = Fold.of(others, selector)
            logit = _logits(_trained(name, inner, seed), scaled(View.of(held).see(held), inner.chosen))
            scored.append(HeldOut(logit, held.sessions * held.anomalous, held.sessions * (1 - held.anomalous)))
    fold = Fold.of(sources, selector)
    return _trained(name, fold, seed), fold.chosen, choose_rule(scored)


def _said(detector: MetaProto, case: Case) -> Judgement:
    probability = detector.probability(case.test)
    return Judgement(probability, probability >= HALF, detail=detector.detail)


def _logits(model: ClassifierMixin, x: np.ndarray) -> np.ndarray:
    said = model.predict_proba(x)[:, 1].astype(float).clip(1e-9, 1 - 1e-9) if len(x) else np.zeros(0)
    return np.asarray(np.log(said / (1 - said)))


def _trained(name: str, fold: Fold, seed: int) -> ClassifierMixin:
    tasks: list[Task] = [oversample(task, seed) for task in fold.tasks]
    weight = np.concatenate([class_weights(task.bad, task.sessions) for task in tasks])
    x, bad = np.concatenate([task.x for task in tasks]), np.concatenate([task.bad for task in tasks])
    with threadpool_limits(1):  # threads that wait for each other on busy cores take minutes for what one does in seconds
        return LEARNERS[name](seed).fit(x, bad, sample_weight=weight * len(weight) / weight.sum())
