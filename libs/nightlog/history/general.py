"""The general model that ships: the constants of the history detector, read from `general.json` beside this file.

It judges every system for which no trained model is registered. It needs no training, because it compares a session with its own system.
`python -m nightlog.evaluation.general` fits it on the recorded families that ship, and prints its figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("general.json")
CONSTANTS = ("channels", "tail_weight", "longest_tail", "least_score", "threshold", "slope", "usable_sessions")


@dataclass(frozen=True)
class General:
    """The general model.

    `channels`: the weight of each unlikeness channel, by name. `threshold`: a pattern of at least this suspicion is anomalous. `slope`: of
    the log-odds over suspicion. `usable_sessions`: with fewer in the reference, it ranks and flags nothing. `card`: its origin, its
    measured figures and its limits.
    """

    version: str
    channels: Mapping[str, float]
    tail_weight: float
    longest_tail: float
    least_score: float
    threshold: float
    slope: float
    usable_sessions: int
    card: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """First 16 hex digits of the sha256 of its constants; the card is not part of it."""
        content = json.dumps({name: getattr(self, name) for name in CONSTANTS}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@cache
def general() -> General:
    """Return the general model of this version of Nightlog."""
    return General(**json.loads(FILE.read_text(encoding="utf-8")))


def is_general_model(version: str) -> bool:
    """Return True if a version is one of general models, of this or another version of Nightlog.

    >>> is_general_model("general-1"), is_general_model("0a1b2c3d4e5f6071")
    (True, False)
    """
    return version.startswith("general-")
