"""Each expectation fails on what breaks it, names the rows, and is as severe as it should be; clean data passes."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from nightlog.errors import GateFailed
from nightlog.lake.lake import Lake
from nightlog.lake.parts import schema_of
from nightlog.lake.tables import ANOMALIES
from nightlog.outcomes import EXIT_GATE
from nightlog.quality.approvals import Past, check_parsed
from nightlog.quality.gates import ACCOUNTED, JUDGED, check_slice, check_sums, count_sessions, judged_sums, session_sums, stop_on_critical
from nightlog.systems.spec import Gates, Input, Session, System, Timestamp

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def bare(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def clean(n: int = 4, **changed: list[Any]) -> pa.Table:
    """Rows as they would be published; `changed`: the values of a column."""
    row = {
        "started_at": NOON,
        "ended_at": NOON,
        "n_events": 3,
        "score": 0.7,
        "decided_by": "llm",
        "route": "proprietary",
        "status": "open",
        "reason": "because",
        "evidence": [{"template": "t"}],
        "lines": [{"text": "line"}] * 3,
        "pattern_id": "p",
        "run_id": "r",
    }
    rows = [row | {"session_id": f"s{i}"} for i in range(n)]
    for name, values in changed.items():
        rows = [row | {name: value} for row, value in zip(rows, values, strict=True)]
    return pa.Table.from_pylist(rows, schema_of(ANOMALIES))


def broken(column: str, value: Any, row: int = 2) -> pa.Table:
    values = clean().column(column).to_pylist()
    return clean(**{column: [*values[:row], value, *values[row + 1 :]]})


def test_clean_rows_pass() -> None:
    ended_later = clean(ended_at=[NOON.replace(hour=13)] * 4)
    edges = clean(score=[0.0, 1.0, 0.5, 0.5], decided_by=["llm", "small_model", "feedback", "llm"])
    untimed = clean(started_at=[None] * 4, ended_at=[None] * 4)
    for rows in (clean(), ended_later, edges, untimed, clean(1), clean(0)):
        assert check_slice(ANOMALIES, rows) == []


CRITICAL = [
    *((column, None) for column in ("session_id", "pattern_id", "n_events", "score", "decided_by", "route", "status", "reason", "run_id")),
    ("session_id", "s0"),
    ("score", 1.2),
    ("score", -0.1),
    ("decided_by", "nobody"),
    ("route", "unknown"),
    ("status", "closed"),
    ("lines", []),
    ("lines", None),
]


@pytest.mark.parametrize(("column", "value"), CRITICAL)
def test_what_must_not_be_published_is_critical_and_named(column: str, value: Any) -> None:
    breaches = check_slice(ANOMALIES, broken(column, value))
    assert breaches and {found.severity for found in breaches} == {"critical"}
    assert all(column in found.text for found in breaches)
    assert all(2 in found.rows for found in breaches)
    with pytest.raises(GateFailed) as caught:
        stop_on_critical("app", DS, breaches, "Look there")
    assert caught.value.exit_code == EXIT_GATE
    for word in ("app", DS, column, "Look there"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("column", "value"), [("evidence", []), ("ended_at", NOON.replace(hour=11))])
def test_what_may_be_published_with_a_warning_is_one(column: str, value: Any) -> None:
    breaches = check_slice(ANOMALIES, broken(column, value))
    assert [found.severity for found in breaches] == ["warning"]
    assert breaches[0].rows == (2,)
    assert stop_on_critical("app", DS, breaches, "Look there") == breaches


def test_critical_breaches_come_first_and_all_are_reported() -> None:
    evidence = [[], *([{"template": "t"}] for _ in range(3))]
    rows = clean(evidence=evidence, score=[0.5, 7.0, 0.5, 0.5], route=["x", "general", "general", "general"])
    breaches = check_slice(ANOMALIES, rows)
    assert [found.severity for found in breaches] == ["critical", "critical", "warning"]
    assert {found.rows for found in breaches} == {(0,), (1,)}
    assert "got 7.0" in " ".join(found.text for found in breaches)


# What a night is decided by


def judged(**changed: Any) -> dict[str, int]:
    """Sums of a sound night of two patterns and three sessions, with one of its tables changed."""
    sessions = pa.table(
        {
            "session_id": ["s1", "s2", "s3"],
            "pattern_id": ["p1", "p1", "p2"],
            "started_at": pa.array([NOON, NOON, None], pa.timestamp("us", "UTC")),
            "ended_at": pa.array([NOON, NOON, None], pa.timestamp("us", "UTC")),
            "n_events": pa.array([1, 2, 3], pa.int64()),
        }
    )
    given: dict[str, Any] = {
        "sessions": sessions,
        "patterns": [{"pattern_id": "p1", "n_sessions": 2}, {"pattern_id": "p2", "n_sessions": 1}],
        "routes": [{"pattern_id": name, "route": "general", "similarity": 1.0} for name in ("p1", "p2")],
        "scores": [{"pattern_id": name, "probability": 0.0} for name in ("p1", "p2")],
    }
    for name, change in changed.items():
        given[name] = change(given[name])
    return judged_sums(count_sessions(given["sessions"]), given["patterns"], given["routes"], given["scores"])


def with_column(name: str, values: list[Any]) -> Any:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, pa.array(values, table.schema.field(name).type))


EARLY = datetime(2026, 3, 4, 11, tzinfo=UTC)
BREAKS: dict[str, dict[str, Any]] = {
    "sessions_repeated": {"sessions": with_column("session_id", ["s1", "s1", "s3"])},
    "sessions_without_pattern": {"sessions": with_column("pattern_id", ["p1", "p1", "gone"])},
    "sessions_without_events": {"sessions": with_column("n_events", [1, 0, None])},
    "sessions_that_end_before_they_start": {"sessions": with_column("ended_at", [NOON, EARLY, None])},
    "patterns_repeated": {"patterns": lambda rows: [*rows, rows[0]]},
    "patterns_of_no_session": {"patterns": lambda rows: [rows[0], rows[1] | {"n_sessions": 0}]},
    "patterns_without_one_route": {"routes": lambda rows: rows[:1]},
    "patterns_without_one_score": {"scores": lambda rows: [*rows, rows[0]]},
    "routes_unknown": {"routes": lambda rows: [rows[0], rows[1] | {"route": "elsewhere"}]},
    "similarities_outside_-1_to_1": {"routes": lambda rows: [rows[0], rows[1] | {"similarity": 1.5}]},
    "probabilities_outside_0_to_1": {"scores": lambda rows: [rows[0], rows[1] | {"probability": math.nan}]},
}


def test_sessions_that_no_account_holds_are_counted() -> None:
    counts = {"n_ids": 10, "n_waiting": 2, "n_unchanged": 1, "n_outside": 1}
    assert set(session_sums(counts, 6, 3).values()) == {0}
    assert session_sums(counts, 5, 3) == {"sessions_unaccounted_for": 1, "sessions_left_but_not_listed": 0}
    assert session_sums(counts, 6, 1) == {"sessions_unaccounted_for": 0, "sessions_left_but_not_listed": 1}
    assert session_sums({"n_sessions": 6}, 6, 0) == {}, "a night that an earlier version parsed has no account"
    (breach,) = check_sums(session_sums(counts, 5, 3), ACCOUNTED)
    assert breach.severity == "critical"


def test_each_break_of_a_silver_table_is_counted_and_as_severe_as_it_should_be() -> None:
    assert BREAKS.keys() == JUDGED.keys()
    assert check_sums(judged(), JUDGED) == []
    for name, change in BREAKS.items():
        sums = judged(**change)
        assert {other for other, n in sums.items() if n} == {name}
    worst = check_sums(dict.fromkeys(JUDGED, 1), JUDGED)
    found = {name: each.severity for each in worst for name in JUDGED if each.text.startswith(f"{name}: ")}
    assert found == JUDGED


def test_a_night_without_sessions_is_sound() -> None:
    empty = judged(sessions=lambda table: table.slice(0, 0), patterns=lambda _: [], routes=lambda _: [], scores=lambda _: [])
    assert set(empty.values()) == {0}


# The gate behind parsing

APP = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"))
FIRST = Past({}, {})


def counts(**changed: int) -> dict[str, int]:
    found = {"n_lines": 110, "n_blank": 10, "n_unparsed": 0, "n_replaced": 0, "n_without_session": 0} | changed
    return {"n_parsed": found["n_lines"] - found["n_blank"] - found["n_unparsed"]} | found


@pytest.mark.parametrize("n", [0, 1, 20])
def test_up_to_a_fifth_of_the_lines_may_be_unparsed(bare: Lake, n: int) -> None:
    assert check_parsed(bare, APP, DS, counts(n_unparsed=n), FIRST) == []


def test_more_unparsed_lines_than_the_system_allows_hold_it_back(bare: Lake) -> None:
    strict = APP.model_copy(update={"gates": Gates(unparsed_share=0.1)})
    for system, n in ((APP, 21), (APP, 100), (strict, 11)):
        with pytest.raises(GateFailed) as caught:
            check_parsed(bare, system, DS, counts(n_unparsed=n), FIRST)
        assert f"{n} of 100 lines do not match" in str(caught.value)
        assert "ops.quarantine" in str(caught.value) and f"nightlog approve --ds {DS} --system app" in str(caught.value)
        assert caught.value.counts["n_unparsed"] == n, "approving goes on from here"


def test_each_line_that_was_read_has_its_place_in_the_account(bare: Lake) -> None:
    assert check_parsed(bare, APP, DS, counts(n_parsed=90, n_continuation=10), FIRST) == []
    for wrong in (counts(n_parsed=99), counts(n_parsed=101), counts(n_continuation=1)):
        with pytest.raises(GateFailed, match="app 2026-03-04: 110 lines were read, expected the sum of parsed"):
            check_parsed(bare, APP, DS, wrong, FIRST)


def test_lines_that_a_record_swallowed_are_told_and_beyond_the_limit_hold_the_night_back(bare: Lake) -> None:
    told = "lines were joined to the record before them but do not look like its continuation"
    (warning,) = check_parsed(bare, APP, DS, counts(n_parsed=80, n_continuation=20, n_swallowed=20), FIRST)
    assert warning == f"20 of 100 {told}"
    with pytest.raises(GateFailed, match=rf"21 of 100 {told}, more than gates\.swallowed_share = 0\.2"):
        check_parsed(bare, APP, DS, counts(n_parsed=79, n_continuation=21, n_swallowed=21), FIRST)


def test_replaced_bytes_and_lines_without_session_or_time_only_warn(bare: Lake) -> None:
    timed = APP.model_copy(update={"timestamp": Timestamp(value="{ds}", format="yyyy-MM-dd")})
    found = check_parsed(bare, timed, DS, counts(n_replaced=21, n_without_session=91, n_untimed=21), FIRST)
    assert {word for word in ("replaced_share", "without_session_share", "untimed_share") for each in found if word in each} == {
        "replaced_share",
        "without_session_share",
        "untimed_share",
    }
    assert check_parsed(bare, timed, DS, counts(n_replaced=20, n_without_session=90, n_untimed=20), FIRST) == []
    assert check_parsed(bare, APP, DS, counts(n_untimed=100), FIRST) == [], "a system without time stamps has none to read"


def test_an_empty_night_and_a_night_of_blank_lines_pass(bare: Lake) -> None:
    assert check_parsed(bare, APP, DS, counts(n_lines=0, n_blank=0), FIRST) == []
    assert check_parsed(bare, APP, DS, counts(n_lines=10, n_blank=10), FIRST) == []
