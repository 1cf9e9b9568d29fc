"""A number far out of its own range is told; heavy tails, counters and what is new are not."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest
from nightlog.signals.kinds import NumberPlace, Range, values_out_of_range

PLACE = NumberPlace("t", 2, 1)
TEXTS = {"t": "took <NUM> ms for <NUM>/<NUM> rows"}


def history(ranges: list[tuple[float, float]], place: NumberPlace = PLACE) -> dict[str, dict[NumberPlace, Range]]:
    first = date(2026, 1, 1)
    return {(first + timedelta(days=n)).isoformat(): {place: Range(20, low, high)} for n, (low, high) in enumerate(ranges)}


def told(ranges: list[tuple[float, float]], low: float, high: float) -> list[float]:
    return [each.seen for each in values_out_of_range({PLACE: Range(20, low, high, "a:1", "a:2")}, history(ranges), TEXTS)]


STEADY = [(5.0, 100.0 + n) for n in range(10)]


@pytest.mark.parametrize(
    ("ranges", "low", "high", "seen"),
    [
        (STEADY, 5, 105, []),
        (STEADY, 5, 250, []),
        (STEADY, 5, 4000, [4000]),
        (STEADY, -900, 100, [-900]),
        ([(5000.0 + n, 9000.0) for n in range(10)], 12, 9000, [12]),
        ([(0.0, 0.0)] * 10, 0, 7, [7]),
        ([(0.01, 0.02)] * 10, 0.01, 0.9, [0.9]),
        ([(0.01, 0.02)] * 10, 0.01, 0.03, []),
        (STEADY[:6], 5, 4000, []),  # too few nights
        ([(n * 1000.0 + 1, n * 1000.0 + 1000) for n in range(10)], 1, 12, []),  # a counter that began anew
    ],
)
def test_what_is_threefold_beyond_all_that_was_seen_is_told(
    ranges: list[tuple[float, float]], low: float, high: float, seen: list[float]
) -> None:
    assert told(ranges, low, high) == seen


def test_a_heavy_tail_is_rarely_called_out_of_range_and_a_quiet_number_never() -> None:
    draw = random.Random(5)
    nights = [[(1.0, max(draw.paretovariate(1.5) for _ in range(50))) for _ in range(15)] for _ in range(300)]
    assert sum(bool(told(of[:-1], *of[-1])) for of in nights) <= 3
    quiet = [[(1.0, max(draw.gauss(100, 20) for _ in range(50))) for _ in range(15)] for _ in range(300)]
    assert sum(bool(told(of[:-1], *of[-1])) for of in quiet) == 0


def test_one_wild_night_in_the_history_does_not_hide_a_wilder_one() -> None:
    ranges = [*STEADY[:5], (5.0, 20_000.0), *STEADY[5:]]
    assert told(ranges, 5, 30_000) == []
    assert told(ranges, 5, 90_000) == [90_000]


def test_a_template_is_told_once_by_its_strongest_number_and_the_reason_names_it() -> None:
    other = NumberPlace("t", 5, 2)
    before = {night: of | {other: Range(20, 1, 9)} for night, of in history(STEADY).items()}
    (found,) = values_out_of_range(
        {PLACE: Range(9, 5, 900, "a.log:1", "a.log:2"), other: Range(9, 1, 9e6, "a.log:3", "a.log:4")}, before, TEXTS
    )
    assert found.reason == "number 2 of “<NUM>/<NUM>” in “for <NUM>/<NUM> rows” is 9,000,000 (a.log:4), where 1 to 9 are usual (10 nights)"
    assert values_out_of_range({NumberPlace("new", 1, 1): Range(9, 1, 9e9)}, before, TEXTS) == []
