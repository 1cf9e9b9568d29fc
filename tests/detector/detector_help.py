"""Toy sources for the tests of the small model."""

from __future__ import annotations

import numpy as np
from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import Manifest, Shape
from nightlog.detector.meta import Config
from nightlog.detector.patterns import Source

DIMENSIONS = 12
SHAPE = Shape(dimensions=DIMENSIONS, reduced=8, hidden=8)
QUICK = Config(shape=SHAPE, steps=60, batch=32, learning_rate=1e-2, device="cpu")


def toy_source(name: str, n: int = 120, seed: int = 0, bad: tuple[int, ...] = (8, 9), shuffled: bool = False) -> Source:
    """Patterns of everyday templates 0 to 7; an anomalous one has a template of `bad` besides. Vectors are the unit vectors."""
    random = np.random.default_rng(seed)
    events, anomalous = [], []
    for i in range(n):
        templates = random.choice(8, size=random.integers(2, 6), replace=False).tolist()
        if i % 4 == 0:
            templates.append(int(random.choice(bad)))
        events.append(tuple((int(t), 1 << int(random.integers(0, 3))) for t in sorted(templates)))
        anomalous.append(float(i % 4 == 0))
    labels = np.array(anomalous)
    return Source(
        name=name,
        vectors=np.eye(DIMENSIONS, dtype=np.float32),
        texts=tuple(f"text {t}" for t in range(DIMENSIONS)),
        ids=tuple(f"{name}-{i}" for i in range(n)),
        events=tuple(events),
        sessions=random.integers(1, 50, size=n).astype(np.int64),
        anomalous=random.permutation(labels) if shuffled else labels,
    )


def manifest(**changed: object) -> Manifest:
    given = {
        "encoder": "e",
        "tau": 0.8,
        "threshold": 0.6,
        "foreign_threshold": 0.9,
        "foreign": Calibration(0.5, -0.25),
        "calibration": Calibration(0.75, 0.5),
        "shape": SHAPE,
        "source_texts": ("one", "two ü"),
        "source_systems": ("a", "b"),
        "sources": ("a", "b"),
        "data": {"a": {"patterns": 3}},
    }
    return Manifest(**given | changed)
