"""MetaProto on a night's patterns: templates that it never saw, weights, and rows that hang on the pattern alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from metaproto_help import DIMENSIONS, made_detector, system, unlabelled
from nightlog.detector.metaproto.detector import MetaProto
from nightlog.detector.metaproto.scoring import NightTemplates, score_frame
from nightlog.detector.patterns import Patterns

TARGET = unlabelled(system("app", seed=3))
NEW = tuple(f"new {n}" for n in range(3))


@pytest.fixture(scope="module")
def detector() -> MetaProto:
    return made_detector(TARGET)


def night(order: list[int]) -> NightTemplates:
    """All of the system's templates and three more, in some order."""
    more = np.random.default_rng(9).standard_normal((3, DIMENSIONS)).astype(np.float32)
    vectors = np.concatenate([TARGET.vectors, more / np.linalg.norm(more, axis=1, keepdims=True)])
    ids, texts = (*TARGET.template_ids, *NEW), (*TARGET.texts, *(f"fatal error {name}" for name in NEW))
    return NightTemplates(tuple(ids[i] for i in order), tuple(texts[i] for i in order), vectors[order])


def frame(patterns: Patterns, more: dict[str, list[tuple[str, int]]]) -> pd.DataFrame:
    known = {
        name: [(patterns.template_ids[row], n) for row, n in events] for name, events in zip(patterns.ids, patterns.events, strict=True)
    }
    rows = [{"pattern_id": name, "events": [{"template_id": t, "count": n} for t, n in events]} for name, events in (known | more).items()]
    return pd.DataFrame(rows)


STRANGE = {"strange": [(TARGET.template_ids[0], 1), (NEW[1], 1)], "both": [(NEW[0], 2), (NEW[2], 1)]}
ALL = list(range(len(TARGET.texts) + 3))


def test_a_row_hangs_on_the_pattern_alone(detector: MetaProto) -> None:
    rows = frame(TARGET, STRANGE)
    whole = score_frame(rows, detector, night(ALL)).set_index("pattern_id")
    shuffled = score_frame(rows.sample(frac=1, random_state=1), detector, night(ALL[::-1])).set_index("pattern_id")
    pd.testing.assert_frame_equal(shuffled.loc[whole.index], whole)
    for name in ("app-000", "app-001", "strange"):
        alone = score_frame(rows[rows["pattern_id"] == name], detector, night(ALL)).set_index("pattern_id")
        pd.testing.assert_frame_equal(alone, whole.loc[[name]])
    np.testing.assert_array_equal(whole.loc[list(TARGET.ids), "probability"], np.round(detector.probability(TARGET), 6))


def test_templates_that_nobody_has_seen_change_no_score_of_the_others(detector: MetaProto) -> None:
    few = score_frame(frame(TARGET, {}), detector, night(ALL[:-3])).set_index("pattern_id")
    many = score_frame(frame(TARGET, STRANGE), detector, night(ALL)).set_index("pattern_id")
    pd.testing.assert_frame_equal(many.loc[few.index], few)


def test_weights_sum_to_one_and_the_rarest_template_weighs_most(detector: MetaProto) -> None:
    found = score_frame(frame(TARGET, STRANGE), detector, night(ALL)).set_index("pattern_id")
    weights = {name: {each["template_id"]: each["weight"] for each in row} for name, row in found["weights"].items()}
    assert all(sum(each.values()) == pytest.approx(1, abs=1e-5) and min(each.values()) >= 0 for each in weights.values())
    assert set(weights["strange"]) == {TARGET.template_ids[0], NEW[1]} and weights["strange"][NEW[1]] > 0.5
    assert weights["both"] == {NEW[0]: 0.5, NEW[2]: 0.5}
    for name, events in zip(TARGET.ids, TARGET.events, strict=True):
        assert set(weights[name]) == {TARGET.template_ids[row] for row, _ in events}
        if int(name[-3:]) % 5 == 0:
            rare = {TARGET.template_ids[row] for row, _ in events if row >= 7}
            assert max(weights[name], key=weights[name].__getitem__) in rare


def test_what_is_new_and_worded_badly_is_more_suspicious_than_the_everyday(detector: MetaProto) -> None:
    found = score_frame(frame(TARGET, STRANGE), detector, night(ALL)).set_index("pattern_id")["probability"]
    everyday = [name for i, name in enumerate(TARGET.ids) if i % 5]
    assert found["both"] > found[everyday].median()
