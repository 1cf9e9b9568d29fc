"""A MetaProto in the registry: it comes back bit for bit, altered files are refused, and it serves where the system file names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from metaproto_help import made_detector, system, unlabelled
from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import Manifest, Shape
from nightlog.detector.metaproto.detector import MetaProto
from nightlog.detector.network import Network
from nightlog.detector.registry import load, promote, promoted, save, serving
from nightlog.errors import ConfigError, ModelIntegrityError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MODELS
from nightlog.systems.spec import Input, Session, System

NOW = datetime(2026, 3, 4, tzinfo=UTC)
TARGET = unlabelled(system("app", seed=3))
MANIFEST = Manifest(
    encoder="e",
    tau=0.8,
    threshold=0.5,
    foreign_threshold=0.5,
    foreign=Calibration(),
    shape=Shape(12, 8, 8),
    source_texts=("one",),
    source_systems=("a",),
    sources=("a",),
    data={},
    system="app",
    detector="metaproto",
)
VECTORS = np.eye(1, 12, dtype=np.float32)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Lake]:
    load.cache_clear()
    yield Lake(tmp_path / "lake")
    load.cache_clear()


@pytest.fixture(scope="module")
def detector() -> MetaProto:
    return made_detector(TARGET)


def app(**more: object) -> System:
    return System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"), **more)


def test_what_comes_back_says_the_same_to_the_last_bit(bare: Lake, detector: MetaProto) -> None:
    found = load(save(bare, detector, VECTORS, MANIFEST, detector.detail, NOW))
    assert found.manifest == MANIFEST and not isinstance(found.detector, Network)
    other = unlabelled(replace(system("app", n=90, seed=8), vectors=TARGET.vectors))
    for patterns in (TARGET, other):
        np.testing.assert_array_equal(found.metaproto.probability(patterns), detector.probability(patterns))
    assert detector.probability(TARGET).std() > 0
    labelled = {0: True, 1: False, 2: False}
    again = found.metaproto.with_labels(TARGET, labelled).probability(TARGET)
    np.testing.assert_array_equal(again, detector.with_labels(TARGET, labelled).probability(TARGET))
    assert (found.metaproto.options, found.metaproto.detail) == (detector.options, detector.detail)
    assert json.loads(bare.rows(MODELS)[0]["manifest"])["detector"] == "metaproto"
    with pytest.raises(ConfigError, match="metaproto of app"):
        _ = found.network


def test_the_same_detector_is_the_same_version_and_another_support_is_another(bare: Lake, detector: MetaProto) -> None:
    one, again = (save(bare, detector, VECTORS, MANIFEST, {}, NOW) for _ in range(2))
    assert one == again and len(bare.rows(MODELS)) == 1
    assert save(bare, detector.with_labels(TARGET, {0: True, 1: False}), VECTORS, MANIFEST, {}, NOW).version != one.version


@pytest.mark.parametrize("place", [0, 2000, -1])
def test_an_altered_detector_is_refused(bare: Lake, detector: MetaProto, place: int) -> None:
    model = save(bare, detector, VECTORS, MANIFEST, {}, NOW)
    content = bytearray(Path(model.path).read_bytes())
    content[place] ^= 1
    Path(model.path).write_bytes(bytes(content))
    with pytest.raises(ModelIntegrityError, match="altered"):
        load(model)


def test_the_detector_that_the_system_file_names_serves_and_the_general_model_until_it_is_there(bare: Lake, detector: MetaProto) -> None:
    torch.manual_seed(0)
    general = save(bare, Network(MANIFEST.shape), VECTORS, replace(MANIFEST, system="", detector="gru"), {}, NOW)
    promote(bare, general.version)
    assert serving(bare, [app(detector="metaproto")]) == {"app": general}
    own = save(bare, detector, VECTORS, MANIFEST, {}, NOW)
    assert serving(bare, [app(detector="metaproto")]) == {"app": general}, "a candidate serves nobody"
    promote(bare, own.version)
    assert promoted(bare, "app") == own
    for collaboration in ("auto", "generallog", "fusionlog"):
        assert serving(bare, [app(detector="metaproto", collaboration=collaboration)]) == {"app": own}
    assert serving(bare, [app()]) == {"app": general}, "the file names the GRU again"
    student = save(bare, Network(MANIFEST.shape), VECTORS, replace(MANIFEST, detector="gru"), {}, NOW)
    promote(bare, student.version)
    assert serving(bare, [app()]) == {"app": student} and serving(bare, [app(detector="metaproto")]) == {"app": general}
    assert {row["version"]: row["status"] for row in bare.rows(MODELS)} == {
        general.version: "promoted",
        own.version: "retired",
        student.version: "promoted",
    }
