from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nightlog.detector.metaproto.few_shot import Config, Embedding, Support, Task, adapt, anomaly_logits, meta_train, oversample
from nightlog.detector.metaproto.threshold import HeldOut, choose_rule, split_point

WIDTH = 10
CONFIG = Config(hidden=16, embedding=8, episodes=20)


def task(name: str, seed: int = 0, n: int = 80, bad: int = 12, at: int = 0) -> Task:
    """Anomalous are the last `bad`: their feature number `at` is large."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, WIDTH)).astype(np.float32)
    x[n - bad :, at] += 6
    return Task(name, x, np.arange(n) >= n - bad, random.integers(1, 50, n))


def said(config: Config = CONFIG, seed: int = 0, support: Support | None = None, at: int = 0) -> np.ndarray:
    networks = meta_train([task("a", 1), task("b", 2)], config, seed)
    return anomaly_logits(networks, task("c", 3, at=at).x, support or Support.none(WIDTH), config)


def test_without_support_the_sources_prototypes_tell_a_like_system_apart() -> None:
    logits = said()
    assert (logits[-12:] > 0).mean() > 0.9 and (logits[:-12] < 0).mean() > 0.9


def test_support_teaches_what_the_sources_do_not_know() -> None:
    """On the target, another feature makes the anomaly."""
    target = task("c", 3, at=5)
    chosen = np.array([0, 1, 2, 3, 4, -1, -2, -3, -4, -5])
    support = Support(target.x[chosen], target.bad[chosen], np.ones(10))
    before, after = said(at=5), said(at=5, support=support)
    assert ((after > 0) == target.bad).mean() > max(0.9, ((before > 0) == target.bad).mean())


def test_the_seed_decides_and_nothing_else() -> None:
    np.testing.assert_array_equal(said(seed=4), said(seed=4))
    assert (said(seed=4) != said(seed=5)).any()


@pytest.mark.parametrize("bad", [True, False])
def test_a_support_of_one_class_does_not_take_over(bad: bool) -> None:
    target = task("c", 3)
    rows = np.flatnonzero(target.bad == bad)[:3]
    logits = said(support=Support(target.x[rows], target.bad[rows], np.ones(3)))
    assert 0 < (logits > 0).sum() < len(logits)


def test_training_follows_the_episodes() -> None:
    assert (said(replace(CONFIG, episodes=0)) != said()).any()


def test_the_outer_loss_reaches_the_weights_through_the_prototypes() -> None:
    torch.manual_seed(0)
    network, target = Embedding(WIDTH, CONFIG), task("c", 3)
    support = Support(target.x[[0, 1, -1, -2]], target.bad[[0, 1, -1, -2]], np.ones(4))
    _, head, shift = adapt(network, network.prototypes, support, CONFIG, 3)
    torch.autograd.backward((head**2).sum() + (shift**2).sum())
    assert network.straight.weight.grad is not None and network.straight.weight.grad.abs().sum() > 0


def test_oversampling_fills_up_the_rarer_class_between_its_own_points() -> None:
    before = task("a")
    after = oversample(before, 0)
    assert after.bad.sum() == (~after.bad).sum() == (~before.bad).sum()
    np.testing.assert_array_equal(after.x[: len(before.x)], before.x)
    made = after.x[len(before.x) :]
    assert (made >= before.x[before.bad].min(axis=0) - 1e-5).all() and (made <= before.x[before.bad].max(axis=0) + 1e-5).all()


@pytest.mark.parametrize("bad", [0, 1, 80])
def test_a_class_of_one_point_is_left_alone(bad: int) -> None:
    before = task("a", bad=bad)
    assert oversample(before, 0) is before


def test_the_split_is_where_the_scores_part() -> None:
    random = np.random.default_rng(0)
    logit = np.concatenate([random.normal(-20, 1, 90), random.normal(-8, 1, 10)])
    assert -17 < split_point(logit, np.ones(100)) < -10
    assert split_point(np.array([2.0, 2.0]), np.array([1, 1])) > 2
    assert split_point(np.zeros(0), np.zeros(0)) == 0


def test_sources_whose_scores_lie_apart_from_each_other_ask_for_the_split() -> None:
    low = HeldOut(np.array([-9.0, -5.0]), np.array([0.0, 9.0]), np.array([90.0, 0.0]))
    high = HeldOut(np.array([-2.0, 3.0]), np.array([0.0, 9.0]), np.array([90.0, 0.0]))
    assert choose_rule([low, high]).kind == "split"
    assert choose_rule([low]).threshold(low.logit, low.normal + low.anomalous) == pytest.approx(-7)
    assert choose_rule([]).threshold(low.logit, low.normal) == 0
