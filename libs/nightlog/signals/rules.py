"""Signals of a night by the system's own history, from exact counts. Pure: counts by template and night in, signals out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Literal

Kind = Literal["new_template", "rate", "silence", "variation", "value"]
ORDER: tuple[Kind, ...] = ("silence", "new_template", "rate", "value", "variation")  # as people read them
Night = Mapping[str, int]  # template id → how often it was logged

READY_NIGHTS = 7  # nights of history before anything is said
SAME_WEEKDAYS = 3  # so many nights of the same weekday, and they alone are compared with
LEAST_DEVIATIONS, LEAST_FACTOR = 5.0, 3.0
LEAST_EVENTS = 20  # counts below this say nothing about a rate
TYPICAL_TEMPLATES = 8  # from so many on, how busy the night was is told from the others
LEAST_BEAT = 3  # a heartbeat was logged so often in each night at least
LEAST_VARIED = 10  # new wordings of one template


@dataclass(frozen=True)
class Signal:
    """Something unlike the nights before: `seen` tonight, `usual` before, `strength` to rank by within its kind. An empty `template_id`
    is the whole system."""

    kind: Kind
    template_id: str
    seen: float
    usual: float
    strength: float
    reason: str


def ready(n_nights: int) -> bool:
    """The readiness rule: whether enough nights were seen to say what is usual."""
    return n_nights >= READY_NIGHTS


def alike(ds: str, history: Mapping[str, Night]) -> list[str]:
    """The nights to compare with: those of the same weekday where there are enough, else all."""
    weekday = date.fromisoformat(ds).weekday()
    same = [night for night in sorted(history) if date.fromisoformat(night).weekday() == weekday]
    return same if len(same) >= SAME_WEEKDAYS else sorted(history)


def new_templates(tonight: Night, first_ds: Mapping[str, str], ds: str) -> list[Signal]:
    """Templates that this night saw first. Args: first_ds by template."""
    return [
        Signal("new_template", name, n, 0.0, float(n), f"this template was never logged before; tonight {n:,} times")
        for name, n in tonight.items()
        if n and first_ds.get(name) == ds
    ]


def busyness(tonight: Night, usual: Mapping[str, float]) -> float:
    """Return how busy the night was: the median over templates of tonight's count by the usual one; 1 where there are too few to tell.

    >>> busyness({f"t{n}": 200 for n in range(9)}, {f"t{n}": 100.0 for n in range(9)}), busyness({"t": 900}, {"t": 100.0})
    (2.0, 1.0)
    """
    ratios = [tonight.get(name, 0) / n for name, n in usual.items() if n >= LEAST_EVENTS]
    return median(ratios) or 1.0 if len(ratios) >= TYPICAL_TEMPLATES else 1.0


def system_rate(ds: str, tonight: Night, history: Mapping[str, Night]) -> list[Signal]:
    """Return the signal of a system that logged far more or far less than on nights alike, all templates together."""
    nights = alike(ds, history)
    before = [sum(history[night].values()) for night in nights]
    seen, expected = sum(tonight.values()), float(median(before)) if before else 0.0
    if not seen or not before or (strength := rate_strength(seen, expected, before)) is None:
        return []
    told = f"the system logged {seen:,} records, where {expected:,.0f} are usual (median of {nights_in_words(nights, history)})"
    return [Signal("rate", "", seen, round(expected, 3), round(strength, 3), told)]


def rate_strength(seen: float, expected: float, before: Sequence[float], busy: float = 1.0) -> float | None:
    """Return the robust deviations between a count and the usual one; None if they are below 5, or the counts differ less than threefold.

    The deviation is the median absolute one, at least that of counts by chance and a tenth of the usual count. `busy`: see `busyness`.
    """
    middle = median(before)
    spread = max(1.4826 * busy * median(abs(n - middle) for n in before), expected**0.5, 0.1 * expected, 1.0)
    strength, factor = abs(seen - expected) / spread, max(seen, 1) / max(expected, 1)
    if max(seen, expected) < LEAST_EVENTS or strength < LEAST_DEVIATIONS or 1 / LEAST_FACTOR < factor < LEAST_FACTOR:
        return None
    return float(strength)


def nights_in_words(nights: Sequence[str], history: Mapping[str, Night]) -> str:
    """Return the nights that were compared with, in words."""
    return f"{len(nights)} nights" if list(nights) == sorted(history) else f"{len(nights)} nights of this weekday"


def rates(ds: str, tonight: Night, history: Mapping[str, Night]) -> list[Signal]:
    """Return templates that are logged at another rate than on nights alike, see `rate_strength`.

    How busy the night was as a whole is taken out: `system_rate` is about that. A template that is not logged at all is a silence.
    """
    nights = alike(ds, history)
    names = tonight.keys() | {name for night in nights for name in history[night]}
    counts = {name: [history[night].get(name, 0) for night in nights] for name in names}
    usual = {name: median(before) for name, before in counts.items()} if nights else {}
    busy = busyness(tonight, usual)
    found = []
    for name, middle in usual.items():
        seen, expected = tonight.get(name, 0), middle * busy
        if not seen or not any(counts[name]) or (strength := rate_strength(seen, expected, counts[name], busy)) is None:
            continue
        of = nights_in_words(nights, history) + ("" if busy == 1 else ", as busy as tonight")
        told = f"logged {seen:,} times, where {expected:,.0f} are usual (median of {of})"
        found.append(Signal("rate", name, seen, round(expected, 3), round(strength, 3), told))
    return found


def silences(tonight: Night, history: Mapping[str, Night]) -> list[Signal]:
    """Heartbeats that are missing: templates that each of the last nights logged, and tonight did not."""
    last = [history[night] for night in sorted(history)[-READY_NIGHTS:]]
    found = []
    for name in last[0] if last else ():
        counts = [night.get(name, 0) for night in last]
        if min(counts) >= LEAST_BEAT and not tonight.get(name):
            told = f"silent: each of the last {len(last)} nights logged it at least {min(counts):,} times, tonight never"
            found.append(Signal("silence", name, 0.0, float(median(counts)), float(median(counts)), told))
    return found


def silent_system(history: Mapping[str, Night]) -> list[Signal]:
    """The signal of a system that delivered nothing, where it did on the nights before."""
    usual = float(median(sum(night.values()) for night in history.values())) if history else 0.0
    return [Signal("silence", "", 0.0, usual, usual, f"the system is silent: {usual:,.0f} records are usual, tonight there is none")]


def variations(ds: str, wordings: Mapping[str, Mapping[str, int]], nights: Sequence[str]) -> list[Signal]:
    """Known templates whose words vary more than they used to: many wordings that were never seen before.

    Args: wordings, template → night → distinct masked messages that were first seen then; nights, those of the history.
    """
    found = []
    for name, by_night in wordings.items():
        seen = by_night.get(ds, 0)
        before = [by_night.get(night, 0) for night in nights]
        usual = max(median(before), sum(before) / len(before)) if before else 0.0
        known = any(night < ds for night in by_night)
        if known and seen >= LEAST_VARIED and seen >= LEAST_FACTOR * max(usual, 1.0):
            told = f"{seen:,} wordings of it were never seen before, where {usual:,.1f} a night are usual"
            found.append(Signal("variation", name, seen, round(usual, 3), round(seen / max(usual, 1.0), 3), told))
    return found


def ranked(signals: Sequence[Signal]) -> list[Signal]:
    """The order in which people read them: silences, new templates, rates, values, variations; the strongest of each first."""
    return sorted(signals, key=lambda each: (ORDER.index(each.kind), -each.strength, each.template_id))
