"""The rules of bronze.lines and of the tables of ops: broken rows are counted, and any non-zero count is a breach.

Rules are counted by plain sums over narrow columns, so that a sound night pays milliseconds; Great Expectations is asked if a sum is
not zero. bronze.labels has no rule here: nothing but the evaluation reads labels, and it refuses wrong ones with their line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightlog.lake.lake import Lake
from nightlog.lake.parts import count_nulls, read_part
from nightlog.lake.tables import ANSWERS, APPROVALS, HANDOFFS, LINES_TABLE, LLM_BATCHES, LLM_CALLS, MODELS, OUTCOMES, QUARANTINE, TableSpec
from nightlog.outcomes import OutcomeKind, Stage
from nightlog.quality.gates import Breach, check_sums, stop_on_critical

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]

LINES = {
    "lines_other_than_were_read": "critical",
    "lines_without_file_number_or_text": "critical",
    "files_not_numbered_from_1_on": "critical",
}


def line_sums(parts: Iterable[pa.Table], n_read: int, n_null: int) -> dict[str, int]:
    """Return the faults in a night's lines, by the names in LINES.

    Args: parts: (file, line_no) of each part of the slice; n_read: the lines that were read from the files; n_null: nulls in the slice.
    """
    asked = ("count", "min", "max", "sum")
    files: dict[str, list[list[int]]] = {}
    for part in parts:
        for row in part.group_by("file").aggregate([("line_no", what) for what in asked]).to_pylist():
            files.setdefault(row["file"], []).append([row[f"line_no_{what}"] or 0 for what in asked])
    wrong = n_lines = 0
    for found in files.values():
        counts, firsts, lasts, totals = zip(*found, strict=True)
        n, first, last, total = sum(counts), min(firsts), max(lasts), sum(totals)
        n_lines += n
        wrong += (first, last, total) != (1, n, n * (n + 1) // 2)
    return {
        "lines_other_than_were_read": abs(n_lines - n_read),
        "lines_without_file_number_or_text": n_null,
        "files_not_numbered_from_1_on": wrong,
    }


def check_lines(lake: Lake, system: str, ds: str, n_read: int) -> None:
    """The gate behind ingest: each line that was read is there, once. Raises GateFailed.

    Args: n_read: the lines that were read from the night's files.
    """
    parts = [part.path for part in lake.parts(LINES_TABLE, system=system, ds=ds)]
    n_null = sum(count_nulls(lake.root, LINES_TABLE, path, ["file", "line_no", "text"]) for path in parts)
    sums = line_sums((read_part(lake.root, LINES_TABLE, path, ["file", "line_no"]) for path in parts), n_read, n_null)
    stop_on_critical(system, ds, check_sums(sums, LINES), f"Run the night again: it replaces its slice of {LINES_TABLE.name}")


@dataclass(frozen=True)
class Rules:
    """The rules of a table: name → true for a broken row; the columns that they need; the severity of a breach.

    `tonight`: only the night's rows are checked. `key`: columns that no two rows have in common, where they are not null.
    """

    spec: TableSpec
    columns: tuple[str, ...]
    broken: Mapping[str, Callable[[Row], bool]]
    severity: str
    tonight: bool = True
    key: Callable[[Row], object | None] | None = None

    @property
    def severities(self) -> dict[str, str]:
        """Return name of each sum → severity if it is not zero."""
        names = [*self.broken, *(["repeated"] if self.key is not None else [])]
        return {f"{self.spec.name}: {name}": self.severity for name in names}


def missing(*columns: str) -> Callable[[Row], bool]:
    """Return the rule that none of these is null."""
    return lambda row: any(row[name] is None for name in columns)


def unknown(column: str, *known: str | int | None) -> Callable[[Row], bool]:
    """Return the rule that a column holds one of these."""
    return lambda row: row[column] not in known


def below_zero(*columns: str) -> Callable[[Row], bool]:
    """Return the rule that none of these is negative, or not a number."""
    return lambda row: any(row[name] is not None and not row[name] >= 0 for name in columns)


def no_json(row: Row) -> bool:
    """Return True if a row that was set aside is not a JSON object."""
    try:
        return not isinstance(json.loads(row["row"] or ""), dict)
    except ValueError:
        return True


# Critical is what decides about sessions, or lets a night through: a wrong row of it would decide wrongly on every night.
OPS = (
    Rules(
        OUTCOMES,
        ("run_id", "system", "stage", "outcome", "seconds", "at"),
        {
            "without run, system or time": missing("run_id", "system", "at"),
            "stage unknown": unknown("stage", *Stage),
            "outcome unknown": unknown("outcome", *OutcomeKind),
            "seconds below 0": below_zero("seconds"),
        },
        "warning",
        key=lambda row: (row["run_id"], row["system"], row["stage"], row["at"]),
    ),
    Rules(
        LLM_CALLS,
        ("system", "run_id", "llm", "round", "calls", "items", "tokens_in", "tokens_cached", "tokens_out", "money", "at"),
        {
            "without run, LLM or time": missing("run_id", "llm", "at"),
            "round unknown": unknown("round", 1, 2),
            "costs below 0": below_zero("calls", "items", "tokens_in", "tokens_cached", "tokens_out", "money"),
        },
        "warning",
    ),
    Rules(
        LLM_BATCHES,
        ("system", "batch", "run_id", "status", "round", "calls", "tokens_in", "tokens_out", "money", "submitted_at"),
        {
            "without run or time": missing("run_id", "submitted_at"),
            "status unknown": unknown("status", "submitting", "open", "collected", "lost"),
            "round unknown": unknown("round", 1, 2),
            "costs below 0": below_zero("calls", "tokens_in", "tokens_out", "money"),
        },
        "warning",
        tonight=False,
        key=lambda row: row["batch"],
    ),
    Rules(
        ANSWERS,
        ("system", "kind", "about", "group", "label", "answered_by", "answered_at"),
        {
            "kind unknown": unknown("kind", None, "answer", "label", "suppression"),
            "about something unknown": unknown("about", None, "group", "pattern", "template"),
            "label unknown": unknown("label", None, "normal", "anomalous", "suppressed"),
            "about nothing, by nobody or at no time": missing("group", "answered_by", "answered_at"),
        },
        "critical",
        tonight=False,
    ),
    Rules(
        QUARANTINE,
        ("system", "stage", "reason", "row"),
        {"stage unknown": unknown("stage", *Stage), "without reason": missing("reason"), "not JSON": no_json},
        "warning",
    ),
    Rules(
        APPROVALS,
        ("system", "stage", "approved_by", "approved_at"),
        {"stage unknown": unknown("stage", "parse", "publish"), "by nobody or at no time": missing("approved_by", "approved_at")},
        "critical",
    ),
    Rules(
        HANDOFFS,
        ("kind", "outcome", "at"),
        {
            "kind unknown": unknown("kind", "webhook", "export", "metrics"),
            "outcome unknown": unknown("outcome", "done", "failed"),
            "at no time": missing("at"),
        },
        "warning",
    ),
    Rules(
        MODELS,
        ("version", "system", "sha256", "status"),
        {
            "status unknown": unknown("status", "candidate", "promoted", "retired"),
            "digest and version differ": lambda row: (
                not re.fullmatch(r"[0-9a-f]{64}", row["sha256"] or "") or row["sha256"][:16] != row["version"]
            ),
        },
        "critical",
        tonight=False,
        key=lambda row: row["system"] if row["status"] == "promoted" else None,  # two that serve one system
    ),
)


def rule_sums(rules: Rules, rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Return system → name → rows of a table that break the rule; only broken rules. Rows of no system are under ``""``."""
    found: dict[str, Counter[str]] = {}
    keys: set[object] = set()
    for row in rows:
        names = [name for name, broken in rules.broken.items() if broken(row)]
        if rules.key is not None and (key := rules.key(row)) is not None:
            names += ["repeated"] if key in keys else []
            keys.add(key)
        if names:
            found.setdefault(row.get("system") or "", Counter()).update(f"{rules.spec.name}: {name}" for name in names)
    return {system: dict(sums) for system, sums in found.items()}


def unsound_ops(lake: Lake, ds: str) -> dict[str, list[Breach]]:
    """Return system → breaches in the tables of ops that decide its night or report it; under ``""`` those of every system."""
    sums: dict[str, dict[str, int]] = {}
    for rules in OPS:
        place = {"ds": ds} if rules.tonight else {}
        for system, found in rule_sums(rules, lake.rows(rules.spec, list(rules.columns), **place)).items():
            sums[system] = sums.get(system, {}) | found
    severities = {name: severity for rules in OPS for name, severity in rules.severities.items()}
    return {system: check_sums(found, severities) for system, found in sums.items()}
