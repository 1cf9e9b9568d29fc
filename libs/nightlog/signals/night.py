"""Signals of a night from the lake to gold.signals. No Spark: what is read is per pattern and per distinct message."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from nightlog.lake.lake import Lake
from nightlog.lake.tables import MESSAGES, NIGHTS, NUMBERS, PATTERNS, SIGNALS, TEMPLATES
from nightlog.outcomes import OutcomeKind, is_published
from nightlog.signals.rules import ORDER, READY_NIGHTS, Signal, new_templates, ranked, rates, ready, silences, silent_system, variations
from nightlog.signals.values import Place, Range, values_out_of_range
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

LEARNING = "learning"
HISTORY_DAYS = 56
MOST_OF_A_KIND = 50


def find_signals(lake: Lake, systems: Sequence[System], ds: str, run_id: str) -> int:
    """Find the night's signals of each system by its nights before, and put them in the place of an earlier run's, in one commit. Returns
    how many. A system whose signals cannot be found has none; the others have theirs.

    Before the readiness rule holds one row says that the system is still being learnt, and nothing else is said.
    """
    known: dict[str, dict[str, str]] = defaultdict(dict)
    for row in lake.rows(NIGHTS, ["system", "ds", "outcome"]):
        known[row["system"]][row["ds"]] = row["outcome"]
    rows: list[dict[str, Any]] = []
    for system in systems:
        try:
            found = system_rows(lake, system, ds, known[system.name])
            same = {"system": system.name, "ds": ds, "first": system.signals.first, "run_id": run_id}
            rows += [same | row for row in found]
        except Exception:
            log.exception("%s %s: no signals", system.name, ds)
    lake.replace(SIGNALS, rows, ds=ds, system=[system.name for system in systems])
    return sum(row["kind"] != LEARNING for row in rows)


def system_rows(lake: Lake, system: System, ds: str, outcomes: Mapping[str, str]) -> list[dict[str, Any]]:
    """A system's rows of gold.signals, without system, night and run. Args: outcomes of its nights."""
    wanted, outcome = system.signals, outcomes.get(ds)
    if not wanted.any or not (is_published(outcome) or outcome == OutcomeKind.NO_INPUT):
        return []
    nights = history_nights(outcomes, ds)
    if not ready(len(nights)):
        told = f"learning: {len(nights)} of {READY_NIGHTS} nights before this one were seen; until then signals are not looked for"
        return [{"kind": LEARNING, "seen": float(len(nights)), "reason": told}]
    history = {night: counts for night, counts in counted(lake, system.name, nights).items() if counts}
    templates = lake.rows(TEMPLATES, ["template_id", "text", "first_ds"], system=system.name)
    silent = silent_system(history) if wanted.silence else []
    found = silent if outcome == OutcomeKind.NO_INPUT else signals_of(lake, system, ds, history, templates)
    texts = {row["template_id"]: row["text"] for row in templates}
    kept = [each for kind in ORDER for each in [signal for signal in found if signal.kind == kind][:MOST_OF_A_KIND]]
    return [vars(each) | {"template": texts.get(each.template_id)} for each in kept]


def signals_of(
    lake: Lake, system: System, ds: str, history: Mapping[str, Mapping[str, int]], templates: Sequence[Mapping[str, Any]]
) -> list[Signal]:
    """The signals of the kinds that the system file asks for, ranked. Args: templates, rows of silver.templates."""
    wanted = system.signals
    tonight = counted(lake, system.name, [ds])[ds]
    found: list[Signal] = []
    if wanted.new_template:
        found += new_templates(tonight, {row["template_id"]: row["first_ds"] for row in templates}, ds)
    if wanted.rate:
        found += rates(ds, tonight, history)
    if wanted.silence:
        found += silences(tonight, history)
    if wanted.value:
        ranges = numbers(lake, system.name, [*history, ds])
        texts = {row["template_id"]: row["text"] or "" for row in templates}
        found += values_out_of_range(ranges.pop(ds), ranges, texts)
    if wanted.variation:
        wordings: dict[str, Counter[str]] = defaultdict(Counter)
        for row in lake.rows(MESSAGES, ["template_id", "first_ds"], system=system.name):
            wordings[row["template_id"]][row["first_ds"]] += 1
        found += variations(ds, wordings, sorted(history))
    return ranked(found)


def history_nights(outcomes: Mapping[str, str], ds: str) -> list[str]:
    """The published nights of the eight weeks before. Args: outcome by night.

    >>> history_nights({"2026-03-01": "done", "2026-03-02": "gated", "2026-03-04": "done", "2025-03-01": "done"}, "2026-03-04")
    ['2026-03-01']
    """
    since = (date.fromisoformat(ds) - timedelta(days=HISTORY_DAYS)).isoformat()
    return sorted(night for night, outcome in outcomes.items() if is_published(outcome) and since <= night < ds)


def counted(lake: Lake, system: str, nights: Sequence[str]) -> dict[str, Counter[str]]:
    """Night → template id → how often it was logged, by its patterns: there counts are rounded down to powers of two, on all nights
    alike."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, Counter[str]] = {night: Counter() for night in nights}
    if not lake.exists(PATTERNS) or not nights:
        return found
    condition = (pc.field("system") == system) & pc.field("ds").isin(list(nights))
    rows = lake.dataset(PATTERNS).to_table(columns=["ds", "events", "n_sessions"], filter=condition).combine_chunks()
    for batch in rows.to_batches():
        events = batch.column("events")
        of = pc.list_parent_indices(events)
        flat = pc.list_flatten(events)
        n = pc.multiply(pc.struct_field(flat, "count"), batch.column("n_sessions").take(of))
        each = pa.table({"ds": batch.column("ds").take(of), "template_id": pc.struct_field(flat, "template_id"), "n": n})
        for row in each.group_by(["ds", "template_id"]).aggregate([("n", "sum")]).to_pylist():
            found[row["ds"]][row["template_id"]] += row["n_sum"]
    return found


def numbers(lake: Lake, system: str, nights: Sequence[str]) -> dict[str, dict[Place, Range]]:
    """Night → place → between which values the numbers there lay."""
    import pyarrow.compute as pc

    found: dict[str, dict[Place, Range]] = {night: {} for night in nights}
    if lake.exists(NUMBERS):
        rows = lake.dataset(NUMBERS).to_table(filter=(pc.field("system") == system) & pc.field("ds").isin(list(nights)))
        for row in rows.to_pylist():
            places = [f"{row[side + '_file']}:{row[side + '_line']}" for side in ("low", "high")]
            place = Place(row["template_id"], row["word"], row["nth"])
            found[row["ds"]][place] = Range(row["n"], row["low"], row["high"], *places)
    return found


def signals(lake: Lake, ds: str, system: str = "") -> list[dict[str, Any]]:
    """The night's rows of gold.signals, by system, in the order of `ranked`."""
    equal = {"ds": ds} | ({"system": system} if system else {})
    order = (LEARNING, *ORDER)
    rows = lake.rows(SIGNALS, None, **equal)
    return sorted(rows, key=lambda row: (row["system"], order.index(row["kind"]), -(row["strength"] or 0), row["template_id"] or ""))
