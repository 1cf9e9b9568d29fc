"""The history of a night in the lake: the nights up to it, never later ones, flag what is unlike them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import ConfigError
from nightlog.history.general import general
from nightlog.history.night import score_night
from nightlog.lake.lake import Lake
from nightlog.lake.tables import HISTORY, PATTERNS, SCORES, TEMPLATE_COUNTS, TEMPLATES
from nightlog.systems.spec import Input, Session, System

NAMES = ("open", "read", "close", "crash")


def fill(lake: Lake, ds: str, usual: int, strange: int = 0) -> None:
    """Write a night of usual sessions and of sessions that end otherwise."""
    kinds = {"usual": (("open", "read", "close"), usual), "strange": (("open", "crash"), strange)}
    rows = [
        {"pattern_id": name, "question_id": name, "events": [{"template_id": each, "count": 1} for each in events], "n_sessions": n}
        for name, (events, n) in kinds.items()
        if n
    ]
    lake.replace(PATTERNS, [row | {"system": "app", "ds": ds} for row in rows], system="app", ds=ds)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return a lake that knows the templates."""
    made = Lake(tmp_path / "lake")
    made.merge(TEMPLATES, [{"system": "app", "template_id": name, "text": f"{name} the file"} for name in NAMES])
    return made


@pytest.fixture
def app() -> System:
    """Return a system whose sessions are lives."""
    return System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="id", pattern="(x)"))


def rows(lake: Lake, ds: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a night by pattern."""
    return {row["pattern_id"]: row for row in lake.rows(HISTORY, system="app", ds=ds)}


def test_a_few_sessions_are_learnt_from_and_nothing_is_flagged(lake: Lake, app: System) -> None:
    fill(lake, "2026-03-01", 50, 1)
    assert score_night(lake, app, "2026-03-01") == ({"n_scored": 2}, "the history is learning: 51 of 500 sessions")
    assert {row["flagged"] for row in rows(lake, "2026-03-01").values()} == {None}


def test_a_strange_pattern_is_flagged_with_reasons_and_later_nights_do_not_matter(lake: Lake, app: System) -> None:
    fill(lake, "2026-03-01", 900)
    fill(lake, "2026-03-02", 900, 2)
    assert score_night(lake, app, "2026-03-02") == ({"n_scored": 2}, None)
    first = rows(lake, "2026-03-02")
    assert first["strange"]["flagged"] and not first["usual"]["flagged"]
    assert any("crash" in reason for reason in first["strange"]["reasons"])
    fill(lake, "2026-03-03", 10, 900)
    score_night(lake, app, "2026-03-02")
    assert rows(lake, "2026-03-02") == first


def test_the_general_model_scores_each_pattern_once_and_its_rarest_template_weighs_most(lake: Lake, app: System) -> None:
    fill(lake, "2026-03-01", 900, 2)
    score_night(lake, app, "2026-03-01")
    assert not lake.exists(SCORES), "a trained model writes its own scores"
    score_night(lake, app, "2026-03-01", general().version)
    found = {row["pattern_id"]: row for row in lake.rows(SCORES, system="app", ds="2026-03-01")}
    history = rows(lake, "2026-03-01")
    assert {name: row["probability"] for name, row in found.items()} == {name: row["probability"] for name, row in history.items()}
    assert {row["model"] for row in found.values()} == {general().version}
    weights = {each["template_id"]: each["weight"] for each in found["strange"]["weights"]}
    assert max(weights, key=lambda name: weights[name]) == "crash" and sum(weights.values()) == pytest.approx(1, abs=1e-5)


def test_a_night_is_not_scored_by_the_constants_of_another_general_model(lake: Lake, app: System) -> None:
    fill(lake, "2026-03-01", 900)
    with pytest.raises(ConfigError, match="general-0"):
        score_night(lake, app, "2026-03-01", "general-0")


def test_constants_that_change_need_a_new_version() -> None:
    digests = {"general-1": "71ac7eaeed5c110a"}
    assert digests[general().version] == general().digest


def test_the_level_that_most_records_of_a_template_have_is_a_reason(lake: Lake, app: System) -> None:
    fill(lake, "2026-03-01", 900, 2)
    counts = [("crash", "error", 9), ("open", "info", 900)]
    rows_of_levels = [{"system": "app", "ds": "2026-03-01", "template_id": name, "level": level, "n": n} for name, level, n in counts]
    score_night(lake, app, "2026-03-01")
    before = rows(lake, "2026-03-01")
    lake.replace(TEMPLATE_COUNTS, rows_of_levels, system="app", ds="2026-03-01")
    score_night(lake, app, "2026-03-01")
    after = rows(lake, "2026-03-01")
    assert any("level error" in reason for reason in after["strange"]["reasons"])
    assert after["strange"]["score"] >= before["strange"]["score"] and after["usual"]["score"] == before["usual"]["score"]
