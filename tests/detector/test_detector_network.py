"""The network: what a sequence gets does not depend on its batch, and attention is a share of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from detector_help import DIMENSIONS, SHAPE, manifest
from nightlog.detector.network import LONGEST, Network, predict, sequence, to_tensors
from nightlog.detector.registry import save
from nightlog.detector.scoring import score_frame
from nightlog.lake.lake import Lake

TABLE = np.random.default_rng(0).standard_normal((20, DIMENSIONS)).astype(np.float32)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(3)
    return Network(SHAPE).eval()


def rows_of_many_lengths() -> list[list[int]]:
    random = np.random.default_rng(1)
    return [random.integers(0, 20, size=n).tolist() for n in (1, 1, 2, 3, 7, 7, 30, 120)]


def test_the_probability_of_a_sequence_does_not_depend_on_its_batch(network: Network) -> None:
    rows = rows_of_many_lengths()
    together, attention = predict(network, rows, TABLE)
    for i, row in enumerate(rows):
        alone, own = predict(network, [row], TABLE)
        assert alone[0] == pytest.approx(together[i], abs=1e-5)
        assert np.allclose(own[0], attention[i], atol=1e-5)
    small, _ = predict(network, rows, TABLE, batch=2)
    turned, _ = predict(network, rows[::-1], TABLE)
    assert np.allclose(small, together, atol=1e-5)
    assert np.allclose(turned[::-1], together, atol=1e-5)
    assert len(set(together.round(6))) == len(rows)


def test_attention_is_spread_over_the_sequence_and_sums_to_one(network: Network) -> None:
    rows = rows_of_many_lengths()
    _, attention = predict(network, rows, TABLE)
    for row, weights in zip(rows, attention, strict=True):
        assert weights.shape == (len(row),)
        assert (weights > 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_no_sequences_give_no_probabilities(network: Network) -> None:
    probabilities, attention = predict(network, [], TABLE)
    assert len(probabilities) == len(attention) == 0


def test_a_count_weighs_by_its_order_of_magnitude() -> None:
    assert sequence([(5, 1), (2, 2), (9, 16)]) == [5, 2, 2, 9, 9, 9, 9, 9]
    assert sequence([]) == []
    assert len(sequence([(n, 1 << 20) for n in range(100)])) == LONGEST


def test_sequences_are_laid_end_to_end_in_their_order() -> None:
    vectors, lengths = to_tensors([[3], [1, 2]], TABLE)
    assert lengths.tolist() == [1, 2]
    assert torch.equal(vectors, torch.from_numpy(TABLE[[3, 1, 2]]))


def test_patterns_are_scored_with_a_weight_for_each_template(network: Network, tmp_path: object) -> None:
    model = save(Lake(str(tmp_path)), network, TABLE, manifest(), {}, pd.Timestamp("2026-03-04", tz="UTC").to_pydatetime())
    names = {f"t{n}": n for n in range(20)}
    patterns = {"p1": [("t3", 4), ("t7", 1)], "p2": [("t3", 1)], "p3": [(f"t{n}", 1 << n) for n in range(20)]}
    events = [[{"template_id": name, "count": count} for name, count in found] for found in patterns.values()]
    frame = pd.DataFrame({"pattern_id": list(patterns), "events": events})

    found = score_frame(frame, model, names, TABLE, True, "cpu").set_index("pattern_id")
    for name, templates in patterns.items():
        weights = {each["template_id"]: each["weight"] for each in found.loc[name, "weights"]}
        assert weights.keys() == {template for template, _ in templates}
        assert sum(weights.values()) == pytest.approx(1, abs=1e-4)
    assert found.loc["p2", "weights"] == [{"template_id": "t3", "weight": 1.0}]
    assert found["probability"].between(0, 1).all() and found["probability"].nunique() == 3
    for name in patterns:
        alone = score_frame(frame[frame["pattern_id"] == name], model, names, TABLE, True, "cpu")
        assert alone["probability"].item() == pytest.approx(found.loc[name, "probability"], abs=2e-6)


def test_where_counts_tell_nothing_all_patterns_of_a_set_of_templates_get_one_score(network: Network, tmp_path: object) -> None:
    model = save(Lake(str(tmp_path)), network, TABLE, manifest(), {}, pd.Timestamp("2026-03-04", tz="UTC").to_pydatetime())
    counts = {"once": (1, 1), "often": (64, 1), "much": (1, 4096)}
    events = [[{"template_id": "t3", "count": three}, {"template_id": "t7", "count": seven}] for three, seven in counts.values()]
    frame = pd.DataFrame({"pattern_id": list(counts), "events": events})
    names = {f"t{n}": n for n in range(20)}

    uncounted = score_frame(frame, model, names, TABLE, False, "cpu")
    counted = score_frame(frame, model, names, TABLE, True, "cpu").set_index("pattern_id")["probability"]
    assert uncounted["probability"].nunique() == 1 and counted.nunique() == 3
    assert uncounted["probability"][0] == pytest.approx(counted["once"], abs=2e-6)
    assert all(weights == uncounted["weights"][0] for weights in uncounted["weights"])
