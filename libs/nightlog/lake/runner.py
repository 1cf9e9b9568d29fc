"""The one place that decides between this process and Spark, and runs tasks there.

Starting a Spark job with Python workers takes longer than this process needs for a few mebibytes of text. Work that is not text is given in
bytes of text that take as long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

# This process works through so much text in about the time that a Spark job takes to start.
LOCAL_BYTES = 8 << 20


class Runner:
    """Runs work in this process or on Spark.

    `session`: a Spark session, or a function that starts one when it is first needed; None if there is no Spark. `local_bytes`: work of at
    most this size is done in this process; 0 sends everything to Spark.
    """

    def __init__(self, session: SparkSession | Callable[[], SparkSession] | None = None, local_bytes: int = LOCAL_BYTES):
        self.session = session
        self.local_bytes = local_bytes

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started if it has to be. Raises AssertionError if there is no Spark."""
        assert self.session is not None, "this process has no Spark session"
        return self.session() if callable(self.session) else self.session

    def runs_locally(self, n_bytes: int) -> bool:
        """Return true if work of this size is done in this process."""
        return self.session is None or (self.local_bytes > 0 and n_bytes <= self.local_bytes)

    def run(self, tasks: Sequence[Task], work: Callable[[Task], Result], n_bytes: int) -> list[Result]:
        """Return the results of all tasks, in their order. Args: n_bytes: the text that the tasks read, all together."""
        if self.runs_locally(n_bytes) or not tasks:
            return [work(task) for task in tasks]
        return self.spark.sparkContext.parallelize(tasks, len(tasks)).map(work).collect()

    def close(self) -> None:
        """End the session, if one was started and its JVM is still there."""
        started = self.__dict__.get("spark")
        if started is None:
            return
        from py4j.protocol import Py4JError

        try:
            started.stop()
        except (OSError, Py4JError) as error:
            log.warning("Spark could not be asked to stop, its JVM is gone: %s", error)
