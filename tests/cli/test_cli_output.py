"""Rows on the terminal and for programs: as they are, with a header, and readable when they are wide."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from nightlog.cli import app
from nightlog.cli.analysts import print_question
from nightlog.feedback.questions import example
from typer.testing import CliRunner


def query(sql: str, form: str = "table", width: int = 100) -> str:
    done = CliRunner().invoke(app, ["query", sql, "--format", form], env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def no_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLOG_LAKE", str(tmp_path / "lake"))


def test_booleans_years_and_ids_are_printed_as_they_are() -> None:
    sql = "select true as ok, 2026 as year, 1234567 as id, null as nothing"
    table = query(sql)
    assert all(f" {word} " in table for word in ("true", "2026", "1234567"))
    assert query(sql, "csv") == "ok,year,id,nothing\ntrue,2026,1234567,\n"
    assert json.loads(query(sql, "json")) == [{"ok": True, "year": 2026, "id": 1234567, "nothing": None}]


@pytest.mark.parametrize(("form", "expected"), [("csv", "a,a_2,b\n1,2,3\n"), ("json", [{"a": 1, "a_2": 2, "b": 3}])])
def test_no_column_is_lost(form: str, expected: object) -> None:
    found = query("select 1 as a, 2 as a, 3 as b", form)
    assert (json.loads(found) if form == "json" else found) == expected


def test_an_answer_without_rows_has_its_columns() -> None:
    assert query("select 1 as a, 'x' as b where false", "csv") == "a,b\n"
    assert json.loads(query("select 1 as a where false", "json")) == []


def test_a_table_that_is_wider_than_the_terminal_has_a_line_for_each_value() -> None:
    names = [f"column_{n}" for n in range(30)]
    sql = f"select {', '.join(f'{n} as {name}' for n, name in enumerate(names))}, 'a long text that stays whole' as text"
    lines = query(sql, width=80).splitlines()
    assert lines[0] == "row 1" and len(lines) == 32
    assert [line.split() for line in lines[1:31]] == [[name, str(n)] for n, name in enumerate(names)]
    assert lines[31].endswith("a long text that stays whole")
    assert len(query(sql, width=900).splitlines()) == 5, "where there is room it is a table"


@pytest.mark.parametrize(
    ("form", "limit", "n"), [("table", None, 100), ("csv", None, 250), ("json", None, 250), ("table", 3, 3), ("csv", 3, 3), ("json", 3, 3)]
)
def test_a_limit_holds_in_every_form_and_a_message_says_that_there_is_more(form: str, limit: int | None, n: int) -> None:
    given = ["--limit", str(limit)] if limit else []
    done = CliRunner().invoke(app, ["query", "select 1000 + range as n from range(250)", "--format", form, *given], env={"COLUMNS": "100"})
    assert [int(each) for each in re.findall(r"1\d\d\d", done.stdout)] == list(range(1000, 1000 + n))
    assert ("only the first" in done.stderr) == (n < 250)


def test_a_question_shows_its_group_and_the_words_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    changes = {
        "added": [{"template": "closed: too many commands in=<NUM> out=<NUM> deleted=<NUM>", "count": 2}],
        "missing": [{"template": "closed: by the client in=<NUM> out=<NUM> deleted=<NUM>", "count": None}],
    }
    row = {"system": "mail", "group": "961bc8fb", "what": "Thrown out.", "patterns": 1, "sessions": 29, "decision": "anomalous"}
    print_question(row | {"probability": 0.72, "answer": None, "example": example(changes)})
    assert capsys.readouterr().out.splitlines() == [
        "961bc8fb  mail: 29 sessions of 1 pattern, so far anomalous, probability of an anomaly 0.72",
        "  Thrown out.",
        "    +2× closed: too many commands …",
        "    -closed: by the client …",
    ]
    assert example({"events": [{"template": "open", "count": 1}]}) == "1× open"
