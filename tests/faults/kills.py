"""Kill each stage's job right before and after each commit and at any moment; then go on, and compare with an undisturbed night."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightlog.lake.lake import Lake
from processes import Ended, kill_session, run
from world import DS, STAGES, CountingLLM, Logs, add_system, difference, repeated_keys, snapshot, stored_questions


@dataclass(frozen=True)
class Result:
    """What became of one fault: rows that were lost or doubled, stored answers that were asked for again, and in words what is wrong."""

    fault: str
    how: str
    point: str
    outcome: str
    lost: int = 0
    doubled: int = 0
    asked_again: int = 0
    wrong: str = ""


@dataclass
class World:
    """Logs, an LLM, the lake before each stage of the night, and what the whole night makes."""

    folder: Path
    systems: str
    items_per_call: int = 4
    llm: CountingLLM = field(default_factory=CountingLLM)
    stages: dict[str, Ended] = field(default_factory=dict)
    wanted: dict[str, Counter[str]] = field(default_factory=dict)

    def environment(self, lake: Path) -> dict[str, str]:
        return {
            "NIGHTLOG_LAKE": str(lake),
            "NIGHTLOG_DATA": str(self.folder / "data"),
            "NIGHTLOG_SYSTEMS": str(self.folder / "systems"),
            "NIGHTLOG_LLM": "openai",
            "NIGHTLOG_LLM_ITEMS_PER_CALL": str(self.items_per_call),
            "NIGHTLOG_MASTER": "local[2]",
            "NIGHTLOG_DRIVER_MEMORY": "1g",
            "OPENAI_BASE_URL": self.llm.url,
            "OPENAI_API_KEY": "sk-test-key-000000",
        }

    def job(self, stage: str, lake: Path, run_id: str) -> list[str]:
        return [stage, "--ds", DS, "--systems", self.systems, "--run-id", run_id, "--lake", str(lake)]

    def before(self, stage: str) -> Path:
        return self.folder / "before" / stage

    def copy(self, stage: str, name: str) -> Path:
        """A lake of one's own, as it is before a stage."""
        lake = self.folder / "lakes" / name
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(self.before(stage), lake)
        return lake


def make_world(folder: Path, systems: Mapping[str, Logs], stages: Sequence[str] = STAGES, items_per_call: int = 4) -> World:
    """The undisturbed night of these systems, or its first stages; the lake is kept before each stage, and as it is `again` at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, logs in systems.items():
        add_system(folder, name, logs)
    world = World(folder, ",".join(systems), items_per_call)
    lake = folder / "before" / "undisturbed"
    lake.mkdir(parents=True)
    if len(stages) > 2:
        from nights import add_toy_model

        add_toy_model(Lake(lake))
    for stage in stages:
        shutil.copytree(lake, world.before(stage))
        ended = run([world.job(stage, lake, "undisturbed")], world.environment(lake), folder / "logs" / stage)
        if ended.code:
            raise RuntimeError(f"the undisturbed night failed in {stage}: exit {ended.code}\n{ended.said}")
        world.stages[stage] = ended
    world.wanted = snapshot(Lake(lake))
    if ("label" in stages and not world.llm.questions()) or set(world.llm.questions()) - stored_questions(Lake(lake)):
        raise RuntimeError("what was asked is not known again in what is stored")
    shutil.copytree(lake, world.before("again"))
    return world


def goes_on(world: World, lake: Path, stage: str, way: str, folder: Path) -> Ended:
    """After a fault: `nightlog run` begins anew, or the stage is tried again under its run's name and the others follow, as by Airflow."""
    if way == "nightlog run":
        programs = [["nightlog", "run", "--ds", DS, "--systems", world.systems, "--lake", str(lake)]]
    else:
        programs = [world.job(each, lake, "night") for each in list(world.stages)[list(world.stages).index(stage) :]]
    return run(programs, world.environment(lake), folder / "goes-on")


def judged(world: World, lake: Path, fault: str, how: str, point: str, ended: Ended, n_requests: int, stored: set[str]) -> Result:
    """Hold the lake against the undisturbed night's. Args: what was asked and stored when the fault came."""
    lost, many = difference(world.wanted, snapshot(Lake(lake)))
    doubled = repeated_keys(Lake(lake))
    again = sum(n for name, n in world.llm.questions(n_requests).items() if name in stored)
    wrong = "" if ended.code == 0 else f"going on ended with {ended.code}: {ended.said[-600:]}"
    if many and not doubled:
        wrong = f"{wrong} {many} rows are others than undisturbed".strip()
    same = not (lost or many or doubled or again or wrong)
    return Result(fault, how, point, "the same tables" if same else "NOT the same", lost, doubled, again, wrong)


def kill_once(
    world: World, stage: str, name: str, point: str, way: str, prepared: str | None = None, after_s: float | None = None
) -> Result | None:
    """Kill a stage's job at a commit (`point`), or so long after it began; None where it had ended before."""
    lake = world.copy(prepared or stage, name)
    folder = world.folder / "logs" / name

    def later(pid: int) -> None:
        time.sleep(after_s or 0)
        kill_session(pid)

    meanwhile = later if after_s is not None else None
    killed = run([world.job(stage, lake, "night")], world.environment(lake), folder, point if after_s is None else "", meanwhile)
    if killed.code != -9:
        if after_s is not None:
            return None
        raise RuntimeError(f"{stage} was to be killed at {point}, and ended with {killed.code}\n{killed.said}")
    where = killed.commits[-1].rpartition(f"/{name}/")[2] if killed.commits else "before its first commit"
    early = repeated_keys(Lake(lake))
    n_requests, stored = len(world.llm.requests), stored_questions(Lake(lake))
    ended = goes_on(world, lake, stage, way, folder)
    how = f"SIGKILL to the process group of `{stage}`, " + (
        "at any moment" if after_s is not None else "right before and after each commit"
    )
    told = f"{point or f'{after_s:.2f} s'} ({where}), then {way}"
    result = judged(world, lake, f"{stage} is killed", how, told, ended, n_requests, stored)
    if early:
        result = Result(
            result.fault, how, told, "NOT the same", result.lost, early, result.asked_again, "rows were doubled when it was killed"
        )
    shutil.rmtree(lake)
    return result


WAYS = ("nightlog run", "the same stage again")


def points(ended: Ended, only: str = "") -> list[str]:
    """Before and after each commit that an undisturbed job made; with `only` those in whose line of the journal this word is."""
    numbers = sorted({int(line.split()[0]) for line in ended.commits if only in line})
    return [f"{number}:{side}" for number in numbers for side in ("before", "after")]


def kill_at_commits(world: World, stages: Sequence[str] = STAGES, only: str = "") -> Iterator[Result]:
    """Right before and after each commit of each stage; with `only` as in `points`."""
    turn = 0
    for stage in stages:
        for point in points(world.stages[stage], only):
            turn += 1
            found = kill_once(world, stage, f"{stage}-{point.replace(':', '-')}", point, WAYS[turn % 2])
            assert found is not None
            yield found


def kill_at_any_moment(world: World, times: int, seed: int, stages: Sequence[str] = STAGES) -> Iterator[Result]:
    """At random moments of each stage: of a night's first run, and of a night that is run again over what was there."""
    chance = random.Random(seed)
    for stage in stages:
        for number in range(times):
            found = None
            while found is None:
                after = chance.uniform(0, world.stages[stage].seconds)
                found = kill_once(world, stage, f"{stage}-any-{number}", "", WAYS[number % 2], "again" if number % 3 == 2 else None, after)
            yield found
