"""Stage detect: the system's small model, the GRU or MetaProto, on the night's patterns → silver.scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nightlog.detector.registry import Model, load
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.parts import write_frame
from nightlog.lake.tables import PATTERNS, SCORES
from nightlog.routing.router import read_vectors
from nightlog.systems.spec import System

PATTERNS_PER_TASK = 4096
PATTERN_BYTES = 65536  # of log text, which take as long as to score a pattern
Templates = tuple[list[str], np.ndarray, tuple[str, ...]]  # ids, vectors (n, d) and texts, in one order
SCORED = "pattern_id string, probability double, weights array<struct<template_id: string, weight: double>>"


def score_frame(frame: pd.DataFrame, model: Model, names: dict[str, int], table: np.ndarray, counted: bool, device: str) -> pd.DataFrame:
    """Patterns (pattern_id, events) with probability and attention by template: SCORED.

    Args: names: template id → row of `table`; counted: whether counts tell something. Numbers are rounded to 6 digits, so that the
    batch a pattern falls into cannot change a row.
    """
    from nightlog.detector.network import predict, sequence
    from nightlog.encoding.encoder import one_thread, pick_device

    network = load(model).network.to(pick_device(device))
    events = [[(names[event["template_id"]], event["count"] if counted else 1) for event in pattern] for pattern in frame["events"]]
    rows = [sequence(pattern) for pattern in events]
    with one_thread():
        probabilities, attention = predict(network, rows, table)
    ids = {number: name for name, number in names.items()}
    weights = []
    for row, attended in zip(rows, attention, strict=True):
        sums = pd.Series(attended).groupby(row, sort=False).sum()
        weights.append([{"template_id": ids[number], "weight": round(float(weight), 6)} for number, weight in sums.items()])
    return pd.DataFrame({"pattern_id": frame["pattern_id"], "probability": np.round(probabilities, 6), "weights": weights})


def detect(lake: Lake, system: System, ds: str, model: Model, device: str = "auto") -> dict[str, int]:
    """Score the night's patterns: here where they are few, else by Spark, the model loaded once a worker. Returns n_scored.

    The weights of a pattern's templates sum to 1: the GRU's attention, or, of a MetaProto, how rare the template is in the system.
    """
    patterns = lake.rows(PATTERNS, ["pattern_id", "events"], system=system.name, ds=ds)
    used = {event["template_id"] for pattern in patterns for event in pattern["events"]}
    names, vectors = read_vectors(lake, system.name, load(model).manifest.vectors_by, used)
    texts = template_texts(lake, system.name)
    templates = (names, vectors, tuple(texts[name] for name in names))
    counted = system.session.kind == "id"
    if not patterns or lake.runner.runs_here(PATTERN_BYTES * len(patterns)):
        rows = score_patterns(pd.DataFrame(patterns), model, templates, counted, device).to_dict("records") if patterns else []
        lake.replace(SCORES, [row | {"model": model.version} for row in rows], system=system.name, ds=ds)
        return {"n_scored": len(rows)}
    from pyspark.sql import functions as F

    shared = lake.runner.spark.sparkContext.broadcast(templates)

    def score(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            if len(frame):
                yield score_patterns(frame, model, shared.value, counted, device)

    frame = lake.read(PATTERNS, system=system.name, ds=ds).select("pattern_id", "events")
    scored = frame.repartition(1 + len(patterns) // PATTERNS_PER_TASK, "pattern_id").mapInPandas(score, SCORED)
    placed = scored.withColumns({"system": F.lit(system.name), "ds": F.lit(ds), "model": F.lit(model.version)})
    lake.replace(SCORES, write_frame(lake.root, SCORES, placed), system=system.name, ds=ds)
    return {"n_scored": len(patterns)}


def score_patterns(frame: pd.DataFrame, model: Model, templates: Templates, counted: bool, device: str) -> pd.DataFrame:
    """Patterns scored by the kind of model that serves."""
    names, vectors, texts = templates
    if model.detector == "metaproto":
        from nightlog.detector.metaproto import serving

        return serving.score_frame(frame, load(model).metaproto, serving.NightTemplates(tuple(names), texts))
    return score_frame(frame, model, {name: number for number, name in enumerate(names)}, vectors, counted, device)
