"""Fill the lake's disk during each stage, and mount it read-only; then free it, go on, and compare.

The disk is a small one in memory, mounted in a namespace of its own: `in_namespace` says whether this process has one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kills import Result, World, goes_on, judged
from nightlog.lake.lake import Lake
from processes import run
from world import STAGES, stored_questions

SIZE_MB = 48
EXPECTED = {"full": (20, "No space left on device"), "read-only": (30, "cannot be written: Read-only file system")}


def enter_namespace() -> None:
    """Start this program anew where mounts are nobody else's business, if that is allowed here; else go on without."""
    if "FAULTS_NAMESPACE" in os.environ:
        return
    for how in (["--mount"], ["--mount", "--map-root-user"]):
        if shutil.which("unshare") and subprocess.run(["unshare", *how, "true"], capture_output=True, check=False).returncode == 0:
            os.environ["FAULTS_NAMESPACE"] = "1"
            os.execvp("unshare", ["unshare", *how, sys.executable, *sys.argv])


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of SIZE_MB at this place."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill the disk up to so many bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(b"\0" * (shutil.disk_usage(disk).free - leave))
    return filler


def written_by(world: World, stage: str) -> int:
    """Bytes that an undisturbed stage adds to the lake."""
    after = "again" if stage == STAGES[-1] else STAGES[STAGES.index(stage) + 1]
    return size(world.before(after)) - size(world.before(stage))


def size(folder: Path) -> int:
    return sum(4096 * -(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


def trouble(world: World, stage: str, kind: str, share: float) -> Result:
    """Run a stage on a disk that is full at its start (share 0), after a share of what it writes, or read-only; then on a sound one."""
    name = f"{stage}-{kind}-{share:.0%}"
    folder = world.folder / "logs" / name
    with small_disk(world.folder / "disk" / name) as disk:
        lake = disk / "lake"
        shutil.copytree(world.before(stage), lake)
        filler = fill(disk, int(share * written_by(world, stage))) if kind == "full" else None
        if kind == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        ended = run([world.job(stage, lake, "night")], world.environment(lake), folder)
        if filler is not None:
            filler.unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        n_requests, stored = len(world.llm.requests), stored_questions(Lake(lake))
        gone_on = goes_on(world, lake, stage, "the same stage again", folder)
        told = f"{stage}, " + ("nothing may be written" if kind == "read-only" else f"full after {share:.0%} of what it writes")
        fault = f"the lake's disk is {kind}"
        how = (
            "a small disk, filled at the start of each stage and half-way"
            if kind == "full"
            else "a small disk, mounted read-only before each stage"
        )
        result = judged(world, lake, fault, how, f"{told}, exit {ended.code}", gone_on, n_requests, stored)
    code, words = EXPECTED[kind]
    if ended.code != code or words not in ended.said:
        wrong = f"{stage} ended with {ended.code}, {code} and `{words}` were due: {ended.said[-600:]}"
        return Result(fault, how, result.point, "NOT as due", result.lost, result.doubled, result.asked_again, wrong)
    return result


def troubles(world: World, stages: tuple[str, ...] = STAGES) -> Iterator[Result]:
    """A full disk twice and a read-only one once for each stage."""
    for stage in stages:
        yield trouble(world, stage, "full", 0.0)
        yield trouble(world, stage, "full", 0.5)
        yield trouble(world, stage, "read-only", 0.0)
