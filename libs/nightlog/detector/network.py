"""The small model: bidirectional GRU over frozen template vectors, linear attention, classifier.

Source: GeneralLog, arXiv 2511.05882, and FusionLog, 2511.05878: the small model of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightlog.detector.manifest import Shape

LONGEST = 500


class Network(nn.Module):
    """Sequences of template vectors → logits of (normal, anomalous), and attention."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.reduce = nn.Linear(shape.dimensions, shape.reduced)
        self.body = nn.GRU(shape.reduced, shape.hidden, shape.layers, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * shape.hidden, 2 * shape.hidden)
        self.guide = nn.Parameter(torch.zeros(2 * shape.hidden))
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(2 * shape.hidden, 2)
        nn.init.normal_(self.guide, std=0.1)

    def features(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Args: vectors (n events, d), sequences end to end; lengths (batch,) on the CPU, each at least 1, n in sum.
        Returns: features (batch, 2 hidden), attention (n events,) that sums to 1 over each sequence."""
        packed = nn.utils.rnn.pack_sequence(self.reduce(vectors).split(lengths.tolist()), enforce_sorted=False)
        states = torch.cat(nn.utils.rnn.unpack_sequence(self.body(packed)[0]))
        scores = torch.tanh(self.attention(states)) @ self.guide
        inside = (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).to(scores.device)
        padded = scores.new_full(inside.shape, float("-inf")).masked_scatter(inside, scores)
        weights = padded.softmax(dim=1)[inside]
        return torch.segment_reduce(weights[:, None] * states, "sum", lengths=lengths.to(states.device), axis=0), weights

    def forward(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `features`, but logits (batch, 2) in the place of features."""
        feature, weights = self.features(vectors, lengths)
        return self.classifier(self.dropout(feature)), weights


class Discriminator(nn.Module):
    """Features → logits of (source, target)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * shape.hidden, 128), nn.ReLU(), nn.LayerNorm(128), nn.Dropout(shape.dropout), nn.Linear(128, 2)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Args: features (batch, 2 hidden). Returns: logits (batch, 2)."""
        logits: Tensor = self.layers(features)
        return logits


class ReverseGradient(torch.autograd.Function):
    """The identity; its gradient is turned round (Ganin & Lempitsky 2015), so that features learn to hide their domain."""

    @staticmethod
    def forward(_: Any, features: Tensor) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reverse_gradient(features: Tensor) -> Tensor:
    """Features as they are, with the reversed gradient."""
    reversed_: Tensor = ReverseGradient.apply(features)  # type: ignore[no-untyped-call]
    return reversed_


def sequence(events: list[tuple[int, int]]) -> list[int]:
    """A pattern as a sequence of template numbers, the same for every session of the pattern.

    Templates stand in the order given; one with count 2^k stands k + 1 times, so that a count weighs by its order of
    magnitude. At most 500 events.

    >>> sequence([(7, 1), (3, 4)])
    [7, 3, 3, 3]
    """
    return [number for number, count in events for _ in range(int(count).bit_length())][:LONGEST]


def to_tensors(sequences: list[list[int]], table: np.ndarray) -> tuple[Tensor, Tensor]:
    """Sequences of row numbers of `table` (n rows, d) → their vectors end to end (n events, d), lengths (batch,)."""
    lengths = torch.tensor([len(numbers) for numbers in sequences])
    return torch.from_numpy(table[[row for numbers in sequences for row in numbers]]), lengths


def predict(network: Network, rows: list[list[int]], table: np.ndarray, batch: int = 256) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the probability of an anomaly (n,) and the attention over each sequence; batches of like length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    probabilities, attention = np.zeros(len(rows)), [np.zeros(0)] * len(rows)
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            vectors, lengths = to_tensors([rows[i] for i in members], table)
            logits, weights = network(vectors.to(device), lengths)
            probabilities[members] = logits.softmax(dim=1)[:, 1].cpu().numpy()
            for each, i in zip(weights.cpu().split(lengths.tolist()), members, strict=True):
                attention[i] = each.numpy()
    return probabilities, attention
