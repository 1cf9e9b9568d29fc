"""The runner: the place of work of each size, and its outcome if a process is killed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from nightlog.errors import FormatError, TransientError
from nightlog.lake.pool import count_cores
from nightlog.lake.runner import LOCAL_BYTES, ONE_PROCESS_BYTES, Runner

MUCH = ONE_PROCESS_BYTES + 1


def where(task: int) -> tuple[int, int]:
    return task, os.getpid()


def double(task: int) -> int:
    return 2 * task


KEPT: list[np.ndarray] = []


def fill_memory(_: int) -> tuple[int, int]:
    """Use 160 MB in small pieces, and keep the last of them. Returns the process and its resident bytes at that moment."""
    pieces = [np.ones(8_000) for _ in range(2_500)]
    KEPT.append(pieces[-1])
    return os.getpid(), resident(os.getpid())


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


def refuse_results(results: Iterable[int]) -> int:
    raise ValueError(f"{next(iter(results))} is enough")


def refuse(task: int) -> int:
    raise FormatError(f"task {task} cannot be read")


def die(task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def die_at_first(task: int, folder: Path) -> int:
    """Die unless this task was tried before."""
    if task % 3 == 0 and not (tried := folder / str(task)).exists():
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def letters_of(task: str) -> Iterator[tuple[int, str]]:
    """Split a word into its letters; the key is the number of the letter in the alphabet, modulo 3."""
    return ((ord(letter) % 3, letter) for letter in task)


def sorted_letters(key: int, letters: Iterable[str]) -> tuple[int, str]:
    return key, "".join(sorted(letters))


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
    with pytest.raises(FormatError, match=r"task [12] cannot be read"):
        runner.run([1, 2], refuse, MUCH)
    runner.close()


def test_the_task_of_a_killed_process_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner()
    tasks = list(range(10))
    assert runner.run(tasks, partial(die_at_first, folder=tmp_path), MUCH) == tasks
    assert len(list(tmp_path.iterdir())) == 4
    assert caplog.text.count("a worker process was killed (exit -9)") == 4
    runner.close()


def test_a_task_whose_processes_are_killed_each_time_is_a_transient_error_and_the_next_run_works() -> None:
    runner = Runner()
    with pytest.raises(TransientError, match="4 times at the same task"):
        runner.run([1, 2], die, MUCH)
    assert [task for task, _ in runner.run([1, 2], where, MUCH)] == [1, 2]
    runner.close()


def test_an_idle_process_that_was_killed_is_replaced() -> None:
    runner = Runner()
    for _, process in runner.run([1, 2, 3], where, MUCH):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert [task for task, _ in runner.run([1, 2, 3], where, MUCH)] == [1, 2, 3]
    runner.close()


def test_an_idle_process_has_given_back_the_memory_of_its_task() -> None:
    runner = Runner()
    for process, most in runner.run([1, 2], fill_memory, MUCH):
        deadline = time.monotonic() + 30
        while resident(process) > most - (80 << 20) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert resident(process) < most - (80 << 20)
    runner.close()


@pytest.mark.parametrize("n_bytes", [1, MUCH])
def test_results_are_joined_as_they_come(n_bytes: int) -> None:
    runner = Runner()
    assert runner.run_joined(list(range(20)), double, sum, n_bytes) == 2 * sum(range(20))
    runner.close()


def test_processes_of_tasks_that_nobody_waits_for_are_ended() -> None:
    runner = Runner()
    with pytest.raises(ValueError, match="enough"):
        runner.run_joined(list(range(20)), double, refuse_results, MUCH)
    assert [task for task, _ in runner.run([1, 2], where, MUCH)] == [1, 2]
    runner.close()


@pytest.mark.parametrize("n_bytes", [1, MUCH])
def test_each_key_gets_all_its_values_and_no_file_is_left(n_bytes: int, tmp_path: Path) -> None:
    runner = Runner(scratch=str(tmp_path))
    words = ["night", "log", "", "day"]
    found = runner.run_shuffled(words, letters_of, 4, sorted_letters, n_bytes)
    assert sorted(found) == [(0, "ilo"), (1, "adggy"), (2, "hnt"), (3, "")]
    assert list(tmp_path.iterdir()) == []
    runner.close()


def test_cores_are_those_of_the_control_group_and_of_those_above_it(tmp_path: Path) -> None:
    own, groups = tmp_path / "cgroup", tmp_path / "groups"
    (groups / "slice" / "unit").mkdir(parents=True)
    assert count_cores(groups, own) == len(os.sched_getaffinity(0))
    own.write_text("0::/slice/unit\n")
    (groups / "slice" / "unit" / "cpu.max").write_text("max 100000\n")
    assert count_cores(groups, own) == len(os.sched_getaffinity(0))
    (groups / "slice" / "cpu.max").write_text("100000 100000\n")
    assert count_cores(groups, own) == 1
    (groups / "slice" / "unit" / "cpu.max").write_text("20000 100000\n")
    assert count_cores(groups, own) == 1


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
