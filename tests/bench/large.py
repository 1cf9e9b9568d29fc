"""A night of 100 million lines: nine files of 11.1 million lines with fresh block ids, beside a night of the first file alone.

The files are written first (14 GB), and removed at the end unless --keep is given. Each night has a lake of its own, removed before the
next; the program refuses to start without room for text, lake and temporary files. A night that does
not end in half an hour is stopped. Prints wall, CPU, peak memory and written bytes of each stage, and the ratio of the large night to the
small one without the start and end of the process, beside the targets.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from bench import JOBS_PYTHON, OUT, machine
from corpus import DS, LINES, real_lines, renamed
from measure import run
from report import APART, PEAK_GB, outcome, part_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Bytes of a line as text, in the lake, and in the file of a shuffle; each rounded up.
TEXT_BYTES, LAKE_BYTES, SHUFFLED_BYTES = 145, 25, 20
MOST_RATIO, MOST_S = 9.5, 1800.0


def build_files(shared: Path, folder: Path, files: int, copies: int) -> list[Path]:
    """Write HDFS lines as several files under folder/hdfs, each with ids of its own; files that are there are left."""
    lines = real_lines(shared)
    (folder / "hdfs").mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(files):
        path = folder / "hdfs" / f"hdfs-{DS}-{number + 1}.log"
        found.append(path)
        if path.is_file():
            continue
        aside = path.with_suffix(".part")
        if not number and (same := OUT / f"hdfs-{copies}" / "hdfs" / f"hdfs-{DS}.log").is_file():
            os.link(same, path)  # the bench has written it
            continue
        with aside.open("wb") as out:
            for copy in range(number * copies, (number + 1) * copies):
                out.write(renamed(lines, copy))
        aside.rename(path)
    return found


def measured(what: str, data: Path, out: Path, shared: Path, second: list[str]) -> list[dict[str, Any]]:
    """Run a night over all files of a folder, then the nights that `second` names.

    Returns:
        A record per stage, without the process's start and end. Those of a night that was stopped end with a record named `stopped`.
    """
    lake = out / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    program = [str(JOBS_PYTHON), str(HERE / "night.py"), what, "--data", str(data), "--lake", str(lake), "--files"]
    program += ["--llm", str(shared / "llm" / "serve.py"), "--second", *second]
    stages = run(program, {"PYTHONPATH": str(ROOT / "libs")}, out.parent / f"large-{data.name}.log", MOST_S)
    shutil.rmtree(lake)
    stopped = [stages[-1] | {"stage": "stopped"}] if "stopped" in stages[-1] else []
    return [each for each in stages if each["stage"] not in (*APART, "total")] + stopped


def report(nights: dict[int, list[dict[str, Any]]]) -> str:
    """Return a table of the nights' stages, and the ratio of the large night to the small one. Args: nights: lines → records of stages."""
    text = "| lines | stage | wall s | CPU s | peak memory GB | written MB |\n|---|---|---|---|---|---|\n"
    for lines, stages in nights.items():
        for each in [*stages, *(sum_of(stages, part) for part in dict.fromkeys(part_of(each["stage"]) for each in stages))]:
            text += f"| {lines:,} | {each['stage']} | {each['wall_s']:.1f} | {each['cpu_s']:.1f} "
            text += f"| {each['peak_rss_bytes'] / 1e9:.2f} | {each['bytes_written'] / 1e6:.0f} |\n"
    small, large = (sum_of(nights[lines], "") for lines in (min(nights), max(nights)))
    if any(each["stage"] == "stopped" for stages in nights.values() for each in stages):
        return f"{text}\nA night was stopped after {MOST_S:.0f} s.\n"
    wall, cpu = (large[name] / small[name] for name in ("wall_s", "cpu_s"))
    text += f"\nFirst night, {max(nights) / min(nights):.1f} times as many lines: {wall:.2f} times the wall seconds "
    text += f"(target ≤ {MOST_RATIO}: {outcome(wall, MOST_RATIO)}), {cpu:.2f} times the CPU seconds; peak memory "
    peak = max(each["peak_rss_bytes"] for each in nights[max(nights)]) / 1e9
    return f"{text}{peak:.2f} GB (target ≤ {PEAK_GB[0]}: {outcome(peak, PEAK_GB[0])})\n"


def sum_of(stages: list[dict[str, Any]], part: str) -> dict[str, Any]:
    """Return a record of all stages of the first night (part "") or of a second one."""
    mine = [each for each in stages if part_of(each["stage"]) == part]
    added = {name: sum(each[name] for each in mine) for name in ("wall_s", "cpu_s", "bytes_written")}
    return added | {"stage": f"all {part}".strip(), "peak_rss_bytes": max(each["peak_rss_bytes"] for each in mine)}


def main() -> None:
    """Write the files, run both nights, print the table and keep it in build/bench/large.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=9)
    parser.add_argument("--copies", type=int, default=50, help=f"of the {LINES:,} lines in each file")
    parser.add_argument("--what", choices=["parse", "night"], default="night", help="file to patterns, or all stages")
    parser.add_argument("--again", action="store_true", help="then the same night once more")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    given = parser.parse_args()
    shared = Path(os.environ.get("NIGHTLOG_SHARED", ROOT.parent / "shared"))
    out = ROOT / "build" / "bench" / "large"
    lines = given.files * given.copies * LINES
    if given.files * given.copies > 900:
        raise SystemExit("at most 900 copies: three digits make their ids different")
    out.mkdir(parents=True, exist_ok=True)
    whole, first = out / f"whole-{given.files}-{given.copies}", out / f"first-{given.copies}"
    shutil.rmtree(out / "lake", ignore_errors=True)
    there = sum(path.stat().st_size for path in (whole / "hdfs").glob("*.log"))
    needed = lines * (TEXT_BYTES + LAKE_BYTES * (1 + given.again) + SHUFFLED_BYTES) - there
    if shutil.disk_usage(out).free < needed:
        raise SystemExit(f"{out}: {shutil.disk_usage(out).free / 1e9:.0f} GB are free, {needed / 1e9:.0f} GB are needed")
    print(f"{lines:,} lines in {given.files} files; {machine()}", flush=True)
    files = build_files(shared, whole, given.files, given.copies)
    (first / "hdfs").mkdir(parents=True, exist_ok=True)
    (first / "hdfs" / files[0].name).unlink(missing_ok=True)
    os.link(files[0], first / "hdfs" / files[0].name)
    nights = {}
    for folder, n in ((first, given.copies * LINES), (whole, lines)):
        nights[n] = measured(given.what, folder, out, shared, ["again"] * given.again)
        (out / "results.json").write_text(json.dumps(nights, indent=1))
    text = report(nights)
    (out.parent / "large.md").write_text(text)
    print(text)
    if not given.keep:
        shutil.rmtree(out)


if __name__ == "__main__":
    sys.exit(main())
