"""Training of the small model on the labelled sources' patterns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import nn

from nightlog.detector.network import Network, Shape, pad, pick_device, sequence
from nightlog.detector.patterns import Source
from nightlog.errors import ConfigError

NEVER = 1.01


@dataclass(frozen=True)
class Config:
    """How the small model is trained."""

    shape: Shape = Shape()
    epochs: int = 60
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    noise: float = 0.02
    held_out: float = 0.25
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Trained:
    """The trained network, its frozen thresholds, and what it reached on source patterns that it had not seen.

    `threshold` is for patterns that look like a source's, `foreign_threshold` for those that do not.
    """

    network: Network
    threshold: float
    foreign_threshold: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Examples:
    """All sources' patterns in one: `rows` are sequences of rows of `table`, `targets` shares of anomalous sessions."""

    table: np.ndarray
    rows: list[list[int]]
    targets: np.ndarray
    weights: np.ndarray
    sessions: np.ndarray
    aside: np.ndarray
    source: np.ndarray

    @staticmethod
    def of(sources: list[Source], share: float) -> Examples:
        """Stack the sources; `share` of each is marked as held out."""
        starts = np.cumsum([0, *(len(source.vectors) for source in sources)])
        return Examples(
            table=np.concatenate([source.vectors for source in sources]),
            rows=[
                sequence([(int(start) + number, count) for number, count in events])
                for source, start in zip(sources, starts, strict=False)
                for events in source.events
            ],
            targets=np.concatenate([source.anomalous for source in sources]).astype(np.float32),
            weights=np.concatenate([balanced_weights(source) for source in sources]).astype(np.float32),
            sessions=np.concatenate([source.sessions for source in sources]),
            aside=np.concatenate([held_out(source, share) for source in sources]),
            source=np.concatenate([np.full(len(source.ids), i) for i, source in enumerate(sources)]),
        )


def held_out(source: Source, share: float) -> NDArray[np.bool_]:
    """Which patterns are kept from training: by hash of their ids, so that the choice is stable when patterns are added."""
    marks = [int(hashlib.sha256(f"{source.name}\0{name}".encode()).hexdigest()[:8], 16) / 2**32 for name in source.ids]
    return np.array(marks) < share


def balanced_weights(source: Source) -> NDArray[np.float64]:
    """Weight of each pattern: by its sessions on a log scale, each class of the source half of the whole."""
    weights: NDArray[np.float64] = np.log1p(source.sessions.astype(float))
    bad = source.anomalous >= 0.5
    for members in (bad, ~bad):
        if members.any():
            weights[members] /= weights[members].sum()
    weights *= len(weights) / max(float(weights.sum()), 1e-9)
    return weights


def train(sources: list[Source], config: Config) -> Trained:
    """Fit the network on all sources but their held-out patterns, and freeze its thresholds on sources alone.

    The threshold is the best one on the held-out patterns; the foreign threshold the best one for sources that the network had not
    seen at all, each left out in turn. Deterministic for given sources, seed, device and thread count. Raises ConfigError
    where no source has both classes.
    """
    if not any((s.anomalous >= 0.5).any() and (s.anomalous < 0.5).any() for s in sources):
        raise ConfigError("no labelled system has both normal and anomalous sessions: there is nothing to learn from")
    examples = Examples.of(sources, config.held_out)
    network = fit(examples, np.flatnonzero(~examples.aside), config)
    chosen = np.flatnonzero(examples.aside)
    if not 0 < (examples.targets[chosen] >= 0.5).sum() < len(chosen):
        chosen = np.arange(len(examples.rows))
    probabilities, _ = predict(network, [examples.rows[i] for i in chosen], examples.table)
    threshold, f1 = best_threshold([(probabilities, examples.targets[chosen], examples.sessions[chosen])])
    foreign, foreign_f1, trivial = transfer_threshold(sources, examples, config)
    metrics = {
        "held_out_f1": f1,
        "held_out_average_precision": float(
            average_precision_score(examples.targets[chosen] >= 0.5, probabilities, sample_weight=examples.sessions[chosen])
        ),
        "held_out_patterns": float(len(chosen)),
        "left_out_source_f1": foreign_f1,
        "left_out_source_f1_always_anomalous": trivial,
    }
    return Trained(network, max(0.5, threshold), max(0.5, foreign), metrics)


def fit(examples: Examples, members: np.ndarray, config: Config) -> Network:
    """Train a network on the examples with these numbers; the result is on the CPU."""
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    device = pick_device(config.device)
    network = Network(config.shape).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    targets, weights = torch.from_numpy(examples.targets), torch.from_numpy(examples.weights)
    for _ in range(config.epochs):
        network.train()
        for batch in np.array_split(random.permutation(members), max(1, len(members) // config.batch)):
            vectors, lengths = pad([examples.rows[i] for i in batch], examples.table)
            noisy = vectors + config.noise * torch.from_numpy(random.standard_normal(vectors.shape, dtype=np.float32))
            logits, _ = network(noisy.to(device), lengths)
            soft = torch.stack([1 - targets[batch], targets[batch]], dim=1).to(device)
            loss = (nn.functional.cross_entropy(logits, soft, reduction="none") * weights[batch].to(device)).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
    return network.cpu().eval()


def transfer_threshold(sources: list[Source], examples: Examples, config: Config) -> tuple[float, float, float]:
    """The threshold for systems that the network never saw: (threshold, its mean F1 over left-out sources, that of "always anomalous").

    Where no threshold does better than calling everything anomalous, or there is one source alone to learn from, nothing speaks
    for the network's word on a foreign system, and the threshold is above every probability.
    """
    scored = []
    for number, source in enumerate(sources):
        others, own = np.flatnonzero(examples.source != number), np.flatnonzero(examples.source == number)
        learnable = 0 < (examples.targets[others] >= 0.5).sum() < len(others)
        if learnable and 0 < (source.anomalous >= 0.5).sum() < len(own):
            probabilities, _ = predict(fit(examples, others, config), [examples.rows[i] for i in own], examples.table)
            scored.append((probabilities, examples.targets[own], examples.sessions[own]))
    if not scored:
        return NEVER, 0.0, 0.0
    threshold, f1 = best_threshold(scored)
    trivial = float(np.mean([f1_at(np.ones(len(p)), truth, sessions, 0.5) for p, truth, sessions in scored]))
    return (threshold if f1 > trivial else NEVER), f1, trivial


def f1_at(probabilities: np.ndarray, anomalous: np.ndarray, sessions: np.ndarray, threshold: float) -> float:
    """F1 over sessions of calling patterns anomalous at or above the threshold; `anomalous` is each pattern's share."""
    flagged = probabilities >= threshold
    true = float((sessions * anomalous)[flagged].sum())
    return 2 * true / max(1e-9, float(sessions[flagged].sum()) + float((sessions * anomalous).sum()))


def best_threshold(scored: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """The threshold with the best mean F1 over several (probabilities, anomalous, sessions), and this F1.

    It is put in the middle of the gap between probabilities that it falls into.
    """
    edges = np.unique(np.concatenate([probabilities for probabilities, _, _ in scored]))
    middles = [float(edges[0]), *((edges[1:] + edges[:-1]) / 2).tolist()]
    reached = [float(np.mean([f1_at(*each, at) for each in scored])) for at in middles]
    best = int(np.argmax(reached))
    return round(middles[best], 4), reached[best]


def predict(network: Network, rows: list[list[int]], table: np.ndarray, batch: int = 256) -> tuple[np.ndarray, list[np.ndarray]]:
    """Probability of an anomaly (n,) and attention over each sequence; batches of like length, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    probabilities, attention = np.zeros(len(rows)), [np.zeros(0)] * len(rows)
    device = next(network.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            vectors, lengths = pad([rows[i] for i in members], table)
            logits, weights = network(vectors.to(device), lengths)
            probabilities[members] = logits.softmax(dim=1)[:, 1].cpu().numpy()
            for row, i in zip(weights.cpu().numpy(), members, strict=True):
                attention[i] = row[: len(rows[i])]
    return probabilities, attention
