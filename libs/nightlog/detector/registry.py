"""Models: a safetensors file each, never pickled, and the table that says which one serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nightlog.detector.manifest import OF_GENERAL, Kind, Manifest, manifest_in
from nightlog.errors import ConfigError, ModelIntegrityError, NotThere
from nightlog.history.general import general, is_general_model
from nightlog.lake.lake import Lake
from nightlog.lake.storage import read_file, write_file
from nightlog.lake.tables import MODELS, NIGHTS, ModelRow
from nightlog.outcomes import is_published
from nightlog.routing.router import SourceTemplates
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from torch import Tensor

    from nightlog.detector.metaproto.detector import MetaProto
    from nightlog.detector.network import Network

SOURCE_VECTORS = "source_vectors"


@dataclass(frozen=True)
class Model:
    """A model: its version, the path of its file, and the digest that the file must have. The general model that ships has no file."""

    version: str
    path: str
    sha256: str
    detector: Kind = "gru"


@dataclass(frozen=True)
class Loaded:
    """A model in memory. `detector` is None for the general model that ships: the history scores in its place."""

    version: str
    detector: Network | MetaProto | None
    manifest: Manifest
    sources: SourceTemplates

    @property
    def network(self) -> Network:
        """The GRU. Raises ConfigError if the model is another detector."""
        from nightlog.detector.network import Network

        if not isinstance(self.detector, Network):
            raise ConfigError(f"model {self.version} is a {self.manifest.detector} of {self.manifest.system}, and the GRU is needed here")
        return self.detector

    @property
    def metaproto(self) -> MetaProto:
        """The MetaProto. Raises ConfigError if the model is another detector."""
        from nightlog.detector.metaproto.detector import MetaProto

        if not isinstance(self.detector, MetaProto):
            raise ConfigError(f"model {self.version} is a {self.manifest.detector}, and a metaproto is needed here")
        return self.detector


def general_model(version: str | None = None) -> Model:
    """Return the general model that ships, or that of another version of Nightlog, whose rows in the lake can still be read."""
    return Model(version or general().version, "", "", "history")


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
        row: ModelRow = {"version": model.version, "system": manifest.system, "sha256": sha256, "status": "candidate"}
        row |= {"sources": list(manifest.sources), "manifest": json.dumps(shown, sort_keys=True)}
        lake.append(MODELS, [row | {"metrics": dict(metrics), "created_at": now}])
    return model


def taken_apart(detector: Network | MetaProto) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a detector, and what else it is made of."""
    from nightlog.detector.network import Network

    if isinstance(detector, Network):
        return {name: tensor.contiguous() for name, tensor in detector.state_dict().items()}, {}
    from nightlog.detector.metaproto.detector import pack

    return pack(detector)


def put_together(tensors: dict[str, Tensor], manifest: Manifest, kept: Mapping[str, Any]) -> Network | MetaProto:
    """The detector that `taken_apart` took apart."""
    if manifest.detector == "metaproto":
        from nightlog.detector.metaproto.detector import unpack

        return unpack(tensors, kept)
    from nightlog.detector.network import Network

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
    """Return the model that serves for a system alone; without a name the one trained on the sources. None if there is none."""
    return promoted_models(lake).get(system)


def serving(lake: Lake, systems: Sequence[System]) -> dict[str, Model]:
    """Return by name the model that serves each system.

    It is the system's own model, if it has one of the detector that its file names; otherwise the one trained on the sources; otherwise the
    general model that ships.
    """
    models = promoted_models(lake)
    return {system.name: serving_model(models, system) for system in systems}


def serving_model(models: Mapping[str, Model], system: System) -> Model:
    """Return the model that serves a system. Args: models: see `promoted_models`."""
    own = models.get(system.name)
    if own is not None and (own.detector != system.detector or (own.detector == "gru" and system.collaboration == "generallog")):
        own = None
    return own or models.get("") or general_model()


def model_of(lake: Lake, version: str) -> Model:
    """Return the model of a version, whether it still serves or not. Raises: ConfigError."""
    if is_general_model(version):
        return general_model(version)
    row = next(iter(lake.rows(MODELS, version=version)), None)
    if row is None:
        raise ConfigError(f"{MODELS.name} does not know the model {version} any more")
    return Model(version, f"{lake.root}/models/{version}.safetensors", row["sha256"], kind_of(row["manifest"]))


def as_then(lake: Lake, systems: Sequence[System], ds: str) -> dict[str, Model]:
    """By name the model that judged each system when the night was published. Raises NotThere if one was not published, ConfigError if its
    model is no longer known."""
    published = {
        row["system"]: versions["model"]
        for row in lake.rows(NIGHTS, ["system", "outcome", "versions"], ds=ds)
        if is_published(row["outcome"]) and (versions := row["versions"]) is not None
    }
    if missing := [system.name for system in systems if system.name not in published]:
        raise NotThere(f"{', '.join(missing)} {ds}: not published, so no model has judged the night: run it without --as-run")
    return {system.name: model_of(lake, published[system.name]) for system in systems}


@lru_cache(maxsize=8)
def load(model: Model) -> Loaded:
    """Read a model, once per process, after its digest was verified. Raises ModelIntegrityError."""
    if model.detector == "history":
        return Loaded(model.version, None, OF_GENERAL, SourceTemplates(np.zeros((0, 0), dtype=np.float32), (), ()))
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
