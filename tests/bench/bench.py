"""The bench: Nightlog and its peers on the same files, one after the other, in rounds.

Writes build/bench/results.json (a record for each program, size, round and stage), table.md and plot.png. Records in results.json are not
measured again, so a bench that broke off goes on; remove the file to measure all again. The largest input and the files of next days are
removed at the end.
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
from corpus import LINES, NEXT_DS, build, build_json, build_many, build_next, build_uuid
from measure import run
from report import plot, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "bench"
JOBS_PYTHON = ROOT / ".venv" / "bin" / "python"
BRAIN_PYTHON = OUT / "brain" / "bin" / "python"
# Bytes of memory per line, as measured: a peer that would not fit is left out.
BYTES_PER_LINE = {"loglead-tip": 700, "loglead-auto": 700}
MOST_S, BRAIN_S = 600.0, 120.0
MOST_MEMORY = 0.85  # of what is available
KEPT_COPIES = 50

NIGHTS = ("nightlog-parse", "nightlog-night")
MINERS = ("drain3", "drain3-cores", "loglead-tip")
LIMITS = ("duckdb", "polars", "zstd", "copy")


class Job(NamedTuple):
    """One run of one program on so many copies of the input (or so many systems)."""

    program: str
    copies: int
    round: int


def plan(quick: bool) -> Iterator[Job]:
    """Yield the runs in their order: the programs of a round one after the other, so that they share what else the machine does."""
    if quick:
        yield from (Job(program, 5, 1) for program in (*NIGHTS, "nightlog-trained", *MINERS, "loglead-auto", *LIMITS))
        yield Job("nightlog-many", 20, 1)
        return
    small = (*NIGHTS, "nightlog-trained", *MINERS, "loglead-auto", *LIMITS)
    rounds = {5: (small, 3), 15: (("nightlog-parse", "nightlog-json", "nightlog-uuid"), 3), 50: ((*NIGHTS, *MINERS), 3)}
    rounds |= {1: (("brain",), 1), 150: ((*NIGHTS, "loglead-tip"), 1)}
    for copies in (5, 50, 15, 1, 150):
        programs, most = rounds[copies]
        for number in range(1, most + 1):
            yield from (Job(program, copies, number) for program in programs)
            if (copies, number) == (50, 1):
                yield from (Job(program, copies, number) for program in ("loglead-auto", *LIMITS))
    yield Job("brain", 5, 1)
    yield from (Job("nightlog-many", systems, 1) for systems in (20, 200))


def command(job: Job, shared: Path, records: list[dict[str, Any]]) -> tuple[list[str], dict[str, str]]:
    """Return what to run, and its environment; the input is built here."""
    if job.program == "nightlog-many":
        data = build_many(OUT / f"many-{job.copies}", job.copies)
        log = data
    else:
        data = OUT / f"hdfs-{job.copies}"
        log = build(shared, data, job.copies)
    if not job.program.startswith("nightlog"):
        python = str(BRAIN_PYTHON) if job.program == "brain" else sys.executable
        program = [python, str(HERE / "peers.py"), job.program, str(log)]
        if job.program == "copy":
            program += ["--bytes", str(written_by_nightlog(job, records))]
        return program, {}
    what, second = job.program.removeprefix("nightlog-"), []
    if what == "json":
        data = build_json(log, OUT / f"json-{job.copies}")
    elif what == "uuid":
        data, what = build_uuid(log, OUT / f"uuid-{job.copies}"), "parse"
    elif what in ("night", "trained") and job.copies <= KEPT_COPIES:
        build_next(shared, data, job.copies)
        second = ["again", "next"]
    lake = OUT / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    given = ["--data", str(data), "--lake", str(lake), "--llm", str(shared / "llm" / "serve.py"), "--second", *second]
    return [str(JOBS_PYTHON), str(HERE / "night.py"), what, *given], {"PYTHONPATH": str(ROOT / "libs")}


def written_by_nightlog(job: Job, records: list[dict[str, Any]]) -> int:
    """Return the bytes that nightlog-parse wrote for the same lines, or a sixth of the text if it has not been measured."""
    lines = job.copies * LINES
    totals = [each for each in records if (each["program"], each["lines"], each["stage"]) == ("nightlog-parse", lines, "total")]
    return int(statistics.median(each["bytes_written"] for each in totals)) if totals else lines * 140 // 6


def machine() -> str:
    """Return cores, memory and system in words."""
    model = next((line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    return f"{os.cpu_count()} cores ({model}), {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} {platform.release()}"


def fits(job: Job) -> bool:
    """Return if the machine has the memory that a peer needs."""
    return job.copies * LINES * BYTES_PER_LINE.get(job.program, 0) < psutil.virtual_memory().available


def measured(job: Job, shared: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run a job. Returns its records."""
    lines = job.copies * (5000 if job.program == "nightlog-many" else LINES)
    program, env = command(job, shared, records)
    load = os.getloadavg()[0]
    limits = BRAIN_S if job.program == "brain" else MOST_S, MOST_MEMORY * psutil.virtual_memory().available
    started = time.monotonic()
    stages = run(program, env, OUT / f"{job.program}-{job.copies}-{job.round}.log", *limits)
    print(f"{job.program} on {lines:,} lines, round {job.round}: {time.monotonic() - started:.1f} s", flush=True)
    same = {"program": job.program, "lines": lines, "round": job.round}
    about = {"machine": machine(), "load_before": round(load, 2), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    return [same | each | about for each in stages]


def remove_large() -> None:
    """Remove what takes much room and is written again quickly."""
    shutil.rmtree(OUT / "lake", ignore_errors=True)
    for copies in {job.copies for job in plan(quick=False)}:
        if copies > KEPT_COPIES:
            shutil.rmtree(OUT / f"hdfs-{copies}", ignore_errors=True)
        (OUT / f"hdfs-{copies}" / "hdfs" / f"hdfs-{NEXT_DS}.log").unlink(missing_ok=True)


def main() -> None:
    """Measure what is missing, and write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1.1 million lines, one round, without Brain")
    parser.add_argument("--copies", type=int, nargs="*", help="only these sizes, in copies of 222,579 lines (or systems)")
    parser.add_argument("--programs", nargs="*", help="only these")
    parser.add_argument("--rounds", type=int, default=3, help="at most so many rounds")
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
        records += measured(job, shared, records)
        results.write_text(json.dumps(records, indent=1))
    remove_large()
    text = table(records)
    (OUT / "table.md").write_text(text)
    plot(records, OUT / "plot.png")
    print(text)


if __name__ == "__main__":
    main()
