"""The student in a night: what it adds to silver.history about patterns that nobody has judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nightlog.history.student import SystemStudent, judgement_in_words
from nightlog.lake.lake import Lake
from nightlog.lake.tables import HistoryRow
from nightlog.llm.items import Verdict
from nightlog.systems.spec import System

DIGITS = 6
WITHOUT: HistoryRow = {"student": None, "student_reason": None, "overruled": None, "is_enough": None}


def probabilities(verdicts: Iterable[Mapping[str, Any]], answers: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return question id → probability of an anomaly, of verdicts and of answers. "Unclear" is no verdict."""
    clear = (row for row in verdicts if row["label"] != "unclear")
    of_llm = {row["question_id"]: Verdict(row["question_id"], row["label"], row["confidence"], "").probability for row in clear}
    return of_llm, {row["question_id"]: float(row["answer"] == "anomalous") for row in answers}


def with_student(
    lake: Lake,
    system: System,
    ds: str,
    patterns: Sequence[Mapping[str, Any]],
    routes: Sequence[Mapping[str, Any]],
    history: Sequence[HistoryRow],
    verdicts: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
) -> tuple[list[HistoryRow], str | None]:
    """Return the rows of silver.history of a night with what the student knows of each pattern, and the version of the student.

    The student learns from the verdicts of this night and of earlier ones, and from all answers. The version is None, and rows are as they
    were, if nothing is judged or the history is still learning.

    Args: patterns (pattern_id, question_id); routes (pattern_id, route); history, the rows of the night; verdicts and answers as
    `decisions` takes them, verdicts with `ds`, the night that asked.
    """
    cleared: list[HistoryRow] = [{**row, **WITHOUT} for row in history]
    of_llm, of_analysts = probabilities((row for row in verdicts if (row["ds"] or "") <= ds), answers)
    if not (of_llm or of_analysts) or all(row["flagged"] is None for row in history):
        return cleared, None
    student = SystemStudent.of(lake, system, ds, of_llm.keys() | of_analysts.keys())
    question_of = {row["pattern_id"]: row["question_id"] for row in patterns}
    asked = {row["question_id"] for row in verdicts}
    may_be_asked = {question_of.get(row["pattern_id"], "") for row in routes if row["route"] == "proprietary"} - asked
    judged = student.judge(of_llm, of_analysts, may_be_asked)
    reason_of = {row["question_id"]: f"{row['label']}: {row['reason']}" for row in verdicts}
    reason_of |= {row["question_id"]: f"{row['answer']}: {row['told']}" for row in answers}
    found, n_judged = [], int(judged.is_judged.sum())
    for row in cleared:
        number = student.number.get(question_of.get(row["pattern_id"], ""))
        if number is None:
            found.append(row)
            continue
        overruled = bool(judged.is_overruled[number])
        row |= {"overruled": overruled, "is_enough": judged.is_enough}
        if overruled:
            row["student"] = round(1 - float(of_llm[student.questions[number]]), DIGITS)
        elif judged.judges and not judged.is_judged[number]:
            probability = round(float(judged.posterior.probability[number]), DIGITS)
            near = int(judged.nearest[number])
            like = reason_of.get(student.questions[near]) if near >= 0 else None
            words = judgement_in_words(probability, n_judged, like, float(judged.likeness[number]), row["reasons"] or [])
            row |= {"student": probability, "student_reason": words}
        found.append(row)
    return found, student.version(of_llm, of_analysts)
