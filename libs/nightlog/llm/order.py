"""The order in which a night's questions are asked: those first whose answers teach the system's student most."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from nightlog.history.answers import BATCH
from nightlog.history.student import SystemStudent
from nightlog.lake.lake import Lake
from nightlog.lake.tables import VerdictRow
from nightlog.llm.items import Item, Verdict
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.verdicts import latest_verdicts
from nightlog.systems.spec import System

# Question id → its verdict, to question or pattern id → an analyst's answer: 1 anomalous, 0 normal.
AnswersTo: TypeAlias = Callable[[Mapping[str, VerdictRow]], Mapping[str, float]]
MOST_SPREAD = 200  # of a larger batch the rest comes in the order that holds without a student


class AskingOrder:
    """Chooses the next questions of a night by the verdicts so far, until further answers would change next to nothing.

    A question teaches much if it has many sessions and the student is in doubt about it; within a batch, questions are unlike each other.
    While the history is learning there is no student: all are asked at once, in the order in which they are given.

    Args: questions, in the order that holds without a student; failed, question → the runs in which it had no answer: it comes after
    those with fewer; answers, an analyst's, question or pattern id → 0 or 1: those questions are not asked; known, questions with a
    verdict; later, those of them that a later night asked: the student does not learn from them; batch, questions at a time.
    `left`: questions that need no answer, after the last call.
    """

    def __init__(
        self,
        lake: Lake,
        system: System,
        ds: str,
        questions: Sequence[str],
        failed: Mapping[str, Collection[object]],
        answers: Mapping[str, float],
        known: Collection[str],
        later: Collection[str],
        batch: int = BATCH,
    ):
        self.left: set[str] = set()
        self._questions = questions
        self._failures = {name: len(runs) for name, runs in failed.items()}
        self._answers = answers
        self._batch = batch
        self._later = later
        open_questions = set(questions) - set(known)
        self._student = SystemStudent.of(lake, system, ds, {*known, *answers}) if open_questions else None

    def __call__(self, open_questions: Collection[str], verdicts: Mapping[str, Verdict]) -> Sequence[str]:
        """Return the questions to ask next: some of `open_questions`, or none if that is enough."""
        student = self._student
        if student is None or not student.scorer.is_usable:
            return [name for name in self._questions if name in open_questions]
        clear = {name: verdict for name, verdict in verdicts.items() if verdict.label != "unclear" and name not in self._later}
        judgement = student.judge({name: verdict.probability for name, verdict in clear.items()}, self._answers, open_questions)
        is_open = {name for name in open_questions if not student.is_judged(judgement, name)}
        if judgement.is_enough or not is_open:
            self.left = set(open_questions)
            return []
        self.left = set(open_questions) - is_open
        fewest = min(self._failures.get(name, 0) for name in is_open)
        first = {name for name in is_open if self._failures.get(name, 0) == fewest}
        chosen = student.next(judgement, first, min(self._batch, MOST_SPREAD))
        if chosen and self._batch <= MOST_SPREAD:
            return chosen
        return [*chosen, *(name for name in self._questions if name in first.difference(chosen))][: self._batch]


def asking_order(
    lake: Lake,
    system: System,
    ds: str,
    items: Sequence[Item],
    llm: str,
    failed: Mapping[str, Collection[object]],
    known: Mapping[str, Verdict],
    answers_to: AnswersTo,
    submits: bool,
) -> AskingOrder:
    """Return the order for a night's questions, which knows the analysts' answers.

    Args: submits, True if all questions go by one batch, whose verdicts come on another day.
    """
    rows = latest_verdicts(lake, system, prompt_hash(system), llm)
    later = {question for question, row in rows.items() if (row["ds"] or "") > ds}
    questions = [item.id for item in items]
    return AskingOrder(
        lake, system, ds, questions, failed, answers_to(rows), known, later, max(BATCH, len(questions)) if submits else BATCH
    )
