"""The one place that decides between this machine's processes and Spark, and runs tasks there.

A little text is worked through in this process, more of it in as many processes as the machine has cores. On a cluster, what would take
longer than Spark's start is done by Spark. Work that is not text is given in bytes of text that take as long.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, TypeVar

from nightlog.lake.pool import Pool, count_cores
from nightlog.lake.shuffle import Shuffle, split_task, work_on_values

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Value = TypeVar("Value")
Result = TypeVar("Result")

# This machine's processes work through so much text while Spark and its Python workers start: beyond it a cluster is faster.
LOCAL_BYTES = 256 << 20
# A local Spark has no more cores than this machine's processes have, so they do the work at any size.
LOCAL_BYTES_ONE_MACHINE = math.inf
# What cannot be cut into tasks for them is done in one process up to this size. Beyond it a local Spark is faster, too.
ONE_TASK_BYTES = 2 << 30
# Another process needs as long to start as this one needs for so much text.
ONE_PROCESS_BYTES = 16 << 20


# So many results of tasks are sent to the driver as they are.
MOST_RESULTS = 128


class Runner:
    """Runs work on this machine or on Spark.

    `session`: a Spark session, or a function that starts one when it is first needed; None if there is no Spark. `local_bytes`: work of at
    most this size is done on this machine; 0 sends everything to Spark. `scratch`: a local folder for values that are shuffled here; None:
    that for temporary files.
    """

    def __init__(
        self,
        session: SparkSession | Callable[[], SparkSession] | None = None,
        local_bytes: float = LOCAL_BYTES,
        scratch: str | None = None,
    ):
        self.session = session
        self.local_bytes = local_bytes
        self.scratch = scratch

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started if it has to be. Raises AssertionError if there is no Spark."""
        assert self.session is not None, "this process has no Spark session"
        return self.session() if callable(self.session) else self.session

    @cached_property
    def pool(self) -> Pool:
        """This machine's processes, one for each core; they start when there is work for them."""
        return Pool(count_cores())

    def runs_locally(self, n_bytes: int) -> bool:
        """Return true if tasks of this size, all together, are done on this machine."""
        return self.session is None or (self.local_bytes > 0 and n_bytes <= self.local_bytes)

    def runs_here(self, n_bytes: int) -> bool:
        """Return true if work of this size that is not cut into tasks is done in this process."""
        return self.session is None or (self.runs_locally(n_bytes) and n_bytes <= ONE_TASK_BYTES)

    def results(self, tasks: Sequence[Task], work: Callable[[Task], Result], n_bytes: int) -> Generator[tuple[int, Result], None, None]:
        """Yield the number of each task with its result as they come, from this process or from other ones of this machine."""
        if n_bytes <= ONE_PROCESS_BYTES or len(tasks) < 2:
            return ((number, work(task)) for number, task in enumerate(tasks))
        return self.pool.results(tasks, work)

    def run(self, tasks: Sequence[Task], work: Callable[[Task], Result], n_bytes: int) -> list[Result]:
        """Return the results of all tasks, in their order.

        Args: n_bytes: the text that the tasks read, all together. Raises TransientError if processes on this machine are killed again and
        again.
        """
        if not self.runs_locally(n_bytes) and tasks:
            return self.spark.sparkContext.parallelize(tasks, len(tasks)).map(work).collect()
        found = dict(self.results(tasks, work, n_bytes))
        return [found.pop(number) for number in range(len(tasks))]

    def run_joined(
        self, tasks: Sequence[Task], work: Callable[[Task], Result], join: Callable[[Iterable[Result]], Result], n_bytes: int
    ) -> Result:
        """Return the results of all tasks joined, in any order.

        This machine's results are joined as they come. Many results of Spark's tasks are joined by its workers first.

        Args: join: must give the same for joined results as for the results themselves. Otherwise as `run`.
        """
        if self.runs_locally(n_bytes):
            with closing(self.results(tasks, work, n_bytes)) as found:
                return join(result for _, result in found)
        if len(tasks) <= MOST_RESULTS:
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
        n_bytes: int,
    ) -> Iterator[Result]:
        """Yield the result of each key from 0 on, in any order. `split` cuts each task once into values with keys, and `work` gets all
        values of a key, in any order.

        On this machine values pass through a file in `scratch` that has no name, so that nothing is left of it however this process ends.
        """
        if not self.runs_locally(n_bytes):
            pairs = self.spark.sparkContext.parallelize(tasks, len(tasks)).flatMap(split).partitionBy(n_keys, int)
            yield from pairs.mapPartitionsWithIndex(lambda key, values: [work(key, (value for _, value in values))]).collect()
            return
        with TemporaryFile(dir=self.scratch) as file:
            shuffle = Shuffle(n_keys, file)
            for _, values in self.results(tasks, partial(split_task, split=split), n_bytes):
                shuffle.add(values)
            for _, result in self.results(shuffle, partial(work_on_values, work=work), n_bytes):
                yield result

    def close(self) -> None:
        """End the processes and the session, if they were started and the session's JVM is still there."""
        if "pool" in self.__dict__:
            self.pool.close()
        started = self.__dict__.get("spark")
        if started is None:
            return
        from py4j.protocol import Py4JError

        try:
            started.stop()
        except (OSError, Py4JError) as error:
            log.warning("Spark could not be asked to stop, its JVM is gone: %s", error)
