"""Questions to analysts and their answers: an answer decides a group, teaches the student, and outranks LLM and small model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any, Literal

from nightlog.errors import NotThere
from nightlog.feedback.groups import Group, group_ids, rank_questions
from nightlog.feedback.store import current_statements, key_of, record
from nightlog.history.student import SystemStudent
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, PATTERNS, AnswerRow, VerdictRow
from nightlog.llm.items import Label, Verdict
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.verdicts import latest_verdicts, stored_verdict
from nightlog.systems.spec import System

Answered = Literal["normal", "anomalous"]
MOST_SHOWN = 100


@dataclass(frozen=True)
class SystemQuestions:
    """A system's questions: the last verdict row of each, their sessions over all nights, the answers by question, and the student of the
    last night, None before the first one."""

    verdicts: Mapping[str, VerdictRow]
    sessions: Mapping[str, int]
    answers: Mapping[str, AnswerRow]
    student: SystemStudent | None = None


def answers_by_question(rows: Iterable[AnswerRow], groups: Mapping[str, str]) -> dict[str, AnswerRow]:
    """Return question id, or id of a labelled pattern → the answer or label that holds for it.

    An answer holds for the questions that its group had when it was given and for those that are in the group now; of two that hold for
    a question the later one counts. A label on a pattern is about that pattern alone, and outranks what was answered about a group.

    Args: rows of ops.answers of one system; groups, question id → id of its group now.
    """
    found: dict[str, AnswerRow] = {}
    held = [row for row in current_statements(rows) if key_of(row)[1] != "suppression"]
    for row in sorted(held, key=lambda row: key_of(row)[1] == "label"):
        members = [question for question, group in groups.items() if group == row["group"] and key_of(row)[1] == "answer"]
        found |= dict.fromkeys([*(row["questions"] or ()), *members], row)
    return found


def keys_of(verdicts: Mapping[str, VerdictRow]) -> dict[str, str]:
    """Return question id → key of its difference, for the rows that have one."""
    return {name: row["group_key"] for name, row in verdicts.items() if row["group_key"] is not None}


def system_answers(lake: Lake, system: System, verdicts: Mapping[str, VerdictRow]) -> dict[str, AnswerRow]:
    """Return question id, or id of a labelled pattern → the analysts' statement on it: see `answers_by_question`."""
    stored = {question: stored_verdict(row) for question, row in verdicts.items()}
    groups = group_ids(system.name, stored, keys_of(verdicts))
    return answers_by_question(lake.rows(ANSWERS, system=system.name), groups)


def answers_to(lake: Lake, system: System, verdicts: Mapping[str, VerdictRow]) -> dict[str, float]:
    """Return question id, or id of a labelled pattern → the analysts' answer to it: 1 anomalous, 0 normal."""
    return {name: float(row["label"] == "anomalous") for name, row in system_answers(lake, system, verdicts).items()}


def system_questions(lake: Lake, system: System) -> SystemQuestions:
    """Read a system's questions under the prompt in force."""
    verdicts = latest_verdicts(lake, system, prompt_hash(system), None)
    sessions = Counter[str]()
    for row in lake.rows(PATTERNS, ["question_id", "n_sessions"], system=system.name):
        sessions[row["question_id"]] += row["n_sessions"]
    nights = lake.nights(PATTERNS, system.name)
    student = SystemStudent.of(lake, system, max(nights)) if nights else None
    return SystemQuestions(verdicts, dict(sessions), system_answers(lake, system, verdicts), student)


def groups_of(lake: Lake, system: System, about: SystemQuestions, with_answer: bool) -> list[Group]:
    """Return the system's groups: those with an answer, by weight, or those without one, in the order in which answers teach most.

    Without an answer are groups of uncertain verdicts, and each pattern that nobody judged. Their weight is the root of the sessions times
    the student's doubt; groups that are like one that comes before them come later.
    """
    chosen = {name: stored_verdict(row) for name, row in about.verdicts.items() if (name in about.answers) == with_answer}
    groups = rank_questions(system.name, chosen, about.sessions, keys_of(about.verdicts))
    student = about.student
    if with_answer or student is None:
        return groups
    verdicts = {name: verdict.probability for name, verdict in chosen.items() if verdict.label != "unclear"}
    judged = student.judge(verdicts, {name: float(row["label"] == "anomalous") for name, row in about.answers.items()})
    doubt = dict(zip(student.questions, judged.posterior.doubt.tolist(), strict=True))
    probability = dict(zip(student.questions, judged.posterior.probability.tolist(), strict=True))
    for number, name in enumerate(student.questions):
        if not judged.is_judged[number] and name not in chosen and name not in about.answers:
            label: Label = "unclear" if not judged.judges else "anomalous" if probability[name] > 0.5 else "normal"
            own_id = group_ids(system.name, {name: Verdict(name, label, 0.0, "")}, {})[name]
            groups.append(Group(own_id, None, label, round(probability[name], 6), 0.0, about.sessions.get(name, 0), (name,)))
    weighed = []
    for group in groups:
        sessions = {name: about.sessions.get(name, 0) for name in group.questions}
        wrong = sum(n * doubt.get(name, min(group.probability, 1 - group.probability)) for name, n in sessions.items())
        weighed.append(replace(group, weight=round(wrong / math.sqrt(max(1, group.sessions)), 6)))
    order = student.spread({group.questions[0]: group.weight for group in weighed})
    rank = {name: number for number, name in enumerate(order)}
    return sorted(weighed, key=lambda group: (rank.get(group.questions[0], len(rank)), -group.weight, group.id))


COLUMNS = ("system", "group", "what", "patterns", "sessions", "decision", "probability", "answer", "weight", "example")


def questions(lake: Lake, systems: Sequence[System], with_answer: bool = False, limit: int = MOST_SHOWN) -> list[dict[str, Any]]:
    """Return the questions to the analysts, of each system in the order of `groups_of`, the systems by turns.

    Args: with_answer, list the groups that were answered instead of the open ones; limit, at most this number per system.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for system in systems:
        about = system_questions(lake, system)
        groups = groups_of(lake, system, about, with_answer)[:limit]
        unjudged = [group.questions[0] for group in groups if group.questions[0] not in about.verdicts]
        description_of = about.student.described(unjudged) if about.student is not None else {}
        for number, group in enumerate(groups):
            first = about.verdicts.get(group.questions[0]) or description_of.get(group.questions[0], {"reason": None})
            given = about.answers.get(group.questions[0])
            row = {
                "system": system.name,
                "group": group.id,
                "what": group.name or first["reason"] or "nobody has judged it",
                "patterns": len(group.questions),
                "sessions": group.sessions,
                "decision": group.label,
                "probability": group.probability,
                "answer": given["label"] if given is not None else None,
                "weight": group.weight,
                "example": example(first),
            }
            found.append((number, row))
    return [row for _, row in sorted(found, key=lambda each: (each[0], -each[1]["weight"], each[1]["group"]))]


def example(row: Mapping[str, Any]) -> str:
    """Return the difference of a question to the normal as one text, or all of its templates if no difference is known.

    Of a template that is there instead of a similar one, only the words that differ are shown.
    """
    added, missing = (list(row.get(name) or ()) for name in ("added", "missing"))
    if not added and not missing:
        return "; ".join(f"{times(event)}{event['template']}" for event in row.get("events") or ())
    sides = (("+", added, missing), ("-", missing, added))
    shown = [(sign, event, [each["template"] for each in others]) for sign, events, others in sides for event in events]
    return "; ".join(f"{sign}{times(event)}{differing(event['template'], others)}" for sign, event, others in shown)


def times(event: Mapping[str, Any]) -> str:
    """Return the count of an event as it stands before its template."""
    return f"{event['count']}× " if event["count"] else ""


def differing(template: str, others: Sequence[str]) -> str:
    """Return a template without the words that it shares with the most similar of the others: `…` stands for more than two of them.

    The first word stays. A template that shares less than half of the words of each pair's shorter one is shown whole.

    >>> differing("closed: too many commands in=<NUM> out=<NUM> deleted=<NUM>", ["closed: by the client in=<NUM> out=<NUM> deleted=<NUM>"])
    'closed: too many commands …'
    >>> differing("disk lost", ["open <PATH>"])
    'disk lost'
    """
    words, best, shared = template.split(), None, 0
    for other in (each.split() for each in others if each != template):
        pair = SequenceMatcher(None, words, other, autojunk=False)
        n = sum(block.size for block in pair.get_matching_blocks())
        if n > shared and 2 * n >= min(len(words), len(other)):
            best, shared = pair, n
    if best is None:
        return template
    shown = list[str]()
    for tag, first, end, _, _ in best.get_opcodes():
        part = words[first:end]
        kept = part if tag != "equal" or len(part) <= 2 else [part[0], "…"] if first == 0 else ["…"]
        shown += kept
    return " ".join(shown)


def record_answer(
    lake: Lake, systems: Sequence[System], group: str, label: Answered, answered_by: str, now: datetime, note: str | None = None
) -> tuple[AnswerRow, bool]:
    """Keep an analyst's answer about a group, once. Returns as `record`. Raises: NotThere if no system has such a group."""
    for system in systems:
        about = system_questions(lake, system)
        for found in groups_of(lake, system, about, False) + groups_of(lake, system, about, True):
            if found.id == group:
                row = AnswerRow(system=system.name, kind="answer", about="group", group=group, name=found.name)
                row |= AnswerRow(questions=list(found.questions), label=label, note=note, answered_by=answered_by, answered_at=now)
                return record(lake, row)
    raise NotThere(f"no group `{group}`: `nightlog questions` lists those that may be answered, with --answered those that were")
