"""Stage route: is a pattern general knowledge, or the system's own? Training-free (GeneralLog, arXiv 2511.05882).

A template is as familiar as its most similar source template, a pattern as its least familiar template; at tau and above it is
general. Tau comes from the sources alone. A tau of None calls nothing general: the sources are too unlike each other, or, for the general
model that ships, there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake
from nightlog.lake.tables import PATTERNS, ROUTES, VECTORS, PatternRow, RouteRow
from nightlog.lake.tables.silver import NearestTemplate
from nightlog.systems.spec import System

BLOCK = 4096
DIGITS = 4
LEAST_TAU, TAU_QUANTILE = 0.5, 0.95


@dataclass(frozen=True)
class SourceTemplates:
    """The templates of the sources: row i of `vectors` (float32, n x d, unit norm) is `texts[i]` of the system `systems[i]`."""

    vectors: np.ndarray
    texts: tuple[str, ...]
    systems: tuple[str, ...]


def most_similar(vectors: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of `vectors` the most similar row of `sources` and its cosine; both unit norm.

    Blocked both ways: beside vectors and result there is never more than one product of BLOCK x BLOCK, 64 MiB.
    """
    best = np.full(len(vectors), -1.0, dtype=np.float32)
    where = np.zeros(len(vectors), dtype=np.int64)
    for first in range(0, len(vectors), BLOCK):
        own = slice(first, min(first + BLOCK, len(vectors)))
        for start in range(0, len(sources), BLOCK):
            cosines = vectors[own] @ sources[start : start + BLOCK].T
            nearest = cosines.argmax(axis=1)
            cosine = cosines[np.arange(len(nearest)), nearest]
            better = cosine > best[own]
            best[own] = np.where(better, cosine, best[own])
            where[own] = np.where(better, nearest + start, where[own])
    return where, np.clip(best, -1.0, 1.0)


def is_general(vectors: np.ndarray, events: Sequence[Sequence[tuple[int, int]]], sources: np.ndarray, tau: float | None) -> np.ndarray:
    """Return a mask (n,) of the patterns that are general, as `route_patterns` does, for patterns in memory.

    Args: vectors (templates, d) and sources (source templates, d), unit norm; events, for each pattern pairs of row and count.
    """
    if tau is None:
        return np.zeros(len(events), dtype=bool)
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


def route_patterns(patterns: Iterable[PatternRow], nearest: Mapping[str, NearestTemplate], tau: float | None) -> list[RouteRow]:
    """Call a pattern general if its least familiar template is at least `tau` like a source template.

    Args: patterns (pattern_id, events of (template_id, count)); nearest: template id → its most similar source template.
    Returns: one row a pattern (pattern_id, similarity, route "general" | "proprietary", nearest in the order of template ids).
    """
    rows: list[RouteRow] = []
    for pattern in patterns:
        names = sorted(event["template_id"] for event in pattern["events"])
        near: list[NearestTemplate] = [nearest.get(name, {"template_id": name}) for name in names]
        least = min((-1.0 if (cosine := each.get("similarity")) is None else cosine for each in near), default=-1.0)
        route = "general" if tau is not None and least >= tau else "proprietary"
        rows.append({"pattern_id": pattern["pattern_id"], "similarity": least, "route": route, "nearest": near})
    return rows


def all_proprietary(patterns: Iterable[PatternRow]) -> list[RouteRow]:
    """Return the routes of patterns if there are no sources to compare them with; the columns are those of `route_patterns`."""
    return [{"pattern_id": row["pattern_id"], "similarity": None, "route": "proprietary", "nearest": []} for row in patterns]


def nearest_sources(names: Sequence[str], vectors: np.ndarray, sources: SourceTemplates) -> dict[str, NearestTemplate]:
    """For each template (row i of `vectors` is that of `names[i]`) its most similar source template. Rounded, so that the order of a
    matrix product's additions cannot change a row."""
    if not len(sources.texts) or not len(names):
        return {}
    where, cosine = most_similar(vectors, sources.vectors)
    rounded = np.round(cosine.astype(float), DIGITS).tolist()
    return {
        name: {
            "template_id": name,
            "source": sources.systems[row],
            "nearest_source_template": sources.texts[row],
            "similarity": similarity,
        }
        for name, row, similarity in zip(names, where.tolist(), rounded, strict=True)
    }


def read_vectors(lake: Lake, system: str, encoder: str, used: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """The vectors of some templates of a system, in the order of their ids: names, and (n, d) float32. Never as Python's numbers: 200,000
    templates would take gigabytes."""
    rows = lake.arrow(VECTORS, ["template_id", "vector"], system=system, encoder=encoder)
    rows = rows.filter(pc.is_in(rows.column("template_id"), pa.array(sorted(set(used)), rows.schema.field("template_id").type)))
    rows = rows.sort_by("template_id")
    names = rows.column("template_id").to_pylist()
    keep = [number for number, name in enumerate(names) if name != names[number - 1] or not number]
    if not keep:
        return [], np.zeros((0, 0), dtype=np.float32)
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in rows.column("vector").chunks])
    vectors = flat.astype(np.float32, copy=False).reshape(len(names), -1)
    return [names[number] for number in keep], vectors if len(keep) == len(names) else vectors[keep]


def route(
    lake: Lake, system: System, ds: str, sources: SourceTemplates, tau: float | None, model: str, encoder: str | None
) -> dict[str, int]:
    """Route the night's patterns. Returns n_proprietary.

    Without an encoder there is nothing to compare with: all patterns are proprietary, and their similarity is null.
    """
    patterns = lake.rows(PATTERNS, ["pattern_id", "events"], system=system.name, ds=ds)
    place = {"system": system.name, "ds": ds}
    if encoder is None:
        routed = all_proprietary(patterns)
    else:
        used = {event["template_id"] for pattern in patterns for event in pattern["events"]}
        names, vectors = read_vectors(lake, system.name, encoder, used)
        routed = route_patterns(patterns, nearest_sources(names, vectors, sources), tau)
    lake.replace(ROUTES, [row | {"model": model} for row in routed], **place)
    return {"n_proprietary": sum(row["route"] == "proprietary" for row in routed)}
