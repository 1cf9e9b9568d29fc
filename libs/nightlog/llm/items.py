"""What is asked and what is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Label = Literal["normal", "anomalous", "unclear"]


@dataclass(frozen=True)
class Item:
    """One pattern to be judged: `id` is its pattern_id, `events` are (template text, count) as the lake has them, unredacted."""

    id: str
    events: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Verdict:
    """The judgement on the pattern `id`: `confidence` in [0, 1] that `label` is right, `reason` one line of text."""

    id: str
    label: Label
    confidence: float
    reason: str
