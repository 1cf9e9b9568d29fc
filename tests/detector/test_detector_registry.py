"""The registry of models: what is saved comes back, altered files are refused, and one model serves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from detector_help import DIMENSIONS, SHAPE, manifest
from nightlog.detector.calibration import Calibration
from nightlog.detector.network import Network
from nightlog.detector.registry import Model, general_model, load, model_of, promote, promoted, save, serving
from nightlog.errors import ConfigError, ModelIntegrityError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MODELS
from nightlog.outcomes import EXIT_PERMANENT
from nightlog.systems.spec import Input, Session, System
from safetensors.torch import save as to_bytes

NOW = datetime(2026, 3, 4, tzinfo=UTC)
VECTORS = np.random.default_rng(0).standard_normal((2, DIMENSIONS)).astype(np.float32)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Lake]:
    load.cache_clear()
    yield Lake(tmp_path / "lake")
    load.cache_clear()


def make(lake: Lake, seed: int = 0, **changed: object) -> Model:
    torch.manual_seed(seed)
    return save(lake, Network(SHAPE), VECTORS, manifest(**changed), {"f1": 0.5}, NOW)


def statuses(lake: Lake) -> dict[str, str]:
    return {row["version"]: row["status"] for row in lake.rows(MODELS)}


def test_a_saved_model_comes_back_whole(bare: Lake) -> None:
    model = make(bare)
    promote(bare, model.version)
    assert promoted(bare) == model
    found = load(promoted(bare))
    assert found.version == model.version
    assert found.manifest == manifest()
    assert np.array_equal(found.sources.vectors, VECTORS)
    assert (found.sources.texts, found.sources.systems) == (("one", "two ü"), ("a", "b"))
    torch.manual_seed(0)
    original = Network(SHAPE).state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in found.network.state_dict().items())
    assert not found.network.training

    (row,) = bare.rows(MODELS)
    assert (row["sha256"], row["sources"], dict(row["metrics"])) == (model.sha256, ["a", "b"], {"f1": 0.5})
    assert json.loads(row["manifest"])["tau"] == 0.8
    assert hashlib.sha256(Path(model.path).read_bytes()).hexdigest() == model.sha256
    assert model.version == model.sha256[:16]


def test_the_same_weights_are_the_same_version_and_others_another(bare: Lake) -> None:
    first = make(bare)
    promote(bare, first.version)
    assert make(bare) == first
    assert statuses(bare) == {first.version: "promoted"}
    assert len({first.version, make(bare, seed=1).version, make(bare, tau=0.9).version}) == 3
    assert len(bare.rows(MODELS)) == 3


def test_a_file_is_tensors_and_text_and_nothing_that_runs(bare: Lake, tmp_path: Path) -> None:
    content = Path(make(bare).path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["manifest"])["encoder"] == "e"
    assert {each["dtype"] for name, each in header.items() if name != "__metadata__"} == {"F32"}

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    poison = pickle.dumps(Trap())
    path = tmp_path / "poison.safetensors"
    path.write_bytes(poison)
    with pytest.raises(ModelIntegrityError, match=r"[Hh]eader"):
        load(Model("poison", str(path), hashlib.sha256(poison).hexdigest()))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", [0, 100, -1])
def test_an_altered_file_is_refused(bare: Lake, place: int) -> None:
    model = make(bare)
    content = bytearray(Path(model.path).read_bytes())
    content[place] ^= 1
    Path(model.path).write_bytes(bytes(content))
    with pytest.raises(ModelIntegrityError) as caught:
        load(model)
    assert model.path in str(caught.value) and model.sha256 in str(caught.value)
    assert caught.value.exit_code == EXIT_PERMANENT


@pytest.mark.parametrize("kind", ["a manifest without tau", "a field that nobody knows", "other layers", "no manifest", "no tensors"])
def test_a_model_of_another_version_is_refused_with_what_to_do(bare: Lake, kind: str) -> None:
    """Its digest is right: nobody altered it, another version of Nightlog wrote it."""
    tensors, text = {"source_vectors": torch.zeros(2, 3)}, dataclasses.asdict(manifest())
    if kind != "other layers":
        tensors |= {name: tensor.contiguous() for name, tensor in Network(SHAPE).state_dict().items()}
    if kind == "a manifest without tau":
        del text["tau"]
    if kind == "a field that nobody knows":
        text["temperature"] = 1.0
    content = to_bytes(tensors, {"manifest": json.dumps(text)} if kind != "no manifest" else None)
    content = b"{}" if kind == "no tensors" else content
    path = Path(bare.root, "other.safetensors")
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ModelIntegrityError, match=r"another version of Nightlog, or no model .* train again"):
        load(Model("other", str(path), hashlib.sha256(content).hexdigest()))


def test_a_missing_file_is_refused_with_what_to_do(bare: Lake) -> None:
    model = make(bare)
    Path(model.path).unlink()
    with pytest.raises(ModelIntegrityError, match="missing; train again or restore"):
        load(model)


def test_promoting_retires_the_model_that_served_in_one_commit(bare: Lake) -> None:
    one, two, three = (make(bare, seed).version for seed in range(3))
    promote(bare, one)
    version = bare.table(MODELS).version()
    promote(bare, two)
    assert bare.table(MODELS).version() == version + 1
    assert statuses(bare) == {one: "retired", two: "promoted", three: "candidate"}
    promote(bare, two)
    assert promoted(bare).version == two
    promote(bare, one)
    assert statuses(bare) == {one: "promoted", two: "retired", three: "candidate"}
    assert all(row["sha256"] and row["manifest"] and row["created_at"] for row in bare.rows(MODELS))


def test_a_model_that_nobody_knows_cannot_serve_and_nothing_changes(bare: Lake) -> None:
    one = make(bare).version
    promote(bare, one)
    with pytest.raises(ConfigError, match="no model 0123"):
        promote(bare, "0123")
    assert statuses(bare) == {one: "promoted"}


def served(lake: Lake, system: System) -> Model:
    return serving(lake, [system])[system.name]


def a_system(name: str, **more: object) -> System:
    return System(name=name, role="target", input=Input(path="{ds}"), session=Session(kind="field"), **more)


def test_without_a_trained_model_the_general_one_that_ships_serves(bare: Lake) -> None:
    for _ in range(2):
        assert promoted(bare) is None
        assert served(bare, a_system("app")) == general_model()
        make(bare)
    promote(bare, make(bare, seed=1, system="app").version)
    assert served(bare, a_system("web")) == general_model() != served(bare, a_system("app"))


def test_the_general_model_has_no_file_and_calls_nothing_general(bare: Lake) -> None:
    version = general_model().version
    found = load(model_of(bare, version))
    assert (found.version, found.manifest.tau, found.manifest.threshold, found.manifest.foreign_threshold) == (version, None, None, None)
    with pytest.raises(ConfigError, match="the GRU is needed"):
        _ = found.network
    assert model_of(bare, "general-0").version == "general-0", "nights that another version of Nightlog judged can be read"


def test_a_system_is_served_by_its_own_model_and_no_other_system_is(bare: Lake) -> None:
    general, own, other = make(bare), make(bare, seed=1, system="app"), make(bare, seed=2, system="web")
    promote(bare, general.version)
    assert served(bare, a_system("app")) == general, "a candidate serves nobody"
    promote(bare, own.version)
    assert served(bare, a_system("app")) == served(bare, a_system("app", collaboration="fusionlog")) == own
    assert served(bare, a_system("app", collaboration="generallog")) == served(bare, a_system("web")) == promoted(bare) == general
    assert promoted(bare, "app") == own and promoted(bare, "web") is None
    promote(bare, other.version)
    assert statuses(bare) == dict.fromkeys((general.version, own.version, other.version), "promoted")
    assert {row["version"]: row["system"] for row in bare.rows(MODELS)} == {general.version: "", own.version: "app", other.version: "web"}


def test_promoting_a_systems_model_retires_that_systems_alone_in_one_commit(bare: Lake) -> None:
    general, first, second = make(bare).version, make(bare, 1, system="app").version, make(bare, 2, system="app").version
    promote(bare, general)
    promote(bare, first)
    version = bare.table(MODELS).version()
    promote(bare, second)
    assert bare.table(MODELS).version() == version + 1
    assert statuses(bare) == {general: "promoted", first: "retired", second: "promoted"}
    newer = make(bare, 3).version
    promote(bare, newer)
    assert statuses(bare) == {general: "retired", newer: "promoted", first: "retired", second: "promoted"}


def test_both_calibrations_come_back_and_are_shown(bare: Lake) -> None:
    model = make(bare, foreign=Calibration(0.125, -3.0))
    assert (load(model).manifest.foreign, load(model).manifest.calibration) == (Calibration(0.125, -3.0), Calibration(0.75, 0.5))
    assert json.loads(bare.rows(MODELS)[0]["manifest"])["foreign"] == {"slope": 0.125, "bias": -3.0}
    assert make(bare).version != model.version
