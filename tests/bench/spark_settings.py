"""How much Spark's settings matter: JSON lines, which Spark's expressions take apart, from file to patterns by each of them.

Where lines are plain text no row passes through the JVM, and these settings change nothing. Prints a table and writes
build/bench/settings.json and settings.md. A native engine is tried where its JAR is named: --comet JAR.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from pathlib import Path

from bench import HERE, JOBS_PYTHON, OUT, ROOT
from corpus import build, build_json
from measure import run
from report import APART

OPTIONS = "spark.driver.extraJavaOptions"
VARIANTS: dict[str, dict[str, str]] = {
    "as shipped": {},
    "no adaptive execution": {"spark.sql.adaptive.enabled": "false"},
    "Kryo": {"spark.serializer": "org.apache.spark.serializer.KryoSerializer"},
    "Arrow batches of 1,000 rows": {"spark.sql.execution.arrow.maxRecordsPerBatch": "1000"},
    "Arrow batches of 100,000 rows": {"spark.sql.execution.arrow.maxRecordsPerBatch": "100000"},
    "heap of 2 GB": {"spark.driver.memory": "2g"},
    "heap of 8 GB": {"spark.driver.memory": "8g"},
    "parallel collector": {OPTIONS: "-XX:+UseParallelGC"},
    "first compiler alone": {OPTIONS: "-XX:TieredStopAtLevel=1"},
    "2 shuffle partitions": {"spark.sql.shuffle.partitions": "2"},
    "16 shuffle partitions": {"spark.sql.shuffle.partitions": "16"},
}


def comet(jar: Path) -> dict[str, str]:
    """Apache DataFusion Comet with memory of its own, as its guide says."""
    return {
        "spark.driver.extraClassPath": str(jar),
        "spark.plugins": "org.apache.spark.CometPlugin",
        "spark.shuffle.manager": "org.apache.spark.sql.comet.execution.shuffle.CometShuffleManager",
        "spark.memory.offHeap.enabled": "true",
        "spark.memory.offHeap.size": "2g",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=5, help="of 222,579 lines")
    parser.add_argument("--comet", type=Path, help="the JAR of Apache DataFusion Comet")
    parser.add_argument("--only", nargs="*", help="only these")
    given = parser.parse_args()
    shared = Path(os.environ.get("NIGHTLOG_SHARED", ROOT.parent / "shared"))
    data = build_json(build(shared, OUT / f"hdfs-{given.copies}", given.copies), OUT / f"json-{given.copies}")
    variants = VARIANTS | ({"Comet": comet(given.comet)} if given.comet else {})
    found: dict[str, list[tuple[float, float, float]]] = {}
    for number in range(given.rounds):
        for name, settings in variants.items():
            if given.only and name not in given.only:
                continue
            lake = OUT / "lake"
            shutil.rmtree(lake, ignore_errors=True)
            own = [word for each in settings.items() for word in ("--set", "=".join(each))]
            command = [str(JOBS_PYTHON), str(HERE / "night.py"), "json", "--data", str(data), "--lake", str(lake), *own]
            try:
                records = run(
                    command, {"PYTHONPATH": str(ROOT / "libs"), "NIGHTLOG_LOCAL_MIB": "0"}, OUT / f"settings-{name.replace(' ', '-')}.log"
                )
            except RuntimeError as error:
                print(f"{name}: {error}", flush=True)
                continue
            stages = [each for each in records if each["stage"] not in ("total", *APART)]
            wall, cpu = (sum(each[field] for each in stages) for field in ("wall_s", "cpu_s"))
            found.setdefault(name, []).append((wall, cpu, max(each["peak_rss_bytes"] for each in records) / 1e9))
            print(f"{name}, round {number + 1}: {wall:.1f} s, CPU {cpu:.1f} s", flush=True)
    text = "| setting | wall s, each round | CPU s | peak memory GB |\n|---|---|---|---|\n"
    for name, rounds in found.items():
        walls = ", ".join(f"{wall:.1f}" for wall, _, _ in rounds)
        cpu, peak = statistics.median(cpu for _, cpu, _ in rounds), max(peak for _, _, peak in rounds)
        text += f"| {name} | {walls} | {cpu:.1f} | {peak:.2f} |\n"
    (OUT / "settings.json").write_text(json.dumps(found, indent=1))
    (OUT / "settings.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
