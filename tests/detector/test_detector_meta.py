"""Meta-training: the adversary's gradient arrives whole, the outer one is taken at the fast weights, the target brings no label."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_help import DIMENSIONS, QUICK, SHAPE, toy_source
from nightlog.detector.examples import Examples
from nightlog.detector.meta import Trainer, class_loss, class_mix, domain_loss, meta_train
from nightlog.detector.network import Network, predict
from nightlog.detector.patterns import Patterns
from nightlog.detector.training import fit
from torch import Tensor

EXACT = replace(QUICK, shape=replace(SHAPE, dropout=0.0), noise=0.0)
TRAIN, TEST, TARGET, NOBODY = np.arange(0, 16), np.arange(40, 56), np.arange(60, 76), np.arange(0)


def strange(name: str = "target", n: int = 40, seed: int = 7) -> Patterns:
    """An unlabelled system with the patterns of a toy source over vectors that no source has."""
    vectors = np.random.default_rng(seed).standard_normal((DIMENSIONS, DIMENSIONS)).astype(np.float32)
    return replace(toy_source(name, n=n, seed=seed).without_labels(), vectors=vectors / 3)


def trainer(**changed: object) -> Trainer:
    """A trainer over 30 patterns each of two sources and 40 of a target."""
    systems = [toy_source("one", n=30), toy_source("two", n=30, seed=5), strange()]
    return Trainer(replace(EXACT, **changed), Examples.of(systems))  # type: ignore[arg-type]


def gradients(loss: Tensor, network: Network) -> dict[str, Tensor]:
    """The gradient on each weight of the body."""
    body = {name: weight for name, weight in network.named_parameters() if not name.startswith("classifier")}
    return dict(zip(body, torch.autograd.grad(loss, list(body.values()), retain_graph=True), strict=True))


def flat(found: dict[str, Tensor]) -> Tensor:
    return torch.cat([each.ravel() for _, each in sorted(found.items())])


def clipped(gradient: Tensor) -> Tensor:
    return gradient * min(1.0, 1.0 / (float(gradient.norm()) + 1e-6))


def body_gradient(run: Trainer) -> Tensor:
    """What the last step left as the gradient of the body."""
    return flat({name: weight.grad for name, weight in run.body.items() if weight.grad is not None})


def loss_at(network: Network, run: Trainer, numbers: np.ndarray, target: np.ndarray) -> Tensor:
    """The whole loss of a network, written out with two plain gradients in the place of the reversal: class minus domain."""
    vectors, lengths, targets = run.batch(np.concatenate([numbers, target]))
    features, _ = network.features(vectors, lengths)
    known, foreign = features[: len(numbers)], features[len(numbers) :]
    loss = run.config.gamma * class_loss(run.network, known, targets[: len(numbers)])
    return loss - run.config.beta * domain_loss(run.discriminator, known, foreign, run.mix[numbers]) if len(target) else loss


# The adversary


def test_the_reversed_gradient_reaches_the_body_whole() -> None:
    """In the published code 0.25 % of it remains."""
    run = trainer(gamma=0.0)
    run.discriminator.eval()
    features = run.features(run.batch(np.concatenate([TRAIN, TARGET])))
    targets = torch.zeros(len(TRAIN))
    plain = flat(gradients(domain_loss(run.discriminator, features[:16], features[16:], run.mix[TRAIN]), run.network))
    turned = flat(gradients(run.loss(features, targets, run.mix[TRAIN]), run.network))
    assert float(plain.norm()) > 1e-3
    assert torch.allclose(turned, -plain, rtol=1e-5, atol=1e-8)
    run.config = replace(run.config, beta=0.5)
    assert torch.allclose(flat(gradients(run.loss(features, targets, run.mix[TRAIN]), run.network)), -plain / 2, rtol=1e-5, atol=1e-8)


def test_a_step_moves_the_body_by_the_reversed_gradient_and_nothing_else() -> None:
    run = trainer(gamma=0.0, alpha=0.0)
    run.discriminator.eval()
    before = deepcopy(run.network)
    run.step(TRAIN, TEST, TARGET)
    expected = flat(gradients(loss_at(before, run, TRAIN, TARGET), before))
    assert torch.allclose(body_gradient(run), clipped(expected), rtol=1e-4, atol=1e-7)
    assert float(body_gradient(run).norm()) > 1e-3


def test_the_steps_of_discriminator_and_classifier_leave_the_body_alone() -> None:
    run = trainer()
    before = {name: weight.detach().clone() for name, weight in run.body.items()}
    seen: list[str] = []

    def look(name: str) -> None:
        assert all(weight.grad is None for weight in run.body.values()), f"the {name}'s loss flowed into the body"
        assert all(torch.equal(weight, before[each]) for each, weight in run.body.items())
        seen.append(name)

    kept = {name: deepcopy(dict(part.named_parameters())) for name, part in (("c", run.network.classifier), ("d", run.discriminator))}
    _, classify, discriminate = run.optimizers
    discriminate.register_step_post_hook(lambda *_: look("discriminator"))
    classify.register_step_post_hook(lambda *_: look("classifier"))
    run.step(TRAIN, TEST, TARGET)
    assert seen == ["discriminator", "classifier"]
    assert any(not torch.equal(weight, before[name]) for name, weight in run.body.items())
    for name, part in (("c", run.network.classifier), ("d", run.discriminator)):
        assert any(not torch.equal(weight, kept[name][each]) for each, weight in part.named_parameters())


def test_without_a_target_the_adversary_rests() -> None:
    run = trainer()
    before = deepcopy(run.discriminator.state_dict())
    first = run.step(TRAIN, TEST, NOBODY)
    assert np.isfinite(first)
    assert all(torch.equal(weight, before[name]) for name, weight in run.discriminator.state_dict().items())


def test_the_adversary_compares_batches_of_the_same_class_mix() -> None:
    """A batch is half anomalous, a source's patterns are not; weighed, the batch has the source's mix in each class."""
    examples = Examples.of([toy_source("one", n=120), toy_source("two", n=80, seed=5), strange()])
    tasks = [np.arange(120), np.arange(120, 200)]
    mix = class_mix(examples, tasks)
    for task in tasks:
        drawn = examples.draw(task, 64, np.random.default_rng(0))
        bad = examples.targets[drawn] >= 0.5
        assert bad.mean() == 0.5 and mix[drawn].mean() == pytest.approx(1)
        assert mix[drawn][bad].sum() / mix[drawn].sum() == pytest.approx((examples.targets[task] >= 0.5).mean())
    run = trainer()
    run.discriminator.eval()
    known, foreign = torch.randn(4, 2 * SHAPE.hidden), torch.randn(4, 2 * SHAPE.hidden)
    only_first = domain_loss(run.discriminator, known, foreign, np.array([1, 0, 0, 0], dtype=np.float32))
    assert only_first.item() == pytest.approx(domain_loss(run.discriminator, known[:1], foreign, np.ones(1, dtype=np.float32)).item())


# First-order MAML


@pytest.mark.parametrize("target", [TARGET, NOBODY], ids=["target", "no target"])
def test_the_outer_gradient_is_taken_at_the_fast_weights(target: np.ndarray) -> None:
    run = trainer(inner_rate=2.0, alpha=0.7)
    run.discriminator.eval()
    before = deepcopy(run.network)
    run.step(TRAIN, TEST, target)

    inner = gradients(loss_at(before, run, TRAIN, target), before)
    fast = deepcopy(before)
    with torch.no_grad():
        for name, weight in fast.named_parameters():
            if name in inner:
                weight.sub_(2.0 * inner[name])
    outer = gradients(loss_at(fast, run, TEST, target), fast)
    expected = clipped(flat(inner) + 0.7 * flat(outer))
    assert torch.allclose(body_gradient(run), expected, rtol=1e-3, atol=1e-6)
    slow = gradients(loss_at(before, run, TEST, target), before)
    assert not torch.allclose(expected, clipped(flat(inner) + 0.7 * flat(slow)), rtol=1e-2, atol=1e-4), "the fast weights matter here"


def test_meta_training_and_meta_testing_use_different_sources_where_there_are_two() -> None:
    examples = Examples.of([toy_source("one", n=30), toy_source("two", n=30, seed=5)])
    pairs: list[tuple[set[int], set[int]]] = []
    step = Trainer.step

    def watched(run: Trainer, train: np.ndarray, test: np.ndarray, target: np.ndarray) -> float:
        pairs.append((set(examples.system[train].tolist()), set(examples.system[test].tolist())))
        return step(run, train, test, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", watched)
        meta_train(examples, [np.arange(30), np.arange(30, 60)], NOBODY, replace(QUICK, steps=12))
    assert {(*one, *other) for one, other in pairs} == {(0, 1), (1, 0)}


# What the target may bring


def weights_of(network: Network) -> Tensor:
    return flat(dict(network.state_dict()))


def test_the_target_is_never_in_a_class_loss() -> None:
    """Its targets are nan: one of them in the loss would make every weight nan."""
    sources, target = [toy_source("one"), toy_source("two", seed=5)], strange()
    assert torch.isfinite(weights_of(fit(sources, [target], replace(QUICK, steps=5)))).all()
    run = trainer()
    assert all(np.isfinite(run.step(TRAIN, TEST, TARGET)) for _ in range(5))
    assert np.isnan(run.examples.targets[TARGET]).all()


def test_labels_of_the_target_change_nothing_and_its_patterns_do() -> None:
    short = replace(QUICK, steps=8)
    one, target = toy_source("one"), toy_source("target", seed=3)
    unlabelled = weights_of(fit([one], [target.without_labels()], short))
    for labels in (target.anomalous, 1 - target.anomalous):
        assert torch.equal(weights_of(fit([one], [replace(target, anomalous=labels)], short)), unlabelled)
    assert not torch.equal(weights_of(fit([one], [strange()], short)), unlabelled)
    assert not torch.equal(weights_of(fit([one], [], short)), unlabelled)


def test_the_adversary_makes_source_and_target_hard_to_tell() -> None:
    """The features of a target with other vectors come nearer to those of the sources than they do without the adversary."""
    sources, target = [toy_source("one"), toy_source("two", seed=5)], strange(n=120)

    def apart(beta: float) -> float:
        gaps = []
        for seed in range(3):
            run = replace(QUICK, beta=beta, seed=seed)
            network = fit(sources, [target], run)
            found = Examples.of([*sources, target])
            with torch.inference_mode():
                features = Trainer(run, found, deepcopy(network)).features(Trainer(run, found).batch(np.arange(len(found.rows))))
            known, foreign = features[found.system < 2], features[found.system == 2]
            gaps.append(float((known.mean(0) - foreign.mean(0)).norm() / (known.std(0).norm() + foreign.std(0).norm())))
        return float(np.mean(gaps))

    assert apart(1.0) < apart(0.0)


# Seeds


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    short = replace(QUICK, steps=8)
    sources, target = [toy_source("one"), toy_source("two", seed=5)], [strange()]
    first = weights_of(fit(sources, target, short))
    torch.manual_seed(123)
    np.random.seed(5)
    assert torch.equal(weights_of(fit(sources, target, short)), first)
    assert not torch.equal(weights_of(fit(sources, target, replace(short, seed=1))), first)


def test_no_thread_count_changes_a_weight() -> None:
    short, before = replace(QUICK, steps=8), torch.get_num_threads()
    sources, target = [toy_source("one"), toy_source("two", seed=5)], [strange()]
    first = weights_of(fit(sources, target, short))
    torch.set_num_threads(2)
    try:
        assert torch.equal(weights_of(fit(sources, target, short)), first)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_sources", [1, 2])
@pytest.mark.parametrize("with_target", [False, True])
def test_toy_sources_are_learnt_from_one_or_two_with_and_without_a_target(n_sources: int, with_target: bool) -> None:
    sources = [toy_source("one"), toy_source("two", seed=5)][:n_sources]
    network = fit(sources, [toy_source("new", seed=11).without_labels()] if with_target else [], QUICK)
    assert not network.training
    stranger = toy_source("stranger", seed=99)
    examples = Examples.of([stranger])
    probabilities, _ = predict(network, examples.rows, examples.table)
    assert probabilities[stranger.anomalous == 1].min() > probabilities[stranger.anomalous == 0].max()
