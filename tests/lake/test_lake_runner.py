"""The runner: where work of which size is done, and what becomes of it when a process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nightlog.errors import FormatError, TransientError
from nightlog.lake.runner import LOCAL_BYTES, ONE_PROCESS_BYTES, Runner

MUCH = ONE_PROCESS_BYTES + 1


def where(task: int) -> tuple[int, int]:
    return task, os.getpid()


def refuse(task: int) -> int:
    raise FormatError(f"task {task} cannot be read")


def die(task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_a_little_work_stays_here_and_more_goes_to_other_processes_in_order() -> None:
    runner = Runner()
    assert runner.run([1, 2], where, ONE_PROCESS_BYTES) == [(1, os.getpid()), (2, os.getpid())]
    assert runner.run([1], where, MUCH) == [(1, os.getpid())]
    tasks = list(range(20))
    found = runner.run(tasks, where, MUCH)
    runner.close()
    assert [task for task, _ in found] == tasks
    assert os.getpid() not in {process for _, process in found}


def test_spark_is_asked_only_beyond_the_setting() -> None:
    def start() -> None:
        raise AssertionError("Spark was started")

    runner = Runner(start, LOCAL_BYTES)
    assert len(runner.run([1, 2], where, LOCAL_BYTES)) == 2
    with pytest.raises(AssertionError, match="Spark was started"):
        runner.run([1, 2], where, LOCAL_BYTES + 1)
    with pytest.raises(AssertionError, match="Spark was started"):
        Runner(start, 0).run([1], where, 1)
    runner.close()


def test_an_error_of_a_task_arrives_as_it_was_raised() -> None:
    runner = Runner()
    with pytest.raises(FormatError, match="task 1 cannot be read"):
        runner.run([1, 2], refuse, MUCH)
    runner.close()


def test_a_killed_process_is_a_transient_error_and_the_next_run_works() -> None:
    runner = Runner()
    with pytest.raises(TransientError, match="worker process was killed"):
        runner.run([1, 2], die, MUCH)
    assert [task for task, _ in runner.run([1, 2], where, MUCH)] == [1, 2]
    runner.close()


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import os, sys, time
from nightlog.lake.runner import ONE_PROCESS_BYTES, Runner

def work(task):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    Runner().run([1, 2], work, ONE_PROCESS_BYTES + 1)
"""
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        worker = int(running.stdout.readline())
        running.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()
