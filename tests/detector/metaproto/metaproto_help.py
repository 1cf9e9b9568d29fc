"""Small systems with a plain rule: an anomalous session has a template that hardly any other has, and lacks the closing one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nightlog.detector.metaproto.detector import MetaProto, adapted, learn
from nightlog.detector.metaproto.learning import Config
from nightlog.detector.patterns import Patterns, Source

DIMENSIONS = 12
QUICK = Config(episodes=150)


def fit(sources: Sequence[Source], adaptation: Patterns, seed: int) -> MetaProto:
    return adapted(learn(sources, seed, QUICK), adaptation)


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
