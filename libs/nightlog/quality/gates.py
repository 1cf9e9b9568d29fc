"""The gates: Great Expectations on what a night would publish. Critical stops the system, warning is recorded."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightlog.errors import GateFailed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


# What is counted of the silver tables of a night, by `judged_sums`, and how bad it is that there is one.
JUDGED = {
    "sessions_repeated": "critical",
    "sessions_without_pattern": "critical",
    "sessions_without_events": "critical",
    "sessions_that_end_before_they_start": "warning",
    "patterns_repeated": "critical",
    "patterns_of_no_session": "critical",
    "patterns_without_one_route": "critical",
    "patterns_without_one_score": "critical",
    "routes_unknown": "critical",
    "similarities_outside_-1_to_1": "critical",
    "probabilities_outside_0_to_1": "critical",
}
# What a night's account of its sessions lacks, by `session_sums`.
ACCOUNTED = {
    "sessions_unaccounted_for": "critical",
    "sessions_left_but_not_listed": "critical",
    "sessions_without_account": "critical",
}
# What the rows that would be published lack.
PUBLISHED = {"anomalies_without_finding": "critical"}


@dataclass(frozen=True)
class Breach:
    """One expectation that was not met: `rows` are the numbers of the offending rows, where there are single ones."""

    severity: str
    text: str
    rows: tuple[int, ...]


def night_expectations() -> list[Any]:
    """Return the expectations of a night's counts, before any of it is used."""
    from great_expectations import expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="replaced_share", max_value=0.2, severity="warning"),
        gxe.ExpectColumnValuesToBeBetween(column="without_session_share", max_value=0.9, severity="warning"),
        gxe.ExpectColumnValuesToBeBetween(column="untimed_share", max_value=0.2, severity="warning"),
        gxe.ExpectColumnValuesToBeBetween(column="astray_share", max_value=0.01, severity="warning"),
    ]


def anomaly_expectations(ds: str, system: str) -> list[Any]:
    """Return the expectations of the rows for gold.anomalies."""
    from great_expectations import expectations as gxe

    required = ("session_id", "pattern_id", "n_events", "score", "decided_by", "route", "status", "reason", "run_id", "n_lines")
    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=column, severity="critical") for column in required),
        gxe.ExpectColumnValuesToBeUnique(column="session_id", severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="ds", value_set=[ds], severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="system", value_set=[system], severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(column="score", min_value=0, max_value=1, severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(
            column="decided_by", value_set=["small_model", "history", "student", "llm", "feedback"], severity="critical"
        ),
        gxe.ExpectColumnValuesToBeInSet(column="route", value_set=["general", "proprietary"], severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="status", value_set=["open", "suppressed", "provisional"], severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(column="n_lines", min_value=1, severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(column="n_evidence", min_value=1, severity="warning"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="ended_at", column_B="started_at", or_equal=True, ignore_row_if="either_value_is_missing", severity="warning"
        ),
    ]


def judged_sums(
    sessions: pa.Table, patterns: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Return the faults in a night's slices, by the names in JUDGED; all 0 if there are none.

    Args: sessions (session_id, pattern_id, started_at, ended_at, n_events) of silver.sessions; rows of silver.patterns (pattern_id,
    n_sessions), routes (pattern_id, route, similarity) and scores (pattern_id, probability).
    """
    import pyarrow.compute as pc

    known = Counter(row["pattern_id"] for row in patterns)
    routed, scored = (Counter(row["pattern_id"] for row in rows) for rows in (routes, scores))
    ended_early = pc.less(sessions.column("ended_at"), sessions.column("started_at"))
    ids = sessions.column("pattern_id").cast("string").value_counts().to_pylist()
    return {
        "sessions_repeated": len(sessions) - pc.count_distinct(sessions.column("session_id").cast("string")).as_py(),
        "sessions_without_pattern": sum(each["counts"] for each in ids if each["values"] not in known),
        "sessions_without_events": len(sessions) - (pc.sum(pc.greater(sessions.column("n_events"), 0)).as_py() or 0),
        "sessions_that_end_before_they_start": pc.sum(ended_early).as_py() or 0,
        "patterns_repeated": sum(n - 1 for n in known.values()),
        "patterns_of_no_session": sum((row["n_sessions"] or 0) < 1 for row in patterns),
        "patterns_without_one_route": sum(routed[name] != 1 for name in known),
        "patterns_without_one_score": sum(scored[name] != 1 for name in known),
        "routes_unknown": sum(row["route"] not in ("general", "proprietary") for row in routes),
        "similarities_outside_-1_to_1": sum(row["similarity"] is not None and not within(row["similarity"], -1, 1) for row in routes),
        "probabilities_outside_0_to_1": sum(not within(row["probability"], 0, 1) for row in scores),
    }


def session_sums(counts: Mapping[str, int], n_judged: int, n_left: int) -> dict[str, int]:
    """Return the differences between a night's account of its sessions and the tables, by the names in ACCOUNTED; all 0 if it holds.

    Args:
        counts: of the stage parse; without `n_ids` an earlier version of Nightlog parsed the night, and nothing is compared.
        n_judged, n_left: rows of the night in silver.sessions and silver.waiting.
    """
    if "n_ids" not in counts:
        return {}
    n_outside, n_waiting, n_unchanged = (counts.get(name, 0) for name in ("n_outside", "n_waiting", "n_unchanged"))
    return {
        "sessions_unaccounted_for": abs(counts["n_ids"] - n_judged - n_waiting - n_unchanged - n_outside),
        "sessions_left_but_not_listed": max(0, n_waiting - n_left),
    }


def within(value: float | None, low: float, high: float) -> bool:
    """Return True if a number is there and in a range, except for rounding.

    >>> within(1.0000001, 0, 1), within(float("nan"), 0, 1), within(None, 0, 1)
    (True, False, False)
    """
    return value is not None and low - 1e-6 <= value <= high + 1e-6


def stop_on_critical(system: str, ds: str, breaches: list[Breach], advice: str) -> list[Breach]:
    """Raise GateFailed if one of the breaches is critical, else return them: they are warnings."""
    critical = [found.text for found in breaches if found.severity == "critical"]
    if critical:
        raise GateFailed(f"{system} {ds}: not published: {'; '.join(critical)}. {advice}")
    return breaches


def check(frame: pd.DataFrame, expectations: Sequence[Any]) -> list[Breach]:
    """Validate a frame with Great Expectations; what is not met, the critical ones first."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("staged").add_dataframe_asset("slice")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame.reset_index(drop=True)})
    suite = gx.ExpectationSuite(name="gate", expectations=list(expectations))
    results = batch.validate(suite, result_format={"result_format": "COMPLETE"}).results
    breaches = [breach(result) for result in results if not result.success]
    return sorted(breaches, key=lambda found: found.severity != "critical")


def check_sums(sums: Mapping[str, int], severities: Mapping[str, str]) -> list[Breach]:
    """Validate sums, each of which must be zero. Great Expectations is asked only if one is not.

    Args: severities: name of a sum → severity if it is not zero.
    """
    if not any(sums.values()):
        return []
    import pandas as pd
    from great_expectations import expectations as gxe

    none = [gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=0, severity=severities[name]) for name in sums]
    return check(pd.DataFrame([sums]), none)


def breach(result: Any) -> Breach:
    """Return one failed expectation in words."""
    config = result.expectation_config
    about = {name: value for name, value in config.kwargs.items() if name != "batch_id" and value is not None}
    rows = tuple(int(row) for row in result.result.get("unexpected_index_list") or ())
    seen = ", ".join(dict.fromkeys(str(value) for value in result.result.get("partial_unexpected_list") or ()))
    text = f"{config.type} {about}" + (f": got {seen[:200]}" if seen else "") + (f" in {len(rows)} rows" if rows else "")
    if (result.exception_info or {}).get("raised_exception"):
        text += ": the expectation could not be evaluated"
    return Breach(str(getattr(config.severity, "value", config.severity)), text, rows)
