"""Whole nights of files that `nightlog try` saw on another day: single digits, other hours, New Year, and the nights when clocks change."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import EVENTS_TABLE, NIGHTS
from nightlog.onboarding.report import report_of
from nightlog.settings import Settings
from nightlog.systems.catalog import parse_system
from nightlog.systems.spec import System
from nights import add_toy_model, run_night

Stamp = Callable[[datetime], str]
# A program's name → its line but the message, as written at a time.
FORMS: dict[str, Stamp] = {
    "syslog": lambda at: f"{at:%b} {at.day:2d} {at:%H:%M:%S} web1 till[7]:",
    "cisco": lambda at: f"{at:%b} {at.day:2d} {at:%Y %H:%M:%S} fw1 : %ASA-6-302013:",
    "mariadb": lambda at: f"{at:%Y-%m-%d} {at.hour:2d}:{at:%M:%S} 12 [Note]",
    "klog": lambda at: f"I{at:%m%d %H:%M:%S}.000000       1 till.go:12]",
    "american": lambda at: f"{at.month}/{at.day}/{at.year} {at.hour % 12 or 12}:{at:%M:%S} {at:%p} INFO till -",
    "compact": lambda at: f"{at:%Y%m%d}-{at.hour}:{at.minute}:{at.second}:150|Till|",
}


def lines_of(form: Stamp, begin: datetime, n: int = 120, step: timedelta = timedelta(seconds=7)) -> tuple[list[str], list[datetime]]:
    """Return lines of orders and their times, in the begin's time zone."""
    zone = begin.tzinfo
    times = [(begin.astimezone(UTC) + number * step).astimezone(zone) for number in range(n)]
    lines = [f"{form(at)} order o{1000 + number // 3} step {number % 3} is done" for number, at in enumerate(times)]
    return lines, [at.astimezone(UTC) for at in times]


class Shop:
    """The log folder of a program, its nights in a lake."""

    def __init__(self, folder: Path, form: Stamp):
        self.data, self.form = folder / "data", form
        self.data.mkdir()
        self.lake = Lake(folder / "lake")
        add_toy_model(self.lake)
        self.settings = Settings(data=self.data, llm="off", device="cpu")

    def write(self, ds: str, begin: datetime, **more: timedelta) -> list[datetime]:
        """Write the file of a day. Returns the times of its lines, UTC."""
        lines, times = lines_of(self.form, begin, **more)
        with (self.data / f"shop-{ds}.log").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
        return times

    def tried(self, ds: str, timezone: str = "") -> System:
        """Return the system that is proposed for the file of a day, in a time zone that its stamps do not name."""
        text = report_of([self.data / f"shop-{ds}.log"], "shop", 20_000, self.settings)[0]["toml"]
        return parse_system(re.sub(r"(\[timestamp\]\n)", rf'\1timezone = "{timezone}"\n', text) if timezone else text, "shop.toml")

    def night(self, system: System, ds: str) -> list[datetime]:
        """Run a night, all of whose lines must have a readable time near it. Returns the times of its events in order."""
        run_night(self.lake, self.settings, [system], ds, f"run of {ds}")
        (row,) = self.lake.rows(NIGHTS, ds=ds)
        counts = {name: row[name] for name in ("n_unparsed", "n_continuation", "n_untimed")}
        assert counts == dict.fromkeys(counts, 0)
        assert row["n_sessions"] >= 1 and row["n_lines"] == 120
        events = sorted(self.lake.rows(EVENTS_TABLE, ds=ds), key=lambda event: event["line_no"])
        return [event["at"].replace(microsecond=0) for event in events]


@pytest.mark.parametrize("form", FORMS)
def test_a_file_tried_on_the_23rd_at_15_is_read_on_the_3rd_at_5(tmp_path: Path, form: str) -> None:
    shop = Shop(tmp_path, FORMS[form])
    late = shop.write("2026-03-23", datetime(2026, 3, 23, 15, 47, 39, tzinfo=UTC))
    early = shop.write("2026-03-03", datetime(2026, 3, 3, 5, 7, 9, tzinfo=UTC))
    system = shop.tried("2026-03-23")
    assert shop.night(system, "2026-03-03") == early
    assert shop.night(system, "2026-03-23") == late
    assert shop.tried("2026-03-03").timestamp == system.timestamp


@pytest.mark.parametrize("form", ["syslog", "klog"])
@pytest.mark.parametrize("ds", ["2026-12-31", "2027-01-01"])
def test_lines_without_a_year_keep_theirs_over_new_year(tmp_path: Path, form: str, ds: str) -> None:
    shop = Shop(tmp_path, FORMS[form])
    times = shop.write(ds, datetime(2026, 12, 31, 23, 53, tzinfo=UTC))
    assert {at.year for at in times} == {2026, 2027}
    assert shop.night(shop.tried(ds), ds) == times


BERLIN = ZoneInfo("Europe/Berlin")
LOCAL: Stamp = lambda at: f"{at:%Y-%m-%d %H:%M:%S} INFO till"  # noqa: E731


@pytest.mark.parametrize("begin", [datetime(2026, 3, 29, 0, 0, tzinfo=UTC), datetime(2026, 10, 24, 22, 0, tzinfo=UTC)])
def test_the_night_when_clocks_change_has_all_its_lines(tmp_path: Path, begin: datetime) -> None:
    ds = f"{begin.astimezone(BERLIN):%Y-%m-%d}"
    shop = Shop(tmp_path, LOCAL)
    times = shop.write(ds, begin.astimezone(BERLIN), step=timedelta(minutes=2))
    found = shop.night(shop.tried(ds, "Europe/Berlin"), ds)
    twice = [at for at in times if at.astimezone(BERLIN).fold]
    # Of an hour that the clocks show twice, nobody can tell the second one from the first.
    assert found == [at - timedelta(hours=1) if at in twice else at for at in times]
    assert bool(twice) == (begin.month == 10)


def test_lines_with_an_offset_are_exact_when_clocks_change(tmp_path: Path) -> None:
    shop = Shop(tmp_path, lambda at: f"{at:%Y-%m-%dT%H:%M:%S%z} INFO till")
    times = shop.write("2026-10-25", datetime(2026, 10, 24, 22, 0, tzinfo=UTC).astimezone(BERLIN), step=timedelta(minutes=2))
    assert shop.night(shop.tried("2026-10-25"), "2026-10-25") == times
