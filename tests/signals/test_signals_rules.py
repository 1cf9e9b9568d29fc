"""What is unlike a system's own nights is said, and what is like them is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from nightlog.signals.kinds import (
    Signal,
    comparable_nights,
    new_templates,
    outside_sessions,
    rank_signals,
    rates,
    silences,
    silent_system,
    stops,
    system_rate,
    variations,
)

DS = "2026-03-04"


def days(n: int, step: int = 1) -> list[str]:
    """The nights before DS, the last first."""
    return [(date.fromisoformat(DS) - timedelta(days=step * (at + 1))).isoformat() for at in range(n)]


def quiet(n: int, seed: int = 1, templates: int = 12) -> dict[str, dict[str, int]]:
    """Nights of templates that are logged about as often each night, all of them more on Saturdays and Sundays."""
    draw = random.Random(seed)
    found = {}
    for night in days(n):
        weekend = 6 if date.fromisoformat(night).weekday() >= 5 else 1
        found[night] = {f"t{at}": int(weekend * 40 * (at + 1) * draw.uniform(0.8, 1.2)) for at in range(templates)}
    return found


def usual(at: int) -> int:
    return 40 * (at + 1)


TONIGHT = {f"t{at}": usual(at) for at in range(12)}


def test_nights_of_the_weekday_are_compared_where_there_are_enough() -> None:
    fewest, few, many = quiet(2), quiet(14), quiet(28)
    assert comparable_nights(DS, fewest) == (sorted(fewest), "2 nights")
    nights, words = comparable_nights(DS, few)
    assert {date.fromisoformat(night).weekday() for night in nights} == {0, 1, 2, 3, 4} and words == "10 nights from Monday to Friday"
    assert {date.fromisoformat(night).weekday() for night in comparable_nights("2026-03-07", few)[0]} == {5, 6}
    nights, words = comparable_nights(DS, many)
    assert [date.fromisoformat(night).weekday() for night in nights] == [2, 2, 2, 2] and words == "4 nights of this weekday"


@pytest.mark.parametrize("seed", range(5))
def test_an_ordinary_night_says_nothing(seed: int) -> None:
    for n in (7, 28, 50):
        assert rates(DS, TONIGHT, quiet(n, seed)) == []
    assert silences(TONIGHT, quiet(28, seed)) == []


@pytest.mark.parametrize("factor", [2, 6])
def test_a_night_that_is_busy_as_a_whole_is_no_anomaly_of_each_template(factor: int) -> None:
    busy = {name: n * factor for name, n in TONIGHT.items()}
    assert rates(DS, busy, quiet(28)) == []
    (one,) = rates(DS, busy | {"t3": busy["t3"] * 5}, quiet(28))
    assert one.template_id == "t3"


@pytest.mark.parametrize("factor", [0.01, 0.3, 4.0])
def test_a_system_that_logs_far_more_or_less_as_a_whole_is_told_once(factor: float) -> None:
    other = {name: max(1, int(n * factor)) for name, n in TONIGHT.items()}
    (found,) = system_rate(DS, other, quiet(28))
    assert (found.kind, found.template_id, found.seen) == ("rate", "", sum(other.values()))
    assert found.usual == pytest.approx(sum(TONIGHT.values()), rel=0.25) and "4 nights of this weekday" in found.reason
    assert system_rate(DS, TONIGHT, quiet(28)) == []


@pytest.mark.parametrize(("seen", "word"), [(usual(3) * 6, "logged 960 times"), (usual(3) // 8, "logged 20 times")])
def test_a_rate_far_from_its_weekdays_is_told_with_what_is_usual(seen: int, word: str) -> None:
    (found,) = rates(DS, TONIGHT | {"t3": seen}, quiet(28))
    assert (found.kind, found.template_id, found.seen) == ("rate", "t3", seen)
    assert found.usual == pytest.approx(usual(3), rel=0.25)
    assert word in found.reason and "4 nights of this weekday" in found.reason


def test_one_wild_night_in_the_history_hides_nothing() -> None:
    history = quiet(28)
    history[days(1)[0]]["t3"] *= 1000
    history[days(1, step=7)[0]]["t3"] *= 1000
    assert [each.template_id for each in rates(DS, TONIGHT | {"t3": usual(3) * 6}, history)] == ["t3"]
    assert rates(DS, TONIGHT, history) == []


def test_what_is_logged_by_fits_and_starts_or_hardly_ever_has_no_rate() -> None:
    history = quiet(28)
    for number, night in enumerate(history):
        history[night] |= {"fits": 600 * (number % 3), "rare": 1}
    assert rates(DS, TONIGHT | {"fits": 1100, "rare": 12}, history) == []


def test_a_missing_heartbeat_is_told_and_a_template_that_comes_and_goes_is_not() -> None:
    history = quiet(10)
    for number, night in enumerate(history):
        history[night] |= {"beat": 24, "sometimes": 24 * (number % 2), "twice": 2}
    (found,) = silences(TONIGHT, history)
    assert (found.template_id, found.usual) == ("beat", 24.0) and "each of the last 7 nights" in found.reason
    assert silences(TONIGHT | {"beat": 1}, history) == []
    assert silences(TONIGHT, {}) == []


def test_a_silent_system_says_how_much_it_used_to_log() -> None:
    (found,) = silent_system({"2026-03-01": {"a": 5, "b": 5}, "2026-03-02": {"a": 20}, "2026-03-03": {"b": 30}})
    assert (found.template_id, found.usual) == ("", 20.0) and "20 records are usual" in found.reason


def test_a_template_is_new_on_its_first_night_alone() -> None:
    first = {"t0": DS, "t1": "2026-03-03"}
    assert [(each.template_id, each.seen) for each in new_templates({"t0": 3, "t1": 5}, first, DS)] == [("t0", 3)]
    assert new_templates({"t0": 3}, first, "2026-03-05") == []


@pytest.mark.parametrize(
    ("tonight", "before", "told"),
    [
        (40, lambda _: 1, True),
        (40, lambda _: 30, False),
        (9, lambda _: 0, False),
        (12, lambda _: 0, True),
        (40, lambda at: 200 * (at == 3), False),
    ],
)
def test_wordings_vary_more_than_they_used_to(tonight: int, before: Callable[[int], int], told: bool) -> None:
    nights = days(7)
    by_night = {night: before(at) for at, night in enumerate(nights)} | {"2025-01-01": 1, DS: tonight}
    found = variations(DS, {"t": by_night, "new": {DS: 50}}, nights)
    assert [each.template_id for each in found] == (["t"] if told else [])


def test_silences_come_first_and_the_strongest_of_a_kind() -> None:
    found = [Signal(kind, name, 1, 0, strength, "") for kind, name, strength in (("rate", "a", 5), ("rate", "b", 9), ("silence", "c", 1))]  # type: ignore[arg-type]
    assert [each.template_id for each in rank_signals(found)] == ["c", "b", "a"]


WEEK = [f"2026-03-0{day}" for day in range(1, 8)]
BEATS = {night: {"beat": 144, "other": 500} for night in WEEK}
LAST = {night: {"beat": 1435.0, "other": 1439.0} for night in WEEK}


def test_a_heartbeat_that_stops_in_the_night_is_reported_in_the_same_night() -> None:
    (found,) = stops({"beat": 54, "other": 500}, {"beat": 540.0, "other": 1439.0}, BEATS, LAST)
    assert (found.kind, found.template_id, found.seen, found.usual) == ("silence", "beat", 54.0, 144.0)
    assert found.reason == (
        "silent since 09:00 UTC: each of the last 7 nights logged it until 23:55 at least; tonight 54 times, where 144 are usual"
    )


@pytest.mark.parametrize(
    ("n", "minute", "before"),
    [
        (140, 1400.0, {}),  # it is only a little early
        (3, 540.0, {}),  # it was calm all night: a rate, no stop
        (54, 540.0, {"2026-03-03": {"beat": 700.0, "other": 1439.0}}),  # its last minute varies
        (54, 540.0, {"2026-03-03": {"other": 1439.0}}),  # not each night logs it
        (54, 540.0, {"2026-03-03": {}}),  # an earlier version of Nightlog parsed that night
    ],
)
def test_what_ends_early_by_habit_is_no_stop(n: int, minute: float, before: dict[str, dict[str, float]]) -> None:
    assert stops({"beat": n, "other": 500}, {"beat": minute, "other": 1439.0}, BEATS, LAST | before) == []


def test_a_system_that_stops_in_the_night_is_one_signal() -> None:
    (found,) = stops({"beat": 54, "other": 200}, {"beat": 540.0, "other": 545.0}, BEATS, LAST)
    assert (found.template_id, found.seen, found.usual) == ("", 254.0, 644.0)
    assert found.reason.startswith("the system is silent since 09:05 UTC")


def test_on_a_weekend_a_template_that_never_rests_is_no_news_even_the_first_time() -> None:
    """Most templates rest on weekends, so the night is calm as a whole; the heartbeat is as frequent as ever."""
    workdays = {night: {f"t{n}": 100 + n for n in range(12)} | {"beat": 144} for night in days(7)}
    saturday = {f"t{n}": 10 for n in range(12)} | {"beat": 144}
    assert [each.template_id for each in rates("2026-03-07", saturday, workdays)] == []


def test_a_rate_that_is_as_high_as_a_week_ago_is_no_news() -> None:
    history = {f"2026-02-{day}": {"report": 20} for day in range(20, 29)} | {"2026-02-25": {"report": 400}}
    assert rates("2026-03-04", {"report": 390}, history) == []
    assert [each.seen for each in rates("2026-03-05", {"report": 390}, history)] == [390]


def test_a_rare_template_that_varies_is_not_silent_but_a_regular_one_is() -> None:
    history = {night: {"regular": 4, "varies": 3 + number} for number, night in enumerate(days(7))}
    assert [each.template_id for each in silences({}, history)] == ["regular"]


GRADES = {"killed": 1.0, "lost": 0.6, "refused": 0.8, "fine": 0.0}


def outside(tonight: dict[str, int], history: dict[str, dict[str, int]], judged: frozenset[str] = frozenset()) -> list[str]:
    return [each.template_id for each in outside_sessions(tonight, judged, history, GRADES, {"killed": "fatal"})]


def test_trouble_that_no_judged_session_has_is_reported_from_the_first_night_on() -> None:
    tonight = {"killed": 1, "lost": 3, "refused": 2, "fine": 9}
    assert outside(tonight, {}) == ["killed", "refused"]
    assert outside(tonight, {"2026-03-03": {"fine": 9}}) == ["killed", "lost", "refused"]
    assert outside(tonight, {"2026-03-03": {"lost": 1, "refused": 1, "killed": 1}}) == ["killed"], "the gravest again"
    assert outside(tonight, {}, frozenset({"killed", "refused"})) == [], "its sessions are judged"
    habit = {night: {"killed": 1} for night in WEEK}
    assert outside({"killed": 1}, habit) == [], "each night has it"
    (found,) = outside_sessions({"killed": 1}, (), {"2026-03-03": {"killed": 2}}, GRADES, {"killed": "fatal"})
    assert found.reason == "in no judged session, level fatal: tonight 1 time, on 1 of 1 nights before"
