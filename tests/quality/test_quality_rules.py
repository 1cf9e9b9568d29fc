"""Each rule of bronze.lines and of the tables of ops is broken by what it is about, alone; sound rows break none."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from nightlog.errors import GateFailed
from nightlog.lake.lake import Lake
from nightlog.lake.parts import schema_of, write_part
from nightlog.lake.tables import ANSWERS, LINES_TABLE, MODELS, OUTCOMES
from nightlog.quality.rules import LINES, OPS, Rules, check_lines, line_sums, rule_sums, unsound_ops

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def lines(*numbers: int | None, file: str = "a.log") -> pa.Table:
    return pa.table({"file": pa.array([file] * len(numbers), pa.string()), "line_no": pa.array(numbers, pa.int64())})


def test_lines_in_any_number_of_parts_and_files_are_sound() -> None:
    for parts in ([], [lines(1, 2, 3)], [lines(3, 4), lines(1, 2), lines(1, 2, file="b.log")], [lines(2, 1)]):
        assert set(line_sums(parts, sum(map(len, parts)), 0).values()) == {0}


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
    assert [name for name, n in line_sums(parts, n_read, n_null).items() if n] == [broken]
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
BREAKS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "ops.outcomes": {
        "without run, system or time": [{"at": None}, {"run_id": None}],
        "stage unknown": [{"stage": "guess"}, {"stage": None}],
        "outcome unknown": [{"outcome": "fine"}],
        "seconds below 0": [{"seconds": -0.1}, {"seconds": float("nan")}],
    },
    "ops.llm_calls": {
        "without run, LLM or time": [{"llm": None}, {"at": None}],
        "round unknown": [{"round": 3}],
        "costs below 0": [{"calls": -1}, {"tokens_out": -1}, {"money": -0.01}],
    },
    "ops.llm_batches": {
        "without run or time": [{"submitted_at": None}],
        "status unknown": [{"status": "paid"}],
        "round unknown": [{"round": None}],
        "costs below 0": [{"money": -1.0}],
    },
    "ops.answers": {
        "kind unknown": [{"kind": "guess"}],
        "about something unknown": [{"about": "line"}],
        "label unknown": [{"label": "odd"}],
        "about nothing, by nobody or at no time": [{"group": None}, {"answered_by": None}, {"answered_at": None}],
    },
    "ops.quarantine": {
        "stage unknown": [{"stage": "x"}],
        "without reason": [{"reason": None}],
        "not JSON": [{"row": "{"}, {"row": "[]"}, {"row": None}],
    },
    "ops.approvals": {
        "stage unknown": [{"stage": "embed"}],
        "by nobody or at no time": [{"approved_by": None}, {"approved_at": None}],
    },
    "ops.handoffs": {"kind unknown": [{"kind": "fax"}], "outcome unknown": [{"outcome": None}], "at no time": [{"at": None}]},
    "ops.models": {
        "status unknown": [{"status": "best"}],
        "digest and version differ": [{"sha256": "b" * 64}, {"sha256": "a" * 16}, {"sha256": None}],
    },
}


@pytest.mark.parametrize("rules", OPS, ids=lambda rules: rules.spec.name)
def test_each_rule_of_a_table_is_broken_by_what_it_is_about_alone(rules: Rules) -> None:
    sound, breaks = ROWS[rules.spec.name], BREAKS[rules.spec.name]
    assert breaks.keys() == rules.broken.keys()
    assert set(rules.columns) <= sound.keys()
    assert rule_sums(rules, []) == rule_sums(rules, [sound]) == {}
    for name, changes in breaks.items():
        for change in changes:
            expected = {sound.get("system", ""): {f"{rules.spec.name}: {name}": 1}}
            assert rule_sums(rules, [sound | change]) == expected, (name, change)
    twice = {sound.get("system", ""): {f"{rules.spec.name}: repeated": 1}}
    assert rule_sums(rules, [sound, dict(sound)]) == (twice if rules.key is not None else {})


def test_models_that_do_not_serve_may_be_many(tmp_path: Path) -> None:
    rules = next(rules for rules in OPS if rules.spec == MODELS)
    others: list[Mapping[str, Any]] = [ROWS["ops.models"] | {"status": status} for status in ("candidate", "retired", "retired")]
    assert rule_sums(rules, [ROWS["ops.models"], *others, ROWS["ops.models"] | {"system": "shop"}]) == {}


def named(text: str) -> str:
    """The sum that a breach is about."""
    return text.partition("'column': '")[2].partition("'")[0]


def test_what_is_broken_is_found_in_the_lake_and_said_of_its_system_and_night(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for rules in OPS:
        lake.append(rules.spec, [ROWS[rules.spec.name]])
    assert unsound_ops(lake, DS) == {}
    outcome = ROWS["ops.outcomes"]
    lake.append(OUTCOMES, [outcome | {"system": "mail", "seconds": -1.0}, outcome | {"ds": "2026-03-03", "stage": "x"}])
    lake.append(ANSWERS, [ROWS["ops.answers"] | {"label": "odd"}])
    lake.append(MODELS, [ROWS["ops.models"] | {"version": "b" * 16, "sha256": "b" * 64}])
    found = {system: [(each.severity, named(each.text)) for each in some] for system, some in unsound_ops(lake, DS).items()}
    assert found == {
        "mail": [("warning", "ops.outcomes: seconds below 0")],
        "shop": [("critical", "ops.answers: label unknown")],
        "": [("critical", "ops.models: repeated")],
    }
    shutil.rmtree(lake.root)
    assert unsound_ops(Lake(lake.root), DS) == {}
