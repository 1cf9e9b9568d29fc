"""A proposal's times against the day in the files' names and their last change: a wrong time is corrected, or a doubt is said."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nightlog.onboarding.report import report_of
from nightlog.settings import Settings
from nightlog.systems.catalog import parse_system

LAST = datetime(2026, 3, 4, 9, 59, 59, tzinfo=UTC)
TIMES = [LAST - timedelta(seconds=30 * n) for n in reversed(range(200))]


def trial(folder: Path, form: str, name: str, changed: datetime = LAST) -> dict[str, Any]:
    """Try a file whose lines have times of a form, the last at LAST; its last change is `changed`."""
    path = folder / name
    path.write_text("".join(f"{at.strftime(form)} INFO order o{n % 40} served\n" for n, at in enumerate(TIMES)))
    os.utime(path, (changed.timestamp(), changed.timestamp()))
    found, tried = report_of([path], "shop", 20_000, Settings())
    return found | {"last": max(event.at for event in tried.matched if event.at is not None)}


def says(found: dict[str, Any], words: str) -> bool:
    return any(words in each for each in found["findings"])


@pytest.mark.parametrize("form", ["%m/%d/%y %H:%M:%S", "%d/%m/%y %H:%M:%S", "%y/%m/%d %H:%M:%S", "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S"])
@pytest.mark.parametrize("name", ["us-2026-03-04.log", "us.log"])
def test_the_order_of_day_month_and_year_is_that_of_the_files_day(tmp_path: Path, form: str, name: str) -> None:
    found = trial(tmp_path, form, name)
    assert found["last"] == LAST
    assert not says(found, "other way round") if name != "us.log" else not says(found, "of other days")


def test_a_time_of_another_day_than_the_name_says_is_a_doubt(tmp_path: Path) -> None:
    assert says(trial(tmp_path, "%Y-%m-%d %H:%M:%S", "shop-2026-03-09.log"), "of other days than the files' names say")
    assert says(trial(tmp_path, "%Y-%m-%d %H:%M:%S", "shop.log-20260305"), "as log rotation leaves them")
    assert not any("day" in each for each in trial(tmp_path, "%Y-%m-%d %H:%M:%S", "shop-2026-03-04.log")["findings"])
    swapped = trial(tmp_path, "%Y-%m-%d %H:%M:%S", "shop-2026-04-03.log")
    assert swapped["last"] == LAST and says(swapped, "of other days"), "after a year comes its month"


@pytest.mark.parametrize("name", ["shop-2026-03-04.log", "shop.log"])
def test_a_time_after_the_last_change_is_a_doubt_and_so_are_whole_hours_before_it(tmp_path: Path, name: str) -> None:
    local = "%Y-%m-%d %H:%M:%S"
    assert says(trial(tmp_path, local, name, LAST - timedelta(hours=1)), "a time zone that [timestamp] timezone does not name?")
    assert says(trial(tmp_path, local, name, LAST + timedelta(hours=7, seconds=2)), "just 7 hours before the last change of the files")
    zoned = "%Y-%m-%dT%H:%M:%S+00:00"
    assert says(trial(tmp_path, zoned, name, LAST - timedelta(hours=1)), "a wrong clock?")
    for changed in (LAST + timedelta(seconds=2), LAST + timedelta(hours=7, minutes=20), LAST + timedelta(days=40)):
        assert not says(trial(tmp_path, local, name, changed), "last change")
    assert not says(trial(tmp_path, zoned, name, LAST + timedelta(hours=7)), "last change")


def test_a_short_year_far_from_the_last_change_is_a_doubt(tmp_path: Path) -> None:
    assert says(trial(tmp_path, "%y/%m/%d %H:%M:%S", "us.log", LAST + timedelta(days=1000)), "far from the last change")


@pytest.mark.parametrize("changed", [LAST, datetime(2027, 1, 2, 3, tzinfo=UTC)])
def test_a_time_without_a_year_is_never_later_than_the_files(tmp_path: Path, changed: datetime) -> None:
    found = trial(tmp_path, "%b %d %H:%M:%S", "messages", changed)
    assert found["last"] == LAST and says(found, "the stamps have no year")
    assert parse_system(found["toml"], "x").input.delivered == LAST.date()


def test_a_file_without_a_time_of_change_is_read_by_its_own_times(tmp_path: Path) -> None:
    found = trial(tmp_path, "%m/%d/%Y %H:%M:%S", "shop.log", datetime(1970, 1, 1, tzinfo=UTC))
    assert (found["timed"], found["last"], found["ds"]) == (1, LAST, "2026-03-04")
    assert not says(found, "last change")
