"""Tasks of a stage: on Spark's Python workers, or here where there is so little to do that starting them would take longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake

Task = TypeVar("Task")
Result = TypeVar("Result")

# Bytes of text that this process works through in about the time that a Spark job with Python workers takes to start.
SMALL = 8 << 20


def run_tasks(lake: Lake, tasks: Sequence[Task], work: Callable[[Task], Result], n_bytes: int) -> list[Result]:
    """The results of all tasks, in their order. Args: n_bytes: how much text the tasks read, all together."""
    if lake.here(n_bytes, SMALL) or not tasks:
        return [work(task) for task in tasks]
    assert lake.spark is not None
    return lake.spark.sparkContext.parallelize(tasks, len(tasks)).map(work).collect()
