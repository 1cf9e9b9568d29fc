"""Meta-learning over labelled systems: features are chosen, rare classes filled up, and a head is trained that adapts in a few steps.

Source: MetaProto, arXiv 2601.14336: mutual information and random forest, SMOTE, MAML, leave one source out. Finn et al. 2017, first-order
MAML. SMOTE: Chawla et al., JAIR 2002, by imbalanced-learn. All of it is done within the training fold, SMOTE within each system.

The head is linear: its weights are the difference of both classes' prototypes. Few systems teach it, and a deeper embedding (64 hidden
units) was worse on the families left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from imblearn.over_sampling import SMOTE  # type: ignore[import-untyped]

from nightlog.detector.calibration import f1_at
from nightlog.detector.metaproto.features import View
from nightlog.detector.patterns import Source
from nightlog.errors import ConfigError
from nightlog.history.answers import sigmoid

Examples = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Config:
    """`keep` features stay. `shots`: sizes of the support that episodes adapt to; 0 leaves the head as it is. Rates are per step."""

    keep: int = 14
    episodes: int = 600
    systems: int = 4
    queries: int = 64
    shots: tuple[int, ...] = (0, 0, 10, 20)
    inner_steps: int = 5
    inner_rate: float = 0.3
    learning_rate: float = 0.02
    weight_decay: float = 0.1


@dataclass(frozen=True)
class Task:
    """A labelled system: features `x` (n, k), `bad` (n,) bool and `sessions` (n,), a pattern's anomalous and normal sessions apart.

    Rounding a share to a label instead would make rare patterns of what is dealt out at random, and so teach that rare is anomalous.
    """

    name: str
    x: np.ndarray
    bad: np.ndarray
    sessions: np.ndarray

    @staticmethod
    def of(source: Source) -> Task:
        """See a source on its own scale."""
        x, anomalous = View(source).see(source), source.sessions * source.anomalous
        sessions = np.concatenate([source.sessions - anomalous, anomalous])
        there = sessions > 0
        return Task(source.name, np.concatenate([x, x])[there], np.repeat([False, True], len(x))[there], sessions[there])

    @property
    def has_both(self) -> bool:
        """The system has normal and anomalous sessions."""
        return bool(self.bad.any() and not self.bad.all())


@dataclass(frozen=True)
class Head:
    """A linear model: standardised columns `chosen` times `weights` (k,) plus `bias` is the log-odds of an anomaly, zero-label.

    At a logit of 0 a pattern is as near to the prototype of one class as to that of the other.
    """

    chosen: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    weights: np.ndarray
    bias: float

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return the log-odds (n,) of features (n, 16)."""
        return np.asarray((x[:, self.chosen] - self.mean) / self.spread @ self.weights + self.bias)


def oversample(task: Task, seed: int) -> Task:
    """Fill up the rarer class with points between neighbours of that class; they weigh as its median. No change with under two of them."""
    rare = int(min(task.bad.sum(), (~task.bad).sum()))
    if rare < 2:
        return task
    x, bad = SMOTE(k_neighbors=min(5, rare - 1), random_state=seed).fit_resample(task.x, task.bad)
    minority = task.bad if task.bad.sum() == rare else ~task.bad
    made = np.full(len(x) - len(task.x), float(np.median(task.sessions[minority])))
    return Task(task.name, np.asarray(x), np.asarray(bad, dtype=bool), np.concatenate([task.sessions.astype(float), made]))


def class_weights(bad: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Return weights by sessions on a root scale, half of the whole for each class; they sum to 1."""
    weight = np.sqrt(sessions.astype(float))
    for members in (bad, ~bad):
        if members.any():
            weight[members] /= weight[members].sum()
    return np.asarray(weight / max(1e-9, float(weight.sum())))


def stacked(tasks: Sequence[Task]) -> Examples:
    """Return x, bad and weights of several systems; each system weighs the same."""
    weight = np.concatenate([class_weights(task.bad, task.sessions) for task in tasks])
    return np.concatenate([task.x for task in tasks]), np.concatenate([task.bad for task in tasks]), weight


def choose_columns(tasks: Sequence[Task], keep: int, seed: int) -> np.ndarray:
    """Return the numbers of the columns with the most mutual information with the label and importance to a random forest."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.feature_selection import mutual_info_classif

    x, bad, weight = stacked(tasks)
    drawn = np.random.default_rng(seed).choice(len(x), size=2000, p=weight / weight.sum())
    information = mutual_info_classif(x[drawn], bad[drawn], random_state=seed)
    forest = RandomForestClassifier(n_estimators=40, max_depth=6, random_state=seed, n_jobs=1).fit(x[drawn], bad[drawn])
    score = information / max(1e-12, information.max()) + forest.feature_importances_ / max(1e-12, forest.feature_importances_.max())
    return np.sort(np.lexsort((np.arange(x.shape[1]), -np.round(score, 9)))[:keep])


def train_head(tasks: Sequence[Task], config: Config, seed: int) -> Head:
    """Train a head by first-order MAML. Deterministic for given tasks and seed. Raises ConfigError if no task has both classes."""
    usable = [task for task in tasks if task.has_both]
    if not usable:
        raise ConfigError("no labelled system has both normal and anomalous sessions: there is nothing to learn from")
    chosen = choose_columns(usable, config.keep, seed)
    everything = np.concatenate([task.x[:, chosen] for task in usable])
    mean, spread = everything.mean(axis=0), everything.std(axis=0) + 1e-6
    full = [oversample(Task(each.name, (each.x[:, chosen] - mean) / spread, each.bad, each.sessions), seed) for each in usable]
    rows = [np.column_stack([task.x, np.ones(len(task.x))]) for task in full]
    random, head = np.random.default_rng(seed), np.zeros(len(chosen) + 1)
    moment, square = np.zeros(len(head)), np.zeros(len(head))

    def gradient(weights: np.ndarray, number: int, size: int) -> np.ndarray:
        drawn = balanced_draw(full[number], size, random)
        return np.asarray(rows[number][drawn].T @ (sigmoid(rows[number][drawn] @ weights) - full[number].bad[drawn]) / len(drawn))

    for step in range(1, config.episodes + 1):
        outer = np.zeros(len(head))
        for number in random.integers(len(full), size=config.systems):
            fast, shots = head, int(random.choice(config.shots))
            for _ in range(config.inner_steps if shots else 0):
                fast = fast - config.inner_rate * gradient(fast, int(number), shots)
            outer += gradient(fast, int(number), config.queries) / config.systems
        outer[:-1] += config.weight_decay * head[:-1]
        moment, square = 0.9 * moment + 0.1 * outer, 0.999 * square + 0.001 * outer**2  # Adam
        head = head - config.learning_rate * (moment / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return Head(chosen, mean, spread, head[:-1], float(head[-1]))


def balanced_draw(task: Task, size: int, random: np.random.Generator) -> np.ndarray:
    """Return the numbers of examples, half of each class, within a class by sessions on a root scale."""
    drawn = []
    for wanted in (False, True):
        members = np.flatnonzero(task.bad == wanted)
        chance = np.sqrt(task.sessions[members].astype(float))
        drawn.append(random.choice(members, max(1, size // 2), p=chance / chance.sum()))
    return np.concatenate(drawn)


def left_out_f1(tasks: Sequence[Task], config: Config, seed: int) -> list[tuple[float, float]]:
    """Return for each source, left out in turn, F1 at a logit of 0 by what the others teach, and that of "always anomalous"."""
    reached = []
    for number, held in enumerate(tasks):
        others = [task for i, task in enumerate(tasks) if i != number]
        if held.has_both and any(task.has_both for task in others):
            logit = train_head(others, config, seed).logits(held.x)
            scored = (held.bad.astype(float), held.sessions)
            reached.append((f1_at(logit, *scored, 0.0), f1_at(logit, *scored, -np.inf)))
    return reached
