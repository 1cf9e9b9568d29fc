"""Each expectation fails on what breaks it, names the rows, and is as severe as it should be; clean data passes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from nightlog.errors import EXIT_GATE, GateFailed
from nightlog.quality.gates import anomaly_expectations, check, night_expectations
from nightlog.reporting.publish import check_counts, stop_on_critical

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def clean(n: int = 4) -> pd.DataFrame:
    """Rows as they would be published, in the shape that the gate sees."""
    row = {
        "ds": DS,
        "system": "app",
        "started_at": NOON,
        "ended_at": NOON,
        "n_events": 3,
        "score": 0.7,
        "decided_by": "llm",
        "route": "proprietary",
        "status": "open",
        "reason": "because",
        "pattern_id": "p",
        "run_id": "r",
        "n_lines": 3,
        "n_evidence": 2,
    }
    return pd.DataFrame([row | {"session_id": f"s{i}"} for i in range(n)])


def broken(column: str, value: Any, row: int = 2) -> pd.DataFrame:
    frame = clean().astype({column: object})
    frame.at[row, column] = value
    return frame


def test_clean_rows_pass() -> None:
    ended_later = clean().assign(ended_at=NOON.replace(hour=13))
    edges = clean().assign(score=[0.0, 1.0, 0.5, 0.5], decided_by=["llm", "small_model", "feedback", "llm"])
    untimed = clean().assign(started_at=pd.NaT, ended_at=pd.NaT)
    for frame in (clean(), ended_later, edges, untimed, clean(1)):
        assert check(frame, anomaly_expectations(DS, "app")) == []


CRITICAL = [
    *((column, None) for column in ("session_id", "pattern_id", "n_events", "score", "decided_by", "route", "status", "reason", "run_id")),
    ("session_id", "s0"),
    ("ds", "2026-03-05"),
    ("system", "web"),
    ("score", 1.2),
    ("score", -0.1),
    ("decided_by", "nobody"),
    ("route", "unknown"),
    ("status", "closed"),
    ("n_lines", 0),
    ("n_lines", None),
]


@pytest.mark.parametrize(("column", "value"), CRITICAL)
def test_what_must_not_be_published_is_critical_and_named(column: str, value: Any) -> None:
    breaches = check(broken(column, value), anomaly_expectations(DS, "app"))
    assert breaches and {found.severity for found in breaches} == {"critical"}
    assert all(column in found.text for found in breaches)
    assert all(2 in found.rows for found in breaches)
    with pytest.raises(GateFailed) as caught:
        stop_on_critical("app", DS, breaches, "Look there")
    assert caught.value.exit_code == EXIT_GATE
    for word in ("app", DS, column, "Look there"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("column", "value"), [("n_evidence", 0), ("ended_at", NOON.replace(hour=11))])
def test_what_may_be_published_with_a_warning_is_one(column: str, value: Any) -> None:
    breaches = check(broken(column, value), anomaly_expectations(DS, "app"))
    assert [found.severity for found in breaches] == ["warning"]
    assert breaches[0].rows == (2,)
    assert stop_on_critical("app", DS, breaches, "Look there") == breaches


def test_critical_breaches_come_first_and_all_are_told() -> None:
    frame = clean().assign(n_evidence=[0, 1, 1, 1], score=[0.5, 7.0, 0.5, 0.5], route=["x", "general", "general", "general"])
    breaches = check(frame, anomaly_expectations(DS, "app"))
    assert [found.severity for found in breaches] == ["critical", "critical", "warning"]
    assert {found.rows for found in breaches} == {(0,), (1,)}
    assert "got 7.0" in " ".join(found.text for found in breaches)


def test_rows_are_named_by_their_place_whatever_the_index() -> None:
    frame = broken("score", 7.0).set_index(pd.Index([10, 20, 30, 40]))
    assert [found.rows for found in check(frame, anomaly_expectations(DS, "app"))] == [(2,)]


# The gate behind parsing


def counts(**changed: int) -> dict[str, int]:
    return {"n_lines": 110, "n_blank": 10, "n_unparsed": 0, "n_replaced": 0, "n_without_session": 0} | changed


@pytest.mark.parametrize("n", [0, 1, 20])
def test_up_to_a_fifth_of_the_lines_may_be_unparsed(n: int) -> None:
    assert check_counts("app", DS, counts(n_unparsed=n)) == []


@pytest.mark.parametrize("n", [21, 100])
def test_more_than_a_fifth_of_unparsed_lines_stops_the_system(n: int) -> None:
    with pytest.raises(GateFailed) as caught:
        check_counts("app", DS, counts(n_unparsed=n))
    assert f"{n} of 100 lines do not match" in str(caught.value)
    assert "ops.quarantine" in str(caught.value)


def test_replaced_bytes_and_lines_without_session_only_warn() -> None:
    found = check_counts("app", DS, counts(n_replaced=21, n_without_session=91))
    assert [each.severity for each in found] == ["warning", "warning"]
    assert {word for word in ("replaced_share", "without_session_share") for each in found if word in each.text} == {
        "replaced_share",
        "without_session_share",
    }
    assert check_counts("app", DS, counts(n_replaced=20, n_without_session=90)) == []


def test_an_empty_night_and_a_night_of_blank_lines_pass() -> None:
    assert check_counts("app", DS, counts(n_lines=0, n_blank=0)) == []
    assert check_counts("app", DS, counts(n_lines=10, n_blank=10)) == []


def test_every_expectation_of_a_night_can_fail() -> None:
    worst = pd.DataFrame([{"unparsed_share": 1.0, "replaced_share": 1.0, "without_session_share": 1.0}])
    best = pd.DataFrame([{"unparsed_share": 0.0, "replaced_share": 0.0, "without_session_share": 0.0}])
    assert len(check(worst, night_expectations())) == len(night_expectations())
    assert check(best, night_expectations()) == []
