"""Two days of a shop's orders: its system file, its logs, and what was recorded of the LLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

DS, NEXT = "2026-03-04", "2026-03-05"
SYSTEM = r"""
name = "shop"
description = "A shop, a session is an order"
role = "target"
[input]
path = "shop/shop-{ds}.log"
[header]
pattern = '(?P<stamp>\d{4}-\d\d-\d\dT[\d:]+Z) (?P<level>INFO|WARN|ERROR) (?P<id>s\d+) (?P<message>.*)'
[timestamp]
value = "{stamp}"
format = "yyyy-MM-dd'T'HH:mm:ssX"
[session]
kind = "id"
field = "id"
pattern = '(s\d+)'
lookback_days = 0
settle_minutes = 0
"""


class Place(NamedTuple):
    """Where the lake, the logs, the system files and the recorded verdicts are."""

    lake: Path
    data: Path
    systems: Path
    verdicts: Path

    def environment(self) -> dict[str, str]:
        """The settings of a run here; no browser is opened."""
        paths = {"LAKE": self.lake, "DATA": self.data, "SYSTEMS": self.systems, "LLM_RECORDED": self.verdicts}
        return {f"NIGHTLOG_{name}": str(path) for name, path in paths.items()} | {"NIGHTLOG_LLM": "recorded", "BROWSER": "true"}


def orders(ds: str, first: int, n: int, n_slow: int, n_lost: int = 0) -> str:
    """A day of orders: the first ones are slow, the next ones lose a disk."""
    lines = []
    for number in range(n):
        told = (
            ["INFO {} request served"] + ["WARN {} fan slow"] * (number < n_slow) + ["ERROR {} disk lost"] * (0 <= number - n_slow < n_lost)
        )
        lines += [f"{ds}T10:{number:02d}:{at:02d}Z {line.format(f's{first + number}')}" for at, line in enumerate(told)]
    return "\n".join(lines) + "\n"


def verdict(texts: list[str], label: str, confidence: float, **more: object) -> str:
    events = [{"template": text, "count": 1} for text in texts]
    return json.dumps({"system": "shop", "events": events, "label": label, "confidence": confidence, "reason": f"is {label}"} | more)
