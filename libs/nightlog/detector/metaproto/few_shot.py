"""Prototypical network trained by first-order MAML over source systems, adapted to a target by the few labels there are of it.

Source: MetaProto, arXiv 2601.14336 (MAML and prototypical network). A network's head starts as its prototypes and is adapted with the rest:
Triantafillou et al., arXiv 1903.03096 (Proto-MAML). SMOTE: Chawla et al., JAIR 2002, by imbalanced-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from imblearn.over_sampling import SMOTE  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.func import functional_call

SHOTS = (0, 5, 10, 20)
SAMPLE = 64
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """Sizes and steps. `shots` are the sizes of support that episodes are drawn with; 0 leaves the sources' prototypes alone."""

    hidden: int = 64
    embedding: int = 64
    dropout: float = 0.1
    episodes: int = 60
    queries: int = 128
    shots: tuple[int, ...] = SHOTS
    inner_steps: int = 5
    inner_rate: float = 0.1
    adaptation_steps: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ridge: float = 1e-2
    networks: int = 1


@dataclass(frozen=True)
class Task:
    """A labelled system to draw episodes from: `x` (n, k) float32, `bad` (n,) bool, `sessions` (n,)."""

    system: str
    x: np.ndarray
    bad: np.ndarray
    sessions: np.ndarray


@dataclass(frozen=True)
class Support:
    """Labelled examples of the target: `x` (m, k) float32, `bad` (m,) bool, `weight` (m,), how far each label is trusted. May be empty."""

    x: np.ndarray
    bad: np.ndarray
    weight: np.ndarray

    @staticmethod
    def none(width: int) -> Support:
        """No label at all."""
        return Support(np.zeros((0, width), dtype=np.float32), np.zeros(0, dtype=bool), np.zeros(0))

    def only(self, chosen: np.ndarray) -> Support:
        """These examples."""
        return Support(self.x[chosen], self.bad[chosen], self.weight[chosen])

    def joined(self, other: Support) -> Support:
        """These examples and those."""
        pairs = ((self.x, other.x), (self.bad, other.bad), (self.weight, other.weight))
        x, bad, weight = (np.concatenate(pair) for pair in pairs)
        return Support(x, bad, weight)


class Embedding(nn.Module):
    """Features (n, k) → embedding (n, e).

    `prototypes` (2, e) of both classes are what the sources teach; in a target's they are worth `trust` examples.
    """

    prototypes: Tensor

    def __init__(self, width: int, config: Config):
        super().__init__()
        self.straight = nn.Linear(width, config.embedding, bias=False)
        last = nn.Linear(config.hidden, config.embedding)
        self.body = nn.Sequential(nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout), last)
        self.trust = nn.Parameter(torch.zeros(2))
        self.register_buffer("prototypes", torch.zeros(2, config.embedding))
        nn.init.orthogonal_(self.straight.weight, gain=(config.embedding / max(1, width)) ** 0.5 * 1.5)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The embedding; scaled so that its squared length does not grow with the number of features."""
        embedded: Tensor = (self.straight(x) + self.body(x)) / self.straight.in_features**0.25
        return embedded


def oversample(task: Task, seed: int) -> Task:
    """SMOTE within one system: its rarer class is filled up with points between neighbours of that class; they weigh as the median of it.

    Left as it is where a class has fewer than two patterns.
    """
    rare = int(min(task.bad.sum(), (~task.bad).sum()))
    if rare < 2:
        return task
    x, bad = SMOTE(k_neighbors=min(5, rare - 1), random_state=seed).fit_resample(task.x, task.bad)
    minority = task.bad if task.bad.sum() == rare else ~task.bad
    made = np.full(len(x) - len(task.x), float(np.median(task.sessions[minority])))
    sessions = np.concatenate([task.sessions.astype(float), made])
    return Task(task.system, np.asarray(x, dtype=np.float32), np.asarray(bad, dtype=bool), sessions)


def meta_train(tasks: Sequence[Task], config: Config, seed: int) -> list[Embedding]:
    """Train on episodes: a system, a support of it, queries of it. Deterministic for given tasks, seed and thread count."""
    trained = []
    for member in range(config.networks):
        random = np.random.default_rng([seed, member])
        torch.manual_seed(int(random.integers(2**31)))
        full = [oversample(task, int(random.integers(2**31))) for task in tasks]
        network = Embedding(tasks[0].x.shape[1], config)
        optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        for _ in range(config.episodes):
            task = full[int(random.integers(len(full)))]
            others = [other for other in full if other.system != task.system] or full
            support, x, bad = _episode(task, config, random)
            network.train()
            centres = source_prototypes(network, others, random)
            fast, head, shift = adapt(network, centres, support, config, config.inner_steps)
            logits = functional_call(network, fast, (x,)) @ head.T + shift
            loss = nn.functional.cross_entropy(logits, bad)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        network.eval()
        with torch.no_grad():
            network.prototypes.copy_(torch.stack([source_prototypes(network, full, random) for _ in range(16)]).mean(dim=0))
        trained.append(network)
    return trained


def source_prototypes(network: Embedding, tasks: Sequence[Task], random: np.random.Generator) -> Tensor:
    """Prototypes (2, e) of a system that has no label: the mean over the other systems of each class's mean embedding.

    Of each system a sample is drawn by sessions on a root scale; a system without a class has no say on it.
    """
    means: list[list[Tensor]] = [[], []]
    for task in tasks:
        chance = np.sqrt(task.sessions.astype(float))
        for number, wanted in enumerate((False, True)):
            members = np.flatnonzero(task.bad == wanted)
            if len(members):
                drawn = random.choice(members, SAMPLE, p=chance[members] / chance[members].sum())
                means[number].append(network(torch.from_numpy(task.x[drawn])).mean(dim=0))
    return torch.stack([torch.stack(each).mean(dim=0) if each else network.prototypes[number] for number, each in enumerate(means)])


def adapt(network: Embedding, prototypes: Tensor, support: Support, config: Config, steps: int) -> tuple[Weights, Tensor, Tensor]:
    """Proto-MAML: the head (2, e) and its shift (2,) start as prototypes, then all weights follow the support's loss for some steps.

    First order: the steps' gradients are taken as constants, so that the outer loss reaches the weights, and the prototypes, directly.
    Without support the prototypes of the sources stand as they are; of one class alone, only its own prototype moves.
    """
    fast: Weights = dict(network.named_parameters())
    x, bad = torch.from_numpy(support.x), torch.from_numpy(support.bad.astype(np.int64))
    weight = torch.from_numpy(support.weight.astype(np.float32))
    centres = prototypes
    if len(support.x):
        embedded, trust = functional_call(network, fast, (x,)), nn.functional.softplus(network.trust)
        member = nn.functional.one_hot(bad, 2).float() * weight[:, None]
        centres = (trust[:, None] * centres + member.T @ embedded) / (trust + member.sum(dim=0))[:, None]
    head, shift = 2 * centres, -(centres**2).sum(dim=1)
    if support.bad.all() or not support.bad.any():
        return fast, head, shift
    balanced = weight / (nn.functional.one_hot(bad, 2).float().T @ weight).clamp_min(1e-9)[bad]
    moved = [name for name in fast if name.startswith(("straight", "body"))]
    origin = head.detach()
    for _ in range(steps):
        logits = functional_call(network, fast, (x,)) @ head.T + shift
        losses = nn.functional.cross_entropy(logits, bad, reduction="none")
        loss = (losses * balanced).sum() / balanced.sum() + config.ridge * ((head - origin) ** 2).sum()
        gradients = torch.autograd.grad(loss, [*(fast[name] for name in moved), head, shift], retain_graph=True)
        steps_taken = [config.inner_rate * gradient.detach() for gradient in gradients]
        fast = fast | {name: fast[name] - step for name, step in zip(moved, steps_taken, strict=False)}
        head, shift = head - steps_taken[-2], shift - steps_taken[-1]
    return fast, head, shift


def anomaly_logits(networks: Sequence[Embedding], x: np.ndarray, support: Support, config: Config) -> np.ndarray:
    """Return how much nearer each pattern is to the anomalous prototype than to the normal one after adaptation to the support, as a logit
    (n,).

    The mean over the networks.
    """
    said = []
    for network in networks:
        fast, head, shift = adapt(network.eval(), network.prototypes, support, config, config.adaptation_steps)
        with torch.no_grad():
            logits = functional_call(network, fast, (torch.from_numpy(np.ascontiguousarray(x)),)) @ head.T + shift
            said.append((logits[:, 1] - logits[:, 0]).double().numpy())
    return np.asarray(np.mean(said, axis=0))


def _episode(task: Task, config: Config, random: np.random.Generator) -> tuple[Support, Tensor, Tensor]:
    """A support drawn by sessions on a root scale, half of each class as far as it goes, and balanced queries of the rest."""
    shots = int(random.choice(config.shots))
    chance = np.sqrt(task.sessions.astype(float))
    chosen: list[int] = []
    rest = np.ones(len(task.x), dtype=bool)
    for wanted in (False, True):
        members = np.flatnonzero(task.bad == wanted)
        size = min(shots // 2 + (shots % 2) * int(random.integers(2)), max(0, len(members) - 1))
        if size:
            chosen += random.choice(members, size, replace=False, p=chance[members] / chance[members].sum()).tolist()
    rest[chosen] = False
    query: list[int] = []
    for wanted in (False, True):
        members = np.flatnonzero((task.bad == wanted) & rest)
        if len(members):
            query += random.choice(members, config.queries // 2, p=chance[members] / chance[members].sum()).tolist()
    support = Support(task.x[chosen], task.bad[chosen], np.ones(len(chosen)))
    return support, torch.from_numpy(task.x[query]), torch.from_numpy(task.bad[query].astype(np.int64))
