"""The student of a system: it judges a night's patterns that nobody has judged, by the verdicts and answers about other patterns.

Verdicts are memory, and the student generalises from them. This is the loop of GeneralLog (arXiv 2511.05882) and FusionLog
(arXiv 2511.05878) with a simple learner instead of a trained network: see `nightlog.history.answers`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightlog.history.answers import ENOUGH, Posterior, Student, fuse, next_questions, open_doubt
from nightlog.history.night import patterns_until, scorer_of
from nightlog.history.score import LONGEST_TAIL, SLOPE, TAIL_WEIGHT, THRESHOLD, Scorer
from nightlog.lake.lake import Lake
from nightlog.systems.spec import System

# With this number of judged patterns the student's F1 is at least the history's own on each of 15 families (8 to 30 answers of an analyst);
# with fewer it loses on some. It is the same number whichever family is left out.
ENOUGH_JUDGED = 8
MOST_JUDGED = 1000  # those with the most sessions; the time to fit grows with the cube
MOST_QUESTIONS = 10_000
STRANGEST = SLOPE * (TAIL_WEIGHT * LONGEST_TAIL - THRESHOLD)  # log-odds of a pattern that is alone in the tail, before any answer


@dataclass(frozen=True)
class Judgement:
    """The student's judgement on n questions.

    `is_judged` (n,) bool: somebody judged it; `is_overruled` (n,) bool: a doubtful verdict on the normal side that the history outweighs;
    `nearest` and `likeness` (n,): the judged question that is most similar, -1 if there is none, and the similarity in [0, 1].
    `judges`: False if too little is known, or if no pattern could be flagged; then `posterior` only ranks. `doubt`: see `open_doubt`.
    """

    posterior: Posterior
    is_judged: np.ndarray
    is_overruled: np.ndarray
    nearest: np.ndarray
    likeness: np.ndarray
    judges: bool
    doubt: float

    @property
    def is_enough(self) -> bool:
        """Further answers of the LLM about this night would change next to nothing."""
        return self.judges and self.doubt <= ENOUGH


class SystemStudent:
    """The questions of a system up to a night, and the student that judges them.

    `questions`: ids in order; `tonight`, `sessions` (n,): their sessions on the night, and on all its nights.
    """

    def __init__(self, rows: pa.Table, scorer: Scorer, ds: str, known: Collection[str] | None):
        self.n_nights = max(1, len(rows.column("ds").unique()))
        rows = rows.filter(pc.is_valid(rows.column("question_id")))
        rows = rows.sort_by([("question_id", "ascending"), ("pattern_id", "ascending")])
        ids = rows.column("question_id").cast(pa.string()).combine_chunks().dictionary_encode()
        _, first, place = np.unique(np.asarray(ids.indices), return_index=True, return_inverse=True)
        weight = pc.fill_null(rows.column("n_sessions"), 0).to_numpy().astype(float)
        is_tonight = pc.equal(rows.column("ds"), ds).to_numpy(zero_copy_only=False)
        sessions = np.bincount(place, weights=weight, minlength=len(first))
        tonight = np.bincount(place, weights=weight * is_tonight, minlength=len(first))
        names = ids.dictionary.to_pylist()
        pattern_ids = rows.column("pattern_id").to_pylist()
        self._question_of = {str(pattern): names[number] for pattern, number in zip(pattern_ids, place.tolist(), strict=True)}
        if known is None:
            kept = np.sort(np.argsort(-sessions, kind="stable")[:MOST_QUESTIONS])
        else:
            about = {*known, *(self._question_of[each] for each in known if each in self._question_of)}
            kept = np.flatnonzero((tonight > 0) | np.array([name in about for name in names], dtype=bool))
        self.questions: list[str] = [names[number] for number in kept]
        self.tonight, self.sessions = tonight[kept], sessions[kept]
        self.number = {name: number for number, name in enumerate(self.questions)}
        self.scorer = scorer
        self._rows = rows.select(["pattern_id", "events"]).take(pa.array(first[kept]))
        patterns = scorer.channels.read(self._rows.column("events"))
        self.scored = scorer.score(patterns)
        self._student = Student(patterns, self.scored.prior)

    @staticmethod
    def of(lake: Lake, system: System, ds: str, known: Collection[str] | None = None) -> SystemStudent:
        """Read the questions of the night, and `known`: those of earlier nights that are judged. All of the last nights if it is None."""
        rows = patterns_until(lake, system, ds)
        with threadpool_limits(1):  # threads that wait for each other on busy cores take a hundred times as long
            return SystemStudent(rows, scorer_of(lake, system, ds, rows), ds, known)

    def judge(self, verdicts: Mapping[str, float], answers: Mapping[str, float], may_be_asked: Collection[str] | None = None) -> Judgement:
        """Judge all questions.

        Args: verdicts, question id → the LLM's probability of an anomaly; answers, question or pattern id → 0 or 1, which outrank them;
        may_be_asked, the questions that the LLM may be asked about, all without.
        """
        label = np.full(len(self.questions), np.nan)
        for found in (verdicts, answers):
            for name, probability in found.items():
                number = self.number.get(self._question_of.get(name, name))
                if number is not None:
                    label[number] = probability
        is_judged = ~np.isnan(label)
        usable = self.scorer.is_usable
        is_overruled = np.zeros(len(label), dtype=bool)
        if usable:
            is_overruled = fuse(label, self.scored.unlikeness, self.scored.tail, self.sessions) & ~(label > 0.5)
        label = np.where(is_overruled, 1 - np.where(is_judged, label, 0.5), label)
        judged = np.flatnonzero(is_judged)
        taught = np.sort(judged[np.argsort(-self.sessions[judged], kind="stable")[:MOST_JUDGED]])
        with threadpool_limits(1):
            posterior = self._student.posterior(taught, label[taught])
        posterior.probability[judged] = label[judged]
        nearest, likeness = np.full(len(label), -1), np.zeros(len(label))
        if len(taught):
            similar = self._student.similarity(taught)
            best = similar.argmax(axis=1)
            nearest, likeness = taught[best], similar[np.arange(len(label)), best]
        can_flag = STRANGEST + posterior.shift > 0 or bool((posterior.probability[~is_judged] > 0.5).any())
        judges = usable and len(judged) >= ENOUGH_JUDGED and can_flag
        usual = float((self.sessions * posterior.probability)[is_judged].sum()) / self.n_nights
        is_open = ~is_judged & self._mask(may_be_asked)
        doubt = open_doubt(posterior, self.tonight, is_open, usual)
        return Judgement(posterior, is_judged, is_overruled, nearest, likeness, judges, doubt)

    def next(self, judgement: Judgement, may_be_asked: Collection[str], batch: int, sessions: np.ndarray | None = None) -> list[str]:
        """Return the questions to ask next, at most `batch`, those first that teach most: see `next_questions`.

        Args: sessions (n,) to weigh questions by; the night's without.
        """
        is_open = ~judgement.is_judged & self._mask(may_be_asked)
        weight = self.tonight if sessions is None else sessions
        return [self.questions[number] for number in next_questions(self._student, judgement.posterior, weight, is_open, batch)]

    def spread(self, weight: Mapping[str, float], most: int = 200) -> list[str]:
        """Return questions in the order of falling weight, those that are like an earlier one later; at most `most`."""
        gain = np.zeros(len(self.questions))
        for name, value in weight.items():
            if name in self.number:
                gain[self.number[name]] = value
        as_given = Posterior(gain, gain, np.full(len(gain), 0.5))  # the same doubt about all: the weight alone counts
        return [self.questions[number] for number in next_questions(self._student, as_given, gain**2, gain > 0, most)]

    def described(self, questions: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return question id → its `reason` by the history, and its `events` (template, count)."""
        numbers = [self.number[name] for name in questions if name in self.number]
        rows, texts = self._rows.take(pa.array(numbers, pa.int64())), self.scorer.channels.templates.text
        found = {}
        for number, row, scored in zip(numbers, rows.to_pylist(), self.scorer.table(rows).to_pylist(), strict=True):
            events = [{"template": texts.get(e["template_id"], e["template_id"]), "count": e["count"]} for e in row["events"] or ()]
            reason = "; ".join(each["text"] for each in scored["reasons"]) or None
            found[self.questions[number]] = {"reason": reason, "events": events}
        return found

    def is_judged(self, judgement: Judgement, question: str) -> bool:
        """Return True if somebody judged a question."""
        number = self.number.get(question)
        return number is not None and bool(judgement.is_judged[number])

    def version(self, verdicts: Mapping[str, float], answers: Mapping[str, float]) -> str:
        """Return a hash of what the student knows: the reference, and the labels of its questions."""
        known = {name: value for name, value in {**verdicts, **answers}.items() if self._question_of.get(name, name) in self.number}
        content = [self.scorer.channels.reference.version, sorted(known.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _mask(self, questions: Collection[str] | None) -> np.ndarray:
        if questions is None:
            return np.ones(len(self.questions), dtype=bool)
        wanted = set(questions)
        return np.array([name in wanted for name in self.questions], dtype=bool)


def judgement_in_words(probability: float, n_judged: int, nearest: str | None, likeness: float, reasons: Sequence[str]) -> str:
    """Return the reason of a judgement of the student.

    Args: nearest, the reason of the most similar judged pattern, beginning with its label; reasons, those of the history.

    >>> judgement_in_words(0.834, 42, "anomalous: lost", 0.912, ["has `crash`"])
    'like 42 judged patterns, an anomaly with probability 0.83; most similar (0.91) is one judged anomalous: lost; history: has `crash`'
    """
    parts = [f"like {n_judged:,} judged patterns, an anomaly with probability {probability:.2f}"]
    parts += [f"most similar ({likeness:.2f}) is one judged {nearest}"] if nearest is not None else []
    parts += [f"history: {'; '.join(reasons)}"] if reasons else []
    return "; ".join(parts)
