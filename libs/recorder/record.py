"""Record the sample corpus anew: `python -m recorder.record --out DIR --work DIR [--seed N]`, as root.

Each program runs for real, lives through three days of ordinary load at high speed, and is broken now and then;
its lines are stamped as they arrive. README.md beside this file tells what came out last time.
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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from nightlog.systems.catalog import parse_system

from recorder.clock import Clock
from recorder.ledger import Ledger
from recorder.plan import drive, plan
from recorder.program import EVERYWHERE_IN, Program, Stage
from recorder.programs import PROGRAMS
from recorder.publish import Corpus, Row, publish, table

HERE = Path(__file__).parents[1] / "nightlog" / "sample"


@dataclass(frozen=True)
class Take:
    """One recording: where to, which days, how fast, how many sessions a day."""

    out: Path
    work: Path
    seed: int
    first_day: date
    n_days: int
    speed: float
    per_day: int


def record(name: str, take: Take) -> tuple[list[Row], Counter[str], str]:
    """Record one program. Returns its counts, its faults by kind, and its version."""
    entry = PROGRAMS[name]
    path = HERE / "systems" / f"{name}.toml"
    system = parse_system(path.read_text(encoding="utf-8"), path.name)
    rng = random.Random(f"{take.seed} {name}")
    take.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=take.work))
    work.chmod(0o755)
    moments = plan(entry.repertoire, take.n_days, int(take.per_day * entry.share), rng)
    waiting = Clock(take.first_day, take.n_days, take.speed, started=time.time())
    program: Program = entry.program(Stage(work, waiting, Ledger(random.Random(rng.getrandbits(32)))))
    try:
        program.start(entry.address)
        program.stage.clock = Clock(take.first_day, take.n_days, take.speed, started=time.time())
        surprises = drive(moments, program, program.stage.clock)
        program.stage.clock.wait_until(take.n_days * 86400)
    finally:
        program.stop()
        shutil.rmtree(work, ignore_errors=True)
    rows, kinds = publish(program, system, Corpus(take.out))
    if surprises:
        print(f"{name}: {surprises} of {len(moments)} acts went otherwise than meant", file=sys.stderr)
    return rows, kinds, program.version


def missing_packages(names: Sequence[str]) -> str:
    """What to install before recording; empty if nothing is missing."""
    lacking_ones = [PROGRAMS[name].program for name in names if PROGRAMS[name].program.missing()]
    wanted = {package for program in lacking_ones for package in (*program.packages, *EVERYWHERE_IN)}
    lacking = sorted({need for name in names for need in PROGRAMS[name].program.missing()})
    if not lacking:
        return ""
    return f"not found: {', '.join(lacking)}; on Debian 12: apt-get install -y {' '.join(sorted(wanted))}"


def faults_page(results: dict[str, tuple[list[Row], Counter[str], str]]) -> str:
    """Kinds of fault by system, with the number of sessions that each one broke."""
    lines = ["# Faults: sessions that each kind broke", "", "| system | fault | sessions |", "|---|---|--:|"]
    for name, (_, kinds, _) in results.items():
        lines += [f"| {name} | {kind} | {count} |" for kind, count in kinds.most_common()]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Record all programs side by side and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m recorder.record", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that gets logs/ and truth/")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder that every user may enter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-day", type=date.fromisoformat, default=date(2026, 3, 2))
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--speed", type=float, default=400.0, help="recorded seconds in a real one")
    parser.add_argument("--per-day", type=int, default=1000, help="ordinary acts a day")
    parser.add_argument("--only", nargs="+", choices=sorted(PROGRAMS), default=list(PROGRAMS))
    options = parser.parse_args(argv)
    if lack := missing_packages(options.only):
        parser.error(lack)
    if os.geteuid() != 0:
        parser.error("the recorder mounts small file systems and starts mail servers: run it as root")
    take = Take(options.out, options.work.resolve(), options.seed, options.first_day, options.days,
                options.speed, options.per_day)  # fmt: skip
    with ProcessPoolExecutor(len(options.only), mp_context=get_context("spawn")) as pool:
        pending = {name: pool.submit(record, name, take) for name in options.only}
        results = {name: future.result() for name, future in pending.items()}
    (take.out / "truth").mkdir(parents=True, exist_ok=True)
    (take.out / "truth" / "faults.md").write_text(faults_page(results), encoding="utf-8")
    print("\n".join(version for _, _, version in results.values()), end="\n\n")
    print(table([row for rows, _, _ in results.values() for row in rows]))
    print(faults_page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
