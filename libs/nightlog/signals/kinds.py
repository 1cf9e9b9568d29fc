"""Signals of a night by the system's own history, from exact counts and number ranges. Pure: counts by night in, signals out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from statistics import median
from typing import Literal, NamedTuple

Kind = Literal["new_template", "rate", "silence", "variation", "value", "outside_sessions"]
ORDER: tuple[Kind, ...] = ("silence", "outside_sessions", "new_template", "rate", "value", "variation")  # as people read them
Counts = Mapping[str, int]  # template id → how often it was logged

SEVERE_LEVELS = ("error", "critical", "fatal")
READY_NIGHTS = 7  # nights of history before a signal is reported
SAME_WEEKDAYS = 3  # with this number of nights of the same weekday, only those are compared with
LEAST_DEVIATIONS, LEAST_FACTOR = 5.0, 3.0
LEAST_SPREAD = 0.1  # of a count's logarithm
LEAST_EVENTS = 20  # counts below this say nothing about a rate
TYPICAL_TEMPLATES = 8  # from this number on, the busyness of the night comes from the others
LEAST_BEAT = 3  # a heartbeat was logged at least so often in each night
LEAST_MISSED = 15  # records that a silence lacks, unless the heartbeat is regular
REGULAR = 1.25  # a regular heartbeat is at most this much more frequent on one night than on another
LEAST_GAP = 60  # minutes of a silence in the night
TROUBLE, GRAVE, GRAVEST = 0.6, 0.8, 1.0  # severities of a template outside of sessions that is new, new in the first night, and rare
LOW_FACTOR = 10.0  # a low number is news only if it is that much below all others: many numbers may come near to 0
LEAST_NUMBERS = 100  # fewer numbers say little about their range
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


def is_ready(n_nights: int) -> bool:
    """Return True if enough nights were seen to know what is usual."""
    return n_nights >= READY_NIGHTS


def is_weekend(night: str) -> bool:
    """Return True if a night is a Saturday or a Sunday."""
    return date.fromisoformat(night).weekday() >= 5


def comparable_nights(ds: str, history: Mapping[str, Counts]) -> tuple[list[str], str]:
    """Return the nights to compare with, and what they are in words.

    They are those of the same weekday; as long as these are few, those from Monday to Friday or of weekends; else all.
    """
    nights = sorted(history)
    alike = [night for night in nights if is_weekend(night) == is_weekend(ds)]
    of_alike = "weekend nights" if is_weekend(ds) else "nights from Monday to Friday"
    for chosen, words in ((weekday_nights(ds, history), "nights of this weekday"), (alike, of_alike)):
        if len(chosen) >= SAME_WEEKDAYS:
            return chosen, f"{len(chosen)} {words if len(chosen) < len(nights) else 'nights'}"
    return nights, f"{len(nights)} nights"


def new_templates(tonight: Counts, first_ds: Mapping[str, str], ds: str) -> list[Signal]:
    """Templates that this night saw first. Args: first_ds by template."""
    return [
        Signal("new_template", name, n, 0.0, float(n), f"this template was never logged before; tonight {n:,} times")
        for name, n in tonight.items()
        if n and first_ds.get(name) == ds
    ]


def outside_sessions(
    tonight: Counts, judged: Collection[str], history: Mapping[str, Counts], severity: Mapping[str, float], levels: Mapping[str, str]
) -> list[Signal]:
    """Return severe templates of records that no judged session has: what broke may have no session of its own.

    A template that no night had before is a signal if its wording or level reports trouble; on the first night it must be grave. The
    gravest are signals again, unless more than half of the nights have them. Args: judged: ids of templates in the night's sessions;
    severity, levels: by template.
    """
    found = []
    for name, n in tonight.items():
        grade, n_before = severity.get(name, 0.0), sum(name in night for night in history.values())
        least = (TROUBLE if history else GRAVE) if not n_before else GRAVEST
        if name in judged or not n or grade < least or (n_before > len(history) / 2 and is_ready(len(history))):
            continue
        level = f"level {levels[name]}" if levels.get(name) in SEVERE_LEVELS else "its wording reports trouble"
        before = f"on {n_before:,} of {len(history):,} nights before" if history else "on the first night"
        reason = f"in no judged session, {level}: tonight {n:,} time{'s' * (n != 1)}, {before}"
        found.append(Signal("outside_sessions", name, float(n), 0.0, grade, reason))
    return found


def busyness(tonight: Counts, usual: Mapping[str, float]) -> float:
    """Return the busyness of the night: the median over templates of tonight's count by the usual one; 1 if there are too few templates.

    >>> busyness({f"t{n}": 200 for n in range(9)}, {f"t{n}": 100.0 for n in range(9)}), busyness({"t": 900}, {"t": 100.0})
    (2.0, 1.0)
    """
    ratios = [tonight.get(name, 0) / n for name, n in usual.items() if n >= LEAST_EVENTS]
    return median(ratios) or 1.0 if len(ratios) >= TYPICAL_TEMPLATES else 1.0


def system_rate(ds: str, tonight: Counts, history: Mapping[str, Counts]) -> list[Signal]:
    """Return the signal of a system that logged far more or far less than on nights alike, all templates together."""
    nights, words = comparable_nights(ds, history)
    before = [sum(history[night].values()) for night in nights]
    seen, expected = sum(tonight.values()), float(median(before)) if before else 0.0
    if not seen or not before or (strength := rate_strength(seen, expected, before)) is None:
        return []
    reason = f"the system logged {seen:,} records, where {expected:,.0f} are usual (median of {words})"
    return [Signal("rate", "", seen, round(expected, 3), round(strength, 3), reason)]


def weekday_nights(ds: str, history: Mapping[str, Counts]) -> list[str]:
    """Return the nights of the same weekday, in order."""
    weekday = date.fromisoformat(ds).weekday()
    return [night for night in sorted(history) if date.fromisoformat(night).weekday() == weekday]


def rate_strength(seen: float, expected: float, before: Sequence[float]) -> float | None:
    """Return the robust deviations between a count and the usual one; None if they are below 5, or the counts differ less than threefold.

    Counts vary by factors, so they are compared on a logarithmic scale. The deviation is the median absolute one, at least that of counts
    by chance and a tenth.
    """
    logs = [math.log(n + 0.5) for n in before]
    by_chance = (1 / max(seen, 1) + 1 / max(expected, 1)) ** 0.5
    spread = max(1.4826 * median(abs(n - median(logs)) for n in logs), by_chance, LEAST_SPREAD)
    strength, factor = abs(math.log((seen + 0.5) / (expected + 0.5))) / spread, max(seen, 1) / max(expected, 1)
    if max(seen, expected) < LEAST_EVENTS or strength < LEAST_DEVIATIONS or 1 / LEAST_FACTOR < factor < LEAST_FACTOR:
        return None
    return float(strength)


def rates(ds: str, tonight: Counts, history: Mapping[str, Counts]) -> list[Signal]:
    """Return templates that are logged at another rate than on nights alike, see `rate_strength`.

    How busy the night was as a whole is taken out: `system_rate` is about that. But the count as it is must be unusual, too, in the same
    direction: on a weekend, when most templates rest, one that never rests is no news. As long as there are few nights of the same weekday,
    it must also be unusual against each of them. A template that is not logged at all is a silence.
    """
    nights, words = comparable_nights(ds, history)
    same_weekday = weekday_nights(ds, history)
    few = [history[night] for night in same_weekday] if len(same_weekday) < SAME_WEEKDAYS else []
    names = tonight.keys() | {name for night in nights for name in history[night]}
    counts = {name: [history[night].get(name, 0) for night in nights] for name in names}
    usual = {name: median(before) for name, before in counts.items()} if nights else {}
    busy = busyness(tonight, usual)
    found = []
    for name, middle in usual.items():
        seen, expected = tonight.get(name, 0), middle * busy
        if not seen or not any(counts[name]) or (strength := rate_strength(seen, expected, counts[name])) is None:
            continue
        others = [(middle, counts[name]), *((night.get(name, 0), [night.get(name, 0)]) for night in few)]
        if any(rate_strength(seen, usual, before) is None or (seen > usual) != (seen > expected) for usual, before in others):
            continue
        of = words + ("" if busy == 1 else ", as busy as tonight")
        reason = f"logged {seen:,} times, where {expected:,.0f} are usual (median of {of})"
        found.append(Signal("rate", name, seen, round(expected, 3), round(strength, 3), reason))
    return found


def silences(tonight: Counts, history: Mapping[str, Counts]) -> list[Signal]:
    """Heartbeats that are missing: templates that each of the last nights logged, and tonight did not.

    A template whose count varies must have been frequent; a regular one need not.
    """
    last = [history[night] for night in sorted(history)[-READY_NIGHTS:]]
    found = []
    for name in last[0] if last else ():
        counts = [night.get(name, 0) for night in last]
        is_missed = median(counts) >= LEAST_MISSED or max(counts) <= REGULAR * min(counts)
        if min(counts) >= LEAST_BEAT and is_missed and not tonight.get(name):
            reason = f"silent: each of the last {len(last)} nights logged it at least {min(counts):,} times, tonight never"
            found.append(Signal("silence", name, 0.0, float(median(counts)), float(median(counts)), reason))
    return found


Minutes = Mapping[str, float]  # template id → minutes after midnight, UTC, of its last record


def stops(tonight: Counts, last: Minutes, history: Mapping[str, Counts], last_before: Mapping[str, Minutes]) -> list[Signal]:
    """Heartbeats that stopped in the night: templates that each of the last nights logged far longer than tonight.

    The silence must be longer than three times what their last minutes vary, and lack some records, at the usual rate and at that of the
    night before it stopped. If the whole system stopped, one signal says so. Args: last, last_before: of tonight, and by night.
    """
    nights = sorted(history)[-READY_NIGHTS:]
    if len(nights) < READY_NIGHTS or not last or not all(last_before.get(night) for night in nights):
        return []
    end = max(last.values())
    ends = [max(last_before[night].values()) for night in nights]
    usual = float(median(sum(history[night].values()) for night in nights))
    if (missed := missed_records(end, ends, usual, sum(tonight.values()))) is not None:
        reason = (
            f"the system is silent since {clock(end)} UTC: each of the last {len(nights)} nights logged until {clock(min(ends))} at least"
        )
        return [Signal("silence", "", float(sum(tonight.values())), usual, missed, reason)]
    found = []
    for name, minute in last.items():
        if end - minute < LEAST_GAP or not all(name in last_before[night] for night in nights):
            continue
        ends = [last_before[night][name] for night in nights]
        usual = float(median(history[night].get(name, 0) for night in nights))
        if (missed := missed_records(minute, ends, usual, tonight.get(name, 0))) is not None:
            reason = (
                f"silent since {clock(minute)} UTC: each of the last {len(nights)} nights logged it until {clock(min(ends))} at least; "
                f"tonight {tonight.get(name, 0):,} times, where {usual:,.0f} are usual"
            )
            found.append(Signal("silence", name, float(tonight.get(name, 0)), usual, missed, reason))
    return found


def missed_records(minute: float, ends: Sequence[float], usual: float, seen: float) -> float | None:
    """Return how many records a silence from a minute on lacks; None if the silence is too short, or lacks too few.

    Args: ends: last minutes on other nights; usual, seen: records on other nights, and on this one until then.

    >>> [missed_records(540, [1435.0] * 7, 144, seen) for seen in (54, 1)], missed_records(1400, [1435.0] * 7, 144, 140)
    ([89.5, None], None)
    """
    gap = min(ends) - minute
    missed = min(usual / 1440, seen / max(minute, 1)) * gap
    if gap < max(LEAST_GAP, 3 * (max(ends) - min(ends))) or missed < LEAST_MISSED:
        return None
    return round(missed, 3)


def clock(minute: float) -> str:
    """Return a minute of the day as a time.

    >>> clock(545.9)
    '09:05'
    """
    return f"{int(minute) // 60:02d}:{int(minute) % 60:02d}"


def silent_system(history: Mapping[str, Counts]) -> list[Signal]:
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
            reason = f"{seen:,} wordings of it were never seen before, where {usual:,.1f} a night are usual"
            found.append(Signal("variation", name, seen, round(usual, 3), round(seen / max(usual, 1.0), 3), reason))
    return found


def rank_signals(signals: Sequence[Signal]) -> list[Signal]:
    """Return signals in the order in which people read them: by ORDER, the strongest of each kind first."""
    return sorted(signals, key=lambda each: (ORDER.index(each.kind), -each.strength, each.template_id))


class NumberPlace(NamedTuple):
    """The place of a number: the template, the number of the word that holds it, and the number's order in the word."""

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


def values_out_of_range(
    tonight: Mapping[NumberPlace, Range], history: Mapping[str, Mapping[NumberPlace, Range]], texts: Mapping[str, str]
) -> list[Signal]:
    """Places with a number far outside of the range of the nights before, the strongest of each template.

    A number is outside if it is threefold beyond all that was seen (tenfold below it), and 5 robust deviations beyond what is usual for a
    night's highest (or lowest), both on a scale of magnitudes. A place needs enough nights and numbers before, and must be no counter.
    Args: texts of templates.
    """
    found: dict[str, Signal] = {}
    for place, now in tonight.items():
        nights = [history[night][place] for night in sorted(history) if place in history[night]]
        if len(nights) < READY_NIGHTS or sum(each.n for each in nights) < LEAST_NUMBERS or is_counter(nights):
            continue
        usual = min(each.low for each in nights), max(each.high for each in nights)
        of_place = (
            (deviations_beyond([each.high for each in nights], now.high), now.high, now.high_at, usual[1]),
            (deviations_beyond([-each.low for each in nights], -now.low, LOW_FACTOR), now.low, now.low_at, usual[0]),
        )
        strength, value, at, bound = max(of_place)
        before = found.get(place.template_id)
        if strength < LEAST_DEVIATIONS or (before is not None and before.strength >= strength):
            continue
        where = context(texts.get(place.template_id, ""), place)
        low, high = map(number_text, usual)
        reason = f"{where} is {number_text(value)} ({at}), where {low} to {high} are usual ({len(nights)} nights)"
        found[place.template_id] = Signal("value", place.template_id, value, bound, round(strength, 3), reason)
    return list(found.values())


def deviations_beyond(before: Sequence[float], now: float, factor: float = LEAST_FACTOR) -> float:
    """Return the robust deviations of a night's highest from that of the nights before; 0 if it is not `factor` beyond all of them.

    >>> deviations_beyond([90, 100, 110, 100, 95, 105, 100], 900) > 5, deviations_beyond([90, 100, 110, 100, 95, 105, 100], 300)
    (True, 0.0)
    """
    sizes = [abs(value) for value in before if value]
    # What counts as small: one, or where all are fractions the least of them.
    unit = 1.0 if not sizes or max(sizes) >= 1 else min(sizes)
    scaled = [magnitude(value, unit) for value in before]
    seen = magnitude(now, unit)
    if seen < max(scaled) + math.log(factor):
        return 0.0
    middle = median(scaled)
    return (seen - middle) / max(1.4826 * median(abs(each - middle) for each in scaled), 0.1)


def magnitude(value: float, unit: float) -> float:
    """A number on a scale where threefold is the same step for large ones, and that goes through 0."""
    return math.copysign(math.log1p(abs(value) / unit), value)


def is_counter(nights: Sequence[Range]) -> bool:
    """Return True if a number continues from its end of the night before, as counters, ids and times do: most nights begin above the last.

    >>> is_counter([Range(9, n * 10, n * 10 + 9) for n in range(8)]), is_counter([Range(9, n % 3, 9) for n in range(8)])
    (True, False)
    """
    steps = [after.low > before.high for before, after in pairwise(nights)]
    return sum(steps) > len(steps) / 2


def context(text: str, place: NumberPlace) -> str:
    """Return the name of a number, by the words beside it.

    >>> context("took <NUM> ms at <NUM>:<NUM>", NumberPlace("t", 5, 2))
    'number 2 of “<NUM>:<NUM>” in “at <NUM>:<NUM>”'
    """
    tokens = text.split()
    beside = " ".join(tokens[max(0, place.word - 2) : place.word + 1])
    own = tokens[place.word - 1] if place.word <= len(tokens) else ""
    first = f"number {place.nth} of “{own}”" if own.count("<NUM>") > 1 else "the number"
    return f"{first} in “{beside}”"


def number_text(value: float) -> str:
    """A number as people write it.

    >>> number_text(67108864.0), number_text(-0.25)
    ('67,108,864', '-0.25')
    """
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"
