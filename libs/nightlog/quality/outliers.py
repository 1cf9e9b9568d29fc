"""A night against the system's own nights before it: is its delivery complete, and are its figures usual?

What is far outside holds its publication back until somebody approves. A night is compared with the published nights of the days before, by
median and MAD, which a few strange nights do not move. Values that two of these nights reached are never outside: so weekends, once seen,
are no drift. With few nights the gates find nothing.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal

from nightlog.lake.lake import Lake
from nightlog.lake.tables import FILES
from nightlog.outcomes import is_published
from nightlog.systems.spec import Gates

# What MAD must be multiplied by to be a standard deviation, where values are normal.
TO_DEVIATION = 1.4826
LEAST = 0.0  # no measure is below it
# Columns of gold.nights that the measures of a night come from.
COUNTED = (
    "n_files",
    "n_bytes",
    "n_lines",
    "n_blank",
    "n_unparsed",
    "n_continuation",
    "n_templates",
    "n_sessions",
    "n_anomalies",
)

Counts = Mapping[str, int]
Severity = Literal["critical", "warning"]


# Measures that are compared as ratios: what is missing counts as much as what is too much.
AMOUNTS = {"sessions": "n_sessions", "lines": "n_lines", "bytes": "n_bytes", "files": "n_files"}
# Far more of these is only a warning: a night of errors writes more, and must be published.
LOW_ONLY = ("lines", "bytes", "files")
LOOSE = 0.05  # share of lines that were swallowed by records, above which a warning says so


@dataclass(frozen=True)
class Outlier:
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
    """Return a part of a whole, 0 if there is no whole; never above 1.

    >>> share(1, 4), share(0, 0), share(3, 2)
    (0.25, 0.0, 1.0)
    """
    return min(1.0, part / whole) if whole else 0.0


def with_text(counts: Counts) -> int:
    """Return the number of lines that are not blank."""
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
    if "n_continuation" in counts:
        found["continuation"] = share(counts["n_continuation"], with_text(counts)), counts["n_continuation"]
    found |= {measure: (float(counts[name]), counts[name]) for measure, name in AMOUNTS.items() if name in counts}
    if "n_anomalies" in counts:
        found["anomalies"] = share(counts["n_anomalies"], counts.get("n_sessions", 0)), counts["n_anomalies"]
    return found


def bounds(history: Sequence[float], deviations: float, slack: float) -> tuple[float, float]:
    """Return the bounds of a value: `deviations` robust standard deviations around the median, or as far as two nights went, and
    `slack`.

    >>> bounds([10, 11, 9, 10, 10, 40, 10], 4, 2)
    (8.0, 13)
    """
    middle = statistics.median(history)
    spread = deviations * TO_DEVIATION * statistics.median(abs(value - middle) for value in history)
    ordered = sorted(history)
    return min(middle - spread, ordered[1]) - slack, max(middle + spread, ordered[-2]) + slack


def limits(measure: str, history: Sequence[float], gates: Gates) -> tuple[float, float]:
    """Return the bounds of a measure, from its values on the nights before. Amounts are compared as ratios; no share is too small."""
    if measure in AMOUNTS:
        factor = gates.sessions_factor if measure == "sessions" else gates.lines_factor
        low, high = bounds([math.log1p(value) for value in history], gates.deviations, math.log(factor))
        return max(0.0, math.expm1(low)), math.expm1(high)
    slack = {
        "unparsed": gates.unparsed_rise,
        "continuation": gates.continuation_rise,
        "new_templates": gates.new_templates_rise,
        "anomalies": gates.anomalies_rise,
    }
    return LEAST, bounds(history, gates.deviations, slack[measure])[1]


def drift(counts: Counts, before: Sequence[Counts], gates: Gates, measures: Iterable[str]) -> list[Outlier]:
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
        if low <= value <= high or (value > high and n < gates.least):
            continue
        held = measure in gates.hold and not (value > high and measure in LOW_ONLY)
        text = drift_text(measure, value, low, high, [each for each, _ in known])
        found.append(Outlier(measure, value, low, high, "critical" if held else "warning", text))
    return found


def beyond_limits(counts: Counts, gates: Gates) -> list[Outlier]:
    """Return the figures beyond the limits of every night: unparsed and swallowed lines, carriage returns inside of lines."""
    total = with_text(counts)
    found = []
    value = share(counts["n_unparsed"], total)
    if value > gates.unparsed_share:
        limit = f"more than gates.unparsed_share = {gates.unparsed_share:g}"
        text = f"{counts['n_unparsed']:,} of {total:,} lines do not match the header pattern, {limit}"
        found.append(Outlier("unparsed", value, LEAST, gates.unparsed_share, "critical", text))
    value = share(counts.get("n_swallowed", 0), total)
    if gates.swallowed_share < 1 and value > min(LOOSE, gates.swallowed_share):
        held = value > gates.swallowed_share
        limit = f", more than gates.swallowed_share = {gates.swallowed_share:g}" if held else ""
        joined = "were joined to the record before them but do not look like its continuation"
        text = f"{counts['n_swallowed']:,} of {total:,} lines {joined}{limit}"
        severity: Severity = "critical" if held and "swallowed" in gates.hold else "warning"
        found.append(Outlier("swallowed", value, LEAST, gates.swallowed_share, severity, text))
    value = counts.get("n_returns", 0) / max(1, counts.get("n_lines", 0))
    if value > gates.returns_share:
        text = (
            f"{counts['n_returns']:,} carriage returns stand inside of {counts['n_lines']:,} lines, more than gates.returns_share = "
            f"{gates.returns_share:g}: if they end lines, these lines are lost in others"
        )
        severity = "critical" if "returns" in gates.hold else "warning"
        found.append(Outlier("returns", value, LEAST, gates.returns_share, severity, text))
    return found


def missing_hosts(expected: Collection[str], tonight: Collection[str], come_and_go: bool, gates: Gates) -> list[Outlier]:
    """Return the hosts that delivered nothing tonight, as one outlier.

    Args: expected, tonight: hosts with lines; come_and_go: hosts of this system are often replaced, so that it is a warning alone.
    """
    missing = sorted(set(expected) - set(tonight))
    if not missing:
        return []
    there = len(expected) - len(missing)
    named = ", ".join(missing[:5]) + (f" and {len(missing) - 5:,} more" if len(missing) > 5 else "")
    text = f"{len(missing):,} of {len(expected):,} hosts that deliver every night have no lines tonight: {named}"
    if missing == [""]:
        text = "the night's files have no lines, though those of the nights before had some"
    held = "hosts" in gates.hold and not come_and_go
    return [Outlier("hosts", float(there), float(len(expected)), float(len(expected)), "critical" if held else "warning", text)]


WORDS = {
    "unparsed": "the share of lines that do not match the header",
    "continuation": "the share of lines that continue a record",
    "lines": "the number of lines",
    "bytes": "the number of bytes",
    "files": "the number of files",
    "new_templates": "the share of templates that were never seen before",
    "sessions": "the number of sessions",
    "anomalies": "the share of sessions that are anomalous",
}


def drift_text(measure: str, value: float, low: float, high: float, before: Sequence[float]) -> str:
    """Return an outlier in words.

    >>> drift_text("sessions", 12.0, 100.4, 900.2, [300.0, 310.0])
    'the number of sessions is 12, expected 101 to 900: on the 2 nights before the median was 305'
    """
    middle = statistics.median(before)
    if measure in AMOUNTS:
        figures = f"{value:,.0f}, expected {math.ceil(low):,} to {math.floor(high):,}", f"{middle:,.0f}"
    else:
        figures = f"{value:.1%}, expected at most {high:.1%}", f"{middle:.1%}"
    return f"{WORDS[measure]} is {figures[0]}: on the {len(before)} nights before the median was {figures[1]}"


def nights_before(ds: str, days: int) -> tuple[str, str]:
    """Return the first and the last day of a night's history.

    >>> nights_before("2026-03-04", 28)
    ('2026-02-04', '2026-03-03')
    """
    night = date.fromisoformat(ds)
    return (night - timedelta(days=days)).isoformat(), (night - timedelta(days=1)).isoformat()


def published_before(
    nights: Iterable[Mapping[str, Any]], approvals: Iterable[Mapping[str, Any]], ds: str, days: int
) -> dict[str, Mapping[str, Any]]:
    """Return the rows of a system's published nights with input in the `days` before `ds`, by night, oldest first.

    From the last night on that was approved as the new normal. Args: nights: the system's rows of gold.nights; approvals: of ops.approvals.
    """
    first, last = nights_before(ds, days)
    first = max([first, *(row["ds"] for row in approvals if row["new_normal"] and row["ds"] < ds)])
    read = [row for row in nights if is_published(row["outcome"]) and row.get("n_files") != 0]
    rows = {str(row["ds"]): row for row in read if first <= row["ds"] <= last}
    return {day: rows[day] for day in sorted(rows)}


def history(
    nights: Iterable[Mapping[str, Any]], founded: Mapping[str, int], approvals: Iterable[Mapping[str, Any]], ds: str, days: int
) -> list[dict[str, int]]:
    """Return the counts of each night of `published_before`. Args: founded: night → templates that it saw first."""
    return [
        {name: int(row[name]) for name in COUNTED if row.get(name) is not None} | {"n_templates_new": founded.get(day, 0)}
        for day, row in published_before(nights, approvals, ds, days).items()
    ]


def mark_approved(outliers: Iterable[Outlier], approvals: Iterable[Mapping[str, Any]]) -> list[Outlier]:
    """The outliers, those marked that were approved: a figure is let through as far as it went when it was approved, and no further.

    Args: approvals: those of this night of this system, in ops.approvals.
    """
    found = []
    for each in outliers:
        by = next((row for row in approvals for held in row["held"] or () if covers(held, each)), None)
        found.append(each if by is None else replace(each, severity="warning", approved=by["approved_by"]))
    return found


def covers(held: Mapping[str, Any], outlier: Outlier) -> bool:
    """Return True if an approval covers an outlier."""
    if held["measure"] != outlier.measure:
        return False
    value = float(held["value"])
    return outlier.value >= value if outlier.value < outlier.low else outlier.value <= value


# A host is expected tonight if it delivered lines on the last nights, and on nearly all nights since it was first seen.
LAST_NIGHTS, USUAL_SHARE = 3, 0.9
# Hosts are replaced all the time if this number of nights of the history lost one that was expected.
LOSSES = 2

Hosts = Mapping[str, Collection[str]]


def is_due(before: Collection[str], ds: str) -> bool:
    """Return True if a night should have files, going by the earlier nights that had some.

    It should not if the usual pause between such nights is not over yet (a weekly file), or if the same weekday has had none twice in a row
    (no files at weekends).

    Args: before: the earlier nights with files.

    >>> daily = [f"2026-03-{day:02d}" for day in (2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20)]
    >>> is_due(daily, "2026-03-23"), is_due(daily, "2026-03-21"), is_due(daily[:5], "2026-03-07"), is_due([], "2026-03-07")
    (True, False, True, False)
    >>> is_due(["2026-03-02", "2026-03-09", "2026-03-16"], "2026-03-17"), is_due(["2026-03-02", "2026-03-09", "2026-03-16"], "2026-03-23")
    (False, True)
    """
    if not before:
        return False
    tonight, days = date.fromisoformat(ds), sorted(map(date.fromisoformat, before))
    pauses = [(later - earlier).days for earlier, later in itertools.pairwise(days)]
    if len(pauses) >= 2 and (tonight - days[-1]).days < statistics.median(pauses):
        return False
    weeks = [tonight - timedelta(days=7 * n) for n in (1, 2)]
    return not all(days[0] < day < days[-1] and day not in days for day in weeks)


def expected_hosts(before: Hosts) -> set[str]:
    """Return the hosts that should have delivered lines tonight; none before the system has three nights.

    Args: before: earlier published night → the hosts that delivered lines.

    >>> nights = {f"2026-03-0{n}": {"web1", "web2"} for n in range(1, 8)}
    >>> sorted(expected_hosts(nights)), sorted(expected_hosts(nights | {"2026-03-08": {"web1"}})), expected_hosts({"2026-03-01": {"web1"}})
    (['web1', 'web2'], ['web1'], set())
    """
    return steady_hosts(before, sorted(before))


def hosts_come_and_go(before: Hosts) -> bool:
    """Return True if at least two of the nights lacked a host that was expected: hosts of this system are replaced by others.

    >>> hosts_come_and_go({f"2026-03-{n:02d}": {"web", f"pod{n // 4}"} for n in range(4, 20)})
    True
    """
    nights = sorted(before)
    return sum(bool(steady_hosts(before, nights[:n]) - set(before[nights[n]])) for n in range(LAST_NIGHTS, len(nights))) >= LOSSES


def steady_hosts(before: Hosts, nights: list[str]) -> set[str]:
    """Return the hosts of the last three of some nights that delivered lines on nearly all of them since they were first seen."""
    if len(nights) < LAST_NIGHTS:
        return set()
    seen: Counter[str] = Counter()
    first: dict[str, int] = {}
    for number, ds in enumerate(nights):
        for host in before[ds]:
            seen[host] += 1
            first.setdefault(host, number)
    steady = set.intersection(*(set(before[ds]) for ds in nights[-LAST_NIGHTS:]))
    return {host for host in steady if seen[host] >= USUAL_SHARE * (len(nights) - first[host])}


def hosts_of_nights(lake: Lake, **equal: str) -> dict[str, dict[str, set[str]]]:
    """Return system → night → the hosts that delivered lines, of the rows of bronze.files with these values."""
    found: dict[str, dict[str, set[str]]] = {}
    rows = lake.arrow(FILES, ["system", "ds", "host", "n_lines"], **equal)
    for row in rows.group_by(["system", "ds", "host"]).aggregate([("n_lines", "sum")]).to_pylist():
        if row["n_lines_sum"]:
            found.setdefault(row["system"], {}).setdefault(row["ds"], set()).add(row["host"])
    return found
