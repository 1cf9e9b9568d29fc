"""A Spark standalone cluster on this machine, from the pip package: one master, some workers, gone when the block ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

START_S, STOP_S = 90.0, 15.0
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def process(command: Sequence[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program with a process group of its own, none of which outlives the block."""
    with log.open("wb") as out:
        started = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield started
    finally:
        deadline = time.monotonic() + STOP_S
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                started.poll()
                os.killpg(started.pid, 0)
                time.sleep(0.1)
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def alive_workers(ui: int) -> int:
    """What the master's page says; 0 while there is none."""
    with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{ui}/json/", timeout=5) as page:
        found: int = json.load(page)["aliveworkers"]
        return found
    return 0


@contextmanager
def standalone(folder: Path, python: Path, workers: int = 2, cores: int = 1, memory: str = "2g") -> Iterator[str]:
    """The master's URL, once all workers have registered. Raises RuntimeError where they do not; logs and work lie in `folder`."""
    import pyspark

    home = Path(pyspark.__file__).parent
    env = os.environ | {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": HOST, "PYSPARK_PYTHON": str(python)}
    program = str(home / "bin" / "spark-class")
    port, ui = free_port(), free_port()
    master = [program, "org.apache.spark.deploy.master.Master", "--host", HOST, "--port", str(port), "--webui-port", str(ui)]
    url = f"spark://{HOST}:{port}"
    with ExitStack() as stack:
        running = [stack.enter_context(process(master, env, folder / "master.log"))]
        for number in range(workers):
            work = ["--work-dir", str(folder / f"work-{number}"), "--cores", str(cores), "--memory", memory]
            worker = [program, "org.apache.spark.deploy.worker.Worker", "--host", HOST, "--webui-port", "0", *work, url]
            running.append(stack.enter_context(process(worker, env, folder / f"worker-{number}.log")))
        deadline = time.monotonic() + START_S
        while alive_workers(ui) < workers:
            if time.monotonic() > deadline or any(each.poll() is not None for each in running):
                raise RuntimeError(f"no cluster of {workers} workers after {START_S:.0f} s: see the logs in {folder}")
            time.sleep(0.2)
        yield url
