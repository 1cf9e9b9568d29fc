"""The decision about each pattern: anomalous, normal or judged by nobody, by whom, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nightlog.detector.calibration import Calibration
from nightlog.feedback.store import Suppressions, statement
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from nightlog.detector.manifest import Manifest

MORE_LIKELY_THAN_NOT = 0.5
DIGITS = 6
Rows = Iterable[Mapping[str, Any]]

# Why nobody judged a pattern. The words never hold text of logs or LLMs: they go into messages that leave the machine.
Cause = Literal["off", "not_allowed", "not_wanted", "not_answered", "unclear", "cannot_flag", "no_score"]
CAUSES: dict[Cause, str] = {
    "off": "the LLM is off",
    "not_allowed": "the LLM may not be asked about this system",
    "not_wanted": "no LLM is wanted for this system",
    "not_answered": "the LLM has not answered",
    "unclear": "the LLM could not tell",
    "cannot_flag": "the router leaves them to the small model",
    "no_score": "the small model has no score of them",
}
UNJUDGED = "unjudged"


@dataclass(frozen=True)
class Decision:
    """The decision about a pattern.

    `decided_by`: feedback | llm | student | history | small_model, None if nobody judged it. `status`: open | provisional | suppressed |
    unjudged. `score`: the probability of an anomaly in [0, 1]; of an unjudged pattern it only ranks, and is None if there is none.
    `may_change`: the LLM is still to be asked. `cause`: why nobody judged it.
    """

    pattern_id: str
    route: str
    score: float | None
    decided_by: str | None
    status: str
    reason: str
    anomalous: bool = True
    may_change: bool = False
    cause: Cause | None = None


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of the small model on general and on foreign patterns, and its calibrations. A threshold of None flags nothing.

    `is_own`: the model was made for this system alone, from its verdicts: on general patterns it decides, whatever the history says.
    """

    threshold: float | None
    foreign_threshold: float | None
    foreign: Calibration
    calibration: Calibration = Calibration()
    is_own: bool = False

    @staticmethod
    def of(manifest: Manifest) -> Thresholds:
        """Return the thresholds of a model."""
        return Thresholds(manifest.threshold, manifest.foreign_threshold, manifest.foreign, manifest.calibration, manifest.system != "")

    def on(self, route: str) -> tuple[Calibration, float | None]:
        """Return calibration and threshold on a route; the threshold is None if no probability reaches it."""
        by, least = (self.calibration, self.threshold) if route == "general" else (self.foreign, self.foreign_threshold)
        return by, least if by.reaches(least) else None


def llm_cause(system: System, llm: str | None) -> Cause:
    """Return why a proprietary pattern of the system has no verdict of an LLM. Args: llm: its name, None if it is off."""
    if not system.llm.allowed:
        return "not_allowed"
    if not system.llm.wanted:
        return "not_wanted"
    return "off" if llm is None else "not_answered"


def decisions(
    patterns: Rows,
    routes: Rows,
    scores: Rows,
    verdicts: Rows,
    answers: Rows,
    by: Thresholds,
    no_verdict: Cause = "not_answered",
    history: Rows = (),
) -> Iterator[Decision]:
    """Yield the decision about each pattern.

    An analyst's label on the pattern outranks all, then an answer about its question, then the LLM's verdict. Of patterns without a
    verdict the LLM is asked about the proprietary ones alone (GeneralLog, arXiv 2511.05882); until it has answered, others stand in, and
    the verdict may change. "Unclear" is no verdict; what neither student nor history flags then is left to the small model.

    Once the history has seen enough sessions, it decides what the LLM has not judged. With enough judged patterns its student judges all
    others, and overrules verdicts that leave a doubt on the normal side of a pattern that is unusual in its system; it removes no flag.
    Before that, what the history flags is anomalous, and what it only ranks is never called normal by it. On proprietary patterns it takes
    the place of the small model, whose threshold does not carry over; on general ones it adds nothing to a model that was made for this
    system alone.

    On proprietary patterns the small model's probability is calibrated for, and compared with the threshold of, systems that it never saw;
    if the LLM could not tell, it must also find the anomaly more likely than not. A small model that no probability can make flag does not
    judge: the pattern is unjudged, unless the LLM answered "unclear"; then analysts find it among the open questions.

    Args: patterns (pattern_id, question_id); routes (pattern_id, route, similarity); scores (pattern_id, probability); verdicts
    (question_id, label, confidence, reason), at most one per question; answers (question_id, which may be a labelled pattern's id,
    answer normal | anomalous, told), at most one per id; no_verdict: why a pattern has no verdict of the LLM (see `llm_cause`); history
    (pattern_id, probability, flagged, reasons; student, student_reason, overruled, is_enough: see `with_student`).
    """
    route_of = {row["pattern_id"]: row for row in routes}
    probability_of = {row["pattern_id"]: row["probability"] for row in scores}
    verdict_of = {row["question_id"]: row for row in verdicts}
    answer_of = {row["question_id"]: row for row in answers}
    known_of = {row["pattern_id"]: row for row in history if row["flagged"] is not None}
    for pattern in patterns:
        name, question = pattern["pattern_id"], pattern["question_id"]
        routed, probability = route_of.get(name), probability_of.get(name)
        answer, verdict = answer_of.get(name, answer_of.get(question)), verdict_of.get(question)
        if answer is not None:
            yield by_analyst(name, routed, answer)
        elif routed is None or probability is None:
            yield unjudged(name, routed, None, "no_score", False)
        elif verdict is not None and verdict["label"] in ("normal", "anomalous"):
            known = known_of.get(name, {})
            yield by_fusion(name, routed, verdict, known) if known.get("overruled") else by_llm(name, routed, verdict)
        else:
            unclear = verdict is not None and routed["route"] == "proprietary"
            decided = by_model(name, routed, probability, by, "unclear" if unclear else no_verdict)
            known = known_of.get(name, {"flagged": None})
            learnt_here = by.is_own and routed["route"] == "general"
            if known.get("student") is not None:
                yield by_student(decided, known, unclear)
            elif known["flagged"] is None or learnt_here or (unclear and not known["flagged"]):
                yield decided
            else:
                yield by_history(decided, known, no_verdict)


def by_analyst(name: str, routed: Mapping[str, Any] | None, answer: Mapping[str, Any]) -> Decision:
    """Return the decision of an analyst."""
    is_anomaly = answer["answer"] == "anomalous"
    route = routed["route"] if routed is not None else "proprietary"
    return Decision(name, route, float(is_anomaly), "feedback", "open", answer["told"], is_anomaly)


def by_llm(name: str, routed: Mapping[str, Any], verdict: Mapping[str, Any]) -> Decision:
    """Return the decision of the LLM."""
    is_anomaly = verdict["label"] == "anomalous"
    score = verdict["confidence"] if is_anomaly else 1 - verdict["confidence"]
    return Decision(name, routed["route"], score, "llm", "open", verdict["reason"], is_anomaly)


def by_fusion(name: str, routed: Mapping[str, Any], verdict: Mapping[str, Any], known: Mapping[str, Any]) -> Decision:
    """Return the decision on a pattern whose verdict leaves a doubt on the normal side, which the history outweighs."""
    doubt = f"the LLM judged it {verdict['label']} ({verdict['confidence']:.2f}): {verdict['reason']}"
    reasons = "; ".join(known["reasons"] or ["its score is high"])
    reason = f"the history outweighs a doubtful verdict; {doubt}; history: {reasons}"
    return Decision(name, routed["route"], known["student"], "student", "open", reason)


def by_student(other: Decision, known: Mapping[str, Any], unclear: bool) -> Decision:
    """Return the decision of the student on a pattern that nobody judged. It is final if further answers of the LLM would change little.

    Args: other: the decision of the small model; unclear, the LLM could not tell.
    """
    reason = f"the LLM could not tell; {known['student_reason']}" if unclear else known["student_reason"]
    may_change = other.may_change and not known.get("is_enough")
    is_anomaly = known["student"] > MORE_LIKELY_THAN_NOT
    status = "provisional" if may_change else "open"
    return Decision(other.pattern_id, other.route, known["student"], "student", status, reason, is_anomaly, may_change)


def by_model(name: str, routed: Mapping[str, Any], raw: float, by: Thresholds, no_verdict: Cause) -> Decision:
    """Return the decision of the small model, or that nobody judged the pattern if the model can flag nothing on its route.

    Args: raw: the model's probability, as in silver.scores; no_verdict: why a proprietary pattern has no verdict of the LLM.
    """
    is_general = routed["route"] == "general"
    calibration, least = by.on(routed["route"])
    probability = calibrated(raw, calibration)
    assert probability is not None
    may_change = not is_general and no_verdict in ("off", "not_answered")
    if least is None and no_verdict == "unclear":
        return Decision(name, routed["route"], probability, "llm", "open", f"the LLM could not tell{likeness(routed)}", False)
    if least is None:
        return unjudged(name, routed, probability, "cannot_flag" if is_general else no_verdict, may_change)
    if not is_general and no_verdict == "unclear":
        least = max(least, MORE_LIKELY_THAN_NOT)
    known = {
        "unclear": "the LLM could not tell",
        "not_allowed": "the LLM may not be asked about this system",
        "not_wanted": "no LLM is wanted for this system",
    }.get(no_verdict, "the LLM has not judged it yet")
    reason = (
        f"the small model gives {probability:.2f}, threshold {least:.2f}; "
        f"{'it looks like what the labelled systems log' if is_general else known}{likeness(routed)}"
    )
    status = "provisional" if may_change else "open"
    # A value that is no number is not below the threshold: the gate must see it.
    return Decision(name, routed["route"], probability, "small_model", status, reason, not probability < least, may_change)


def by_history(other: Decision, known: Mapping[str, Any], no_verdict: Cause) -> Decision:
    """Return the decision of the history on a pattern without a verdict of the LLM.

    What it flags is anomalous. What it only ranks is left to the small model on its own, general patterns; on proprietary ones nobody
    has judged it. Args: other: the decision of the small model.
    """
    if known["flagged"]:
        status = "provisional" if other.may_change else "open"
        reason = f"unlike the system's nights so far: {'; '.join(known['reasons'] or ['its score is high'])}"
        return Decision(other.pattern_id, other.route, known["probability"], "history", status, reason, True, other.may_change)
    if other.route == "general":
        return other
    reason = f"judged by nobody: {CAUSES[no_verdict]}, and the history only ranks it"
    return Decision(other.pattern_id, other.route, known["probability"], None, UNJUDGED, reason, False, other.may_change, no_verdict)


def unjudged(name: str, routed: Mapping[str, Any] | None, score: float | None, cause: Cause, may_change: bool) -> Decision:
    """Return the decision that nobody judged a pattern."""
    reason = f"judged by nobody: {CAUSES[cause]}, and no model can flag it{likeness(routed)}"
    route = routed["route"] if routed is not None else "proprietary"
    return Decision(name, route, score, None, UNJUDGED, reason, False, may_change, cause)


def likeness(routed: Mapping[str, Any] | None) -> str:
    """Return the similarity of a pattern to the sources, as the end of a reason; empty if it was compared with none."""
    if routed is None or routed["similarity"] is None:
        return ""
    return f"; its least familiar template is {routed['similarity']:.2f} like a source's"


def with_suppressions(found: Iterable[Decision], patterns: Rows, suppressed: Suppressions) -> list[Decision]:
    """Return the anomalous patterns; those that analysts suppressed have that status, and in the reason who did and until when.

    Args: found: decisions; patterns (pattern_id, events), all of the night.
    """
    anomalous = [each for each in found if each.anomalous]
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
