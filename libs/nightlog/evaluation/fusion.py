"""The small model alone, the LLM alone, GeneralLog and FusionLog as modes of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nightlog.detector.calibration import Calibration
from nightlog.detector.examples import sequences
from nightlog.detector.meta import Config
from nightlog.detector.network import Network
from nightlog.detector.patterns import Patterns
from nightlog.detector.predict import predict
from nightlog.detector.training import Transfer, fit, measure_transfer, tau_of, with_shape
from nightlog.distillation.rounds import Fusion, distil
from nightlog.evaluation.case import Case, Judgement
from nightlog.evaluation.once import once
from nightlog.feedback.groups import rank_questions
from nightlog.llm.items import Item, Label, Verdict
from nightlog.llm.rounds import RoundsResult, ask_both_rounds, group_keys, neighbour_finder
from nightlog.routing.router import is_general

CALIBRATION_SEED = 0


def config_of(case: Case) -> Config:
    """Return how the small model of a case is trained."""
    return with_shape(Config(seed=case.seed, device=case.device), case.adaptation.vectors.shape[1])


def small(case: Case) -> Network:
    """The small model of a case: meta-trained on its sources, with the adaptation part as the unlabelled target."""
    return once("small", case.seed, [*case.sources, case.adaptation], lambda: fit(case.sources, [case.adaptation], config_of(case)))


def transfer(case: Case) -> Transfer:
    """Return what the sources of a case say about the small model's word on a new system."""
    config = replace(config_of(case), seed=CALIBRATION_SEED)
    return once("transfer", CALIBRATION_SEED, case.sources, lambda: measure_transfer(case.sources, config))


def probabilities(network: Network, patterns: Patterns, calibration: Calibration) -> np.ndarray:
    """The network's calibrated word on patterns, (n,)."""
    return calibration.apply(predict(network, sequences(patterns), patterns.vectors)[0])


def items_of(patterns: Patterns, chosen: np.ndarray | None = None) -> list[Item]:
    """Return what is asked about patterns, once a question: without counts where these tell nothing."""
    items: dict[str, Item] = {}
    for number in range(len(patterns.ids)) if chosen is None else np.flatnonzero(chosen):
        events = tuple((patterns.texts[row], count if patterns.counted else None) for row, count in patterns.events[number])
        items.setdefault(patterns.questions[number], Item(patterns.questions[number], events))
    return list(items.values())


def session_counts(*parts: Patterns) -> dict[str, int]:
    """Sessions by question."""
    found: dict[str, int] = {}
    for part in parts:
        for question, sessions in zip(part.questions, part.sessions.tolist(), strict=True):
            found[question] = found.get(question, 0) + sessions
    return found


def ask(
    case: Case, patterns: Patterns, chosen: np.ndarray | None, before: RoundsResult | None = None, items: list[Item] | None = None
) -> RoundsResult:
    """Both rounds about patterns, knowing what was said `before` about `items`. Without a judge nothing is asked."""
    known = before.verdicts if before else {}
    if case.judge is None:
        return RoundsResult(dict(known))
    every = {item.id: item for item in [*(items or []), *items_of(patterns, chosen)]}
    neighbours = neighbour_finder(items or [], known) if known else None
    sessions = session_counts(case.adaptation) if patterns is case.adaptation else session_counts(case.adaptation, patterns)
    return ask_both_rounds(case.judge, case.system, list(every.values()), sessions, known, neighbours)


def ask_adaptation(case: Case, chosen: np.ndarray | None = None) -> RoundsResult:
    """Both rounds about the adaptation part, or the chosen patterns of it: the same for every seed and any number of answers."""
    patterns = case.adaptation if chosen is None else case.adaptation.take(np.flatnonzero(chosen))
    judge = case.judge.name if case.judge is not None else "nobody"
    found = once(f"asked {judge} about {case.target}", 0, [case.adaptation, patterns], lambda: ask(case, case.adaptation, chosen))
    return replace(found, verdicts=dict(found.verdicts))


def answered(case: Case, verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The verdicts after an analyst has answered about the groups where an answer changes most; an answer has round 0."""
    settled = dict(verdicts)
    if case.oracle is None:
        return settled
    keys = group_keys(items_of(case.adaptation), verdicts)
    for group in rank_questions(case.system.name, verdicts, session_counts(case.adaptation), keys)[: case.answers]:
        label: Label = "anomalous" if case.oracle(group.questions) else "normal"
        for question in group.questions:
            settled[question] = Verdict(question, label, 1.0, "answered", 0, verdicts[question].group)
    return settled


def small_model(case: Case) -> Judgement:
    """The small model alone, calibrated and held to the threshold that sources held out in turn gave."""
    found = transfer(case)
    said = probabilities(small(case), case.test, found.calibration)
    return Judgement(said, found.flags(said), detail={"threshold": found.threshold or 1.0, "left_out_f1": found.f1})


def llm_only(case: Case) -> Judgement:
    """The LLM alone, one round: every question once, flagged where it says anomalous."""
    items = {item.id: item for item in [*items_of(case.adaptation), *items_of(case.test)]} if case.judge is not None else {}
    judged = case.judge.judge(case.system, list(items.values())) if case.judge is not None else ()
    answers = [verdict for answer in judged for verdict in answer.verdicts]
    return by_verdicts(case, {verdict.id: verdict for verdict in answers}, len(items))


def llm_two_rounds(case: Case) -> Judgement:
    """The LLM alone with its second round."""
    first = ask_adaptation(case)
    second = ask(case, case.test, None, first, items_of(case.adaptation))
    return by_verdicts(case, second.verdicts, sum(first.items) + sum(second.items))


def by_verdicts(case: Case, verdicts: Mapping[str, Verdict], asked: int) -> Judgement:
    """Return what verdicts by question say of the test part; without a verdict, and where it is unclear, nobody claims an anomaly."""
    own = [verdicts.get(question) for question in case.test.questions]
    probability = np.array([0.5 if verdict is None else verdict.probability for verdict in own])
    return Judgement(probability, np.array([verdict is not None and verdict.label == "anomalous" for verdict in own], dtype=bool), asked)


def generallog(case: Case) -> Judgement:
    """GeneralLog, arXiv 2511.05882: general patterns by the small model, proprietary ones by the LLM with retrieved neighbours.

    Where sources say that the small model's word carries over to no other system, its general patterns go to the LLM too.
    """
    found = transfer(case)
    trusted = found.trusted
    known, tau = np.concatenate([source.vectors for source in case.sources]), tau_of(case.sources)
    routed = [is_general(part.vectors, part.events, known, tau) & trusted for part in (case.adaptation, case.test)]
    said = once(
        f"{'general' if trusted else 'all'} judged, {case.answers} answers, {case.judge.name if case.judge is not None else 'nobody'}",
        0,
        [*case.sources, case.adaptation, case.test],
        lambda: judged_by_llm(case, ~routed[0], ~routed[1]),
    )
    own = probabilities(small(case), case.test, found.calibration) if trusted else said.probability
    return Judgement(
        np.where(routed[1], own, said.probability),
        np.where(routed[1], found.flags(own), said.flagged),
        said.asked,
        {"general_share": float(np.average(routed[1], weights=case.test.sessions))},
    )


def judged_by_llm(case: Case, adaptation: np.ndarray, test: np.ndarray) -> Judgement:
    """Return what the LLM and the analyst's answers say of the test part, where patterns of both parts chosen by these masks are asked
    about.
    """
    first = ask_adaptation(case, adaptation)
    first.verdicts = answered(case, first.verdicts)
    second = ask(case, case.test, test, first, items_of(case.adaptation, adaptation))
    return by_verdicts(case, second.verdicts, sum(first.items) + sum(second.items))


def fusionlog(case: Case) -> Judgement:
    """FusionLog, arXiv 2511.05878: the LLM judges the adaptation part; the small model learns it and alone judges the test part."""
    found = ask_adaptation(case)
    distilled = distil(small(case), case.sources, case.adaptation, answered(case, found.verdicts), config_of(case), Fusion())
    said = probabilities(distilled.network, case.test, Calibration())
    last = distilled.rounds[-1] if distilled.rounds else None
    detail = {
        "rounds": float(len(distilled.rounds)),
        "rolled_back": float(sum(each.rolled_back for each in distilled.rounds)),
        "pseudo_labels": float(len(distilled.labels)),
        "source_score_before": distilled.before,
        "source_score_after": last.source_score if last else distilled.before,
    }
    return Judgement(said, said >= 0.5, sum(found.items), detail)
