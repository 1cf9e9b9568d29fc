"""Sessions and patterns: exact counts, look-back over midnight, and no influence of order."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from nightlog.parsing.sessions import for_nights, group_patterns, group_sessions, power_of_two
from pyspark.sql import DataFrame, SparkSession

DAYS = ["2026-03-02", "2026-03-03", "2026-03-04"]
NOON = datetime(2026, 3, 4, 12)
EVENTS = "ds string, session_id string, at timestamp, message_id long"

Event = tuple[str, str | None, datetime | None, int]
Rows = dict[tuple[str, str], dict[str, Any]]


def rounded(n: int) -> int:
    return 1 << (n.bit_length() - 1)


def happenings() -> list[Event]:
    """Three days: sessions of one day, of two, of three, of none, with repeated and untimed events."""
    first, second, third = DAYS
    events: list[Event] = []
    events += [(first, "over-midnight", datetime(2026, 3, 2, 23, 59, 58) + timedelta(seconds=n), 1) for n in range(2)]
    events += [(second, "over-midnight", datetime(2026, 3, 3, 0, 0, n), 2) for n in range(5)]
    events += [(day, "long", datetime.fromisoformat(day), 1) for day in DAYS]
    events += [(first, "gone", datetime(2026, 3, 2, 8), 3)]
    events += [(third, f"same-{n}", NOON + timedelta(minutes=n), m) for n in range(3) for m in (1, 2, 2, 3)]
    events += [(third, "untimed", None, 1), (third, "untimed", None, 2)]
    events += [(third, "part-timed", None, 1), (third, "part-timed", NOON, 1)]
    events += [(third, None, NOON, 1), (third, None, None, 2)]
    return events


@pytest.fixture(scope="module")
def messages(spark: SparkSession) -> DataFrame:
    """Messages 1 and 2 have templates of their own; 3 and 4 share one."""
    return spark.createDataFrame([(1, "t-b"), (2, "t-a"), (3, "t-c"), (4, "t-c")], "message_id long, template_id string")


def grouped(spark: SparkSession, messages: DataFrame, events: list[Event], nights: list[str], look_back: int = 1) -> Rows:
    placed = for_nights(spark.createDataFrame(events, EVENTS).repartition(3), nights, look_back)
    rows = group_sessions(placed, messages).collect()
    assert len({(row["ds"], row["session_id"]) for row in rows}) == len(rows)
    return {(row["ds"], row["session_id"]): row.asDict(recursive=True) for row in rows}


@pytest.fixture(scope="module")
def night_rows(spark: SparkSession, messages: DataFrame) -> Rows:
    return grouped(spark, messages, happenings(), DAYS)


def counts(row: dict[str, Any]) -> dict[str, int]:
    return {event["template_id"]: event["count"] for event in row["events"]}


def test_a_session_over_midnight_is_whole_on_the_second_night_and_on_both_nights(night_rows: Rows) -> None:
    evening, morning = night_rows[DAYS[0], "over-midnight"], night_rows[DAYS[1], "over-midnight"]
    assert (counts(evening), evening["n_events"]) == ({"t-b": 2}, 2)
    assert (counts(morning), morning["n_events"]) == ({"t-b": 2, "t-a": 4}, 7)
    assert (morning["started_at"], morning["ended_at"]) == (datetime(2026, 3, 2, 23, 59, 58), datetime(2026, 3, 3, 0, 0, 4))
    assert (DAYS[2], "over-midnight") not in night_rows


def test_only_the_look_back_days_count(night_rows: Rows) -> None:
    assert [counts(night_rows[day, "long"]) for day in DAYS] == [{"t-b": 1}, {"t-b": 2}, {"t-b": 2}]


def test_a_session_without_events_of_the_night_is_not_there(night_rows: Rows) -> None:
    assert [ds for ds, session in night_rows if session == "gone"] == [DAYS[0]]


def test_events_without_a_session_found_none(night_rows: Rows) -> None:
    assert {session for ds, session in night_rows if ds == DAYS[2]} == {"long", "same-0", "same-1", "same-2", "untimed", "part-timed"}


def test_events_without_time_count_and_leave_times_to_the_others(night_rows: Rows) -> None:
    untimed, part = night_rows[DAYS[2], "untimed"], night_rows[DAYS[2], "part-timed"]
    assert (untimed["n_events"], untimed["started_at"], untimed["ended_at"]) == (2, None, None)
    assert (part["n_events"], part["started_at"], part["ended_at"]) == (2, NOON, NOON)


def test_a_pattern_is_named_by_its_templates_alone(night_rows: Rows) -> None:
    assert len({night_rows[DAYS[2], f"same-{n}"]["pattern_id"] for n in range(3)}) == 1
    by_pattern: dict[str, set[str]] = {}
    for row in night_rows.values():
        by_pattern.setdefault(row["pattern_id"], set()).add(json.dumps(row["events"]))
    assert all(len(contents) == 1 for contents in by_pattern.values())
    assert len(by_pattern) == len(set().union(*by_pattern.values()))
    for row in night_rows.values():
        names = [event["template_id"] for event in row["events"]]
        assert names == sorted(set(names))


def test_several_nights_in_one_go_are_what_they_are_one_by_one(spark: SparkSession, messages: DataFrame, night_rows: Rows) -> None:
    ds = DAYS[2]
    alone = grouped(spark, messages, [event for event in happenings() if event[0] in DAYS[1:]], [ds])
    assert alone == {key: row for key, row in night_rows.items() if key[0] == ds}
    without = grouped(spark, messages, happenings(), DAYS, look_back=0)
    assert counts(without[DAYS[1], "over-midnight"]) == {"t-a": 4}
    assert without.keys() == night_rows.keys()


def test_the_order_of_events_has_no_influence(spark: SparkSession, messages: DataFrame, night_rows: Rows) -> None:
    shuffled = random.Random(5).sample(happenings(), len(happenings()))
    assert grouped(spark, messages, shuffled, DAYS) == night_rows


def test_counts_are_rounded_down_to_powers_of_two_exactly(spark: SparkSession, messages: DataFrame) -> None:
    repeated = [(DAYS[2], f"s-{n}", NOON, 1 if n % 2 else 4) for n in range(1, 71) for _ in range(n)]
    found = grouped(spark, messages, repeated, DAYS[2:])
    assert {n: counts(found[DAYS[2], f"s-{n}"]) for n in range(1, 71)} == {n: {"t-b" if n % 2 else "t-c": rounded(n)} for n in range(1, 71)}
    assert found[DAYS[2], "s-32"]["pattern_id"] == found[DAYS[2], "s-62"]["pattern_id"] != found[DAYS[2], "s-64"]["pattern_id"]


def test_counts_beyond_what_a_double_holds_are_rounded_exactly(spark: SparkSession) -> None:
    edges = [2**40, 2**40 - 1, 2**40 + 1, 2**53 - 1, 2**53, 2**62 - 1, 2**62, 2**63 - 1]
    rows = spark.createDataFrame([(n,) for n in edges], "n long").select("n", power_of_two("n").alias("r"))
    assert {row["n"]: row["r"] for row in rows.collect()} == {n: rounded(n) for n in edges}


def test_patterns_count_their_sessions_and_show_the_first(spark: SparkSession, messages: DataFrame) -> None:
    placed = for_nights(spark.createDataFrame(happenings(), EVENTS), DAYS, 1)
    sessions = group_sessions(placed, messages).cache()
    patterns = {(row["ds"], row["pattern_id"]): row for row in group_patterns(sessions, counted=True).collect()}
    found = sessions.collect()
    assert len(patterns) == len({(row["ds"], row["pattern_id"]) for row in found})
    for (ds, pattern_id), row in patterns.items():
        members = sorted(each["session_id"] for each in found if (each["ds"], each["pattern_id"]) == (ds, pattern_id))
        assert (row["n_sessions"], row["example_session_id"]) == (len(members), members[0])
        assert row["question_id"] == pattern_id, "where counts tell something, each pattern is a question"
    assert max(row["n_sessions"] for row in patterns.values()) == 3
    sessions.unpersist()


def test_where_counts_tell_nothing_a_question_is_a_set_of_templates(spark: SparkSession, messages: DataFrame) -> None:
    """Messages 1 and 2 have templates of their own; 3 and 4 share one."""
    logged = {"a": (1, 1, 2), "b": (2, 1), "c": (2, 2, 2, 2, 1), "d": (1, 3), "e": (4, 1, 1), "f": (1,)}
    events = [(day, session, NOON, message) for day in DAYS[1:] for session, found in logged.items() for message in found]

    def asked(events: list[Event], counted: bool) -> dict[tuple[str, str], str]:
        placed = for_nights(spark.createDataFrame(events, EVENTS).repartition(3), DAYS[1:], 0)
        sessions = group_sessions(placed, messages).cache()
        questions = {(row["ds"], row["pattern_id"]): row["question_id"] for row in group_patterns(sessions, counted).collect()}
        found = {(row["ds"], row["session_id"]): questions[row["ds"], row["pattern_id"]] for row in sessions.collect()}
        sessions.unpersist()
        return found

    found = asked(events, counted=False)
    sets = {name: {messages_template(number) for number in numbers} for name, numbers in logged.items()}
    for (one_day, one), question in found.items():
        for (_, other), same in found.items():
            assert (question == same) == (sets[one] == sets[other]), (one_day, one, other)
    assert asked(random.Random(3).sample(events, len(events)), counted=False) == found
    assert len(set(found.values())) == 3 < len(set(asked(events, counted=True).values())) == 6


def messages_template(number: int) -> str:
    return {1: "t-b", 2: "t-a", 3: "t-c", 4: "t-c"}[number]


def test_what_begins_just_before_midnight_is_judged_once_and_whole_with_the_next_night(spark: SparkSession, messages: DataFrame) -> None:
    first, second, _ = DAYS
    events: list[Event] = [
        (first, "cut", datetime(2026, 3, 2, 23, 55), 1),
        (second, "cut", datetime(2026, 3, 3, 0, 1), 2),
        (first, "done", datetime(2026, 3, 2, 23, 59, 59), 1),
        (first, "steady", datetime(2026, 3, 2, 20), 1),
        *[(day, "steady", datetime.fromisoformat(f"{day}T23:59"), 2) for day in DAYS],
        (second, "noon", datetime(2026, 3, 3, 12), 3),
        (first, "untimed", None, 1),
    ]
    placed = for_nights(spark.createDataFrame(events, EVENTS), DAYS, 1)
    rows = group_sessions(placed, messages, settle_minutes=10).collect()

    nights: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row["ds"]):
        nights.setdefault(row["session_id"], []).append(row["ds"])
    assert nights == {"cut": [second], "done": [second], "steady": DAYS, "noon": [second], "untimed": [first]}
    assert {row["session_id"]: row["n_events"] for row in rows if row["ds"] == second} == {"cut": 2, "done": 1, "steady": 3, "noon": 1}


def test_midnight_is_that_of_the_systems_time_zone(spark: SparkSession, messages: DataFrame) -> None:
    events: list[Event] = [
        (DAYS[0], name, at, 1) for name, at in (("late", datetime(2026, 3, 2, 22, 55)), ("utc", datetime(2026, 3, 2, 20, 55)))
    ]
    placed = for_nights(spark.createDataFrame(events, EVENTS), DAYS[:2], 1)
    rows = group_sessions(placed, messages, settle_minutes=10, timezone="Europe/Berlin").collect()
    assert {(row["ds"], row["session_id"]) for row in rows} == {(DAYS[1], "late"), (DAYS[0], "utc")}
