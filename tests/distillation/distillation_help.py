"""Toy systems for the tests of distillation: a source with labels, and a target whose templates nobody has seen."""

from __future__ import annotations

import numpy as np
from nightlog.detector.manifest import Shape
from nightlog.detector.meta import Config
from nightlog.detector.patterns import Patterns, Source
from nightlog.distillation.rounds import Fusion
from nightlog.llm.items import Verdict

DIMENSIONS = 16
QUICK = Config(shape=Shape(DIMENSIONS, reduced=8, hidden=8), steps=60, learning_rate=1e-2, device="cpu")
SHORT = Fusion(first_steps=60, steps=20, batch=32, learning_rate=1e-2)
EYE = np.eye(DIMENSIONS, dtype=np.float32)


def toy(name: str, everyday: range, bad: tuple[int, ...], n: int, seed: int) -> Source:
    """Patterns of everyday templates; every fourth has a bad one besides. Template t has the unit vector t; the table holds all."""
    random = np.random.default_rng(seed)
    events = []
    for i in range(n):
        templates = random.choice(everyday, size=random.integers(2, min(5, len(everyday) + 1)), replace=False).tolist()
        templates += [int(random.choice(bad))] if i % 4 == 0 else []
        events.append(tuple((int(t), 1 << int(random.integers(0, 3))) for t in sorted(templates)))
    return Source(
        name=name,
        vectors=EYE,
        texts=tuple(f"text {t}" for t in range(DIMENSIONS)),
        ids=tuple(f"{name}-{i:03d}" for i in range(n)),
        events=tuple(events),
        sessions=random.integers(1, 50, size=n).astype(np.int64),
        anomalous=np.array([float(i % 4 == 0) for i in range(n)]),
    )


SOURCE = toy("source", range(0, 6), (6, 7), 100, 0)
TRUTH = toy("target", range(8, 13), (13, 14), 40, 1)
TARGET = TRUTH.without_labels()


def verdicts_of(patterns: Patterns, anomalous: np.ndarray, confidence: float = 0.95) -> dict[str, Verdict]:
    """What an LLM says that is right about every question."""
    labels = ("anomalous" if share >= 0.5 else "normal" for share in anomalous)
    return {question: Verdict(question, label, confidence, "") for question, label in zip(patterns.questions, labels, strict=True)}
