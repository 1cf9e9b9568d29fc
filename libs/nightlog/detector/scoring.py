"""Stage detect: the system's small model, the GRU or MetaProto, on the night's patterns → silver.scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from nightlog.detector.registry import Model, load
from nightlog.lake.store import Lake
from nightlog.lake.tables import PATTERNS, SCORES, TEMPLATES, VECTORS
from nightlog.systems.spec import System

PATTERNS_PER_TASK = 4096
SCORED = "pattern_id string, probability double, weights array<struct<template_id: string, weight: double>>"


def score_frame(frame: pd.DataFrame, model: Model, names: dict[str, int], table: np.ndarray, counted: bool, device: str) -> pd.DataFrame:
    """Patterns (pattern_id, events) with probability and attention by template: SCORED.

    Args: names: template id → row of `table`; counted: whether counts tell something. Numbers are rounded to 6 digits, so that the
    batch a pattern falls into cannot change a row.
    """
    from nightlog.detector.network import pick_device, sequence
    from nightlog.detector.predict import predict

    network = load(model).network.to(pick_device(device))
    events = [[(names[event["template_id"]], event["count"] if counted else 1) for event in pattern] for pattern in frame["events"]]
    rows = [sequence(pattern) for pattern in events]
    probabilities, attention = predict(network, rows, table)
    ids = {number: name for name, number in names.items()}
    weights = []
    for row, attended in zip(rows, attention, strict=True):
        sums = pd.Series(attended).groupby(row, sort=False).sum()
        weights.append([{"template_id": ids[number], "weight": round(float(weight), 6)} for number, weight in sums.items()])
    return pd.DataFrame({"pattern_id": frame["pattern_id"], "probability": np.round(probabilities, 6), "weights": weights})


def detect(lake: Lake, system: System, ds: str, model: Model, device: str = "auto") -> dict[str, int]:
    """Score the night's patterns; the model is loaded once a worker. Returns n_scored.

    The weights of a pattern's templates sum to 1: the GRU's attention, or, of a MetaProto, how rare the template is in the system.
    """
    patterns = lake.read(PATTERNS, system=system.name, ds=ds).select("pattern_id", "events")
    encoder = load(model).manifest.encoder
    used = patterns.select(F.explode("events.template_id").alias("template_id")).distinct()
    texts = lake.read(TEMPLATES, system=system.name).select("template_id", "text")
    vectors = lake.frame(
        lake.read(VECTORS, system=system.name, encoder=encoder).join(used, "template_id", "left_semi").join(texts, "template_id", "left")
    )
    names = {name: number for number, name in enumerate(vectors["template_id"])}
    table = np.stack(vectors["vector"].to_list()).astype(np.float32) if names else np.zeros((0, 0), dtype=np.float32)
    assert lake.spark is not None
    shared = lake.spark.sparkContext.broadcast((names, table, tuple(vectors["text"])))
    counted = system.session.kind == "id"

    def score(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        known, rows, said = shared.value
        for frame in frames:
            if len(frame) and model.detector == "metaproto":
                from nightlog.detector.metaproto import scoring

                yield scoring.score_frame(frame, load(model).metaproto, scoring.NightTemplates(tuple(known), said, rows))
            elif len(frame):
                yield score_frame(frame, model, known, rows, counted, device)

    n = patterns.count()
    scored = patterns.repartition(1 + n // PATTERNS_PER_TASK, "pattern_id").mapInPandas(score, SCORED)
    placed = scored.withColumns({"system": F.lit(system.name), "ds": F.lit(ds), "model": F.lit(model.version)})
    lake.replace_slice(SCORES, placed, system=system.name, ds=ds)
    return {"n_scored": n}
