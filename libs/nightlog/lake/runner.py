"""The one place that decides between this machine's processes and Spark, and runs tasks there.

A little text is worked through in this process, more of it in as many processes as the machine has cores, and what would take longer
than Spark's start by Spark. Work that is not text is given in bytes of text that take as long.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, TypeVar

from nightlog.errors import TransientError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Value = TypeVar("Value")
Result = TypeVar("Result")

# This machine's processes work through so much text while Spark and its Python workers start: beyond it a cluster is faster.
LOCAL_BYTES = 256 << 20
# A local Spark has no more cores than this machine's processes have; but it starts a killed task again, so long nights are its own.
LOCAL_BYTES_ONE_MACHINE = 2 << 30
# Another process needs as long to start as this one needs for so much text.
ONE_PROCESS_BYTES = 16 << 20


# So many results of tasks are sent to the driver as they are.
MOST_RESULTS = 128


class Runner:
    """Runs work on this machine or on Spark.

    `session`: a Spark session, or a function that starts one when it is first needed; None if there is no Spark. `local_bytes`: work of at
    most this size is done on this machine; 0 sends everything to Spark.
    """

    def __init__(self, session: SparkSession | Callable[[], SparkSession] | None = None, local_bytes: int = LOCAL_BYTES):
        self.session = session
        self.local_bytes = local_bytes

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started if it has to be. Raises AssertionError if there is no Spark."""
        assert self.session is not None, "this process has no Spark session"
        return self.session() if callable(self.session) else self.session

    @cached_property
    def processes(self) -> ProcessPoolExecutor:
        """This machine's processes, one for each core; they start when there is work for them."""
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has no affinity
        return ProcessPoolExecutor(n_cores, get_context("forkserver"), end_with_parent)

    def runs_locally(self, n_bytes: int) -> bool:
        """Return true if work of this size is done on this machine."""
        return self.session is None or (self.local_bytes > 0 and n_bytes <= self.local_bytes)

    def run(self, tasks: Sequence[Task], work: Callable[[Task], Result], n_bytes: int) -> list[Result]:
        """Return the results of all tasks, in their order.

        Args: n_bytes: the text that the tasks read, all together. Raises TransientError if a process on this machine is killed.
        """
        if not self.runs_locally(n_bytes) and tasks:
            return self.spark.sparkContext.parallelize(tasks, len(tasks)).map(work).collect()
        if n_bytes <= ONE_PROCESS_BYTES or len(tasks) < 2:
            return [work(task) for task in tasks]
        try:
            return list(self.processes.map(work, tasks))
        except BrokenProcessPool as error:
            del self.processes
            raise TransientError("a worker process was killed, perhaps for want of memory; the stage can be run again") from error

    def run_joined(
        self, tasks: Sequence[Task], work: Callable[[Task], Result], join: Callable[[Iterable[Result]], Result], n_bytes: int
    ) -> Result:
        """Return the results of all tasks joined, in any order; many results of Spark's tasks are joined by its workers first.

        Args: join: must give the same for joined results as for the results themselves. Otherwise as `run`.
        """
        if self.runs_locally(n_bytes) or len(tasks) <= MOST_RESULTS:
            return join(self.run(tasks, work, n_bytes))
        n_groups = math.isqrt(len(tasks))
        numbered = self.spark.sparkContext.parallelize(list(enumerate(tasks)), len(tasks))
        pairs = numbered.map(lambda task: (task[0] % n_groups, work(task[1]))).partitionBy(n_groups, int)
        return join(pairs.mapPartitions(lambda found: [join(result for _, result in found)]).collect())

    def run_shuffled(
        self,
        tasks: Sequence[Task],
        split: Callable[[Task], Iterable[tuple[int, Value]]],
        n_keys: int,
        work: Callable[[int, Iterable[Value]], Result],
    ) -> list[Result]:
        """Return the result of each key from 0 on, in their order, by Spark: `split` cuts each task once into values with keys, and `work`
        gets all values of a key, in any order.
        """
        pairs = self.spark.sparkContext.parallelize(tasks, len(tasks)).flatMap(split).partitionBy(n_keys, int)
        return pairs.mapPartitionsWithIndex(lambda key, values: [work(key, (value for _, value in values))]).collect()

    def close(self) -> None:
        """End the processes and the session, if they were started and the session's JVM is still there."""
        if "processes" in self.__dict__:
            self.processes.shutdown(cancel_futures=True)
        started = self.__dict__.get("spark")
        if started is None:
            return
        from py4j.protocol import Py4JError

        try:
            started.stop()
        except (OSError, Py4JError) as error:
            log.warning("Spark could not be asked to stop, its JVM is gone: %s", error)


def end_with_parent() -> None:
    """Let this worker process end when the process that started it ends, in whatever way; an interrupt is for that one to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, "a worker has a parent"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
