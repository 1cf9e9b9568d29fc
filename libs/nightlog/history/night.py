"""The history of a system's nights on one night: silver.patterns → silver.history, and silver.scores without a trained model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.errors import ConfigError
from nightlog.history.channels import Templates
from nightlog.history.reference import Reference
from nightlog.history.score import GENERAL, SLOPE, THRESHOLD, USABLE_SESSIONS, Scorer
from nightlog.lake.lake import Lake
from nightlog.lake.tables import HISTORY, PATTERNS, SCORES, TEMPLATE_COUNTS, TEMPLATES, HistoryRow, ScoreRow
from nightlog.lake.tables.silver import TemplateWeight
from nightlog.systems.spec import System

MOST_NIGHTS = 60  # older nights say little about what is usual now
PATTERN_COLUMNS = ["pattern_id", "question_id", "events", "n_sessions"]


def patterns_until(lake: Lake, system: System, ds: str) -> pa.Table:
    """Return the patterns (ds, pattern_id, question_id, events, n_sessions) of a night and of the last nights before it."""
    earlier = sorted(night for night in lake.nights(PATTERNS, system.name) if night < ds)[-MOST_NIGHTS:]
    rows = lake.arrow(PATTERNS, ["ds", *PATTERN_COLUMNS], system=system.name, ds=[*earlier, ds])
    return rows.set_column(0, "ds", rows.column("ds").cast(pa.string()))


def scorer_of(lake: Lake, system: System, ds: str, rows: pa.Table) -> Scorer:
    """Return the scorer of a night, whose reference is the nights before it and the night itself. Args: rows of `patterns_until`."""
    counted = system.session.kind == "id"
    nights = sorted({*rows.column("ds").unique().to_pylist(), ds})
    past = [Reference.of_night(rows.filter(pc.equal(rows.column("ds"), night)), counted, night) for night in nights]
    reference = Reference.merge(past[:-1]).including(past[-1]) if len(past) > 1 else past[0]
    text = Templates.of(lake.arrow(TEMPLATES, ["template_id", "text"], system=system.name)).text
    return Scorer(reference, Templates(text, usual_levels(lake, system.name, nights)))


def usual_levels(lake: Lake, system: str, nights: Sequence[str]) -> dict[str, str]:
    """Return template id → the level that most of its records of these nights have; templates without one are left out."""
    rows = lake.arrow(TEMPLATE_COUNTS, ["template_id", "level", "n"], system=system, ds=nights)
    rows = rows.filter(pc.is_valid(rows.column("level"))).group_by(["template_id", "level"]).aggregate([("n", "sum")])
    ordered = rows.sort_by([("n_sum", "ascending"), ("level", "ascending")])
    return dict(zip(ordered.column("template_id").to_pylist(), ordered.column("level").to_pylist(), strict=True))


def score_night(lake: Lake, system: System, ds: str, general_version: str | None = None) -> tuple[dict[str, int], str | None]:
    """Score the night's patterns by the history.

    Args: general_version: version of the general model if it serves the system; then its rows of silver.scores are written as well.
    Returns: n_scored; a sentence if the history is still learning: then it flags nothing.
    Raises: ConfigError if the general model is that of another version of Nightlog.
    """
    if general_version not in (None, GENERAL.version):
        raise ConfigError(
            f"{system.name} {ds}: the night was judged by {general_version}, this version of Nightlog has {GENERAL.version}: "
            "run it without --as-run, or with the version of Nightlog of then"
        )
    place = {"system": system.name, "ds": ds}
    rows = patterns_until(lake, system, ds)
    tonight = rows.filter(pc.equal(rows.column("ds"), ds))
    if not len(tonight):
        lake.replace(HISTORY, [], **place)
        if general_version is not None:
            lake.replace(SCORES, [], **place)
        return {"n_scored": 0}, None
    scorer = scorer_of(lake, system, ds, rows)
    reference = scorer.channels.reference
    scored = [history_row(row, scorer.is_usable) for row in scorer.table(tonight).to_pylist()]
    version: HistoryRow = {"reference": reference.version, "n_reference": round(reference.n_sessions)}
    lake.replace(HISTORY, [row | version for row in scored], **place)
    if general_version is not None:
        scores: list[ScoreRow] = [
            {"pattern_id": row["pattern_id"], "probability": row["probability"], "weights": weights, "model": general_version}
            for row, weights in zip(scored, template_weights(scorer, tonight), strict=True)
        ]
        lake.replace(SCORES, scores, **place)
    counts = {"n_scored": len(scored)}
    if scorer.is_usable:
        return counts, None
    return counts, f"the history is learning: {round(reference.n_sessions):,} of {USABLE_SESSIONS:,} sessions"


def template_weights(scorer: Scorer, patterns: pa.Table) -> list[list[TemplateWeight]]:
    """Return for each pattern the weight of each of its templates: their rarity in the system, as shares of the pattern's sum."""
    rows = scorer.channels.read(patterns.column("events"))
    rarity = -np.log(scorer.channels.presence[scorer.channels.place(rows)])
    total = np.bincount(rows.row, weights=rarity, minlength=len(rows))
    weight = np.round(rarity / np.maximum(total[rows.row], 1e-12), 6).tolist()
    entries = [(rows.template_ids[template], own) for template, own in zip(rows.template.tolist(), weight, strict=True)]
    starts = rows.starts.tolist()
    return [[{"template_id": name, "weight": own} for name, own in entries[start:end]] for start, end in itertools.pairwise(starts)]


def history_row(scored: Mapping[str, Any], usable: bool) -> HistoryRow:
    """Return a row of silver.history from one of the scorer's table."""
    probability = 1 / (1 + np.exp(-np.clip(SLOPE * (scored["suspicion"] - THRESHOLD), -40, 40)))
    return {
        "pattern_id": scored["pattern_id"],
        "score": round(scored["score"], 6),
        "tail": round(scored["tail"], 6),
        "probability": round(float(probability), 6),
        "flagged": scored["suspicion"] >= THRESHOLD if usable else None,
        "reasons": [each["text"] for each in scored["reasons"]],
    }
