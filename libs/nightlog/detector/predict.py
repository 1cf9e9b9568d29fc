"""What a network says of sequences of templates."""

from __future__ import annotations

import numpy as np
import torch

from nightlog.detector.network import Network, lay


def predict(network: Network, rows: list[list[int]], table: np.ndarray, batch: int = 256) -> tuple[np.ndarray, list[np.ndarray]]:
    """Probability of an anomaly (n,) and attention over each sequence; batches of like length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    probabilities, attention = np.zeros(len(rows)), [np.zeros(0)] * len(rows)
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            vectors, lengths = lay([rows[i] for i in members], table)
            logits, weights = network(vectors.to(device), lengths)
            probabilities[members] = logits.softmax(dim=1)[:, 1].cpu().numpy()
            for each, i in zip(weights.cpu().split(lengths.tolist()), members, strict=True):
                attention[i] = each.numpy()
    return probabilities, attention
