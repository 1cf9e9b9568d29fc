"""Numbers that lie far outside of the range that a system's own nights had. Pure: ranges by place and night in, signals out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from nightlog.signals.rules import LEAST_DEVIATIONS, LEAST_EVENTS, LEAST_FACTOR, READY_NIGHTS, Signal


class Place(NamedTuple):
    """Where a number stands: the template, which of its words holds it, and which number of the word it is."""

    template_id: str
    word: int
    nth: int


@dataclass(frozen=True)
class Range:
    """A night's numbers at a place: how many, the lowest and the highest, and the file and line of each."""

    n: int
    low: float
    high: float
    low_at: str = ""
    high_at: str = ""


Night = Mapping[Place, Range]


def values_out_of_range(tonight: Night, history: Mapping[str, Night], texts: Mapping[str, str]) -> list[Signal]:
    """Places with a number far outside of the range of the nights before, the strongest of each template.

    A number is outside where it is threefold beyond all that was seen, and 5 robust deviations beyond what is usual for a night's
    highest (or lowest), both on a scale of magnitudes. A place needs enough nights and numbers before, and must be no counter. Args: texts
    of templates.
    """
    found: dict[str, Signal] = {}
    for place, now in tonight.items():
        nights = [history[night][place] for night in sorted(history) if place in history[night]]
        if len(nights) < READY_NIGHTS or sum(each.n for each in nights) < LEAST_EVENTS or is_counter(nights):
            continue
        usual = min(each.low for each in nights), max(each.high for each in nights)
        of_place = (
            (beyond([each.high for each in nights], now.high), now.high, now.high_at, usual[1]),
            (beyond([-each.low for each in nights], -now.low), now.low, now.low_at, usual[0]),
        )
        strength, value, at, bound = max(of_place)
        before = found.get(place.template_id)
        if strength < LEAST_DEVIATIONS or (before is not None and before.strength >= strength):
            continue
        where = context(texts.get(place.template_id, ""), place)
        told = f"{where} is {plain(value)} ({at}), where {plain(usual[0])} to {plain(usual[1])} are usual ({len(nights)} nights)"
        found[place.template_id] = Signal("value", place.template_id, value, bound, round(strength, 3), told)
    return list(found.values())


def beyond(before: Sequence[float], now: float) -> float:
    """Return how many robust deviations a night's highest is above that of the nights before; 0 where it is not far beyond all of them.

    >>> beyond([90, 100, 110, 100, 95, 105, 100], 900) > 5, beyond([90, 100, 110, 100, 95, 105, 100], 300)
    (True, 0.0)
    """
    sizes = [abs(value) for value in before if value]
    # What counts as small: one, or where all are fractions the least of them.
    unit = 1.0 if not sizes or max(sizes) >= 1 else min(sizes)
    scaled = [magnitude(value, unit) for value in before]
    seen = magnitude(now, unit)
    if seen < max(scaled) + math.log(LEAST_FACTOR):
        return 0.0
    middle = median(scaled)
    return (seen - middle) / max(1.4826 * median(abs(each - middle) for each in scaled), 0.1)


def magnitude(value: float, unit: float) -> float:
    """A number on a scale where threefold is the same step for large ones, and that goes through 0."""
    return math.copysign(math.log1p(abs(value) / unit), value)


def is_counter(nights: Sequence[Range]) -> bool:
    """Return whether a number goes on where it ended the night before, as counters, ids and times do: most nights begin above the last.

    >>> is_counter([Range(9, n * 10, n * 10 + 9) for n in range(8)]), is_counter([Range(9, n % 3, 9) for n in range(8)])
    (True, False)
    """
    steps = [after.low > before.high for before, after in pairwise(nights)]
    return sum(steps) > len(steps) / 2


def context(text: str, place: Place) -> str:
    """Return which number it is, by the words beside it.

    >>> context("took <NUM> ms at <NUM>:<NUM>", Place("t", 5, 2))
    'number 2 of “<NUM>:<NUM>” in “at <NUM>:<NUM>”'
    """
    tokens = text.split()
    beside = " ".join(tokens[max(0, place.word - 2) : place.word + 1])
    own = tokens[place.word - 1] if place.word <= len(tokens) else ""
    first = f"number {place.nth} of “{own}”" if own.count("<NUM>") > 1 else "the number"
    return f"{first} in “{beside}”"


def plain(value: float) -> str:
    """A number as people write it.

    >>> plain(67108864.0), plain(-0.25)
    ('67,108,864', '-0.25')
    """
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"
