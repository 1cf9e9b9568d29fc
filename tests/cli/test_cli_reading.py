"""Nights that were never run, held back, failed, incomplete or unknown: every reading command says so, and does not end with 0."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, NIGHTS, OUTCOMES, PATTERNS, SESSIONS, SIGNALS

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
# The night of each outcome, of the system `shop`; `mail` was done on the first.
NIGHT_OF = {
    "done": "2026-03-01",
    "incomplete": "2026-03-02",
    "gated": "2026-03-03",
    "failed": "2026-03-04",
    "transient": "2026-03-05",
    "no_input": "2026-03-06",
    "never": "2026-03-07",
}
CODES = {"done": 0, "incomplete": 40, "gated": 10, "failed": 30, "transient": 20, "no_input": 4, "never": 4}
WORDS = {"done": "", "no_input": "no input", "never": "was never run", "transient": "run it again"}
Call = Callable[..., Result]


def put(lake: Lake, system: str, ds: str, outcome: str, run_id: str = "r", **more: Any) -> None:
    """A night with one session, published where the outcome says so."""
    place = {"system": system, "ds": ds}
    lake.replace(NIGHTS, [place | {"outcome": outcome, "detail": f"why {outcome}", "run_id": run_id} | more], **place)
    stage = place | {"run_id": run_id, "counts": {"n_anomalies": 1}}
    lake.append(OUTCOMES, [stage | {"stage": "publish", "outcome": outcome, "at": NOON}])
    if outcome in ("done", "incomplete"):
        lake.append(OUTCOMES, [stage | {"stage": "report", "outcome": "done", "at": NOON + timedelta(minutes=1)}])
    if outcome in ("done", "incomplete"):
        pattern = {"pattern_id": "p", "question_id": "p", "n_sessions": 1, "events": []}
        found = {"session_id": "s1", "pattern_id": "p", "score": 0.9, "status": "open", "decided_by": "llm", "reason": "lost"}
        lake.replace(PATTERNS, [place | pattern], **place)
        lake.replace(SESSIONS, [place | {"session_id": "s1", "pattern_id": "p", "n_events": 1}], **place)
        lake.replace(ANOMALIES, [place | found | {"evidence": [], "lines": [], "versions": {"prompt": "x"}}], **place)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    lake = Lake(tmp_path / "lake")
    for outcome, ds in NIGHT_OF.items():
        if outcome != "never":
            put(lake, "shop", ds, outcome)
    put(lake, "mail", NIGHT_OF["done"], "done")
    monkeypatch.setenv("NIGHTLOG_LAKE", lake.root)
    monkeypatch.setenv("COLUMNS", "200")
    return lake


@pytest.fixture
def call(lake: Lake, run_command: Call) -> Call:
    return run_command


@pytest.mark.parametrize("outcome", NIGHT_OF)
@pytest.mark.parametrize("command", ["anomalies", "signals", "report"])
def test_a_command_that_reads_a_night_ends_with_the_nights_code(command: str, outcome: str, call: Call) -> None:
    done = call(command, "--ds", NIGHT_OF[outcome])
    assert done.exit_code == CODES[outcome]
    assert WORDS.get(outcome, outcome) in done.stderr
    assert f"why {outcome}" in done.stderr or outcome in ("done", "never")
    assert "nothing on" not in done.stdout or outcome == "done", "calm is only said of a night that was published and is complete"


@pytest.mark.parametrize("outcome", NIGHT_OF)
def test_programs_get_rows_and_the_exit_code(outcome: str, call: Call) -> None:
    done = call("anomalies", "--ds", NIGHT_OF[outcome], "--system", "shop", "--format", "json")
    rows = json.loads(done.stdout)
    assert (len(rows), done.exit_code) == (1 if outcome in ("done", "incomplete") else 0, CODES[outcome])
    table = call("anomalies", "--ds", NIGHT_OF[outcome], "--system", "shop", "--format", "csv")
    assert len(list(csv.DictReader(io.StringIO(table.stdout)))) == len(rows)
    assert table.stdout.splitlines()[0] == ",".join(ANOMALIES.names), "an empty answer has its header"


@pytest.mark.parametrize("outcome", [name for name in NIGHT_OF if name != "done"])
def test_nights_are_compared_if_both_are_there(outcome: str, call: Call) -> None:
    for nights in ((NIGHT_OF["done"], NIGHT_OF[outcome]), (NIGHT_OF[outcome], NIGHT_OF["done"])):
        done = call("compare", *nights, "--system", "shop")
        assert done.exit_code == CODES[outcome] and WORDS.get(outcome, outcome) in done.stderr
        assert ("nothing is new" in done.stdout) == (outcome == "incomplete")
        assert json.loads(call("compare", *nights, "--system", "shop", "--format", "json").stdout) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("anomalies", "--system", "shpo"),
        ("anomalies", "--ds", "2026-03-01", "--system", "shpo"),
        ("signals", "--ds", "2026-03-01", "--system", "shpo"),
        ("compare", "2026-03-01", "2026-03-02", "--system", "shpo"),
        ("questions", "--system", "shpo"),
        ("nights", "--system", "shpo"),
        ("show", "s1", "--system", "shpo"),
    ],
)
def test_an_unknown_system_is_not_there_and_the_name_that_was_meant_is_suggested(arguments: tuple[str, ...], call: Call) -> None:
    done = call(*arguments)
    assert done.exit_code == 4
    assert "did you mean `shop`?" in done.stderr + str(done.exception)


def test_a_known_system_that_was_never_run_is_told_from_an_unknown_one(call: Call) -> None:
    done = call("anomalies", "--system", "hdfs")
    assert done.exit_code == 4 and "hdfs: no night was run yet" in done.stderr


def test_a_session_that_is_not_there_ends_with_4(call: Call) -> None:
    assert call("show", "nobody").exit_code == call("label", "nobody", "normal").exit_code == 4


@pytest.mark.parametrize("outcome", ["done", "incomplete"])
def test_the_story_of_a_session_ends_with_its_nights_code(outcome: str, call: Call) -> None:
    done = call("show", "s1", "--system", "shop", "--ds", NIGHT_OF[outcome])
    assert done.exit_code == CODES[outcome] and "session s1" in done.stdout
    assert ("judged by nobody" in done.stderr) == (outcome == "incomplete")


def test_without_a_night_the_last_published_one_is_read_and_a_later_one_that_is_ill_is_said(call: Call, lake: Lake) -> None:
    done = call("anomalies", "--system", "mail")
    assert done.exit_code == 0 and f"on {NIGHT_OF['done']}" in done.stdout and not done.stderr
    lake.append(NIGHTS, [{"system": "shop", "ds": "2026-03-07", "outcome": "gated", "detail": "too many lines"}])
    done = call("anomalies", "--system", "shop")
    assert f"on {NIGHT_OF['incomplete']}" in done.stdout
    assert (
        "2026-03-04: failed" in done.stderr
        and "2026-03-07: gated" in done.stderr
        and "too many lines" in done.stderr
        and f"shown is {NIGHT_OF['incomplete']}" in done.stderr
    )
    assert done.exit_code == 20, "the worst of the nights since then; a retry may help"
    assert call("questions", "--system", "shop").exit_code == 20, "questions are about the last nights, too"


def test_one_system_that_is_ill_ends_the_command_for_all_of_them(call: Call, lake: Lake) -> None:
    put(lake, "mail", "2026-03-08", "done")
    put(lake, "shop", "2026-03-08", "gated")
    put(lake, "new", "2026-03-08", "no_input")
    done = call("anomalies", "--ds", "2026-03-08")
    assert done.exit_code == 10 and "1 anomalous sessions" in done.stdout and "new 2026-03-08: no input" in done.stderr
    assert call("anomalies", "--ds", "2026-03-08", "--system", "mail").exit_code == 0
    put(lake, "shop", "2026-03-08", "done")
    assert call("anomalies", "--ds", "2026-03-08").exit_code == 0, "a system that never had input owes none"
    put(lake, "shop", "2026-03-08", "no_input")
    assert call("anomalies", "--ds", "2026-03-08").exit_code == 4


def test_a_published_night_stays_and_a_later_run_that_was_held_back_is_said(call: Call, lake: Lake) -> None:
    late = {"system": "shop", "ds": NIGHT_OF["done"], "stage": "parse", "outcome": "gated", "run_id": "r2", "detail": "half the lines"}
    lake.append(OUTCOMES, [late | {"at": NOON + timedelta(hours=1), "counts": {}}])
    done = call("anomalies", "--ds", NIGHT_OF["done"], "--system", "shop")
    assert done.exit_code == 0 and "1 anomalous sessions" in done.stdout
    assert "what run r published" in done.stderr and "parse gated (half the lines)" in done.stderr


def test_a_night_that_broke_off_before_it_was_published_is_not_calm(call: Call, lake: Lake) -> None:
    begun = {"system": "shop", "ds": "2026-03-09", "stage": "parse", "outcome": "done", "run_id": "r", "at": NOON, "counts": {}}
    lake.append(OUTCOMES, [begun])
    done = call("anomalies", "--ds", "2026-03-09")
    assert done.exit_code == 4 and "not published yet: the last stage was parse" in done.stderr
    rows = json.loads(call("nights", "--system", "shop", "--format", "json").stdout)
    assert (rows[0]["ds"], rows[0]["outcome"]) == ("2026-03-09", "unfinished")


def test_an_empty_lake_has_no_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.setenv("NIGHTLOG_LAKE", str(tmp_path / "empty"))
    for command in ("anomalies", "signals", "report", "questions", "nights", "outcomes"):
        done = call(command)
        assert done.exit_code == 4 and "no night was run yet" in done.stderr + str(done.exception), command


def test_signals_that_could_not_be_computed_are_not_calm(call: Call, lake: Lake) -> None:
    place = {"system": "shop", "ds": NIGHT_OF["done"]}
    assert "is unlike the nights before" in call("signals", "--ds", NIGHT_OF["done"]).stdout
    lake.append(SIGNALS, [place | {"kind": "unavailable", "reason": "signals could not be computed: no file"}])
    for form in ("table", "json"):
        done = call("signals", "--ds", NIGHT_OF["done"], "--format", form)
        assert done.exit_code == 30 and "could not be computed" in done.stderr
        assert "could not be computed" in done.stdout and "is unlike" not in done.stdout


def test_nights_lists_outcomes_the_last_first(call: Call) -> None:
    done = call("nights", "--format", "json")
    rows = json.loads(done.stdout)
    assert done.exit_code == 0
    assert [(row["ds"], row["outcome"]) for row in rows if row["system"] == "shop"] == [
        (ds, outcome) for outcome, ds in reversed(NIGHT_OF.items()) if outcome != "never"
    ]
    assert "why gated" in call("nights", "--system", "shop").stdout


def test_outcomes_are_those_of_the_last_run_if_none_is_named(call: Call) -> None:
    done = call("outcomes", "--ds", NIGHT_OF["gated"])
    assert done.exit_code == 10 and "shop: gated" in done.stdout
    assert call("outcomes", "--ds", NIGHT_OF["never"]).exit_code == 4


def test_the_program_names_its_version(call: Call) -> None:
    done = call("--version")
    assert done.exit_code == 0 and done.stdout.startswith("nightlog ")
