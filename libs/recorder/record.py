"""Record the corpora that ship: `python -m recorder.record --out DIR --work SCRATCH [--only NAME …] [--seed N]`, as root.

Each program runs for real, lives through three days of ordinary load at high speed, and is broken now and then; its lines are
stamped as they arrive. The demo's three systems go to DIR/logs and DIR/truth, the others (families) to DIR/families.
The counts of the last recording are in libs/nightlog/sample/README.md.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from nightlog.systems.catalog import parse_system

from recorder.clock import Clock
from recorder.ledger import Ledger
from recorder.plan import drive, plan
from recorder.program import EVERYWHERE_IN, Program, Stage
from recorder.programs import NAMES, entry
from recorder.publish import Corpus, Published, describe_family, publish, table

SAMPLE = Path(__file__).parents[1] / "nightlog" / "sample"


@dataclass(frozen=True)
class Take:
    """The settings of one recording; `speed` and `per_day` replace those of each program."""

    out: Path
    work: Path
    seed: int
    first_day: date
    n_days: int
    speed: float | None
    per_day: int | None


def record(name: str, take: Take) -> Published:
    """Record one program and write its files."""
    cast = entry(name)
    is_family = (SAMPLE / "families" / name).is_dir()
    path = SAMPLE / "families" / name / "system.toml" if is_family else SAMPLE / "systems" / f"{name}.toml"
    system = parse_system(path.read_text(encoding="utf-8"), path.name)
    speed = take.speed or cast.speed
    rng = random.Random(f"{take.seed} {name}")
    take.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=take.work))
    work.chmod(0o755)
    moments = plan(cast, take.n_days, take.per_day or cast.per_day, rng)
    waiting = Clock(take.first_day, take.n_days, speed, started=time.time())
    program: Program = cast.program(Stage(work, waiting, Ledger(random.Random(rng.getrandbits(32)))))
    try:
        program.start()
        program.stage.clock = Clock(take.first_day, take.n_days, speed, started=time.time())
        surprises = drive(moments, program, program.stage.clock)
        program.stage.clock.wait_until(take.n_days * 86400)
    finally:
        program.stop()
        shutil.rmtree(work, ignore_errors=True)
    folder = take.out / ("families" if is_family else "logs")
    result = publish(program, system, Corpus(folder))
    if is_family:
        describe_family(folder, cast.held_out, program.version, result)
    if surprises or result.n_silent:
        print(f"{name}: {surprises} of {len(moments)} acts went otherwise than meant, "
              f"{result.n_silent} broken conversations left no line", file=sys.stderr)  # fmt: skip
    if unmatched := sum(row.n_unmatched for row in result.days):
        print(f"{name}: {unmatched} lines do not match the header", file=sys.stderr)
    return result


def missing_packages(programs: Sequence[type[Program]]) -> str:
    """Return a message with what to install before recording; empty if nothing is missing."""
    lacking = sorted({need for program in programs for need in program.missing()})
    wanted = {package for program in programs if program.missing() for package in (*program.packages, *EVERYWHERE_IN)}
    return f"not found: {', '.join(lacking)}; on Debian 12: apt-get install -y {' '.join(sorted(wanted))}" if lacking else ""


def faults_page(results: dict[str, Published]) -> str:
    """Return the kinds of fault by system, with the number of sessions that each one broke."""
    lines = ["# Faults: sessions that each kind broke", "", "| system | fault | sessions |", "|---|---|--:|"]
    for name, result in results.items():
        lines += [f"| {name} | {kind} | {count} |" for kind, count in Counter(result.faults.values()).most_common()]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Record programs one after the other and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m recorder.record", description=str(__doc__).split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that gets logs/, truth/ and families/")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder that every user may enter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-day", type=date.fromisoformat, default=date(2026, 3, 2))
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--speed", type=float, help="recorded seconds in a real one; default: each program's own")
    parser.add_argument("--per-day", type=int, help="ordinary acts a day; default: each program's own")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args(argv)
    programs: list[type[Any]] = [entry(name).program for name in options.only]
    if lack := missing_packages(programs):
        parser.error(lack)
    if os.geteuid() != 0:
        parser.error("the recorder mounts small file systems and starts servers: run it as root")
    take = Take(options.out, options.work.resolve(), options.seed, options.first_day, options.days,
                options.speed, options.per_day)  # fmt: skip
    results = {name: record(name, take) for name in options.only}
    shown = {name: result for name, result in results.items() if not (take.out / "families" / name).is_dir()}
    if shown:
        (take.out / "truth").mkdir(parents=True, exist_ok=True)
        (take.out / "truth" / "faults.md").write_text(faults_page(shown), encoding="utf-8")
    print(table([row for result in results.values() for row in result.days]))
    print(faults_page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
