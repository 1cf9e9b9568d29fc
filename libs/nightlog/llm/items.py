"""What is asked and what is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Label = Literal["normal", "anomalous", "unclear"]
Events = tuple[tuple[str, int | None], ...]
Neighbour = tuple[Events, Label]


@dataclass(frozen=True)
class Verdict:
    """The judgement on the question `id`: `confidence` in [0, 1] that `label` is right, `reason` one line of text.

    `round` 2 is the judgement side by side with other uncertain patterns; `group` names what sets the pattern apart, None where the
    first judgement stands.
    """

    id: str
    label: Label
    confidence: float
    reason: str
    round: int = 1
    group: str | None = None

    @property
    def probability(self) -> float:
        """Probability of an anomaly in [0, 1]: 0.5 for "unclear"."""
        return {"normal": 1 - self.confidence, "anomalous": self.confidence, "unclear": 0.5}[self.label]


@dataclass(frozen=True)
class Difference:
    """What a pattern has more (`added`) and less (`missing`) than a judged one, as (template, count)."""

    added: Events
    missing: Events


@dataclass(frozen=True)
class Comparison:
    """What the second round shows of a pattern besides its events: `share` of the system's sessions in [0, 1], the `first` verdict, and
    the difference to the nearest confidently normal and the nearest confidently anomalous pattern, None where there is none."""

    share: float
    first: Verdict
    to_normal: Difference | None
    to_anomalous: Difference | None


@dataclass(frozen=True)
class Item:
    """One question: `events` are (template text, count) as the lake has them, unredacted; count is None where counts tell nothing.

    An item with a `comparison` belongs to the second round. `neighbours` are patterns of the same system that were judged before and are
    like this one; they are shown in the first round.
    """

    id: str
    events: Events
    comparison: Comparison | None = None
    neighbours: tuple[Neighbour, ...] = ()
