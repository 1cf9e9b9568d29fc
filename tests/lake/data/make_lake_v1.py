"""Make `lake_v1.tar.gz`: a small lake as the first version of Nightlog wrote it, every table with rows.

The archive in this folder was made with the code of commit bb1db8b, before tables could gain columns. Do not make it again with later
code: it stands for the lakes that people have. To see how it was made, check that commit out and run, from its root:

    PYTHONPATH=libs python make_lake_v1.py lake_v1.tar.gz
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from nightlog.detector.calibration import Calibration
from nightlog.detector.network import Network, Shape
from nightlog.detector.registry import Manifest, promote, save
from nightlog.encoding.encoder import DIMENSIONS, ENCODER
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, ANSWERS, APPROVALS, HANDOFFS, LABELS, LLM_BATCHES, LLM_CALLS, PSEUDO_LABELS, SESSIONS
from nightlog.run.night import Night
from nightlog.run.stages import Stage
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog

NIGHTS = ("2026-03-02", "2026-03-03", "2026-03-04")
SYSTEM = r"""name = "shop"
role = "target"

[input]
path = "shop/{ds}.log.gz"

[header]
pattern = '(?P<stamp>\S+) (?P<level>INFO|WARN|ERROR) (?P<id>s\d+) (?P<message>.*)'

[timestamp]
value = "{stamp}"
format = "yyyy-MM-dd'T'HH:mm:ssX"

[session]
kind = "field"
field = "id"
"""
STEPS = ("cart opened with {n} items", "payment of {n} cents accepted", "order {n} shipped from 10.0.0.{n}")


def log_of(ds: str) -> bytes:
    """A day of thirty orders: one of them fails, one line has no header."""
    rng = random.Random(ds)
    lines = ["unexpected end of file"]
    for number in range(30):
        steps = [("INFO", step) for step in STEPS]
        if number == 17:
            steps = [*steps[:1], ("ERROR", "payment broken after {n} ms: gateway timeout")]
        for minute, (level, step) in enumerate(steps):
            session = f"s{ds[-2:]}{number:02}"
            lines.append(f"{ds}T10:{number:02}:{minute:02}Z {level} {session} {step.format(n=rng.randrange(1, 99))}")
    return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)


def verdict(templates: list[str], label: str) -> str:
    events = [{"template": template, "count": 1} for template in templates]
    return json.dumps({"system": "shop", "events": events, "label": label, "confidence": 0.9, "reason": "as recorded"})


def make(folder: Path) -> None:
    """Fill `folder` with systems, logs, recorded verdicts and the lake of the first two nights; the third night's log is left for later."""
    (folder / "systems").mkdir()
    (folder / "systems" / "shop.toml").write_text(SYSTEM)
    (folder / "logs" / "shop").mkdir(parents=True)
    for ds in NIGHTS:
        (folder / "logs" / "shop" / f"{ds}.log.gz").write_bytes(log_of(ds))
    usual = [step.replace("10.0.0.{n}", "<IP>").replace("{n}", "<NUM>") for step in STEPS]
    broken = [usual[0], "payment broken after <NUM> ms: gateway timeout"]
    (folder / "verdicts.jsonl").write_text(verdict(usual, "normal") + "\n" + verdict(broken, "anomalous") + "\n")

    lake, now = Lake(folder / "lake"), datetime(2026, 3, 5, 2, tzinfo=UTC)
    manifest = Manifest(
        encoder=ENCODER,
        tau=0.9,
        threshold=0.0,
        foreign_threshold=0.0,
        foreign=Calibration(1.0, 0.0),
        shape=Shape(DIMENSIONS, reduced=8, hidden=8),
        source_texts=("alpha", "beta"),
        source_systems=("x", "y"),
        sources=("x", "y"),
        data={},
    )
    torch.manual_seed(1)
    model = save(lake, Network(manifest.shape), np.eye(2, DIMENSIONS, dtype=np.float32), manifest, {"held_out_f1": 0.5}, now)
    promote(lake, model.version)
    settings = Settings(
        llm="recorded",
        llm_recorded=folder / "verdicts.jsonl",
        device="cpu",
        data=folder / "logs",
        systems=folder / "systems",
        exports=folder / "exports",
    )
    for ds in NIGHTS[:2]:
        night = Night(ds, f"run-{ds}", [load_catalog(folder / "systems")["shop"]], lake, settings, lambda: now)
        for stage in Stage:
            for outcome in night.run_stage(stage):
                assert outcome.outcome == "done", outcome
    (session, *_) = lake.rows(SESSIONS, ds=NIGHTS[1])
    pattern = session["pattern_id"]
    of = {"system": "shop", "ds": NIGHTS[1], "run_id": "run-by-hand"}
    lake.put(LABELS, [{**of, "file": "shop/labels.csv", "line_no": 1, "session_id": session["session_id"], "label": 0, "tag": "-"}])
    lake.put(
        ANSWERS,
        [
            {**of, "kind": "label", "about": "pattern", "group": pattern, "label": "normal"}
            | {"questions": [pattern], "answered_by": "ann", "answered_at": now}
        ],
    )
    lake.put(LLM_CALLS, [{**of, "mode": "generallog", "llm": "openai:m", "round": 1, "calls": 1, "items": 2, "money": 0.25, "at": now}])
    lake.put(LLM_BATCHES, [{**of, "batch": "b1", "status": "collected", "round": 1, "asked": "", "submitted_at": now, "collected_at": now}])
    lake.put(APPROVALS, [{**of, "stage": "parse", "held": [], "new_normal": False, "approved_by": "ann", "approved_at": now}])
    lake.put(
        PSEUDO_LABELS, [{**of, "model": model.version, "pattern_id": session["pattern_id"], "probability": 0.1, "origin": "confident"}]
    )
    lake.put(HANDOFFS, [{"ds": NIGHTS[1], "run_id": "run-by-hand", "kind": "metrics", "outcome": "done", "at": now}])
    empty = [spec.name for spec in ALL_TABLES if not lake.rows(spec)]
    assert not empty, f"tables without rows: {empty}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        make(Path(made))
        with tarfile.open(sys.argv[1], "w:gz") as archive:
            for part in ("lake", "logs", "systems", "verdicts.jsonl"):
                archive.add(Path(made, part), part, filter=lambda file: None if "/reports" in file.name else file)
