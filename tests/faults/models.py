"""Kill `train` and `retrain` around all that they commit: at any time one whole model serves, the old one or the new one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from kills import Result, World, points
from nightlog.detector.registry import load, promoted_models
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MODELS, PSEUDO_LABELS
from processes import Ended, run
from world import DS, Logs, add_system, content

SOURCES = {"store": Logs(60, role="source"), "depot": Logs(80, role="source")}
TARGET = "shop"
# Of what teaching commits: the MERGE that promotes, and between a source's sessions and its patterns.
LATE = ("merge:before", "merge:after", "silver/sessions/:after")


def programs(lake: Path) -> dict[str, list[str]]:
    """What teaches models, by name."""
    taught = {"train": ",".join(SOURCES), "retrain": TARGET}
    few_steps = {name: ["few_steps", "--systems", systems, "--lake", str(lake)] for name, systems in taught.items()}
    return few_steps | {"promotion": ["promotion", str(lake)]}


def make_models(folder: Path) -> tuple[World, dict[str, Ended]]:
    """A lake before training, one before retraining, and what both come to where nobody disturbs them."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, logs in {**SOURCES, TARGET: Logs()}.items():
        add_system(folder, name, logs)
    world, done = World(folder, TARGET), {}
    lake = folder / "before" / "undisturbed"
    lake.mkdir(parents=True)
    for program in ("train", "retrain"):
        shutil.copytree(lake, world.before(program))
        done[program] = ended = run([programs(lake)[program]], world.environment(lake), folder / "logs" / program)
        if ended.code:
            raise RuntimeError(f"undisturbed, {program} ended with {ended.code}\n{ended.said}")
        shutil.copytree(lake, folder / "after" / program)
        if program == "train":
            night = ["nightlog", "run", "--ds", DS, "--systems", TARGET, "--lake", str(lake)]
            ended = run([night], world.environment(lake), folder / "logs" / "night")
            if ended.code:
                raise RuntimeError(f"undisturbed, the night ended with {ended.code}\n{ended.said}")
    return world, done


def serving(lake: Lake) -> dict[str, str]:
    """The version that serves, by system; each is read and its digest verified."""
    return {system: load(model).version for system, model in promoted_models(lake).items()}


def faults_of(lake: Lake) -> list[str]:
    """What must never be: a version twice, two that serve one system, one that serves and cannot be read."""
    rows = lake.rows(MODELS, ["version", "system", "status"])
    serve = [row["system"] for row in rows if row["status"] == "promoted"]
    found = ["a version stands there twice"] if len({row["version"] for row in rows}) < len(rows) else []
    return found + (["two models serve one system"] if len(set(serve)) < len(serve) else [])


def where_killed(program: str) -> str:
    """In words, at which of its commits a program is killed."""
    if program == "promotion":
        return "right before and after each commit"
    behind = ", and behind a source's sessions" if program == "train" else ""
    return f"right before and after the MERGE that promotes{behind}"


def kill_teaching(world: World, program: str, point: str) -> Result:
    """Kill it there, look at what serves, let it run again."""
    name = f"{program}-{point.replace(':', '-')}"
    lake, folder = world.copy(program, name), world.folder / "logs" / name
    killed = run([programs(lake)[program]], world.environment(lake), folder, point)
    if killed.code != -9:
        raise RuntimeError(f"{program} was to be killed at {point}, and ended with {killed.code}\n{killed.said}")
    tables = Lake(lake)
    before, wanted = serving(Lake(world.before(program))), serving(Lake(world.folder / "after" / program))
    wrong = faults_of(tables)
    now = serving(tables)
    if any(version not in (before.get(system), wanted.get(system)) for system, version in now.items()) or before.keys() - now.keys():
        wrong.append(f"{now} serve after the kill")
    ended = run([programs(lake)[program]], world.environment(lake), folder / "goes-on")
    wrong += faults_of(tables) + ([] if ended.code == 0 else [f"going on ended with {ended.code}: {ended.said[-600:]}"])
    if serving(tables) != wanted:
        wrong.append(f"{serving(tables)} serve in the end, {wanted} were due")
    undisturbed = Lake(world.folder / "after" / program)
    lost = (content(undisturbed, PSEUDO_LABELS) - content(tables, PSEUDO_LABELS)).total()
    many = (content(tables, PSEUDO_LABELS) - content(undisturbed, PSEUDO_LABELS)).total()
    where = killed.commits[-1].split(maxsplit=2)[2].rpartition(f"/{name}/")[2]
    told = f"{point} ({where}), then {program} again"
    outcome = "the same model serves" if not (wrong or lost or many) else "NOT the same"
    shutil.rmtree(lake)
    return Result(
        f"{program} is killed",
        f"SIGKILL to the process group of `{program}`, {where_killed(program)}",
        told,
        outcome,
        lost,
        many,
        0,
        "; ".join(wrong),
    )


def kill_models(world: World, done: dict[str, Ended]) -> Iterator[Result]:
    """Around the MERGE that promotes, and in the middle of what a source's nights are parsed into."""
    for program, ended in done.items():
        for mark in LATE:
            word, _, side = mark.partition(":")
            numbers = [line.split()[0] for line in ended.commits if line.endswith(word)]
            if numbers:
                yield kill_teaching(world, program, f"{numbers[-1]}:{side}")


def kill_promotions(folder: Path) -> Iterator[Result]:
    """Around each commit of storing a model and letting it serve in the place of another: the file, the row, the MERGE."""
    from nights import add_toy_model

    shutil.rmtree(folder, ignore_errors=True)
    world = World(folder, TARGET)
    add_toy_model(Lake(world.before("promotion")))
    lake = folder / "after" / "promotion"
    shutil.copytree(world.before("promotion"), lake)
    ended = run([programs(lake)["promotion"]], world.environment(lake), folder / "logs" / "promotion")
    if ended.code or serving(Lake(lake)) == serving(Lake(world.before("promotion"))):
        raise RuntimeError(f"undisturbed, the promotion ended with {ended.code}\n{ended.said}")
    for point in points(ended):
        yield kill_teaching(world, "promotion", point)
