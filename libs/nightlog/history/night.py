"""The history of a system's nights, applied to one night: silver.patterns → silver.history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.history.channels import Templates
from nightlog.history.reference import Reference
from nightlog.history.score import SLOPE, THRESHOLD, USABLE_SESSIONS, Scorer
from nightlog.lake.lake import Lake
from nightlog.lake.tables import HISTORY, PATTERNS, TEMPLATES
from nightlog.systems.spec import System

MOST_NIGHTS = 60  # older nights say little about what is usual now
PATTERN_COLUMNS = ["pattern_id", "question_id", "events", "n_sessions"]


def reference_of(lake: Lake, system: System, ds: str, tonight: pa.Table) -> Reference:
    """Return the reference of a night: the last nights before it, and the night itself. Later nights are left out."""
    counted = system.session.kind == "id"
    earlier = sorted(night for night in lake.nights(PATTERNS, system.name) if night < ds)[-MOST_NIGHTS:]
    rows = lake.arrow(PATTERNS, ["ds", *PATTERN_COLUMNS], system=system.name, ds=earlier) if earlier else tonight
    past = [Reference.of_night(rows.filter(pc.equal(rows.column("ds").cast(pa.string()), night)), counted, night) for night in earlier]
    own = Reference.of_night(tonight, counted, ds)
    return Reference.merge(past).including(own) if past else own


def score_night(lake: Lake, system: System, ds: str) -> str | None:
    """Score the night's patterns by the history. Returns a sentence if the history is still learning: then it flags nothing."""
    place = {"system": system.name, "ds": ds}
    tonight = lake.arrow(PATTERNS, PATTERN_COLUMNS, **place)
    if not len(tonight):
        lake.replace(HISTORY, [], **place)
        return None
    reference = reference_of(lake, system, ds, tonight)
    scorer = Scorer(reference, Templates.of(lake.arrow(TEMPLATES, ["template_id", "text"], system=system.name)))
    rows = [history_row(row, scorer.is_usable) for row in scorer.table(tonight).to_pylist()]
    version = {"reference": reference.version, "n_reference": round(reference.n_sessions)}
    lake.replace(HISTORY, [row | version for row in rows], **place)
    if scorer.is_usable:
        return None
    return f"the history is learning: {round(reference.n_sessions):,} of {USABLE_SESSIONS:,} sessions"


def history_row(scored: dict[str, Any], usable: bool) -> dict[str, Any]:
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
