"""Signals of a night from the lake to gold.signals. No Spark: the counts that are read are per template and per distinct message."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple, cast

from nightlog.errors import NightlogError, outcome_of
from nightlog.history.night import usual_levels
from nightlog.history.severity import severities
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MESSAGES, NIGHTS, NUMBERS, OUTCOMES, PATTERNS, SIGNALS, TEMPLATE_COUNTS, TEMPLATES, SignalRow
from nightlog.outcomes import OutcomeKind, Stage, is_published
from nightlog.signals.kinds import (
    ORDER,
    READY_NIGHTS,
    NumberPlace,
    Range,
    Signal,
    is_ready,
    new_templates,
    outside_sessions,
    rank_signals,
    rates,
    silences,
    silent_system,
    stops,
    system_rate,
    values_out_of_range,
    variations,
)
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

LEARNING, UNAVAILABLE = "learning", "unavailable"
HISTORY_DAYS = 56
MOST_OF_A_KIND = 50


def find_signals(lake: Lake, systems: Sequence[System], ds: str, run_id: str) -> dict[str, str]:
    """Find the signals of each system by its nights before, and replace those of an earlier run, in one commit.

    As long as there are fewer nights than the readiness rule asks for, one row says so. A system whose signals could not be computed has
    one row with the reason; the others have theirs. Returns: system → reason, of the systems without signals for that reason.
    """
    known: dict[str, dict[str, str]] = defaultdict(dict)
    for row in lake.rows(NIGHTS, ["system", "ds", "outcome"]):
        known[row["system"]][row["ds"]] = row["outcome"]
    rows: list[SignalRow] = []
    failures: dict[str, str] = {}
    for system in systems:
        try:
            found = system_rows(lake, system, ds, known[system.name])
        except Exception as error:  # whatever it is becomes a row that says so
            log.exception("%s %s: no signals", system.name, ds)
            failures[system.name] = outcome_of(error)[1]
            again = f"nightlog run --ds {ds} --system {system.name} --from {Stage.REPORT}"
            found = [{"kind": UNAVAILABLE, "reason": f"signals could not be computed: {failures[system.name]}; try again: {again}"}]
        same: SignalRow = {"system": system.name, "ds": ds, "first": system.signals.first, "run_id": run_id}
        rows += [same | row for row in found]
    lake.replace(SIGNALS, rows, ds=ds, system=[system.name for system in systems])
    return failures


def system_rows(lake: Lake, system: System, ds: str, outcomes: Mapping[str, str]) -> list[SignalRow]:
    """Return a system's rows of gold.signals, without system, night and run. Args: outcomes of its nights."""
    wanted, outcome = system.signals, outcomes.get(ds)
    if not wanted.any or not (is_published(outcome) or outcome == OutcomeKind.NO_INPUT):
        return []
    nights = history_nights(outcomes, ds)
    counted = counted_templates(lake, system.name, [*nights, ds])
    history = {night: counted.n[night] for night in nights if counted.n[night]}
    templates = lake.rows(TEMPLATES, ["template_id", "text", "first_ds"], system=system.name)
    texts = {row["template_id"]: row["text"] for row in templates}
    outside = trouble_outside(lake, system, ds, counted.n[ds], history, texts) if wanted.outside_sessions and is_published(outcome) else []
    if not is_ready(len(history)):
        reason = f"learning: {len(history)} of {READY_NIGHTS} nights before this one were counted; until then signals are not looked for"
        return [{"kind": LEARNING, "seen": float(len(history)), "reason": reason}, *signal_rows(outside, texts)]
    tonight = counted.n[ds] if is_published(outcome) else {}
    if not tonight and any(row["n_events"] for row in lake.rows(NIGHTS, ["n_events"], system=system.name, ds=ds)):
        again = f"nightlog run --ds {ds} --system {system.name} --from {Stage.PARSE}"
        raise NightlogError(f"{system.name} {ds} was parsed by an earlier version of Nightlog, which did not count templates: {again}")
    silent = silent_system(history) if wanted.silence else []
    found = signals_of(lake, system, ds, counted, history, templates) if tonight else silent
    known = {each.template_id for each in outside}
    return signal_rows([*outside, *(each for each in found if each.kind != "new_template" or each.template_id not in known)], texts)


def signal_rows(found: Sequence[Signal], texts: Mapping[str, str]) -> list[SignalRow]:
    """Return the first signals of each kind as rows of gold.signals, in the order in which people read them. Args: texts of templates."""
    ranked = rank_signals(found)
    kept = [each for kind in ORDER for each in [signal for signal in ranked if signal.kind == kind][:MOST_OF_A_KIND]]
    return [cast("SignalRow", {**vars(each), "template": texts.get(each.template_id)}) for each in kept]


def trouble_outside(
    lake: Lake, system: System, ds: str, tonight: Mapping[str, int], history: Mapping[str, Mapping[str, int]], texts: Mapping[str, str]
) -> list[Signal]:
    """Return severe templates that no judged session of the night has. Args: as those of `outside_sessions`; texts of templates."""
    patterns = lake.rows(PATTERNS, ["events"], system=system.name, ds=ds)
    judged = {event["template_id"] for row in patterns for event in row["events"] or ()}
    levels = usual_levels(lake, system.name, [ds])
    own = {name: texts[name] for name in tonight if name in texts and name not in judged}
    return outside_sessions(tonight, judged, history, severities(own, levels), levels)


def signals_of(
    lake: Lake,
    system: System,
    ds: str,
    counted: CountedTemplates,
    history: Mapping[str, Mapping[str, int]],
    templates: Sequence[Mapping[str, Any]],
) -> list[Signal]:
    """Return the signals of the kinds that the system file asks for, ranked.

    Args: counted: of tonight and the nights before; history: night → template id → its records; templates: rows of silver.templates.
    """
    wanted, tonight = system.signals, counted.n[ds]
    found: list[Signal] = []
    if wanted.new_template:
        found += new_templates(tonight, {row["template_id"]: row["first_ds"] for row in templates}, ds)
    if wanted.rate:
        found += system_rate(ds, tonight, history) + rates(ds, tonight, history)
    if wanted.silence:
        found += silences(tonight, history) + stops(tonight, counted.last[ds], history, counted.last)
    if wanted.value:
        ranges = number_ranges(lake, system.name, [*history, ds])
        texts = {row["template_id"]: row["text"] or "" for row in templates}
        found += values_out_of_range(ranges.pop(ds), ranges, texts)
    if wanted.variation:
        wordings: dict[str, Counter[str]] = defaultdict(Counter)
        for row in lake.rows(MESSAGES, ["template_id", "first_ds"], system=system.name):
            wordings[row["template_id"]][row["first_ds"]] += 1
        found += variations(ds, wordings, sorted(history))
    return rank_signals(found)


def history_nights(outcomes: Mapping[str, str], ds: str) -> list[str]:
    """Return the published nights of the eight weeks before. Args: outcome by night.

    >>> history_nights({"2026-03-01": "done", "2026-03-02": "gated", "2026-03-04": "done", "2025-03-01": "done"}, "2026-03-04")
    ['2026-03-01']
    """
    since = (date.fromisoformat(ds) - timedelta(days=HISTORY_DAYS)).isoformat()
    return sorted(night for night, outcome in outcomes.items() if is_published(outcome) and since <= night < ds)


class CountedTemplates(NamedTuple):
    """The templates of some nights: night → template id → how often it was logged in the night's own files, and in which minute last."""

    n: dict[str, dict[str, int]]
    last: dict[str, dict[str, float]]


def counted_templates(lake: Lake, system: str, nights: Sequence[str]) -> CountedTemplates:
    """Read how often each template was logged on some nights. A template without a time has no last minute."""
    found = CountedTemplates({night: {} for night in nights}, {night: {} for night in nights})
    for row in lake.rows(TEMPLATE_COUNTS, ["ds", "template_id", "n", "last_at"], system=system, ds=list(nights)):
        found.n[row["ds"]][row["template_id"]] = row["n"]
        if (at := row["last_at"]) is not None:
            found.last[row["ds"]][row["template_id"]] = 60 * at.hour + at.minute + at.second / 60
    return found


def number_ranges(lake: Lake, system: str, nights: Sequence[str]) -> dict[str, dict[NumberPlace, Range]]:
    """Night → place → between which values the numbers there lay."""
    import pyarrow.compute as pc

    found: dict[str, dict[NumberPlace, Range]] = {night: {} for night in nights}
    if lake.exists(NUMBERS):
        rows = lake.dataset(NUMBERS).to_table(filter=(pc.field("system") == system) & pc.field("ds").isin(list(nights)))
        for row in rows.to_pylist():
            places = [f"{row[side + '_file']}:{row[side + '_line']}" for side in ("low", "high")]
            place = NumberPlace(row["template_id"], row["word"], row["nth"])
            found[row["ds"]][place] = Range(row["n"], row["low"], row["high"], *places)
    return found


def signals(lake: Lake, ds: str, system: str = "") -> list[SignalRow]:
    """Return the night's rows of gold.signals, by system, in the order of `ranked`."""
    equal = {"ds": ds} | ({"system": system} if system else {})
    order = (UNAVAILABLE, LEARNING, *ORDER)
    rows = lake.rows(SIGNALS, None, **equal)
    return sorted(rows, key=lambda row: (row["system"], order.index(row["kind"]), -(row["strength"] or 0), row["template_id"] or ""))


def missing_signals(lake: Lake, ds: str, systems: Iterable[str]) -> dict[str, str]:
    """Return system → reason, of the systems whose signals of a published night are not in the lake: an empty answer would look calm."""
    rows = signals(lake, ds)
    found = {row["system"]: row["reason"] for row in rows if row["kind"] == UNAVAILABLE}
    stages = sorted(lake.rows(OUTCOMES, ds=ds), key=lambda row: row["at"])
    last = {(row["system"], row["stage"]): row for row in stages}
    for system in set(systems) - {row["system"] for row in rows}:
        published, reported = last.get((system, Stage.PUBLISH)), last.get((system, Stage.REPORT))
        if published is not None and (reported is None or reported["at"] < published["at"]):
            found[system] = f"signals were not looked for: stage {Stage.REPORT} has not run since the night was published"
        elif reported is not None and (detail := reported["detail"]) is not None and "no signals" in detail:
            found[system] = detail
    return found
