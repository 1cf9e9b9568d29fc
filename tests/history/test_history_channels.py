"""Each channel against a plain computation of its definition."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from history_help import Pattern, random_system, table
from nightlog.history import channels as module
from nightlog.history.channels import Channels, Templates, maximum_spanning_tree, mutual_information
from nightlog.history.reference import Reference


def fitted(rows: list[Pattern], sessions: list[int], templates: Templates | None = None, counted: bool = True) -> Channels:
    return Channels(Reference.of_night(table(rows, sessions), counted), templates or Templates())


def raw(channels: Channels, rows: list[Pattern]) -> dict[str, np.ndarray]:
    return channels.values(channels.read(table(rows, [1] * len(rows)).column("events"))).raw


SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_bern_and_rarest(seed: int) -> None:
    rows, sessions = random_system(seed)
    new = [*rows[:5], {"t0": 64, "t3": 1}, {}]
    total = sum(sessions)
    names = sorted({name for row in rows for name in row})
    found = raw(fitted(rows, sessions), new)
    for i, row in enumerate(new):
        bern, rarest = 0.0, 0.0
        for name in names:
            count = Counter[int]()
            for other, n in zip(rows, sessions, strict=True):
                count[other.get(name, 0).bit_length()] += n
            distinct = len(count) + 1
            bern += -math.log((count[row.get(name, 0).bit_length()] + 0.5) / (total + 0.5 * distinct))
            if name in row:
                rarest = max(rarest, -math.log((total - count[0] + 0.5) / (total + 1)))
        assert found["bern"][i] == pytest.approx(bern)
        assert found["rarest"][i] == pytest.approx(rarest)


@pytest.mark.parametrize("seed", SEEDS)
def test_near_is_the_radius_that_holds_five_percent(seed: int) -> None:
    rows, sessions = random_system(seed)
    channels, total = fitted(rows, sessions), sum(sessions)
    names = sorted({name for row in rows for name in row})
    share = {name: (sum(n for row, n in zip(rows, sessions, strict=True) if name in row) + 0.5) / (total + 1) for name in names}
    weight = {name: -math.log(min(p, 1 - p)) for name, p in share.items()}
    new = [*rows[:5], {"t0": 1}, {}]
    for i, row in enumerate(new):
        ordered = sorted((sum(weight[name] for name in row.keys() ^ other.keys()), n) for other, n in zip(rows, sessions, strict=True))
        held = np.cumsum([n for _, n in ordered])
        radius = ordered[int(np.argmax(held >= 0.05 * total - 1e-9))][0]
        assert raw(channels, new)["near"][i] == pytest.approx(radius, abs=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tree_is_a_maximum_spanning_tree_of_mutual_information(seed: int) -> None:
    rows, sessions = random_system(seed, templates=5)
    names = sorted({name for row in rows for name in row})
    presence = np.array([[name in row for name in names] for row in rows], dtype=float)
    weights = np.array(sessions, dtype=float)
    information = mutual_information((presence * weights[:, None]).T @ presence, weights @ presence, weights.sum())
    for a, b in itertools.combinations(range(len(names)), 2):
        total = 0.0
        for x, y in itertools.product((0, 1), repeat=2):
            both, one, other = (
                (weights[mask].sum() + extra) / (weights.sum() + 1)
                for mask, extra in (
                    ((presence[:, a] == x) & (presence[:, b] == y), 0.25),
                    (presence[:, a] == x, 0.5),
                    (presence[:, b] == y, 0.5),
                )
            )
            total += both * math.log(both / (one * other))
        assert information[a, b] == pytest.approx(total)
    parent = maximum_spanning_tree(information)
    edges = [(i, int(p)) for i, p in enumerate(parent) if p >= 0]
    assert len(edges) == len(names) - 1
    best = max(
        sum(information[a, b] for a, b in chosen)
        for chosen in itertools.combinations(itertools.combinations(range(len(names)), 2), len(names) - 1)
        if connects(chosen, len(names))
    )
    assert sum(information[a, b] for a, b in edges) == pytest.approx(best)


def connects(edges: tuple[tuple[int, int], ...], size: int) -> bool:
    group = list(range(size))
    for a, b in edges:
        group = [group[a] if each == group[b] else each for each in group]
    return len(set(group)) == 1


def test_the_tree_notices_what_is_missing_and_what_came_without_its_companion() -> None:
    rows = [{"begin": 1, "done": 1}, {"other": 1}, {"begin": 1, "done": 1, "other": 1}]
    found = raw(fitted(rows, [500, 400, 100]), [{"begin": 1, "done": 1}, {"begin": 1}, {"done": 1}])["tree"]
    assert found[0] < 1
    assert min(found[1], found[2]) > 5


def test_templates_outside_the_tree_count_by_their_rarity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRED_TEMPLATES", 2)
    rows = [{"a": 1, "b": 1}, {"b": 1, "c": 1}, {"c": 1, "rare": 1}]
    channels = fitted(rows, [50, 49, 1])
    assert len(channels.paired) == 2
    found = raw(channels, [{"c": 1}, {"c": 1, "rare": 1}])
    assert found["tree"][1] >= found["rarest"][1] > found["tree"][0]
    assert found["near"][1] > found["near"][0]


def test_words_and_level_weigh_severity_by_rarity() -> None:
    rows = [{"ok": 1}, {"ok": 1, "often": 1}, {"ok": 1, "rare": 1}]
    text = {"ok": "started", "often": "request failed", "rare": "request failed twice"}
    templates = Templates(text, {"ok": "INFO", "often": "ERROR", "rare": "ERROR"})
    found = raw(fitted(rows, [500, 495, 5], templates), rows)
    share = (5 + 0.5) / 1001
    assert found["words"][0] == found["level"][0] == 0
    assert found["words"][2] == pytest.approx(0.8 * (1 - share) ** 8)
    assert found["level"][2] == pytest.approx(0.67 * (1 - share) ** 8)
    assert found["words"][1] < 0.05


def test_an_unseen_template_is_the_rarest_of_all() -> None:
    rows = [{"a": 1}, {"a": 1, "b": 1}]
    channels = fitted(rows, [99, 1])
    found = raw(channels, [{"a": 1, "b": 1}, {"a": 1, "new": 1}, {"new": 3, "newer": 1}])
    for name in ("rarest", "near", "bern"):
        assert found[name][1] >= found[name][0]
    assert found["rarest"][1] == pytest.approx(-math.log(0.5 / 101))
    assert all(np.isfinite(values).all() for values in found.values())


def test_more_patterns_than_fit_at_once_give_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sessions = random_system(9)
    whole = fitted(rows, sessions)
    patterns = whole.read(table(rows, sessions).column("events"))
    expected = whole.values(patterns)
    monkeypatch.setattr(module, "ROWS", 7)
    found = whole.values(patterns)
    for name in expected.raw:
        assert found.raw[name].tolist() == expected.raw[name].tolist()
    for name in expected.entry:
        assert found.entry[name].tolist() == expected.entry[name].tolist()


def test_counts_do_not_matter_where_they_are_not_used() -> None:
    rows = [{"a": 1}, {"a": 1, "b": 1}]
    found = raw(fitted(rows, [9, 1], counted=False), [{"a": 1, "b": 1}, {"a": 64, "b": 32}])
    assert all(values[0] == values[1] for values in found.values())
