"""Channels: how unlike the reference a pattern is, each in one way. Fitted on a reference, applied to any patterns.

| channel | definition |
|---|---|
| bern | sum over templates of -ln P(level), templates independent |
| rarest | largest -ln P(present) of its templates |
| tree | largest -ln P(present or absent, given the parent) in a Chow–Liu tree |
| near | weighted Hamming radius that holds 5 % of the reference's sessions |
| words, level | severity of a template's wording or log level, times (1 - P(present))^8 |

Chow, Liu: Approximating discrete probability distributions with dependence trees, 1968.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from nightlog.history.reference import Multisets, Reference, bounded
from nightlog.history.severity import level_severity, wording_severity

UNLIKENESS = ("bern", "rarest", "tree", "near")
SEVERITY = ("words", "level")
PAIRED_TEMPLATES = 1000  # the most variable ones have a place in the tree and in distances between patterns
ANCHORS = 1000  # patterns of the reference to which distances are measured
NEAR_SHARE = 0.05
RARITY_POWER = 8
ROWS = 2000  # patterns at a time


@dataclass(frozen=True)
class Templates:
    """Text and log level of templates, by id; a template that is missing has neither."""

    text: Mapping[str, str] = field(default_factory=dict)
    level: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(table: pa.Table) -> Templates:
        """Read columns template_id, text and, if there is one, level; nulls are left out."""
        ids = table.column("template_id").to_pylist()
        found = [table.column(name).to_pylist() if name in table.column_names else [None] * len(ids) for name in ("text", "level")]
        text, level = ({name: value for name, value in zip(ids, values, strict=True) if value is not None} for values in found)
        return Templates(text, level)


@dataclass(frozen=True)
class Tree:
    """A Chow–Liu tree: node i has the parent `parent[i]` (a node, -1 for the root) and `cost[b, a, i]` = -ln P(node is b | parent is a)."""

    parent: np.ndarray
    cost: np.ndarray

    @staticmethod
    def fit(presence: np.ndarray, sessions: np.ndarray) -> Tree:
        """Fit to (n, k) presence, weighted by sessions. Of equal choices the lowest number is taken."""
        n, size = float(sessions.sum()), presence.shape[1]
        joint = (presence * sessions[:, None]).T @ presence
        ones = sessions @ presence
        parent = maximum_spanning_tree(mutual_information(joint, ones, n))
        above = np.where(parent >= 0, joint[np.arange(size), parent], 0.0) if size else np.zeros(0)
        n_above = np.where(parent >= 0, ones[parent], 0.0) if size else np.zeros(0)
        given_one = (above + 0.5) / (n_above + 1)
        given_none = (ones - above + 0.5) / (n - n_above + 1)
        present = np.stack([given_none, given_one])
        return Tree(parent, -np.log(np.stack([1 - present, present])))

    def costs(self, presence: np.ndarray) -> np.ndarray:
        """Return (n, k) costs of each node in the state that it has."""
        if not len(self.parent):
            return np.zeros(presence.shape)
        own, parent = presence > 0, np.where(self.parent >= 0, presence[:, self.parent] > 0, False)
        low, high = np.where(parent, self.cost[0, 1], self.cost[0, 0]), np.where(parent, self.cost[1, 1], self.cost[1, 0])
        return np.asarray(np.where(own, high, low))


def mutual_information(joint: np.ndarray, ones: np.ndarray, n: float) -> np.ndarray:
    """Return (k, k) mutual information of binary variables, from their joint counts, smoothed by half a session per cell pair."""
    cells = np.stack([joint, ones[:, None] - joint, ones[None, :] - joint, n - ones[:, None] - ones[None, :] + joint])
    both, first, second, neither = (cells + 0.25) / (n + 1)
    one, other = both + first, both + second
    terms = ((both, one, other), (first, one, 1 - other), (second, 1 - one, other), (neither, 1 - one, 1 - other))
    total = np.zeros(joint.shape)
    for cell, row, column in terms:
        total += cell * np.log(cell / (row * column))
    return total


def maximum_spanning_tree(weight: np.ndarray) -> np.ndarray:
    """Return the parent of each node (-1 for the root) in a maximum spanning tree of a complete graph, by Prim's algorithm.

    The root is the node with the largest sum of weights.
    """
    size = len(weight)
    parent = np.full(size, -1)
    if size < 2:
        return parent
    root = int(np.argmax(weight.sum(axis=1) - np.diag(weight)))
    best, nearest, done = weight[root].copy(), np.full(size, root), np.zeros(size, dtype=bool)
    done[root] = True
    for _ in range(size - 1):
        node = int(np.argmax(np.where(done, -np.inf, best)))
        parent[node], done[node] = nearest[node], True
        nearer = weight[node] > best
        best, nearest = np.where(nearer, weight[node], best), np.where(nearer, node, nearest)
    return parent


@dataclass(frozen=True)
class Values:
    """Channel values of n patterns, each (n,); for the unlikeness channels before they are put on one scale.

    `bern_entry`, `rarest_entry`, `words_entry` and `level_entry` are the entries of the multisets that explain a value, -1 for none.
    """

    raw: dict[str, np.ndarray]
    entry: dict[str, np.ndarray]

    @staticmethod
    def concat(parts: list[Values], shift: list[int]) -> Values:
        """Values of parts of the patterns, one below the other; entries of part i move by `shift[i]`."""
        raw = {name: np.concatenate([part.raw[name] for part in parts]) for name in parts[0].raw}
        entry = {}
        for name in parts[0].entry:
            moved = [np.where(part.entry[name] >= 0, part.entry[name] + by, -1) for part, by in zip(parts, shift, strict=True)]
            entry[name] = np.concatenate(moved)
        return Values(raw, entry)


class Channels:
    """The channels' statistics of a reference.

    `presence[t]` is the smoothed share of sessions with template t (last: of a template never seen), `n_with[t]` their number.
    """

    def __init__(self, reference: Reference, templates: Templates):
        self.reference, self.templates = reference, templates
        self.known = Multisets.of(reference.rows.column("events"), reference.counted)
        self.sessions = reference.rows.column("n_sessions").to_numpy().astype(float)
        self.n = float(self.sessions.sum())
        size = len(self.known.template_ids)
        weights = self.sessions[self.known.row]
        self.n_with = np.append(np.bincount(self.known.template, weights=weights, minlength=size), 0.0)
        self.presence = (self.n_with + 0.5) / (self.n + 1)
        self.level_cost = level_costs(self.known, weights, self.n)
        variance = self.presence[:size] * (1 - self.presence[:size])
        self.paired = np.sort(np.argsort(-variance, kind="stable")[:PAIRED_TEMPLATES])
        self.known_presence = self.known.dense(self.paired) > 0  # (n, k), of the templates in the tree
        self.tree = Tree.fit(self.known_presence.astype(float), self.sessions)
        anchors = bounded(reference.rows, ANCHORS)
        self.anchors = Multisets.of(anchors.column("events"), reference.counted, self.known.template_ids)
        self.anchor_sessions = anchors.column("n_sessions").to_numpy().astype(float)
        self.distance_weight = -np.log(np.minimum(self.presence, 1 - self.presence))
        self._anchor_presence, self._anchor_sum = self.anchors.dense(self.paired), self._weight_sum(self.anchors)

    def place(self, patterns: Multisets) -> np.ndarray:
        """Return for each entry the number of its template here; the last number stands for a template never seen."""
        return np.asarray(np.minimum(patterns.template, len(self.known.template_ids)))

    def read(self, events: pa.Array | pa.ChunkedArray) -> Multisets:
        """Read events of patterns over the templates known here, and new ones behind them."""
        return Multisets.of(events, self.reference.counted, self.known.template_ids)

    def values(self, patterns: Multisets) -> Values:
        """Return all channels of patterns that `read` gave, some thousand patterns at a time."""
        parts, shift = [], []
        for start in range(0, max(1, len(patterns)), ROWS):
            part = rows_of(patterns, start, start + ROWS)
            parts.append(self._values(part))
            shift.append(int(patterns.starts[start]) if len(patterns) else 0)
        return Values.concat(parts, shift)

    def _values(self, patterns: Multisets) -> Values:
        place = self.place(patterns)
        rarity = -np.log(self.presence[place])
        cost = self.level_cost[place, np.minimum(patterns.level, self.level_cost.shape[1] - 1)]
        gain = cost - np.where(place < len(self.known.template_ids), self.level_cost[place, 0], 0.0)
        bern = self.level_cost[:-1, 0].sum() + np.bincount(patterns.row, weights=gain, minlength=len(patterns))
        rarest, rarest_entry = patterns.largest(rarity)
        dense = patterns.dense(self.paired)
        unpaired = np.ones(len(self.presence), dtype=bool)
        unpaired[self.paired] = False
        tree = np.maximum(self.tree.costs(dense).max(axis=1, initial=0.0), patterns.largest(np.where(unpaired[place], rarity, 0.0))[0])
        raw = {"bern": bern, "rarest": rarest, "tree": tree, "near": self.radius(patterns)[0]}
        entry = {"bern": patterns.largest(cost)[1], "rarest": rarest_entry}
        rare = (1 - self.presence[place]) ** RARITY_POWER
        for name, severity in (("words", self.wording(patterns)), ("level", self.log_level(patterns))):
            raw[name], entry[name] = patterns.largest(severity[patterns.template] * rare)
        return Values(raw, entry)

    def wording(self, patterns: Multisets) -> np.ndarray:
        """Return the severity of each template's wording."""
        return np.array([wording_severity(self.templates.text.get(name, "")) for name in patterns.template_ids])

    def log_level(self, patterns: Multisets) -> np.ndarray:
        """Return the severity of each template's log level."""
        return np.array([level_severity(self.templates.level.get(name)) for name in patterns.template_ids])

    def _weight_sum(self, patterns: Multisets) -> np.ndarray:
        weight = self.distance_weight[self.place(patterns)]
        return np.bincount(patterns.row, weights=weight, minlength=len(patterns)).astype(np.float32)

    def radius(self, patterns: Multisets) -> tuple[np.ndarray, np.ndarray]:
        """Return the radius around each pattern that holds 5 % of the reference's sessions, and the anchor at that radius (-1: none)."""
        if not len(self.anchors) or not len(patterns):
            return np.zeros(len(patterns)), np.full(len(patterns), -1)
        common = (patterns.dense(self.paired) * self.distance_weight[self.paired].astype(np.float32)) @ self._anchor_presence.T
        distance = np.maximum(self._weight_sum(patterns)[:, None] + self._anchor_sum[None, :] - 2 * common, 0)
        order = np.argsort(distance, axis=1)
        held = np.cumsum(self.anchor_sessions[order], axis=1)
        at = np.minimum((held < NEAR_SHARE * self.anchor_sessions.sum() - 1e-9).sum(axis=1), order.shape[1] - 1)
        radius = distance[np.arange(len(order)), order[np.arange(len(order)), at]]
        return np.round(radius.astype(float), 4), np.argmax(distance == radius[:, None], axis=1)


def level_costs(known: Multisets, weights: np.ndarray, n: float) -> np.ndarray:
    """Return (templates + 1, levels + 1) costs -ln P(level), smoothed; last row: a template never seen; last column: a level never seen."""
    size, levels = len(known.template_ids), int(known.level.max(initial=1)) + 2
    count = np.zeros((size + 1, levels))
    np.add.at(count, (known.template, known.level), weights)
    count[:, 0] = np.maximum(n - count.sum(axis=1), 0)
    distinct = (count > 0).sum(axis=1, keepdims=True) + 1
    return np.asarray(-np.log((count + 0.5) / (n + 0.5 * distinct)))


def rows_of(patterns: Multisets, start: int, end: int) -> Multisets:
    """Return the rows from `start` up to `end`."""
    starts = patterns.starts[start : end + 1]
    chosen = slice(int(starts[0]), int(starts[-1])) if len(starts) else slice(0, 0)
    shifted = starts - starts[0] if len(starts) else np.zeros(1, dtype=np.int64)
    return Multisets(patterns.template_ids, shifted, patterns.template[chosen], patterns.level[chosen])
