"""Holding a night back: what its gates compare it with, which gate speaks behind which stage, and who has approved what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nightlog.errors import GateFailed
from nightlog.lake.lake import Lake
from nightlog.lake.tables import APPROVALS, FILES, NIGHTS, QUARANTINE, TEMPLATES, ApprovalRow
from nightlog.lake.tables.ops import OutsideMeasure
from nightlog.quality.outliers import (
    COUNTED,
    Outlier,
    beyond_limits,
    drift,
    expected_hosts,
    history,
    hosts_come_and_go,
    hosts_of_nights,
    mark_approved,
    missing_hosts,
    published_before,
    share,
    with_text,
)
from nightlog.systems.spec import System

AFTER = {
    "parse": ("unparsed", "continuation", "lines", "bytes", "files", "new_templates", "sessions"),
    "publish": ("anomalies",),
}
# Where to look, by measure.
LOOK = {
    "unparsed": f"See {QUARANTINE.name} for the first lines that do not match",
    "swallowed": "See `record.start` in the system file",
    "returns": "Convert the file (tr '\\r' '\\n')",
    "hosts": f"See {FILES.name} for the files of each night",
    "lines": f"See {FILES.name} for the files of each night",
}
# Shares of the lines with text beyond which there is a warning.
MOST = {"replaced": 0.2, "without_session": 0.9, "untimed": 0.2, "astray": 0.01}
# One cause, one message: if the first is outside, the others are not looked at.
SAME_CAUSE = {"lines": ("bytes", "files")}


@dataclass(frozen=True)
class Approval:
    """The approval of a night: by whom and why. `new_normal`: this resets the baseline to the nights from this one on."""

    by: str
    reason: str = ""
    new_normal: bool = False


@dataclass(frozen=True)
class Past:
    """The lake's history when the run began, by system: rows of gold.nights (narrow) and of ops.approvals, hosts with lines by night."""

    nights: Mapping[str, Sequence[Mapping[str, Any]]]
    approvals: Mapping[str, Sequence[Mapping[str, Any]]]
    hosts: Mapping[str, Mapping[str, Collection[str]]] = field(default_factory=dict)


def read_past(lake: Lake) -> Past:
    """Return the history of all systems, read once per run."""
    nights = lake.rows(NIGHTS, ["ds", "system", "outcome", *COUNTED])
    approvals = lake.rows(APPROVALS)
    approvals.sort(key=lambda row: row["approved_at"])
    return Past(by_system(nights), by_system(approvals), hosts_of_nights(lake))


def by_system(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return system → its rows, in their order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["system"], []).append(row)
    return found


def find_outliers(lake: Lake, system: System, ds: str, stage: str, counts: Mapping[str, int], past: Past) -> list[Outlier]:
    """Return the outliers in the night's counts by the gate of a stage ("parse" or "publish"), critical or not, approved or not."""
    approvals = past.approvals.get(system.name, ())
    nights = past.nights.get(system.name, ())
    found = []
    if counts.get("n_files") == 0:
        return []  # stage ingest has reported that no file was read
    if stage == "parse":
        published = published_before(nights, approvals, ds, system.gates.history_days)
        hosts = {day: each for day, each in past.hosts.get(system.name, {}).items() if day in published}
        tonight_hosts = hosts_of_nights(lake, system=system.name, ds=ds).get(system.name, {}).get(ds, ())
        found = beyond_limits(counts, system.gates)
        found += missing_hosts(expected_hosts(hosts), tonight_hosts, hosts_come_and_go(hosts), system.gates)
    measures = [name for name in AFTER[stage] if name not in {each.measure for each in found}]
    # Templates are read only where there are nights enough to compare with.
    if len(history(nights, {}, approvals, ds, system.gates.history_days)) >= system.gates.least_nights:
        founded = Counter(row["first_ds"] for row in lake.rows(TEMPLATES, ["first_ds"], system=system.name)) if stage == "parse" else {}
        before = history(nights, founded, approvals, ds, system.gates.history_days)
        tonight = dict(counts) | ({"n_templates_new": founded.get(ds, 0)} if stage == "parse" else {})
        found += drift(tonight, before, system.gates, measures)
        outside = {each.measure for each in found}
        found = [each for each in found if not any(each.measure in SAME_CAUSE[first] for first in outside & SAME_CAUSE.keys())]
    return mark_approved(found, [row for row in approvals if row["ds"] == ds])


def stop_unless_approved(system: System, ds: str, found: Iterable[Outlier], counts: Mapping[str, int], look: str) -> list[str]:
    """Raise GateFailed, with what to do, where something critical is not approved; return the rest as warnings.

    Args: look: where an operator sees what is the matter.
    """
    critical = [each.text for each in found if each.severity == "critical"]
    if critical:
        raise GateFailed(
            f"{system.name} {ds}: held back: {'; '.join(critical)}. {look}; correct the delivery or the system file and run the night "
            f"again, or publish it as it is: nightlog approve --ds {ds} --system {system.name}",
            counts,
        )
    return [f"{each.text} (approved by {each.approved})" if each.approved else each.text for each in found]


def check_parsed(lake: Lake, system: System, ds: str, counts: Mapping[str, int], past: Past) -> list[str]:
    """The gate behind parsing; returns warnings. Raises GateFailed where the night is held back.

    Args: counts: what ingest and parse counted.
    """
    check_account(system.name, ds, counts)
    total = with_text(counts)
    shares = {name: share(counts.get(f"n_{name}", 0), total) for name in MOST if name != "untimed" or system.timestamp is not None}
    warnings = [f"{name}_share = {value:.3g}, expected at most {MOST[name]}" for name, value in shares.items() if value > MOST[name]]
    found = find_outliers(lake, system, ds, "parse", counts, past)
    look = next((LOOK[each.measure] for each in found if each.severity == "critical" and each.measure in LOOK), LOOK["unparsed"])
    return warnings + stop_unless_approved(system, ds, found, counts, look)


def check_account(system: str, ds: str, counts: Mapping[str, int]) -> None:
    """Raise GateFailed unless every line that was read is parsed, blank, unparsed, or continues a record."""
    accounted = {name: counts.get(name, 0) for name in ("n_parsed", "n_blank", "n_unparsed", "n_continuation")}
    if counts["n_lines"] != sum(accounted.values()):
        found = ", ".join(f"{name.removeprefix('n_')} {n:,}" for name, n in accounted.items())
        raise GateFailed(
            f"{system} {ds}: {counts['n_lines']:,} lines were read, expected the sum of {found}: run the night again from stage ingest"
        )


def check_anomalies(
    lake: Lake, system: System, ds: str, counts: Mapping[str, int], past: Past, kinds: Sequence[tuple[str, int, str]]
) -> list[str]:
    """The gate before publishing; returns warnings. Raises GateFailed where the night is held back.

    Args: counts: n_sessions and n_anomalies; kinds: (pattern, sessions, reason) of the anomalies, the commonest first.
    """
    most = "; ".join(f"{n:,} of pattern {pattern}: {reason[:200]}" for pattern, n, reason in kinds[:3])
    return stop_unless_approved(system, ds, find_outliers(lake, system, ds, "publish", counts, past), counts, f"Most of them: {most}")


def record_approval(
    lake: Lake, system: str, ds: str, stage: str, held: Iterable[Outlier], approval: Approval, now: datetime, run_id: str
) -> None:
    """Record in ops.approvals what was let through, by whom, and why."""
    figures: list[OutsideMeasure] = [{"measure": each.measure, "value": each.value, "low": each.low, "high": each.high} for each in held]
    row: ApprovalRow = {"ds": ds, "system": system, "stage": stage, "held": figures, "run_id": run_id, "approved_at": now}
    row |= {"new_normal": approval.new_normal, "approved_by": approval.by, "reason": approval.reason or None}
    lake.append(APPROVALS, [row])
