"""Incidents and evidence of the demo's nights, against the faults that were injected."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.feedback.store import record, suppression_row
from nightlog.lake.lake import Lake
from nightlog.lake.query import incidents
from nightlog.lake.tables import ANOMALIES, FINDINGS, INCIDENTS, NIGHTS
from nightlog.outcomes import Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog
from sample_night import DS, EARLIER, run_demo_nights

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from incidents import fault_nights, faults_of, ledger_of

pytestmark = pytest.mark.slow
ALL = (*EARLIER, DS)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    yield run_demo_nights(tmp_path_factory.mktemp("incidents") / "lake")


def test_most_faults_are_one_incident_and_no_incident_holds_two(demo: Lake) -> None:
    truth = {"dovecot": faults_of("dovecot")}
    rows = [row for ds in ALL for row in fault_nights(demo, ds, truth, ledger_of(demo, ds, truth))]
    found = [row for row in rows if row.n_found]
    assert len(found) >= 35
    assert sum(len(row.incidents) == 1 for row in found) >= 0.8 * len(found)
    places = [(row.ds, name) for row in found for name in row.incidents]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("words", ["killed with signal", "Corrupted transaction log file"])
def test_what_the_page_listed_twice_is_one_incident_each_night(words: str, demo: Lake) -> None:
    for ds in ALL:
        own = [row for row in incidents(demo, ds) if any(words in each["telling"][0]["template"] for each in row["findings"])]
        assert len(own) <= 1, ds


def test_the_first_line_of_a_killed_session_says_so(demo: Lake) -> None:
    rows = [row for ds in ALL for row in demo.rows(ANOMALIES, ds=ds) if "killed by a signal" in row["reason"]]
    assert len(rows) == 17
    for row in rows:
        assert "killed with signal" in row["lines"][0]["text"] and "killed with signal" in row["evidence"][0]["template"]
        assert row["noticed_at"] is not None


def test_the_findings_add_up_to_the_anomalies_and_know_their_nights(demo: Lake) -> None:
    for ds in ALL:
        rows = demo.rows(FINDINGS, ds=ds)
        assert sum(row["n_sessions"] for row in rows) == demo.rows(NIGHTS, ds=ds)[0]["n_anomalies"] == len(demo.rows(ANOMALIES, ds=ds))
        assert sorted(row["rank"] for row in rows) == list(range(1, len(rows) + 1))
        assert sum(len(row["finding_ids"]) for row in demo.rows(INCIDENTS, ds=ds)) == len(rows)
    last = demo.rows(FINDINGS, ds=DS)
    assert {row["is_new"] for row in demo.rows(FINDINGS, ds=ALL[0])} == {None}
    assert {row["is_new"] for row in demo.rows(FINDINGS, ds=ALL[1])} == {True, False}
    assert {row["n_nights"] for row in last if "signal <NUM>" in row["telling"][0]["template"]} == {3}


def test_a_suppression_changes_finding_and_incident_with_the_next_publication(demo: Lake) -> None:
    first = incidents(demo, DS)[0]
    assert first["status"] == "open"
    for finding in first["findings"]:
        record(demo, suppression_row("dovecot", "pattern", finding["pattern_id"], "2026-04-01", "kim", datetime(2026, 3, 5, tzinfo=UTC)))
    night = Night(DS, "again", [load_catalog()["dovecot"]], demo, Settings(llm="recorded", device="cpu"), lambda: datetime.now(UTC))
    for stage in Stage.PUBLISH.onwards:
        assert [outcome.outcome for outcome in night.run_stage(stage)] == ["done"]
    (same,) = [row for row in incidents(demo, DS) if row["incident_id"] == first["incident_id"]]
    assert same["status"] == "suppressed" and {each["status"] for each in same["findings"]} == {"suppressed"}
    assert same["rank"] == len(incidents(demo, DS)) and same["n_sessions"] == first["n_sessions"]
