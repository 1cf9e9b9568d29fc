"""The content of a night's page, as plain values. Pure: no lake, no HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from nightlog.outcomes import SUCCESSES, OutcomeKind, Stage, is_published

STAGES = Stage.REPORT.before  # the page is a part of the report
MARKED_LINES = 8
SHOWN_LINES = 12


class Line(NamedTuple):
    """A raw line of a session: when, where, what, and whether its template is among the telling ones."""

    at: datetime | None
    file: str
    line_no: int
    text: str
    marked: bool


class Gap(NamedTuple):
    """Lines that the page leaves out."""

    n_lines: int


@dataclass(frozen=True)
class Session:
    """One of a finding's sessions."""

    session_id: str
    started_at: datetime | None
    ended_at: datetime | None
    n_events: int | None


@dataclass(frozen=True)
class Finding:
    """A finding with the details that its row lacks.

    `row`: its row of gold.findings. `novelty`: see `novelty`. `incident`: its row of gold.incidents. `verdict`: of the LLM, if there is
    one. `history`: how it is unlike the system's nights so far, in words. `lines`: of its first session in the order of time, of
    `n_lines`. `telling_line`: the first of those that tell most.
    """

    row: Mapping[str, Any]
    novelty: str = ""
    incident: Mapping[str, Any] | None = None
    verdict: Mapping[str, Any] | None = None
    history: tuple[str, ...] = ()
    evidence: tuple[Mapping[str, Any], ...] = ()
    sessions: tuple[Session, ...] = ()
    n_lines: int = 0
    lines: tuple[Line | Gap, ...] = ()
    telling_line: Line | None = None

    @property
    def system(self) -> str:
        """Its system."""
        return str(self.row["system"])

    @property
    def pattern_id(self) -> str:
        """The pattern of its sessions."""
        return str(self.row["pattern_id"])

    @property
    def anchor(self) -> str:
        """The name of its place on the system's page, the same on every night."""
        return anchor(self.row["finding_id"])


def anchor(finding_id: str) -> str:
    """Return the name of a finding's place on its system's page.

    >>> anchor("0a1b2c3d4e5f")
    'f-0a1b2c3d4e5f'
    """
    return f"f-{finding_id}"


def incident_anchor(incident_id: str) -> str:
    """Return the name of an incident's place on the page of the night, the same on every night.

    >>> incident_anchor("0a1b2c3d4e5f")
    'i-0a1b2c3d4e5f'
    """
    return f"i-{incident_id}"


def novelty(row: Mapping[str, Any], nights: Collection[str]) -> str:
    """Return on which nights a finding was seen, in words.

    Args: row: of gold.findings; nights: the published nights of its system.

    >>> row = {"ds": "2026-03-04", "is_new": False, "first_seen": "2026-03-02", "last_seen": "2026-03-03", "n_nights": 3}
    >>> novelty(row, ["2026-03-02", "2026-03-03", "2026-03-04"])
    'every night since 2026-03-02'
    >>> novelty(row | {"n_nights": 2, "last_seen": "2026-03-02"}, ["2026-03-02", "2026-03-03", "2026-03-04"])
    'on 2 nights since 2026-03-02, before tonight on 2026-03-02'
    >>> novelty(row | {"is_new": True}, []), novelty(row | {"is_new": None}, [])
    ('new tonight', 'the first night of the system')
    """
    if row["is_new"] or row["is_new"] is None:
        return "new tonight" if row["is_new"] else "the first night of the system"
    since = [night for night in nights if row["first_seen"] <= night <= row["ds"]]
    if len(since) == row["n_nights"]:
        return f"every night since {row['first_seen']}"
    return f"on {row['n_nights']:,} nights since {row['first_seen']}, before tonight on {row['last_seen']}"


@dataclass(frozen=True)
class Incident:
    """Findings of the night that are one thing. `row`: of gold.incidents; `findings`: those that the systems' pages show, by rank."""

    row: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @property
    def anchor(self) -> str:
        """The name of its place on the page of the night, the same on every night."""
        return incident_anchor(self.row["incident_id"])

    @property
    def first(self) -> Finding | None:
        """The first of its findings that a page shows."""
        return next(iter(self.findings), None)


@dataclass(frozen=True)
class SystemOutcome:
    """The outcome of a system: done | no_input | gated | failed | transient, in which stage, and why."""

    outcome: str
    stage: str = ""
    why: str = ""


@dataclass(frozen=True)
class SystemNight:
    """One system's night.

    `night`: its row of gold.nights, all None if there is none; `totals`: sessions by status and by who decided; `trend`: anomalies of
    the last nights, None for those that are not in the lake; `findings`: the first by rank, of `n_findings`, `n_new` of them new;
    `night_before`: the last published night before, None if there is none, and `n_gone` of its findings do not occur any more;
    `hours`: anomalous sessions by the hour, UTC; `signals`: rows of gold.signals, in their order.
    """

    ds: str
    system: str
    outcome: SystemOutcome
    night: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    n_anomalies: int = 0
    n_findings: int = 0
    totals: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    n_new: int = 0
    night_before: str | None = None
    n_gone: int = 0
    hours: tuple[int, ...] = ()
    trend: tuple[tuple[str, int | None], ...] = ()
    templates: tuple[Mapping[str, Any], ...] = ()
    n_templates_new: int = 0
    quarantined: tuple[tuple[str, int], ...] = ()
    costs: tuple[Mapping[str, Any], ...] = ()
    stages: tuple[tuple[str, str, float], ...] = ()
    signals: tuple[Mapping[str, Any], ...] = ()

    @property
    def published(self) -> bool:
        """Return True if there is something to show, of this run or of an earlier one."""
        return is_published(self.night.get("outcome"))

    @property
    def lacks_findings(self) -> bool:
        """Return True if a version of Nightlog without gold.findings published the night."""
        return bool(self.published and self.night.get("n_anomalies") and not self.n_findings)


def day(ds: str, days: int) -> str:
    """The day some days later, or earlier.

    >>> day("2026-03-01", -1)
    '2026-02-28'
    """
    return (date.fromisoformat(ds) + timedelta(days=days)).isoformat()


def system_outcome(rows: Iterable[Mapping[str, Any]]) -> tuple[SystemOutcome, tuple[str, ...], tuple[tuple[str, str, float], ...]]:
    """Return the outcome of a system, from its rows of ops.outcomes for the night: the outcome, warnings, and (stage, outcome, seconds).

    The last row of each stage counts. A stage that was done again and had no next stage since has failed in it.
    """
    last = {row["stage"]: row for row in sorted(rows, key=lambda row: row["at"])}
    seen = [last[stage] for stage in STAGES if stage in last]
    times = tuple((row["stage"], row["outcome"], float(row["seconds"] or 0)) for row in seen)
    warnings = tuple(f"{row['stage']}: {row['detail']}" for row in seen if row["outcome"] == OutcomeKind.DONE and row["detail"])
    before: Mapping[str, Any] | None = None
    for stage in STAGES:
        row = last.get(stage)
        if row is None or (before is not None and row["at"] < before["at"]):
            after = f"nothing is known of it after stage {before['stage']}" if before else "it never began"
            return SystemOutcome("failed", stage, f"{after}: see the log of stage {stage}"), warnings, times
        if row["outcome"] not in SUCCESSES:
            return SystemOutcome(row["outcome"], stage, row["detail"] or ""), warnings, times
        before = row
    assert before is not None
    if before["outcome"] == OutcomeKind.INCOMPLETE:
        return SystemOutcome(before["outcome"], before["stage"], before["detail"] or ""), warnings, times
    return SystemOutcome(before["outcome"]), warnings, times


def sample_lines(lines: Sequence[Line], limit: int = SHOWN_LINES, limit_marked: int = MARKED_LINES) -> tuple[Line | Gap, ...]:
    """At most `limit` lines in their order, with gaps: the first and the last, evenly chosen marked ones, then lines beside marked ones.

    >>> lines = [Line(None, "f", n, "x", n == 5) for n in range(9)]
    >>> [line.line_no if isinstance(line, Line) else f"{line.n_lines} more" for line in sample_lines(lines, limit=4)]
    [0, '3 more', 4, 5, '2 more', 8]
    """
    if len(lines) <= limit:
        return tuple(lines)
    marked = [n for n, line in enumerate(lines) if line.marked]
    kept = {0, len(lines) - 1} | set(spread_evenly(marked, limit_marked))
    near = sorted(set(range(len(lines))) - kept, key=lambda n: (min((abs(n - m) for m in marked), default=n), n))
    kept |= set(near[: max(0, limit - len(kept))])
    found: list[Line | Gap] = []
    before = -1
    for n in sorted(kept):
        if n > before + 1:
            found.append(Gap(n - before - 1))
        found.append(lines[n])
        before = n
    return tuple(found)


def spread_evenly(values: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of the values, evenly spread, the first and the last among them.

    >>> spread_evenly(list(range(10)), 4)
    [0, 3, 6, 9]
    """
    if len(values) <= limit:
        return list(values)
    return [values[round(n * (len(values) - 1) / (limit - 1))] for n in range(limit)]


def merged_trend(nights: Sequence[SystemNight]) -> tuple[tuple[str, int | None], ...]:
    """The anomalies of all systems by night; None where no system has the night."""
    total: dict[str, int | None] = {}
    for system in nights:
        for ds, n in system.trend:
            old = total.get(ds)
            total[ds] = old if n is None else n + (old or 0)
    return tuple(sorted(total.items()))


def sum_columns(rows: Iterable[Mapping[str, Any]], columns: Collection[str]) -> dict[str, float]:
    """The sums of some columns, as of a bill."""
    found = Counter[str]()
    for row in rows:
        for name in columns:
            found[name] += row[name] or 0
    return {name: round(found[name], 6) for name in columns}
