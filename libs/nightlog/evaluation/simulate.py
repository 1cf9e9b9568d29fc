"""Simulate answers: an analyst and an LLM are asked about a labelled system in the order of the history's student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nightlog.evaluation.judged import Verdicts, items_of
from nightlog.evaluation.labelled import ADAPTATION, Labelled
from nightlog.evaluation.metrics import f1
from nightlog.feedback.groups import rank_questions
from nightlog.history.answers import BATCH, ENOUGH, Student, fuse, next_questions, open_doubt
from nightlog.history.reference import Multisets
from nightlog.history.score import Scored, Scorer
from nightlog.llm.items import Verdict
from nightlog.llm.rounds import group_keys

STOP, ALL = 9_999, 10_000  # until the stop rule holds; about every pattern


@dataclass(frozen=True)
class Outcome:
    """Scores and flags of all patterns of a system, (n,) each; flags are None for a ranking alone.

    `asked` counts the LLM's questions, `answers` the analyst's.
    """

    score: np.ndarray
    flagged: np.ndarray | None
    asked: int = 0
    answers: int = 0
    note: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class Subject:
    """A labelled system with the history's scores of its patterns."""

    system: Labelled
    scorer: Scorer
    patterns: Multisets
    scored: Scored

    @staticmethod
    def of(system: Labelled, with_test: bool = False) -> Subject:
        """Fit to the adaptation part, or to both as on a night, and score all patterns."""
        scorer = Scorer(system.reference(with_test), system.templates)
        patterns = scorer.channels.read(system.patterns.column("events"))
        return Subject(system, scorer, patterns, scorer.score(patterns))

    @cached_property
    def without_anomalies(self) -> Subject:
        """The system without its anomalous sessions."""
        return Subject.of(self.system.clean())

    @property
    def clean(self) -> Scored:
        """The scores of the system without its anomalous sessions."""
        return self.without_anomalies.scored

    def f1(self, flagged: np.ndarray) -> float:
        """F1 of the test part."""
        true = int(self.system.anomalous[flagged].sum())
        return f1(true, int(self.system.normal[flagged].sum()), int(self.system.anomalous.sum()) - true)

    def alarms(self, flagged: np.ndarray) -> float:
        """Alarms per 1,000 sessions of the test part without its anomalies, by flags on the system without them."""
        return 1000 * float(self.system.normal[flagged].sum()) / max(1, int(self.system.normal.sum()))

    @cached_property
    def is_anomalous(self) -> np.ndarray:
        """Return the analyst's answer about each pattern: True if most of its sessions are anomalous."""
        total = self.system.counts.sum(axis=1)
        return np.asarray(2 * total[:, 1] > total.sum(axis=1))


def with_answers(subject: Subject, steps: Sequence[int]) -> dict[int, Outcome]:
    """Ask an analyst about patterns of the adaptation part, one at a time; each answer counts at once."""
    student = Student(subject.patterns, subject.scored.prior)
    sessions = subject.system.counts[:, ADAPTATION].sum(axis=1)
    judged: list[int] = []
    outcomes = {}
    for number in range(max(steps, default=-1) + 1):
        posterior = student.posterior(judged, subject.is_anomalous[judged].astype(float))
        if number in steps:
            flagged = posterior.probability > 0.5 if judged else subject.scored.flagged
            outcomes[number] = Outcome(posterior.probability if judged else subject.scored.score, flagged, answers=number)
        is_open = np.ones(len(sessions), dtype=bool)
        is_open[judged] = False
        judged += next_questions(student, posterior, sessions, is_open)
    return outcomes


def with_questions(subject: Subject, verdicts: Verdicts, steps: Sequence[int]) -> dict[int, Outcome]:
    """Ask an LLM about patterns of both parts, in batches, and fuse its verdicts with the history; the student judges the rest.

    A group of the second round is one more question. `steps` are budgets of questions, or STOP, or ALL.
    """
    student = Student(subject.patterns, subject.scored.prior)
    sessions = subject.system.counts.sum(axis=(1, 2))
    judged: list[int] = []
    outcomes = {}

    def asked() -> int:
        return len(judged) + len({verdicts.group[i] for i in judged} - {None})

    for step in sorted(steps):
        is_open = np.ones(len(sessions), dtype=bool)
        while asked() < step:
            is_open[judged] = False
            posterior = student.posterior(judged, verdicts.final[judged])
            if step == STOP and open_doubt(posterior, sessions, is_open) <= ENOUGH:
                break
            batch = next_questions(student, posterior, sessions, is_open, BATCH if step < ALL else len(sessions))
            for number in batch:
                judged.append(number)
                if asked() > step:  # its second round would exceed the budget
                    judged.pop()
                    is_open[number] = False
            if not batch:
                break
        score, flagged = judged_with(subject, student, judged, verdicts.final, sessions)
        outcomes[step] = Outcome(score, flagged, asked=asked())
    return outcomes


def judged_with(
    subject: Subject, student: Student, judged: Sequence[int], verdict: np.ndarray, sessions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and flags of all patterns: verdicts fused with the history, and the student that they teach for the rest."""
    known = np.full(len(verdict), np.nan)
    known[judged] = verdict[judged]
    flagged = fuse(known, subject.scored.unlikeness, subject.scored.tail, sessions)
    labels = np.where(flagged & (known <= 0.5), 1 - known, known)
    probability = student.posterior(judged, labels[judged]).probability
    return probability, np.where(np.isnan(known), probability > 0.5, flagged)


def fusionlog(subject: Subject, verdicts: Verdicts) -> Outcome:
    """The LLM judges the adaptation part alone, and the student what is new in the test part."""
    sessions = subject.system.counts[:, ADAPTATION].sum(axis=1)
    judged = np.flatnonzero(sessions).tolist()
    student = Student(subject.patterns, subject.scored.prior)
    score, flagged = judged_with(subject, student, judged, verdicts.final, sessions)
    return Outcome(score, flagged, asked=len(judged) + len({verdicts.group[i] for i in judged} - {None}))


def with_verdicts_and_answers(subject: Subject, verdicts: Verdicts, steps: Sequence[int]) -> dict[int, Outcome]:
    """The LLM judges everything; then an analyst answers about groups of doubtful verdicts, the ones where an answer changes most.

    An answer is the majority of the sessions of the group, and replaces its verdicts.
    """
    system = subject.system
    sessions, total = system.counts[:, ADAPTATION].sum(axis=1), system.counts.sum(axis=(1, 2))
    number = {name: i for i, name in enumerate(system.patterns.column("question_id").to_pylist())}
    given = {name: as_verdict(name, float(verdicts.final[i]), verdicts.group[i]) for name, i in number.items()}
    keys = group_keys(items_of(system), given)
    groups = rank_questions(system.name, given, {name: int(sessions[i]) for name, i in number.items()}, keys)
    student = Student(subject.patterns, subject.scored.prior)
    known, everything, outcomes = verdicts.final.copy(), list(range(len(total))), {}
    for step in range(max(steps, default=-1) + 1):
        if step in steps:
            score, flagged = judged_with(subject, student, everything, known, total)
            outcomes[step] = Outcome(score, flagged, sum(verdicts.asked), min(step, len(groups)))
        if step < len(groups):
            rows = [number[question] for question in groups[step].questions]
            normal, anomalous = system.counts[rows].sum(axis=(0, 1))
            known[rows] = float(anomalous > normal)
    return outcomes


def as_verdict(question: str, probability: float, group: str | None) -> Verdict:
    """Return a final verdict of the two rounds; a pattern that was alone in its group has no group's name."""
    name = None if group is None or group.startswith("alone ") else group
    label, confidence = ("anomalous", probability) if probability > 0.5 else ("normal", 1 - probability)
    return Verdict(question, label, confidence, "", 1 if group is None else 2, name)  # type: ignore[arg-type]


def settled_by_llm(verdicts: Verdicts, rounds: int) -> Outcome:
    """The LLM alone, after one round or two; an uncertain verdict flags if an anomaly is the likelier label."""
    score = verdicts.first if rounds == 1 else verdicts.final
    return Outcome(score, score > 0.5, sum(verdicts.asked[:rounds]))
