"""Airflow's API server, scheduler and DAG processor, in one process group, on a database of their own."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
PARTS = ("api-server", "dag-processor", "scheduler")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """The process and all that it started and that is still its own, in its process group."""
    parents: dict[int, int] = {}
    groups: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)], groups[int(entry.name)] = int(fields[1]), int(fields[2])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each and groups[child] == groups.get(pid)]
    return found


@dataclass
class Airflow:
    """An Airflow installation under a folder, for as long as the block lasts."""

    home: Path
    more: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        port = free_port()
        self.api = f"http://127.0.0.1:{port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "NIGHTLOG_", "OPENAI_"))},
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__BASE_URL": self.api,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-of-this-test-and-of-nothing-else-" + "0123456789abcdef" * 2,
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.api}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            # SQLite has one writer: whoever comes second waits.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}?timeout=60",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "NIGHTLOG_HOME": str(ROOT),
            **self.more,
        }

    def __enter__(self) -> Airflow:
        (self.home / "config").mkdir(parents=True, exist_ok=True)
        settings = Path(__file__).with_name("airflow_local_settings.py")
        (self.home / "config" / settings.name).write_text(settings.read_text(encoding="utf-8"), encoding="utf-8")
        self.call("db", "migrate")
        for part in PARTS[:2]:
            self.start(part)
        self.wait("the API server", self.healthy, 180)
        self.start("scheduler")
        self.wait("the DAG", lambda: bool(self.rows("select 1 from dag where dag_id = 'nightlog_nightly' and not is_stale")), 180)
        return self

    def __exit__(self, *_: object) -> None:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            leaders = [each for each in self.running.values() if each.poll() is None]
            for each in leaders:
                for pid in descendants(each.pid):
                    kill(pid, sent)
            deadline = time.monotonic() + 15
            while any(each.poll() is None for each in leaders) and time.monotonic() < deadline:
                time.sleep(0.2)

    def start(self, part: str) -> None:
        """Start one of the parts; all are in the group of the first."""
        first = self.running.get(PARTS[0])
        log = (self.home / f"{part}.log").open("ab")
        self.running[part] = subprocess.Popen(
            [str(AIRFLOW), part], env=self.environment, cwd=self.home, stdout=log, stderr=log, process_group=first.pid if first else 0
        )

    def kill_scheduler(self) -> None:
        """SIGKILL to the scheduler and its task runners. The program of a task has a group of its own, and goes on."""
        scheduler = self.running["scheduler"]
        for pid in descendants(scheduler.pid):
            kill(pid, signal.SIGKILL)
        scheduler.wait()

    def stop(self, part: str) -> None:
        """End a part as an operator would. Raises TimeoutError where it does not end."""
        stopped = self.running.pop(part)
        stopped.terminate()
        try:
            stopped.wait(60)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{part} did not end within a minute of SIGTERM") from error

    def call(self, *words: str) -> str:
        """Run `airflow WORDS` to its end. Raises RuntimeError."""
        done = subprocess.run([str(AIRFLOW), *words], env=self.environment, cwd=self.home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(words)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What Airflow's database says."""
        with sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=30) as database:
            return database.execute(sql, values).fetchall()

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api}/api/v2/version", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait(self, what: str, come: Any, limit_s: float) -> None:
        """Wait until something has come. Raises TimeoutError, with the ends of the parts' logs."""
        deadline = time.monotonic() + limit_s
        while not come():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{part}: {(self.home / f'{part}.log').read_text(errors='replace')[-2000:]}" for part in self.running)
                raise TimeoutError(f"waited {limit_s:.0f} s for {what}\n{self.states()}\n{logs}")
            if dead := [part for part, each in self.running.items() if each.poll() is not None]:
                raise RuntimeError(f"{dead[0]} has ended: {(self.home / f'{dead[0]}.log').read_text(errors='replace')[-4000:]}")
            time.sleep(1)

    def states(self) -> str:
        """Runs and tasks, for a message."""
        runs = self.rows("select run_id, run_type, state from dag_run order by id")
        tasks = self.rows(
            "select run_id, task_id, state, try_number from task_instance where state is not null order by run_id, start_date"
        )
        return "\n".join(" ".join(map(str, row)) for row in [*runs, *tasks])


def kill(pid: int, sent: signal.Signals) -> None:
    try:
        os.kill(pid, sent)
    except ProcessLookupError:
        print(f"{pid} is gone already", file=sys.stderr)
