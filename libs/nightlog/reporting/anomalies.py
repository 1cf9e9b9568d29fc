"""Which patterns are anomalous, who says so, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightlog.detector.calibration import Calibration

UNCHANGED = Calibration()
MORE_LIKELY_THAN_NOT = 0.5
DIGITS = 6
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Decision:
    """An anomalous pattern: route, score in [0, 1], decided_by small_model | llm | feedback, status open | provisional, reason."""

    pattern_id: str
    route: str
    score: float
    decided_by: str
    status: str
    reason: str


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
    """The anomalous patterns, each with who decided, score, status and reason.

    An analyst's answer outranks all. The small model judges general patterns, the LLM's verdict proprietary ones (GeneralLog, arXiv
    2511.05882). Where the LLM has not answered yet the small model stands in and the row is provisional; where it answered "unclear", or
    may not be asked, the small model decides.
    On proprietary patterns the small model's probability is calibrated for, and held to the threshold of, systems that it never saw;
    where the LLM could not tell, it must also find the anomaly more likely than not.

    Args: patterns (pattern_id, question_id); routes (pattern_id, route, similarity); scores (pattern_id, probability); verdicts
    (question_id, label, confidence, reason) and answers (question_id, answer normal | anomalous, told), at most one a question.
    """
    route_of = {row["pattern_id"]: row for row in routes}
    probability_of = {row["pattern_id"]: row["probability"] for row in scores}
    said = {row["question_id"]: row for row in verdicts}
    answered = {row["question_id"]: row for row in answers}
    for pattern in patterns:
        name, question = pattern["pattern_id"], pattern["question_id"]
        if name not in route_of or name not in probability_of:
            continue
        route, verdict, answer = route_of[name]["route"], said.get(question), answered.get(question)
        if answer is not None:
            if answer["answer"] == "anomalous":
                yield Decision(name, route, 1.0, "feedback", "open", answer["told"])
            continue
        label = verdict["label"] if verdict is not None and route == "proprietary" else None
        if verdict is not None and label in ("normal", "anomalous"):
            if label == "anomalous":
                yield Decision(name, route, verdict["confidence"], "llm", "open", verdict["reason"])
            continue
        least = threshold if route == "general" else max(foreign_threshold, MORE_LIKELY_THAN_NOT if label == "unclear" else 0.0)
        probability = calibrated(probability_of[name], calibration if route == "general" else foreign)
        if probability is None or probability < least:
            continue
        waiting = route == "proprietary" and label is None
        unjudged = "the LLM has not judged it yet" if llm_allowed else "the LLM may not be asked about this system"
        known = "it looks like what the labelled systems log" if route == "general" else unjudged if waiting else "the LLM could not tell"
        reason = (
            f"the small model gives {probability:.2f}, threshold {least:.2f}; {known}; "
            f"its least familiar template is {route_of[name]['similarity']:.2f} like a source's"
        )
        yield Decision(name, route, probability, "small_model", "provisional" if waiting and llm_allowed else "open", reason)


def calibrated(probability: float | None, by: Calibration) -> float | None:
    """A raw probability as `by` sees it, rounded; what is no probability stays, for the gate.

    >>> calibrated(0.25, Calibration()), calibrated(7.0, Calibration())
    (0.25, 7.0)
    """
    if probability is None or not 0 <= probability <= 1:
        return probability
    return round(float(by.apply(np.array([probability]))[0]), DIGITS)
