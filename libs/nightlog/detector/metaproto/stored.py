"""A fitted MetaProto as tensors and JSON, and back, bit for bit. What follows from the rest (the reference's statistics) is not stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nightlog.detector.metaproto.detector import MetaProto, Options
from nightlog.detector.metaproto.drift import Drift
from nightlog.detector.metaproto.few_shot import Config, Embedding, Support
from nightlog.detector.metaproto.reference import Reference
from nightlog.detector.metaproto.selection import Selector
from nightlog.detector.metaproto.view import View
from nightlog.detector.patterns import Patterns

NAMES = ("name", "texts", "ids", "questions", "template_ids", "counted")


def pack(detector: MetaProto) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a detector, and the rest of it as JSON can hold it."""
    view, patterns = detector.view, detector.view.reference.patterns
    arrays = {
        "chosen": detector.chosen,
        "view.mean": view.mean,
        "view.spread": view.spread,
        "support.x": detector.support.x,
        "support.bad": detector.support.bad,
        "support.weight": detector.support.weight,
        "patterns.vectors": patterns.vectors,
        "patterns.sessions": patterns.sessions,
        "patterns.events": np.array([pair for events in patterns.events for pair in events], dtype=np.int64).reshape(-1, 2),
        "patterns.lengths": np.array([len(events) for events in patterns.events], dtype=np.int64),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    for number, network in enumerate(detector.networks):
        tensors |= {f"network.{number}.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    kept = {
        "threshold": float(detector.threshold),
        "scale": float(detector.scale),
        "options": asdict(detector.options),
        "detail": {name: float(value) for name, value in detector.detail.items()},
        "patterns": {name: getattr(patterns, name) for name in NAMES},
    }
    return tensors, kept


def unpack(tensors: Mapping[str, Tensor], kept: Mapping[str, Any]) -> MetaProto:
    """The detector that `pack` took apart."""
    given = kept["options"]
    few_shot = Config(**given["few_shot"] | {"shots": tuple(given["few_shot"]["shots"])})
    options = Options(few_shot, Selector(**given["selector"]), tuple(Drift(**each) for each in given["drifts"]))
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("network.")}
    ends = np.cumsum(arrays["patterns.lengths"]).tolist()
    pairs = [(int(row), int(count)) for row, count in arrays["patterns.events"]]
    named: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept["patterns"].items()}
    patterns = Patterns(
        **named,
        vectors=arrays["patterns.vectors"],
        sessions=arrays["patterns.sessions"],
        events=tuple(tuple(pairs[start:end]) for start, end in zip([0, *ends], ends, strict=False)),
    )
    networks = []
    for number in range(few_shot.networks):
        prefix = f"network.{number}."
        network = Embedding(len(arrays["chosen"]), few_shot)
        network.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)})
        networks.append(network.eval())
    return MetaProto(
        networks=tuple(networks),
        chosen=arrays["chosen"],
        view=View(Reference.of(patterns), arrays["view.mean"], arrays["view.spread"]),
        support=Support(**{each.name: arrays[f"support.{each.name}"] for each in fields(Support)}),
        threshold=kept["threshold"],
        scale=kept["scale"],
        options=options,
        detail=kept["detail"],
    )
