"""Reading the lake in the morning: SQL that stays in the lake, the night's rows, and what became of a run. No Spark."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hostile import hostile_lines
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.query import anomalies, query, run_outcomes
from nightlog.lake.tables import ANOMALIES, NIGHTS, OUTCOMES
from nightlog.outcomes import EXIT_NOT_THERE, EXIT_USAGE, Stage

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def bare(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    rows = [("b", "s1", 0.5, DS), ("a", "s2", 0.6, DS), ("a", "s1", 0.9, DS), ("a", "s3", 0.9, DS), ("a", "s0", 0.1, "2026-03-03")]
    lake.append(
        ANOMALIES,
        [
            {"system": system, "session_id": name, "score": score, "ds": ds, "lines": [{"file": "f", "line_no": 1, "text": "x"}]}
            for system, name, score, ds in rows
        ],
    )
    lake.append(NIGHTS, [{"ds": DS, "system": "a", "outcome": "done", "n_anomalies": 3}])
    return lake


def test_the_nights_anomalies_come_by_system_the_surest_first(bare: Lake) -> None:
    assert [(row["system"], row["session_id"]) for row in anomalies(bare, DS, None)] == [("a", "s1"), ("a", "s3"), ("a", "s2"), ("b", "s1")]
    assert [row["session_id"] for row in anomalies(bare, DS, "b")] == ["s1"]
    assert anomalies(bare, "2026-03-05", None) == []
    assert anomalies(Lake(bare.root + "-not-there"), DS, None) == []


def test_sql_sees_the_tables_under_their_names_and_the_views(bare: Lake) -> None:
    counted = query(bare, "select system, ds, count(*) as n from gold.anomalies group by all order by all")
    assert counted.to_pylist() == [
        {"system": "a", "ds": "2026-03-03", "n": 1},
        {"system": "a", "ds": DS, "n": 3},
        {"system": "b", "ds": DS, "n": 1},
    ]
    joined = query(bare, "select v.n_anomalies, count(*) as n from v_nights v join v_anomalies a using (ds, system) group by all")
    assert joined.to_pylist() == [{"n_anomalies": 3, "n": 3}]
    assert query(bare, "select lines[1].text as t from gold.anomalies limit 1").to_pylist() == [{"t": "x"}]
    assert query(bare, "select * from gold.anomalies where false").column_names == ANOMALIES.names


@pytest.mark.parametrize(
    ("sql", "told", "code"),
    [
        ("selec 1", "syntax error", EXIT_USAGE),
        ("select * from gold.nothing", "nothing", EXIT_NOT_THERE),
        ("select nobody from gold.nights", "nobody", EXIT_USAGE),
    ],
)
def test_wrong_sql_is_answered_with_what_is_wrong_and_the_tables(bare: Lake, sql: str, told: str, code: int) -> None:
    with pytest.raises(ConfigError) as caught:
        query(bare, sql)
    message = str(caught.value)
    assert told in message
    assert "tables: gold.anomalies, gold.nights" in message
    assert caught.value.exit_code == code


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('{file}')",
        "select * from read_text('{file}')",
        "select * from '{file}'",
        "select * from glob('{folder}/*')",
        "copy (select 1) to '{folder}/out.csv'",
        "copy (select 1) to '{folder}/out.csv'; select 1",
        "attach '{folder}/new.db' as db",
        "install httpfs",
        "load '{file}'",
        "set enable_external_access = true; select * from read_text('{file}')",
        "reset enable_external_access; select * from read_text('{file}')",
        "export database '{folder}/all'",
        "set temp_directory = '{folder}'",
        "set memory_limit = '1TB'",
        "pragma enable_profiling",
        "select 1; copy (select 1) to '{folder}/out.csv'",
        "select * from read_parquet('https://example.invalid/x.parquet')",
        "create secret s (type s3)",
        "select * from sniff_csv('{file}')",
        "import database '{folder}'",
        "select getenv('HOME')",
    ],
)
def test_sql_reaches_no_file_outside_the_lake(bare: Lake, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("name,word\nroot,hidden\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError) as caught:
        query(bare, sql.format(file=secret, folder=tmp_path))
    assert "hidden" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_sql_changes_nothing_in_the_lake(bare: Lake) -> None:
    for sql in ("delete from gold.anomalies", "drop table gold.anomalies", "insert into gold.nights select * from gold.nights"):
        with pytest.raises(ConfigError):
            query(bare, sql)
    assert len(bare.rows(ANOMALIES)) == 5


def test_hostile_text_in_sql_is_wrong_sql_or_a_plain_answer(bare: Lake) -> None:
    for line in hostile_lines("sql", "shell", "formula"):
        for sql in (line, f"select * from gold.nights where system = '{line}'"):
            with suppress(ConfigError):
                query(bare, sql)
    assert (len(bare.rows(ANOMALIES)), len(bare.rows(NIGHTS))) == (5, 1)
    assert not Path("/tmp/stolen").exists()
    assert not Path("/tmp/owned").exists()


def test_what_sql_makes_is_gone_with_the_answer(bare: Lake) -> None:
    query(bare, "create table kept as select 1 as one")
    with pytest.raises(ConfigError, match="kept"):
        query(bare, "select * from kept")


def test_sql_sees_no_variable_of_the_program(bare: Lake) -> None:
    for name in ("spec", "ALL_TABLES", "connection", "bare", "rows"):
        with pytest.raises(ConfigError):
            query(bare, f"select * from {name}")


def test_columns_of_the_same_name_are_kept_apart(bare: Lake) -> None:
    found = query(bare, "select 1 as a, 2 as a, a.ds, b.ds from gold.nights a join gold.nights b using (system)")
    assert found.to_pylist() == [{"a": 1, "a_2": 2, "ds": DS, "ds_2": DS}]


# What became of a run


def note(lake: Lake, system: str, stages: dict[str, str], run_id: str = "r", start: int = 0) -> None:
    rows = [
        {
            "run_id": run_id,
            "ds": DS,
            "system": system,
            "stage": stage,
            "outcome": outcome,
            "detail": None if outcome == "done" else f"why {stage}",
            "counts": {"n_anomalies": 7} if stage == "publish" else {},
            "at": NOON + timedelta(minutes=start + n),
        }
        for n, (stage, outcome) in enumerate(stages.items())
    ]
    lake.append(OUTCOMES, rows[::-1])


ALL = dict.fromkeys(Stage, "done")


def test_a_run_is_told_system_by_system(bare: Lake) -> None:
    note(bare, "whole", ALL)
    note(bare, "absent", {"ingest": "no_input"})
    note(bare, "garbled", {"ingest": "done", "parse": "gated"})
    note(bare, "broken", {"ingest": "done", "parse": "failed"})
    note(bare, "died", {"ingest": "done", "parse": "done", "embed": "done", "report": "done"})
    note(bare, "unread", ALL | {"report": "failed"})
    note(bare, "other", ALL, run_id="another run")
    assert run_outcomes(bare, DS, "r") == [
        ("absent", "no_input", "ingest: why ingest"),
        ("broken", "failed", "parse: why parse"),
        ("died", "failed", "nothing is known of it after stage embed: see the log of stage route"),
        ("garbled", "gated", "parse: why parse"),
        ("unread", "failed", "report: why report"),
        ("whole", "done", "7 anomalies"),
    ]


def test_a_stage_that_was_tried_again_counts_as_it_ended(bare: Lake) -> None:
    note(bare, "mended", {"ingest": "done", "parse": "transient"})
    note(bare, "mended", ALL, start=10)
    note(bare, "spoilt", ALL)
    note(bare, "spoilt", {"publish": "failed"}, start=20)
    assert run_outcomes(bare, DS, "r") == [("mended", "done", "7 anomalies"), ("spoilt", "failed", "publish: why publish")]


def test_a_run_that_left_nothing_has_no_outcomes(bare: Lake) -> None:
    assert run_outcomes(bare, DS, "never ran") == []
    note(bare, "whole", ALL)
    assert run_outcomes(bare, "2026-03-05", "r") == []
