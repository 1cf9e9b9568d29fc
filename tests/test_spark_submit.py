"""Jobs are submitted with the settings' master, properties and memory, unless options of spark-submit say otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.settings import Settings
from nightlog.spark import delta_jars
from nightlog.spark_submit import job_names, submit_command, submit_environment

ROOT = Path(__file__).resolve().parents[1]


def test_options_before_the_job_are_spark_submits_and_those_after_it_the_jobs() -> None:
    words = ["--conf", "spark.executor.instances=3", "parse", "--ds", "2026-03-04", "--systems", "ingest"]
    command = submit_command(words, Settings(driver_memory="2g"))
    job = command.index(str(ROOT / "jobs" / "parse.py"))
    assert command[job + 1 :] == ["--ds", "2026-03-04", "--systems", "ingest"]
    assert command[job - 2 : job] == words[:2]  # behind those of the settings, so that they win
    assert command[command.index("--driver-memory") + 1] == "2g"
    assert command[command.index("--jars") + 1] == delta_jars()
    assert command[command.index("--master") + 1] == "local[*]"


def test_a_file_of_properties_names_the_master_unless_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLOG_SPARK_PROPERTIES", "conf/yarn.conf")
    command = submit_command(["parse"], Settings())
    assert command[command.index("--properties-file") + 1] == "conf/yarn.conf"
    assert "--master" not in command
    monkeypatch.setenv("NIGHTLOG_MASTER", "spark://node:7077")
    command = submit_command(["parse"], Settings())
    assert command[command.index("--master") + 1] == "spark://node:7077"


def test_words_without_a_job_are_refused_with_the_jobs_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no job in `--master yarn parsing`; .* JOB one of .*ingest.*train"):
        submit_command(["--master", "yarn", "parsing"], Settings())
    assert {"ingest", "parse", "publish", "maintain", "retrain"} < set(job_names())


def test_the_driver_is_this_python_and_a_local_master_stays_on_this_machine() -> None:
    local = submit_environment(["spark-submit", "--master", "yarn", "--master", "local[2]"], {"PYSPARK_PYTHON": "/env/bin/python"})
    assert local == {"PYSPARK_PYTHON": "/env/bin/python", "PYSPARK_DRIVER_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    assert "SPARK_LOCAL_IP" not in submit_environment(["spark-submit", "--master", "yarn"], {})
