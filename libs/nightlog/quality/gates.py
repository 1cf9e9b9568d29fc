"""The gates: the rules that rows must keep, and the sums that must be zero. A critical breach stops the system, a warning is recorded.

The rules of a table are declared with its columns (`lake.schema.Rule`). Great Expectations validates the slice that would be published,
once a night, and names the rows that break a rule. The rules of other tables are counted over Arrow columns.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nightlog.errors import GateFailed
from nightlog.lake.schema import STRING, Column, Rule
from nightlog.lake.tables import TableSpec

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
    """One expectation that was not met. `rows`: numbers of the offending rows, if there are single ones; `seen`: some of their values."""

    severity: str
    expectation: str
    rows: tuple[int, ...] = ()
    seen: str = ""

    @property
    def text(self) -> str:
        """The breach in words."""
        return self.expectation + (f": got {self.seen}" if self.seen else "") + (f" in {len(self.rows):,} rows" if self.rows else "")


def broken_rules(spec: TableSpec, rows: pa.Table) -> Iterator[tuple[Column, Rule, pa.Array]]:
    """Yield each column whose rule is broken, the rule, and a mask of the rows that break it. Columns that are not there break none."""
    import pyarrow.compute as pc

    for column in spec.columns:
        if column.rule is not None and column.name in rows.column_names:
            mask = breaks_rule(column, column.rule, rows)
            if pc.any(mask).as_py():
                yield column, column.rule, mask


def breaks_rule(column: Column, rule: Rule, rows: pa.Table) -> pa.Array:
    """Return a mask of the rows whose value breaks a rule."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = rows.column(column.name).combine_chunks()
    if column.type == STRING:  # a merge by delta-rs writes them in another form
        values = values.cast(pa.string())
    measured = pc.list_value_length(values) if column.is_list else values
    mask = pc.is_null(values) if rule.required else pa.repeat(pa.scalar(False), len(values))
    if rule.values:
        mask = pc.or_(mask, pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, pa.array(rule.values, values.type)))))
    for bound, holds in ((rule.low, pc.greater_equal), (rule.high, pc.less_equal)):
        if bound is not None:  # what is not a number is outside, too
            mask = pc.or_(mask, pc.invert(pc.fill_null(holds(measured, bound), True)))
    if rule.not_before:
        mask = pc.or_(mask, pc.fill_null(pc.less(values, rows.column(rule.not_before).combine_chunks()), False))
    if rule.unique:
        counts = values.value_counts()
        repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        mask = pc.or_(mask, pc.and_(pc.is_valid(values), pc.is_in(values, repeated)))
    return mask


def check_slice(spec: TableSpec, rows: pa.Table) -> list[Breach]:
    """Return the rules of a table that rows to be published break, the critical ones first."""
    return validate(narrow_frame(spec, rows), expectations_of(spec)) if len(rows) else []


def narrow_frame(spec: TableSpec, rows: pa.Table) -> pd.DataFrame:
    """Return rows without their nested columns; instead of a list `name` there is its length, `n_name`."""
    import pyarrow.compute as pc

    narrow = rows.drop_columns(
        [column.name for column in spec.columns if not isinstance(column.type, str) and column.name in rows.column_names]
    )
    for column in spec.columns:
        if column.is_list and column.name in rows.column_names:
            narrow = narrow.append_column(f"n_{column.name}", pc.list_value_length(rows.column(column.name)))
    frame: pd.DataFrame = narrow.to_pandas()
    return frame


def expectations_of(spec: TableSpec) -> Iterator[Any]:
    """Yield the rules of a table as expectations about the columns of `narrow_frame`."""
    from great_expectations import expectations as gxe

    for each in spec.columns:
        if (rule := each.rule) is None:
            continue
        about = {"column": f"n_{each.name}" if each.is_list else each.name, "severity": rule.severity}
        if rule.required:
            yield gxe.ExpectColumnValuesToNotBeNull(**about)
        if rule.unique:
            yield gxe.ExpectColumnValuesToBeUnique(**about)
        if rule.values:
            yield gxe.ExpectColumnValuesToBeInSet(value_set=list(rule.values), **about)
        if rule.low is not None or rule.high is not None:
            yield gxe.ExpectColumnValuesToBeBetween(min_value=rule.low, max_value=rule.high, **about)
        if rule.not_before:
            pair = {"column_A": each.name, "column_B": rule.not_before, "or_equal": True, "ignore_row_if": "either_value_is_missing"}
            yield gxe.ExpectColumnPairValuesAToBeGreaterThanB(**pair, severity=rule.severity)


@dataclass(frozen=True)
class SessionCounts:
    """The counts of rows of silver.sessions: the sessions of each pattern, and rows with faults."""

    of_pattern: Mapping[str, int]
    n_repeated: int = 0
    n_without_events: int = 0
    n_end_early: int = 0

    @property
    def n(self) -> int:
        """All sessions."""
        return sum(self.of_pattern.values())


def count_sessions(rows: pa.Table) -> SessionCounts:
    """Return the counts of rows (session_id, pattern_id, started_at, ended_at, n_events) of silver.sessions."""
    import pyarrow.compute as pc

    of_pattern = rows.column("pattern_id").cast("string").value_counts().to_pylist()
    return SessionCounts(
        {str(each["values"]): each["counts"] for each in of_pattern},
        len(rows) - pc.count_distinct(rows.column("session_id").cast("string")).as_py(),
        len(rows) - (pc.sum(pc.greater(rows.column("n_events"), 0)).as_py() or 0),
        pc.sum(pc.less(rows.column("ended_at"), rows.column("started_at"))).as_py() or 0,
    )


def sum_counts(found: Sequence[SessionCounts]) -> SessionCounts:
    """Return the counts of several parts as one."""
    of_pattern = Counter[str]()
    for each in found:
        of_pattern.update(each.of_pattern)
    names = ("n_repeated", "n_without_events", "n_end_early")
    return SessionCounts(of_pattern, *(sum(getattr(each, name) for each in found) for name in names))


def judged_sums(
    sessions: SessionCounts, patterns: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Return the faults in a night's slices, by the names in JUDGED; all 0 if there are none.

    Args: rows of silver.patterns (pattern_id, n_sessions), routes (pattern_id, route, similarity) and scores (pattern_id, probability).
    """
    known = Counter(row["pattern_id"] for row in patterns)
    routed, scored = (Counter(row["pattern_id"] for row in rows) for rows in (routes, scores))
    return {
        "sessions_repeated": sessions.n_repeated,
        "sessions_without_pattern": sum(n for pattern, n in sessions.of_pattern.items() if pattern not in known),
        "sessions_without_events": sessions.n_without_events,
        "sessions_that_end_before_they_start": sessions.n_end_early,
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


def import_expectations() -> None:
    """Import Great Expectations, which takes two seconds; a thread can do so while other processes work."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations  # noqa: F401


def validate(frame: pd.DataFrame, expectations: Iterable[Any]) -> list[Breach]:
    """Validate a frame with Great Expectations; what is not met, the critical ones first."""
    import_expectations()
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
    """Return a breach for each sum that is not zero, the critical ones first. Args: severities: name of a sum → severity.

    >>> check_sums({"sessions_repeated": 2, "routes_unknown": 0}, JUDGED)
    [Breach(severity='critical', expectation='sessions_repeated: 2, expected 0', rows=(), seen='')]
    """
    breaches = [Breach(severities[name], f"{name}: {n:,}, expected 0") for name, n in sums.items() if n]
    return sorted(breaches, key=lambda found: found.severity != "critical")


def breach(result: Any) -> Breach:
    """Return one failed expectation in words."""
    config = result.expectation_config
    about = {name: value for name, value in config.kwargs.items() if name != "batch_id" and value is not None}
    rows = tuple(int(row) for row in result.result.get("unexpected_index_list") or ())
    seen = ", ".join(dict.fromkeys(str(value) for value in result.result.get("partial_unexpected_list") or ()))
    text = f"{config.type} {about}"
    if (result.exception_info or {}).get("raised_exception"):
        text += ": the expectation could not be evaluated"
    return Breach(str(getattr(config.severity, "value", config.severity)), text, rows, seen[:200])


def merge_breaches(found: Iterable[Breach]) -> list[Breach]:
    """Return the breaches of several blocks of rows, one per expectation, the critical ones first. Row numbers are those in their block."""
    merged: dict[tuple[str, str], Breach] = {}
    for each in found:
        key = each.severity, each.expectation
        merged[key] = replace(merged[key], rows=merged[key].rows + each.rows) if key in merged else each
    return sorted(merged.values(), key=lambda each: each.severity != "critical")
