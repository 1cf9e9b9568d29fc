"""The last night of each system as metrics in Prometheus' text format, for the textfile collector of a node exporter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nightlog.handoff.export import atomic_file
from nightlog.lake.lake import Lake
from nightlog.lake.query import is_input_missing
from nightlog.lake.tables import ANOMALIES, FINDINGS, NIGHTS, OUTCOMES, NightRow
from nightlog.llm.budget import cost
from nightlog.outcomes import OutcomeKind, is_published
from nightlog.pages.model import system_outcome
from nightlog.publishing.account import has_input, llm_sentence

# name → (meaning, column of gold.nights)
COLUMNS = {
    "lines": ("Lines read.", "n_lines"),
    "unparsed_lines": ("Lines that do not match the header.", "n_unparsed"),
    "sessions": ("Sessions with events in the night.", "n_sessions"),
    "sessions_by_analyst": ("Sessions judged by an analyst.", "n_by_analyst"),
    "sessions_by_llm": ("Sessions judged by the LLM.", "n_by_llm"),
    "sessions_by_student": ("Sessions judged by the student, which learns from verdicts and answers.", "n_by_student"),
    "sessions_by_model": ("Sessions judged by the small model or flagged by the history.", "n_by_model"),
    "sessions_unjudged": ("Sessions that nobody judged.", "n_unjudged"),
    "sessions_provisional": ("Sessions whose verdict may change.", "n_provisional"),
    "patterns": ("Distinct patterns of these sessions.", "n_patterns"),
    "new_templates": ("Templates that the run founded.", "run_n_templates_new"),
    "proprietary_ratio": ("Share of the sessions that the router sent to the LLM.", "proprietary_share"),
    "llm_calls": ("Calls to the LLM, retries included.", "run_llm_calls"),
    "llm_failed": ("Patterns without a sound answer of the LLM.", "run_llm_failed"),
    "llm_waiting": ("Patterns that wait in a batch.", "run_llm_waiting"),
    "run_seconds": ("Wall time of the stages.", "run_seconds"),
}
STATUSES = ("open", "provisional", "suppressed")

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class SystemMetrics:
    """The figures of one system.

    `night`: the row of gold.nights of its last night. `outcome`: of that night's last run. `is_input_missing`: no file came though some
    were due. `published`: the row of its last published night that had files, None if there is none. `anomalies`: status → sessions.
    `findings`: status → findings; `n_new`: those of patterns that no earlier night has, without suppressed ones. `money`: US dollars for
    the LLM in that night.
    """

    night: Mapping[str, Any]
    outcome: str
    is_input_missing: bool
    published: Mapping[str, Any] | None
    anomalies: Mapping[str, int]
    findings: Mapping[str, int]
    n_new: int
    money: float

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the system's samples."""
        return {"system": self.night["system"]}


def write_metrics(lake: Lake, path: Path) -> Path:
    """Write the metrics of each system's last night, whatever night was just run. Returns the path. The collector reads files *.prom."""
    last: dict[str, NightRow] = {}
    published: dict[str, NightRow] = {}
    for row in sorted(lake.rows(NIGHTS), key=lambda row: str(row["ds"])):
        last[row["system"]] = row
        if is_published(row["outcome"]) and has_input(row):
            published[row["system"]] = row
    found = []
    for system, night in sorted(last.items()):
        place = {"system": system, "ds": night["ds"]}
        runs = lake.rows(OUTCOMES, None, **place)
        outcome = system_outcome(runs)[0].outcome if runs else str(night["outcome"])
        statuses = [row["status"] for row in lake.rows(ANOMALIES, ["status"], **place)]
        money = sum(row["money"] for row in cost(lake, night["ds"], night["ds"], system))
        counted = {each: statuses.count(each) for each in STATUSES}
        rows = lake.rows(FINDINGS, ["status", "is_new"], **place)
        findings = {each: sum(row["status"] == each for row in rows) for each in STATUSES}
        n_new = sum(bool(row["is_new"]) and row["status"] != "suppressed" for row in rows)
        found.append(SystemMetrics(night, outcome, is_input_missing(runs), published.get(system), counted, findings, n_new, money))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as aside:
        aside.write_text(metrics(found), encoding="utf-8")
    return path


def metrics(systems: Sequence[SystemMetrics]) -> str:
    """Return the text, in Prometheus' format. Unknown values are left out."""

    def by(column: str) -> list[Sample]:
        return [(each.labels, float(each.night[column])) for each in systems if each.night[column] is not None]

    days = [
        (each.labels, datetime.fromisoformat(each.published["ds"]).replace(tzinfo=UTC).timestamp())
        for each in systems
        if each.published is not None
    ]
    outcomes = [(each.labels | {"outcome": kind.value}, float(each.outcome == kind)) for each in systems for kind in OutcomeKind]
    without_llm = [(each.labels, float(llm_sentence(each.night) is not None)) for each in systems]
    missing = [(each.labels, float(each.is_input_missing)) for each in systems]
    published = [(each.labels, epoch(each.published["run_at"])) for each in systems if each.published and each.published["run_at"]]
    seen = [each for each in systems if is_published(each.night["outcome"])]
    anomalies = [(each.labels | {"status": status}, float(n)) for each in seen for status, n in each.anomalies.items()]
    findings = [(each.labels | {"status": status}, float(n)) for each in seen for status, n in each.findings.items()]
    new = [(each.labels, float(each.n_new)) for each in seen]
    tokens = [
        (each.labels | {"direction": name}, float(each.night[f"run_llm_tokens_{name}"]))
        for each in systems
        for name in ("in", "out")
        if each.night[f"run_llm_tokens_{name}"] is not None
    ]
    dollars = [(each.labels, float(each.money)) for each in systems]
    parts = [
        family("day_timestamp_seconds", "Midnight (UTC) with which the system's last published night with files begins.", days),
        family("published_timestamp_seconds", "When that night was published.", published),
        family("outcome", "Outcome of the last night's last run: 1 for its outcome, 0 for the others.", outcomes),
        family("input_missing", "1 if no file came for the last night though some were due.", missing),
        family("without_llm", "1 if no LLM judged the last night.", without_llm),
        family("anomalies", "Anomalous sessions by status.", anomalies),
        family("findings", "Findings by status.", findings),
        family("findings_new", "Findings of patterns that no earlier night has, without suppressed ones.", new),
        *(family(name, meaning, by(column)) for name, (meaning, column) in COLUMNS.items()),
        family("llm_tokens", "Tokens of the LLM.", tokens),
        family("llm_dollars", "US dollars for the LLM in that night, all runs.", dollars),
    ]
    return "".join(parts)


def epoch(at: datetime) -> float:
    """A time of the lake in seconds since 1970; without a zone it is UTC."""
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def family(name: str, meaning: str, samples: Iterable[Sample]) -> str:
    """One metric with its samples, all of it gauges: a night is a state, not a flow.

    >>> print(family("sessions", "Sessions.", [({"system": "ab"}, 7.0)]), end="")
    # HELP nightlog_night_sessions Sessions.
    # TYPE nightlog_night_sessions gauge
    nightlog_night_sessions{system="ab"} 7
    """
    full = f"nightlog_night_{name}"
    lines = [f"# HELP {full} {meaning}", f"# TYPE {full} gauge"]
    for labels, value in samples:
        pairs = ",".join(f'{key}="{label(text)}"' for key, text in labels.items())
        lines.append(f"{full}{{{pairs}}} {int(value) if value == int(value) else repr(value)}")
    return "\n".join(lines) + "\n"


def label(text: str) -> str:
    """A label's value as the format wants it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
