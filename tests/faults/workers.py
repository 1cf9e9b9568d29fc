"""Kill a worker process, the JVM of Spark, or one of its Python workers in the middle of a stage; then go on, and compare."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kills import WAYS, Result, World, goes_on, judged
from nightlog.lake.lake import Lake
from processes import members, run
from world import DS, Logs, stored_questions

# What needs Spark: lines that its Python workers parse by shape, JSON that it takes apart before, and what its columns parse alone.
BULK = Logs(10_000, days=(DS,), ending=".log")
FEED = Logs(10_000, "json", days=(DS,), ending=".log")
COLUMNS = Logs(60, "columns", days=(DS,))
# More than one task of 64 MiB and more than 16 MiB for parsing, which counts lines as 128 bytes: this machine's processes have work.
HEAP = Logs(19_000, days=(DS,), ending=".log", tails=5)
TRIES = 6


@dataclass(frozen=True)
class Victim:
    """The process that is killed, after the first worker has appeared: the youngest process with `mark` in its command line.

    `server`: the word in the command lines of the workers and of the process that they are forked from. `code`: with which the stage ends.
    """

    name: str
    mark: str
    server: str
    code: int
    settings: Mapping[str, str]


SPARK = {"NIGHTLOG_LOCAL_MIB": "1"}  # by default these lines are too few for Spark
OF_SPARK = (
    Victim("the JVM of Spark", "org.apache.spark", "pyspark.daemon", 20, SPARK),
    Victim("a Python worker of Spark", "pyspark.daemon", "pyspark.daemon", 20, SPARK),
)
OF_POOL = (Victim("a worker process", "multiprocessing.forkserver", "multiprocessing.forkserver", 0, {}),)


def youngest(session: int, mark: str, server: str) -> int | None:
    """The process of a session that was started last among those with this mark in their command lines, except what workers fork from."""
    found = sorted(pid for pid, command in members(session).items() if mark in command and pid != session)
    return max(found[1:] if mark == server else found, default=None)


def kill_part(world: World, stage: str, victim: Victim, number: int) -> Result:
    """Kill the victim a moment after the first worker of the stage has appeared; sooner, where the stage had ended well before."""
    name = f"{stage}-part-{number}"
    folder = world.folder / "logs" / name
    when = ""

    def strike(session: int) -> None:
        nonlocal when
        while youngest(session, victim.server, victim.server) is None:
            if not Path(f"/proc/{session}").exists() or "Z" in Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()[0]:
                return
            time.sleep(0.01)
        time.sleep(delay)
        if (pid := youngest(session, victim.mark, victim.server)) is not None:
            os.kill(pid, signal.SIGKILL)
            when = f"{delay:.2f} s after the first worker"

    for attempt in range(TRIES):
        delay = 0.8 / 2**attempt
        lake = world.copy(stage, name)
        ended = run([world.job(stage, lake, "night")], world.environment(lake) | victim.settings, folder, meanwhile=strike)
        if ended.code or "was killed" in ended.said:
            break
    n_requests, stored = len(world.llm.requests), stored_questions(Lake(lake))
    way = WAYS[number % 2] if len(world.stages) > 2 else WAYS[1]  # a whole night would make more tables than the world has
    how = f"SIGKILL to {victim.name} in the middle of `{stage}`"
    result = judged(
        world,
        lake,
        f"{victim.name} is killed",
        how,
        f"{stage}, {when}, exit {ended.code}, then {way}",
        goes_on(world, lake, stage, way, folder),
        n_requests,
        stored,
    )
    if ended.code != victim.code or not (ended.code or "was killed" in ended.said):
        wrong = f"{stage} ended with {ended.code}, {victim.code} was due after a kill: {ended.said[-600:]}"
        result = Result(result.fault, how, result.point, "NOT as due", result.lost, result.doubled, result.asked_again, wrong)
    shutil.rmtree(lake)
    return result


def kill_parts(world: World, victims: Sequence[Victim], stages: Sequence[str] = ("ingest", "parse")) -> Iterator[Result]:
    """Kill each victim in each stage that has work for it."""
    for number, (stage, victim) in enumerate((stage, victim) for stage in stages for victim in victims):
        yield kill_part(world, stage, victim, number)
