"""How a task runs a program of the jobs' environment, and what its exit code means to Airflow.

The DAGs know neither Spark nor Nightlog: they start a program under `NIGHTLOG_HOME` (default: the folder above this one), which inherits
`NIGHTLOG_LAKE`, `NIGHTLOG_DATA`, `NIGHTLOG_LLM` and the rest from the environment. That folder is the repository, with its `.venv`, or
`share/nightlog` of an environment that the wheel was installed into.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator, BaseOperatorLink, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.sdk import Context

HOME = Path(os.environ.get("NIGHTLOG_HOME") or Path(__file__).resolve().parents[1])
# share/nightlog of an environment that has the wheel, or the repository
BIN = (HOME.parents[1] if HOME.parts[-2:] == ("share", "nightlog") else HOME / ".venv") / "bin"
PROPERTIES = os.environ.get("NIGHTLOG_SPARK_PROPERTIES")  # a file for spark-submit, e.g. conf/yarn.conf; it names the master
MASTER = os.environ.get("NIGHTLOG_MASTER") or (None if PROPERTIES else "local[*]")

DONE, USAGE, NOT_THERE, GATE, TRANSIENT, PERMANENT, INCOMPLETE = 0, 2, 4, 10, 20, 30, 40  # as in libs/nightlog/outcomes.py
MEANING = {
    NOT_THERE: "no such system or night",
    GATE: "a gate stopped a system",
    USAGE: "the program does not know these arguments",
    TRANSIENT: "transient",
    PERMANENT: "configuration or permanent",
    INCOMPLETE: "published, but nobody judged some sessions",
}
NO_RETRY = {GATE, NOT_THERE, USAGE, PERMANENT}
GRACE_S = 10.0
WELL = re.compile(r"[\w-]+: done\b")  # a line of `nightlog outcomes`

SYSTEMS_PARAM = Param(
    None,
    type=["null", "string"],
    pattern=r"^[a-z][a-z0-9_-]*(,[a-z][a-z0-9_-]*)*$",
    description="systems to handle, with commas between them; empty: all",
)
FEWER_LINES_PARAM = Param(False, type="boolean", description="replace a published day even if it has fewer lines now")
READ_AGAIN_PARAM = Param(False, type="boolean", description="read and parse the files even if they have not changed since they were read")
DS_PARAM = Param(
    None,
    type=["null", "string"],
    format="date",
    pattern=r"^\d{4}-\d{2}-\d{2}$",
    description="day whose logs to read, YYYY-MM-DD; empty: the day on which the run's data interval starts",
)

# A manual run may have no data interval: it takes the day before the run.
DS = "{{ params.ds or (dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1)) | ds }}"
NIGHT = ["--ds", DS, "--run-id", "{{ run_id }}"]
FEWER_LINES = "{{ '--fewer-lines' if params.fewer_lines else '' }}"
READ_AGAIN = "{{ '--read-again' if params.read_again else '' }}"
SYSTEMS = "{{ '--systems=' ~ params.systems if params.systems else '' }}"

# What other DAGs can follow: `schedule=[Asset("gold.anomalies")]`. An event says of which night it is: extra = {"ds": …, "run_id": …}.
# They are known by these names alone: an asset of the same name with an address would be another one to Airflow.
ANOMALIES = Asset("gold.anomalies")
NIGHTS = Asset("gold.nights")

TASK_DEFAULTS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=float(os.environ.get("NIGHTLOG_RETRY_DELAY_S", "60"))),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=30),
    "execution_timeout": timedelta(seconds=float(os.environ.get("NIGHTLOG_STAGE_TIMEOUT_S", "14400"))),
    "max_active_tis_per_dag": 1,  # one writer a table, whatever backfills run beside the night
    "trigger_rule": "all_done",  # one system's failure must not stop the others
}


def environment() -> dict[str, str]:
    """The task's own environment; what `spark-submit` reads before any Python starts goes behind what is set there."""
    python = str(BIN / "python")
    defaults = {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}
    if MASTER is not None and MASTER.startswith("local"):
        defaults["SPARK_LOCAL_IP"] = "127.0.0.1"
    return {**defaults, **os.environ, "PYTHONUNBUFFERED": "1"}


def is_local() -> bool:
    """Return whether Spark would run on this machine alone."""
    return not PROPERTIES and re.match(r"local(\[|$)", MASTER or "") is not None


def spark_job(name: str) -> list[str]:
    """Return the command of `jobs/<name>.py` for a job that may need Spark.

    On this machine the job starts a session itself, and only if its work is large: a night of small systems needs no JVM. A cluster gets
    the job by spark-submit.
    """
    return plain_job(name) if is_local() else [*nightlog("spark-submit"), name]


def plain_job(name: str) -> list[str]:
    """Return the command of `jobs/<name>.py` in the jobs' own Python."""
    return [str(BIN / "python"), str(HOME / "jobs" / f"{name}.py")]


def nightlog(command: str) -> list[str]:
    """A command of Nightlog's own command line."""
    return [str(BIN / "nightlog"), command]


class RunProgram(BaseOperator):
    """Runs one program; each line it prints is a line of the task's log; empty words of the command are dropped.

    Exit code 0: done. 40, incomplete: done as well, `report_outcomes` turns the run red at its end. 10, 30 (and 2, usage, 4, not there):
    failed, not tried again. 20 and all others, such as a kill for memory: tried again. A program that does not exist or cannot be started
    is a matter of configuration: not tried again.
    """

    template_fields = ("command",)

    def __init__(self, *, command: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> None:
        """Run it, and fail as its exit code says."""
        code, tail = self.run_program()
        if code not in (DONE, INCOMPLETE):
            error = AirflowFailException if code in NO_RETRY else AirflowException
            raise error(f"{self.task_id}: exit {code}, {MEANING.get(code, 'crashed or killed')}; last line: {''.join(tail[-1:])}")
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"ds": self.option("--ds"), "run_id": self.option("--run-id")}

    def option(self, name: str) -> str:
        """The word behind an option of the command."""
        return self.command[self.command.index(name) + 1]

    def run_program(self) -> tuple[int, list[str]]:
        """Its exit code and its last lines. It has a process group of its own, none of which outlives this call."""
        command = [word for word in self.command if word]
        self.log.info("%s: %s", self.task_id, shlex.join(command))
        try:
            self.process = subprocess.Popen(
                command,
                cwd=HOME,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="backslashreplace",
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise AirflowFailException(
                f"{self.task_id}: {command[0]} cannot be started in {HOME}: {error.strerror}; set NIGHTLOG_HOME to the folder that holds "
                "jobs/ and .venv, or to share/nightlog of the wheel's environment, or run `make setup`"
            ) from error
        tail: deque[str] = deque(maxlen=2000)
        try:
            for line in self.process.stdout or ():
                tail.append(line.rstrip())
                self.log.info("%s", tail[-1])
            return self.process.wait(), list(tail)
        except KeyboardInterrupt:  # `airflow dags test` would take it for a failed try, and wait for the next
            self.on_kill()
            os._exit(128 + signal.SIGINT)
        finally:
            self.on_kill()

    def on_kill(self) -> None:
        """End the program and its children: they are asked to, and have ten seconds."""
        if self.process is None:
            return
        deadline = time.monotonic() + GRACE_S
        with suppress(ProcessLookupError):  # the group is gone
            os.killpg(self.process.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                self.process.poll()
                os.killpg(self.process.pid, 0)
                time.sleep(0.1)
            os.killpg(self.process.pid, signal.SIGKILL)


class NightPage(BaseOperatorLink):
    """The link from the task to the night's page, if NIGHTLOG_PAGES_URL says where the lake's folder `reports` is served."""

    name = "The night's page"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address; empty: it is not served."""
        assert isinstance(operator, RunProgram)
        served = os.environ.get("NIGHTLOG_PAGES_URL", "").rstrip("/")
        return f"{served}/{operator.option('--ds')}/index.html" if served else ""


class ReportOutcomes(RunProgram):
    """Prints the outcome of each system and turns the run red if one of them, or a whole stage, has failed.

    Airflow's page shows the lines as the task's XCom `outcomes`, and a link to the night's page.
    """

    operator_extra_links = (NightPage(),)

    def execute(self, context: Context) -> None:
        """Ask the lake and Airflow: a stage that died altogether may have written no outcome."""
        code, outcomes = self.run_program()
        context["ti"].xcom_push("outcomes", outcomes)
        run, stages = context["run_id"], [task for task in self.dag.task_ids if task != self.task_id]
        states = context["ti"].get_task_states(dag_id=self.dag_id, task_ids=stages, run_ids=[run]).get(run, {})
        failed = [stage for stage in stages if states.get(stage) != "success"]
        if code != DONE or failed:
            reasons = [line for line in outcomes if not WELL.match(line)] or ["(no system said why)"]
            raise AirflowFailException(f"{run}: stages failed: {', '.join(failed) or 'none'}; systems:\n" + "\n".join(reasons))
