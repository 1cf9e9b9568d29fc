"""Patterns of several systems as the small model's training examples, over one table of template vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightlog.detector.network import sequence
from nightlog.detector.patterns import Patterns, Source

UNLABELLED = np.nan


@dataclass(frozen=True)
class Examples:
    """n patterns of several systems: `rows[i]` is a sequence of rows of `table` (templates of all systems, d), `targets[i]` the share of
    anomalous sessions (nan where nobody knows), `sessions[i]` their number, `system[i]` the system's place in the list."""

    table: np.ndarray
    rows: list[list[int]]
    targets: np.ndarray
    sessions: np.ndarray
    system: np.ndarray

    @staticmethod
    def of(systems: Sequence[Patterns]) -> Examples:
        """Stack systems; each one's rows are moved behind those of the systems before it."""
        starts = np.cumsum([0, *(len(system.vectors) for system in systems)])
        return Examples(
            table=np.concatenate([system.vectors for system in systems]),
            rows=[row for system, start in zip(systems, starts, strict=False) for row in sequences(system, int(start))],
            targets=np.concatenate(
                [each.anomalous if isinstance(each, Source) else np.full(len(each.ids), UNLABELLED) for each in systems]
            ).astype(np.float32),
            sessions=np.concatenate([system.sessions for system in systems]).astype(float),
            system=np.concatenate([np.full(len(system.ids), i) for i, system in enumerate(systems)]),
        )

    def draw(self, members: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
        """`size` examples out of `members`, with repetition, both classes alike often, within a class by the logarithm of sessions."""
        bad = self.targets[members] >= 0.5
        kinds = [kind for kind in (members[bad], members[~bad]) if len(kind)]
        return np.concatenate([random.choice(kind, size=size // len(kinds), p=share(np.log1p(self.sessions[kind]))) for kind in kinds])


def share(weights: np.ndarray) -> np.ndarray:
    """Weights as shares of their sum."""
    return np.asarray(weights / weights.sum())


def sequences(patterns: Patterns, start: int = 0) -> list[list[int]]:
    """Each pattern as the small model reads it, its template rows moved by `start`; without counts where these tell nothing."""
    return [sequence([(start + row, count if patterns.counted else 1) for row, count in events]) for events in patterns.events]


def held_out(system: Patterns, part: float) -> NDArray[np.bool_]:
    """Return which patterns are kept from training: by hash of their ids, so that the choice is stable when patterns are added."""
    marks = [int(hashlib.sha256(f"{system.name}\0{name}".encode()).hexdigest()[:8], 16) / 2**32 for name in system.ids]
    return np.array(marks) < part
