"""The pool of worker processes on this machine: each works on one task at a time, and a task whose process is killed is repeated.

`concurrent.futures` gives up a whole pool if one of its processes is killed, whatever the others work on. Here each process has a pipe of
its own, so that its end interrupts one task alone.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from nightlog.errors import TransientError

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")
Work: TypeAlias = Callable[[Any], Any]

# A task is tried so many times, as by Spark (spark.task.maxFailures).
ATTEMPTS = 4


def count_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores that this process may use, at least 1: those of its affinity, or fewer if its control group has a quota.

    Args: groups: the folder of the control groups (version 2); own: the file that names the group of this process.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has no affinity
    names = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::/")] if own.is_file() else []
    for name in names:
        for folder in (groups / name[1:], *(groups / name[1:]).parents):
            if folder.is_relative_to(groups) and (folder / "cpu.max").is_file():
                quota, period = (folder / "cpu.max").read_text().split()
                n_cores = n_cores if quota == "max" else min(n_cores, round(int(quota) / int(period)))
    return max(1, n_cores)


class Worker:
    """A process that works on one task after the other."""

    def __init__(self) -> None:
        # A process with Arrow's and torch's threads must not be forked: a server that has none forks the workers.
        context = get_context("forkserver")
        self.connection, far_end = context.Pipe()
        self.process = context.Process(target=serve, args=(far_end,), daemon=True)
        self.process.start()
        far_end.close()
        self.work = b""

    def give(self, work: bytes, task: object) -> bool:
        """Send a task, and the pickled function that works on it unless the process has it. Returns False if the process has ended."""
        try:
            self.connection.send((None if work is self.work else work, task))
        except (BrokenPipeError, ConnectionResetError):
            return False
        self.work = work
        return True

    def receive(self) -> tuple[bool, Any]:
        """Wait for the task's result. Returns (True, result) or (False, the error that it raised). Raises EOFError if the process ended."""
        try:
            done: tuple[bool, Any] = self.connection.recv()
        except ConnectionResetError as error:
            raise EOFError from error
        return done

    def end(self) -> None:
        """End the process, if it has not ended, and close its pipe."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class Pool:
    """Worker processes, started when there is work for them; they stay for later work until `close`.

    `n_processes`: at most so many at a time.
    """

    def __init__(self, n_processes: int):
        self.n_processes = n_processes
        self.idle: list[Worker] = []

    def results(self, tasks: Sequence[Task], work: Callable[[Task], Result]) -> Generator[tuple[int, Result], None, None]:
        """Yield the number of each task with its result, as they come.

        Raises TransientError if the processes of one task were killed ATTEMPTS times, and whatever a task raises. Then, and if the caller
        stops asking for results, tasks under way are killed.
        """
        pickled = bytes(ForkingPickler.dumps(work))
        waiting, killed = deque(range(len(tasks))), Counter[int]()
        busy: dict[Any, tuple[Worker, int]] = {}

        def begin_tasks() -> None:
            while waiting and len(busy) < self.n_processes:
                number = waiting.popleft()
                worker = self.begin(pickled, tasks[number])
                busy[worker.connection] = worker, number

        try:
            begin_tasks()
            while busy:
                found: list[tuple[int, Result]] = []
                for connection in wait(busy):
                    worker, number = busy.pop(connection)
                    try:
                        succeeded, result = worker.receive()
                    except EOFError:
                        killed[number] += 1
                        note_kill(worker, killed[number])
                        waiting.appendleft(number)
                        continue
                    self.idle.append(worker)
                    if not succeeded:
                        raise result
                    found.append((number, result))
                begin_tasks()  # before the caller works on what is found
                yield from found
        finally:
            for worker, _ in busy.values():
                worker.end()

    def begin(self, work: bytes, task: object) -> Worker:
        """Give a task to an idle process, or to a new one. Returns the process."""
        while True:
            worker = self.idle.pop() if self.idle else Worker()
            if worker.give(work, task):
                return worker
            worker.end()

    def close(self) -> None:
        """End the processes."""
        for worker in self.idle:
            worker.end()
        self.idle = []


def note_kill(worker: Worker, n_times: int) -> None:
    """Log that a process was killed. Raises TransientError if it was the task's last attempt."""
    worker.end()
    why = f"a worker process was killed (exit {worker.process.exitcode}), perhaps for lack of memory"
    if n_times >= ATTEMPTS:
        raise TransientError(f"{why}, {n_times} times at the same task; the stage can be run again")
    log.warning("%s; its task is tried again", why)


def serve(connection: Connection) -> None:
    """Work on tasks until the other end of the pipe is closed. Runs in a worker process."""
    end_with_parent()
    work: Work | None = None
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        work, answer = answer_to(message, work)
        connection.send_bytes(answer)
        del message, answer
        release_memory()


def answer_to(message: bytes, work: Work | None) -> tuple[Work | None, Any]:
    """Work on a task. Args: message: what `Worker.give` sends. Returns the function for this and later tasks, and the pickled answer."""
    try:
        pickled, task = pickle.loads(message)
        work = pickle.loads(pickled) if pickled is not None else work
        assert work is not None, "the first task comes with its work"
        return work, ForkingPickler.dumps((True, work(task)))
    except Exception as error:  # the pool raises it
        error.add_note(f"In a worker process: {traceback.format_exc()}")
        return work, ForkingPickler.dumps((False, error))


def release_memory() -> None:
    """Give the memory of a finished task back to the system: Arrow's, and that of glibc; other libraries have no such call."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def end_with_parent() -> None:
    """Let this worker process end when the process that started it ends, in whatever way; an interrupt is for that one to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, "a worker has a parent"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
