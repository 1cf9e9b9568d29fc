"""Models: a safetensors file each, never pickled, and the table that says which one serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nightlog.detector.calibration import Calibration
from nightlog.detector.network import Network, Shape
from nightlog.errors import ConfigError, ModelIntegrityError
from nightlog.lake.store import Lake
from nightlog.lake.tables import MODELS
from nightlog.routing.router import SourceTemplates
from nightlog.systems.spec import System

SOURCE_VECTORS = "source_vectors"


@dataclass(frozen=True)
class Manifest:
    """What a model is made of, all that a night needs to know to give the same answers again.

    `calibration` and `threshold` are for patterns that the router calls general, `foreign` and `foreign_threshold` for the others.
    `system` is the one that the model was distilled for; then its own templates are among the source templates.
    """

    encoder: str
    tau: float
    threshold: float
    foreign_threshold: float
    foreign: Calibration
    shape: Shape
    source_texts: tuple[str, ...]
    source_systems: tuple[str, ...]
    sources: tuple[str, ...]
    data: Mapping[str, Any]
    system: str = ""
    calibration: Calibration = Calibration()

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read what `json.dumps(asdict(manifest))` wrote."""
        found = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("source_texts", "source_systems", "sources")}
        return Manifest(
            **found
            | lists
            | {
                "shape": Shape(**found["shape"]),
                "foreign": Calibration(**found["foreign"]),
                "calibration": Calibration(**found["calibration"]),
            }
        )


@dataclass(frozen=True)
class Model:
    """A registered model: its version, where its file lies, and the digest that the file must have."""

    version: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Loaded:
    """A model in memory."""

    version: str
    network: Network
    manifest: Manifest
    sources: SourceTemplates


def save(lake: Lake, network: Network, vectors: np.ndarray, manifest: Manifest, metrics: Mapping[str, float], now: datetime) -> Model:
    """Write the weights under their digest and register them as a candidate. The same weights are the same version."""
    import torch
    from safetensors.torch import save as to_bytes

    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    tensors[SOURCE_VECTORS] = torch.from_numpy(vectors).contiguous()
    content = to_bytes(tensors, {"manifest": json.dumps(asdict(manifest), sort_keys=True)})
    sha256 = hashlib.sha256(content).hexdigest()
    model = Model(sha256[:16], f"{lake.root}/models/{sha256[:16]}.safetensors", sha256)
    path = Path(model.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_bytes(content)
    aside.rename(path)
    shown = {name: value for name, value in asdict(manifest).items() if not name.startswith("source_")}
    if all(row["version"] != model.version for row in lake.rows(MODELS, ["version"])):
        row: dict[str, Any] = {"version": model.version, "system": manifest.system, "sha256": sha256, "status": "candidate"}
        row |= {"sources": list(manifest.sources)}
        lake.put(MODELS, [row | {"manifest": json.dumps(shown, sort_keys=True), "metrics": dict(metrics), "created_at": now}])
    return model


def promote(lake: Lake, version: str) -> None:
    """Let this model serve, and retire the one that did for the same system, in one commit."""
    rows = lake.rows(MODELS)
    chosen = [row | {"status": "promoted"} for row in rows if row["version"] == version]
    if not chosen:
        raise ConfigError(f"no model {version} in {MODELS.name}")
    before = [row for row in rows if row["status"] == "promoted" and row["version"] != version and row["system"] == chosen[0]["system"]]
    lake.upsert(MODELS, [row | {"status": "retired"} for row in before] + chosen)


def promoted_models(lake: Lake) -> dict[str, Model]:
    """The models that serve, by the system that each was distilled for; under "" the one that sources taught."""
    return {
        row["system"]: Model(row["version"], f"{lake.root}/models/{row['version']}.safetensors", row["sha256"])
        for row in lake.rows(MODELS)
        if row["status"] == "promoted"
    }


def promoted(lake: Lake, system: str = "") -> Model | None:
    """The model that serves for a system alone; without a name the one that sources taught. None where none does."""
    return promoted_models(lake).get(system)


def serving(lake: Lake, systems: Sequence[System]) -> dict[str, Model]:
    """By name the model that serves each system: its own where it has one and may use it. Raises ConfigError where there is none."""
    models = promoted_models(lake)
    found = {}
    for system in systems:
        own = models.get(system.name) if system.collaboration != "generallog" else None
        if (model := own or models.get("")) is None:
            raise ConfigError(f"no model serves in the lake {lake.root}: run `nightlog train` first")
        found[system.name] = model
    return found


@lru_cache(maxsize=8)
def load(model: Model) -> Loaded:
    """Read a model, once a process, after its digest was verified. Raises ModelIntegrityError."""
    from safetensors import safe_open
    from safetensors.torch import load as from_bytes

    path = Path(model.path)
    if not path.is_file():
        raise ModelIntegrityError(
            f"{path}: the file of model {model.version} is missing; train again or restore it from a copy of the lake"
        )
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != model.sha256:
        raise ModelIntegrityError(f"{path}: expected sha256 {model.sha256}, got {digest}; the file was altered: train again or restore it")
    with safe_open(path, framework="np") as opened:
        manifest = Manifest.from_json(opened.metadata()["manifest"])
    tensors = from_bytes(content)
    vectors = tensors.pop(SOURCE_VECTORS).numpy()
    network = Network(manifest.shape)
    network.load_state_dict(tensors)
    network.eval()
    return Loaded(model.version, network, manifest, SourceTemplates(vectors, manifest.source_texts, manifest.source_systems))
