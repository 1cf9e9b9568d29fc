"""The gates: Great Expectations on what a night would publish. Critical stops the system, warning is recorded."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

UNPARSED_SHARE = 0.2


@dataclass(frozen=True)
class Breach:
    """One expectation that was not met: `rows` are the numbers of the offending rows, where there are single ones."""

    severity: str
    text: str
    rows: tuple[int, ...]


def night_expectations() -> list[Any]:
    """What must hold of a night's counts before any of it is used."""
    from great_expectations import expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="unparsed_share", max_value=UNPARSED_SHARE, severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(column="replaced_share", max_value=0.2, severity="warning"),
        gxe.ExpectColumnValuesToBeBetween(column="without_session_share", max_value=0.9, severity="warning"),
    ]


def anomaly_expectations(ds: str, system: str) -> list[Any]:
    """What must hold of the rows that would go to gold.anomalies."""
    from great_expectations import expectations as gxe

    required = ("session_id", "pattern_id", "n_events", "score", "decided_by", "route", "status", "reason", "run_id", "n_lines")
    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=column, severity="critical") for column in required),
        gxe.ExpectColumnValuesToBeUnique(column="session_id", severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="ds", value_set=[ds], severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="system", value_set=[system], severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(column="score", min_value=0, max_value=1, severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="decided_by", value_set=["small_model", "llm", "feedback"], severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="route", value_set=["general", "proprietary"], severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="status", value_set=["open", "suppressed", "provisional"], severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(column="n_lines", min_value=1, severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(column="n_evidence", min_value=1, severity="warning"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="ended_at", column_B="started_at", or_equal=True, ignore_row_if="either_value_is_missing", severity="warning"
        ),
    ]


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


def breach(result: Any) -> Breach:
    """One failed expectation in words."""
    config = result.expectation_config
    about = {name: value for name, value in config.kwargs.items() if name != "batch_id" and value is not None}
    rows = tuple(int(row) for row in result.result.get("unexpected_index_list") or ())
    seen = ", ".join(dict.fromkeys(str(value) for value in result.result.get("partial_unexpected_list") or ()))
    text = f"{config.type} {about}" + (f": got {seen[:200]}" if seen else "") + (f" in {len(rows)} rows" if rows else "")
    if (result.exception_info or {}).get("raised_exception"):
        text += ": the expectation could not be evaluated"
    return Breach(str(getattr(config.severity, "value", config.severity)), text, rows)
