"""Processes of a night that may be killed: real ones, each a session of its own, forked from a server that has the imports behind it."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLUG = Path(__file__).parent / "plug"
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["heavy"])


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (negative: the signal), what it said, the commits that it noted, seconds from its start."""

    code: int
    said: str
    commits: list[str]
    seconds: float


def serve() -> None:
    """Start the server, if it does not run yet; it finds its modules where this process does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def run_programs(programs: Sequence[Sequence[str]], environment: Mapping[str, str], log: str, journal: str, at: str) -> None:
    """The child: runs files of jobs/ (or of this folder) or `nightlog` itself, one after the other, until one ends other than with 0."""
    os.setsid()
    with Path(log).open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in os.environ if name.startswith(("NIGHTLOG_", "OPENAI_"))]:
        del os.environ[name]
    os.environ |= environment | {"PYTHONPATH": f"{ROOT / 'libs'}", "GX_ANALYTICS_ENABLED": "false", "HF_HUB_OFFLINE": "1"}
    runpy.run_path(str(PLUG / "sitecustomize.py"))["install"](journal, at)
    with Path(journal).open("a", encoding="utf-8") as file:
        file.write("begun\n")
    for program in programs:
        sys.argv = list(program)
        code = run_one(program)
        if code:
            sys.stdout.flush()
            os._exit(code)
    sys.stdout.flush()
    os._exit(0)


def run_one(program: Sequence[str]) -> int:
    """The exit code of a program that ends in this process."""
    try:
        if program[0] == "nightlog":
            from nightlog.cli import main

            main()
        else:
            places = (ROOT / "jobs", Path(__file__).parent)
            runpy.run_path(str(next(file for place in places if (file := place / f"{program[0]}.py").exists())), run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def session_of(pid: int) -> int | None:
    """The session that a process is in."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return None


def members(session: int) -> dict[int, str]:
    """The processes of a session, with their command lines: workers and a JVM have groups of their own, and the session in common."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and session_of(int(entry.name)) == session:
            try:
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def kill_session(session: int) -> None:
    """SIGKILL to all that a process has started, until nothing of it is left."""
    while found := [pid for pid in members(session) if pid != os.getpid()]:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def run(
    programs: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    folder: Path,
    at: str = "",
    meanwhile: Callable[[int], None] | None = None,
    limit_s: float = 300,
) -> Ended:
    """Run programs in a process of their own, which is killed at a commit (`at`) or by what `meanwhile` does to it.

    Args: folder, for its log and journal; meanwhile, called with the id of the process, which is its session's, once it has begun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, journal = folder / "log", folder / "journal"
    for file in (log, journal):
        file.write_text("")
    serve()
    process: Any = FORK.Process(target=run_programs, args=(programs, dict(environment), str(log), str(journal), at))
    process.start()
    while process.is_alive() and not journal.stat().st_size:
        time.sleep(0.005)
    started = time.monotonic()
    if meanwhile is not None:
        meanwhile(process.pid)
    process.join(limit_s)
    seconds = time.monotonic() - started
    if process.is_alive():
        kill_session(process.pid)
        process.join()
        raise TimeoutError(f"{programs}: still running after {limit_s} s; its log is {log}")
    kill_session(process.pid)
    commits = [line for line in journal.read_text().splitlines() if line != "begun"]
    return Ended(process.exitcode, log.read_text(errors="replace"), commits, seconds)
