"""A case for models that learn from labelled sources: everything that such a mode may know, and what it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nightlog.detector.patterns import Patterns, Source
from nightlog.errors import GateFailed
from nightlog.evaluation.labelled import ADAPTATION, TEST, Encode, Labelled
from nightlog.evaluation.simulate import Outcome
from nightlog.llm.items import Judge
from nightlog.systems.spec import System

Oracle = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Case:
    """A target to be judged by what its sources teach. It holds no label of the target.

    `adaptation` and `test` are the target's patterns of the two parts, over the same templates (same `texts`, same rows). `answers`
    questions may be put to an analyst: `oracle(question ids)` returns True if most sessions of these questions are anomalous, and refuses
    more calls. Without answers there is no oracle. `judge` is None: no such mode asks an LLM.
    """

    target: str
    seed: int
    system: System
    sources: tuple[Source, ...]
    adaptation: Patterns
    test: Patterns
    judge: Judge | None = None
    device: str = "cpu"
    answers: int = 0
    oracle: Oracle | None = None


@dataclass(frozen=True)
class Judgement:
    """A mode's result on the test part's patterns: `probability` (n,) float in [0, 1], and `flagged` (n,) bool by a frozen threshold.

    `asked` are the questions that went to the LLM; `detail` is what the mode wants to have recorded.
    """

    probability: np.ndarray
    flagged: np.ndarray
    asked: int = 0
    detail: dict[str, float] = field(default_factory=dict)


Mode = Callable[[Case], Judgement]


class Analyst:
    """Answers about questions by the majority of their sessions' labels, at most `answers` times."""

    def __init__(self, system: Labelled, answers: int):
        self.left = answers
        counts = system.counts.sum(axis=1)
        self._known: dict[str, np.ndarray] = {}
        for question, cell in zip(system.patterns.column("question_id").to_pylist(), counts, strict=True):
            self._known[question] = self._known.get(question, np.zeros(2, dtype=np.int64)) + cell

    def __call__(self, questions: Sequence[str]) -> bool:
        """Return True if more than half of the sessions of these questions are anomalous. Raises GateFailed beyond the last answer."""
        if self.left <= 0:
            raise GateFailed("the mode asks the analyst for more answers than it was given")
        self.left -= 1
        unknown = [question for question in questions if question not in self._known]
        if unknown or not questions:
            raise GateFailed(f"the analyst is asked about questions that the target does not have: {unknown[:3]}")
        normal, anomalous = sum((self._known[question] for question in dict.fromkeys(questions)), np.zeros(2, dtype=np.int64))
        return bool(anomalous > normal)


def case_of(system: Labelled, sources: Sequence[Source], encode: Encode, seed: int, answers: int = 0, device: str = "cpu") -> Case:
    """Make the case of a target."""
    assert system.spec is not None
    adaptation, test = (system.part(part, encode)[0] for part in (ADAPTATION, TEST))
    oracle = Analyst(system, answers) if answers else None
    return Case(system.name, seed, system.spec, tuple(sources), adaptation, test, device=device, answers=answers, oracle=oracle)


def outcome_of(mode: Mode, case: Case, system: Labelled, note: str) -> Outcome:
    """Run a mode; patterns without a session in the test part get no flag.

    Raises: GateFailed if it does not return one probability and one flag for each test pattern.
    """
    judged, n = mode(case), len(case.test.ids)
    probability, flagged = np.asarray(judged.probability, dtype=float), np.asarray(judged.flagged)
    in_range = probability.shape == (n,) and bool(((probability >= 0) & (probability <= 1)).all())
    if not in_range or flagged.shape != (n,) or flagged.dtype != bool:
        raise GateFailed(
            f"{case.target}: expected {n} probabilities in [0, 1] and {n} flags, got probabilities {probability.shape} "
            f"and flags {flagged.shape} {flagged.dtype}"
        )
    numbers = np.flatnonzero(system.counts[:, TEST].sum(axis=1))
    score, flags = np.zeros(len(system.patterns)), np.zeros(len(system.patterns), dtype=bool)
    score[numbers], flags[numbers] = probability, flagged
    return Outcome(score, flags, judged.asked, case.answers, note, judged.detail.get("threshold"))


class KeptVectors:
    """Encodes texts; files in `folder` keep the vectors. The encoder is loaded when it is first needed."""

    def __init__(self, folder: Path, device: str = "cpu"):
        self._folder = folder
        self._device = device

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, 384) float32 of unit norm, row i that of text i."""
        from nightlog.encoding.encoder import DIMENSIONS, ENCODER, encoder_here, plain_text

        if not texts:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        content = "\0".join([ENCODER, *(plain_text(text) for text in texts)])
        path = self._folder / f"vectors-{hashlib.sha256(content.encode()).hexdigest()[:16]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
        vectors = encoder_here(self._device)(np.array(texts, dtype=object)).astype(np.float32)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, vectors)
        partial.replace(path)
        return vectors
