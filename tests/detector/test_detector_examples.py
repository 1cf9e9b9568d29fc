"""Training examples: one table of template vectors for all systems, in which each pattern finds its own system's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from detector_help import toy_source
from nightlog.detector.examples import Examples, held_out
from nightlog.detector.network import sequence
from nightlog.detector.patterns import Patterns, Source


def with_own_vectors(name: str, templates: int, seed: int, n: int = 30) -> Source:
    """A toy source whose template vectors are like no other system's; `templates`, 10 or more, is the size of its table."""
    vectors = np.random.default_rng(seed).standard_normal((templates, 12)).astype(np.float32)
    return replace(toy_source(name, n=n, seed=seed), vectors=vectors, texts=tuple(f"{name} {t}" for t in range(templates)))


def vectors_of(examples: Examples) -> dict[int, list[np.ndarray]]:
    """System number → for each of its patterns the vectors that the network reads."""
    found: dict[int, list[np.ndarray]] = {}
    for system, row in zip(examples.system.tolist(), examples.rows, strict=True):
        found.setdefault(system, []).append(examples.table[row])
    return found


def own_vectors(system: Patterns) -> list[np.ndarray]:
    return [system.vectors[sequence(list(events))] for events in system.events]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_every_system_reads_its_own_template_vectors(order: tuple[int, ...]) -> None:
    """In the published code the second system reads the first one's rows."""
    systems = [with_own_vectors("one", 10, 1), with_own_vectors("two", 25, 2), with_own_vectors("three", 12, 3)]
    stacked = [systems[i] for i in order]
    examples = Examples.of(stacked)
    assert examples.table.shape == (47, 12)
    found = vectors_of(examples)
    for number, system in enumerate(stacked):
        for read, own in zip(found[number], own_vectors(system), strict=True):
            assert np.array_equal(read, own)
    for one in range(3):
        for other in range(3):
            assert one == other or not (set(found[one][0].ravel()) & set(stacked[other].vectors.ravel()))


def test_targets_sessions_and_systems_stand_beside_their_patterns() -> None:
    one, two = toy_source("one", n=5), toy_source("two", n=3, seed=1)
    examples = Examples.of([one, two.without_labels()])
    assert examples.system.tolist() == [0] * 5 + [1] * 3
    assert examples.targets[:5].tolist() == one.anomalous.tolist()
    assert np.isnan(examples.targets[5:]).all(), "what nobody labelled is not normal"
    assert examples.sessions.tolist() == [*one.sessions.tolist(), *two.sessions.tolist()]


def test_counts_are_read_only_where_they_tell_something() -> None:
    source = toy_source("one")
    counted, uncounted = Examples.of([source]), Examples.of([replace(source, counted=False)])
    assert uncounted.rows == [[row for row, _ in events] for events in source.events]
    assert counted.rows == [sequence(list(events)) for events in source.events] != uncounted.rows


def test_both_classes_are_drawn_alike_often_and_frequent_patterns_more() -> None:
    source = toy_source("one")
    examples = Examples.of([source])
    drawn = examples.draw(np.arange(120), 400_000, np.random.default_rng(0))
    assert (source.anomalous[drawn] == 1).sum() == 200_000, "30 of 120 are anomalous"
    times = np.bincount(drawn, minlength=120)
    for members in (source.anomalous == 1, source.anomalous == 0):
        expected = np.log1p(source.sessions[members])
        assert np.allclose(times[members] / 200_000, expected / expected.sum(), rtol=0.25)
    normal = np.flatnonzero(source.anomalous == 0)
    assert set(examples.draw(normal, 10, np.random.default_rng(0))) <= set(normal)
    assert len(examples.draw(normal, 10, np.random.default_rng(0))) == 10


def test_what_is_held_out_stays_so_when_patterns_are_added() -> None:
    small, large = toy_source("one", n=100), toy_source("one", n=400)
    kept = held_out(large, 0.25)
    assert held_out(small, 0.25).tolist() == kept[:100].tolist()
    assert 0.15 < kept.mean() < 0.35
    assert held_out(toy_source("two", n=400), 0.25).tolist() != kept.tolist()
    assert not held_out(small, 0).any() and held_out(small, 1).all()


def test_taking_patterns_takes_all_that_is_known_of_them() -> None:
    source = toy_source("one", n=9)
    taken = source.take([7, 0])
    assert (taken.ids, taken.questions) == (("one-7", "one-0"), ("one-7", "one-0"))
    assert taken.events == (source.events[7], source.events[0])
    assert taken.sessions.tolist() == source.sessions[[7, 0]].tolist()
    assert taken.anomalous.tolist() == source.anomalous[[7, 0]].tolist()
    assert not isinstance(taken.without_labels(), Source) and taken.without_labels().ids == taken.ids
