from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from metaproto_help import QUICK, fit, system, unlabelled
from nightlog.detector.metaproto import detector as module
from nightlog.detector.metaproto.detector import Fold, MetaProto, examples_to_label
from nightlog.detector.metaproto.few_shot import Support
from nightlog.detector.metaproto.selection import Selector, class_weights, select_features
from nightlog.detector.patterns import Patterns, Source
from nightlog.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SOURCES = (system("a", seed=1), system("b", seed=2))
TARGET = system("c", seed=3)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fitted(spark: SparkSession) -> Iterator[MetaProto]:
    yield fit(SOURCES, unlabelled(TARGET), 0, QUICK)


def noise(n: int = 200, width: int = 20, seed: int = 0) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Columns 3 and 7 tell the label, the others nothing; column 5 is constant."""
    random = np.random.default_rng(seed)
    x, bad = random.standard_normal((n, width)).astype(np.float32), random.random(n) < 0.3
    x[bad, 3] += 3
    x[bad, 7] -= 3
    x[:, 5] = 1
    return "s", x, bad, random.integers(1, 9, n)


def test_the_columns_that_tell_are_kept(spark: SparkSession) -> None:
    chosen = select_features(spark, [noise(), noise(seed=1)], Selector(keep=2, trees=10, depth=3))
    assert chosen.chosen.tolist() == [3, 7] and chosen.score[5] == 0
    assert select_features(spark, [noise()], Selector(keep=99, trees=3, depth=2)).chosen.tolist() == list(range(20))


def test_sessions_weigh_and_classes_are_balanced() -> None:
    weight = class_weights(np.array([True, False, False]), np.array([5, 1, 9]))
    assert weight.tolist() == pytest.approx([0.5, 0.125, 0.375])


def test_anomalies_of_a_like_system_are_found_without_its_labels(fitted: MetaProto) -> None:
    flagged = fitted.probability(TARGET) >= 0.5
    assert flagged[TARGET.anomalous > 0].mean() > 0.8 and flagged[TARGET.anomalous == 0].mean() < 0.2
    assert fitted.detail["drift_normal"] == fitted.detail["drift_anomalous"] == fitted.detail["drift_support"] == 0
    assert fitted.support.bad.any() and not fitted.support.bad.all()


def test_without_both_ends_there_is_no_support_of_its_own(fitted: MetaProto) -> None:
    none = module.support_without_labels(fitted.networks, np.ones((5, 30), dtype=np.float32), np.ones(5), QUICK.few_shot)
    assert not len(none.x)


def test_labels_of_one_class_leave_the_other_as_it_was(fitted: MetaProto) -> None:
    labelled = fitted.with_labels(unlabelled(TARGET), {1: False, 2: False})
    assert (~labelled.support.bad).sum() == 2 and labelled.support.bad.sum() == fitted.support.bad.sum()


def test_the_order_of_patterns_changes_no_score(fitted: MetaProto) -> None:
    order = np.random.default_rng(0).permutation(len(TARGET.ids))
    target = unlabelled(TARGET)
    np.testing.assert_allclose(fitted.probability(target.take(order)), fitted.probability(target)[order], atol=1e-4)
    assert fitted.probability(target.take([])).shape == (0,)


def test_the_same_seed_gives_the_same_scores(fitted: MetaProto) -> None:
    target = unlabelled(TARGET)
    np.testing.assert_array_equal(fit(SOURCES, target, 0, QUICK).probability(target), fitted.probability(target))
    assert (fit(SOURCES, target, 1, QUICK).probability(target) != fitted.probability(target)).any()


def test_the_target_has_no_say_on_columns_and_networks(fitted: MetaProto) -> None:
    other = fit(SOURCES, unlabelled(system("d", seed=8, templates=11)), 0, QUICK)
    np.testing.assert_array_equal(other.chosen, fitted.chosen)
    for one, two in zip(fitted.networks[0].state_dict().values(), other.networks[0].state_dict().values(), strict=True):
        assert (one == two).all()


def test_a_held_out_source_is_seen_by_neither_selection_nor_oversampling(monkeypatch: pytest.MonkeyPatch, spark: SparkSession) -> None:
    trained: list[list[str]] = []
    selected: list[list[str]] = []
    train, select = module.meta_train, module.select_features
    monkeypatch.setattr(module, "_selected", {})
    monkeypatch.setattr(module, "meta_train", lambda tasks, *rest: trained.append([t.system for t in tasks]) or train(tasks, *rest))
    monkeypatch.setattr(
        module, "select_features", lambda s, parts, *rest: selected.append([p[0] for p in parts]) or select(s, parts, *rest)
    )
    fold = Fold.of(SOURCES, QUICK.selector)
    found = module.held_out(fold, QUICK, 0)
    assert selected == [["a", "b"], ["b"], ["a"]] and trained == [["b"], ["a"]]
    assert [len(each.logit) for each in found] == [60, 60]


def test_labels_take_the_place_of_the_drift_sample(fitted: MetaProto) -> None:
    target = unlabelled(TARGET)
    numbers = [0, 1, 2, 5, 6, 10]
    labelled = fitted.with_labels(target, {number: not bool(TARGET.anomalous[number]) for number in numbers})
    assert labelled.support.x.shape[0] == 6 and labelled.detail["labelled"] == 6
    assert labelled.probability(target)[TARGET.anomalous == 0].mean() > labelled.probability(target)[TARGET.anomalous > 0].mean()
    assert fitted.with_labels(target, {}) is fitted


def test_a_target_that_shares_templates_gets_a_drift_sample(spark: SparkSession) -> None:
    again = replace(SOURCES[0], name="like a", anomalous=SOURCES[0].anomalous)
    found = fit(SOURCES, unlabelled(again), 0, replace(QUICK, drifts=(replace(QUICK.drifts[0], normal=30.0),)))
    assert found.detail["drift_anomalous"] > 5 and found.detail["drift_normal"] > 5
    assert ((found.probability(again) >= 0.5) == (again.anomalous > 0)).mean() > 0.9


def test_examples_are_chosen_without_regard_to_order(fitted: MetaProto) -> None:
    target: Patterns = unlabelled(TARGET)
    order = np.random.default_rng(0).permutation(len(target.ids))
    mixed = target.take(order)
    chosen = examples_to_label(fitted, target, 8)
    assert len(set(chosen)) == 8 and len(examples_to_label(fitted, target, 999)) == 60
    assert [mixed.ids[i] for i in examples_to_label(fitted, mixed, 8)] == [target.ids[i] for i in chosen]


def test_nothing_to_learn_from_is_said(fitted: MetaProto) -> None:
    normal: Source = replace(SOURCES[0], anomalous=np.zeros(60))
    with pytest.raises(ConfigError, match="nothing to learn from"):
        fit([normal], unlabelled(TARGET), 0, QUICK)


def test_one_source_is_enough_to_fit(spark: SparkSession) -> None:
    alone = fit(SOURCES[:1], unlabelled(TARGET), 0, QUICK)
    assert alone.detail["held_out_f1"] == 0 and isinstance(alone.support, Support)
