from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from metaproto_help import DIMENSIONS, system, unlabelled
from nightlog.detector.metaproto import reference, threshold, wording
from nightlog.detector.metaproto.features import feature_names, features, structural
from nightlog.detector.metaproto.reference import Reference
from nightlog.detector.metaproto.selection import Selector
from nightlog.detector.metaproto.table import FEATURES, NAMES, as_markdown
from nightlog.detector.metaproto.view import View
from nightlog.detector.patterns import Patterns


def column(name: str, patterns: Patterns, known: Patterns) -> np.ndarray:
    return structural(patterns, Reference.of(known))[:, NAMES.index(name)]


def test_there_are_eighty_features_each_with_its_name_and_meaning() -> None:
    assert len(FEATURES) == len(set(NAMES)) == 80
    assert len({meaning for _, meaning in FEATURES}) == 80
    assert feature_names(DIMENSIONS)[:80] == NAMES and len(feature_names(DIMENSIONS)) == 80 + DIMENSIONS


def test_the_page_of_the_features_is_what_the_table_says() -> None:
    page = Path(__file__).parents[3] / "docs" / "features.md"
    assert page.read_text(encoding="utf-8") == as_markdown(), "run: python -m nightlog.detector.metaproto.table > docs/features.md"
    assert as_markdown().count("\n| ") == 81 and str(Selector().keep) in as_markdown()


def test_every_feature_is_filled_and_most_tell_patterns_apart() -> None:
    source = system("a")
    table = structural(source, Reference.of(source))
    assert table.shape == (60, 80) and np.isfinite(table).all()
    assert (table.std(axis=0) > 0).sum() > 60


@pytest.mark.parametrize("events", [((0, 1),), (), ((0, 1), (0, 4)), ((0, 1 << 40),)])
@pytest.mark.parametrize("text", ["", "<*>", "one"])
def test_a_system_of_one_pattern_gives_finite_features(events: tuple[tuple[int, int], ...], text: str) -> None:
    one = Patterns("x", np.zeros((1, DIMENSIONS), dtype=np.float32), (text,), ("p",), (events,), np.array([1]))
    assert np.isfinite(features(one, Reference.of(one))).all()
    assert np.isfinite(View.of(one).see(one)).all()


def test_a_system_without_patterns_gives_an_empty_table() -> None:
    none = unlabelled(system("a")).take([])
    assert features(none, Reference.of(none)).shape == (0, 80 + DIMENSIONS)
    seen = features(unlabelled(system("a")), Reference.of(none))
    assert seen.shape == (60, 80 + DIMENSIONS) and np.isfinite(seen).all()


def test_the_order_of_patterns_and_of_events_changes_nothing() -> None:
    source = unlabelled(system("a"))
    order = np.random.default_rng(1).permutation(60)
    mixed = replace(source.take(order), events=tuple(tuple(reversed(source.events[i])) for i in order))
    expected = features(source, Reference.of(source))
    np.testing.assert_allclose(features(mixed, Reference.of(mixed)), expected[order], atol=1e-4)


def test_a_pattern_looks_the_same_whatever_stands_beside_it() -> None:
    source = unlabelled(system("a"))
    known = Reference.of(source)
    np.testing.assert_allclose(features(source.take([7]), known), features(source, known)[[7]], atol=1e-5)


def test_counts_say_nothing_where_they_are_not_counted() -> None:
    source = replace(unlabelled(system("a")), counted=False)
    more = replace(source, events=tuple(tuple((row, count * 8) for row, count in events) for events in source.events))
    np.testing.assert_array_equal(structural(source, Reference.of(source)), structural(more, Reference.of(more)))


def test_rare_patterns_and_lacking_templates_stand_out() -> None:
    source = system("a")
    bad = source.anomalous > 0
    for name in ("pattern_surprise", "surprise_most", "absent_given", "severity_rare", "near_extra_surprise"):
        values = column(name, source, source)
        assert values[bad].mean() > values[~bad].mean() + values.std() / 2, name


def test_a_pattern_that_the_reference_has_not_is_rarer_than_any_it_has() -> None:
    source = unlabelled(system("a"))
    known, new = source.take(range(1, 60)), source.take([0])
    assert column("pattern_surprise", new, known)[0] > column("pattern_surprise", known, known).max()


@pytest.mark.parametrize("module", [reference, threshold, wording])
def test_the_examples_in_the_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
