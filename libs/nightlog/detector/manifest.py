"""The manifest of a model: what a night needs to know of it. Read without loading tensors or torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nightlog.detector.calibration import Calibration
from nightlog.errors import ConfigError

Kind = Literal["gru", "metaproto", "history"]


@dataclass(frozen=True)
class Shape:
    """Sizes of the GRU; `reduced` is the width that template vectors are brought to before the GRU reads them."""

    dimensions: int = 384
    reduced: int = 64
    hidden: int = 100
    layers: int = 1
    dropout: float = 0.3


@dataclass(frozen=True)
class Manifest:
    """All that a night needs to know of a model to give the same answers again.

    `calibration` and `threshold` are for patterns that the router calls general, `foreign` and `foreign_threshold` for the others. A
    threshold of None flags nothing, a `tau` of None calls nothing general. `encoder` is None if the model reads no template vectors.
    `system` is the one that the model is for alone: distilled for it, and then its own templates are among the source templates, or a
    MetaProto adapted to it. `shape` is the GRU's; of a MetaProto, which keeps its sizes with its weights, only the dimensions hold.
    """

    encoder: str | None
    tau: float | None
    threshold: float | None
    foreign_threshold: float | None
    foreign: Calibration
    shape: Shape
    source_texts: tuple[str, ...]
    source_systems: tuple[str, ...]
    sources: tuple[str, ...]
    data: Mapping[str, Any]
    system: str = ""
    calibration: Calibration = Calibration()
    detector: Kind = "gru"

    @property
    def vectors_by(self) -> str:
        """The encoder of the template vectors that the model reads. Raises ConfigError if it reads none."""
        if self.encoder is None:
            raise ConfigError("the general model that ships reads no template vectors; a trained model is needed here: nightlog train")
        return self.encoder

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read what `json.dumps(asdict(manifest))` wrote; earlier versions of Nightlog wrote 1.01 for "nothing"."""
        found = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("source_texts", "source_systems", "sources")}
        return Manifest(
            **found
            | lists
            | {
                "shape": Shape(**found["shape"]),
                "foreign": Calibration(**found["foreign"]),
                "calibration": Calibration(**found["calibration"]),
                "tau": known_threshold(found["tau"]),
                "threshold": known_threshold(found["threshold"]),
                "foreign_threshold": known_threshold(found["foreign_threshold"]),
            }
        )


def known_threshold(stored: float | None) -> float | None:
    """Return a threshold of a stored manifest; earlier versions of Nightlog stored 1.01 for "flags nothing".

    >>> known_threshold(0.4), known_threshold(1.01)
    (0.4, None)
    """
    return stored if stored is not None and stored <= 1 else None


# The general model that ships reads no vectors, so its router calls nothing general, and it is no small model that flags by a probability.
OF_GENERAL = Manifest(None, None, None, None, Calibration(), Shape(), (), (), (), {}, detector="history")


def manifest_in(content: bytes) -> dict[str, Any]:
    """Return the manifest in the header of a safetensors file (its length in eight bytes, little-endian, then JSON), `{}` without one."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    manifest: dict[str, Any] = json.loads(metadata.get("manifest", "{}"))
    return manifest
