"""Drift gates: is a night like the system's own nights before it? What is far outside holds its publication back until somebody approves.

A night is held against the published nights of the days before, by median and MAD, which a few strange nights do not move. What two
of these nights reached is never outside: so weekends, once seen, are no drift. With few nights the gates say nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal

from nightlog.outcomes import is_published
from nightlog.systems.spec import Gates

# What MAD must be multiplied by to be a standard deviation, where values are normal.
TO_DEVIATION = 1.4826
LEAST = 0.0  # no measure is below it

Counts = Mapping[str, int]
Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Finding:
    """A figure of the night that is outside of `low` to `high`, what the system's gates let through.

    `approved`: by whom, where somebody has let just this through for just this night.
    """

    measure: str
    value: float
    low: float
    high: float
    severity: Severity
    text: str
    approved: str | None = None


def share(part: int, whole: int) -> float:
    """A part of a whole, 0 where there is no whole; never above 1.

    >>> share(1, 4), share(0, 0), share(3, 2)
    (0.25, 0.0, 1.0)
    """
    return min(1.0, part / whole) if whole else 0.0


def with_text(counts: Counts) -> int:
    """Lines that are not blank."""
    return counts.get("n_lines", 0) - counts.get("n_blank", 0)


def measured(counts: Counts) -> dict[str, tuple[float, int]]:
    """Measure → its value for a night, and how many things it is about; only measures whose counts are there.

    Args: counts as in gold.nights, and n_templates_new, the templates that the night saw first.
    """
    found = {}
    if "n_unparsed" in counts:
        found["unparsed"] = share(counts["n_unparsed"], with_text(counts)), counts["n_unparsed"]
    if "n_templates_new" in counts:
        found["new_templates"] = share(counts["n_templates_new"], counts.get("n_templates", 0)), counts["n_templates_new"]
    if "n_sessions" in counts:
        found["sessions"] = float(counts["n_sessions"]), counts["n_sessions"]
    if "n_anomalies" in counts:
        found["anomalies"] = share(counts["n_anomalies"], counts.get("n_sessions", 0)), counts["n_anomalies"]
    return found


def bounds(history: Sequence[float], deviations: float, slack: float) -> tuple[float, float]:
    """What a value may lie between: `deviations` robust standard deviations around the median, or as far as two nights went, and `slack`.

    >>> bounds([10, 11, 9, 10, 10, 40, 10], 4, 2)
    (8.0, 13)
    """
    middle = statistics.median(history)
    spread = deviations * TO_DEVIATION * statistics.median(abs(value - middle) for value in history)
    ordered = sorted(history)
    return min(middle - spread, ordered[1]) - slack, max(middle + spread, ordered[-2]) + slack


def limits(measure: str, history: Sequence[float], gates: Gates) -> tuple[float, float]:
    """What a measure may lie between, from its values on the nights before. Sessions are compared as ratios; no share is too small."""
    if measure == "sessions":
        low, high = bounds([math.log1p(value) for value in history], gates.deviations, math.log(gates.sessions_factor))
        return max(0.0, math.expm1(low)), math.expm1(high)
    slack = {"unparsed": gates.unparsed_rise, "new_templates": gates.new_templates_rise, "anomalies": gates.anomalies_rise}[measure]
    return LEAST, bounds(history, gates.deviations, slack)[1]


def drift(counts: Counts, before: Sequence[Counts], gates: Gates, measures: Iterable[str]) -> list[Finding]:
    """The measures of a night that are outside of what the nights before let expect; none with fewer than `gates.least_nights` of them.

    Args: counts, of the night, and before, of each earlier night: see `measured`.
    """
    tonight = measured(counts)
    found = []
    for measure in (name for name in measures if name in tonight):
        known = [values[measure] for each in before if measure in (values := measured(each))]
        if len(known) < gates.least_nights:
            continue
        value, n = tonight[measure]
        low, high = limits(measure, [each for each, _ in known], gates)
        n = max(n, int(statistics.median(each for _, each in known))) if measure == "sessions" else n
        if n < gates.least or low <= value <= high:
            continue
        severity: Severity = "critical" if measure in gates.hold else "warning"
        found.append(Finding(measure, value, low, high, severity, told(measure, value, low, high, [each for each, _ in known])))
    return found


def too_many_unparsed(counts: Counts, gates: Gates) -> list[Finding]:
    """The one limit that holds from the first night: the share of lines that do not match the header."""
    value, total = share(counts["n_unparsed"], with_text(counts)), with_text(counts)
    if value <= gates.unparsed_share:
        return []
    limit = f"more than gates.unparsed_share = {gates.unparsed_share:g}"
    text = f"{counts['n_unparsed']:,} of {total:,} lines do not match the header pattern, {limit}"
    return [Finding("unparsed", value, LEAST, gates.unparsed_share, "critical", text)]


WORDS = {
    "unparsed": "the share of lines that do not match the header",
    "new_templates": "the share of templates that were never seen before",
    "sessions": "the number of sessions",
    "anomalies": "the share of sessions that are anomalous",
}


def told(measure: str, value: float, low: float, high: float, before: Sequence[float]) -> str:
    """A finding in words.

    >>> told("sessions", 12.0, 100.4, 900.2, [300.0, 310.0])
    'the number of sessions is 12, expected 101 to 900: on the 2 nights before the median was 305'
    """
    middle = statistics.median(before)
    if measure == "sessions":
        figures = f"{value:,.0f}, expected {math.ceil(low):,} to {math.floor(high):,}", f"{middle:,.0f}"
    else:
        figures = f"{value:.1%}, expected at most {high:.1%}", f"{middle:.1%}"
    return f"{WORDS[measure]} is {figures[0]}: on the {len(before)} nights before the median was {figures[1]}"


def nights_before(ds: str, days: int) -> tuple[str, str]:
    """The first and the last day of a night's history.

    >>> nights_before("2026-03-04", 28)
    ('2026-02-04', '2026-03-03')
    """
    night = date.fromisoformat(ds)
    return (night - timedelta(days=days)).isoformat(), (night - timedelta(days=1)).isoformat()


def history(
    nights: Iterable[Mapping[str, Any]], founded: Mapping[str, int], approvals: Iterable[Mapping[str, Any]], ds: str, days: int
) -> list[dict[str, int]]:
    """The counts of a system's published nights before `ds`, oldest first; from the last night on that was approved as the new normal.

    Args: nights: the system's rows of gold.nights; founded: night → templates that it saw first; approvals: the system's of ops.approvals.
    """
    first, last = nights_before(ds, days)
    first = max([first, *(row["ds"] for row in approvals if row["new_normal"] and row["ds"] < ds)])
    rows = sorted((row for row in nights if is_published(row["outcome"]) and first <= row["ds"] <= last), key=lambda row: str(row["ds"]))
    named = ("n_lines", "n_blank", "n_unparsed", "n_templates", "n_sessions", "n_anomalies")
    return [
        {name: int(row[name]) for name in named if row[name] is not None} | {"n_templates_new": founded.get(row["ds"], 0)} for row in rows
    ]


def approved(findings: Iterable[Finding], approvals: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """The findings, those marked that were approved: a figure is let through as far as it went when it was approved, and no further.

    Args: approvals: those of this night of this system, in ops.approvals.
    """
    found = []
    for each in findings:
        by = next((row for row in approvals for held in row["held"] or () if covers(held, each)), None)
        found.append(each if by is None else replace(each, severity="warning", approved=by["approved_by"]))
    return found


def covers(held: Mapping[str, Any], finding: Finding) -> bool:
    """Whether what was approved takes in what is found now."""
    if held["measure"] != finding.measure:
        return False
    value = float(held["value"])
    return finding.value >= value if finding.value < finding.low else finding.value <= value
