"""General or proprietary: nearest source templates, the threshold from sources alone, and the least familiar template decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.lake.store import Lake
from nightlog.lake.tables import PATTERNS, ROUTES, VECTORS
from nightlog.routing.router import (
    BLOCK,
    LEAST_TAU,
    SourceTemplates,
    choose_tau,
    is_general,
    most_similar,
    nearest_sources,
    route,
    route_patterns,
)
from nightlog.systems.spec import Input, Session, System
from pyspark.sql import SparkSession

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

PATTERN = "pattern_id string, events array<struct<template_id: string, count: long>>"
NEAR = "template_id string, source string, nearest_source_template string, similarity double"


def test_the_least_familiar_template_decides(spark: SparkSession) -> None:
    patterns = {"all-known": "ab", "one-strange": "abz", "at-tau": "b", "below": "c", "no-vector": "an", "only-unknown": "n"}
    rows = [(name, [(template, 2) for template in templates]) for name, templates in patterns.items()]
    near = [("a", "bgl", "A", 0.99), ("b", "bgl", "B", 0.8), ("c", "os", "C", 0.79), ("z", "os", "Z", -0.2)]
    for parts in (1, 3):
        frame = spark.createDataFrame(rows, PATTERN).repartition(parts)
        found = route_patterns(frame, spark.createDataFrame(near[::-1], NEAR).repartition(parts), 0.8).collect()
        assert len(found) == len(rows)
        by_id = {row["pattern_id"]: row for row in found}
        assert {name: row["route"] for name, row in by_id.items()} == {
            "all-known": "general",
            "one-strange": "proprietary",
            "at-tau": "general",
            "below": "proprietary",
            "no-vector": "proprietary",
            "only-unknown": "proprietary",
        }
        assert {name: row["similarity"] for name, row in by_id.items()} == {
            "all-known": 0.8,
            "one-strange": -0.2,
            "at-tau": 0.8,
            "below": 0.79,
            "no-vector": -1.0,
            "only-unknown": -1.0,
        }
        assert [tuple(each) for each in by_id["one-strange"]["nearest"]] == [near[0], near[1], near[3]]
        assert [tuple(each) for each in by_id["no-vector"]["nearest"]] == [near[0], ("n", None, None, None)]


def test_spark_finds_the_sources_that_numpy_finds(spark: SparkSession) -> None:
    ours, theirs = unit(50, 3), unit(30, 4)
    sources = SourceTemplates(theirs, tuple(f"text {n}" for n in range(30)), tuple("ab"[n % 2] for n in range(30)))
    frame = spark.createDataFrame([(f"t{n}", row.tolist()) for n, row in enumerate(ours)], "template_id string, vector array<float>")
    found = {row["template_id"]: row for row in nearest_sources(frame.repartition(3), sources).collect()}
    where, cosine = most_similar(ours, theirs)
    assert len(found) == 50
    for n in range(50):
        row = found[f"t{n}"]
        assert (row["nearest_source_template"], row["source"]) == (f"text {where[n]}", "ab"[where[n] % 2])
        assert row["similarity"] == pytest.approx(float(cosine[n]), abs=6e-5)
    nobody = SourceTemplates(np.zeros((0, 8), dtype=np.float32), (), ())
    assert nearest_sources(frame, nobody).collect() == []


@pytest.fixture
def put_patterns(lake: Lake) -> Callable[[dict[str, str]], None]:
    def put(patterns: dict[str, str]) -> None:
        day = {"system": "app", "ds": DS}
        rows = [day | {"pattern_id": name, "events": [{"template_id": t, "count": 1} for t in found]} for name, found in patterns.items()]
        lake.put(PATTERNS, rows, **day)

    return put


def test_a_night_is_routed_into_its_slice_with_the_vectors_of_the_models_encoder(
    lake: Lake, put_patterns: Callable[[dict[str, str]], None]
) -> None:
    axis = np.eye(4, dtype=np.float32)
    system = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"))
    of = {"a": axis[0], "b": axis[1], "c": axis[2]}
    lake.put(VECTORS, [{"system": "app", "template_id": name, "encoder": "e1", "vector": row.tolist()} for name, row in of.items()])
    lake.put(VECTORS, [{"system": "app", "template_id": "c", "encoder": "e0", "vector": axis[0].tolist()}])
    sources = SourceTemplates(axis[:2], ("first", "second"), ("bgl", "bgl"))

    put_patterns({"known": "ab", "strange": "ac"})
    assert route(lake, system, DS, sources, 0.9, "m1", "e1") == {"n_proprietary": 1}
    found = {row["pattern_id"]: (row["route"], row["similarity"], row["model"]) for row in lake.rows(ROUTES, system="app", ds=DS)}
    assert found == {"known": ("general", 1.0, "m1"), "strange": ("proprietary", 0.0, "m1")}

    put_patterns({"strange": "ac"})
    assert route(lake, system, DS, sources, -0.5, "m2", "e1") == {"n_proprietary": 0}
    assert [(row["pattern_id"], row["route"], row["model"]) for row in lake.rows(ROUTES)] == [("strange", "general", "m2")]


def test_patterns_in_memory_are_general_where_the_nights_are(spark: SparkSession) -> None:
    ours, sources = unit(12, 5), unit(30, 6)
    events = [((a, 1), (b, 2)) for a in range(12) for b in range(a + 1, 12)]
    frame = spark.createDataFrame([(f"t{n}", row.tolist()) for n, row in enumerate(ours)], "template_id string, vector array<float>")
    patterns = spark.createDataFrame(
        [(f"p{n}", [(f"t{row}", count) for row, count in pattern]) for n, pattern in enumerate(events)],
        "pattern_id string, events array<struct<template_id: string, count: bigint>>",
    )
    known = SourceTemplates(sources, tuple(f"s{n}" for n in range(30)), ("x",) * 30)
    nearest = nearest_sources(frame, known)
    tau = sorted(row["similarity"] for row in nearest.collect())[4]  # exactly one template's similarity, rounding included
    rows = route_patterns(patterns, nearest, tau).collect()
    wanted = {row["pattern_id"]: row["route"] == "general" for row in rows}
    found = is_general(ours, events, sources, tau)
    assert {f"p{n}": bool(general) for n, general in enumerate(found)} == wanted
    assert 0 < found.sum() < len(found)
