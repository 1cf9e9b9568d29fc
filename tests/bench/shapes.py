"""CPU seconds of ingest and parse per million lines, for one file in several forms, and the ratio of each to plain text.

The lines are real HDFS lines: plain, with a UUID in each, with letters outside of ASCII, as JSON, as JSON with a UUID, and as logfmt. All
runs are in this process, without Spark; of several rounds the least counts, so that what else the machine does has little influence.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from corpus import DS, LINES, build
from nightlog.lake import runner
from nightlog.lake.lake import Lake
from nightlog.outcomes import Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.spec import Header, Input, Session, System, Timestamp

ROOT = Path(__file__).resolve().parents[2]
FORMS = ("plain", "uuid", "non-ascii", "json", "json-uuid", "logfmt")
STAGES = (Stage.INGEST, Stage.PARSE)
KEYS = {"json": {"time": "time", "level": "level", "message": "message"}, "logfmt": {"time": "time", "level": "level", "message": "msg"}}


def written(form: str, stamp: str, level: str, message: str, rng: random.Random) -> str:
    """Return a line in one of the forms."""
    if form.endswith("uuid"):
        message += f" for request {uuid.UUID(int=rng.getrandbits(128))}"
    if form == "non-ascii":
        message = message.replace("block", "blöck").replace("e", "é")
    if form.startswith("json"):
        return json.dumps({"time": stamp, "level": level, "message": message}, ensure_ascii=False)
    if form == "logfmt":
        return f'time="{stamp}" level={level} msg="{message}"'
    return f"{stamp} {level} {message}"


def write_forms(log: Path, folder: Path, forms: list[str]) -> None:
    """Write a file of HDFS lines in each of the forms: folder/FORM/DS.log; what is there is left."""
    for form in forms:
        path = folder / form / f"{DS}.log"
        if path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = random.Random(1)
        with log.open(encoding="utf-8", errors="replace") as lines, path.with_suffix(".part").open("w", encoding="utf-8") as out:
            for line in lines:
                day, clock, _, level, rest = line.rstrip("\n").split(" ", 4)
                stamp = f"20{day[:2]}-{day[2:4]}-{day[4:]} {clock[:2]}:{clock[2:4]}:{clock[4:]}"
                out.write(written(form, stamp, level, rest.partition(": ")[2], rng) + "\n")
        path.with_suffix(".part").rename(path)


def system_of(form: str) -> System:
    """Return the system of the lines of a form."""
    kind = form.partition("-")[0]
    header = Header(kind=kind, keys=KEYS[kind]) if kind in KEYS else Header(pattern=r"(?P<time>\S+ \S+) (?P<level>\w+) (?P<message>.*)")
    return System(
        name=form,
        role="target",
        input=Input(path=form + "/{ds}.log"),
        header=header,
        timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"),
        session=Session(kind="id", pattern=r"blk_-?\d+"),
    )


def cpu_of(form: str, data: Path) -> dict[str, float]:
    """Return the CPU seconds of each stage, all threads together."""
    root = Path(tempfile.mkdtemp(prefix="shapes-", dir=data))
    settings = Settings(data=data, llm="off", device="cpu")
    found = {}
    try:
        for stage in STAGES:
            started = time.process_time()
            night = Night(DS, "shapes", [system_of(form)], Lake(root), settings, lambda: datetime.now(UTC))
            (outcome,) = night.run_stage(stage)
            if outcome.outcome != "done":
                raise SystemExit(f"{form} {stage}: {outcome.outcome}: {outcome.detail}")
            found[stage.value] = time.process_time() - started
    finally:
        shutil.rmtree(root)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=2, help=f"of the {LINES:,} lines")
    parser.add_argument("--rounds", type=int, default=3, help="of which the least counts")
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="for the files")
    given = parser.parse_args()
    runner.ONE_PROCESS_BYTES = 1 << 40  # CPU seconds are those of this process
    shared = Path(os.environ.get("NIGHTLOG_SHARED", ROOT.parent / "shared"))
    folder = given.folder / f"shapes-{given.copies}"
    write_forms(build(shared, given.folder / f"hdfs-{given.copies}", given.copies), folder, given.forms)
    least: dict[str, dict[str, float]] = {}
    for _ in range(given.rounds):
        for form in given.forms:
            now = cpu_of(form, folder)
            least[form] = {stage: min(seconds, least.get(form, now)[stage]) for stage, seconds in now.items()}
    print("| form | ingest, CPU s per million lines | parse | both | ÷ plain |\n|---|---|---|---|---|")
    millions = given.copies * LINES / 1e6
    plain = sum(least[given.forms[0]].values())
    for form, seconds in least.items():
        ingest, parse = (seconds[stage.value] / millions for stage in STAGES)
        print(f"| {form} | {ingest:.2f} | {parse:.2f} | {ingest + parse:.2f} | {sum(seconds.values()) / plain:.2f} |")


if __name__ == "__main__":
    main()
