"""An executor of Spark is killed while it has work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

WAIT_S = 120.0


def kill_an_executor(driver_port: int, program: subprocess.Popen[bytes]) -> None:
    """Kill one executor of a driver, once one of its Python workers runs a task. Raises AssertionError if the program ends before."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and program.poll() is None:
        commands = command_lines()
        for number, (_, command) in commands.items():
            is_executor = "CoarseGrainedExecutorBackend" in command and "java" in command.split("\0")[0]
            if is_executor and f"CoarseGrainedScheduler@127.0.0.1:{driver_port}\0" in command and has_python_worker(number, commands):
                os.kill(number, signal.SIGKILL)
                return
        time.sleep(0.05)
    raise AssertionError("no executor had a Python worker")


def has_python_worker(executor: int, commands: dict[int, tuple[int, str]]) -> bool:
    """Return True if the Python daemon of an executor has a child: it is forked for a task."""
    daemons = [number for number, (parent, command) in commands.items() if parent == executor and "pyspark.daemon" in command]
    return any(parent in daemons for parent, _ in commands.values())


def command_lines() -> dict[int, tuple[int, str]]:
    """Return process → its parent and its command line, whose words end with NUL; of the processes that this user may see."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                parent = int((place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
                found[int(place.name)] = parent, (place / "cmdline").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
    return found
