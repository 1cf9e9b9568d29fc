"""Small tables without Spark: put, upsert, rows; the tables' specs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import SchemaMismatch
from nightlog.lake.delta import sql_condition
from nightlog.lake.lake import Lake
from nightlog.lake.schema import spark_schema
from nightlog.lake.tables import ALL_TABLES, ANOMALIES, EVENTS_TABLE, MODELS, NIGHTS, OUTCOMES, QUARANTINE, SESSIONS, VERDICTS
from nightlog.lake.time_travel import restore

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def bare(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def aside(system: str, ds: str, row: str) -> dict[str, Any]:
    return {"system": system, "ds": ds, "stage": "parse", "row": row}


def shown(lake: Lake, **equal: str) -> list[tuple[Any, ...]]:
    return sorted((row["system"], row["ds"], row["row"]) for row in lake.rows(QUARANTINE, **equal))


def test_put_adds_and_put_in_the_place_of_a_slice_replaces_it_alone(bare: Lake) -> None:
    bare.append(QUARANTINE, [aside("a", "1", "x"), aside("a", "1", "x"), aside("b", "1", "y")])
    bare.append(QUARANTINE, [aside("a", "2", "z")])
    assert shown(bare) == [("a", "1", "x"), ("a", "1", "x"), ("a", "2", "z"), ("b", "1", "y")]

    bare.replace(QUARANTINE, [aside("a", "1", "new")], system="a", ds="1")
    assert shown(bare) == [("a", "1", "new"), ("a", "2", "z"), ("b", "1", "y")]

    bare.replace(QUARANTINE, [], system="a", ds="1")
    assert shown(bare) == [("a", "2", "z"), ("b", "1", "y")]


def test_putting_nothing_makes_no_table_and_no_version(bare: Lake) -> None:
    bare.append(QUARANTINE, [])
    bare.replace(QUARANTINE, [], system="a")
    assert not bare.exists(QUARANTINE)
    bare.append(QUARANTINE, [aside("a", "1", "x")])
    bare.append(QUARANTINE, [])
    assert bare.table(QUARANTINE).version() == 0


def test_rows_come_with_the_values_and_the_columns_that_were_asked_for(bare: Lake) -> None:
    bare.append(QUARANTINE, [aside("a", "1", "x"), aside("a", "2", "y"), aside("b", "1", "z")])
    assert shown(bare, system="a") == [("a", "1", "x"), ("a", "2", "y")]
    assert shown(bare, system="a", ds="2") == [("a", "2", "y")]
    assert shown(bare, system="nobody") == []
    assert bare.rows(QUARANTINE, ["row"], ds="2") == [{"row": "y"}]


def test_values_with_quotes_are_values_and_not_sql(bare: Lake) -> None:
    odd = ["it's", "' or ''='", 'double "quoted"', "semi; colon", "percent % _", "größe 漢"]
    bare.append(QUARANTINE, [aside(name, "1", "old") for name in odd])
    for name in odd:
        bare.replace(QUARANTINE, [aside(name, "1", "new")], system=name, ds="1")
        assert shown(bare, system=name) == [(name, "1", "new")]
    assert len(shown(bare)) == len(odd)
    assert sql_condition({"system": "it's", "ds": "1"}) == "system = 'it''s' and ds = '1'"


def verdict(pattern: str, label: str, prompt: str = "p1") -> dict[str, Any]:
    return {"system": "a", "question_id": pattern, "prompt": prompt, "llm": "m", "label": label, "confidence": 0.5, "asked_at": NOON}


def test_upsert_replaces_by_key_and_adds_what_is_new_in_one_commit(bare: Lake) -> None:
    bare.merge(VERDICTS, [verdict("x", "unclear"), verdict("y", "normal")])
    bare.merge(VERDICTS, [verdict("x", "anomalous"), verdict("x", "normal", "p2"), verdict("z", "normal")])
    found = sorted((row["question_id"], row["prompt"], row["label"]) for row in bare.rows(VERDICTS))
    assert found == [("x", "p1", "anomalous"), ("x", "p2", "normal"), ("y", "p1", "normal"), ("z", "p1", "normal")]
    assert bare.table(VERDICTS).version() == 1


def test_nested_values_and_times_come_back_as_they_went_in(bare: Lake) -> None:
    night = {
        "ds": "2026-03-04",
        "system": "a",
        "tau_curve": [{"tau": 0.5, "proprietary_share": 1.0}],
        "versions": {"model": "m", "prompt": None, "llm": None, "encoder": "e", "templates": "t"},
        "run_at": NOON,
    }
    bare.append(NIGHTS, [night])
    bare.append(OUTCOMES, [{"run_id": "r", "counts": {"n_lines": 2**40}, "at": NOON}])
    bare.append(MODELS, [{"version": "v", "sources": ["a", "b"], "metrics": {"f1": 0.5}}])
    (found,) = bare.rows(NIGHTS)
    assert {name: found[name] for name in night} == night
    assert dict(bare.rows(OUTCOMES)[0]["counts"]) == {"n_lines": 2**40}
    assert bare.rows(MODELS)[0]["sources"] == ["a", "b"]
    assert bare.rows(MODELS)[0]["created_at"] is None


def test_every_table_is_sound() -> None:
    assert len({spec.name for spec in ALL_TABLES}) == len(ALL_TABLES)
    for spec in ALL_TABLES:
        names = spec.names
        assert len(set(names)) == len(names), spec.name
        assert set(spec.key) | set(spec.partition) <= set(names), spec.name
        assert all(column.meaning for column in spec.columns), spec.name
        assert spec.name.split(".")[0] in ("bronze", "silver", "gold", "ops")


def test_the_promised_columns_of_the_anomalies_are_there() -> None:
    promised = "ds system session_id started_at ended_at noticed_at n_events score decided_by route status reason evidence lines"
    assert [*promised.split(), "pattern_id", "versions"] == [name for name in ANOMALIES.names if not name.startswith("run_")]
    evidence = {field.name for field in spark_schema(ANOMALIES)["evidence"].dataType.elementType.fields}
    assert evidence >= {"template", "count", "nearest_source_template", "similarity", "weight"}
    assert [field.name for field in spark_schema(ANOMALIES)["lines"].dataType.elementType.fields] == ["file", "line_no", "text"]


def test_the_descriptions_of_columns_are_written_into_the_tables(bare: Lake) -> None:
    for spec in (SESSIONS, EVENTS_TABLE, NIGHTS):
        bare.append(spec, [{"system": "a", "ds": "2026-03-04"}])
        written = {field.name: field.metadata for field in bare.table(spec).schema().fields}
        assert {column.name: {"comment": column.meaning} for column in spec.columns} == written


def test_a_table_with_a_newer_protocol_is_refused_with_what_to_do_and_comes_back(bare: Lake) -> None:
    row = {"system": "app", "ds": "2026-03-04", "session_id": "s"}
    bare.append(SESSIONS, [row])
    action = {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["deletionVectors"],
            "writerFeatures": ["deletionVectors"],
        }
    }
    Path(bare.path(SESSIONS), "_delta_log", f"{1:020}.json").write_text(json.dumps(action) + "\n")
    for read in (bare.rows, bare.arrow, lambda spec: bare.parts(spec, system="app")):
        with pytest.raises(SchemaMismatch, match=r"reader version 3, expected 1.*nightlog restore"):
            read(SESSIONS)
    assert restore(bare, SESSIONS, 0) == 0
    assert [each["session_id"] for each in bare.rows(SESSIONS)] == ["s"]
