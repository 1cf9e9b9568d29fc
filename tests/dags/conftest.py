"""Real DAG runs on a metadata database of their own, against programs that only note how they were called.

Airflow and the DAGs read the environment when they are imported, so it is set here, before any test imports them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG

if find_spec("airflow") is None:  # the jobs' environment
    collect_ignore_glob = ["*"]

DAGS = Path(__file__).resolve().parents[2] / "dags"
SCRATCH = TemporaryDirectory(prefix="nightlog-dags-")
HOME = Path(SCRATCH.name) / "home"
os.environ |= {
    "AIRFLOW_HOME": str(Path(SCRATCH.name) / "airflow"),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "NIGHTLOG_HOME": str(HOME),
    "NIGHTLOG_RETRY_DELAY_S": "0.1",
}

# Stands for python and nightlog: notes its arguments, says and does what the plan has for the stage's nth call.
PROGRAM = f"""#!{sys.executable}
import json, os, subprocess, sys, time
from pathlib import Path

home = Path({str(HOME)!r})
names = [Path(word).stem for word in sys.argv if word.startswith(str(home / "jobs"))]
stage = names[0] if names else sys.argv[1]
with (home / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({{"stage": stage, "argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ)}}) + "\\n")
nth = sum(json.loads(line)["stage"] == stage for line in (home / "calls.jsonl").read_text().splitlines())
steps = json.loads((home / "plan.json").read_text()).get(stage, [0])
step = steps[min(nth, len(steps)) - 1]
print((home / "outcomes").read_text() if stage == "outcomes" else f"{{stage}} says: call {{nth}}, {{step}}")
if step == "hang":
    child = subprocess.Popen(["sleep", "300"])
    (home / "child").write_text(str(child.pid))
    time.sleep(300)
if step == "killed":
    os.kill(os.getpid(), 9)
sys.exit(step)
"""


@dataclass(frozen=True)
class Call:
    """One call of a program: the stage, its command line, where it ran and in which environment."""

    stage: str
    argv: list[str]
    cwd: str
    environment: dict[str, str]

    def option(self, name: str) -> str | None:
        """The value of `--name value` or `--name=value`."""
        for word, after in zip(self.argv, [*self.argv[1:], ""], strict=True):
            if word == name:
                return after
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
        return None


@dataclass(frozen=True)
class Run:
    """What came of a DAG run: its state, the state of each task, the calls in order."""

    state: str
    tasks: dict[str, str]
    calls: list[Call]
    run_id: str

    def called(self) -> list[str]:
        return [call.stage for call in self.calls]


@pytest.fixture(scope="session", autouse=True)
def metadata_database() -> None:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder like the repository's root, with programs that only note their calls."""
    folder = HOME / ".venv" / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("python", "nightlog"):
        (folder / name).write_text(PROGRAM)
        (folder / name).chmod(0o755)
    (HOME / "calls.jsonl").write_text("")
    (HOME / "plan.json").write_text("{}")
    (HOME / "outcomes").write_text("")
    yield HOME
    (HOME / "calls.jsonl").unlink()


@pytest.fixture
def dags() -> dict[str, DAG]:
    """The DAGs, read from their files anew."""
    from airflow.dag_processing.dagbag import BundleDagBag

    bag = BundleDagBag(dag_folder=DAGS, bundle_path=DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return dict(bag.dags)


class Runner:
    """Runs a DAG from end to end, in this process."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(
        self, dag: DAG, plan: dict[str, list[int | str]], *, at: datetime | None = None, says: Sequence[str] = (), **conf: Any
    ) -> Run:
        """`plan`: stage → exit code (or "killed", "hang") of each of its calls, the last one for all calls after it.

        `says`: what `nightlog outcomes` prints.
        """
        (self.home / "outcomes").write_text("\n".join(says))
        (self.home / "plan.json").write_text(json.dumps(plan))
        made: DagRun = dag.test(run_conf=conf, **({"logical_date": at} if at else {}))
        calls = [Call(**json.loads(line)) for line in (self.home / "calls.jsonl").read_text().splitlines()]
        tasks = {task.task_id: str(task.state) for task in made.get_task_instances()}
        return Run(state=str(made.state), tasks=tasks, calls=calls, run_id=made.run_id)


@pytest.fixture
def run(home: Path) -> Runner:
    return Runner(home)
