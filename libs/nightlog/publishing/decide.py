"""Which patterns are anomalous, who says so, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nightlog.detector.calibration import Calibration
from nightlog.feedback.store import Suppressions, statement

UNCHANGED = Calibration()
MORE_LIKELY_THAN_NOT = 0.5
DIGITS = 6
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Decision:
    """What is said of a pattern: route, score in [0, 1], decided_by small_model | llm | feedback, status open | provisional |
    suppressed, reason; and whether it is anomalous."""

    pattern_id: str
    route: str
    score: float
    decided_by: str
    status: str
    reason: str
    anomalous: bool = True


@dataclass(frozen=True)
class Thresholds:
    """What the small model's probability is held to: on general patterns and on `foreign` ones, as a model's manifest has it."""

    threshold: float
    foreign_threshold: float
    foreign: Calibration
    calibration: Calibration = UNCHANGED


def decide(
    patterns: Rows,
    routes: Rows,
    scores: Rows,
    verdicts: Rows,
    answers: Rows,
    threshold: float,
    foreign_threshold: float,
    foreign: Calibration,
    calibration: Calibration = UNCHANGED,
    llm_allowed: bool = True,
) -> Iterator[Decision]:
    """The anomalous patterns, each with who decided, score, status and reason: those of `decisions`, which has the arguments."""
    by = Thresholds(threshold, foreign_threshold, foreign, calibration)
    return (each for each in decisions(patterns, routes, scores, verdicts, answers, by, llm_allowed) if each.anomalous)


def decisions(
    patterns: Rows, routes: Rows, scores: Rows, verdicts: Rows, answers: Rows, by: Thresholds, llm_allowed: bool = True
) -> Iterator[Decision]:
    """What is said of each routed and scored pattern, anomalous or not.

    An analyst's label on the pattern outranks all, then an answer about its question. The small model judges general patterns, the LLM's
    verdict proprietary ones (GeneralLog, arXiv 2511.05882). Where the LLM has not answered yet the small model stands in and the row is
    provisional; where it answered "unclear", or may not be asked, the small model decides.
    On proprietary patterns the small model's probability is calibrated for, and held to the threshold of, systems that it never saw;
    where the LLM could not tell, it must also find the anomaly more likely than not.

    Args: patterns (pattern_id, question_id); routes (pattern_id, route, similarity); scores (pattern_id, probability); verdicts
    (question_id, label, confidence, reason), at most one a question; answers (question_id, which may be a labelled pattern's id,
    answer normal | anomalous, told), at most one of an id.
    """
    route_of = {row["pattern_id"]: row for row in routes}
    probability_of = {row["pattern_id"]: row["probability"] for row in scores}
    said = {row["question_id"]: row for row in verdicts}
    answered = {row["question_id"]: row for row in answers}
    for pattern in patterns:
        name, question = pattern["pattern_id"], pattern["question_id"]
        if name not in route_of or name not in probability_of:
            continue
        route, verdict = route_of[name]["route"], said.get(question)
        answer = answered.get(name, answered.get(question))
        if answer is not None:
            is_anomaly = answer["answer"] == "anomalous"
            yield Decision(name, route, float(is_anomaly), "feedback", "open", answer["told"], is_anomaly)
            continue
        label = verdict["label"] if verdict is not None and route == "proprietary" else None
        if verdict is not None and label in ("normal", "anomalous"):
            is_anomaly = label == "anomalous"
            score = verdict["confidence"] if is_anomaly else 1 - verdict["confidence"]
            yield Decision(name, route, score, "llm", "open", verdict["reason"], is_anomaly)
            continue
        least = by.threshold if route == "general" else max(by.foreign_threshold, MORE_LIKELY_THAN_NOT if label == "unclear" else 0.0)
        probability = calibrated(probability_of[name], by.calibration if route == "general" else by.foreign)
        if probability is None:
            continue
        waiting = route == "proprietary" and label is None
        unjudged = "the LLM has not judged it yet" if llm_allowed else "the LLM may not be asked about this system"
        known = "it looks like what the labelled systems log" if route == "general" else unjudged if waiting else "the LLM could not tell"
        reason = (
            f"the small model gives {probability:.2f}, threshold {least:.2f}; {known}; "
            f"its least familiar template is {route_of[name]['similarity']:.2f} like a source's"
        )
        status = "provisional" if waiting and llm_allowed else "open"
        # what is no number is not below the threshold: the gate must see it
        yield Decision(name, route, probability, "small_model", status, reason, not probability < least)


def with_suppressions(found: Iterable[Decision], patterns: Rows, suppressed: Suppressions) -> list[Decision]:
    """The anomalous patterns, those that analysts suppressed with that status, and in the reason who did and until when.

    Args: found, the anomalous ones; patterns (pattern_id, events), all of the night.
    """
    anomalous = list(found)
    if not suppressed.patterns and not suppressed.templates:
        return anomalous
    names = {each.pattern_id for each in anomalous}
    templates = {row["pattern_id"]: [event["template_id"] for event in row["events"] or ()] for row in patterns}
    ordinary = {template for pattern, own in templates.items() if pattern not in names for template in own}
    return [hushed(each, suppressed.of(each.pattern_id, templates.get(each.pattern_id, []), ordinary)) for each in anomalous]


def hushed(decision: Decision, by: Mapping[str, Any] | None) -> Decision:
    """A decision as a suppression leaves it."""
    return decision if by is None else replace(decision, status="suppressed", reason=f"{decision.reason}; {statement(by)}")


def calibrated(probability: float | None, by: Calibration) -> float | None:
    """A raw probability as `by` sees it, rounded; what is no probability stays, for the gate.

    >>> calibrated(0.25, Calibration()), calibrated(7.0, Calibration())
    (0.25, 7.0)
    """
    if probability is None or not 0 <= probability <= 1:
        return probability
    return round(float(by.apply(np.array([probability]))[0]), DIGITS)
