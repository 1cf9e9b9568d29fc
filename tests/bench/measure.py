"""Runs a program and measures its whole tree of processes: wall, CPU, memory and bytes written, stage by stage.

The program says `@stage NAME` on a line of its standard output when a stage begins.
"""

from __future__ import annotations

import os
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
    """What the processes of a tree have used so far; those that have ended count with what was last seen of them."""

    root: psutil.Process
    cpu: dict[int, float] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)
    peak: int = 0

    def look(self) -> None:
        """Take a sample. Memory that processes share is counted once for each of them, so the peak is an upper bound."""
        rss = 0
        for process in [self.root, *self.root.children(recursive=True)]:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    self.written[process.pid] = process.io_counters().write_bytes
                    rss += process.memory_info().rss
            except psutil.Error:
                continue
        self.peak = max(self.peak, rss)

    def used(self) -> tuple[float, int]:
        return sum(self.cpu.values()), sum(self.written.values())


def run(command: Sequence[str], env: dict[str, str], log: Path) -> list[dict[str, Any]]:
    """Run a program. Returns a record for each of its stages and one for the whole, `total`; raises RuntimeError where it fails."""
    stages: list[tuple[str, float, float, int, int]] = []
    with log.open("w") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, env=os.environ | env) as running:
        tree = Tree(psutil.Process(running.pid))
        lock, done = threading.Lock(), threading.Event()

        def sample() -> None:
            while not done.wait(EVERY):
                with lock, suppress(psutil.Error):
                    tree.look()

        sampler = threading.Thread(target=sample, daemon=True)
        started = time.monotonic()
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
    if running.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {running.returncode}; see {log}")
    stages[-1] = (*stages[-1][:4], tree.peak)
    ends = [*stages[1:], ("", ended, *tree.used(), 0)]
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
    return [*records, {"stage": "total", **total, "peak_rss_bytes": max(each["peak_rss_bytes"] for each in records)}]
