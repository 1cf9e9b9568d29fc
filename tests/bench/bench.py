"""The bench: Nightlog and its peers on the same files, one after the other, in rounds.

Writes build/bench/results.json (a record for each program, size, round and stage), table.md and plot.png. What is in results.json is
not run again, so a bench that broke off goes on; remove the file to start anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from corpus import LINES, build, build_json, build_many
from measure import run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "bench"
JOBS_PYTHON = ROOT / ".venv" / "bin" / "python"
# Bytes of memory for a line, as measured: a peer that would not fit is left out.
LOGLEAD_BYTES = 700
AGAIN = "again-"
APART = ("start", "model", "end")


class Job(NamedTuple):
    """One run of one program on so many copies of the input (or so many systems)."""

    program: str
    copies: int
    round: int


def plan(quick: bool) -> Iterator[Job]:
    """The runs in their order: the programs of a round one after the other, so that they share what else the machine does."""
    if quick:
        yield from (Job(program, 5, 1) for program in ("nightlog-parse", "drain3", "loglead-tip", "nightlog-night", "nightlog-trained"))
        yield Job("nightlog-many", 20, 1)
        return
    for copies, rounds in ((5, 3), (15, 3), (50, 3), (150, 1)):
        for number in range(1, rounds + 1):
            yield from (
                Job(program, copies, number)
                for program in ("nightlog-parse", "drain3", "loglead-tip", "nightlog-night", "nightlog-trained")
            )
    yield Job("loglead-drain", 50, 1)
    yield Job("nightlog-json", 15, 1)
    yield from (Job("nightlog-many", systems, 1) for systems in (20, 200))


def command(job: Job, shared: Path) -> tuple[list[str], dict[str, str]]:
    """What to run, and what its environment needs; the input is made here."""
    if job.program == "nightlog-many":
        data = build_many(OUT / f"many-{job.copies}", job.copies)
        log = data
    else:
        data = OUT / f"hdfs-{job.copies}"
        log = build(shared, data, job.copies)
    if job.program == "nightlog-json":
        data = build_json(log, OUT / f"json-{job.copies}")
    if not job.program.startswith("nightlog"):
        return [sys.executable, str(HERE / "peers.py"), job.program, str(log)], {}
    lake = OUT / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    given = ["--data", str(data), "--lake", str(lake), "--llm", str(shared / "llm" / "serve.py")]
    program = [str(JOBS_PYTHON), str(HERE / "night.py"), job.program.removeprefix("nightlog-"), *given]
    return program, {"PYTHONPATH": str(ROOT / "libs")}


def machine() -> str:
    model = next((line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    return f"{os.cpu_count()} cores ({model}), {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} {platform.release()}"


def fits(job: Job) -> bool:
    """Whether the machine has the memory that a peer needs; an input of 33 million lines is Nightlog's alone otherwise."""
    return not job.program.startswith("loglead") or job.copies * LINES * LOGLEAD_BYTES < psutil.virtual_memory().available


def rows_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the table says: for each program and size the medians over the rounds of what it took without its start and end, and of what its
    whole process took."""
    found = []
    for program, lines in dict.fromkeys((each["program"], each["lines"]) for each in records):
        rounds: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for each in records:
            if (each["program"], each["lines"]) == (program, lines) and each["stage"] not in ("total", *APART):
                name = program + ("-again" if each["stage"].startswith(AGAIN) else "")
                rounds.setdefault((name, each["round"]), []).append(each)
        if not program.startswith("nightlog"):
            # A peer's start is a part of its work.
            rounds = {
                (program, each["round"]): [each]
                for each in records
                if (each["program"], each["lines"], each["stage"]) == (program, lines, "total")
            }
        for name in dict.fromkeys(name for name, _ in rounds):
            mine = [stages for (of, _), stages in rounds.items() if of == name]
            row: dict[str, Any] = {"program": name, "lines": lines, "rounds": len(mine)}
            for field in ("wall_s", "cpu_s", "bytes_written"):
                row[field] = statistics.median(sum(stage[field] for stage in stages) for stages in mine)
            row["process_s"] = statistics.median(
                each["wall_s"] for each in records if (each["program"], each["lines"], each["stage"]) == (program, lines, "total")
            )
            row["peak_rss_bytes"] = max(stage["peak_rss_bytes"] for stages in mine for stage in stages)
            found.append(row)
    return sorted(found, key=lambda row: (row["lines"], row["program"]))


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: the programs, then Nightlog's stages."""
    text = "| lines | program | rounds | wall s | CPU s | process, wall s | peak memory GB | written MB |\n"
    text += "|---|---|---|---|---|---|---|---|\n"
    for row in rows_of(records):
        text += (
            f"| {row['lines']:,} | {row['program']} | {row['rounds']} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} | {row['process_s']:.1f} "
            f"| {row['peak_rss_bytes'] / 1e9:.2f} | {row['bytes_written'] / 1e6:.0f} |\n"
        )
    text += "\n| lines | program | stage | wall s | CPU s | peak memory GB |\n|---|---|---|---|---|---|\n"
    stages: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for each in records:
        if each["program"].startswith("nightlog"):
            stages.setdefault((each["lines"], each["program"], each["stage"]), []).append(each)
    for (lines, program, stage), found in stages.items():
        wall, cpu = (statistics.median(each[field] for each in found) for field in ("wall_s", "cpu_s"))
        peak = max(each["peak_rss_bytes"] for each in found) / 1e9
        text += f"| {lines:,} | {program} | {stage} | {wall:.1f} | {cpu:.1f} | {peak:.2f} |\n"
    for each in records:
        if each["program"] == "nightlog-many" and each["stage"] == "total":
            of = [
                r for r in records if (r["program"], r["lines"]) == ("nightlog-many", each["lines"]) and r["stage"] not in ("total", *APART)
            ]
            systems = each["lines"] // 5000
            text += f"\n{systems} systems of 5,000 lines: {sum(r['wall_s'] for r in of) / systems:.2f} s a system (without start and end)\n"
    return text


def plot(records: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    rows = [row for row in rows_of(records) if not row["program"].startswith("nightlog-many")]
    for axis, name, unit, label in ((axes[0], "wall_s", 1, "wall seconds"), (axes[1], "peak_rss_bytes", 1e9, "peak memory, GB")):
        for program in dict.fromkeys(row["program"] for row in rows):
            mine = [row for row in rows if row["program"] == program]
            axis.plot([row["lines"] / 1e6 for row in mine], [row[name] / unit for row in mine], marker="o", label=program)
        axis.set(xlabel="million lines", ylabel=label, xscale="log", yscale="log")
        axis.grid(visible=True, which="both", alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1.1 million lines, one round")
    parser.add_argument("--copies", type=int, nargs="*", help="only these sizes, in copies of 222,579 lines (or systems)")
    parser.add_argument("--programs", nargs="*", help="only these")
    parser.add_argument("--rounds", type=int, default=3, help="no more rounds than this")
    given = parser.parse_args()
    shared = Path(os.environ.get("NIGHTLOG_SHARED", ROOT.parent / "shared"))
    if not (shared / "data" / "raw" / "hdfs").is_dir():
        raise SystemExit(f"no logs at {shared}: set NIGHTLOG_SHARED to the folder that holds data/ and llm/")
    OUT.mkdir(parents=True, exist_ok=True)
    results = OUT / "results.json"
    records: list[dict[str, Any]] = json.loads(results.read_text()) if results.is_file() else []
    for job in plan(given.quick):
        if job.round > given.rounds or (given.copies is not None and job.copies not in given.copies):
            continue
        if given.programs is not None and job.program not in given.programs:
            continue
        lines = job.copies * (5000 if job.program == "nightlog-many" else LINES)
        if any((each["program"], each["lines"], each["round"]) == (job.program, lines, job.round) for each in records):
            continue
        if not fits(job):
            print(f"{job.program} on {lines:,} lines: left out, it would need more memory than there is", flush=True)
            continue
        program, env = command(job, shared)
        load = os.getloadavg()[0]
        started = time.monotonic()
        stages = run(program, env, OUT / f"{job.program}-{job.copies}-{job.round}.log")
        same = {"program": job.program, "lines": lines, "round": job.round}
        about = {"machine": machine(), "load_before": round(load, 2), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        records += [same | each | about for each in stages]
        results.write_text(json.dumps(records, indent=1))
        print(f"{job.program} on {lines:,} lines, round {job.round}: {time.monotonic() - started:.1f} s", flush=True)
    text = table(records)
    (OUT / "table.md").write_text(text)
    plot(records, OUT / "plot.png")
    print(text)


if __name__ == "__main__":
    main()
