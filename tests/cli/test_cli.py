"""The command line as a person uses it: real processes, their output and exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from batch_stub import BatchStub
from llm_stub import completion
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, ANSWERS, FINDINGS, LLM_BATCHES, LLM_CALLS, NIGHTS, OUTCOMES, PATTERNS, VERDICTS
from nightlog.llm.prompt import prompt_hash
from nightlog.publishing.findings import derive_findings, night_telling
from nightlog.systems.catalog import load_catalog

DS = "2026-03-04"
PROGRAM = Path(sys.executable).with_name("nightlog")
HOSTILE = "=cmd()|x \x1b[31mred\x1b[0m [bold]markup[/bold] \u202egnp"


def nightlog(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_"))}
    return subprocess.run(
        [str(PROGRAM), *arguments], capture_output=True, text=True, env=clean | {"COLUMNS": "200"} | environment, check=False
    )


@pytest.fixture
def published(tmp_path: Path) -> Path:
    lake = Lake(tmp_path / "lake")
    at = datetime(2026, 3, 4, 8, tzinfo=UTC)
    common = {
        "ds": DS,
        "started_at": at,
        "ended_at": at,
        "n_events": 3,
        "decided_by": "llm",
        "route": "proprietary",
        "status": "open",
        "pattern_id": "p1",
        "run_id": "r",
        "versions": {"model": "m", "prompt": "p", "llm": "l", "encoder": "e", "templates": "t"},
        "evidence": [{"template": "disk <NUM> gone", "count": 3, "nearest_source_template": "x", "similarity": 0.2, "weight": 1.0}],
        "lines": [{"file": "shop/a.log", "line_no": 7, "text": HOSTILE}],
    }
    rows = [
        common | {"system": system, "session_id": session, "score": score, "reason": "the disk went away"}
        for system, session, score in (("shop", "s1", 0.9), ("shop", "s2", 0.9), ("mail", "m1", 0.7))
    ]
    lake.append(ANOMALIES, rows)
    for system in ("shop", "mail"):
        found = lake.arrow(ANOMALIES, system=system, ds=DS)
        patterns = [{"pattern_id": "p1", "events": [], "n_sessions": found.num_rows}]
        telling = night_telling(lake, system, DS, found, patterns, {}, counted=True)
        lake.append(FINDINGS, derive_findings(lake, system, DS, found, 9, telling))
    lake.append(NIGHTS, [{"ds": DS, "system": system, "outcome": "done", "run_id": "r"} for system in ("shop", "mail")])
    return tmp_path / "lake"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "--ds", DS, "--system", "hdsf"), 4, ("no system `hdsf`", "did you mean `hdfs`", "bgl", "openstack", "dovecot")),
        (("run", "--ds", "2026-02-30"), 2, ("2026-02-30", "YYYY-MM-DD")),
        (("anomalies", "--ds", "yesterday"), 2, ("yesterday", "YYYY-MM-DD")),
        (("query", "select * from gold.nothing"), 4, ("name nothing does not exist", "gold.anomalies")),
        (("query", "select from where"), 2, ("syntax error", "gold.anomalies")),
    ],
)
def test_a_wrong_argument_has_its_exit_code_and_shows_what_is_known(
    arguments: tuple[str, ...], code: int, words: tuple[str, ...], published: Path
) -> None:
    done = nightlog(*arguments, NIGHTLOG_LAKE=str(published))
    assert done.returncode == code
    for word in words:
        assert word in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_folder_of_systems_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    done = nightlog("systems", NIGHTLOG_SYSTEMS=str(tmp_path / "absent"))
    assert done.returncode == 30
    assert "NIGHTLOG_SYSTEMS" in done.stderr


def test_a_night_without_a_model_says_to_train(tmp_path: Path) -> None:
    job = Path(__file__).resolve().parents[2] / "jobs" / "label.py"
    lake = tmp_path / "lake"
    done = subprocess.run([sys.executable, str(job), "--ds", DS, "--lake", str(lake)], capture_output=True, text=True, check=False)
    assert done.returncode == 0  # no stage before it was run: nothing to do, and nothing broken
    done = nightlog("outcomes", "--ds", DS, "--run-id", "r", NIGHTLOG_LAKE=str(lake))
    assert done.returncode == 4


def test_anomalies_are_shown_by_finding_with_reason_evidence_and_line(published: Path) -> None:
    done = nightlog("anomalies", "--ds", DS, "--lake", str(published))
    assert done.returncode == 0
    for word in ("3 anomalous sessions in 2 findings", "1 more alike", "the disk went away", "3× disk <NUM> gone", "a.log:7"):
        assert word in done.stdout
    assert "[bold]" in done.stdout
    assert "\x1b[31m" not in done.stdout and "\u202e" not in done.stdout


def test_on_a_narrow_terminal_a_finding_is_a_block_of_whole_lines(published: Path) -> None:
    done = nightlog("anomalies", "--ds", DS, "--lake", str(published), COLUMNS="60")
    lines = done.stdout.splitlines()
    assert "1. shop, s1, and 1 more alike, 0.90, llm, open" in lines or "2. shop, s1, and 1 more alike, 0.90, llm, open" in lines
    assert "   the disk went away" in lines and "   3× disk <NUM> gone" in lines and not any("┃" in line for line in lines)


def test_json_and_csv_hold_every_column_and_row(published: Path) -> None:
    rows = json.loads(nightlog("anomalies", "--ds", DS, "--lake", str(published), "--format", "json").stdout)
    assert [row["session_id"] for row in rows] == ["m1", "s1", "s2"]
    assert rows[0].keys() == set(ANOMALIES.names)
    assert rows[0]["lines"][0]["text"] == HOSTILE
    table = list(csv.DictReader(io.StringIO(nightlog("anomalies", "--ds", DS, "--lake", str(published), "--format", "csv").stdout)))
    assert [row["session_id"] for row in table] == ["m1", "s1", "s2"]
    one = json.loads(nightlog("anomalies", "--ds", DS, "--system", "mail", "--lake", str(published), "--format", "json").stdout)
    assert [row["session_id"] for row in one] == ["m1"]


def test_a_query_answers_within_five_seconds(published: Path) -> None:
    before = cpu_seconds_of_children()
    done = nightlog(
        "query",
        "select system, ds, count(*) as n from gold.anomalies group by all order by 1",
        "--format",
        "json",
        NIGHTLOG_LAKE=str(published),
    )
    assert json.loads(done.stdout) == [{"system": "mail", "ds": DS, "n": 1}, {"system": "shop", "ds": DS, "n": 2}]
    assert cpu_seconds_of_children() - before < 5, "seconds of work, so that a busy machine is no failure"


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_systems_lists_the_shipped_ones_and_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nrole = "target"\n[input]\npath = "{ds}"\n[session]\nkind = "field"\nfield = "message"\n'
    )
    rows = json.loads(nightlog("systems", "--format", "json", NIGHTLOG_SYSTEMS=str(tmp_path)).stdout)
    assert {"hdfs", "bgl", "openstack", "dovecot", "mine"} <= {row["system"] for row in rows}


@pytest.mark.parametrize(
    ("outcomes", "code", "word"),
    [
        ({"publish": "done", "report": "done"}, 0, "shop: done"),
        ({"ingest": "no_input"}, 30, "shop: no_input"),
        ({"ingest": "done", "parse": "gated"}, 10, "shop: gated: parse"),
        ({"ingest": "transient"}, 20, "shop: transient"),
        ({"ingest": "done", "parse": "done"}, 30, "nothing is known of it after stage parse"),
    ],
)
def test_outcomes_of_a_run(outcomes: dict[str, str], code: int, word: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for second, (stage, outcome) in enumerate(outcomes.items()):
        row = {"run_id": "r", "ds": DS, "system": "shop", "stage": stage, "outcome": outcome, "counts": {"n_anomalies": 0}}
        lake.append(OUTCOMES, [row | {"at": datetime(2026, 3, 5, 2, 0, second, tzinfo=UTC)}])
    done = nightlog("outcomes", "--ds", DS, "--run-id", "r", "--lake", lake.root)
    assert (done.returncode, word in done.stdout) == (code, True)


# Questions, answers, costs


@pytest.fixture
def doubted(tmp_path: Path) -> Path:
    """A lake in which the LLM doubts two patterns of one group."""
    lake = Lake(tmp_path / "lake")
    asked = {"system": "hdfs", "prompt": prompt_hash(load_catalog()["hdfs"]), "llm": "judge", "asked_at": datetime(2026, 3, 5, tzinfo=UTC)}
    said = {"label": "anomalous", "confidence": 0.6, "reason": "why", "round": 2, "group": HOSTILE, "events": []}
    said["added"] = [{"template": "fan <NUM> slow", "count": 2}]
    lake.append(VERDICTS, [asked | said | {"question_id": name} for name in ("q1", "q2")])
    lake.append(PATTERNS, [{"system": "hdfs", "ds": DS, "pattern_id": n, "question_id": n, "n_sessions": 7} for n in ("q1", "q2")])
    return tmp_path / "lake"


def listed(lake: Path, *options: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(nightlog("questions", "--lake", str(lake), "--format", "json", *options).stdout)
    return rows


def test_a_question_is_listed_answered_and_taken_back(doubted: Path) -> None:
    (row,) = listed(doubted, "--system", "hdfs")
    assert (row["patterns"], row["sessions"], row["decision"], row["example"]) == (2, 14, "anomalous", "+2× fan <NUM> slow")
    assert listed(doubted, "--system", "bgl") == listed(doubted, "--answered") == []
    table = nightlog("questions", "--lake", str(doubted)).stdout
    assert str(row["group"]) in table and "\x1b[31m" not in table and "\u202e" not in table

    done = nightlog("label", str(row["group"]), "normal", "--by", "kim", "--lake", str(doubted))
    assert (done.returncode, "\u202e" in done.stdout) == (0, False)
    assert f"group {row['group']} (" in done.stdout and "; 2 patterns) is normal" in done.stdout
    assert f"take it back with: nightlog label {row['group']} --undo" in done.stdout
    assert "is normal, by kim since" in nightlog("label", str(row["group"]), "normal", "--by", "lee", "--lake", str(doubted)).stdout
    assert listed(doubted) == []
    assert [each["answer"] for each in listed(doubted, "--answered")] == ["normal"]
    assert [(each["label"], each["answered_by"]) for each in Lake(doubted).rows(ANSWERS)] == [("normal", "kim")]

    done = nightlog("answer", str(row["group"]), "--undo", NIGHTLOG_LAKE=str(doubted))
    assert (done.returncode, "is open again" in done.stdout) == (0, True), "the former name of the command still works"
    assert listed(doubted) == [row]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("label", "12345678", "normal"), 4, "nightlog questions"),
        (("label", "12345678", "--undo"), 4, "--answered"),
        (("label", "12345678"), 2, "--undo"),
        (("label", "12345678", "normal", "--undo"), 2, "--undo"),
        (("label", "12345678", "fine"), 2, "anomalous"),
        (("questions", "--system", "hdsf"), 4, "did you mean `hdfs`"),
        (("cost", "--since", "May"), 2, "YYYY-MM-DD"),
    ],
)
def test_a_wrong_question_or_answer_is_told(arguments: tuple[str, ...], code: int, word: str, doubted: Path) -> None:
    done = nightlog(*arguments, NIGHTLOG_LAKE=str(doubted))
    assert (done.returncode, word in done.stderr.replace("\n", " ")) == (code, True), done.stderr
    assert not Lake(doubted).exists(ANSWERS)


def test_costs_are_listed_by_night(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert nightlog("cost", "--lake", lake.root, "--format", "json").returncode == 4
    lake.append(NIGHTS, [{"ds": DS, "system": "mail", "outcome": "done", "run_id": "r"}])
    asked_nothing = nightlog("cost", "--lake", lake.root, "--format", "json")
    assert (asked_nothing.returncode, asked_nothing.stdout.strip()) == (0, "[]") and "no LLM was asked" in asked_nothing.stderr
    counted = dict.fromkeys(("calls", "items", "n_sessions", "tokens_in", "tokens_cached", "tokens_out", "round"), 1)
    rows = [{"ds": ds, "system": "shop", "mode": "generallog", "money": 0.25, "seconds": 1.5} | counted for ds in ("2026-03-03", DS)]
    lake.append(LLM_CALLS, rows)
    assert len(json.loads(nightlog("cost", "--lake", lake.root, "--format", "json").stdout)) == 3  # two nights and their total
    row, total = json.loads(nightlog("cost", "--lake", lake.root, "--since", DS, "--system", "shop", "--format", "json").stdout)
    assert (total["ds"], total["money"]) == ("total", 0.25)
    assert (row["ds"], row["money"], row["sessions_asked"]) == (DS, 0.25, None)
    assert "0.25" in nightlog("cost", "--lake", lake.root).stdout


def test_batches_are_collected_by_hand(tmp_path: Path) -> None:
    refused = nightlog("collect", "--lake", str(tmp_path / "lake"))
    assert refused.returncode == 30
    assert "set OPENAI_API_KEY" in refused.stderr
    lake, at = Lake(tmp_path / "lake"), datetime(2026, 3, 5, tzinfo=UTC)
    asked = {"b1-0": [{"id": "q1", "events": [["disk broken", 1]]}]}
    llm = {"system": "dovecot", "ds": DS, "run_id": "r", "prompt": "p", "llm": "openai:gpt-5-mini", "endpoint": "127.0.0.1", "round": 1}
    cost = {"calls": 1, "n_sessions": 1, "tokens_in": 1, "tokens_out": 1, "money": 0.0}
    batch = {"batch": "b1", "batch_id": "batch-0", "status": "open", "questions": ["q1"], "asked": json.dumps(asked), "submitted_at": at}
    lake.append(LLM_BATCHES, [llm | cost | batch])
    stub = BatchStub()
    stub.batches["batch-0"] = {"id": "batch-0", "status": "completed", "output_file_id": "file-0"}
    said = json.dumps({"verdicts": [{"id": "p1", "label": "anomalous", "confidence": 0.9, "reason": "the disk broke"}]})
    line = {"custom_id": "b1-0", "response": {"status_code": 200, "body": completion(said)}}
    stub.files["file-0"] = json.dumps(line).encode()
    try:
        arguments = ("collect", "--lake", lake.root, "--format", "json")
        found = nightlog(*arguments, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY="k")
        again = nightlog(*arguments, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY="k")
    finally:
        stub.server.shutdown()
        stub.server.server_close()
    assert (found.returncode, again.returncode) == (0, 0), found.stderr
    assert json.loads(found.stdout) == [{"system": "dovecot", "settled": 1, "open": 0, "verdicts": 1, "nights": [DS], "trouble": ""}]
    assert f"nightlog run --ds {DS}" in found.stderr
    assert "no batch is open" in again.stderr
    assert [(row["question_id"], row["label"]) for row in lake.rows(VERDICTS)] == [("q1", "anomalous")]


def test_report_rebuilds_the_nights_page_and_says_where_it_is(published: Path) -> None:
    lake = Lake(published)
    for system in ("shop", "mail"):
        lake.replace(NIGHTS, [{"ds": DS, "system": system, "outcome": "done", "n_sessions": 9}], ds=DS, system=system)
    done = nightlog("report", "--ds", DS, "--lake", str(published))
    assert (done.returncode, done.stderr) == (0, "")
    page = Path(done.stdout.strip())
    assert page == published / "reports" / DS / "index.html"
    assert "the disk went away" in page.read_text(encoding="utf-8")
    assert "\x1b" not in (page.parent / "shop.html").read_text(encoding="utf-8")
    unknown = nightlog("report", "--ds", "2026-03-09", "--lake", str(published))
    assert unknown.returncode == 4 and "night 2026-03-09 was never run" in unknown.stderr
