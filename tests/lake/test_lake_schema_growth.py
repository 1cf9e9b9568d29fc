"""A lake of the first version opens, its tables gain columns by themselves, and a night runs on it; a change of type is refused."""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import SchemaMismatch
from nightlog.lake.lake import Lake
from nightlog.lake.parts import read_part, write_frame
from nightlog.lake.query import VIEWS, query, spark_views
from nightlog.lake.schema import DOUBLE, LONG, Column, TableSpec, array, struct
from nightlog.lake.tables import ALL_TABLES, ANOMALIES, MODELS, NIGHTS, SESSIONS, TEMPLATES, VERDICTS
from nightlog.outcomes import EXIT_PERMANENT, Stage
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog
from nights import run_night

V1 = Path(__file__).parent / "data" / "lake_v1.tar.gz"
NEW = Column("n_new", LONG, "a column of a later version")


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    """A folder with the lake of two nights that the first version of Nightlog wrote, its system, its logs and recorded verdicts."""
    with tarfile.open(V1) as archive:
        archive.extractall(tmp_path / "v1", filter="data")
    return tmp_path / "v1"


def later(spec: TableSpec) -> TableSpec:
    """The table in a later version: a column more, before the last one."""
    return dataclasses.replace(spec, columns=(*spec.columns[:-1], NEW, spec.columns[-1]))


def nested_later(spec: TableSpec) -> TableSpec:
    """The table in a later version whose nested records have a field more."""

    def wider(kind: Any) -> Any:
        if isinstance(kind, str) or kind["type"] == "map":
            return kind
        if kind["type"] == "array":
            return array(wider(kind["elementType"]))
        return struct(**{field["name"]: field["type"] for field in kind["fields"]}, n_new=LONG)

    return dataclasses.replace(spec, columns=tuple(column._replace(type=wider(column.type)) for column in spec.columns))


def others(spec: TableSpec) -> list[str]:
    return [name for name in spec.names if name not in ("n_new", "template_id")]


def tables_of(lake: Lake) -> list[TableSpec]:
    """The tables that the first version had."""
    return [spec for spec in ALL_TABLES if lake.exists(spec)]


def without_new(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert all(row["n_new"] is None for row in rows)
    return [{name: value for name, value in row.items() if name != "n_new"} for row in rows]


def test_every_table_of_the_first_version_is_read_and_lacks_no_row(v1: Path) -> None:
    lake = Lake(v1 / "lake")
    assert len(tables_of(lake)) == 25
    for spec in tables_of(lake):
        rows = lake.rows(spec)
        assert rows and set(rows[0]) == set(spec.names), spec.name
        assert query(lake, f"select * from {spec.name}").num_rows == len(rows)
    for view in (view for view in VIEWS if lake.exists(view.over)):
        assert query(lake, f"select * from {view.name}").num_rows == len(lake.rows(view.over)), view.name
    assert {row["session_id"] for row in lake.rows(ANOMALIES)} == {"s0217", "s0317"}


def test_a_night_runs_on_the_lake_of_the_first_version_and_its_verdicts_count(v1: Path) -> None:
    lake = Lake(v1 / "lake")
    settings = Settings(llm="recorded", llm_recorded=v1 / "verdicts.jsonl", device="cpu", data=v1 / "logs", systems=v1 / "systems")
    before = {row["question_id"]: row["asked_at"] for row in lake.rows(VERDICTS)}
    outcomes = run_night(lake, settings, [load_catalog(v1 / "systems")["shop"]], "2026-03-04", "later")
    assert {stage: outcome.outcome for (_, stage), outcome in outcomes.items()} == dict.fromkeys(Stage, "done")
    assert [row["session_id"] for row in lake.rows(ANOMALIES, ds="2026-03-04")] == ["s0417"]
    assert {row["question_id"]: row["asked_at"] for row in lake.rows(VERDICTS)} == before, "nothing is asked twice"
    nights = {row["ds"]: (row["outcome"], row["n_sessions"], row["n_anomalies"]) for row in lake.rows(NIGHTS)}
    assert nights == {f"2026-03-0{day}": ("done", 30, 1) for day in (2, 3, 4)}


def test_a_column_that_a_table_lacks_is_null(v1: Path) -> None:
    """By Arrow, where every table is; with a filter on it; in a part file; and at an earlier version, whose reader knows more."""
    lake = Lake(v1 / "lake")
    for spec in tables_of(lake):
        rows = lake.rows(later(spec))
        assert list(rows[0]) == later(spec).names
        assert without_new(rows) == lake.rows(spec), spec.name
    assert lake.rows(later(SESSIONS), ["n_new"], session_id="s0217") == [{"n_new": None}]
    part = lake.parts(later(SESSIONS), system="shop", ds="2026-03-02")[0]
    assert set(read_part(lake.root, later(SESSIONS), part.path, ["n_new"]).column("n_new").to_pylist()) == {None}
    assert {row["versions"]["n_new"] for row in lake.rows(nested_later(NIGHTS))} == {None}
    assert {line["n_new"] for row in lake.rows(nested_later(ANOMALIES)) for line in row["lines"]} == {None}
    assert lake.table(SESSIONS).version() == Lake(v1 / "lake").table(SESSIONS).version(), "a reader writes nothing"


def test_spark_reads_a_column_that_a_table_lacks_as_null(v1: Path, lake: Lake) -> None:
    old = Lake(v1 / "lake", lake.runner.spark)
    for spec in (SESSIONS, TEMPLATES, VERDICTS, NIGHTS):
        rows = old.read(later(spec), system="shop")
        assert rows.schema.names == later(spec).names
        assert rows.where("n_new is null").count() == old.read(spec).count() > 0, spec.name
    assert old.read(later(SESSIONS), system="shop", ds="2026-03-02").where("n_new is null").count() == 30
    assert {row["e"]["n_new"] for row in old.read(nested_later(ANOMALIES)).selectExpr("explode(evidence) as e").collect()} == {None}
    assert old.read(later(SESSIONS), system="nobody").count() == 0
    assert set(spark_views(old)) == {view.name for view in VIEWS if old.exists(view.over)}


def test_a_table_gains_the_column_with_the_first_rows_that_are_written(v1: Path, lake: Lake) -> None:
    """In whichever way they are written; rows of before keep what they had."""
    old = Lake(v1 / "lake", lake.runner.spark)
    night = old.rows(NIGHTS, ds="2026-03-02")[0]
    before = {spec.name: old.rows(spec) for spec in (SESSIONS, NIGHTS, VERDICTS, MODELS, TEMPLATES)}

    old.append(later(NIGHTS), [night | {"ds": "2026-03-09", "n_new": 1}])
    old.replace(later(NIGHTS), [night | {"n_new": 2}], ds="2026-03-02", system="shop")
    assert {row["ds"]: row["n_new"] for row in old.rows(later(NIGHTS))} == {"2026-03-02": 2, "2026-03-03": None, "2026-03-09": 1}

    verdict = before[VERDICTS.name][0]
    old.merge(later(VERDICTS), [verdict | {"n_new": 3}, verdict | {"question_id": "q", "n_new": 4}])
    assert sorted(row["n_new"] or 0 for row in old.rows(later(VERDICTS))) == [0] * (len(before[VERDICTS.name]) - 1) + [3, 4]

    old.replace(later(SESSIONS), [{"session_id": "s", "n_new": 5}], system="shop", ds="2026-03-09")
    assert old.rows(later(SESSIONS), ["n_new"], ds="2026-03-09") == [{"n_new": 5}]
    assert len(without_new(old.rows(later(SESSIONS), ds="2026-03-02"))) == 30

    spec = later(TEMPLATES)
    old.append(spec, write_frame(old.root, spec, old.read(spec).limit(1).selectExpr(*others(spec), "'t' as template_id", "6L as n_new")))
    assert {row["template_id"]: row["n_new"] for row in old.rows(spec)}["t"] == 6
    old.replace(spec, write_frame(old.root, spec, old.read(spec).selectExpr(*others(spec), "template_id", "7L as n_new")), system="shop")
    assert {row["n_new"] for row in old.rows(spec)} == {7} and len(old.rows(spec)) == len(before[TEMPLATES.name]) + 1
    assert query(old, "select count(*) as n from silver.templates").to_pylist() == [{"n": len(before[TEMPLATES.name]) + 1}]

    fields = {field.name: field.metadata for field in old.table(NIGHTS).schema().fields}
    assert fields["n_new"] == {"comment": NEW.meaning}, "with its meaning"


def test_nested_records_gain_a_field(v1: Path) -> None:
    lake, spec = Lake(v1 / "lake"), nested_later(NIGHTS)
    night = lake.rows(spec, ds="2026-03-02")[0]
    lake.append(spec, [night | {"ds": "2026-03-09", "versions": night["versions"] | {"n_new": 1}, "tau_curve": [{"tau": 0.5, "n_new": 2}]}])
    found = {row["ds"]: (row["versions"]["n_new"], [at["n_new"] for at in row["tau_curve"]]) for row in lake.rows(spec)}
    n = len(night["tau_curve"])
    assert found == {"2026-03-02": (None, [None] * n), "2026-03-03": (None, [None] * n), "2026-03-09": (1, [2])}


def test_the_version_before_goes_on_with_a_table_that_has_gained_a_column(v1: Path) -> None:
    lake = Lake(v1 / "lake")
    night = lake.rows(NIGHTS, ds="2026-03-02")[0]
    lake.append(later(NIGHTS), [night | {"ds": "2026-03-09", "n_new": 1}])
    lake.append(NIGHTS, [night | {"ds": "2026-03-10"}])
    lake.replace(NIGHTS, [night | {"detail": "again"}], ds="2026-03-02")
    lake.merge(NIGHTS, [night | {"ds": "2026-03-11"}])
    lake.replace(later(SESSIONS), [{"session_id": "s", "n_new": 5}], system="shop", ds="2026-03-09")
    lake.replace(SESSIONS, [{"session_id": "s"}], system="shop", ds="2026-03-09")
    assert {row["ds"]: row["n_new"] for row in lake.rows(later(NIGHTS))} == {
        "2026-03-02": None,
        "2026-03-03": None,
        "2026-03-09": 1,
        "2026-03-10": None,
        "2026-03-11": None,
    }
    assert lake.rows(later(SESSIONS), ["n_new"], ds="2026-03-09") == [{"n_new": None}]


def test_a_column_that_is_described_in_other_words_is_the_same_column(v1: Path, lake: Lake) -> None:
    old = Lake(v1 / "lake", lake.runner.spark)

    def reworded(spec: TableSpec) -> TableSpec:
        return dataclasses.replace(spec, columns=tuple(column._replace(meaning="other words") for column in spec.columns))

    night, verdict = old.rows(NIGHTS)[0], old.rows(VERDICTS)[0]
    old.append(reworded(NIGHTS), [night | {"ds": "2026-03-09"}])
    old.replace(reworded(NIGHTS), [night | {"ds": "2026-03-09", "detail": "again"}], ds="2026-03-09")
    old.merge(reworded(VERDICTS), [verdict | {"label": "unclear"}, verdict | {"question_id": "q"}])
    few = old.read(SESSIONS).where("ds = '2026-03-02'").limit(3)
    old.replace(reworded(SESSIONS), write_frame(old.root, reworded(SESSIONS), few), ds="2026-03-02")
    assert [row["detail"] for row in old.rows(NIGHTS, ds="2026-03-09")] == ["again"]
    assert len(old.rows(SESSIONS, ds="2026-03-02")) == 3


def test_a_change_of_type_is_refused_by_readers_and_writers_with_what_to_do(v1: Path) -> None:
    lake = Lake(v1 / "lake")
    changed = dataclasses.replace(
        NIGHTS, columns=tuple(column._replace(type=DOUBLE) if column.name == "n_lines" else column for column in NIGHTS.columns)
    )
    version = lake.table(NIGHTS).version()
    for attempt in (
        lambda: lake.rows(changed),
        lambda: lake.append(changed, [{"ds": "2026-03-09"}]),
        lambda: lake.merge(changed, [{"ds": "2026-03-09"}]),
        lambda: lake.replace(changed, [{}], ds="2026-03-09"),
    ):
        with pytest.raises(SchemaMismatch, match=r"gold\.nights at .* has n_lines of type long, expected double") as caught:
            attempt()
        assert "nightlog restore" in str(caught.value) and caught.value.exit_code == EXIT_PERMANENT
    assert lake.table(NIGHTS).version() == version


def test_a_missing_column_of_the_key_is_refused(v1: Path) -> None:
    keyed = dataclasses.replace(later(SESSIONS), key=(*SESSIONS.key, "n_new"))
    with pytest.raises(SchemaMismatch, match="lacks n_new, which identifies a row"):
        Lake(v1 / "lake").rows(keyed)
