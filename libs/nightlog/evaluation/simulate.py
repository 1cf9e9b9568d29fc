"""Simulate answers: an analyst and a recorded LLM are asked about a labelled system in the order of the history's student."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from nightlog.errors import ConfigError
from nightlog.evaluation.corpus import BENCHMARKS
from nightlog.evaluation.labelled import ADAPTATION, Labelled
from nightlog.evaluation.metrics import f1
from nightlog.history.answers import BATCH, ENOUGH, UNCERTAIN, Student, fuse, next_questions, open_doubt
from nightlog.history.reference import Multisets
from nightlog.history.score import Scored, Scorer

ANSWERS = (0, 10, 20)
STOP, ALL = 9_999, 10_000  # until the stop rule holds; about every pattern
QUESTIONS = (20, 40, 80, STOP, ALL)

Verdicts = Mapping[tuple[str, frozenset[tuple[str, int]]], tuple[float, float | None, str | None]]


@dataclass(frozen=True)
class Subject:
    """A labelled system with the scores of its patterns, and of the system without its anomalies."""

    system: Labelled
    scorer: Scorer
    patterns: Multisets
    scored: Scored
    clean: Scored

    @staticmethod
    def of(system: Labelled, with_test: bool = False) -> Subject:
        """Fit to the adaptation part, or to both as on a night, and score all patterns."""
        scorer, clean = (Scorer(each.reference(with_test), each.templates) for each in (system, system.clean()))
        patterns, other = (each.channels.read(system.patterns.column("events")) for each in (scorer, clean))
        return Subject(system, scorer, patterns, scorer.score(patterns), clean.score(other))

    @cached_property
    def is_anomalous(self) -> np.ndarray:
        """Return what an analyst answers about each pattern: most of its sessions are anomalous."""
        total = self.system.counts.sum(axis=1)
        return np.asarray(2 * total[:, 1] > total.sum(axis=1))

    def f1(self, flagged: np.ndarray, only: np.ndarray | None = None) -> float:
        """F1 of the test part, or of some of its patterns."""
        chosen = flagged if only is None else flagged & only
        anomalous = self.system.anomalous if only is None else self.system.anomalous * only
        true = int(anomalous[chosen].sum())
        return f1(true, int(self.system.normal[chosen].sum()), int(anomalous.sum()) - true)

    def alarms(self, flagged: np.ndarray) -> float:
        """Alarms per 1,000 sessions of the test part without its anomalies, for flags given by `clean`."""
        return 1000 * float(self.system.normal[flagged].sum()) / max(1, int(self.system.normal.sum()))


@dataclass
class Curve:
    """Probabilities and flags of all patterns after each number of questions, and how many were asked, with those of the second round."""

    probability: dict[int, np.ndarray] = field(default_factory=dict)
    flagged: dict[int, np.ndarray] = field(default_factory=dict)
    questions: dict[int, int] = field(default_factory=dict)


def with_answers(subject: Subject, steps: Sequence[int] = ANSWERS) -> Curve:
    """Ask an analyst about patterns of the adaptation part, one at a time; each answer counts at once."""
    student = Student(subject.patterns, subject.scored.prior)
    sessions = subject.system.counts[:, ADAPTATION].sum(axis=1)
    judged: list[int] = []
    curve = Curve()
    for number in range(max(steps) + 1):
        posterior = student.posterior(judged, subject.is_anomalous[judged].astype(float))
        if number in steps:
            curve.probability[number] = posterior.probability
            curve.flagged[number] = posterior.probability > 0.5 if judged else subject.scored.flagged
        is_open = np.ones(len(sessions), dtype=bool)
        is_open[judged] = False
        judged += next_questions(student, posterior, sessions, is_open)
    return curve


def with_questions(subject: Subject, verdict: np.ndarray, group: Sequence[str | None], steps: Sequence[int] = QUESTIONS) -> Curve:
    """Ask an LLM about patterns of both parts, in batches, and fuse its verdicts with the history; the student judges the rest.

    A group of the second round is one more question.

    Args: verdict (n,), the recorded probability of each pattern; group, the name of its group in the second round, None without one.
    """
    student = Student(subject.patterns, subject.scored.prior)
    sessions = subject.system.counts.sum(axis=(1, 2))
    judged: list[int] = []
    curve = Curve()

    def asked() -> int:
        return len(judged) + len({group[i] for i in judged} - {None})

    for step in sorted(steps):
        is_open = np.ones(len(sessions), dtype=bool)
        while asked() < step:
            is_open[judged] = False
            posterior = student.posterior(judged, verdict[judged])
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
        curve.probability[step], curve.flagged[step] = judged_with(subject, student, judged, verdict, sessions)
        curve.questions[step] = asked()
    return curve


def judged_with(
    subject: Subject, student: Student, judged: Sequence[int], verdict: np.ndarray, sessions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and flags of all patterns: verdicts fused with the history if there are any, else the student taught by them."""
    known = np.full(len(verdict), np.nan)
    known[judged] = verdict[judged]
    flagged = fuse(known, subject.scored.unlikeness, subject.scored.tail, sessions)
    labels = np.where(flagged & (known <= 0.5), 1 - known, known)
    probability = student.posterior(judged, labels[judged]).probability
    return probability, np.where(np.isnan(known), probability > 0.5, flagged)


def fusionlog(subject: Subject, verdict: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and flags if the LLM judges the adaptation part alone and the student what is new in the test part."""
    sessions = subject.system.counts[:, ADAPTATION].sum(axis=1)
    student = Student(subject.patterns, subject.scored.prior)
    return judged_with(subject, student, np.flatnonzero(sessions).tolist(), verdict, sessions)


def read_verdicts(path: Path) -> Verdicts:
    """Recorded verdicts: (system, set of (template, count or 0)) → probability in the first round, in the second, name of the group.

    Raises: ConfigError if there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"no recorded verdicts at {path}")
    found: dict[tuple[str, frozenset[tuple[str, int]]], tuple[float, float | None, str | None]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in sorted(rows, key=lambda row: row.get("round", 1)):
        if row.get("kind") == "event":
            continue
        key = (row["system"], frozenset((event["template"], event.get("count", 0)) for event in row["events"]))
        probability = {"normal": 1 - row["confidence"], "anomalous": row["confidence"]}.get(row["label"], 0.5)
        first = found[key][0] if key in found else probability
        found[key] = (first, probability, row.get("group")) if row.get("round", 1) == 2 else (probability, None, None)
    return found


def verdicts_of(subject: Subject, verdicts: Verdicts) -> tuple[np.ndarray, list[str | None]] | None:
    """Final verdict and group of each pattern; None if the recording does not have all of them."""
    if subject.system.name not in BENCHMARKS:
        return None
    named, final, groups = BENCHMARKS[subject.system.name].system, [], list[str | None]()
    for events in subject.system.patterns.column("events").to_pylist():
        counted = subject.system.counted
        known = verdicts.get((named, frozenset((event["template_id"], event["count"] if counted else 0) for event in events)))
        if known is None:
            return None
        first, second, group = known
        doubtful = UNCERTAIN[0] <= round(first, 6) <= UNCERTAIN[1]
        final.append(second if second is not None and doubtful else first)
        groups.append((group or f"alone {len(groups)}") if doubtful else None)
    return np.array(final), groups
