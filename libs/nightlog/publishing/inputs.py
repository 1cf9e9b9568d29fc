"""The results of a night's earlier stages, as the stage publish reads them: patterns, routes, scores, template texts and history."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nightlog.feedback.questions import system_answers
from nightlog.feedback.store import statement
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.tables import HISTORY, PATTERNS, ROUTES, SCORES, HistoryRow, PatternRow, RouteRow, ScoreRow, VerdictRow
from nightlog.llm.verdicts import latest_verdicts
from nightlog.outcomes import Stage
from nightlog.publishing.evidence import TemplateFacts
from nightlog.publishing.student import with_student
from nightlog.publishing.telling import Telling
from nightlog.systems.spec import System

TAUS = tuple(n / 20 for n in range(2, 20))


@dataclass
class Judged:
    """The night's patterns, routes and scores, and the texts of the templates in them.

    `history`: the rows of silver.history; `student`: its version.
    """

    patterns: list[PatternRow]
    routes: list[RouteRow]
    scores: list[ScoreRow]
    texts: dict[str, str]
    history: list[HistoryRow] = field(default_factory=list)
    student: str | None = None


def read_judged(lake: Lake, system: System, ds: str) -> Judged:
    """Return what the earlier stages made of the night, read once."""
    place = {"system": system.name, "ds": ds}
    patterns = lake.rows(PATTERNS, ["pattern_id", "question_id", "events", "n_sessions"], **place)
    routes = lake.rows(ROUTES, ["pattern_id", "route", "similarity", "nearest", "model"], **place)
    scores = lake.rows(SCORES, ["pattern_id", "probability", "weights", "model"], **place)
    history = lake.rows(HISTORY, None, **place)
    used = {event["template_id"] for row in patterns for event in row["events"] or ()}
    texts = template_texts(lake, system.name)
    named = {name: text for name, text in texts.items() if name in used}
    return Judged(patterns, routes, scores, named, history)


def verdicts_and_answers(lake: Lake, system: System, prompt: str, llm: str | None) -> tuple[list[VerdictRow], list[dict[str, Any]]]:
    """Return what the LLM (see `latest_verdicts`) and what analysts say of the system's questions, as `decide` takes them."""
    found = latest_verdicts(lake, system, prompt, llm)
    answers = [
        {"question_id": name, "answer": row["label"], "told": statement(row)} for name, row in system_answers(lake, system, found).items()
    ]
    return list(found.values()), answers


def learn(lake: Lake, system: System, ds: str, judged: Judged, verdicts: list[VerdictRow], answers: list[dict[str, Any]]) -> None:
    """Add to the rows of the history what the student knows of the night's patterns, and note its version."""
    given = (judged.patterns, judged.routes, judged.history, verdicts, answers)
    judged.history, judged.student = with_student(lake, system, ds, *given)


def pattern_knowledge(judged: Judged, telling: Mapping[str, Sequence[Telling]]) -> dict[str, dict[str, TemplateFacts]]:
    """Return what is known of each template of the anomalous patterns: text, nearest source template, the model's weight, difference,
    sessions.

    Args: telling: pattern id → its telling templates; others are not anomalous.
    """
    near = {(row["pattern_id"], each["template_id"]): each for row in judged.routes for each in row["nearest"] or ()}
    weights = {(row["pattern_id"], each["template_id"]): each["weight"] for row in judged.scores for each in row["weights"] or ()}
    n_sessions = sessions_by_template(judged)
    knowledge: dict[str, dict[str, TemplateFacts]] = {}
    for row in judged.patterns:
        pattern = row["pattern_id"]
        values = {each.template_id: each.value for each in telling.get(pattern, ()) if each.change == "more"}
        for name in (event["template_id"] for event in (row["events"] or () if pattern in telling else ())):
            nearest = near.get((pattern, name), {})
            source, similarity = nearest.get("nearest_source_template"), nearest.get("similarity")
            weight, value = weights.get((pattern, name)), values.get(name, 0.0)
            facts = TemplateFacts(judged.texts.get(name), source, similarity, weight, value, n_sessions[name])
            knowledge.setdefault(pattern, {})[name] = facts
    return knowledge


def sessions_by_template(judged: Judged) -> Counter[str]:
    """Return how many of the night's sessions have each template."""
    found = Counter[str]()
    for row in judged.patterns:
        for name in {event["template_id"] for event in row["events"] or ()}:
            found[name] += row["n_sessions"]
    return found


def texts_hash(judged: Judged) -> str:
    """Hash of the texts of the night's templates: what vectors, verdicts and evidence were about."""
    return hashlib.sha256(json.dumps(sorted(map(list, judged.texts.items()))).encode()).hexdigest()[:16]


def tau_curve(judged: Judged, tau: float | None) -> tuple[list[dict[str, float]], float]:
    """Return the share of sessions whose pattern would be proprietary at other thresholds, and at the one in force.

    Without a trained model there is no similarity: the curve is empty, and all sessions are proprietary.
    """
    sizes = {row["pattern_id"]: row["n_sessions"] for row in judged.patterns}
    found = [
        (similarity, sizes[row["pattern_id"]])
        for row in judged.routes
        if row["pattern_id"] in sizes and (similarity := row["similarity"]) is not None
    ]
    total = max(1, sum(n for _, n in found))

    def share(threshold: float) -> float:
        return float(round(sum(n for similarity, n in found if similarity < threshold) / total, 6))

    curve = [{"tau": at, "proprietary_share": share(at)} for at in TAUS] if found else []
    return curve, share(tau) if tau is not None else 1.0


def stale_stage(model: str, routes: Iterable[Mapping[str, Any]], scores: Iterable[Mapping[str, Any]]) -> tuple[Stage, str] | None:
    """Return the first stage whose rows are of another model than this one, and that model; None if there is none."""
    for stage, rows in ((Stage.ROUTE, routes), (Stage.DETECT, scores)):
        if others := {row["model"] for row in rows} - {model, None}:
            return stage, min(others)
    return None
