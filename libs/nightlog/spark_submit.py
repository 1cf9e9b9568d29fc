"""Programs of Spark in this environment: Delta's JARs are resolved once, and jobs are submitted to a cluster with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from nightlog.errors import ConfigError, UsageError
from nightlog.settings import Settings
from nightlog.spark import JARS, delta_jars

DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"
CHECKOUT = Path(__file__).parents[2] / "jobs"
JOBS = CHECKOUT if CHECKOUT.is_dir() else JARS.parent / "jobs"  # the wheel puts the files of that folder there
SPARK_SUBMIT = Path(sys.prefix) / "bin" / "spark-submit"
LOG_LINES = 20


def resolve_jars(folder: Path = JARS, coordinates: str = DELTA, kept: Sequence[str] = ("io.delta_*.jar",)) -> list[Path]:
    """Download JARs, Delta's by default, and put them into a folder, instead of those that are there. Returns their paths.

    Spark's own resolver (Ivy) does it. Ivy fails on a partly filled Maven repository in the home folder, so it gets an empty home.

    Args: coordinates: `group:artifact:version` in Maven's terms, several separated by commas. kept: globs of names
    (`group_artifact-version.jar`); the others, on which these depend, are left out because Spark has them.
    Raises: ConfigError if Java or the repository cannot be reached, with the end of the resolver's output.
    """
    with TemporaryDirectory(prefix="nightlog-jars-") as scratch:
        home = Path(scratch)
        program = home / "nothing.py"
        program.write_text("pass\n")
        options = ["--master", "local[1]", "--packages", coordinates, "--conf", f"spark.jars.ivy={home / 'ivy'}"]
        env = os.environ | {
            "SPARK_SUBMIT_OPTS": f"{os.environ.get('SPARK_SUBMIT_OPTS', '')} -Duser.home={home}".strip(),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
        }
        done = subprocess.run([spark_submit(), *options, str(program)], env=env, capture_output=True, text=True, check=False)
        resolved = sorted(jar for name in kept for jar in (home / "ivy" / "jars").glob(name))
        if done.returncode or not resolved:
            end = "\n".join((done.stdout + done.stderr).splitlines()[-LOG_LINES:])
            raise ConfigError(f"{coordinates} cannot be resolved; Java 17 and a way to Maven Central are needed:\n{end}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return [Path(shutil.copy(jar, folder)) for jar in resolved]


def spark_submit() -> str:
    """Return the path of this environment's spark-submit. Raises ConfigError if it is not installed."""
    if not SPARK_SUBMIT.exists():
        raise ConfigError(f"{SPARK_SUBMIT} is not there; install what runs nights: pip install 'nightlog[jobs]'")
    return str(SPARK_SUBMIT)


def job_names(folder: Path = JOBS) -> list[str]:
    """Return the names of the jobs that ship with Nightlog."""
    return sorted(path.stem for path in folder.glob("*.py"))


def submit_command(words: Sequence[str], settings: Settings) -> list[str]:
    """Return the command that submits a job: `[option of spark-submit …] JOB [option of the job …]`.

    Settings give master, properties file and driver memory; options of spark-submit in `words` take precedence. Delta must be on the
    driver's class path before Python starts, hence `--jars`.

    Raises: UsageError if no word is a job's name, ConfigError if Delta's JARs are missing.
    """
    names = job_names()
    position = next((n for n, word in enumerate(words) if word in names), None)
    if position is None:
        raise UsageError(
            f"no job in `{' '.join(words)}`; expected [option of spark-submit …] JOB [option …], JOB one of {', '.join(names)}"
        )
    own, job, options = words[:position], words[position], words[position + 1 :]
    properties = settings.spark_properties
    with_master = properties is None or "master" in settings.model_fields_set  # a properties file names the master
    return [
        spark_submit(),
        *(("--master", settings.master) if with_master else ()),
        *(("--properties-file", str(properties)) if properties is not None else ()),
        *("--driver-memory", settings.driver_memory),
        *("--conf", "spark.log.level=WARN"),
        *("--jars", delta_jars()),
        *own,
        str(JOBS / f"{job}.py"),
        *options,
    ]


def submit_environment(command: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for spark-submit: this Python, and on a local master this machine's own address; what `env` has is kept."""
    defaults = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    masters = [value for option, value in pairwise(command) if option == "--master"]
    if masters and masters[-1].startswith("local"):
        defaults["SPARK_LOCAL_IP"] = "127.0.0.1"
    return {**defaults, **env}
