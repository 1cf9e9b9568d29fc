"""Small systems with a plain rule: an anomalous session has a template that hardly any other has, and lacks the closing one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nightlog.detector.metaproto.detector import Learnt, MetaProto, Options, adapted, by_class, learn
from nightlog.detector.metaproto.few_shot import Config, Task, meta_train
from nightlog.detector.metaproto.selection import Selector
from nightlog.detector.metaproto.table import NAMES
from nightlog.detector.metaproto.threshold import Rule
from nightlog.detector.metaproto.view import View, scaled
from nightlog.detector.patterns import Patterns, Source

DIMENSIONS = 12
QUICK = Options(few_shot=Config(hidden=16, embedding=16, episodes=20), selector=Selector(keep=30, trees=5, depth=3))


def fit(sources: Sequence[Source], adaptation: Patterns, seed: int, options: Options | None = None) -> MetaProto:
    return adapted(learn(sources, seed, options), adaptation)


def system(name: str, n: int = 60, seed: int = 0, templates: int = 9) -> Source:
    """Frequent patterns of everyday templates; every fifth pattern is rare, with one of the last two templates and without the first."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((templates, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    events, anomalous = [], []
    for i in range(n):
        rows = random.choice(np.arange(1, templates - 2), size=random.integers(2, 5), replace=False).tolist()
        rows.append(int(random.integers(templates - 2, templates)) if i % 5 == 0 else 0)
        events.append(tuple((int(row), 1 << int(random.integers(0, 3))) for row in sorted(rows)))
        anomalous.append(float(i % 5 == 0))
    return Source(
        name=name,
        vectors=vectors,
        texts=tuple(f"{name} failed to write <*>, {row}" if row >= templates - 2 else f"{name} stage {row}" for row in range(templates)),
        ids=tuple(f"{name}-{i:03}" for i in range(n)),
        events=tuple(events),
        sessions=np.where(np.array(anomalous) > 0, random.integers(1, 4, size=n), random.integers(20, 200, size=n)).astype(np.int64),
        anomalous=np.array(anomalous),
    )


def unlabelled(source: Source) -> Patterns:
    return Patterns(**{name: value for name, value in vars(source).items() if name != "anomalous"})


def made_detector(target: Patterns) -> MetaProto:
    """A MetaProto for the target as two sources teach it, columns chosen without Spark: all of them."""
    sources = (system("a", seed=1), system("b", seed=2))
    chosen = np.arange(len(NAMES) + DIMENSIONS)
    tasks = [Task(name, scaled(x, chosen), bad, sessions) for name, x, bad, sessions in (by_class(s, View.of(s).see(s)) for s in sources)]
    networks = tuple(meta_train(tasks, QUICK.few_shot, 0))
    return adapted(Learnt(sources, networks, chosen, Rule("split", 0.0, 0.9), QUICK.drifts[0], 0.8, 0.2, QUICK), target)
