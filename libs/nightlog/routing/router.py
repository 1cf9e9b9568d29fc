"""Stage route: is a pattern general knowledge, or the system's own? Training-free (GeneralLog, arXiv 2511.05882).

A template is as familiar as its most similar source template, a pattern as its least familiar template; at tau and above it is
general. Tau comes from the sources alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from nightlog.lake.store import Lake
from nightlog.lake.tables import PATTERNS, ROUTES, VECTORS
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BLOCK = 4096
DIGITS = 4
NEAREST = "template_id string, source string, nearest_source_template string, similarity double"
LEAST_TAU, TAU_QUANTILE = 0.5, 0.95
NOTHING_GENERAL = 1.01  # no similarity is as high: everything is asked about


@dataclass(frozen=True)
class SourceTemplates:
    """What the sources know: row i of `vectors` (float32, n x d, unit norm) is `texts[i]` of the system `systems[i]`."""

    vectors: np.ndarray
    texts: tuple[str, ...]
    systems: tuple[str, ...]


def most_similar(vectors: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of `vectors` the most similar row of `sources` and its cosine; both unit norm. Blocked, so memory is bounded."""
    best = np.full(len(vectors), -1.0, dtype=np.float32)
    where = np.zeros(len(vectors), dtype=np.int64)
    for start in range(0, len(sources), BLOCK):
        cosines = vectors @ sources[start : start + BLOCK].T
        nearest = cosines.argmax(axis=1)
        cosine = cosines[np.arange(len(vectors)), nearest]
        better = cosine > best
        best[better], where[better] = cosine[better], nearest[better] + start
    return where, np.clip(best, -1.0, 1.0)


def is_general(vectors: np.ndarray, events: Sequence[Sequence[tuple[int, int]]], sources: np.ndarray, tau: float) -> np.ndarray:
    """Which patterns are general, (n,) bool: what `route_patterns` says, for patterns in memory.

    Args: vectors (templates, d) and sources (source templates, d), unit norm; events, for each pattern pairs of row and count.
    """
    familiar = np.round(most_similar(vectors, sources)[1].astype(float), DIGITS)
    return np.array([min(familiar[row] for row, _ in pattern) >= tau for pattern in events], dtype=bool)


def choose_tau(vectors: Mapping[str, np.ndarray], patterns: Mapping[str, list[list[int]]]) -> float:
    """The router's threshold, from the sources alone: each source in turn is looked at as if it were new.

    Tau is the 0.95 quantile of the similarity of its patterns to the other sources, so that a system with nothing in common
    with the sources is called general for one pattern in twenty at most; never below 0.5.

    Args: vectors: source → (n, d) template vectors; patterns: source → its patterns as row numbers of its templates.
    """
    similarities = []
    for name, own in vectors.items():
        others = [other for source, other in vectors.items() if source != name]
        if others and len(own):
            _, familiar = most_similar(own, np.concatenate(others))
            similarities += [float(familiar[pattern].min()) for pattern in patterns[name] if pattern]
    return max(LEAST_TAU, round(float(np.quantile(similarities, TAU_QUANTILE)), 4)) if similarities else LEAST_TAU


def route_patterns(patterns: DataFrame, nearest: DataFrame, tau: float) -> DataFrame:
    """Call a pattern general if its least familiar template is at least `tau` like a source template.

    Args: patterns (pattern_id, events array<struct<template_id, count>>); nearest (template_id, source,
    nearest_source_template, similarity in [-1, 1]).
    Returns: (pattern_id, similarity, route "general" | "proprietary", nearest array); one row a pattern.
    """
    templates = patterns.select("pattern_id", F.explode("events.template_id").alias("template_id"))
    return (
        templates.join(nearest, "template_id", "left")
        .groupBy("pattern_id")
        .agg(
            F.min(F.coalesce("similarity", F.lit(-1.0))).alias("similarity"),
            F.sort_array(F.collect_list(F.struct("template_id", "source", "nearest_source_template", "similarity"))).alias("nearest"),
        )
        .withColumn("route", F.when(F.col("similarity") >= tau, "general").otherwise("proprietary"))
    )


def nearest_sources(vectors: DataFrame, sources: SourceTemplates) -> DataFrame:
    """For each template (template_id, vector) its most similar source template: NEAREST. Rounded, so that the order of a matrix
    product's additions cannot change a row."""

    def look_up(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            if len(sources.texts) and len(frame):
                where, cosine = most_similar(np.stack(frame["vector"].to_list()).astype(np.float32), sources.vectors)
                yield pd.DataFrame(
                    {
                        "template_id": frame["template_id"],
                        "source": [sources.systems[i] for i in where],
                        "nearest_source_template": [sources.texts[i] for i in where],
                        "similarity": np.round(cosine.astype(float), DIGITS),
                    }
                )

    return vectors.select("template_id", "vector").mapInPandas(look_up, NEAREST)


def route(lake: Lake, system: System, ds: str, sources: SourceTemplates, tau: float, model: str, encoder: str) -> dict[str, int]:
    """Route the night's patterns. Returns n_proprietary."""
    patterns = lake.read(PATTERNS, system=system.name, ds=ds)
    used = patterns.select(F.explode("events.template_id").alias("template_id")).distinct()
    vectors = lake.read(VECTORS, system=system.name, encoder=encoder).join(used, "template_id", "left_semi")
    routed = route_patterns(patterns, nearest_sources(vectors, sources), tau)
    placed = routed.withColumns({"system": F.lit(system.name), "ds": F.lit(ds), "model": F.lit(model)})
    lake.replace_slice(ROUTES, placed, system=system.name, ds=ds)
    return {"n_proprietary": lake.read(ROUTES, system=system.name, ds=ds).where("route = 'proprietary'").count()}
