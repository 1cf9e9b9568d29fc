"""The rounds: which verdicts are believed in which order, what the student learns, and what undoes a round."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from distillation_help import QUICK, SHORT, SOURCE, TARGET, TRUTH, toy, verdicts_of
from nightlog.detector.examples import Examples, sequences
from nightlog.detector.network import Network, predict
from nightlog.detector.training import fit
from nightlog.distillation.rounds import Distilled, Fusion, PseudoLabel, accept, distil
from nightlog.llm.items import Label, Verdict


@pytest.fixture(scope="module")
def base() -> Network:
    return fit([SOURCE], [TARGET], QUICK)


@pytest.fixture(scope="module")
def distilled(base: Network) -> Distilled:
    return distil(base, [SOURCE], TARGET, verdicts_of(TARGET, TRUTH.anomalous), QUICK, SHORT)


def same_weights(one: Network, other: Network) -> bool:
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


# Acceptance

ONE = TARGET.take([0])


def accepted(verdict: Verdict | None, small: float, fusion: Fusion = SHORT) -> tuple[str, float] | None:
    """Origin and probability of the pseudo-label that one pattern gets, None where it stays open."""
    verdicts = {ONE.questions[0]: verdict} if verdict is not None else {}
    found = accept(ONE, verdicts, np.array([small]), {}, 2, fusion)
    if not found:
        return None
    (label,) = found
    assert verdict is not None
    assert (label.pattern_id, label.question_id, label.round) == (ONE.ids[0], ONE.questions[0], 2)
    assert (label.llm_probability, label.small_probability) == (verdict.probability, small)
    return label.origin, round(label.probability, 6)


def said(label: Label, confidence: float, number: int = 1) -> Verdict:
    return Verdict(ONE.questions[0], label, confidence, "", number)


@pytest.mark.parametrize(
    ("verdict", "small", "expected"),
    [
        (None, 0.99, None),
        # An analyst's word counts whatever the small model says.
        (said("anomalous", 1.0, 0), 0.0, ("feedback", 1.0)),
        (said("normal", 1.0, 0), 1.0, ("feedback", 0.0)),
        (said("normal", 0.55, 0), 1.0, ("feedback", 0.45)),
        # What was decided side by side needs no confidence.
        (said("anomalous", 0.55, 2), 0.0, ("second round", 0.55)),
        (said("normal", 0.95, 2), 1.0, ("second round", 0.05)),
        # In the first round the LLM must be sure ...
        (said("anomalous", 0.8), 0.0, ("confident", 0.8)),
        (said("normal", 0.8), 1.0, ("confident", 0.2)),
        (said("anomalous", 0.79), 0.0, None),
        # ... or the small model must agree and be sure.
        (said("anomalous", 0.6), 0.71, ("agreement", 0.6)),
        (said("anomalous", 0.6), 0.69, None),
        (said("normal", 0.6), 0.29, ("agreement", 0.4)),
        (said("normal", 0.6), 0.31, None),
        (said("normal", 0.6), 0.9, None),
        (said("anomalous", 0.6), 0.1, None),
        # Where nobody could tell, nobody claims an anomaly.
        (said("unclear", 0.9), 1.0, ("unclear", 0.35)),
        (said("unclear", 0.9, 2), 0.0, ("unclear", 0.35)),
    ],
)
def test_who_is_believed(verdict: Verdict | None, small: float, expected: tuple[str, float] | None) -> None:
    assert accepted(verdict, small) == expected


def test_the_bounds_of_belief_are_configured() -> None:
    assert accepted(said("anomalous", 0.9), 0.0, Fusion(confident=0.45)) is None
    assert accepted(said("anomalous", 0.6), 0.71, Fusion(agreeing=0.3)) is None
    assert accepted(said("unclear", 0.9), 0.0, Fusion(unclear=0.3)) == ("unclear", 0.3)


def test_what_has_a_pseudo_label_keeps_it_and_the_open_rest_is_looked_at_again() -> None:
    verdicts = verdicts_of(TARGET, TRUTH.anomalous, 0.6)
    sure = np.where(TRUTH.anomalous == 1, 0.9, 0.1)
    first = accept(TARGET, verdicts, np.where(np.arange(40) < 10, sure, 0.5), {}, 1, SHORT)
    assert [label.pattern_id for label in first] == list(TARGET.ids[:10])
    known = {label.pattern_id: label for label in first}
    second = accept(TARGET, verdicts, sure, known, 2, SHORT)
    assert [label.pattern_id for label in second] == list(TARGET.ids[10:])
    assert {label.round for label in second} == {2}
    assert accept(TARGET, verdicts, sure, known | {label.pattern_id: label for label in second}, 3, SHORT) == []


def test_patterns_of_one_question_get_one_verdict() -> None:
    pair = replace(TARGET.take([0, 1, 2]), questions=("q", "q", "r"))
    found = accept(pair, {"q": Verdict("q", "anomalous", 0.9, "")}, np.full(3, 0.5), {}, 1, SHORT)
    assert [(label.pattern_id, label.question_id) for label in found] == [(pair.ids[0], "q"), (pair.ids[1], "q")]


def test_a_labelled_pattern_is_learnt_as_the_analyst_said_whatever_was_said_of_its_question() -> None:
    pair = replace(TARGET.take([0, 1]), questions=("q", "q"))
    said = {"q": Verdict("q", "anomalous", 0.9, ""), pair.ids[1]: Verdict(pair.ids[1], "normal", 1.0, "answered", 0)}
    found = accept(pair, said, np.full(2, 0.5), {}, 1, SHORT)
    assert [(label.origin, label.probability) for label in found] == [("confident", 0.9), ("feedback", 0.0)]


# Teaching


def test_the_student_learns_the_verdicts_and_keeps_what_the_sources_taught(distilled: Distilled, base: Network) -> None:
    ignorant, _ = predict(base, sequences(TARGET), TARGET.vectors)
    assert ((ignorant >= 0.5) == (TRUTH.anomalous == 1)).mean() < 0.9, "there is something to learn"
    taught, _ = predict(distilled.network, sequences(TARGET), TARGET.vectors)
    assert ((taught >= 0.5) == (TRUTH.anomalous == 1)).all()
    fresh = toy("fresh", range(8, 13), (13, 14), 60, 9)
    unseen, _ = predict(distilled.network, sequences(fresh), fresh.vectors)
    assert ((unseen >= 0.5) == (fresh.anomalous == 1)).mean() > 0.95, "it holds on patterns that nobody judged"
    assert distilled.rounds[-1].source_score >= distilled.before - SHORT.loss
    assert {label.origin for label in distilled.labels} == {"confident"} and len(distilled.labels) == 40
    first = distilled.rounds[0]
    assert (first.number, first.n_candidates, first.n_accepted, first.rolled_back) == (1, 40, 40, False)
    assert first.flipped > 0


def test_the_student_follows_the_verdicts_and_not_the_truth(base: Network) -> None:
    turned = distil(base, [SOURCE], TARGET, verdicts_of(TARGET, 1 - TRUTH.anomalous), QUICK, replace(SHORT, first_steps=120))
    taught, _ = predict(turned.network, sequences(TARGET), TARGET.vectors)
    assert ((taught >= 0.5) != (TRUTH.anomalous == 1)).mean() > 0.9


def test_the_base_network_is_left_as_it_is(base: Network) -> None:
    before = deepcopy(base)
    found = distil(base, [SOURCE], TARGET, verdicts_of(TARGET, TRUTH.anomalous), QUICK, replace(SHORT, first_steps=3, rounds=1))
    assert same_weights(base, before)
    assert not same_weights(found.network, base) and found.network is not base and not found.network.training


def test_open_patterns_teach_nothing(base: Network) -> None:
    """A verdict that nobody is sure of is as good as none."""
    half = verdicts_of(TARGET.take(range(20)), TRUTH.anomalous[:20])
    unsure = verdicts_of(TARGET.take(range(20, 40)), 1 - TRUTH.anomalous[20:], 0.6)
    one = distil(base, [SOURCE], TARGET, half, QUICK, replace(SHORT, rounds=1, agreeing=0.6))
    other = distil(base, [SOURCE], TARGET, half | unsure, QUICK, replace(SHORT, rounds=1, agreeing=0.6))
    assert one.labels == other.labels and len(one.labels) == 20
    assert same_weights(one.network, other.network)
    assert (one.rounds[0].n_candidates, other.rounds[0].n_candidates) == (20, 40)


def test_what_the_student_has_learnt_lets_it_agree_in_a_later_round(base: Network) -> None:
    half = verdicts_of(TARGET.take(range(20)), TRUTH.anomalous[:20])
    unsure = verdicts_of(TARGET.take(range(20, 40)), TRUTH.anomalous[20:], 0.65)
    found = distil(base, [SOURCE], TARGET, half | unsure, QUICK, SHORT)
    later = [label for label in found.labels if label.round > 1]
    assert later and {label.origin for label in later} == {"agreement"}
    assert len(found.rounds) > 1 and found.rounds[1].n_accepted == sum(label.round == 2 for label in later)
    assert found.rounds[1].n_candidates == 40 - found.rounds[0].n_accepted


def test_without_verdicts_the_base_has_the_last_word(base: Network) -> None:
    for verdicts in ({}, {"of another pattern": Verdict("of another pattern", "anomalous", 0.99, "")}):
        found = distil(base, [SOURCE], TARGET, verdicts, QUICK, SHORT)
        assert same_weights(found.network, base)
        assert (found.labels, found.rounds) == ((), ())


# Undoing and stopping


def test_a_round_that_may_not_happen_is_undone(base: Network) -> None:
    """No score is a whole better than before: every round is rolled back."""
    found = distil(base, [SOURCE], TARGET, verdicts_of(TARGET, TRUTH.anomalous), QUICK, replace(SHORT, loss=-1.0, first_steps=5))
    assert same_weights(found.network, base)
    assert found.labels == ()
    assert [each.rolled_back for each in found.rounds] == [True]


def test_a_round_that_ruins_what_the_sources_taught_is_undone(base: Network) -> None:
    """The target logs what the source does, and the LLM says the contrary of the source's labels."""
    mirror = replace(SOURCE.without_labels(), name="mirror", ids=tuple(f"m{i}" for i in range(100)), questions=())
    wrong = verdicts_of(mirror, 1 - SOURCE.anomalous)
    fusion = replace(SHORT, first_steps=120, source_weight=0.0, source_weight_again=0.0)
    found = distil(base, [SOURCE], mirror, wrong, QUICK, fusion)
    assert found.before > 0.9
    assert found.rounds[0].rolled_back and found.rounds[0].source_score < found.before - fusion.loss
    assert same_weights(found.network, base) and found.labels == ()
    kept = distil(base, [SOURCE], mirror, wrong, QUICK, replace(fusion, loss=1.0))
    assert not kept.rounds[0].rolled_back and not same_weights(kept.network, base)
    again = distil(base, [SOURCE], mirror, wrong, QUICK, replace(fusion, source_weight_again=9.0))
    assert not again.rounds[0].rolled_back and again.rounds[0].source_score >= again.before - fusion.loss
    assert not same_weights(again.network, base)


def test_only_the_round_that_did_harm_is_undone(base: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round before it stands, with its network and its pseudo-labels."""
    from nightlog.distillation import rounds as module

    half = verdicts_of(TARGET.take(range(20)), TRUTH.anomalous[:20])
    unsure = verdicts_of(TARGET.take(range(20, 40)), TRUTH.anomalous[20:], 0.65)
    alone = distil(base, [SOURCE], TARGET, half | unsure, QUICK, replace(SHORT, rounds=1))
    scores = iter([0.9, 0.85, 0.2, 0.3])
    monkeypatch.setattr(module, "source_score", lambda *_: next(scores))
    found = distil(base, [SOURCE], TARGET, half | unsure, QUICK, SHORT)
    assert [each.rolled_back for each in found.rounds] == [False, True]
    assert same_weights(found.network, alone.network)
    assert found.labels == alone.labels and {label.round for label in found.labels} == {1}


def test_rounds_end_when_nothing_is_new_and_nothing_flips(base: Network) -> None:
    verdicts = verdicts_of(TARGET, TRUTH.anomalous)
    found = distil(base, [SOURCE], TARGET, verdicts, QUICK, replace(SHORT, rounds=9))
    assert 1 < len(found.rounds) < 9
    assert found.rounds[-1].flipped < SHORT.flips
    assert [each.n_accepted for each in found.rounds[1:]] == [0] * (len(found.rounds) - 1)
    assert len(distil(base, [SOURCE], TARGET, verdicts, QUICK, replace(SHORT, rounds=1, first_steps=2)).rounds) == 1


# Reproducibility


def test_the_same_again_gives_the_same_student(base: Network, distilled: Distilled) -> None:
    verdicts = verdicts_of(TARGET, TRUTH.anomalous)
    torch.manual_seed(99)
    again = distil(base, [SOURCE], TARGET, dict(reversed(verdicts.items())), QUICK, SHORT)
    assert same_weights(again.network, distilled.network)
    assert (again.labels, again.rounds, again.before) == (distilled.labels, distilled.rounds, distilled.before)
    assert not same_weights(distil(base, [SOURCE], TARGET, verdicts, replace(QUICK, seed=1), SHORT).network, distilled.network)


def test_patterns_in_another_order_get_the_same_pseudo_labels(base: Network) -> None:
    verdicts = verdicts_of(TARGET, TRUTH.anomalous)
    for i, question in enumerate(TARGET.questions[:8]):
        changed = (said("unclear", 0.5), said("anomalous", 0.6, 2), said("normal", 1.0, 0), said("normal", 0.79))[i % 4]
        verdicts[question] = replace(changed, id=question)
    order = np.random.default_rng(3).permutation(40)
    fusion = replace(SHORT, agreeing=0.5, rounds=2)

    def labels(found: Distilled) -> dict[str, tuple[object, ...]]:
        return {each.pattern_id: (each.question_id, each.probability, each.origin, each.round) for each in found.labels}

    straight, turned = (distil(base, [SOURCE], each, verdicts, QUICK, fusion) for each in (TARGET, TARGET.take(order)))
    assert labels(straight) == labels(turned)
    assert len(labels(straight)) == 38, "two verdicts are neither sure nor agreed with"
    small = {name: float(p) for name, p in zip(TARGET.ids, predict(base, sequences(TARGET), TARGET.vectors)[0], strict=True)}
    assert all(each.small_probability == pytest.approx(small[each.pattern_id], abs=1e-5) for each in turned.labels)


def test_pseudo_labels_do_not_leak_into_the_examples_of_the_caller(base: Network) -> None:
    before = Examples.of([SOURCE, TARGET]).targets.copy()
    distil(base, [SOURCE], TARGET, verdicts_of(TARGET, TRUTH.anomalous), QUICK, replace(SHORT, rounds=1, first_steps=2))
    assert np.array_equal(Examples.of([SOURCE, TARGET]).targets, before, equal_nan=True)


def test_a_target_may_have_no_source_left_to_hold_it_to(base: Network) -> None:
    found = distil(base, [], TARGET, verdicts_of(TARGET, TRUTH.anomalous), QUICK, SHORT)
    taught, _ = predict(found.network, sequences(TARGET), TARGET.vectors)
    assert ((taught >= 0.5) == (TRUTH.anomalous == 1)).mean() > 0.95
    assert found.before == 1.0 and all(isinstance(label, PseudoLabel) for label in found.labels)
