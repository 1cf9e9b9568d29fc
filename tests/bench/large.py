"""A night of 100 million lines: nine files of 11.1 million lines with fresh block ids, beside a night of the first file alone.

The files are written first (14 GB), and removed at the end unless --keep is given. Each night has a lake of its own, removed before the
next; the program refuses to start without room for text, lake and Spark's temporary files. It prints wall, CPU, peak memory and written
bytes of each stage, and the ratio of the large night to the small one without the start and end of the process. The target: at most 9.5
times as long, 4.5 GB at most.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from bench import APART, JOBS_PYTHON, machine
from corpus import DS, LINES, renamed
from measure import run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Bytes of a line as text, in the lake, and in Spark's temporary files; each rounded up.
TEXT_BYTES, LAKE_BYTES, SPILLED_BYTES = 150, 30, 60


def build_files(shared: Path, folder: Path, files: int, copies: int) -> list[Path]:
    """Write HDFS lines as several files under folder/hdfs, each with ids of its own; files that are there are left."""
    source = shared / "data" / "raw" / "hdfs"
    lines = b"".join(gzip.decompress(path.read_bytes()) for path in sorted(source.glob("*.log.gz")))
    (folder / "hdfs").mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(files):
        path = folder / "hdfs" / f"hdfs-{DS}-{number + 1}.log"
        found.append(path)
        if path.is_file():
            continue
        aside = path.with_suffix(".part")
        with aside.open("wb") as out:
            for copy in range(number * copies, (number + 1) * copies):
                out.write(renamed(lines, copy))
        aside.rename(path)
    return found


def measured(what: str, data: Path, out: Path, shared: Path) -> list[dict[str, Any]]:
    """Run a night over all files of a folder. Returns a record per stage, without the process's start and end."""
    lake = out / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    program = [str(JOBS_PYTHON), str(HERE / "night.py"), what, "--data", str(data), "--lake", str(lake), "--files"]
    program += ["--llm", str(shared / "llm" / "serve.py")]
    stages = run(program, {"PYTHONPATH": str(ROOT / "libs")}, out / f"{data.name}.log")
    shutil.rmtree(lake)
    return [each for each in stages if each["stage"] not in (*APART, "total")]


def report(nights: dict[int, list[dict[str, Any]]]) -> str:
    """Return a table of the nights' stages, and the ratio of the last night to the first. Args: nights: lines → records of stages."""
    text = "| lines | stage | wall s | CPU s | peak memory GB | written MB |\n|---|---|---|---|---|---|\n"
    sums = {}
    for lines, stages in nights.items():
        for each in stages:
            text += f"| {lines:,} | {each['stage']} | {each['wall_s']:.1f} | {each['cpu_s']:.1f} "
            text += f"| {each['peak_rss_bytes'] / 1e9:.2f} | {each['bytes_written'] / 1e6:.0f} |\n"
        sums[lines] = [sum(each[name] for each in stages) for name in ("wall_s", "cpu_s")]
        peak = max(each["peak_rss_bytes"] for each in stages) / 1e9
        text += f"| {lines:,} | all | {sums[lines][0]:.1f} | {sums[lines][1]:.1f} | {peak:.2f} | |\n"
    (_, small), (_, large) = min(sums.items()), max(sums.items())
    return text + f"\n{max(sums) / min(sums):.1f} times as many lines: wall ÷ {large[0] / small[0]:.2f}, CPU ÷ {large[1] / small[1]:.2f}\n"


def main() -> None:
    """Write the files, run both nights, print the table and keep it in build/bench/large.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=9)
    parser.add_argument("--copies", type=int, default=50, help=f"of the {LINES:,} lines in each file")
    parser.add_argument("--what", choices=["parse", "night"], default="night", help="file to patterns, or all stages, twice")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    given = parser.parse_args()
    shared = Path(os.environ.get("NIGHTLOG_SHARED", ROOT.parent / "shared"))
    out = ROOT / "build" / "bench" / "large"
    lines = given.files * given.copies * LINES
    if given.files * given.copies > 900:
        raise SystemExit("at most 900 copies: three digits make their ids different")
    out.mkdir(parents=True, exist_ok=True)
    whole, first = out / f"whole-{given.files}-{given.copies}", out / f"first-{given.copies}"
    there = sum(path.stat().st_size for path in (whole / "hdfs").glob("*.log"))
    needed = lines * (TEXT_BYTES + LAKE_BYTES + SPILLED_BYTES) - there
    if shutil.disk_usage(out).free < needed:
        raise SystemExit(f"{out}: {shutil.disk_usage(out).free / 1e9:.0f} GB are free, {needed / 1e9:.0f} GB are needed")
    print(f"{lines:,} lines in {given.files} files; {machine()}", flush=True)
    files = build_files(shared, whole, given.files, given.copies)
    (first / "hdfs").mkdir(parents=True, exist_ok=True)
    (first / "hdfs" / files[0].name).unlink(missing_ok=True)
    os.link(files[0], first / "hdfs" / files[0].name)
    nights = {}
    for folder, n in ((first, given.copies * LINES), (whole, lines)):
        nights[n] = measured(given.what, folder, out, shared)
        (out / "results.json").write_text(json.dumps(nights, indent=1))
    text = report(nights)
    (out.parent / "large.md").write_text(text)
    print(text)
    if not given.keep:
        shutil.rmtree(out)


if __name__ == "__main__":
    sys.exit(main())
