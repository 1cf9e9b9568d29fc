"""Models: a safetensors file each, never pickled, and the table that says which one serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nightlog.detector.calibration import Calibration
from nightlog.detector.header import manifest_in
from nightlog.detector.network import Network, Shape
from nightlog.errors import ConfigError, ModelIntegrityError
from nightlog.lake.files import read_file, write_file
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MODELS, NIGHTS
from nightlog.outcomes import is_published
from nightlog.routing.router import SourceTemplates
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from torch import Tensor

    from nightlog.detector.metaproto.detector import MetaProto

Kind = Literal["gru", "metaproto"]
SOURCE_VECTORS = "source_vectors"


@dataclass(frozen=True)
class Manifest:
    """What a model is made of, all that a night needs to know to give the same answers again.

    `calibration` and `threshold` are for patterns that the router calls general, `foreign` and `foreign_threshold` for the others. A
    threshold of None flags nothing.
    `system` is the one that the model is for alone: distilled for it, and then its own templates are among the source templates, or a
    MetaProto adapted to it. `shape` is the GRU's; of a MetaProto, which keeps its sizes with its weights, only the dimensions hold.
    """

    encoder: str
    tau: float
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


@dataclass(frozen=True)
class Model:
    """A registered model: its version, where its file lies, and the digest that the file must have."""

    version: str
    path: str
    sha256: str
    detector: Kind = "gru"


@dataclass(frozen=True)
class Loaded:
    """A model in memory."""

    version: str
    detector: Network | MetaProto
    manifest: Manifest
    sources: SourceTemplates

    @property
    def network(self) -> Network:
        """The GRU. Raises ConfigError where the model is none."""
        if not isinstance(self.detector, Network):
            raise ConfigError(f"model {self.version} is a {self.manifest.detector} of {self.manifest.system}, and the GRU is needed here")
        return self.detector

    @property
    def metaproto(self) -> MetaProto:
        """The MetaProto. Raises ConfigError where the model is none."""
        if isinstance(self.detector, Network):
            raise ConfigError(f"model {self.version} is a {self.manifest.detector}, and a metaproto is needed here")
        return self.detector


def save(
    lake: Lake, detector: Network | MetaProto, vectors: np.ndarray, manifest: Manifest, metrics: Mapping[str, float], now: datetime
) -> Model:
    """Write the weights under their digest and register them as a candidate. The same weights are the same version."""
    import torch
    from safetensors.torch import save as to_bytes

    tensors, kept = taken_apart(detector)
    tensors[SOURCE_VECTORS] = torch.from_numpy(vectors).contiguous()
    # one entry: several would be written in an order that changes from process to process, and the digest with it
    content = to_bytes(tensors, {"manifest": json.dumps(asdict(manifest) | {"kept": kept}, sort_keys=True)})
    sha256 = hashlib.sha256(content).hexdigest()
    model = Model(sha256[:16], f"{lake.root}/models/{sha256[:16]}.safetensors", sha256, manifest.detector)
    write_file(model.path, content)
    shown = {name: value for name, value in asdict(manifest).items() if not name.startswith("source_")}
    if all(row["version"] != model.version for row in lake.rows(MODELS, ["version"])):
        row: dict[str, Any] = {"version": model.version, "system": manifest.system, "sha256": sha256, "status": "candidate"}
        row |= {"sources": list(manifest.sources)}
        lake.append(MODELS, [row | {"manifest": json.dumps(shown, sort_keys=True), "metrics": dict(metrics), "created_at": now}])
    return model


def taken_apart(detector: Network | MetaProto) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a detector, and what else it is made of."""
    if isinstance(detector, Network):
        return {name: tensor.contiguous() for name, tensor in detector.state_dict().items()}, {}
    from nightlog.detector.metaproto.stored import pack

    return pack(detector)


def put_together(tensors: dict[str, Tensor], manifest: Manifest, kept: Mapping[str, Any]) -> Network | MetaProto:
    """The detector that `taken_apart` took apart."""
    if manifest.detector == "metaproto":
        from nightlog.detector.metaproto.stored import unpack

        return unpack(tensors, kept)
    network = Network(manifest.shape)
    network.load_state_dict(tensors)
    return network.eval()


def promote(lake: Lake, version: str) -> None:
    """Let this model serve, and retire the one that did for the same system, in one commit."""
    rows = lake.rows(MODELS)
    chosen = [row | {"status": "promoted"} for row in rows if row["version"] == version]
    if not chosen:
        raise ConfigError(f"no model {version} in {MODELS.name}")
    before = [row for row in rows if row["status"] == "promoted" and row["version"] != version and row["system"] == chosen[0]["system"]]
    lake.merge(MODELS, [row | {"status": "retired"} for row in before] + chosen)


def promoted_models(lake: Lake) -> dict[str, Model]:
    """The models that serve, by the system that each is for alone; under "" the one that sources taught."""
    return {
        row["system"]: Model(row["version"], f"{lake.root}/models/{row['version']}.safetensors", row["sha256"], kind_of(row["manifest"]))
        for row in lake.rows(MODELS)
        if row["status"] == "promoted"
    }


def kind_of(manifest: str) -> Kind:
    """The detector that a manifest in `ops.models` is of; those from before there were two kinds do not say it.

    >>> kind_of('{"detector": "metaproto"}'), kind_of('{"tau": 0.5}')
    ('metaproto', 'gru')
    """
    return "metaproto" if json.loads(manifest).get("detector") == "metaproto" else "gru"


def promoted(lake: Lake, system: str = "") -> Model | None:
    """The model that serves for a system alone; without a name the one that sources taught. None where none does."""
    return promoted_models(lake).get(system)


def serving(lake: Lake, systems: Sequence[System]) -> dict[str, Model]:
    """By name the model that serves each system: its own where it has one and may use it. Raises ConfigError where there is none.

    A model of its own is one of the detector that the system file names; until there is one, the general model serves.
    """
    models = promoted_models(lake)
    found = {system.name: model for system in systems if (model := serving_model(models, system)) is not None}
    if len(found) < len(systems):
        raise ConfigError(f"no model serves in the lake {lake.root}: run `nightlog train` first")
    return found


def serving_model(models: Mapping[str, Model], system: System) -> Model | None:
    """Return the model that serves a system, None if there is none. Args: models: see `promoted_models`."""
    own = models.get(system.name)
    if own is not None and (own.detector != system.detector or (own.detector == "gru" and system.collaboration == "generallog")):
        own = None
    return own or models.get("")


def model_of(lake: Lake, version: str) -> Model:
    """The model of a version, whether it still serves or not. Raises: ConfigError."""
    row = next(iter(lake.rows(MODELS, version=version)), None)
    if row is None:
        raise ConfigError(f"{MODELS.name} does not know the model {version} any more")
    return Model(version, f"{lake.root}/models/{version}.safetensors", row["sha256"], kind_of(row["manifest"]))


def as_then(lake: Lake, systems: Sequence[System], ds: str) -> dict[str, Model]:
    """By name the model that judged each system when the night was published. Raises ConfigError where one was not published, or where its
    model is no longer known."""
    published = {
        row["system"]: row["versions"]
        for row in lake.rows(NIGHTS, ["system", "outcome", "versions"], ds=ds)
        if is_published(row["outcome"])
    }
    if missing := [system.name for system in systems if system.name not in published]:
        raise ConfigError(f"{', '.join(missing)} {ds}: not published, so no model has judged the night: run it without --as-run")
    return {system.name: model_of(lake, published[system.name]["model"]) for system in systems}


@lru_cache(maxsize=8)
def load(model: Model) -> Loaded:
    """Read a model, once a process, after its digest was verified. Raises ModelIntegrityError."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    path = model.path
    try:
        content = read_file(path)
    except FileNotFoundError as error:
        raise ModelIntegrityError(
            f"{path}: the file of model {model.version} is missing; train again or restore it from a copy of the lake"
        ) from error
    if (digest := hashlib.sha256(content).hexdigest()) != model.sha256:
        raise ModelIntegrityError(f"{path}: expected sha256 {model.sha256}, got {digest}; the file was altered: train again or restore it")
    try:
        tensors = from_bytes(content)
        found = manifest_in(content)
        kept = found.pop("kept", {})
        manifest = Manifest.from_json(json.dumps(found))
        vectors = tensors.pop(SOURCE_VECTORS).numpy()
        detector = put_together(tensors, manifest, kept)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelIntegrityError(
            f"{path}: model {model.version} is of another version of Nightlog, or no model ({why}); "
            "train again: nightlog train, nightlog retrain"
        ) from error
    return Loaded(model.version, detector, manifest, SourceTemplates(vectors, manifest.source_texts, manifest.source_systems))
