"""MetaProto in the lake: taught on unlabelled patterns and answers, then the detector of the system's nights."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from metaproto_help import DIMENSIONS, QUICK, system
from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import Manifest, Shape
from nightlog.detector.metaproto.detector import learn
from nightlog.detector.metaproto.serving import MOST_PATTERNS, frequent, manifest_of, teach_metaproto
from nightlog.detector.network import Network
from nightlog.detector.patterns import Source
from nightlog.detector.registry import Model, load, promote, promoted, save, serving
from nightlog.detector.scoring import detect
from nightlog.detector.sources import read_patterns
from nightlog.detector.training import tau_of
from nightlog.distillation.retrain import distil_systems
from nightlog.lake.lake import Lake
from nightlog.lake.tables import PATTERNS, PSEUDO_LABELS, SCORES, TEMPLATES, VECTORS
from nightlog.systems.spec import Input, Session, System

NOW = datetime(2026, 3, 5, 2, 0, tzinfo=UTC)
FIRST, SECOND = "2026-03-03", "2026-03-04"
SOURCES = (system("a", seed=1), system("b", seed=2))
TRUTH = system("app", seed=3)
BY_ID = Session(kind="id", pattern=r"s\d+")
APP = System(name="app", role="target", input=Input(path="{ds}"), session=BY_ID, detector="metaproto")
LATER = APP.model_copy(update={"name": "later"})


def put_templates(lake: Lake, names: list[str], texts: list[str], vectors: np.ndarray) -> None:
    own = [{"system": "app", "template_id": name} for name in names]
    lake.append(TEMPLATES, [row | {"text": text} for row, text in zip(own, texts, strict=True)])
    lake.append(VECTORS, [row | {"encoder": "e", "vector": vector.tolist()} for row, vector in zip(own, vectors, strict=True)])


def put_night(lake: Lake, ds: str, patterns: Source, more: dict[str, list[tuple[str, int]]] | None = None) -> None:
    events = {name: [(f"t{row}", count) for row, count in own] for name, own in zip(patterns.ids, patterns.events, strict=True)}
    rows = []
    for name, own in (events | (more or {})).items():
        seen = [{"template_id": template, "count": count} for template, count in own]
        n = int(patterns.sessions[patterns.ids.index(name)]) if name in patterns.ids else 1
        rows.append({"system": "app", "ds": ds, "pattern_id": name, "question_id": name, "events": seen, "n_sessions": n})
    lake.append(PATTERNS, rows[::-1])


@pytest.fixture
def taught(lake: Lake) -> tuple[Lake, Manifest, list[str]]:
    """A lake with one night of `app`, where a general model serves and a MetaProto has been taught."""
    load.cache_clear()
    put_templates(lake, [f"t{row}" for row in range(len(TRUTH.texts))], list(TRUTH.texts), TRUTH.vectors)
    put_night(lake, FIRST, TRUTH)
    base = Manifest("e", 0.7, 0.6, None, Calibration(0.5, -1.0), Shape(DIMENSIONS, 8, 8), ("one",), ("a",), ("a", "b"), {"a": {}})
    promote(lake, save(lake, Network(base.shape), np.eye(1, DIMENSIONS, dtype=np.float32), base, {}, NOW).version)
    told: list[str] = []
    seen = {"app": read_patterns(lake, APP, "e"), "later": None}
    teach_metaproto(lake, seen, SOURCES, base, {"app": {}}, 0, NOW, told.append, QUICK)
    return lake, base, told


def scores(lake: Lake, ds: str) -> dict[str, tuple[float, dict[str, float]]]:
    rows = lake.rows(SCORES, system="app", ds=ds)
    return {row["pattern_id"]: (row["probability"], {each["template_id"]: each["weight"] for each in row["weights"]}) for row in rows}


@pytest.mark.slow
def test_a_metaproto_is_taught_serves_its_system_and_scores_its_nights(taught: tuple[Lake, Manifest, list[str]]) -> None:
    lake, base, told = taught
    own, general = promoted(lake, "app"), promoted(lake)
    assert own is not None and general is not None
    assert [line.split(":")[0] for line in told] == ["later", "app"] and "base model serves" in told[0] and own.version in told[1]
    assert serving(lake, [APP, LATER]) == {"app": own, "later": general}
    manifest = load(own).manifest
    assert (manifest.threshold, manifest.foreign_threshold, manifest.foreign, manifest.calibration) == (
        0.5,
        0.5,
        Calibration(),
        Calibration(),
    )
    assert manifest.data["app"] == {"patterns": 60, "sessions": int(TRUTH.sessions.sum()), "answered_patterns": 0}

    assert detect(lake, APP, FIRST, own, "cpu") == {"n_scored": 60}
    first = scores(lake, FIRST)
    flagged = np.array([first[name][0] >= 0.5 for name in TRUTH.ids])
    assert flagged[TRUTH.anomalous > 0].mean() > 0.8 and flagged[TRUTH.anomalous == 0].mean() < 0.2
    assert {row["model"] for row in lake.rows(SCORES)} == {own.version}
    assert all(sum(weights.values()) == pytest.approx(1, abs=1e-5) for _, weights in first.values())

    put_templates(lake, ["a-new-one"], ["panic: failed to sync <*>"], -TRUTH.vectors[:1])
    put_night(lake, SECOND, TRUTH.take(range(20)), {"strange": [("a-new-one", 1), ("t1", 1)]})
    assert detect(lake, APP, SECOND, own, "cpu") == {"n_scored": 21}
    second = scores(lake, SECOND)
    assert {name: second[name] for name in TRUTH.ids[:20]} == {name: first[name] for name in TRUTH.ids[:20]}, "a score is the pattern's own"
    assert max(second["strange"][1], key=second["strange"][1].__getitem__) == "a-new-one"

    detect(lake, APP, FIRST, own, "cpu")
    assert scores(lake, FIRST) == first

    kept: list[str] = []
    distil_systems(lake, [APP], {}, lake.root, NOW, None, kept.append)  # type: ignore[arg-type]
    assert kept == ["app: its detector is MetaProto, which is not distilled: `nightlog train` adapts it"]
    assert promoted(lake, "app") == own and not lake.rows(PSEUDO_LABELS)

    turned = {TRUTH.ids[i]: i % 5 != 0 for i in range(40)}
    seen = read_patterns(lake, APP, "e")
    teach_metaproto(lake, {"app": seen}, SOURCES, base, {"app": turned}, 0, NOW, told.append, QUICK)
    answered = promoted(lake, "app")
    assert isinstance(answered, Model) and answered != own and load(answered).manifest.data["app"]["answered_patterns"] == 40
    detect(lake, APP, FIRST, answered, "cpu")
    after = scores(lake, FIRST)
    rare, everyday = ([after[name][0] for i, name in enumerate(TRUTH.ids) if (i % 5 == 0) is bad] for bad in (True, False))
    assert np.mean(rare) < np.mean(everyday), "the analysts say the opposite of what the sources teach"


@pytest.mark.parametrize(
    ("left_out", "trusted"),
    [([(0.8, 0.2), (0.9, 0.2)], True), ([(0.49, 0.2), (0.9, 0.2)], False), ([(0.8, 0.95), (0.8, 0.9)], False), ([], False)],
)
def test_general_patterns_are_its_own_if_it_was_right_on_every_left_out_source(left_out: list[tuple[float, float]], trusted: bool) -> None:
    base = Manifest("e", 0.7, 0.6, None, Calibration(0.5, -1.0), Shape(DIMENSIONS, 8, 8), ("one",), ("a",), ("a", "b"), {"a": {}})
    source_model = learn(SOURCES, 0, QUICK)
    vars(source_model)["left_out"] = left_out
    found = manifest_of("app", TRUTH, 3, source_model, SOURCES, base)
    assert found.tau == (tau_of(SOURCES) if trusted else None)
    assert (found.system, found.detector, found.source_texts) == ("app", "metaproto", ("one",))


def test_the_most_frequent_patterns_are_what_a_metaproto_is_adapted_to() -> None:
    n = MOST_PATTERNS + 5
    many = replace(
        TRUTH,
        ids=tuple(f"p{i:05}" for i in range(n)),
        events=(((0, 1),),) * n,
        questions=(),
        sessions=np.where(np.arange(n) < 9, 1, 7),
        anomalous=np.zeros(n),
    )
    kept = frequent(many)
    assert len(kept.ids) == MOST_PATTERNS and kept.ids == tuple(sorted(kept.ids))
    assert set(many.ids) - set(kept.ids) == {f"p{i:05}" for i in range(4, 9)}, "of equal ones the first by id stay"
    assert frequent(TRUTH) is TRUTH
