"""The driver's work in nights of 1e7, 1e8 and 1e9 lines, simulated: tasks, opens of parts, memory and seconds.

No text is read. The results that tasks would return are made up, as large as those of HDFS lines: one part of `bronze.lines` per 64 MiB,
with the messages, numbers and totals of its templates; counts of events per session and message; sessions of some thousand patterns. From
there on the code is the library's: results are joined in two steps as Spark's workers and the driver do it, templates' totals and numbers
are written, and each table's parts are committed. Each size runs in a process of its own. Memory is that process's peak less what it had
before; the workers' share of joining is done here too, and counted.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from nightlog.lake.lake import Lake
from nightlog.lake.parts import SORTED_ROW_GROUP, Part
from nightlog.lake.runner import MOST_RESULTS
from nightlog.lake.tables import COUNTS_TABLE, EVENTS_TABLE, SESSIONS
from nightlog.parsing.events import Parsed, joined
from nightlog.parsing.parse import write_numbers, write_totals
from nightlog.sessions import group
from nightlog.sessions.group import Grouped, Pattern, merge_patterns, pattern_id
from nightlog.sessions.write import COUNTS_PER_TASK, MOST_READERS, Result, join_results, patterns_table
from nightlog.systems.catalog import load_catalog

DS = "2008-11-11"
SIZES = (10**7, 10**8, 10**9)
LINES_PER_PART = 470_000  # of 64 MiB
COUNTS_PER_LINE = 0.55  # rows of silver.counts, as measured for HDFS
MESSAGES, MESSAGES_PER_PART, NUMBERS_PER_MESSAGE = 20_000, 3_000, 2
PATTERNS, PATTERNS_PER_TASK, WAITING_PER_TASK = 20_000, 2_000, 300
AT = pa.timestamp("us", tz="UTC")


def parsed_part(number: int) -> Parsed:
    """Return what a task returns of one part."""
    rng = random.Random(number)
    ids = rng.sample(range(MESSAGES), MESSAGES_PER_PART)
    n = MESSAGES_PER_PART * NUMBERS_PER_MESSAGE
    numbers: dict[str, Any] = {"ds": [DS] * n, "message_id": np.repeat(ids, NUMBERS_PER_MESSAGE)}
    numbers |= {"nth": np.tile(np.arange(NUMBERS_PER_MESSAGE), MESSAGES_PER_PART), "n": np.full(n, 100)}
    for side in ("low", "high"):
        numbers |= {side: np.random.default_rng(number).random(n), f"{side}_file": [f"host-{number}.log"] * n, f"{side}_line": np.arange(n)}
    totals = pa.table(
        {
            "ds": pa.array([DS] * len(ids)),
            "message_id": pa.array(ids),
            "level": pa.array(["info"] * len(ids)),
            "n": np.full(len(ids), 150),
            "last_at": pa.nulls(len(ids), AT),
        }
    )
    place = (("system", "hdfs"), ("ds", DS))
    folder = f"system=hdfs/ds={DS}"
    n_counts = int(LINES_PER_PART * COUNTS_PER_LINE)
    return Parsed(
        events=[Part(f"{folder}/events-{number}.parquet", place, 8 << 20, LINES_PER_PART)],
        counts=[Part(f"{folder}/counts-{number}.parquet", place, 4 << 20, n_counts)],
        tally={"n_parsed": LINES_PER_PART, "n_events": LINES_PER_PART},
        messages={each: (f"template {each} of <NUM> bytes for <BLK> from <IP> took <NUM> ms", DS) for each in ids},
        numbers=[pa.table(numbers)],
        totals=[totals],
    )


def grouped_task(number: int) -> Result:
    """Return what a task returns of one range of sessions."""
    rng = random.Random(number)
    patterns = {}
    for each in rng.sample(range(PATTERNS), PATTERNS_PER_TASK):
        events = tuple((f"{each:08x}{place:08x}", 1 << place % 4) for place in range(8))
        patterns[pattern_id(events)] = Pattern(events, 10, f"blk_{number}_{each}")
    times = pa.array(np.zeros(WAITING_PER_TASK, dtype=np.int64)).cast(AT)
    names = {"session_id": [f"blk_{number}_{each}" for each in range(WAITING_PER_TASK)], "pattern_id": ["x" * 16] * WAITING_PER_TASK}
    waiting = pa.table(names | {"started_at": times, "ended_at": times, "n_events": np.full(WAITING_PER_TASK, 9)}, group.SESSIONS)
    grouped = Grouped(group.SESSIONS.empty_table(), waiting, group.UNCHANGED.empty_table(), patterns, pa.array([], pa.string()), 10**5)
    part = Part(f"system=hdfs/ds={DS}/sessions-{number}.parquet", (("system", "hdfs"), ("ds", DS)), 4 << 20, 10**5)
    return Result(grouped, [part], 0, {DS: number})


def in_steps(tasks: int) -> Iterator[Parsed]:
    """Yield the results of all tasks as they reach the driver, see `Runner.run_joined`."""
    if tasks <= MOST_RESULTS:
        yield from map(parsed_part, range(tasks))
        return
    n_groups = math.isqrt(tasks)
    received = [joined(map(parsed_part, range(number, tasks, n_groups))) for number in range(n_groups)]
    yield from received


def simulate(lines: int) -> dict[str, float]:
    """Do the driver's work of one night."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    system = load_catalog()["hdfs"]
    tasks = math.ceil(lines / LINES_PER_PART)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        results = list(in_steps(tasks))
        started = time.process_time()
        found = joined(results)
        templates = {number: f"t{number}" for number in found.messages}
        write_totals(lake, system, [DS], found, templates)
        write_numbers(lake, system, [DS], found, templates)
        lake.replace(COUNTS_TABLE, found.counts, system=system.name, ds=[DS])
        lake.replace(EVENTS_TABLE, found.events, system=system.name, ds=[DS])
        n_counts = sum(part.n_rows for part in found.counts)
        n_ranges = 1 + n_counts // COUNTS_PER_TASK
        seconds = time.process_time() - started
        groups = [grouped_task(number) for number in range(n_ranges)]
        started = time.process_time()
        whole = join_results(groups, 0)
        patterns_table(merge_patterns([{}, whole.grouped.patterns]), True)
        lake.replace(SESSIONS, whole.parts, system=system.name, ds=[DS])
        seconds += time.process_time() - started
    n_row_groups = sum(math.ceil(part.n_rows / SORTED_ROW_GROUP) for part in found.counts)
    opens = len(found.counts) * (n_ranges if n_ranges <= MOST_READERS else 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "lines": lines,
        "tasks": tasks + n_ranges + (tasks if n_ranges > MOST_READERS else 0),
        "opens": opens,
        "per_group": opens / n_row_groups,
        "before": len(found.counts) * n_ranges / n_row_groups,
        "peak": peak / 1e6,
        "seconds": seconds,
    }


def main() -> None:
    """Simulate each size in a process of its own, and print a table and the slope of the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, help="simulate this size alone and print it as JSON")
    given = parser.parse_args()
    if given.lines:
        print(json.dumps(simulate(given.lines)))
        return
    print("| lines | tasks | opens of parts of counts | per row group | if each task read all parts | driver, CPU s | driver, GB |")
    print("|---|---|---|---|---|---|---|")
    found = []
    for lines in SIZES:
        command = [sys.executable, str(Path(__file__).resolve()), "--lines", str(lines)]
        each = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        found.append(each)
        print(f"| {lines:,} | {each['tasks']:,} | {each['opens']:,} | {each['per_group']:.2f} | {each['before']:.2f} ", end="")
        print(f"| {each['seconds']:.1f} | {each['peak']:.2f} |", flush=True)
    slope = math.log(found[-1]["seconds"] / found[0]["seconds"]) / math.log(SIZES[-1] / SIZES[0])
    print(f"\nSeconds grow as lines to the power of {slope:.2f}.")


if __name__ == "__main__":
    main()
