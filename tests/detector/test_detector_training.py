"""Training: deterministic, learns what there is to learn and nothing else, thresholds from sources alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_help import QUICK, toy_source
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.detector import training
from nightlog.detector.calibration import Calibration, best_threshold, f1_at
from nightlog.detector.examples import Examples, held_out
from nightlog.detector.meta import Config
from nightlog.detector.network import Network, predict
from nightlog.detector.patterns import Patterns, Source
from nightlog.detector.training import Trained, Transfer, fit, measure_transfer, train, with_shape
from nightlog.errors import ConfigError

ONE, TWO = toy_source("one"), toy_source("two", seed=5)
SHORT = replace(QUICK, steps=8)


@pytest.fixture(scope="module")
def taught() -> Trained:
    return train([ONE], [], QUICK)


def same_weights(a: Trained, b: Trained) -> bool:
    ours, theirs = a.network.state_dict(), b.network.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_separable_problem_is_learned(taught: Trained) -> None:
    assert taught.metrics["held_out_average_precision"] > 0.97
    assert taught.metrics["held_out_f1"] > 0.9
    stranger = toy_source("stranger", seed=99)
    examples = Examples.of([stranger])
    probabilities, attention = predict(taught.network, examples.rows, examples.table)
    assert ((probabilities >= 0.5) == (stranger.anomalous == 1)).mean() > 0.95
    bad = [weights[[number in (8, 9) for number in row]].sum() for row, weights in zip(examples.rows, attention, strict=True)]
    share = [np.mean([number in (8, 9) for number in row]) for row in examples.rows]
    found = np.array(bad)[stranger.anomalous == 1] > np.array(share)[stranger.anomalous == 1]
    assert found.mean() > 0.8, "the telling template gets more than its share of attention"


def test_shuffled_labels_teach_nothing() -> None:
    reached = [train([toy_source("one", n=240, seed=seed, shuffled=True)], [], QUICK).metrics for seed in range(2)]
    for seed, metrics in enumerate(reached):
        source = toy_source("one", n=240, seed=seed, shuffled=True)
        kept = held_out(source, QUICK.held_out)
        prevalence = (source.sessions * source.anomalous)[kept].sum() / source.sessions[kept].sum()
        assert abs(metrics["held_out_average_precision"] - prevalence) < 0.25
        assert metrics["held_out_average_precision"] < 0.6


def test_sources_with_shuffled_labels_never_speak_for_foreign_systems() -> None:
    """The negative control of the transfer: what was learnt from shuffled labels ranks a left-out source by chance."""
    sources = [toy_source(name, n=240, seed=seed, shuffled=True) for name, seed in (("one", 0), ("two", 5))]
    found = measure_transfer(sources, QUICK)
    assert abs(found.calibration.slope) < 0.2
    assert found.f1 < found.trivial_f1 + 0.1 and not found.trusted


def test_training_again_with_the_same_seed_gives_the_same_model(taught: Trained) -> None:
    again = train([ONE], [], QUICK)
    assert same_weights(again, taught)
    assert (again.transfer, again.metrics) == (taught.transfer, taught.metrics)
    assert not same_weights(train([ONE], [], replace(QUICK, seed=1)), taught)


def test_the_metrics_are_measured_on_held_out_source_patterns(taught: Trained) -> None:
    examples = Examples.of([ONE])
    kept = np.flatnonzero(held_out(ONE, QUICK.held_out))
    probabilities, _ = predict(taught.network, [examples.rows[i] for i in kept], examples.table)
    _, f1 = best_threshold([(probabilities, ONE.anomalous[kept], ONE.sessions[kept])])
    assert taught.metrics["held_out_f1"] == f1
    assert taught.metrics["held_out_patterns"] == len(kept)


def test_held_out_patterns_teach_nothing() -> None:
    """Wrong labels on the patterns that are kept from training leave every weight as it is, and are seen by the held-out score."""
    kept = held_out(ONE, QUICK.held_out)
    turned = replace(ONE, anomalous=np.where(kept, 1 - ONE.anomalous, ONE.anomalous))
    honest, fooled = (train([source], [], SHORT) for source in (ONE, turned))
    assert same_weights(honest, fooled)
    assert honest.metrics["held_out_average_precision"] != fooled.metrics["held_out_average_precision"]


# The word of the model on foreign systems


def test_one_source_says_nothing_about_foreign_systems(taught: Trained) -> None:
    assert taught.transfer == measure_transfer([ONE], QUICK) == Transfer(Calibration(), None, 0.0, 0.0)
    assert not taught.transfer.trusted and not taught.transfer.flags(np.ones(3)).any()


@pytest.mark.parametrize(("threshold", "f1", "trusted"), [(0.4, 0.9, True), (0.4, 0.5, True), (0.4, 0.49, False), (None, 0.9, False)])
def test_a_word_is_trusted_that_beats_the_trivial_one_and_is_right_more_often_than_not(threshold: float, f1: float, trusted: bool) -> None:
    assert Transfer(Calibration(), threshold, f1, 0.1).trusted is trusted


def test_a_source_of_one_class_says_nothing_about_foreign_systems() -> None:
    assert measure_transfer([ONE, replace(TWO, anomalous=np.zeros(120))], SHORT).threshold is None


def test_two_sources_that_share_their_anomalies_give_a_threshold_for_foreign_systems() -> None:
    found = measure_transfer([ONE, TWO], QUICK)
    assert 0 < found.threshold < 1 and found.calibration.slope > 0.5
    assert found.f1 > 0.9 > found.trivial_f1 and found.trusted


def test_a_left_out_source_is_looked_at_as_a_new_system_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patterns take part as the target's do, without labels, and it teaches nothing."""
    seen: list[tuple[list[str], list[tuple[str, type]]]] = []

    def watched(sources: Sequence[Source], target: Sequence[Patterns], config: Config) -> Network:
        seen.append(([each.name for each in sources], [(each.name, type(each)) for each in target]))
        return fit(sources, target, config)

    monkeypatch.setattr(training, "fit", watched)
    measure_transfer([ONE, TWO], SHORT)
    assert seen == [(["two"], [("one", Patterns)]), (["one"], [("two", Patterns)])]


def test_sources_that_teach_each_other_nothing_never_speak_for_foreign_systems() -> None:
    """What is anomalous in one is everyday in the other."""
    one = toy_source("one", bad=(8,))
    other = replace(toy_source("two", seed=5, bad=(8,)), anomalous=1 - toy_source("two", seed=5, bad=(8,)).anomalous)
    found = measure_transfer([one, other], QUICK)
    assert found.threshold is None and found.calibration.slope == 0
    assert found.f1 <= found.trivial_f1


def test_the_order_of_the_sources_does_not_change_what_their_word_is_worth() -> None:
    one, other = measure_transfer([ONE, TWO], SHORT), measure_transfer([TWO, ONE], SHORT)
    assert (one.f1, one.trivial_f1) == pytest.approx((other.f1, other.trivial_f1))
    assert one.threshold == pytest.approx(other.threshold, abs=1e-3)
    assert one.calibration.slope == pytest.approx(other.calibration.slope, rel=1e-2, abs=1e-2)


def test_no_label_of_a_target_is_read_in_choosing_anything() -> None:
    """In the published code the checkpoint is chosen by F1 on the target's test labels."""
    target = toy_source("target", seed=3)
    given: list[Patterns] = [target.without_labels(), target, replace(target, anomalous=1 - target.anomalous)]
    first, *others = (train([ONE, TWO], [each], SHORT) for each in given)
    for other in others:
        assert same_weights(first, other)
        assert (first.transfer, first.metrics) == (other.transfer, other.metrics)


def test_the_patterns_of_a_target_have_no_part_in_what_the_sources_say_of_foreign_systems() -> None:
    first, other = (train([ONE, TWO], target, SHORT) for target in ([], [toy_source("t", seed=4, bad=(1,)).without_labels()]))
    assert not same_weights(first, other)
    assert first.transfer == other.transfer
    assert first.metrics["held_out_patterns"] == other.metrics["held_out_patterns"]


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_sources_of_one_class_alone_are_refused(label: float) -> None:
    source = replace(ONE, anomalous=np.full(120, label))
    with pytest.raises(ConfigError, match="both normal and anomalous"):
        train([source], [], QUICK)
    with pytest.raises(ConfigError, match="both normal and anomalous"):
        train([source, replace(source, name="again")], [TWO], QUICK)


def test_sources_of_a_few_patterns_can_be_learnt_from() -> None:
    """Whatever part of them the hash holds out."""
    for n in (2, 3, 5):
        for seed in range(12):
            tiny = replace(toy_source(f"tiny{seed}", n=8, seed=seed).take(range(n)), name=f"tiny{seed}")
            assert train([tiny], [], replace(QUICK, steps=2)).metrics["held_out_patterns"] > 0


def test_the_shape_follows_the_vectors() -> None:
    assert with_shape(QUICK, 77) == replace(QUICK, shape=replace(QUICK.shape, dimensions=77))


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
