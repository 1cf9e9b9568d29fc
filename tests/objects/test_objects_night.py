"""A lake in an object store: an S3-compatible server takes what a folder takes, from a night's first line to what analysts read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nightlog.detector.registry import Model, load, promoted
from nightlog.doctor.tables import folder, models, tables
from nightlog.errors import ModelIntegrityError, StoreRefused
from nightlog.lake.lake import Lake
from nightlog.lake.maintain import vacuum
from nightlog.lake.storage import file_system, read_file, write_file
from nightlog.lake.tables import ALL_TABLES, ANOMALIES, LINES_TABLE, VERDICTS
from nightlog.pages.page import write_pages
from nightlog.settings import Settings
from nights import add_toy_model, snapshot
from sample_night import DS, run_sample_night

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LAKE = "s3://lakes/nightlog"


@pytest.fixture(scope="module")
def remote(endpoint: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A night of the sample corpus in the store."""
    return run_sample_night(LAKE, tmp_path_factory.mktemp("handed-off"))


@pytest.mark.slow
def test_a_night_in_an_object_store_is_that_of_a_folder(remote: Lake, sample_lake: Lake) -> None:
    assert snapshot(remote) == snapshot(sample_lake)
    assert {path.name for path in Path(sample_lake.root, "reports", DS).iterdir()} == {"index.html", "dovecot.html"}
    for name in ("index.html", "dovecot.html"):
        assert b"dovecot" in read_file(f"{LAKE}/reports/{DS}/{name}")
    assert f'href="{DS}/dovecot.html"'.encode() in read_file(f"{LAKE}/reports/index.html")


@pytest.mark.slow
def test_a_night_run_again_there_is_the_same_and_asks_nothing(remote: Lake, tmp_path: Path) -> None:
    before, verdicts = snapshot(remote), remote.table(VERDICTS).version()
    run_sample_night(LAKE, tmp_path, "again")
    assert snapshot(Lake(LAKE)) == before
    assert remote.table(VERDICTS).version() == verdicts


@pytest.mark.slow
def test_what_reads_a_lake_reads_it_there(remote: Lake, sample_lake: Lake) -> None:
    shown = [
        subprocess.run(
            [str(BIN / "nightlog"), "anomalies", "--ds", DS, "--lake", root, "--format", "json"], capture_output=True, text=True, check=True
        ).stdout
        for root in (LAKE, sample_lake.root)
    ]
    there, here = (sorted(row["session_id"] for row in json.loads(text)) for text in shown)
    assert there == here != []
    assert write_pages(Lake(LAKE), DS).failed == {}
    found = [*folder(remote), *models(remote), *tables(remote, 14)]
    assert {finding.state for finding in found} == {"ok"}, found
    assert all(vacuum(remote, spec, 14) == 0 for spec in ALL_TABLES if remote.exists(spec))


@pytest.mark.slow
def test_a_model_that_was_altered_or_is_missing_there_is_refused(endpoint: dict[str, str]) -> None:
    lake = Lake("s3://lakes/models")
    add_toy_model(lake)
    model = promoted(lake)
    assert model is not None
    write_file(model.path, read_file(model.path)[:-1] + b"?")
    with pytest.raises(ModelIntegrityError, match="the file was altered"):
        load(model)
    with pytest.raises(ModelIntegrityError, match="is missing"):
        load(Model("none", "s3://lakes/models/models/none.safetensors", model.sha256))


@pytest.mark.slow
def test_log_files_in_a_store_are_read_as_those_of_a_folder(endpoint: dict[str, str], sample_lake: Lake, tmp_path: Path) -> None:
    logs = Settings().sample_logs
    for path in sorted(logs.rglob("*.gz")):
        write_file(f"s3://lakes/logs/{path.relative_to(logs)}", path.read_bytes())
    name = f"dovecot/dovecot-{DS}.log.gz"
    assert file_system("s3://lakes/logs")[0].get_file_info(f"lakes/logs/{name}").size == Path(logs, name).stat().st_size
    write_file("s3://lakes/logs/dovecot/dovecot-2026-03-04.log.gz.sha256", b"no log file")
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLOG_")}
    env |= {"NIGHTLOG_LAKE": str(tmp_path / "lake"), "NIGHTLOG_DATA": "s3://lakes/logs", "NIGHTLOG_LLM": "recorded"}

    def run(ds: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "nightlog"), "run", "--ds", ds, "--systems", "dovecot"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    done = run(DS)
    assert done.returncode == 0, done.stdout + done.stderr
    columns = ["file", "line_no", "text"]
    here, there = (
        sorted(tuple(row[name] for name in columns) for row in lake.rows(LINES_TABLE, columns, system="dovecot", ds=DS))
        for lake in (sample_lake, Lake(tmp_path / "lake"))
    )
    assert here == there != []
    # The second run may still find objects that changed within the last two seconds; the third keeps all lines.
    again = [run(DS) for _ in range(2)][-1]
    assert again.returncode == 0 and "their lines are kept" in again.stderr, again.stdout + again.stderr
    assert sorted(tuple(row[name] for name in columns) for row in Lake(tmp_path / "lake").rows(LINES_TABLE, columns, ds=DS)) == there
    assert run("2026-03-20").returncode == 30, "no file where some are due"
    env["NIGHTLOG_DATA"] = "s3://elsewhere/logs"
    refused = run(DS)
    assert refused.returncode == 30 and "the data folder s3://elsewhere/logs" in refused.stdout + refused.stderr


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_told(endpoint: dict[str, str]) -> None:
    with pytest.raises(StoreRefused, match="s3://elsewhere/lake: NoSuchBucket"):
        Lake("s3://elsewhere/lake").rows(ANOMALIES)


@pytest.mark.cluster
def test_executors_of_spark_write_the_same_night_there(endpoint: dict[str, str], sample_lake: Lake, tmp_path: Path) -> None:
    """By conf/object-store.conf, which has Spark fetch Hadoop's S3 client (700 MB)."""
    conf = (ROOT / "conf" / "object-store.conf").read_text(encoding="utf-8")
    own = {"endpoint": endpoint["AWS_ENDPOINT_URL"], "path.style.access": "true", "connection.ssl.enabled": "false"}
    conf += "".join(f"spark.hadoop.fs.s3a.{name} {value}\n" for name, value in own.items())
    conf += f"spark.jars.ivy {ROOT / 'build' / 'objects' / 'ivy'}\n"
    (tmp_path / "spark-defaults.conf").write_text(conf, encoding="utf-8")
    lake = Lake("s3://lakes/spark")
    add_toy_model(lake, {"held_out_f1": 0.5})
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLOG_")} | {
        "NIGHTLOG_LAKE": lake.root,
        "NIGHTLOG_LLM": "recorded",
        "NIGHTLOG_DEVICE": "cpu",
        "NIGHTLOG_LOCAL_MIB": "0",
        "SPARK_CONF_DIR": str(tmp_path),
        # Ivy fails on a partly filled Maven repository in the home folder.
        "SPARK_SUBMIT_OPTS": f"-Duser.home={tmp_path}",
    }
    for command in (["run", "--ds", DS, "--systems", "dovecot"], ["maintain"]):
        done = subprocess.run([str(BIN / "nightlog"), *command], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        if command[0] == "run":  # upkeep judges sessions that wait for a night which never came
            assert snapshot(Lake(lake.root)) == snapshot(sample_lake)
