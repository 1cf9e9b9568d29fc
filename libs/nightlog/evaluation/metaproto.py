"""MetaProto and, on the same features, the learners beside it, as modes of the evaluation.

`metaproto` has no label of the target; `metaproto+Kanswers` asks the case's oracle about K patterns that it chooses without labels.
`learner:NAME` knows the sources alone; its threshold is a probability of one half, both classes weighing the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightlog.detector.metaproto.detector import HALF, adapted, ask, learn, teachers
from nightlog.detector.metaproto.features import View
from nightlog.detector.metaproto.learning import Config, Task, oversample, stacked
from nightlog.errors import ConfigError
from nightlog.evaluation.case import Case, Judgement, Mode
from nightlog.evaluation.once import once

LEARNERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "gradient_boosting": lambda seed: HistGradientBoostingClassifier(max_bins=32, random_state=seed),
    "logistic_regression": lambda seed: LogisticRegression(C=0.1, max_iter=1000),
    "random_forest": lambda seed: RandomForestClassifier(n_estimators=100, min_samples_leaf=5, max_depth=6, random_state=seed, n_jobs=1),
}


def metaproto(case: Case) -> Judgement:
    """MetaProto with as many labelled examples as the case grants: none, or k. Raises ConfigError if there is no oracle for k answers."""
    source_model = once("metaproto", case.seed, case.sources, lambda: learn(case.sources, case.seed, Config()))
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
