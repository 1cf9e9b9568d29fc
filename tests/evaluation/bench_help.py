"""Small labelled systems in the format of the benchmark, and what tests need besides."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nightlog.evaluation.corpus import BENCHMARKS, plain_spec, read_public
from nightlog.evaluation.labelled import Labelled, labelled_system
from nightlog.llm.items import Answer, Item, Verdict
from nightlog.systems.spec import System

TEMPLATES = {
    "hdfs": ["block <*> is written", "block <*> is read by <*>", "block <*> is deleted", "write error on <*>", "block <*> was lost"],
    "bgl": ["node card <*> is fine", "cache line flushed", "torus <*> up", "kernel error at <*>", "ddr parity lost"],
    "trainticket": ["order <*> placed", "seat <*> booked", "ticket <*> paid", "payment error", "order <*> lost"],
    "openstack": ["instance <*> boots", "instance <*> runs", "instance <*> stops", "boot error of <*>", "image <*> lost"],
}
BAD = (3, 4)

Row = dict[str, Any]


def sessions(name: str, n: int = 300, share: float = 0.2) -> list[Row]:
    """Sessions of which about a share is anomalous; these have a bad event, and a tenth of them nothing to be seen by."""
    made = random.Random(name)
    rows = []
    for number in range(n):
        anomalous = made.random() < share
        events = [event for event in (0, 1, 2) for _ in range(made.choice((0, 1, 1, 2, 3, 5)))] or [0]
        if anomalous and made.random() < 0.9:
            events += made.choices(BAD, k=made.choice((1, 2, 4)))
        rows.append({"system": name, "session_id": f"{name}-{number}", "label": int(anomalous), "events": events})
    return rows


def write_system(folder: Path, name: str, rows: Iterable[Row], templates: Sequence[tuple[int, str]] | None = None) -> None:
    """One system's two files."""
    family = BENCHMARKS[name].family
    with (folder / f"{family}_templates.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("event_id", "template"), *(templates or enumerate(TEMPLATES[family]))])
    with gzip.open(folder / f"{name}.sessions.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


def write_all(folder: Path) -> Path:
    """All systems of the benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in BENCHMARKS:
        write_system(folder, name, sessions(name))
    return folder


def encode(texts: Sequence[str]) -> np.ndarray:
    """A bag of words over 32 places, unit norm."""
    vectors = np.zeros((len(texts), 32), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            vectors[row, sum(word.encode()) % 32] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def read(folder: Path, name: str) -> Labelled:
    return read_public(folder, BENCHMARKS[name])


def made_up(name: str, seed: int = 0, n: int = 3000) -> Labelled:
    """Sessions of five usual kinds, and rare ones that fail."""
    random = np.random.default_rng(seed)
    usual = [[("begin", 1), ("work", 1 << i), ("end", 1)] for i in range(4)] + [[("begin", 1), ("check", 1), ("end", 1)]]
    bad = [[("begin", 1), ("disk failure", 1)], [("begin", 1), ("work", 1), ("timed out", 2)], [("begin", 1), ("work", 2)]]
    events = [[(f"{name} {text}", count) for text, count in each] for each in [*usual, *bad]]
    pattern = random.choice(8, n, p=[0.3, 0.25, 0.2, 0.12, 0.1, 0.01, 0.01, 0.01])
    return labelled_system(name, events, pattern, random.random(n) < 0.5, pattern >= 5, spec=plain_spec(name))


class KeywordJudge:
    """Says anomalous where a template sounds bad; tells what it was asked."""

    name = "keywords"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        self.asked += [(system.name, item.id) for item in items]
        for item in items:
            found = any(word in template for template, _ in item.events for word in ("error", "lost"))
            verdict = Verdict(item.id, "anomalous" if found else "normal", 0.9, "by keyword")
            yield Answer((verdict,), 1, 10, 1, (item.id,))
