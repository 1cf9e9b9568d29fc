"""Questions to analysts and their answers: an answer decides a group, and outranks LLM and small model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from nightlog.errors import NotThere
from nightlog.feedback.groups import Group, group_ids, rank_questions
from nightlog.feedback.store import current_statements, key_of, record
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, PATTERNS
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.verdicts import latest_verdicts, stored_verdict
from nightlog.systems.spec import System

Answered = Literal["normal", "anomalous"]


@dataclass(frozen=True)
class SystemQuestions:
    """A system's questions: the last verdict row of each, their sessions over all nights, and the answers by question."""

    verdicts: Mapping[str, dict[str, Any]]
    sessions: Mapping[str, int]
    answers: Mapping[str, dict[str, Any]]


def answers_by_question(rows: Iterable[dict[str, Any]], groups: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return question id, or id of a labelled pattern → the answer or label that holds for it.

    An answer holds for the questions that its group had when it was given and for those that are in the group now; of two that hold for
    a question the later one counts. A label on a pattern is about that pattern alone, and outranks what was answered about a group.

    Args: rows of ops.answers of one system; groups, question id → id of its group now.
    """
    found: dict[str, dict[str, Any]] = {}
    held = [row for row in current_statements(rows) if key_of(row)[1] != "suppression"]
    for row in sorted(held, key=lambda row: key_of(row)[1] == "label"):
        members = [question for question, group in groups.items() if group == row["group"] and key_of(row)[1] == "answer"]
        found |= dict.fromkeys([*(row["questions"] or ()), *members], row)
    return found


def keys_of(verdicts: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Return question id → key of its difference, for the rows that have one."""
    return {name: row["group_key"] for name, row in verdicts.items() if row["group_key"] is not None}


def system_answers(lake: Lake, system: System, verdicts: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return question id, or id of a labelled pattern → the analysts' answer to it, see `answered`."""
    said = {question: stored_verdict(row) for question, row in verdicts.items()}
    groups = group_ids(system.name, said, keys_of(verdicts))
    return answers_by_question(lake.rows(ANSWERS, system=system.name), groups)


def system_questions(lake: Lake, system: System) -> SystemQuestions:
    """Read a system's questions under the prompt in force."""
    verdicts = latest_verdicts(lake, system, prompt_hash(system), None)
    sessions = Counter[str]()
    for row in lake.rows(PATTERNS, ["question_id", "n_sessions"], system=system.name):
        sessions[row["question_id"]] += row["n_sessions"]
    return SystemQuestions(verdicts, dict(sessions), system_answers(lake, system, verdicts))


def groups_of(system: System, about: SystemQuestions, with_answer: bool) -> list[Group]:
    """Return the system's groups, ranked: those without an answer, or those with one."""
    chosen = {name: stored_verdict(row) for name, row in about.verdicts.items() if (name in about.answers) == with_answer}
    return rank_questions(system.name, chosen, about.sessions, keys_of(about.verdicts))


COLUMNS = ("system", "group", "what", "patterns", "sessions", "decision", "probability", "answer", "weight", "example")


def questions(lake: Lake, systems: Sequence[System], with_answer: bool = False) -> list[dict[str, Any]]:
    """Return the questions to the analysts, over all systems, in the order of `rank_questions`.

    Args: with_answer, list the groups that were answered instead of the open ones.
    """
    found: list[dict[str, Any]] = []
    for system in systems:
        about = system_questions(lake, system)
        for group in groups_of(system, about, with_answer):
            first = about.verdicts[group.questions[0]]
            given = about.answers.get(group.questions[0])
            found.append(
                {
                    "system": system.name,
                    "group": group.id,
                    "what": group.name or first["reason"],
                    "patterns": len(group.questions),
                    "sessions": group.sessions,
                    "decision": group.label,
                    "probability": group.probability,
                    "answer": given["label"] if given is not None else None,
                    "weight": group.weight,
                    "example": example(first),
                }
            )
    return sorted(found, key=lambda row: (-row["weight"], row["group"]))


def example(row: Mapping[str, Any]) -> str:
    """Return the difference of a question to the normal as one text, or all of its templates if no difference is known."""
    changes = [("+", event) for event in row["added"] or ()] + [("-", event) for event in row["missing"] or ()]
    shown = changes or [("", event) for event in row["events"] or ()]
    return "; ".join(f"{sign}{event['count'] or ''}{'× ' if event['count'] else ''}{event['template']}" for sign, event in shown)


def record_answer(
    lake: Lake, systems: Sequence[System], group: str, label: Answered, answered_by: str, now: datetime, note: str | None = None
) -> dict[str, Any]:
    """Keep an analyst's answer about a group, once. Returns the row. Raises: NotThere if no system has such a group."""
    for system in systems:
        about = system_questions(lake, system)
        for found in groups_of(system, about, False) + groups_of(system, about, True):
            if found.id == group:
                of = {"system": system.name, "kind": "answer", "about": "group", "group": group, "name": found.name}
                said = {"questions": list(found.questions), "label": label, "note": note}
                return record(lake, of | said | {"answered_by": answered_by, "answered_at": now})[0]
    raise NotThere(f"no group `{group}`: `nightlog questions` lists those that may be answered, with --answered those that were")
