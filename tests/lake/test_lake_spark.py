"""What Spark writes to the lake: slices replaced whole, keyed rows merged, other versions' tables refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from nightlog.errors import SchemaMismatch
from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, write_frame
from nightlog.lake.schema import spark_schema
from nightlog.lake.tables import ALL_TABLES, SESSIONS, TEMPLATES, TableSpec

Row = dict[str, Any]


def frame(lake: Lake, spec: TableSpec, rows: Iterable[Row]) -> list[Part]:
    """Part files that Spark has written, with nulls in the columns that are not named."""
    whole = lake.runner.spark.createDataFrame([tuple(row.get(name) for name in spec.names) for row in rows], spark_schema(spec))
    return write_frame(lake.root, spec, whole)


def session(system: str, ds: str, session_id: str | None, n: int = 1) -> Row:
    return {"system": system, "ds": ds, "session_id": session_id, "n_events": n}


def sessions_in(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted((row["system"], row["ds"], row["session_id"], row["n_events"]) for row in lake.rows(SESSIONS))


def test_a_slice_is_replaced_alone_and_cleared_by_no_rows(lake: Lake) -> None:
    first = [session(system, ds, f"s{n}") for system in ("a", "b") for ds in ("2026-03-03", "2026-03-04") for n in range(2)]
    lake.append(SESSIONS, frame(lake, SESSIONS, first))
    assert len(sessions_in(lake)) == 8

    fresh = [session("a", "2026-03-04", "s1", 5), session("a", "2026-03-04", "s9"), session("a", "2026-03-04", "s9")]
    before, version = sessions_in(lake), lake.table(SESSIONS).version()
    lake.replace(SESSIONS, frame(lake, SESSIONS, fresh), system="a", ds="2026-03-04")
    others = [row for row in before if row[:2] != ("a", "2026-03-04")]
    assert sessions_in(lake) == sorted(others + [("a", "2026-03-04", each["session_id"], each["n_events"]) for each in fresh])
    assert lake.table(SESSIONS).version() == version + 1

    lake.replace(SESSIONS, frame(lake, SESSIONS, []), system="b", ds=["2026-03-03", "2026-03-04"])
    assert {row[0] for row in sessions_in(lake)} == {"a"}
    assert lake.nights(SESSIONS, "a") == {"2026-03-03", "2026-03-04"}
    assert lake.nights(SESSIONS, "b") == set()

    with pytest.raises(SchemaMismatch, match="outside the slice"):
        lake.replace(SESSIONS, frame(lake, SESSIONS, [session("b", "2026-03-09", "stray")]), system="a", ds="2026-03-04")
    assert {row[1] for row in sessions_in(lake)} == {"2026-03-03", "2026-03-04"}

    read = {(row["ds"], row["session_id"]) for row in lake.read(SESSIONS, system="a", ds="2026-03-04").collect()}
    assert read == {("2026-03-04", "s1"), ("2026-03-04", "s9")}


def template(name: str, text: str, widened: str) -> Row:
    return {"system": "a", "template_id": name, "text": text, "widened": widened, "ordinal": 1}


def test_an_upsert_inserts_new_keys_and_sets_only_what_is_named(lake: Lake) -> None:
    lake.merge(TEMPLATES, [template("t1", "one", "one"), template("t2", "two", "two")], update=["widened"])
    other = template("t1", "other system", "other system") | {"system": "b"}
    lake.merge(TEMPLATES, [template("t1", "changed", "<*>"), template("t3", "three", "three"), other], ["widened"])
    found = sorted((row["system"], row["template_id"], row["text"], row["widened"]) for row in lake.rows(TEMPLATES))
    assert found == [
        ("a", "t1", "one", "<*>"),
        ("a", "t2", "two", "two"),
        ("a", "t3", "three", "three"),
        ("b", "t1", "other system", "other system"),
    ]


def test_a_table_that_is_not_there_has_its_columns_and_no_rows(lake: Lake) -> None:
    for spec in ALL_TABLES:
        assert lake.read(spec, system="a").schema.names == spec.names
    assert lake.read(SESSIONS, system="a").collect() == []
    assert lake.rows(SESSIONS) == []
    assert lake.nights(SESSIONS, "a") == set()
