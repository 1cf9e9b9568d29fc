"""Patterns for the tests of the history detector."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from nightlog.history.channels import Templates
from nightlog.history.reference import EVENTS, Reference
from nightlog.history.score import Scorer

Pattern = dict[str, int]


def table(rows: list[Pattern], sessions: list[int]) -> pa.Table:
    """Rows as `silver.patterns` has them, named p0000 and on."""
    events = pa.array([[{"template_id": name, "count": n} for name, n in row.items()] for row in rows], EVENTS)
    ids = [f"p{i:04}" for i in range(len(rows))]
    return pa.table({"pattern_id": ids, "question_id": ids, "events": events, "n_sessions": pa.array(sessions, pa.int64())})


def random_system(seed: int, n: int = 40, templates: int = 7) -> tuple[list[Pattern], list[int]]:
    random = np.random.default_rng(seed)
    rows = [{f"t{t}": int(random.integers(1, 20)) for t in range(templates) if random.random() < 0.2 + 0.1 * t} for _ in range(n)]
    return rows, random.integers(1, 50, n).tolist()


def scorer(rows: list[Pattern], sessions: list[int], templates: Templates | None = None) -> Scorer:
    return Scorer(Reference.of_night(table(rows, sessions), True), templates or Templates())


# Blocks that are written, some read, few that fail; the text of a template is its id.
TEXTS = {name: name for name in ("begin", "write", "read", "done", "write failed: no space left", "odd")}
SYSTEM: list[Pattern] = [
    {"begin": 1, "write": 2, "done": 1},
    {"begin": 1, "write": 4, "done": 1},
    {"begin": 1, "write": 2, "read": 1, "done": 1},
    {"begin": 1, "write": 2, "read": 8, "done": 1},
    {"begin": 1, "write": 2},
    {"begin": 1, "write": 2, "write failed: no space left": 1},
    {"begin": 1, "write": 2, "odd": 1, "done": 1},
]
SESSIONS = [5000, 3000, 1500, 460, 10, 10, 20]
TEMPLATES = Templates(TEXTS, {"write failed: no space left": "ERROR", "done": "INFO"})
