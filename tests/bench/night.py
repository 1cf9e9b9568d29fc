"""Nightlog as the bench runs it, in one process.

`parse` (files to patterns), `json` (the same for lines of JSON), `night` (a first night by the general model that ships), `trained` (the
same by a model of a user's own, which needs encoder and torch) or `many` systems. A second night comes in two forms, and follows the first
in the same process: `again` (the same day once more, nothing new) and `next` (the next day's file, with new sessions of known templates).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from corpus import DS, NEXT_DS
from nightlog.lake.lake import Lake
from nightlog.outcomes import Stage
from nightlog.run.entry import local_bytes
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.spark import LOCAL, start_spark
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import Header, Input, Session, System, Timestamp


def stage(name: str) -> None:
    print(f"@stage {name}", flush=True)


def hdfs(path: str = "hdfs/hdfs-{ds}.log") -> System:
    """The shipped system, its files not packed."""
    return load_catalog()["hdfs"].model_copy(update={"input": Input(path=path)})


def small(name: str) -> System:
    return System(
        name=name,
        role="target",
        input=Input(path=f"{name}/{{ds}}.log"),
        header=Header(pattern=r"(?P<date>\S+) (?P<time>\S+) (?P<level>[A-Z]+) (?P<message>.*)"),
        timestamp=Timestamp(value="{date} {time}", format="yyyy-MM-dd HH:mm:ss"),
        session=Session(kind="id", pattern=r"req-\d+"),
    )


def json_lines() -> System:
    """Lines of JSON."""
    return System(
        name="json",
        role="target",
        input=Input(path="json/{ds}.log"),
        header=Header(kind="json", keys={name: name for name in ("time", "level", "message")}),
        timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"),
        session=Session(kind="id", pattern=r"blk_-?\d+"),
    )


def add_model(lake: Lake) -> None:
    """Add a small model of the usual size with untrained weights: its predictions are worth nothing, but they cost as much."""
    import torch
    from nightlog.detector.calibration import Calibration
    from nightlog.detector.manifest import Manifest
    from nightlog.detector.meta import Config
    from nightlog.detector.network import Network
    from nightlog.detector.registry import promote, save
    from nightlog.detector.training import with_shape
    from nightlog.encoding.encoder import DIMENSIONS, ENCODER

    torch.manual_seed(1)
    shape = with_shape(Config(device="cpu"), DIMENSIONS).shape
    texts = tuple(f"source template {n}" for n in range(200))
    vectors = np.eye(200, DIMENSIONS, dtype=np.float32)
    sources = ("source",) * 200
    manifest = Manifest(ENCODER, 0.9, 0.9, 0.9, Calibration(), shape, texts, sources, ("source",), {})
    promote(lake, save(lake, Network(shape), vectors, manifest, {}, datetime.now(UTC)).version)


def run(lake: Lake, systems: list[System], settings: Settings, run_id: str, stages: list[Stage], prefix: str = "", ds: str = DS) -> None:
    """Run stages of a night one by one, each announced under its name with the prefix."""
    for each in stages:
        stage(prefix + each.value)
        night = Night(ds, run_id, systems, lake, settings, lambda: datetime.now(UTC))
        for outcome in night.run_stage(each):
            if outcome.outcome not in ("done", "incomplete"):  # without an LLM nobody judges what the history only ranks
                raise SystemExit(f"{outcome.system} {each}: {outcome.outcome}: {outcome.detail}")
            if len(systems) == 1:
                print(outcome.counts, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["parse", "json", "night", "trained", "many"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--llm", type=Path, help="the recorded LLM's server")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="Spark's settings instead of those shipped")
    parser.add_argument("--files", action="store_true", help="HDFS lines stand in several files")
    parser.add_argument("--second", nargs="*", choices=["again", "next"], default=["again"], help="nights after the first")
    given = parser.parse_args()
    own = dict(each.split("=", 1) for each in given.set)
    LOCAL.update(own)
    lake = Lake(
        given.lake, lambda: start_spark("nightlog bench", driver_memory=own.get("spark.driver.memory", "4g")), local_bytes(Settings())
    )
    if not lake.runner.runs_locally(sum(path.stat().st_size for path in given.data.rglob(f"*{DS}*") if path.is_file())):
        print("Spark is there" if lake.runner.spark else "", flush=True)  # its start is not a stage's time
    systems = [small(path.name) for path in sorted(given.data.iterdir()) if path.is_dir()] if given.what == "many" else [hdfs()]
    if given.files:
        systems = [hdfs("hdfs/hdfs-{ds}-*.log")]
    if given.what == "json":
        systems = [json_lines()]
    if given.what in ("parse", "json"):
        run(lake, systems, Settings(data=given.data, llm="off", device="cpu"), "first", [Stage.INGEST, Stage.PARSE])
        stage("end")
        return
    if given.what == "trained":
        stage("model")
        add_model(lake)
    if given.what == "many":
        run(lake, systems, Settings(data=given.data, llm="off", device="cpu"), "first", list(Stage))
        stage("end")
        return
    with subprocess.Popen([sys.executable, str(given.llm), "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        settings = Settings(data=given.data, llm="openai", OPENAI_BASE_URL=address, OPENAI_API_KEY="recorded", device="cpu")
        run(lake, systems, settings, "first", list(Stage))
        for part in given.second:
            run(lake, systems, settings, part, list(Stage), f"{part}-", NEXT_DS if part == "next" else DS)
        stage("end")
        server.terminate()


if __name__ == "__main__":
    main()
