"""The DAGs as Airflow sees them: they load, quickly, and are wired as the design says."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError

DAGS = Path(__file__).resolve().parents[2] / "dags"
STAGES = ["ingest", "parse", "embed", "route", "detect", "label", "publish", "report", "report_outcomes"]


def test_dags_load_without_anything_heavy() -> None:
    program = f"""
import sys, time
from pathlib import Path
import airflow.sdk
from airflow.dag_processing.dagbag import BundleDagBag
airflow.sdk.CronDataIntervalTimetable, airflow.sdk.BaseOperator
before, started = set(sys.modules), time.monotonic()
bag = BundleDagBag(dag_folder={str(DAGS)!r}, bundle_path=Path({str(DAGS)!r}), bundle_name="dags-folder")
seconds = time.monotonic() - started
assert not bag.import_errors, bag.import_errors
heavy = {{"torch", "pyspark", "pandas", "numpy", "pyarrow", "delta", "nightlog", "sentence_transformers"}}
print(sorted(bag.dags), sorted(heavy & {{name.partition(".")[0] for name in set(sys.modules) - before}}), seconds)
assert seconds < 2, seconds
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("['nightlog_maintain', 'nightlog_nightly', 'nightlog_retrain'] [] ")


def test_stages_follow_each_other_and_the_report_is_last(dags: dict[str, DAG]) -> None:
    nightly = dags["nightlog_nightly"]
    assert [task.task_id for task in nightly.topological_sort()] == STAGES
    for task, after in zip(STAGES, [*STAGES[1:], None], strict=True):
        assert nightly.get_task(task).downstream_task_ids == ({after} if after else set())
    assert [task.task_id for task in dags["nightlog_retrain"].tasks] == ["train", "distil"]
    assert [task.task_id for task in dags["nightlog_maintain"].tasks] == ["maintain"]


def test_the_dag_of_the_docs_follows_what_publish_emits(dags: dict[str, DAG], tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    page = (DAGS.parent / "docs" / "how-to" / "hand-off.md").read_text(encoding="utf-8")
    (tmp_path / "tickets.py").write_text(page.split("```python\n")[1].split("```")[0])
    bag = BundleDagBag(dag_folder=tmp_path, bundle_path=tmp_path, bundle_name="docs")
    assert bag.import_errors == {}
    emitted = {(asset.name, asset.uri) for asset in dags["nightlog_nightly"].get_task("publish").outlets}
    followed = {(asset.name, asset.uri) for asset in bag.dags["tickets"].timetable.asset_condition.objects}
    assert len(emitted) == 2 and followed <= emitted and followed


def test_no_two_nights_at_once_and_none_for_ever(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        assert (dag.catchup, dag.max_active_runs) == (False, 1)
        assert all(task.max_active_tis_per_dag == 1 and task.execution_timeout for task in dag.tasks)


def test_doc_pages_tell_the_operator_what_to_know(dags: dict[str, DAG]) -> None:
    page = dags["nightlog_nightly"].doc_md
    assert page is not None
    assert all(f"| `{stage}` |" in page for stage in STAGES)
    assert all(word in page for word in ("`0`", "`10`", "`20`", "`30`", "backfill", "red", "make nightly"))
    assert "red" in (dags["nightlog_retrain"].doc_md or "")
    upkeep = dags["nightlog_maintain"].doc_md or ""
    assert all(word in upkeep for word in ("red", "_BRONZE_DAYS", "_SILVER_DAYS", "_GOLD_DAYS", "_REPLAY_DAYS", "Never dropped"))


@pytest.mark.parametrize(
    ("dag_id", "due", "reads_from"),
    [
        ("nightlog_nightly", datetime(2026, 3, 11, 2, tzinfo=UTC), datetime(2026, 3, 10, 2, tzinfo=UTC)),
        ("nightlog_maintain", datetime(2026, 3, 15, 16, tzinfo=UTC), datetime(2026, 3, 8, 16, tzinfo=UTC)),
        ("nightlog_retrain", datetime(2026, 3, 15, 12, tzinfo=UTC), datetime(2026, 3, 8, 12, tzinfo=UTC)),
    ],
)
def test_the_schedule_hands_each_run_the_interval_before_it(dags: dict[str, DAG], dag_id: str, due: datetime, reads_from: datetime) -> None:
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import DataInterval, TimeRestriction

    timetable = coerce_to_core_timetable(dags[dag_id].timetable)
    last = DataInterval(reads_from - (due - reads_from), reads_from)
    info = timetable.next_dagrun_info(
        last_automated_data_interval=last, restriction=TimeRestriction(earliest=None, latest=None, catchup=True)
    )
    assert info is not None and info.data_interval is not None
    assert (info.run_after, info.data_interval.start, info.data_interval.end) == (due, reads_from, due)


def test_a_backfill_reaches_days_long_past(dags: dict[str, DAG]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dags["nightlog_nightly"]))
    start, end = datetime(2008, 11, 9, tzinfo=UTC), datetime(2008, 11, 12, tzinfo=UTC)
    found = [info.data_interval.start.strftime("%F") for info in dag.iter_dagrun_infos_between(start, end)]
    assert found == ["2008-11-09", "2008-11-10", "2008-11-11"]


@pytest.mark.parametrize("ds", ["2008-11-1", "2008-13-01", "2026-02-30", "yesterday", "2008-11-10; rm", "", 20081110])
def test_a_bad_day_is_refused(dags: dict[str, DAG], ds: object) -> None:
    with pytest.raises(ParamValidationError):
        dags["nightlog_nightly"].params.get_param("ds").resolve(ds)


@pytest.mark.parametrize("systems", ["hdfs,", "HDFS", "hdfs bgl", "--ds", ""])
def test_a_bad_list_of_systems_is_refused(dags: dict[str, DAG], systems: str) -> None:
    with pytest.raises(ParamValidationError):
        dags["nightlog_nightly"].params.get_param("systems").resolve(systems)


def test_good_params_are_taken(dags: dict[str, DAG]) -> None:
    params = dags["nightlog_nightly"].params
    for name, value in (("ds", None), ("ds", "2008-11-10"), ("systems", None), ("systems", "hdfs"), ("systems", "open-stack_2,bgl")):
        assert params.get_param(name).resolve(value) == value


@pytest.mark.parametrize(
    ("master", "properties", "command"),
    [
        ("local[*]", None, ["python", "parse.py"]),
        ("local", None, ["python", "parse.py"]),
        ("local-cluster[2,1,1024]", None, ["nightlog", "spark-submit", "parse"]),
        ("yarn", None, ["nightlog", "spark-submit", "parse"]),
        (None, "conf/yarn.conf", ["nightlog", "spark-submit", "parse"]),
    ],
)
def test_spark_is_submitted_to_a_cluster_only(
    monkeypatch: pytest.MonkeyPatch, master: str | None, properties: str | None, command: list[str]
) -> None:
    monkeypatch.syspath_prepend(str(DAGS))
    nightlog_submit = importlib.import_module("nightlog_submit")
    monkeypatch.setattr(nightlog_submit, "PROPERTIES", properties)
    monkeypatch.setattr(nightlog_submit, "MASTER", master)
    assert [Path(word).name for word in nightlog_submit.spark_job("parse")] == command


@pytest.mark.parametrize(
    ("home", "python", "job"),
    [
        ("/srv/nightlog", "/srv/nightlog/.venv/bin/python", "/srv/nightlog/jobs/label.py"),
        ("/opt/env/share/nightlog", "/opt/env/bin/python", "/opt/env/share/nightlog/jobs/label.py"),
    ],
)
def test_programs_are_those_of_the_repository_or_of_the_wheel(home: str, python: str, job: str) -> None:
    program = "import nightlog_submit; print(*nightlog_submit.plain_job('label'))"
    env = os.environ | {"NIGHTLOG_HOME": home}
    done = subprocess.run([sys.executable, "-c", program], cwd=DAGS, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [python, job]
