"""A small night as a process, now and at an earlier commit: `nightlog run` over 100,000 lines of one system, its first night.

The earlier commit (default: the last one that started Spark for every night) is checked out as a git worktree under build/bench and runs in
the same environment. Two systems: HDFS (real lines of one day) and Dovecot (a night of the sample, repeated with fresh session ids). No LLM
is asked. The earlier version needs a trained model: both versions run with one of the usual size and untrained weights, and the present one
also without, by the general model that ships. Each night starts from a lake that has nothing but that model. Rounds alternate between the
versions. Prints the medians of wall and CPU seconds and the peak memory of the whole process, and the ratios of wall seconds beside their
target. Writes build/bench/small.md.
"""

from __future__ import annotations

import argparse
import compileall
import gzip
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from bench import JOBS_PYTHON, OUT, ROOT, machine
from corpus import real_lines
from measure import run
from report import outcome

BEFORE = "b579a50"
EXIT_DONE, EXIT_INCOMPLETE = 0, 40
TARGET = 1 / 3
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SYSTEM = """name = "{name}"
role = "target"

[input]
path = "{name}/{{ds}}.log"

[header]
pattern = '{header}'

[timestamp]
value = "{value}"
format = "{format}"

[session]
kind = "id"
{session}
"""


class Small(NamedTuple):
    """A system: its name, its night, and its file."""

    name: str
    ds: str
    toml: str


SYSTEMS = (
    Small(
        "hdfs",
        "2008-11-11",
        SYSTEM.format(
            name="hdfs",
            header=r"(?P<date>\d{6}) (?P<time>\d{6}) (?P<pid>\d+) (?P<level>\w+) (?P<component>[^\s:]+): (?P<message>.*)",
            value="{date} {time}",
            format="yyMMdd HHmmss",
            session="pattern = 'blk_-?\\d+'",
        ),
    ),
    Small(
        "dovecot",
        "2026-03-03",
        SYSTEM.format(
            name="dovecot",
            header=r"(?P<stamp>\S+Z) (?P<entry>(?P<component>[\w-]+)\S*: (?P<level>[A-Z][a-z]+): (?P<message>.*))",
            value="{stamp}",
            format="yyyy-MM-dd'T'HH:mm:ss.SSSX",
            session="field = \"entry\"\npattern = '<([A-Za-z0-9+/]{16})>'",
        ),
    ),
)


def lines_of(system: Small, shared: Path, n_lines: int) -> bytes:
    """Return so many lines of a system."""
    if system.name == "hdfs":
        return b"".join(real_lines(shared).splitlines(keepends=True)[-n_lines:])  # all of the last day
    sample = ROOT / "libs" / "nightlog" / "sample" / "logs" / system.name / f"{system.name}-{system.ds}.log.gz"
    night = gzip.decompress(sample.read_bytes())
    copies = -(-n_lines // night.count(b"\n"))
    lines = b"".join(re.sub(rb"<[A-Za-z0-9+/]([A-Za-z0-9+/]{15}>)", b"<%b\\1" % LETTERS[n].encode(), night) for n in range(copies))
    return b"".join(lines.splitlines(keepends=True)[:n_lines])


def write_inputs(folder: Path, shared: Path, n_lines: int) -> None:
    """Write each system's lines and file under folder/logs and folder/systems."""
    for system in SYSTEMS:
        log = folder / "logs" / system.name / f"{system.ds}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(lines_of(system, shared, n_lines))
        own = folder / "systems" / system.name / f"{system.name}.toml"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(system.toml, encoding="utf-8")


def checked_out(commit: str, folder: Path) -> Path:
    """Return a git worktree of a commit, in a folder of its own."""
    if not folder.is_dir():
        subprocess.run(["git", "-C", ROOT, "worktree", "prune"], check=True)
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", "--quiet", folder, commit], check=True)
    subprocess.run(["git", "-C", folder, "checkout", "--detach", "--quiet", commit], check=True)
    return folder


class Version(NamedTuple):
    """A checkout that is measured, with a trained model or without."""

    name: str
    checkout: Path
    trained: bool


def write_model(checkout: Path, lake: Path) -> None:
    """Make a lake that holds a model of a version's bench, see `add_model` of its night.py."""
    shutil.rmtree(lake, ignore_errors=True)
    paths = os.pathsep.join(str(checkout / each) for each in ("libs", "tests/bench"))
    code = f"import night; from pathlib import Path; night.add_model(night.Lake(Path({str(lake)!r})))"
    subprocess.run([JOBS_PYTHON, "-c", code], check=True, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.DEVNULL)


def measured(version: Version, system: Small, folder: Path, log: Path) -> dict[str, Any]:
    """Run a first night of a version. Returns what its process used."""
    lake = folder / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    if version.trained:
        shutil.copytree(folder / f"model-{version.checkout.name}", lake)
    env = {"PYTHONPATH": str(version.checkout / "libs"), "NIGHTLOG_SYSTEMS": str(folder / "systems" / system.name)}
    env |= {"NIGHTLOG_DATA": str(folder / "logs"), "NIGHTLOG_LAKE": str(lake), "NIGHTLOG_LLM": "off", "NIGHTLOG_DEVICE": "cpu"}
    command = [str(JOBS_PYTHON.with_name("nightlog")), "run", "--ds", system.ds]
    used = run(command, env, log, accepted=(EXIT_DONE, EXIT_INCOMPLETE))[-1]
    if "\npublish " not in log.read_text(encoding="utf-8"):
        raise RuntimeError(f"{version.name}: the night was not published; see {log}")
    return used


def report(found: dict[tuple[str, Version], list[dict[str, Any]]], heading: str) -> str:
    """Return a table of medians, then each ratio to the earlier version. Args: found: (system, version) → totals of the rounds."""
    text = f"{heading}\n\n| system | version | model | process, wall s | CPU s | peak memory GB |\n|---|---|---|---|---|---|\n"
    walls = {}
    for (name, version), mine in found.items():
        walls[name, version], cpu = (statistics.median(each[field] for each in mine) for field in ("wall_s", "cpu_s"))
        text += f"| {name} | {version.name} | {'trained' if version.trained else 'general'} | {walls[name, version]:.1f} | {cpu:.1f} "
        text += f"| {max(each['peak_rss_bytes'] for each in mine) / 1e9:.2f} |\n"
    *_, before = (version for _, version in found)
    for (name, version), wall in walls.items():
        if version != before:
            ratio, model = wall / walls[name, before], "a trained" if version.trained else "the general"
            text += f"\n{name}: {version.name} with {model} model ÷ {before.name} = {ratio:.2f} "
            text += f"(target ≤ {TARGET:.2f}: {outcome(ratio, TARGET)})\n"
    return text


def main() -> None:
    """Measure the versions in alternating rounds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help="the earlier version")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    shared = Path(os.environ.get("NIGHTLOG_SHARED", ROOT.parent / "shared"))
    if not (shared / "data" / "raw" / "hdfs").is_dir():
        raise SystemExit(f"no logs at {shared}: set NIGHTLOG_SHARED to the folder that holds data/")
    folder = OUT / "small"
    write_inputs(folder, shared, given.lines)
    before = checked_out(given.before, OUT / "before")
    versions = (Version("now", ROOT, False), Version("now", ROOT, True), Version(given.before, before, True))
    for checkout in (ROOT, before):
        compileall.compile_dir(checkout / "libs", quiet=2)
        write_model(checkout, folder / f"model-{checkout.name}")
    found: dict[tuple[str, Version], list[dict[str, Any]]] = {}
    for number in range(1, given.rounds + 1):
        for system in SYSTEMS:
            for version in versions:
                log = OUT / f"small-{system.name}-{version.name}-{'trained' if version.trained else 'general'}-{number}.log"
                found.setdefault((system.name, version), []).append(measured(version, system, folder, log))
                print(f"{log.stem}: {found[system.name, version][-1]['wall_s']:.1f} s", flush=True)
    text = report(found, f"{given.lines:,} lines, medians of {given.rounds} rounds; {machine()}")
    (OUT / "small.md").write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
