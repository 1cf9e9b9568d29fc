"""Training: deterministic, learns what there is to learn and nothing else, thresholds from sources alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_help import QUICK, toy_source
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.detector.training import NEVER, Examples, Trained, balanced_weights, best_threshold, f1_at, held_out, predict, train
from nightlog.errors import ConfigError


@pytest.fixture(scope="module")
def taught() -> Trained:
    return train([toy_source("one")], QUICK)


def same_weights(a: Trained, b: Trained) -> bool:
    ours, theirs = a.network.state_dict(), b.network.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_separable_problem_is_learned(taught: Trained) -> None:
    assert taught.metrics["held_out_average_precision"] > 0.97
    assert taught.metrics["held_out_f1"] > 0.9
    stranger = toy_source("stranger", seed=99)
    examples = Examples.of([stranger], 0.0)
    probabilities, attention = predict(taught.network, examples.rows, examples.table)
    assert ((probabilities >= taught.threshold) == (stranger.anomalous == 1)).mean() > 0.95
    bad = [weights[[number in (8, 9) for number in row]].sum() for row, weights in zip(examples.rows, attention, strict=True)]
    share = [np.mean([number in (8, 9) for number in row]) for row in examples.rows]
    found = np.array(bad)[stranger.anomalous == 1] > np.array(share)[stranger.anomalous == 1]
    assert found.mean() > 0.8, "the telling template gets more than its share of attention"


def test_shuffled_labels_teach_nothing() -> None:
    reached = [train([toy_source("one", n=240, seed=seed, shuffled=True)], QUICK).metrics for seed in range(2)]
    for seed, metrics in enumerate(reached):
        source = toy_source("one", n=240, seed=seed, shuffled=True)
        kept = held_out(source, QUICK.held_out)
        prevalence = (source.sessions * source.anomalous)[kept].sum() / source.sessions[kept].sum()
        assert abs(metrics["held_out_average_precision"] - prevalence) < 0.25
        assert metrics["held_out_average_precision"] < 0.6


def test_training_again_with_the_same_seed_gives_the_same_model(taught: Trained) -> None:
    again = train([toy_source("one")], QUICK)
    assert same_weights(again, taught)
    assert (again.threshold, again.foreign_threshold, again.metrics) == (taught.threshold, taught.foreign_threshold, taught.metrics)
    assert not same_weights(train([toy_source("one")], replace(QUICK, seed=1)), taught)


def test_the_threshold_is_the_best_one_on_held_out_source_patterns(taught: Trained) -> None:
    source = toy_source("one")
    examples = Examples.of([source], QUICK.held_out)
    kept = np.flatnonzero(held_out(source, QUICK.held_out))
    probabilities, _ = predict(taught.network, [examples.rows[i] for i in kept], examples.table)
    best, f1 = best_threshold([(probabilities, source.anomalous[kept], source.sessions[kept])])
    assert taught.threshold == max(0.5, best)
    assert taught.metrics["held_out_f1"] == f1
    assert taught.metrics["held_out_patterns"] == len(kept)


def test_one_source_says_nothing_about_foreign_systems(taught: Trained) -> None:
    assert taught.foreign_threshold == NEVER > 1


def test_two_sources_that_share_their_anomalies_give_a_threshold_for_foreign_systems() -> None:
    both = train([toy_source("one"), toy_source("two", seed=5)], QUICK)
    assert 0.5 <= both.foreign_threshold < 1
    assert both.metrics["left_out_source_f1"] > 0.9 > both.metrics["left_out_source_f1_always_anomalous"]


def test_sources_that_teach_each_other_nothing_never_speak_for_foreign_systems() -> None:
    """What is anomalous in one is everyday in the other."""
    one = toy_source("one", bad=(8,))
    other = replace(toy_source("two", seed=5, bad=(8,)), anomalous=1 - toy_source("two", seed=5, bad=(8,)).anomalous)
    found = train([one, other], QUICK)
    assert found.foreign_threshold == NEVER
    assert found.metrics["left_out_source_f1"] <= found.metrics["left_out_source_f1_always_anomalous"]


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_sources_of_one_class_alone_are_refused(label: float) -> None:
    source = replace(toy_source("one"), anomalous=np.full(120, label))
    with pytest.raises(ConfigError, match="both normal and anomalous"):
        train([source], QUICK)


def test_what_is_held_out_stays_so_when_patterns_are_added() -> None:
    small, large = toy_source("one", n=100), toy_source("one", n=400)
    kept = held_out(large, 0.25)
    assert held_out(small, 0.25).tolist() == kept[:100].tolist()
    assert 0.15 < kept.mean() < 0.35
    assert held_out(toy_source("two", n=400), 0.25).tolist() != kept.tolist()
    assert not held_out(small, 0).any() and held_out(small, 1).all()


def test_both_classes_weigh_the_same_and_frequent_patterns_more() -> None:
    source = toy_source("one")
    weights = balanced_weights(source)
    bad = source.anomalous == 1
    assert weights[bad].sum() == pytest.approx(weights[~bad].sum())
    assert weights.mean() == pytest.approx(1)
    for members in (bad, ~bad):
        assert np.array_equal(np.argsort(weights[members], kind="stable"), np.argsort(source.sessions[members], kind="stable"))
    alone = replace(source, anomalous=np.zeros(120))
    assert balanced_weights(alone).mean() == pytest.approx(1)


def test_sources_are_stacked_with_their_own_templates() -> None:
    one, two = toy_source("one", n=3), toy_source("two", n=2, seed=1)
    examples = Examples.of([one, two], 0.0)
    assert examples.source.tolist() == [0, 0, 0, 1, 1]
    assert {number // 12 for row in examples.rows[:3] for number in row} == {0}
    assert {number // 12 for row in examples.rows[3:] for number in row} == {1}
    assert examples.table.shape == (24, 12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 20)), min_size=2, max_size=15))
def test_no_threshold_is_better_than_the_best(rows: list[tuple[float, float, int]]) -> None:
    probabilities, anomalous, sessions = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    _, reached = best_threshold([(probabilities, anomalous, sessions)])
    tried = [f1_at(probabilities, anomalous, sessions, at) for at in (*np.unique(probabilities), 0.0)]
    assert reached == pytest.approx(max(tried))


def test_f1_counts_sessions_and_not_patterns() -> None:
    probabilities, sessions = np.array([0.9, 0.8, 0.1]), np.array([10, 30, 60])
    assert f1_at(probabilities, np.array([1.0, 0.0, 0.0]), sessions, 0.5) == pytest.approx(2 * 10 / (40 + 10))
    assert f1_at(probabilities, np.array([1.0, 0.0, 0.0]), sessions, 0.85) == 1
    assert f1_at(probabilities, np.array([0.5, 0.0, 0.0]), sessions, 0.85) == pytest.approx(2 * 5 / (10 + 5))
    assert f1_at(probabilities, np.array([1.0, 0.0, 0.0]), sessions, 2.0) == 0
