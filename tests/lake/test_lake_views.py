"""The views are stable, usable from every engine as the docs say, and the docs are what the specs say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.query import VIEWS, query
from nightlog.lake.tables import ALL_TABLES
from nightlog.reference.dictionary import dictionary
from page_lake import DS, small_lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DOC = Path(__file__).resolve().parents[2] / "docs" / "tables.md"
AT_LEAST = {
    "v_anomalies": "ds system session_id pattern_id started_at n_events score decided_by route status reason evidence lines versions",
    "v_findings": "ds system finding_id pattern_id status score n_sessions telling is_new first_seen n_nights trend rank rank_reason",
    "v_incidents": "ds incident_id title systems finding_ids n_findings n_sessions joined_by first_seen is_new rank rank_reason",
    "v_nights": "ds system outcome detail n_files n_lines n_sessions n_patterns proprietary_share n_anomalies n_provisional run_at",
    "v_templates": "system template_id template widened first_message token_count first_ds",
    "v_verdicts": "system question_id label confidence reason asked_round group_name added missing events prompt llm ds asked_at",
    "v_signals": "ds system kind template_id template seen usual strength reason",
    "v_feedback": "system kind about target name said until session_id ds note said_by said_at label answered_by answered_at",
    "v_outcomes": "run_id ds system stage outcome detail counts seconds ended_at",
}


@pytest.fixture
def in_lakes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A small lake at `lake`, where the examples of the docs look for it."""
    monkeypatch.chdir(tmp_path)
    return small_lake(str(tmp_path / "lake"))


def example(engine: str) -> str:
    found = re.search(rf"```python {engine}\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)
    assert found is not None, f"docs/tables.md has no example for {engine}"
    return found[1]


def test_the_dictionary_in_the_docs_is_up_to_date() -> None:
    assert DOC.read_text(encoding="utf-8") == dictionary(), "run: python -m nightlog.reference.dictionary > docs/tables.md"


def test_every_table_says_what_a_row_is_and_what_its_columns_mean() -> None:
    assert [spec.name for spec in ALL_TABLES if not spec.about] == []
    assert [(spec.name, column.name) for spec in ALL_TABLES for column in spec.columns if not column.meaning] == []
    for spec in ALL_TABLES:
        assert set(spec.key) | set(spec.partition) <= set(spec.names)


def test_no_view_ever_loses_a_column(in_lakes_folder: Lake) -> None:
    for view in VIEWS:
        columns = query(in_lakes_folder, f"select * from {view.name} limit 0").column_names
        assert set(AT_LEAST[view.name].split()) <= set(columns)


def test_rows_that_were_merged_can_be_filtered_and_joined(in_lakes_folder: Lake) -> None:
    found = query(
        in_lakes_folder,
        "select v.group_name, v.asked_round, a.reason from v_verdicts v join v_anomalies a on v.question_id = a.pattern_id "
        f"where v.system = 'shop' and v.label = 'anomalous' and a.ds = '{DS}'",
    )
    assert found.to_pylist() == [{"group_name": "gone", "asked_round": 2, "reason": "known and accepted"}]


def test_the_docs_example_for_duckdb(in_lakes_folder: Lake) -> None:
    names: dict[str, Any] = {}
    exec(example("duckdb"), names)
    assert len(names["rows"]) == 9 * 7 + 3 * 2 + 2 * 2, "p-lost, p-slow on three nights, p-hush on two"
    assert ("p-lost-0", "raw p-lost-0 5 disk <NUM> lost") in names["rows"]


def test_the_docs_example_for_pandas(in_lakes_folder: Lake) -> None:
    names: dict[str, Any] = {}
    exec(example("pandas"), names)
    shares = names["nights"].set_index(["ds", "system"])["share"].to_dict()
    assert shares[DS, "shop"] == pytest.approx(13 / 55) and shares[DS, "index"] == 0


def test_the_docs_example_for_polars(in_lakes_folder: Lake) -> None:
    names: dict[str, Any] = {}
    exec(example("polars"), names)
    assert names["verdicts"].rows() == [("shop", "anomalous", 0.7, "gone")]


@pytest.mark.slow
def test_the_docs_example_for_spark(in_lakes_folder: Lake, spark: SparkSession, tmp_path: Path) -> None:
    text = example("spark")
    assert 'Lake("lake", spark)' in text
    names: dict[str, Any] = {"spark": spark}
    exec(text.replace('Lake("lake"', f"Lake({str(tmp_path / 'lake')!r}"), names)
    assert [tuple(row) for row in names["new"].collect()] == [("shop", "disk <NUM> lost")]
    both = spark.sql(
        f"select group_name, versions.model from v_verdicts v join v_anomalies a on question_id = pattern_id where a.ds = '{DS}'"
    )
    assert [tuple(row) for row in both.collect()] == [("gone", "m1")]
