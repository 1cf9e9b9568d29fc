"""General or proprietary: nearest source templates, the threshold from sources alone, and the least familiar template decides."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.lake.lake import Lake
from nightlog.lake.tables import PATTERNS, ROUTES, VECTORS
from nightlog.lake.tables.silver import NearestTemplate
from nightlog.routing.router import (
    BLOCK,
    LEAST_TAU,
    SourceTemplates,
    choose_tau,
    is_general,
    most_similar,
    nearest_sources,
    read_vectors,
    route,
    route_patterns,
)
from nightlog.systems.spec import Input, Session, System

DS = "2026-03-04"


def unit(n: int, seed: int, dimensions: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(1, 60), seed=st.integers(0, 1000))
def test_the_nearest_source_is_the_one_that_comparing_all_finds(n: int, m: int, seed: int) -> None:
    ours, sources = unit(n, seed), unit(m, seed + 1)
    where, cosine = most_similar(ours, sources)
    every = ours @ sources.T
    assert np.array_equal(where, every.argmax(axis=1))
    assert np.allclose(cosine, every.max(axis=1), atol=1e-6)


def test_the_nearest_source_is_found_beyond_the_first_block() -> None:
    sources = unit(BLOCK + 10, 1)
    ours = np.stack([sources[BLOCK + 7], sources[3], -sources[BLOCK]])
    where, cosine = most_similar(ours, sources)
    assert where[:2].tolist() == [BLOCK + 7, 3]
    assert np.allclose(cosine[:2], 1, atol=1e-6)
    assert np.array_equal(where, (ours @ sources.T).argmax(axis=1))


def test_many_templates_are_compared_with_many_sources_in_bounded_memory() -> None:
    """Neither number may set the size of a product: all at once would be 800 MB here."""
    ours, sources = unit(5 * BLOCK, 2), unit(2 * BLOCK + 1000, 3)
    tracemalloc.start()
    where, _ = most_similar(ours, sources)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 4 * BLOCK * BLOCK
    some = np.arange(0, len(ours), 997)
    assert np.array_equal(where[some], (ours[some] @ sources.T).argmax(axis=1))


def test_vectors_are_read_in_the_order_of_ids_and_each_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    row = {"system": "app", "encoder": "e"}
    for names in (["t3", "t1"], ["t2", "t1"]):
        lake.append(VECTORS, [row | {"template_id": name, "vector": [float(name[1]), 0.5]} for name in names])
    lake.append(VECTORS, [row | {"template_id": "t1", "encoder": "other", "vector": [9.0, 9.0]}])
    names, vectors = read_vectors(lake, "app", "e", ["t1", "t3", "unknown"])
    assert (names, vectors.dtype, vectors.tolist()) == (["t1", "t3"], np.float32, [[1.0, 0.5], [3.0, 0.5]])
    assert read_vectors(lake, "app", "e", [])[0] == []


def test_nothing_is_familiar_where_there_are_no_sources() -> None:
    _, cosine = most_similar(unit(3, 1), np.zeros((0, 8), dtype=np.float32))
    assert cosine.tolist() == [-1, -1, -1]


# Tau


def test_tau_is_what_nineteen_of_twenty_patterns_of_a_left_out_source_do_not_reach() -> None:
    axis = np.eye(8, dtype=np.float32)
    one = np.stack([axis[0]])
    similar = [np.cos(angle) * axis[0] + np.sin(angle) * axis[1] for angle in np.linspace(0.1, 0.8, 100)]
    two = np.stack(similar).astype(np.float32)
    patterns = {"one": [], "two": [[n] for n in range(100)]}
    tau = choose_tau({"one": one, "two": two}, patterns)
    reached = two @ axis[0]
    assert tau == pytest.approx(np.quantile(reached, 0.95), abs=1e-3)
    assert (reached >= tau).mean() == pytest.approx(0.05, abs=0.01)


def test_a_pattern_of_a_source_is_as_familiar_as_its_least_familiar_template() -> None:
    axis = np.eye(8, dtype=np.float32)
    two = np.stack([axis[0], 0.6 * axis[0] + 0.8 * axis[1]])
    vectors = {"one": np.stack([axis[0]]), "two": two}
    assert choose_tau(vectors, {"one": [], "two": [[0]]}) == pytest.approx(1.0, abs=1e-3)
    assert choose_tau(vectors, {"one": [], "two": [[0, 1]]}) == pytest.approx(0.6, abs=1e-3)


def test_a_source_is_never_measured_by_itself_and_tau_has_a_floor() -> None:
    axis = np.eye(8, dtype=np.float32)
    assert choose_tau({"one": axis[:2]}, {"one": [[0], [1]]}) == LEAST_TAU
    assert choose_tau({}, {}) == LEAST_TAU
    assert choose_tau({"one": axis[:2], "two": axis[2:4]}, {"one": [[0], [1]], "two": [[0], [1]]}) == LEAST_TAU
    assert choose_tau({"one": axis[:2], "two": axis[1:3]}, {"one": [[1]], "two": [[0]]}) > LEAST_TAU


def test_tau_does_not_depend_on_the_order_of_sources() -> None:
    vectors = {name: unit(20, seed) for seed, name in enumerate("abc")}
    patterns = {name: [[n, n + 1] for n in range(10)] for name in "abc"}
    turned = {name: vectors[name] for name in "cba"}
    assert choose_tau(vectors, patterns) == choose_tau(turned, patterns)


# Patterns


def pattern(name: str, templates: Iterable[str]) -> dict[str, Any]:
    return {"pattern_id": name, "events": [{"template_id": template, "count": 2} for template in templates]}


def test_the_least_familiar_template_decides() -> None:
    patterns = {"all-known": "ab", "one-strange": "zba", "at-tau": "b", "below": "c", "no-vector": "an", "only-unknown": "n"}
    near = {"a": ("bgl", "A", 0.99), "b": ("bgl", "B", 0.8), "c": ("os", "C", 0.79), "z": ("os", "Z", -0.2)}
    nearest = {
        name: NearestTemplate(template_id=name, source=source, nearest_source_template=text, similarity=similarity)
        for name, (source, text, similarity) in near.items()
    }
    found = route_patterns([pattern(*each) for each in patterns.items()], nearest, 0.8)
    assert {row["pattern_id"]: (row["route"], row["similarity"]) for row in found} == {
        "all-known": ("general", 0.8),
        "one-strange": ("proprietary", -0.2),
        "at-tau": ("general", 0.8),
        "below": ("proprietary", 0.79),
        "no-vector": ("proprietary", -1.0),
        "only-unknown": ("proprietary", -1.0),
    }
    by_id = {row["pattern_id"]: row["nearest"] for row in found}
    assert [each["nearest_source_template"] for each in by_id["one-strange"]] == ["A", "B", "Z"]
    assert by_id["no-vector"][1] == {"template_id": "n"}


def test_each_template_has_the_source_that_is_most_like_it() -> None:
    ours, theirs = unit(50, 3), unit(30, 4)
    sources = SourceTemplates(theirs, tuple(f"text {n}" for n in range(30)), tuple("ab"[n % 2] for n in range(30)))
    found = nearest_sources([f"t{n}" for n in range(50)], ours, sources)
    where, cosine = most_similar(ours, theirs)
    for n in range(50):
        assert found[f"t{n}"] == {
            "template_id": f"t{n}",
            "source": "ab"[where[n] % 2],
            "nearest_source_template": f"text {where[n]}",
            "similarity": pytest.approx(float(cosine[n]), abs=6e-5),
        }
    assert nearest_sources(["t"], ours[:1], SourceTemplates(np.zeros((0, 8), dtype=np.float32), (), ())) == {}


@pytest.fixture
def put_patterns(lake: Lake) -> Callable[[dict[str, str]], None]:
    def put(patterns: dict[str, str]) -> None:
        day = {"system": "app", "ds": DS}
        rows = [day | {"pattern_id": name, "events": [{"template_id": t, "count": 1} for t in found]} for name, found in patterns.items()]
        lake.replace(PATTERNS, rows, **day)

    return put


def test_a_night_is_routed_into_its_slice_with_the_vectors_of_the_models_encoder(
    lake: Lake, put_patterns: Callable[[dict[str, str]], None]
) -> None:
    axis = np.eye(4, dtype=np.float32)
    system = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"))
    of = {"a": axis[0], "b": axis[1], "c": axis[2]}
    lake.append(VECTORS, [{"system": "app", "template_id": name, "encoder": "e1", "vector": row.tolist()} for name, row in of.items()])
    lake.append(VECTORS, [{"system": "app", "template_id": "c", "encoder": "e0", "vector": axis[0].tolist()}])
    sources = SourceTemplates(axis[:2], ("first", "second"), ("bgl", "bgl"))

    put_patterns({"known": "ab", "strange": "ac"})
    assert route(lake, system, DS, sources, 0.9, "m1", "e1") == {"n_proprietary": 1}
    found = {row["pattern_id"]: (row["route"], row["similarity"], row["model"]) for row in lake.rows(ROUTES, system="app", ds=DS)}
    assert found == {"known": ("general", 1.0, "m1"), "strange": ("proprietary", 0.0, "m1")}

    put_patterns({"strange": "ac"})
    assert route(lake, system, DS, sources, -0.5, "m2", "e1") == {"n_proprietary": 0}
    assert [(row["pattern_id"], row["route"], row["model"]) for row in lake.rows(ROUTES)] == [("strange", "general", "m2")]


def test_patterns_in_memory_are_general_where_the_nights_are() -> None:
    ours, sources = unit(12, 5), unit(30, 6)
    events = [((a, 1), (b, 2)) for a in range(12) for b in range(a + 1, 12)]
    known = SourceTemplates(sources, tuple(f"s{n}" for n in range(30)), ("x",) * 30)
    nearest = nearest_sources([f"t{n:02d}" for n in range(12)], ours, known)
    tau = sorted(each["similarity"] or 0.0 for each in nearest.values())[4]  # exactly one template's similarity, rounding included
    rows = route_patterns([pattern(f"p{n}", [f"t{row:02d}" for row, _ in each]) for n, each in enumerate(events)], nearest, tau)
    found = is_general(ours, events, sources, tau)
    assert {f"p{n}": bool(general) for n, general in enumerate(found)} == {row["pattern_id"]: row["route"] == "general" for row in rows}
    assert 0 < found.sum() < len(found)
