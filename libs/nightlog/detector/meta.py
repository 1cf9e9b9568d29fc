"""Meta-training of the small model: source tasks, an adversary that hides the domain, first-order MAML.

Source: GeneralLog, arXiv 2511.05882, and FusionLog, 2511.05878 (steps and optimiser); Finn et al. 2017, first-order MAML; Ganin &
Lempitsky 2015, gradient reversal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nightlog.detector.examples import Examples, share
from nightlog.detector.manifest import Shape
from nightlog.detector.network import Discriminator, Network, reverse_gradient, to_tensors
from nightlog.encoding.encoder import one_thread, pick_device

Batch = tuple[Tensor, Tensor, Tensor]
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """The training of the small model: `alpha` weighs the meta-test loss, `beta` the adversary's, `gamma` the classifier's."""

    shape: Shape = Shape()
    steps: int = 150
    batch: int = 32
    learning_rate: float = 2e-3
    inner_rate: float = 2e-3
    decay: float = 0.75
    decay_steps: int = 1000
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    noise: float = 0.02
    held_out: float = 0.25
    anchor: float = 1e-3
    seed: int = 0
    device: str = "auto"


class Trainer:
    """A network, its adversary, their optimisers, and the random numbers of one training.

    `mix` (n examples,) weighs source examples in the adversary's loss; see `class_mix`.
    """

    def __init__(self, config: Config, examples: Examples, network: Network | None = None):
        torch.manual_seed(config.seed)
        self.config, self.examples, self.mix = config, examples, np.ones(len(examples.rows), dtype=np.float32)
        self.random = np.random.default_rng(config.seed)
        self.device = pick_device(config.device)
        self.network = (network or Network(config.shape)).to(self.device).train()
        self.discriminator = Discriminator(config.shape).to(self.device).train()
        self.classifier = dict(self.network.classifier.named_parameters(prefix="classifier"))
        self.body = {name: each for name, each in self.network.named_parameters() if name not in self.classifier}
        groups = (self.body, self.classifier, dict(self.discriminator.named_parameters()))
        self.optimizers = [torch.optim.Adam(list(group.values()), lr=config.learning_rate, betas=(0.9, 0.9), eps=1e-12) for group in groups]
        self.schedules = [torch.optim.lr_scheduler.StepLR(each, config.decay_steps, config.decay) for each in self.optimizers]

    def batch(self, numbers: np.ndarray) -> Batch:
        """Examples as (vectors with noise, lengths, shares of anomalous)."""
        vectors, lengths = to_tensors([self.examples.rows[i] for i in numbers], self.examples.table)
        targets = torch.from_numpy(self.examples.targets[numbers])
        return (vectors + self.config.noise * torch.randn_like(vectors)).to(self.device), lengths, targets.to(self.device)

    def features(self, batch: Batch, body: Parameters | None = None) -> Tensor:
        """Features of a batch, by the network's own weights or by others for its body."""
        weights = (body or self.body) | self.classifier
        features: Tensor = functional_call(Features(self.network), {f"network.{k}": v for k, v in weights.items()}, batch[:2])
        return features

    def step(self, train: np.ndarray, test: np.ndarray, target: np.ndarray) -> float:
        """One step over examples of sources for meta-training and for meta-testing, and unlabelled ones of the target, which may be none.
        Returns the meta-training loss before the step."""
        body, classify, discriminate = self.optimizers
        batch = self.batch(np.concatenate([train, target]))
        features = self.features(batch)
        known, foreign = features[: len(train)], features[len(train) :]
        if len(target):
            update(discriminate, domain_loss(self.discriminator, known.detach(), foreign.detach(), self.mix[train]))
        update(classify, class_loss(self.network, known.detach(), batch[2][: len(train)]))

        first = self.loss(features, batch[2][: len(train)], self.mix[train])
        gradients = torch.autograd.grad(first, list(self.body.values()))
        fast = {
            name: (weight - self.config.inner_rate * gradient).detach().requires_grad_()
            for (name, weight), gradient in zip(self.body.items(), gradients, strict=True)
        }
        batch = self.batch(np.concatenate([test, target]))
        second = self.loss(self.features(batch, fast), batch[2][: len(test)], self.mix[test])
        outer = torch.autograd.grad(second, list(fast.values()))
        for weight, inner, other in zip(self.body.values(), gradients, outer, strict=True):
            weight.grad = inner + self.config.alpha * other
        nn.utils.clip_grad_norm_(list(self.body.values()), 1.0)
        body.step()
        for schedule in self.schedules if len(target) else self.schedules[:2]:
            schedule.step()
        return float(first.detach())

    def loss(self, features: Tensor, targets: Tensor, mix: np.ndarray) -> Tensor:
        """Return the classifier's loss on the first `len(targets)` features, those of sources, and the adversary's on all.

        The adversary's gradient is reversed. `mix` weighs the source features in its loss.
        """
        known, foreign = features[: len(targets)], features[len(targets) :]
        loss = self.config.gamma * class_loss(self.network, known, targets)
        if len(foreign):
            loss = loss + self.config.beta * domain_loss(self.discriminator, reverse_gradient(known), reverse_gradient(foreign), mix)
        return loss


class Features(nn.Module):
    """The features of a network as a module's call."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `Network.features`."""
        return self.network.features(vectors, lengths)[0]


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of an optimiser down a loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def domain_loss(discriminator: Discriminator, known: Tensor, foreign: Tensor, mix: np.ndarray) -> Tensor:
    """Return how badly the adversary tells source features from target features; both domains weigh the same.

    Args: mix (n known,), the weights of the source features.
    """
    weights = torch.from_numpy(mix).to(known.device), torch.ones(len(foreign), device=known.device)
    losses = []
    for domain, (features, weight) in enumerate(zip((known, foreign), weights, strict=True)):
        labels = torch.full((len(features),), domain, device=features.device)
        each = nn.functional.cross_entropy(discriminator(features), labels, reduction="none")
        losses.append((each * weight).sum() / weight.sum())
    return (losses[0] + losses[1]) / 2


def class_mix(examples: Examples, tasks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the weights (n examples,) under which a drawn batch has the class mix of its source's patterns.

    `Examples.draw` draws both classes alike often, but the target's patterns come as they are. An adversary that compares these two learns
    the classes, not the systems, and hides what the classifier needs.
    """
    mix = np.ones(len(examples.rows), dtype=np.float32)
    for task in tasks:
        bad = examples.targets[task] >= 0.5
        if 0 < bad.sum() < len(bad):
            mix[task] = np.where(bad, 2 * bad.mean(), 2 * (1 - bad.mean()))
    return mix


def class_loss(network: Network, features: Tensor, targets: Tensor) -> Tensor:
    """Return how badly features tell anomalous patterns; `targets` are shares in [0, 1]."""
    logits = network.classifier(network.dropout(features))
    return nn.functional.cross_entropy(logits, torch.stack([1 - targets, targets], dim=1))


@one_thread()
def meta_train(examples: Examples, tasks: Sequence[np.ndarray], target: np.ndarray, config: Config) -> Network:
    """Train a network on source tasks; the result is on the CPU, in evaluation mode.

    Args: tasks: for each source the numbers of its labelled examples; in each step one task is for meta-training and another for
    meta-testing (the same one, drawn again, where there is only one); target: numbers of unlabelled examples of the target, may be none.
    Deterministic for given examples, seed and device.
    """
    trainer = Trainer(config, examples)
    trainer.mix = class_mix(examples, tasks)
    chance = share(np.log1p(examples.sessions[target])) if len(target) else None
    for _ in range(config.steps):
        chosen = trainer.random.permutation(len(tasks))[:2]
        train, test = (examples.draw(tasks[task], config.batch, trainer.random) for task in (chosen[0], chosen[-1]))
        trainer.step(train, test, trainer.random.choice(target, size=config.batch, p=chance) if len(target) else target)
    return trainer.network.cpu().eval()
