"""A night on a cluster: what its executors write is what one machine writes, also if one of them is killed.

`make cluster-test` runs it; `make test` does not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from engines import ENGINES, Engine, engine
from executor_kills import kill_an_executor
from nightlog.lake.lake import Lake
from nightlog.lake.storage import file_system
from nightlog.lake.tables import ALL_TABLES, OUTCOMES, TableSpec
from nightlog.outcomes import Stage
from nightlog.settings import Settings
from nightlog.spark import delta_jars
from nights import add_toy_model, comparable_rows, same_values
from pyarrow.fs import copy_files
from standalone import HOST, free_port, process

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DS = "2026-03-04"
SYSTEMS = "dovecot,postfix,postgres"
pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Nights:
    """The same night twice, on the same model: by one machine's processes alone, and by the executors of a cluster."""

    alone: Lake
    spread: Lake
    events: Path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("alone"))
    add_toy_model(lake)
    model = Path(lake.root).with_name("model")
    shutil.copytree(lake.root, model)
    run([str(BIN / "nightlog"), "run", "--ds", DS, "--systems", SYSTEMS], environment(lake.root))
    return lake


@pytest.fixture(scope="module", params=ENGINES)
def nights(request: pytest.FixtureRequest, alone: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    """While the cluster parses, one of its executors is killed."""
    folder = tmp_path_factory.mktemp(request.param)
    with engine(request.param, folder) as cluster:
        put_folder(Path(alone.root).with_name("model"), cluster.root)
        env = environment(cluster.root) | cluster.env
        if cluster.logs is not None:
            put_folder(Settings().sample_logs, cluster.logs)
            env |= {"NIGHTLOG_DATA": cluster.logs}
        env |= {"NIGHTLOG_LOCAL_MIB": "0", "PYSPARK_DRIVER_PYTHON": sys.executable}
        for stage in Stage:
            job = [str(ROOT / "jobs" / f"{stage}.py"), "--ds", DS, "--systems", SYSTEMS, "--run-id", "spread"]
            if stage == Stage.LABEL:
                run([sys.executable, *job], env)
                continue
            port = free_port()
            during = partial(kill_an_executor, port) if stage == Stage.PARSE else None
            run([*submitted(cluster, port, folder / "events"), *job], env, during)
        yield Nights(alone, Lake(cluster.root), folder / "events")


def put_folder(folder: Path, address: str) -> None:
    """Copy a local folder to an address."""
    files, path = file_system(address)
    copy_files(str(folder), path, destination_filesystem=files)


def environment(root: str) -> dict[str, str]:
    """Return the environment of a night on the lake at `root`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLOG_")}
    return env | {"NIGHTLOG_LLM": "recorded", "NIGHTLOG_DEVICE": "cpu", "NIGHTLOG_LAKE": root}


def submitted(cluster: Engine, driver_port: int, events: Path) -> list[str]:
    """Return spark-submit, its master and what a cluster on one machine needs."""
    events.mkdir(exist_ok=True)
    conf = {
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.driver.port": str(driver_port),
        "spark.executor.cores": "1",
        "spark.sql.shuffle.partitions": "4",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.compress": "false",
    }
    given = [word for name, value in (conf | dict(cluster.conf)).items() for word in ("--conf", f"{name}={value}")]
    return [str(BIN / "spark-submit"), "--master", cluster.master, "--driver-memory", "2g", "--jars", delta_jars(), *given]


def run(command: list[str], env: dict[str, str], during: Callable[[subprocess.Popen[bytes]], None] | None = None) -> None:
    """Run a program to its end. during: called while it runs."""
    with TemporaryFile() as out, subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=out) as program:
        try:
            if during is not None:
                during(program)
            code = program.wait()
        finally:
            program.kill()
            out.seek(0)
            written = out.read().decode(errors="replace")
        assert code == 0, f"{command} ended with {code}:\n{written[-9000:]}"


@pytest.mark.parametrize("spec", [each for each in ALL_TABLES if each.name.startswith(("silver.", "gold."))], ids=lambda spec: spec.name)
def test_a_table_is_the_same_from_a_cluster_and_from_one_machine(nights: Nights, spec: TableSpec) -> None:
    alone, spread = (comparable_rows(lake, spec) for lake in (nights.alone, nights.spread))
    assert len(alone) == len(spread)
    different = [(one, other) for one, other in zip(alone, spread, strict=True) if not same_values(one, other)]
    assert different == []


def test_the_night_has_anomalies_and_every_stage_was_done(nights: Nights) -> None:
    spread = nights.spread
    outcomes = spread.rows(OUTCOMES, run_id="spread")
    assert {(row["system"], row["stage"], row["outcome"]) for row in outcomes} == {
        (system, stage.value, "done") for system in SYSTEMS.split(",") for stage in Stage
    }
    for spec in ALL_TABLES:
        if spec.name in {"silver.events", "silver.sessions", "silver.scores", "silver.verdicts", "gold.anomalies"}:
            assert comparable_rows(spread, spec), spec.name


def test_executors_did_the_work_also_after_one_of_them_was_killed(nights: Nights) -> None:
    """Both executors ran tasks that succeeded. A task was lost with the executor that was killed, and another executor ended it."""
    lines = [line for path in nights.events.rglob("events_*") for line in path.read_bytes().split(b"\n") if line]
    ended = [event for event in map(json.loads, lines) if event["Event"] == "SparkListenerTaskEnd"]
    reasons = [each["Task End Reason"]["Reason"] for each in ended]
    workers = {each["Task Info"]["Executor ID"] for each, reason in zip(ended, reasons, strict=True) if reason == "Success"}
    assert len(workers) >= 2 and "driver" not in workers
    assert "ExecutorLostFailure" in reasons


def test_a_process_and_its_children_end_with_the_block_even_on_failure(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), process(["bash", "-c", "sleep 600 & sleep 600"], dict(os.environ), tmp_path / "log") as started:
        group = started.pid
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
