"""What is usual in a system: the statistics that a pattern's features are relative to. They come from unlabelled patterns alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nightlog.detector.patterns import Patterns

HEAD = 512
TAIL = 1e-4


@dataclass(frozen=True)
class Flat:
    """All events of n patterns in one row: event j belongs to pattern `pattern[j]`, is template `template[j]`, and is `level[j]` strong.

    `level` is 1 + log2 of the count, or 1 where counts tell nothing; `starts[i]` is where pattern i begins. A pattern without
    events is given template -1 at level 0, so that every pattern has a place.
    """

    pattern: np.ndarray
    template: np.ndarray
    level: np.ndarray
    starts: np.ndarray
    n: int

    @staticmethod
    def of(patterns: Patterns) -> Flat:
        """Flatten; templates in order of their rows, so that the order of a pattern's events changes nothing."""
        merged = [_levels(events, patterns.counted) or {-1: 0} for events in patterns.events]
        lengths = np.array([len(levels) for levels in merged], dtype=np.int64)
        pairs = np.array([pair for levels in merged for pair in sorted(levels.items())], dtype=np.int64).reshape(-1, 2)
        starts = np.cumsum(lengths) - lengths
        return Flat(np.repeat(np.arange(len(merged)), lengths), pairs[:, 0], pairs[:, 1], starts, len(merged))

    def least(self, values: np.ndarray) -> np.ndarray:
        """The smallest of each pattern's values (n,)."""
        return np.asarray(np.minimum.reduceat(values, self.starts), dtype=float) if self.n else np.zeros(0)

    def most(self, values: np.ndarray) -> np.ndarray:
        """The largest of each pattern's values (n,)."""
        return np.asarray(np.maximum.reduceat(values, self.starts), dtype=float) if self.n else np.zeros(0)

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of each pattern's values (n,)."""
        return np.asarray(np.add.reduceat(values.astype(float), self.starts), dtype=float) if self.n else np.zeros(0)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean of each pattern's values (n,)."""
        return np.asarray(self.total(values) / np.maximum(1.0, self.total(np.ones(len(values)))))

    def keys(self, *, with_levels: bool) -> list[bytes]:
        """One key a pattern: equal for patterns of the same templates, and of the same levels if asked for."""
        both = np.stack([self.template, self.level if with_levels else np.zeros_like(self.level)], axis=1)
        ends = np.append(self.starts, len(both))[1:]
        return [both[start:end].tobytes() for start, end in zip(self.starts, ends, strict=True)]


@dataclass(frozen=True)
class Reference:
    """The usual in a system of T templates, weighted by sessions.

    `share` (T,) is the share of sessions with the template, `joint` (T, T) with both; `level_mean` (T,) the usual level of the template
    where it occurs, `level_share` (T, levels) how often it has which. `head` are the patterns that most sessions have, as a 0/1 matrix of
    (template, level) steps, with their sessions in `head_sessions`. `total` counts the sessions.
    """

    patterns: Patterns
    flat: Flat
    weight: np.ndarray
    total: float
    share: np.ndarray
    joint: np.ndarray
    level_mean: np.ndarray
    level_share: np.ndarray
    pattern_sessions: dict[bytes, float]
    set_sessions: dict[bytes, float]
    head: np.ndarray
    head_sessions: np.ndarray

    @staticmethod
    def of(patterns: Patterns) -> Reference:
        """Count what is usual in these patterns."""
        flat = Flat.of(patterns)
        weight = patterns.sessions.astype(float)
        total = max(1.0, float(weight.sum()))
        n_templates, n_levels = len(patterns.texts), int(max([1, *flat.level.tolist()]))
        real = flat.template >= 0
        owner, template, level = flat.pattern[real], flat.template[real], flat.level[real]
        present = np.zeros((flat.n, n_templates), dtype=np.float32)
        present[owner, template] = 1.0
        joint = (present.T @ (present * weight[:, None].astype(np.float32))).astype(float)
        sessions = np.maximum(1e-9, np.diag(joint).copy())
        levels = np.zeros((n_templates, n_levels + 1))
        np.add.at(levels, (template, level), weight[owner])
        pattern_sessions = _sums(flat.keys(with_levels=True), weight)
        keys = list(dict.fromkeys(flat.keys(with_levels=True)))
        order = sorted(range(len(keys)), key=lambda i: (-pattern_sessions[keys[i]], keys[i]))[:HEAD]
        first = {key: i for i, key in reversed(list(enumerate(flat.keys(with_levels=True))))}
        chosen = [first[keys[i]] for i in order]
        return Reference(
            patterns=patterns,
            flat=flat,
            weight=weight,
            total=total,
            share=np.diag(joint) / total,
            joint=joint / total,
            level_mean=(levels * np.arange(n_levels + 1)).sum(axis=1) / sessions,
            level_share=levels / sessions[:, None],
            pattern_sessions=pattern_sessions,
            set_sessions=_sums(flat.keys(with_levels=False), weight),
            head=steps(flat, n_templates, n_levels)[np.array(chosen, dtype=np.int64)],
            head_sessions=np.array([pattern_sessions[keys[i]] for i in order]),
        )


def steps(flat: Flat, n_templates: int, n_levels: int) -> np.ndarray:
    """Patterns as 0/1 rows, one column a (level, template): level 3 has three ones, so that distances count levels apart.

    The columns of level 1 come first. What is above `n_levels` is cut off.
    """
    rows = np.zeros((flat.n, n_levels, n_templates), dtype=np.float32)
    real = flat.template >= 0
    for step in range(n_levels):
        reached = real & (flat.level > step)
        rows[flat.pattern[reached], step, flat.template[reached]] = 1.0
    return rows.reshape(flat.n, n_levels * n_templates)


def relative(values: np.ndarray, usual: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return where each value stands among the system's sessions: log odds (base 10) of its mid-quantile, within ±4.

    0 is the median; +2 means that one session in a hundred has more. So a feature means the same in every system.

    >>> relative(np.array([5.0, 9.0]), np.array([5.0, 9.0]), np.array([99.0, 1.0])).round(1).tolist()
    [-0.0, 2.3]
    """
    if not len(usual) or weight.sum() <= 0:
        return np.zeros(len(values))
    order = np.argsort(usual, kind="stable")
    known = usual[order]
    sums = np.concatenate([[0.0], np.cumsum(weight[order])])
    below, upto = sums[np.searchsorted(known, values, "left")], sums[np.searchsorted(known, values, "right")]
    quantile = (below + upto) / 2 / sums[-1]
    return np.asarray(np.log10((quantile + TAIL) / (1 - quantile + TAIL)))


def _levels(events: tuple[tuple[int, int], ...], counted: bool) -> dict[int, int]:
    counts: dict[int, int] = {}
    for template, count in events:
        counts[template] = counts.get(template, 0) + int(count)
    return {template: count.bit_length() if counted else 1 for template, count in counts.items() if count > 0}


def _sums(keys: list[bytes], weight: np.ndarray) -> dict[bytes, float]:
    sums: dict[bytes, float] = {}
    for key, sessions in zip(keys, weight.tolist(), strict=True):
        sums[key] = sums.get(key, 0.0) + sessions
    return sums
