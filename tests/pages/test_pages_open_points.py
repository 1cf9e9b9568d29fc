"""The open points of a night: each of them is named, with what to do; a night without any says so."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from nightlog.pages.charts import Share, heat_map, stacked
from nightlog.pages.model import SystemNight, SystemOutcome
from nightlog.pages.open_points import KINDS, judged_by, open_points, point_groups

ROW: dict[str, Any] = {
    "outcome": "done",
    "n_files": 1,
    "n_sessions": 20,
    "n_by_analyst": 1,
    "n_by_llm": 12,
    "n_by_student": 4,
    "n_by_model": 3,
    "n_unjudged": 0,
    "n_provisional": 0,
    "versions": {"llm": "judge"},
}
NIGHT = SystemNight("2026-03-04", "shop", SystemOutcome("done"), ROW)


def kinds(night: SystemNight) -> list[str]:
    return [point.kind for point in open_points(night)]


def with_row(**values: Any) -> SystemNight:
    return replace(NIGHT, night=ROW | values)


def test_a_night_that_was_read_judged_and_published_has_no_open_point() -> None:
    assert open_points(NIGHT) == []


def test_each_count_that_leaves_something_open_is_a_point_with_what_to_do() -> None:
    unjudged = with_row(outcome="incomplete", n_unjudged=5, unjudged_why="the LLM is off")
    (point,) = open_points(unjudged)
    assert (point.kind, point.text) == ("Not judged", "5 of 20 sessions were judged by nobody: the LLM is off")
    assert "OPENAI_API_KEY" in point.to_do
    (point,) = open_points(with_row(n_provisional=2))
    assert point.kind == "Provisional" and point.command == "nightlog run --ds 2026-03-04 --systems shop --from label"
    assert kinds(with_row(n_waiting=3, n_outside=1)) == ["Waiting", "Outside"]
    assert kinds(with_row(outcome="incomplete", n_files=0)) == ["No input"]
    assert kinds(with_row(versions={"llm": None}, n_by_llm=0)) == ["No LLM"]
    assert kinds(replace(NIGHT, totals={"suppressed": 2, "open": 3}, warnings=("parse: half of the lines",))) == ["Suppressed", "Warning"]


def test_a_night_that_was_held_back_says_so_first_and_how_to_approve_it() -> None:
    gated = replace(NIGHT, outcome=SystemOutcome("gated", "publish", "ten times the anomalies"), night={"outcome": "gated"})
    (point,) = open_points(gated)
    assert point.kind == "Held back" and "ten times the anomalies; nothing was published" in point.text
    assert point.command.startswith("nightlog approve --ds 2026-03-04 --system shop")
    earlier = replace(gated, night=ROW | {"n_waiting": 1})
    assert kinds(earlier) == ["Held back", "Waiting"]
    assert "what an earlier run published is shown" in open_points(earlier)[0].text


def test_points_are_joined_by_kind_the_gravest_first_and_many_of_a_kind_are_folded() -> None:
    waiting = [replace(with_row(n_waiting=1), system=f"s{n}") for n in range(9)]
    failed = replace(NIGHT, system="t", outcome=SystemOutcome("failed", "parse", "the disk is full"), night={"outcome": "failed"})
    first, second = point_groups([*waiting, failed])
    assert (first.kind, second.kind) == ("Failed", "Waiting")
    assert [point.system for point in second.shown + second.folded] == [f"s{n}" for n in range(9)]
    assert (len(second.shown), len(second.folded)) == (5, 4)


def test_every_kind_of_point_has_its_place_in_the_order() -> None:
    everything = with_row(
        outcome="incomplete",
        n_files=0,
        n_unjudged=1,
        unjudged_why="the LLM is off",
        n_by_llm=0,
        versions={"llm": None},
        n_provisional=1,
        n_waiting=1,
        n_outside=1,
        n_anomalies=1,
    )
    nights = [replace(everything, totals={"suppressed": 1}, warnings=("a: b",))]
    nights += [
        replace(NIGHT, outcome=SystemOutcome(kind), night={"outcome": kind}) for kind in ("failed", "gated", "no_input", "transient")
    ]
    found = [group.kind for group in point_groups(nights)]
    assert set(found) == {point.kind for night in nights for point in open_points(night)} == set(KINDS) and found == list(KINDS)


def test_judges_are_summed_over_published_nights_alone() -> None:
    failed = replace(NIGHT, system="mail", night={"outcome": "failed", "n_by_llm": 99})
    shares = {share.name: share.count for share in judged_by([NIGHT, NIGHT, failed])}
    assert shares == {"analyst": 2, "LLM": 24, "student": 8, "history and small model": 6}


def test_a_stacked_bar_has_a_part_for_each_count_and_says_them() -> None:
    bar = stacked([Share("LLM", 0, 99_999), Share("nobody", 1, 1), Share("analyst", 3, 0)], "sessions by judge")
    widths = [float(width) for width in re.findall(r' width="([\d.]+)" height', bar)]
    assert len(widths) == 2 and all(width >= 1 for width in widths) and sum(widths) < 160
    assert 'aria-label="sessions by judge: LLM 99,999; nobody 1"' in bar


def test_a_heat_map_has_a_cell_for_each_hour_with_something_and_says_them() -> None:
    hours = [0] * 24
    hours[3], hours[23] = 2, 8
    picture = heat_map([("shop", hours), ("mail", [0] * 24)], "sessions by hour")
    assert picture.count("<rect") == 2
    assert "shop, 03:00 to 04:00 UTC: 2" in picture and "shop, 23:00 to 24:00 UTC: 8" in picture
    assert 'fill-opacity="1.00"' in picture and "shop 10, most from 23:00 on (8)" in picture
