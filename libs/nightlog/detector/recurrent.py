"""A bidirectional GRU over sequences laid end to end, with a backward pass of its own.

Source: Cho et al. 2014, in the form of `torch.nn.GRU`, whose weights it takes and whose results it gives. Torch's own backward pass
multiplies and adds up the weights' gradients event by event, which is most of the time of training a small GRU on a CPU; here both
directions go through the time steps together, and each weight's gradient is one product at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Order:
    """In which order the events of sequences that are laid end to end are read: step by step, the longest sequence first.

    `places` (2, n events) are the events in reading order, forwards and backwards; `sizes[t]` sequences have a step t.
    """

    places: Tensor
    sizes: list[int]

    @staticmethod
    def of(lengths: Tensor) -> Order:
        """Args: lengths (batch,) on the CPU, each at least 1."""
        longest_first, which = lengths.sort(descending=True, stable=True)
        starts = (lengths.cumsum(0) - lengths)[which]
        step = torch.arange(int(longest_first[0]))[:, None]
        there = step < longest_first
        forwards, backwards = (starts + step)[there], (starts + longest_first - 1 - step)[there]
        return Order(torch.stack([forwards, backwards]), there.sum(dim=1).tolist())


class Recurrence(torch.autograd.Function):
    """What the recurrent half of a GRU makes of its inputs, both directions at once; gates stand in torch's order: reset, update, new."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, places: Tensor, sizes: list[int]) -> Tensor:
        """Args: inputs (2, n events, 3 h), W x + b for both directions; weight (2, 3 h, h); bias (2, 3 h); an `Order`'s places and sizes.
        Returns: states (2, n events, h), in the order of `inputs`."""
        width = weight.shape[2]
        gates = read(inputs, places)
        before, states, recalled = (gates.new_zeros(2, gates.shape[1], width) for _ in range(3))
        state = gates.new_zeros(2, sizes[0], width)
        turned = weight.transpose(1, 2)
        steps = (torch.split(each, sizes, dim=1) for each in (gates, before, states, recalled))
        for size, gate, old, new, memory in zip(sizes, *steps, strict=True):
            state = old.copy_(state[:, :size])
            said = torch.baddbmm(bias[:, None], state, turned)
            gate[..., : 2 * width].add_(said[..., : 2 * width]).sigmoid_()
            memory.copy_(said[..., 2 * width :])
            candidate = gate[..., 2 * width :].addcmul_(gate[..., :width], memory).tanh_()
            state = new.copy_(torch.lerp(candidate, state, gate[..., width : 2 * width]))
        ctx.save_for_backward(gates, before, recalled, weight, places)
        ctx.sizes = sizes
        return back(states, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gates, before, recalled, weight, places = ctx.saved_tensors
        own = read(gradients[0], places)
        reset, update, candidate = gates.chunk(3, dim=2)
        through = (1 - candidate * candidate) * (1 - update)
        said = torch.cat([through * recalled * reset * (1 - reset), (before - candidate) * update * (1 - update), through * reset], dim=2)
        later: Tensor | None = None
        steps = zip(*(torch.split(each, ctx.sizes, dim=1) for each in (own, said, update)), strict=True)
        for now, step, kept in reversed(list(steps)):
            if later is not None:
                now[:, : later.shape[1]].add_(later)
            step.unflatten(2, (3, -1)).mul_(now[:, :, None])
            later = torch.baddbmm(now * kept, step, weight)
        inputs = torch.cat([said[..., : 2 * weight.shape[2]], own * through], dim=2)
        return back(inputs, places), said.transpose(1, 2) @ before, said.sum(dim=1), None, None


def read(laid: Tensor, places: Tensor) -> Tensor:
    """Rows (2, n events, width) in the order of the events → the same in reading order, a copy."""
    return torch.stack([laid[direction].index_select(0, places[direction]) for direction in range(2)])


def back(rows: Tensor, places: Tensor) -> Tensor:
    """The inverse of `read`."""
    laid = torch.empty_like(rows)
    for direction in range(2):
        laid[direction].index_copy_(0, places[direction], rows[direction])
    return laid


def bidirectional(gru: nn.GRU, vectors: Tensor, lengths: Tensor) -> Tensor:
    """The states of a bidirectional GRU after each event.

    Args: vectors (n events, d), sequences end to end; lengths (batch,) on the CPU, each at least 1.
    Returns: (n events, 2 h), as `gru` gives for packed sequences.
    """
    order = Order.of(lengths)
    places = order.places.to(vectors.device)
    for layer in range(gru.num_layers):
        weights = {
            name: [getattr(gru, f"{name}_l{layer}{direction}") for direction in ("", "_reverse")]
            for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        }
        inputs = torch.stack([nn.functional.linear(vectors, *each) for each in zip(weights["weight_ih"], weights["bias_ih"], strict=True)])
        states: Tensor = Recurrence.apply(inputs, torch.stack(weights["weight_hh"]), torch.stack(weights["bias_hh"]), places, order.sizes)  # type: ignore[no-untyped-call]
        vectors = torch.cat([states[0], states[1]], dim=1)
    return vectors
