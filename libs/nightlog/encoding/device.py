"""Where torch computes: the GPU that Spark gave to a task, a GPU of this machine, or one thread of its CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: small networks gain nothing by more, threads that wait for each other on busy cores lose minutes, and the
    result does not depend on the machine's cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_device(wanted: str) -> torch.device:
    """The device of this process or Spark task; `auto` takes a GPU where there is one."""
    import torch

    return torch.device(device_name(wanted, task_gpus(), torch.cuda.device_count()))


def device_name(wanted: str, given: Sequence[str], n_gpus: int) -> str:
    """`cpu`, or the GPU to compute on. Spark says which GPU is a task's but sets nothing in its environment, so two tasks would share one.

    Args: wanted: auto, cpu or cuda; given: addresses of the GPUs that Spark gave to the task; n_gpus: how many torch can see.

    >>> device_name("auto", ["3"], 4), device_name("auto", [], 4), device_name("auto", ["3"], 0), device_name("cpu", ["3"], 4)
    ('cuda:3', 'cuda', 'cpu', 'cpu')
    """
    if wanted == "cpu" or (wanted == "auto" and not n_gpus):
        return "cpu"
    return f"cuda:{given[0]}" if given else "cuda"


def task_gpus() -> list[str]:
    """Addresses of the GPUs that Spark gave to this task; none outside of a task, or where it gave none."""
    from pyspark import TaskContext

    task = TaskContext.get()
    found = task.resources().get("gpu") if task is not None else None
    return list(found.addresses) if found is not None else []


def batches(lengths: Sequence[int], budget: int) -> Iterator[np.ndarray]:
    """Numbers of texts that go through a network together, texts of like length in one batch: each is padded to the longest of them, so a
    batch is as large as `budget` letters allow, one text at least.

    >>> [batch.tolist() for batch in batches([3, 50, 4, 4], 12)]
    [[0, 2, 3], [1]]
    """
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > budget:
            yield order[start:end]
            start = end
