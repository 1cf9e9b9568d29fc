"""The bounds, each run for real: too much of one thing in one system, and a calm system beside it in the same night.

Runs all cases of cases.py (or those named), each in a process of its own whose whole tree is measured, and writes
build/bench/bounds.json and bounds.md.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from measure import run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "bench"
JOBS_PYTHON = ROOT / ".venv" / "bin" / "python"
CASES = ("one-id", "distinct-messages", "long-line", "tiny-files", "similarity", "most-anomalous")


def table(records: dict[str, list[dict[str, Any]]], told: dict[str, list[str]]) -> str:
    text = "| case | wall s | CPU s | peak memory GB | said |\n|---|---|---|---|---|\n"
    for name, stages in records.items():
        (total,) = (each for each in stages if each["stage"] == "total")
        text += (
            f"| {name} | {total['wall_s']:.1f} | {total['cpu_s']:.1f} | {total['peak_rss_bytes'] / 1e9:.2f} | {'; '.join(told[name])} |\n"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"only these of {', '.join(CASES)}")
    given = parser.parse_args()
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "bounds.json"
    records: dict[str, list[dict[str, Any]]] = json.loads(path.read_text()) if path.is_file() else {}
    told: dict[str, list[str]] = {}
    for name in CASES:
        log = OUT / f"bounds-{name}.log"
        if name in given.cases or not given.cases:
            env = {"PYTHONPATH": os.pathsep.join([str(ROOT / "libs"), str(HERE)])}
            records[name] = run([str(JOBS_PYTHON), str(HERE / "cases.py"), name, str(OUT / f"bounds-{name}")], env, log)
            path.write_text(json.dumps(records, indent=1))
            print(f"{name}: done", flush=True)
        if name in records:
            told[name] = [each.removeprefix("@told ") for each in log.read_text().splitlines() if each.startswith("@told ")]
    text = table(records, told)
    (OUT / "bounds.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
