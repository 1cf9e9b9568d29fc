"""Each rule of bronze.lines and of the tables of ops is broken by what it is about, alone; sound rows break none."""

from __future__ import annotations

import math
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from nightlog.errors import GateFailed
from nightlog.lake.lake import Lake
from nightlog.lake.parts import schema_of, write_part
from nightlog.lake.schema import arrow_schema
from nightlog.lake.tables import ANSWERS, LINES_TABLE, MODELS, OUTCOMES, TableSpec
from nightlog.quality.rules import LINES, OF_ALL_NIGHTS, OF_THE_NIGHT, check_lines, line_faults, sums_of, unsound_ops, unsound_rows

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def lines(*numbers: int | None, file: str = "a.log") -> pa.Table:
    return pa.table({"file": pa.array([file] * len(numbers), pa.string()), "line_no": pa.array(numbers, pa.int64())})


def test_lines_in_any_number_of_parts_and_files_are_sound() -> None:
    for parts in ([], [lines(1, 2, 3)], [lines(3, 4), lines(1, 2), lines(1, 2, file="b.log")], [lines(2, 1)]):
        assert set(line_faults(map(sums_of, parts), sum(map(len, parts))).values()) == {0}


@pytest.mark.parametrize(
    ("parts", "n_read", "n_null", "broken"),
    [
        ([lines(1, 2)], 3, 0, "lines_other_than_were_read"),
        ([lines(1, 2, 3)], 2, 0, "lines_other_than_were_read"),
        ([lines(1, 2)], 2, 1, "lines_without_file_number_or_text"),
        ([lines(1, 2), lines(2)], 3, 0, "files_not_numbered_from_1_on"),
        ([lines(1, 1, 3)], 3, 0, "files_not_numbered_from_1_on"),
        ([lines(2, 3)], 2, 0, "files_not_numbered_from_1_on"),
    ],
)
def test_each_break_of_the_lines_is_counted_alone(parts: list[pa.Table], n_read: int, n_null: int, broken: str) -> None:
    sums = [sums_of(part, n_null) for part in parts]
    assert [name for name, n in line_faults(sums, n_read).items() if n] == [broken]
    assert LINES[broken] == "critical"


def put_lines(lake: Lake, rows: list[dict[str, Any]]) -> None:
    part = write_part(lake.root, LINES_TABLE, pa.Table.from_pylist(rows, schema_of(LINES_TABLE)), system="shop", ds=DS)
    lake.replace(LINES_TABLE, [part], system="shop", ds=DS)


def test_a_night_whose_lines_are_not_those_that_were_read_goes_no_further(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    check_lines(lake, "shop", DS, 0)
    put_lines(lake, [{"file": "a", "line_no": n, "text": "x"} for n in (1, 2)])
    check_lines(lake, "shop", DS, 2)
    with pytest.raises(GateFailed, match=r"lines_other_than_were_read.*Run the night again"):
        check_lines(lake, "shop", DS, 3)
    for row in ({"file": "a", "line_no": 3, "text": None}, {"file": "a", "line_no": None, "text": "x"}):
        put_lines(lake, [*({"file": "a", "line_no": n, "text": "x"} for n in (1, 2)), row])
        with pytest.raises(GateFailed, match="lines_without_file_number_or_text"):
            check_lines(lake, "shop", DS, 3)


# A sound row of each table, and what breaks each of its rules.
ROWS: dict[str, dict[str, Any]] = {
    "ops.outcomes": {"run_id": "r", "ds": DS, "system": "shop", "stage": "parse", "outcome": "done", "seconds": 0.0, "at": NOON},
    "ops.llm_calls": {"system": "shop", "ds": DS, "run_id": "r", "llm": "openai/m", "round": 1, "calls": 0, "items": 0, "at": NOON}
    | dict.fromkeys(("tokens_in", "tokens_cached", "tokens_out"), 0)
    | {"money": 0.0},
    "ops.llm_batches": {"batch": "b", "system": "shop", "ds": DS, "run_id": "r", "status": "open", "round": 2, "submitted_at": NOON}
    | {"calls": 1, "tokens_in": 1, "tokens_out": 1, "money": 0.1},
    "ops.answers": {"system": "shop", "kind": "label", "about": "pattern", "group": "g", "label": "normal"}
    | {"answered_by": "kim", "answered_at": NOON},
    "ops.quarantine": {"system": "shop", "ds": DS, "stage": "parse", "reason": "because", "row": "{}", "run_id": "r"},
    "ops.approvals": {"ds": DS, "system": "shop", "stage": "publish", "approved_by": "kim", "approved_at": NOON},
    "ops.handoffs": {"ds": DS, "run_id": "r", "kind": "export", "outcome": "failed", "at": NOON},
    "ops.models": {"version": "a" * 16, "system": "", "sha256": "a" * 64, "status": "promoted"},
}
BREAKS: dict[str, list[tuple[str, Any]]] = {
    "ops.outcomes": [
        ("at", None),
        ("run_id", None),
        ("stage", "guess"),
        ("stage", None),
        ("outcome", "fine"),
        ("seconds", -0.1),
        ("seconds", math.nan),
    ],
    "ops.llm_calls": [("llm", None), ("at", None), ("round", 3), ("calls", -1), ("tokens_out", -1), ("money", -0.01)],
    "ops.llm_batches": [("submitted_at", None), ("status", "paid"), ("round", None), ("money", -1.0)],
    "ops.answers": [("kind", "guess"), ("about", "line"), ("label", "odd"), ("group", None), ("answered_by", None), ("answered_at", None)],
    "ops.quarantine": [("stage", "x"), ("reason", None), ("row", "{"), ("row", "[]"), ("row", None)],
    "ops.approvals": [("stage", "embed"), ("approved_by", None), ("approved_at", None)],
    "ops.handoffs": [("kind", "fax"), ("outcome", None), ("at", None)],
    "ops.models": [("status", "best"), ("sha256", "b" * 64), ("sha256", "a" * 16), ("sha256", None)],
}
CHECKED = (*OF_THE_NIGHT, *OF_ALL_NIGHTS)


def breaches_of(spec: TableSpec, *rows: dict[str, Any]) -> dict[str, list[str]]:
    """System → texts of the breaches in rows of a table."""
    found = unsound_rows(spec, pa.Table.from_pylist(list(rows), arrow_schema(spec)))
    return {system: [breach.text for breach in breaches] for system, breaches in found.items()}


@pytest.mark.parametrize("spec", CHECKED, ids=lambda spec: spec.name)
def test_each_rule_of_a_table_is_broken_by_what_it_is_about_alone(spec: TableSpec) -> None:
    sound = ROWS[spec.name]
    assert breaches_of(spec) == breaches_of(spec, sound) == {}
    for column, value in BREAKS[spec.name]:
        found = breaches_of(spec, sound | {column: value})
        assert list(found) == [sound.get("system", "")]
        (text,) = found[sound.get("system", "")]
        assert text.startswith(f"{spec.name}: 1 row with a wrong {column}, expected "), (column, value, text)


@pytest.mark.parametrize("spec", CHECKED, ids=lambda spec: spec.name)
def test_rows_that_may_be_there_once_alone_are_not_there_twice(spec: TableSpec) -> None:
    repeated = breaches_of(spec, ROWS[spec.name], dict(ROWS[spec.name]))
    expected = {"ops.outcomes": "stage and time once", "ops.llm_batches": "each value once", "ops.models": "one promoted model per system"}
    assert (list(repeated.values()) != []) == (spec.name in expected)
    assert all(expected[spec.name] in text for texts in repeated.values() for text in texts)


def test_models_that_do_not_serve_may_be_many() -> None:
    others = [ROWS["ops.models"] | {"status": status} for status in ("candidate", "retired", "retired")]
    assert breaches_of(MODELS, ROWS["ops.models"], *others, ROWS["ops.models"] | {"system": "shop"}) == {}


def named(text: str) -> str:
    """The table and the column that a breach is about."""
    return f"{text.partition(':')[0]} {text.partition(' wrong ')[2].partition(',')[0]}"


def test_what_is_broken_is_found_in_the_lake_and_said_of_its_system_and_night(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for spec in CHECKED:
        lake.append(spec, [ROWS[spec.name]])
    assert unsound_ops(lake, DS) == {}
    outcome = ROWS["ops.outcomes"]
    lake.append(OUTCOMES, [outcome | {"system": "mail", "seconds": -1.0}, outcome | {"ds": "2026-03-03", "stage": "x"}])
    lake.append(ANSWERS, [ROWS["ops.answers"] | {"label": "odd"}])
    lake.append(MODELS, [ROWS["ops.models"] | {"version": "b" * 16, "sha256": "b" * 64}])
    found = {system: [(each.severity, named(each.text)) for each in some] for system, some in unsound_ops(lake, DS).items()}
    assert found == {
        "mail": [("warning", "ops.outcomes seconds")],
        "shop": [("critical", "ops.answers label")],
        "": [("critical", "ops.models status")],
    }
    shutil.rmtree(lake.root)
    assert unsound_ops(Lake(lake.root), DS) == {}
