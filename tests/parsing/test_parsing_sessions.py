"""Sessions and patterns: exact counts, look-back over midnight, and no influence of order."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from nightlog.parsing.messages import spark_hash
from nightlog.sessions.group import COUNTS, Assignment, group_sessions, merge_patterns, pattern_id, powers_of_two, question_id
from nightlog.sessions.waiting import settle_window
from nightlog.systems.spec import System
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

DAYS = ["2026-03-02", "2026-03-03", "2026-03-04"]
NOON = datetime(2026, 3, 4, 12)

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


# Messages 1 and 2 have templates of their own; 3 and 4 share one.
TEMPLATE = {1: "t-b", 2: "t-a", 3: "t-c", 4: "t-c"}
ASSIGNMENT = Assignment.of(TEMPLATE.items())


def as_counts(events: list[Event], night: str, look_back: int) -> pa.Table:
    """The events that a night looks at, each counted alone."""
    first = (datetime.fromisoformat(night) - timedelta(days=look_back)).date().isoformat()
    rows = [
        {"session_id": session, "message_id": message, "n": 1, "first_at": at, "last_at": at, "own": ds == night}
        for ds, session, at, message in events
        if session is not None and first <= ds <= night
    ]
    return pa.Table.from_pylist(rows, COUNTS)


def grouped(events: list[Event], nights: list[str], look_back: int = 1) -> Rows:
    found: Rows = {}
    for night in nights:
        grouped = group_sessions(as_counts(events, night, look_back), ASSIGNMENT)
        for row in grouped.judged.to_pylist():
            assert (night, row["session_id"]) not in found
            for name in ("started_at", "ended_at"):
                row[name] = row[name] and row[name].replace(tzinfo=None)
            found[night, row["session_id"]] = row | {"events": grouped.patterns[row["pattern_id"]].events}
    return found


@pytest.fixture(scope="module")
def night_rows() -> Rows:
    return grouped(happenings(), DAYS)


def counts(row: dict[str, Any]) -> dict[str, int]:
    return dict(row["events"])


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
        names = [name for name, _ in row["events"]]
        assert names == sorted(set(names))


def test_without_look_back_only_the_night_counts(night_rows: Rows) -> None:
    without = grouped(happenings(), DAYS, look_back=0)
    assert counts(without[DAYS[1], "over-midnight"]) == {"t-a": 4}
    assert without.keys() == night_rows.keys()


def test_the_order_of_events_and_counting_them_together_have_no_influence(night_rows: Rows) -> None:
    shuffled = random.Random(5).sample(happenings(), len(happenings()))
    assert grouped(shuffled, DAYS) == night_rows
    table = as_counts(happenings(), DAYS[2], 1)
    together = table.group_by(["session_id", "message_id", "own"]).aggregate([("n", "sum"), ("first_at", "min"), ("last_at", "max")])
    named = together.rename_columns({"n_sum": "n", "first_at_min": "first_at", "last_at_max": "last_at"}).select(COUNTS.names)
    one, other = group_sessions(table, ASSIGNMENT), group_sessions(named, ASSIGNMENT)
    assert one.judged.sort_by("session_id") == other.judged.sort_by("session_id")
    assert one.patterns == other.patterns


def test_counts_are_rounded_down_to_powers_of_two_exactly() -> None:
    repeated = [(DAYS[2], f"s-{n}", NOON, 1 if n % 2 else 4) for n in range(1, 71) for _ in range(n)]
    found = grouped(repeated, DAYS[2:])
    assert {n: counts(found[DAYS[2], f"s-{n}"]) for n in range(1, 71)} == {n: {"t-b" if n % 2 else "t-c": rounded(n)} for n in range(1, 71)}
    assert found[DAYS[2], "s-32"]["pattern_id"] == found[DAYS[2], "s-62"]["pattern_id"] != found[DAYS[2], "s-64"]["pattern_id"]


def test_counts_beyond_what_a_double_holds_are_rounded_exactly() -> None:
    edges = [2**40, 2**40 - 1, 2**40 + 1, 2**53 - 1, 2**53, 2**62 - 1, 2**62, 2**63 - 1]
    assert [1 << exponent for exponent in powers_of_two(np.array(edges)).tolist()] == [rounded(n) for n in edges]


def test_ids_are_what_spark_makes_of_the_same_values(spark: SparkSession) -> None:
    """Lakes hold ids that Spark computed."""
    events = (("t-a", 4), ("t-b", 1))
    row = (
        spark.range(1)
        .select(
            F.expr(
                "substring(sha2(to_json(array(named_struct('template_id', 't-a', 'count', 4L), "
                "named_struct('template_id', 't-b', 'count', 1L))), 256), 1, 16)"
            ).alias("pattern"),
            F.expr("substring(sha2(to_json(array('t-a', 't-b')), 256), 1, 16)").alias("question"),
            F.xxhash64(F.lit("größe <NUM>")).alias("message"),
        )
        .first()
    )
    assert row is not None
    assert (row["pattern"], row["question"], row["message"]) == (pattern_id(events), question_id(events, False), spark_hash("größe <NUM>"))


def test_patterns_count_their_sessions_and_show_the_first() -> None:
    found = group_sessions(as_counts(happenings(), DAYS[2], 1), ASSIGNMENT)
    sessions, patterns = found.judged, found.patterns
    members: dict[str, list[str]] = {}
    for row in sessions.to_pylist():
        members.setdefault(row["pattern_id"], []).append(row["session_id"])
    assert {name: (each.n_sessions, each.example_session_id) for name, each in patterns.items()} == {
        name: (len(found), min(found)) for name, found in members.items()
    }
    assert max(each.n_sessions for each in patterns.values()) == 3
    for name, each in patterns.items():
        assert question_id(each.events, counted=True) == name, "where counts tell something, each pattern is a question"


def test_groups_of_sessions_are_put_together() -> None:
    events = [event for event in happenings() if event[1] is not None]
    halves = [[event for event in events if hash(event[1]) % 2 == half] for half in range(2)]
    found = merge_patterns(group_sessions(as_counts(half, DAYS[2], 1), ASSIGNMENT).patterns for half in halves)
    assert found == group_sessions(as_counts(events, DAYS[2], 1), ASSIGNMENT).patterns


def test_where_counts_tell_nothing_a_question_is_a_set_of_templates() -> None:
    logged = {"a": (1, 1, 2), "b": (2, 1), "c": (2, 2, 2, 2, 1), "d": (1, 3), "e": (4, 1, 1), "f": (1,)}
    rows = grouped([(DAYS[1], session, NOON, message) for session, found in logged.items() for message in found], DAYS[1:2])
    asked = {session: question_id(row["events"], False) for (_, session), row in rows.items()}
    sets = {name: frozenset(TEMPLATE[number] for number in numbers) for name, numbers in logged.items()}
    assert all((asked[one] == asked[other]) == (sets[one] == sets[other]) for one in sets for other in sets)
    assert len(set(asked.values())) == 3 < len({row["pattern_id"] for row in rows.values()}) == 6


def test_no_counts_are_no_sessions() -> None:
    found = group_sessions(COUNTS.empty_table(), ASSIGNMENT)
    assert (len(found.judged), found.patterns, found.n_ids, found.n_outside) == (0, {}, 0, 0)


SYSTEM = {
    "name": "shop",
    "role": "target",
    "input": {"path": "shop-{ds}.log"},
    "header": {"pattern": r"(?P<time>\S+) (?P<message>.*)"},
    "session": {"kind": "id", "pattern": r"req-\d+"},
}


def nights_of(events: list[Event], timezone: str = "UTC") -> dict[str, list[str]]:
    """The nights on which each session is judged, if each night takes over what the one before left."""
    stamp = {"value": "{time}", "format": "yyyy-MM-dd HH:mm:ss", "timezone": timezone}
    system = System.model_validate(SYSTEM | {"timestamp": stamp})
    found: dict[str, list[str]] = {}
    due = pa.array([], pa.string())
    for night in DAYS:
        grouped = group_sessions(as_counts(events, night, 1), ASSIGNMENT, settle_window(system, night), due)
        assert grouped.n_ids == len(grouped.judged) + len(grouped.waiting)
        for row in grouped.judged.to_pylist():
            found.setdefault(row["session_id"], []).append(night)
        due = grouped.waiting.column("session_id").combine_chunks()
    return found


def test_what_begins_just_before_midnight_is_judged_once_and_whole_with_the_next_night() -> None:
    first, second, third = DAYS
    events: list[Event] = [
        (first, "cut", datetime(2026, 3, 2, 23, 55), 1),
        (second, "cut", datetime(2026, 3, 3, 0, 1), 2),
        (first, "done", datetime(2026, 3, 2, 23, 59, 59), 1),
        (first, "steady", datetime(2026, 3, 2, 20), 1),
        *[(day, "steady", datetime.fromisoformat(f"{day}T23:59"), 2) for day in DAYS[:2]],
        (second, "noon", datetime(2026, 3, 3, 12), 3),
        (first, "untimed", None, 1),
        (third, "ahead", datetime(2027, 3, 4, 23, 55), 1),
        (third, "after", datetime(2026, 3, 5, 0, 0), 1),
    ]
    assert nights_of(events) == {
        "cut": [second],
        "done": [second],
        "steady": [first, second],
        "noon": [second],
        "untimed": [first],
        "ahead": [third],
        "after": [third],
    }


def test_midnight_is_that_of_the_systems_time_zone() -> None:
    starts = {"late": datetime(2026, 3, 2, 22, 55), "early": datetime(2026, 3, 2, 20, 55)}
    events: list[Event] = [(DAYS[0], name, at, 1) for name, at in starts.items()]
    assert nights_of(events, "Europe/Berlin") == {"late": [DAYS[1]], "early": [DAYS[0]]}


def test_a_session_that_a_later_night_judged_on_the_same_events_is_unchanged_and_another_is_judged() -> None:
    events: list[Event] = [(DAYS[1], name, datetime(2026, 3, 3, 23, 55), 1) for name in ("same", "more")]
    window = (int(datetime(2026, 3, 3, 23, 50, tzinfo=UTC).timestamp() * 1e6), int(datetime(2026, 3, 4, tzinfo=UTC).timestamp() * 1e6))
    left = group_sessions(as_counts(events, DAYS[1], 1), ASSIGNMENT, window).waiting
    assert left.column("session_id").to_pylist() == ["same", "more"]
    events.append((DAYS[1], "more", datetime(2026, 3, 3, 23, 57), 2))
    found = group_sessions(as_counts(events, DAYS[1], 1), ASSIGNMENT, None, None, {DAYS[2]: left}, DAYS[1])
    assert [(row["session_id"], row["judged_ds"]) for row in found.unchanged.to_pylist()] == [("same", DAYS[2])]
    assert found.judged.column("session_id").to_pylist() == ["more"]
    assert (found.n_ids, found.n_outside, len(found.waiting)) == (2, 0, 0)


def test_a_session_whose_messages_have_no_template_is_outside_of_every_rule() -> None:
    events: list[Event] = [(DAYS[1], "known", NOON, 1), (DAYS[1], "unknown", NOON, 99), (DAYS[0], "gone", NOON, 99)]
    found = group_sessions(as_counts(events, DAYS[1], 1), ASSIGNMENT)
    assert (found.judged.column("session_id").to_pylist(), found.n_ids, found.n_outside) == (["known"], 2, 1)


def test_sessions_with_events_of_earlier_days_are_named() -> None:
    found = group_sessions(as_counts(happenings(), DAYS[1], 1), ASSIGNMENT)
    assert sorted(found.again.to_pylist()) == ["long", "over-midnight"]
