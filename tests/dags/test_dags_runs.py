"""Real runs: what reaches the programs, and what their exit codes make of the run."""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG
from conftest import Runner

STAGES = ["ingest", "parse", "embed", "route", "detect", "label", "publish", "report"]
ALL = [*STAGES, "outcomes"]


@pytest.fixture
def nightly(dags: dict[str, DAG]) -> DAG:
    return dags["nightlog_nightly"]


def test_a_night_hands_its_params_to_every_stage(nightly: DAG, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLOG_LAKE", "/somewhere/lake")
    night = run(nightly, {}, ds="2008-11-10", systems="hdfs,bgl")

    assert night.state == "success"
    assert night.called() == ALL
    for call in night.calls:
        assert call.option("--ds") == "2008-11-10"
        assert call.option("--run-id") == night.run_id
        assert call.option("--systems") == (None if call.stage == "outcomes" else "hdfs,bgl")
        assert call.environment["NIGHTLOG_LAKE"] == "/somewhere/lake"
        assert Path(call.cwd) == run.home
        assert "" not in call.argv


def test_a_night_is_read_again_where_that_is_asked_for(nightly: DAG, run: Runner) -> None:
    night = run(nightly, {}, ds="2008-11-10", read_again=True, fewer_lines=True)
    asked = {name: {call.stage for call in night.calls if name in call.argv} for name in ("--read-again", "--fewer-lines")}
    assert asked == {"--read-again": {"ingest", "parse"}, "--fewer-lines": {"ingest"}}


def events(run_id: str) -> list[tuple[str, dict[str, str]]]:
    """(asset, extra) of the events that a run emitted."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(AssetEvent).filter(AssetEvent.source_run_id == run_id).all()
        return sorted((event.asset.name, event.extra) for event in found)


def test_a_published_night_is_told_to_the_dags_that_follow(nightly: DAG, run: Runner) -> None:
    night = run(nightly, {"parse": [10]}, ds="2008-11-10")
    told = {"ds": "2008-11-10", "run_id": night.run_id}
    assert events(night.run_id) == [("gold.anomalies", told), ("gold.nights", told)]
    failed = run(nightly, {"publish": [30]}, ds="2008-11-11")
    assert events(failed.run_id) == []


def test_each_program_is_the_one_of_the_jobs_environment(nightly: DAG, run: Runner) -> None:
    night = run(nightly, {}, ds="2008-11-10")
    programs = {call.stage: call.argv[0] for call in night.calls}
    folder = run.home / ".venv" / "bin"
    assert programs == dict.fromkeys(STAGES, str(folder / "python")) | {"outcomes": str(folder / "nightlog")}
    ingest = night.calls[0]
    assert ingest.option("--systems") is None
    assert ingest.environment["PYSPARK_PYTHON"] == str(folder / "python")


@pytest.mark.parametrize("at", [datetime(2026, 3, 11, 2, tzinfo=UTC), datetime(2026, 3, 11, 17, 30, tzinfo=UTC)])
def test_without_a_day_a_run_takes_the_day_before(nightly: DAG, run: Runner, at: datetime) -> None:
    night = run(nightly, {}, at=at)
    assert {call.option("--ds") for call in night.calls} == {"2026-03-10"}


def test_a_run_without_a_data_interval_takes_the_day_before(nightly: DAG, run: Runner) -> None:
    made = nightly.test(logical_date=None, run_after=datetime(2026, 3, 11, 1, tzinfo=UTC))
    assert str(made.state) == "success"
    assert '"--ds", "2026-03-10"' in (run.home / "calls.jsonl").read_text()


@pytest.mark.parametrize("code", [2, 10, 30])
def test_a_permanent_failure_is_not_tried_again_and_stops_no_later_stage(nightly: DAG, run: Runner, code: int) -> None:
    night = run(nightly, {"parse": [code]}, ds="2008-11-10")
    assert night.called() == ALL
    assert night.state == "failed"
    assert night.tasks == dict.fromkeys(STAGES, "success") | {"parse": "failed", "report_outcomes": "failed"}


def test_a_transient_failure_is_tried_again_under_the_same_run_id(nightly: DAG, run: Runner) -> None:
    night = run(nightly, {"route": [20, 20, 0]}, ds="2008-11-10")
    assert night.state == "success"
    assert night.called() == ["ingest", "parse", "embed", "route", "route", "route", "detect", "label", "publish", "report", "outcomes"]
    assert {call.option("--run-id") for call in night.calls} == {night.run_id}


ROOT = Path(__file__).resolve().parents[2]
JOBS_PYTHON = ROOT / ".venv" / "bin" / "python"
SHOP = r"""
name = "shop"
role = "target"
[input]
path = "{ds}.log"
[header]
pattern = '(?P<id>\w+) (?P<message>.*)'
[session]
kind = "field"
field = "id"
"""


def ingest_really(nightly: DAG, folder: Path, **environment: str) -> Path:
    """Let the stage `ingest` run its real program on a system of two thousand lines; FIRST_LIMIT goes before it on its first call.
    Returns the file that gets a line a try."""
    (folder / "systems").mkdir()
    (folder / "systems" / "shop.toml").write_text(SHOP)
    lines = (f"s{n // 5} order {hashlib.sha256(str(n).encode()).hexdigest()} is packed\n" for n in range(2000))
    (folder / "2026-03-04.log").write_text("".join(lines))
    program = folder / "ingest"
    program.write_text(f"""#!/bin/sh
echo . >> {folder}/tries
[ $(wc -l < {folder}/tries) = 1 ] && limit="${{FIRST_LIMIT:-}}"
exec $limit {JOBS_PYTHON} {ROOT}/jobs/ingest.py "$@"
""")
    program.chmod(0o755)
    places = {
        "NIGHTLOG_LAKE": folder / "lake",
        "NIGHTLOG_DATA": folder,
        "NIGHTLOG_SYSTEMS": folder / "systems",
        "PYTHONPATH": ROOT / "libs",
    }
    settings = {name: str(place) for name, place in places.items()} | environment
    stage = nightly.get_task("ingest")
    given = stage.command[stage.command.index("--ds") :]
    stage.command = ["env", *(f"{name}={value}" for name, value in settings.items()), str(program), *given]
    return folder / "tries"


@pytest.mark.skipif(not JOBS_PYTHON.exists(), reason="the jobs' environment is not set up")
@pytest.mark.parametrize(
    ("environment", "tries", "state", "said"),
    [
        ({"FIRST_LIMIT": "prlimit --fsize=32768"}, 2, "success", "File too large: nothing was published"),
        ({"NIGHTLOG_LLM": "opnai"}, 1, "failed", "NIGHTLOG_LLM: Input should be"),
        ({"NIGHTLOG_SYSTEMS": "/nowhere/to/be/found"}, 1, "failed", "/nowhere/to/be/found"),
    ],
    ids=["no room", "wrong setting", "wrong folder"],
)
def test_what_a_real_job_meets_decides_whether_it_is_tried_again(
    nightly: DAG,
    run: Runner,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    environment: dict[str, str],
    tries: int,
    state: str,
    said: str,
) -> None:
    tried = ingest_really(nightly, tmp_path, **environment)
    night = run(nightly, {}, ds="2026-03-04", systems="shop")
    assert (night.tasks["ingest"], len(tried.read_text().splitlines())) == (state, tries)
    assert said in capfd.readouterr().out


def test_a_program_that_is_not_there_is_not_tried_again(nightly: DAG, run: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    (run.home / ".venv" / "bin" / "python").unlink()
    night = run(nightly, {}, ds="2008-11-10")
    assert night.tasks == dict.fromkeys(STAGES, "failed") | {"report_outcomes": "failed"}
    assert capfd.readouterr().out.count("set NIGHTLOG_HOME to the folder that holds jobs/ and .venv") == len(STAGES)


def test_a_stage_that_dies_turns_the_run_red_though_all_outcomes_are_well(
    nightly: DAG, run: Runner, capfd: pytest.CaptureFixture[str]
) -> None:
    night = run(nightly, {"ingest": ["killed", "killed", 1], "publish": [20]}, ds="2008-11-10")
    assert night.called() == ["ingest"] * 4 + STAGES[1:-2] + ["publish"] * 4 + ["report", "outcomes"]
    assert night.state == "failed"
    assert "stages failed: ingest, publish" in capfd.readouterr().out


def test_outcomes_turn_the_run_red_and_only_those_that_failed_are_named(
    nightly: DAG, run: Runner, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = ["hdfs: gated: 31 % of 100 lines", "bgl: done: 12 lines", "web-2: failed: a.gz, byte 17", "mail: no_input: no file"]
    night = run(nightly, {"outcomes": [10]}, says=lines, ds="2008-11-10")
    assert night.called() == ALL
    assert night.tasks == dict.fromkeys(STAGES, "success") | {"report_outcomes": "failed"}
    assert night.state == "failed"
    told = capfd.readouterr().out
    assert all(line in told for line in lines)
    message = told.rpartition("AirflowFailException: ")[2]
    assert "stages failed: none; systems:\nhdfs: gated: 31 % of 100 lines\nweb-2: failed: a.gz, byte 17\n" in message


def test_lines_reach_the_log_as_they_are_printed(nightly: DAG, run: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    run(nightly, {}, ds="2008-11-10")
    told = capfd.readouterr().out
    assert all(f"{stage} says: call 1, 0" in told for stage in STAGES)


def alive(pid: int) -> bool:
    """Whether the process runs (one that is dead and only not yet collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stage_over_its_time_is_killed_with_its_children(nightly: DAG, run: Runner) -> None:
    stage = nightly.get_task("embed")
    stage.execution_timeout, stage.retries = timedelta(seconds=2), 0
    night = run(nightly, {"embed": ["hang"]}, ds="2008-11-10")
    assert night.tasks["embed"] == "failed"
    assert night.called() == ALL
    child = int((run.home / "child").read_text())
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def test_retraining_runs_the_train_job_and_then_distils(dags: dict[str, DAG], run: Runner) -> None:
    done = run(dags["nightlog_retrain"], {"train": [20, 0]}, systems="bgl,openstack")
    assert done.state == "success"
    assert done.called() == ["train", "train", "retrain"]
    assert done.calls[0].argv[0] == str(run.home / ".venv" / "bin" / "python")
    assert done.calls[0].argv[-2:] == [str(run.home / "jobs" / "train.py"), "--systems=bgl,openstack"]
    assert os.path.commonpath([done.calls[0].cwd, run.home]) == str(run.home)


def test_maintenance_is_one_job_that_is_not_tried_again_if_settings_are_wrong(dags: dict[str, DAG], run: Runner) -> None:
    failed = run(dags["nightlog_maintain"], {"maintain": [30]})
    assert (failed.state, failed.called()) == ("failed", ["maintain"])
    call = failed.calls[0]
    assert call.argv[0] == str(run.home / ".venv" / "bin" / "python")
    assert call.argv[-1] == str(run.home / "jobs" / "maintain.py")


def test_the_last_task_shows_the_outcomes_and_links_to_the_page(nightly: DAG, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    lines = ["mail: done: 3 anomalies", "shop: incomplete: 0 anomalies; 7 of 7 sessions were judged by nobody"]
    monkeypatch.setenv("NIGHTLOG_PAGES_URL", "https://logs.example.org/nightlog/")
    night = run(nightly, {"outcomes": [40]}, says=lines, ds="2008-11-10")
    assert night.state == "failed"
    with create_session() as session:
        found = session.query(XComModel).filter(XComModel.run_id == night.run_id, XComModel.task_id == "report_outcomes").all()
        values = {each.key: XComModel.deserialize_value(each) for each in found}
    assert values["outcomes"] == lines
    assert "https://logs.example.org/nightlog/2008-11-10/index.html" in values.values()
