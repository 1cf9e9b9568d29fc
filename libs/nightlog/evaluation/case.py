"""One case of the benchmark: what a mode is given, and what it has to say. No label of the target is in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nightlog.detector.patterns import Patterns, Source
from nightlog.llm.items import Judge
from nightlog.systems.spec import System

Oracle = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Case:
    """A target to be judged by what its sources teach.

    `adaptation` and `test` are the target's patterns of the two parts, over the same templates (same `texts`, same rows);
    `system` is what the judge has to know of it. `judge` is None where no LLM may be asked.

    `answers` questions may be put to an analyst: `oracle(question ids)` says whether most sessions behind this group of questions are
    anomalous, and refuses more calls. Without answers there is no oracle.
    """

    target: str
    seed: int
    system: System
    sources: tuple[Source, ...]
    adaptation: Patterns
    test: Patterns
    judge: Judge | None
    device: str = "cpu"
    answers: int = 0
    oracle: Oracle | None = None


@dataclass(frozen=True)
class Judgement:
    """What a mode says of the test part's patterns: `probability` (n,) float, and `flagged` (n,) bool by a threshold frozen before.

    `asked` are the questions that went to the LLM, over adaptation and test; `detail` is what the mode wants to have recorded.
    """

    probability: np.ndarray
    flagged: np.ndarray
    asked: int = 0
    detail: dict[str, float] = field(default_factory=dict)


Mode = Callable[[Case], Judgement]
