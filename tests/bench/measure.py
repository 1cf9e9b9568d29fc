"""Run a program and measure its whole tree of processes: wall, CPU, memory and bytes written, stage by stage.

The program prints `@stage NAME` on a line of its standard output when a stage begins.
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

EVERY = 0.1


@dataclass
class Tree:
    """The resources that the processes of a tree have used so far.

    `cpu`: of each process, of one that has ended by its last sample. `written`: of each living process; the system adds what a process has
    written to the count of its parent when it ends.
    """

    root: psutil.Process
    cpu: dict[int, float] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)
    now: int = 0
    peak: int = 0

    def look(self) -> None:
        """Take a sample. Memory that processes share is counted once for each of them, so the peak is an upper bound."""
        rss, written = 0, dict[int, int]()
        for process in [self.root, *self.root.children(recursive=True)]:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    written[process.pid] = process.io_counters().write_bytes
                    rss += process.memory_info().rss
            except psutil.Error:
                continue
        self.now, self.written = rss, written
        self.peak = max(self.peak, rss)

    def kill(self) -> None:
        """End all processes of the tree, the root first, so that it starts no others."""
        for process in [self.root, *self.root.children(recursive=True)]:
            with suppress(psutil.Error):
                process.kill()

    def used(self) -> tuple[float, int]:
        """Return CPU seconds and bytes written."""
        return sum(self.cpu.values()), sum(self.written.values())


def ended_children() -> tuple[float, int]:
    """Return CPU seconds and bytes written of all children that have ended, and of theirs: exact, where samples lack the last moment."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, usage.ru_oublock * 512


def run(
    command: Sequence[str],
    env: dict[str, str],
    log: Path,
    most_s: float = math.inf,
    most_bytes: float = math.inf,
    accepted: Sequence[int] = (0,),
) -> list[dict[str, Any]]:
    """Run a program, and kill it when it exceeds a limit of seconds or of memory.

    Returns:
        A record for each of its stages and one for the whole, `total`. A total of a killed program has `stopped`, the limit in words.

    Raises:
        RuntimeError: the program ended with an exit code that is not accepted.
    """
    stages: list[tuple[str, float, float, int, int]] = []
    stopped, before = "", ended_children()
    with log.open("w") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, env=os.environ | env) as running:
        tree = Tree(psutil.Process(running.pid))
        lock, done = threading.Lock(), threading.Event()
        started = time.monotonic()

        def sample() -> None:
            nonlocal stopped
            while not done.wait(EVERY):
                with lock, suppress(psutil.Error):
                    tree.look()
                    if time.monotonic() - started > most_s:
                        stopped = f"{most_s:.0f} s"
                    elif tree.now > most_bytes:
                        stopped = f"{most_bytes / 1e9:.1f} GB"
                    if stopped:
                        tree.kill()
                        return

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        stages.append(("start", started, 0.0, 0, 0))
        assert running.stdout is not None
        for line in running.stdout:
            err.write(line)
            if line.startswith("@stage "):
                with lock:
                    tree.look()
                    stages[-1] = (*stages[-1][:4], tree.peak)
                    tree.peak = 0
                    stages.append((line.split()[1], time.monotonic(), *tree.used(), 0))
        running.wait()
        done.set()
        sampler.join()
        ended = time.monotonic()
    if running.returncode not in accepted and not stopped:
        raise RuntimeError(f"{' '.join(command)} ended with {running.returncode}; see {log}")
    stages[-1] = (*stages[-1][:4], tree.peak)
    exact = [now - then for now, then in zip(ended_children(), before, strict=True)]
    ends = [*stages[1:], ("", ended, *map(max, tree.used(), exact), 0)]
    records = [
        {
            "stage": name,
            "wall_s": round(end[1] - at, 3),
            "cpu_s": round(end[2] - cpu, 2),
            "peak_rss_bytes": peak,
            "bytes_written": end[3] - wrote,
        }
        for (name, at, cpu, wrote, peak), end in zip(stages, ends, strict=True)
    ]
    total = {name: round(sum(each[name] for each in records), 3) for name in ("wall_s", "cpu_s", "bytes_written")}
    total |= {"peak_rss_bytes": max(each["peak_rss_bytes"] for each in records)} | ({"stopped": stopped} if stopped else {})
    return [*records, {"stage": "total", **total}]
