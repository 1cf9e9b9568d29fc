"""Kill what Spark runs: its JVM, or one of its Python workers, in the middle of a stage; then go on, and compare."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from kills import WAYS, Result, World, goes_on, judged
from nightlog.lake.lake import Lake
from processes import members, run
from world import DS, Logs, stored_questions

# What needs Spark: lines that its Python workers parse by shape, JSON that it takes apart before, and what its columns parse alone.
BULK = Logs(10_000, days=(DS,), ending=".log")
FEED = Logs(10_000, "json", days=(DS,), ending=".log")
COLUMNS = Logs(60, "columns", days=(DS,))
VICTIMS = {"the JVM of Spark": "org.apache.spark", "a Python worker of Spark": "pyspark.daemon"}
TRIES = 6
SPARK = {"NIGHTLOG_LOCAL_MIB": "1"}  # by default these lines are too few for Spark


def youngest(session: int, mark: str) -> int | None:
    """The process of a session that was started last among those with this mark in their command lines: of daemon and workers a worker."""
    found = [pid for pid, command in members(session).items() if mark in command and pid != session]
    workers = found if "daemon" not in mark else sorted(found)[1:]
    return max(workers, default=None)


def kill_part(world: World, stage: str, victim: str, number: int) -> Result:
    """Kill the victim a moment after the first Python worker of the stage has appeared; sooner, where the stage had ended well before."""
    name = f"{stage}-part-{number}"
    folder = world.folder / "logs" / name
    told = ""

    def strike(session: int) -> None:
        nonlocal told
        while youngest(session, "pyspark.daemon") is None:
            if not Path(f"/proc/{session}").exists() or "Z" in Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()[0]:
                return
            time.sleep(0.01)
        time.sleep(delay)
        if (pid := youngest(session, VICTIMS[victim])) is not None:
            os.kill(pid, signal.SIGKILL)
            told = f"{delay:.2f} s after the first Python worker"

    for attempt in range(TRIES):
        delay = 0.8 / 2**attempt
        lake = world.copy(stage, name)
        ended = run([world.job(stage, lake, "night")], world.environment(lake) | SPARK, folder, meanwhile=strike)
        if ended.code:
            break
    n_requests, stored = len(world.llm.requests), stored_questions(Lake(lake))
    way = WAYS[number % 2]
    how = f"SIGKILL to {victim} in the middle of `{stage}`"
    result = judged(
        world,
        lake,
        f"{victim} is killed",
        how,
        f"{stage}, {told}, exit {ended.code}, then {way}",
        goes_on(world, lake, stage, way, folder),
        n_requests,
        stored,
    )
    if ended.code != 20:
        wrong = f"{stage} ended with {ended.code}, 20 was due: {ended.said[-600:]}"
        result = Result(result.fault, how, result.point, "NOT as due", result.lost, result.doubled, result.asked_again, wrong)
    shutil.rmtree(lake)
    return result


def kill_parts(world: World, stages: tuple[str, ...] = ("ingest", "parse")) -> Iterator[Result]:
    """Both victims in each stage that has work for Spark."""
    for number, (stage, victim) in enumerate((stage, victim) for stage in stages for victim in VICTIMS):
        yield kill_part(world, stage, victim, number)
