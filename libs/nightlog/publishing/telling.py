"""Telling templates: the difference of an anomalous pattern to the nearest normal pattern of the night, most telling first. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from nightlog.history.reference import EVENTS, Multisets

MOST_LEVELS = 16  # a template 32,768 times is as often as we tell apart
NORMAL_PATTERNS = 1000  # the night's commonest, for the comparison
ROWS = 500  # anomalous patterns at a time
SHOWN = 12  # telling templates of a pattern


@dataclass(frozen=True)
class Telling:
    """One template in which a pattern differs from the nearest normal one.

    `change`: more | less. `count` in the pattern and `usual` in the nearest normal one, both rounded down to a power of two, 1 if counts
    are not used. `n_normal`: sessions of the night's normal patterns that have the template (as often, if `usual` is not 0). `value`: its
    surprise, -ln of the share of normal sessions that are like this, times 1 + severity.
    """

    template_id: str
    change: Literal["more", "less"]
    count: int
    usual: int
    n_normal: int
    severity: float
    value: float


class NormalSessions:
    """The night's normal patterns as sets of pairs (template, level): a template that occurs 4 times has the levels 1, 2 and 3.

    Args: patterns: rows of silver.patterns (pattern_id, events, n_sessions) that were judged normal; counted: counts mean something.
    """

    def __init__(self, patterns: Sequence[Mapping[str, Any]], counted: bool):
        self.counted = counted
        ordered = sorted(patterns, key=lambda row: (-(row["n_sessions"] or 0), row["pattern_id"]))
        self.rows = multisets(ordered, counted)
        sessions = np.array([row["n_sessions"] or 0 for row in ordered], dtype=np.float64)
        row, code = pairs(self.rows)
        self.n = float(sessions.sum())
        self.n_with = np.bincount(code, weights=sessions[row], minlength=len(self.rows.template_ids) * MOST_LEVELS)
        self.n_near = min(len(ordered), NORMAL_PATTERNS)
        near = row < self.n_near
        self.columns = np.unique(code[near])
        self.weight = self.distance_weight(self.columns)
        self.near = np.zeros((self.n_near, len(self.columns)), dtype=np.float32)
        self.near[row[near], np.searchsorted(self.columns, code[near])] = 1
        self.near_sum = self.near @ self.weight

    def sessions_with(self, code: np.ndarray) -> np.ndarray:
        """Return how many normal sessions have each pair; 0 for pairs that no normal session has."""
        known = code < len(self.n_with)
        return np.asarray(np.where(known, self.n_with[np.where(known, code, 0)] if len(self.n_with) else 0.0, 0.0))

    def distance_weight(self, code: np.ndarray) -> np.ndarray:
        """Return the weight of each pair in a distance: the rarer its presence or its absence, the more it weighs."""
        share = (self.sessions_with(code) + 0.5) / (self.n + 1)
        return np.asarray(-np.log(np.minimum(share, 1 - share)), dtype=np.float32)

    def nearest(self, patterns: Multisets) -> np.ndarray:
        """Return for each pattern the number of the nearest normal pattern; of several as near the commonest; -1 without any."""
        if not self.n_near or not len(patterns):
            return np.full(len(patterns), -1)
        row, code = pairs(patterns)
        place = np.searchsorted(self.columns, code)
        there = place < len(self.columns)
        there[there] = self.columns[place[there]] == code[there]
        found = []
        for start in range(0, len(patterns), ROWS):
            own = there & (row >= start) & (row < start + ROWS)
            dense = np.zeros((min(ROWS, len(patterns) - start), len(self.columns)), dtype=np.float32)
            dense[row[own] - start, place[own]] = 1
            distance = self.near_sum[None, :] - 2 * ((dense * self.weight) @ self.near.T)
            found.append(np.argmin(np.round(distance, 3), axis=1))
        return np.concatenate(found)

    def telling(self, patterns: Sequence[Mapping[str, Any]], severity: Mapping[str, float]) -> dict[str, list[Telling]]:
        """Return pattern id → its telling templates, most telling first.

        Args: patterns: rows of silver.patterns (pattern_id, events); severity: see `severities`.
        """
        rows = multisets(patterns, self.counted, self.rows.template_ids)
        nearest = self.nearest(rows)
        found: dict[str, list[Telling]] = {}
        for number, pattern in enumerate(patterns):
            own = levels_of(rows, number)
            other = levels_of(self.rows, int(nearest[number])) if nearest[number] >= 0 else {}
            changes = [self.change(rows.template_ids[t], t, own.get(t, 0), other.get(t, 0), severity) for t in own.keys() | other.keys()]
            ordered = sorted((each for each in changes if each is not None), key=lambda each: (-each.value, each.template_id))
            found[pattern["pattern_id"]] = ordered[:SHOWN]
        return found

    def change(self, name: str, template: int, own: int, other: int, severity: Mapping[str, float]) -> Telling | None:
        """Return the difference in one template, by its level here and in the nearest normal pattern; None if there is none."""
        if own == other:
            return None
        code = np.array([template * MOST_LEVELS + max(own, other) - 1])
        n_with = float(self.sessions_with(code)[0])
        grade = severity.get(name, 0.0) if own > other else 0.0
        share = ((n_with if own > other else self.n - n_with) + 0.5) / (self.n + 1)
        value = round(float(-np.log(share)) * (1 + grade), 6)
        return Telling(name, "more" if own > other else "less", times(own), times(other), round(n_with), grade, value)


def times(level: int) -> int:
    """Return the count that a level stands for.

    >>> times(0), times(1), times(3)
    (0, 1, 4)
    """
    return 1 << (level - 1) if level else 0


def multisets(patterns: Sequence[Mapping[str, Any]], counted: bool, template_ids: Sequence[str] = ()) -> Multisets:
    """Return rows of silver.patterns as multisets, their levels bounded."""
    found = Multisets.of(pa.array([row["events"] for row in patterns], EVENTS), counted, template_ids)
    return Multisets(found.template_ids, found.starts, found.template, np.minimum(found.level, MOST_LEVELS))


def pairs(patterns: Multisets) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the code of each pair (template, level) of the patterns, all levels up to their own."""
    entry = np.repeat(np.arange(len(patterns.template)), patterns.level)
    first = np.cumsum(patterns.level) - patterns.level
    level = np.arange(len(entry)) - first[entry]
    return patterns.row[entry], patterns.template[entry] * MOST_LEVELS + level


def levels_of(patterns: Multisets, row: int) -> dict[int, int]:
    """Return template number → level of one pattern."""
    entries = slice(int(patterns.starts[row]), int(patterns.starts[row + 1]))
    return dict(zip(patterns.template[entries].tolist(), patterns.level[entries].tolist(), strict=True))


def telling_templates(
    patterns: Sequence[Mapping[str, Any]], anomalous: Collection[str], severity: Mapping[str, float], counted: bool
) -> dict[str, list[Telling]]:
    """Return the telling templates of the anomalous patterns of a night, most telling first.

    A template tells the more, the fewer of the night's normal sessions have it, and the more severe its wording or level is. If no pattern
    is normal, all templates of a pattern are telling, by severity.

    Args: patterns: the rows of silver.patterns of the night, in any order; anomalous: ids of the patterns judged anomalous.
    """
    normal = NormalSessions([row for row in patterns if row["pattern_id"] not in anomalous], counted)
    return normal.telling([row for row in patterns if row["pattern_id"] in anomalous], severity)
