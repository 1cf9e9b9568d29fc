"""The GRU with a backward pass of its own says what torch's says, and learns what torch's learns."""

from __future__ import annotations

import pytest
import torch
from nightlog.detector.recurrent import bidirectional
from torch import Tensor, nn

LENGTHS = [[1], [5], [3, 7, 1, 7, 2], [4, 4, 4]]


def by_torch(gru: nn.GRU, vectors: Tensor, lengths: Tensor) -> Tensor:
    padded = nn.utils.rnn.pad_sequence(list(vectors.split(lengths.tolist())), batch_first=True)
    packed = nn.utils.rnn.pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
    return torch.cat([states[i, :length] for i, length in enumerate(lengths.tolist())])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_states_and_all_gradients_are_those_of_torch(lengths: list[int], layers: int) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(6, 5, layers, batch_first=True, bidirectional=True).double()
    weigh = torch.randn(sum(lengths), 10, dtype=torch.float64)
    found = []
    for states_of in (bidirectional, by_torch):
        torch.manual_seed(1)
        vectors = torch.randn(sum(lengths), 6, dtype=torch.float64, requires_grad=True)
        gru.zero_grad()
        states = states_of(gru, vectors, torch.tensor(lengths))
        (weigh * states).sum().backward()
        found.append([states, vectors.grad, *(weight.grad for weight in gru.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_nothing_is_kept_for_a_backward_pass_that_will_not_come() -> None:
    gru = nn.GRU(6, 5, batch_first=True, bidirectional=True)
    with torch.inference_mode():
        states = bidirectional(gru, torch.randn(8, 6), torch.tensor([3, 5]))
    assert states.shape == (8, 10) and not states.requires_grad
