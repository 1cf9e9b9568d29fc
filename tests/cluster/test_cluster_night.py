"""A night on a cluster: what its workers write is what one machine writes. `make cluster-test` runs it; `make test` does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, OUTCOMES, TableSpec
from nightlog.outcomes import Stage
from nightlog.spark import delta_jars
from nights import add_toy_model, comparable_rows, same_values
from standalone import process, standalone

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DS = "2026-03-04"
SYSTEMS = "dovecot,postfix,postgres"
pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Lake]]:
    """The same night twice, on the same model: by this machine alone, and by a cluster that does all work by its executors."""
    folder = tmp_path_factory.mktemp("cluster")
    alone, spread = folder / "alone", folder / "spread"
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLOG_")} | {"NIGHTLOG_LLM": "recorded"}
    env |= {"NIGHTLOG_DEVICE": "cpu"}
    add_toy_model(Lake(alone))
    shutil.copytree(alone, spread)
    run([str(BIN / "nightlog"), "run", "--ds", DS, "--systems", SYSTEMS], env | {"NIGHTLOG_LAKE": str(alone)})
    spread_env = env | {"NIGHTLOG_LAKE": str(spread), "NIGHTLOG_LOCAL_MIB": "0", "PYSPARK_DRIVER_PYTHON": sys.executable}
    with standalone(folder, Path(sys.executable)) as master:
        for stage in Stage:
            job = [str(ROOT / "jobs" / f"{stage}.py"), "--ds", DS, "--systems", SYSTEMS, "--run-id", "spread"]
            submit = [sys.executable] if stage == Stage.LABEL else submitted(master, folder / "events")
            run([*submit, *job], spread_env)
    yield Lake(alone), Lake(spread)


def submitted(master: str, events: Path) -> list[str]:
    """spark-submit, its master and what one machine's cluster needs."""
    events.mkdir(exist_ok=True)
    conf = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executor.cores": "1",
        "spark.sql.shuffle.partitions": "4",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.compress": "false",
    }
    given = [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]
    return [str(BIN / "spark-submit"), "--master", master, "--driver-memory", "2g", "--jars", delta_jars(), *given]


def run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


@pytest.mark.parametrize("spec", [each for each in ALL_TABLES if each.name.startswith(("silver.", "gold."))], ids=lambda spec: spec.name)
def test_a_table_is_the_same_from_a_cluster_and_from_one_machine(lakes: tuple[Lake, Lake], spec: TableSpec) -> None:
    alone, spread = (comparable_rows(lake, spec) for lake in lakes)
    assert len(alone) == len(spread)
    different = [(one, other) for one, other in zip(alone, spread, strict=True) if not same_values(one, other)]
    assert different == []


def test_the_night_has_anomalies_and_every_stage_was_done(lakes: tuple[Lake, Lake]) -> None:
    _, spread = lakes
    outcomes = spread.rows(OUTCOMES, run_id="spread")
    assert {(row["system"], row["stage"], row["outcome"]) for row in outcomes} == {
        (system, stage.value, "done") for system in SYSTEMS.split(",") for stage in Stage
    }
    for spec in ALL_TABLES:
        if spec.name in {"silver.events", "silver.sessions", "silver.scores", "silver.verdicts", "gold.anomalies"}:
            assert comparable_rows(spread, spec), spec.name


def test_executors_did_the_work(lakes: tuple[Lake, Lake]) -> None:
    """Both workers ran tasks that succeeded."""
    folder = Path(lakes[1].root).parent
    lines = [line for path in (folder / "events").rglob("events_*") for line in path.read_bytes().split(b"\n") if line]
    events = [json.loads(line) for line in lines]
    ended = [each for each in events if each["Event"] == "SparkListenerTaskEnd" and each["Task End Reason"]["Reason"] == "Success"]
    assert {each["Task Info"]["Executor ID"] for each in ended} == {"0", "1"}


def test_a_process_and_its_children_end_with_the_block_even_on_failure(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), process(["bash", "-c", "sleep 600 & sleep 600"], dict(os.environ), tmp_path / "log") as started:
        group = started.pid
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
