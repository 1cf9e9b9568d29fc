"""The last night of each system as metrics in Prometheus' text format, for the textfile collector of a node exporter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nightlog.handoff.export import in_place
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, NIGHTS
from nightlog.llm.budget import cost
from nightlog.outcomes import OutcomeKind, is_published

# name → (meaning, column of gold.nights)
COLUMNS = {
    "lines": ("Lines read.", "n_lines"),
    "unparsed_lines": ("Lines that do not match the header.", "n_unparsed"),
    "sessions": ("Sessions with events in the night.", "n_sessions"),
    "patterns": ("Distinct patterns of these sessions.", "n_patterns"),
    "new_templates": ("Templates that the run founded.", "run_n_templates_new"),
    "proprietary_ratio": ("Share of the sessions that the router sent to the LLM.", "proprietary_share"),
    "llm_calls": ("Calls to the LLM, retries included.", "run_llm_calls"),
    "llm_failed": ("Patterns without a sound answer of the LLM.", "run_llm_failed"),
    "llm_waiting": ("Patterns that wait in a batch.", "run_llm_waiting"),
    "run_seconds": ("Wall time of the stages.", "run_seconds"),
}
STATUSES = ("open", "provisional", "suppressed")
OUTCOMES = tuple(kind.value for kind in OutcomeKind)

Sample = tuple[Mapping[str, str], float]


def write_metrics(lake: Lake, path: Path) -> Path:
    """Write the metrics of each system's last night, whatever night was just run. Returns the path. The collector reads files *.prom."""
    last: dict[str, dict[str, Any]] = {}
    published: dict[str, dict[str, Any]] = {}
    for row in sorted(lake.rows(NIGHTS), key=lambda row: str(row["ds"])):
        last[row["system"]] = row
        if is_published(row["outcome"]):
            published[row["system"]] = row
    nights = [last[system] for system in sorted(last)]
    found = []
    for night in nights:
        place = {"system": night["system"], "ds": night["ds"]}
        statuses = [row["status"] for row in lake.rows(ANOMALIES, ["status"], **place)]
        money = sum(row["money"] for row in cost(lake, night["ds"], night["ds"], night["system"]))
        found.append((night, {status: statuses.count(status) for status in STATUSES}, money))
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_place(path) as aside:
        aside.write_text(metrics(found, [published[system] for system in sorted(published)]), encoding="utf-8")
    return path


def metrics(nights: Sequence[tuple[Mapping[str, Any], Mapping[str, int], float]], published: Sequence[Mapping[str, Any]]) -> str:
    """Return the text; unknown values are left out.

    Args: nights: (row of gold.nights, its anomalies by status, US dollars), one per system; published: the row of each system's last
    published night.
    """

    def by(column: str) -> list[Sample]:
        return [({"system": night["system"]}, float(night[column])) for night, _, _ in nights if night[column] is not None]

    days = [({"system": night["system"]}, datetime.fromisoformat(night["ds"]).replace(tzinfo=UTC).timestamp()) for night in published]
    names = list(dict.fromkeys([*OUTCOMES, *(str(night["outcome"]) for night, _, _ in nights)]))
    outcomes = [({"system": night["system"], "outcome": name}, float(night["outcome"] == name)) for night, _, _ in nights for name in names]
    times = [({"system": night["system"]}, epoch(night["run_at"])) for night in published if night["run_at"] is not None]
    anomalies = [
        ({"system": night["system"], "status": status}, float(n))
        for night, counts, _ in nights
        if is_published(night["outcome"])
        for status, n in counts.items()
    ]
    tokens = [
        ({"system": night["system"], "direction": name}, float(night[f"run_llm_tokens_{name}"]))
        for night, _, _ in nights
        for name in ("in", "out")
        if night[f"run_llm_tokens_{name}"] is not None
    ]
    dollars = [({"system": night["system"]}, float(money)) for night, _, money in nights]
    parts = [
        family("day_timestamp_seconds", "Midnight (UTC) with which the system's last published night begins.", days),
        family("published_timestamp_seconds", "When that night was published.", times),
        family("outcome", "What became of it: 1 for its outcome, 0 for the others.", outcomes),
        family("anomalies", "Anomalous sessions by status.", anomalies),
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
        told = ",".join(f'{key}="{label(text)}"' for key, text in labels.items())
        lines.append(f"{full}{{{told}}} {int(value) if value == int(value) else repr(value)}")
    return "\n".join(lines) + "\n"


def label(text: str) -> str:
    """A label's value as the format wants it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
