"""The report of a night: its failure hides nothing of what was published."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightlog.lake.lake import Lake
from nightlog.lake.query import run_outcomes
from nightlog.lake.tables import HANDOFFS, NIGHTS, OUTCOMES
from nightlog.outcomes import Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nights import add_toy_model, small_system

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def published(root: Path, *systems: str, settings: Settings | None = None) -> Night:
    """A night whose systems were published a moment ago."""
    lake = Lake(root)
    add_toy_model(lake)
    for system in systems:
        lake.append(NIGHTS, [{"ds": DS, "system": system, "outcome": "done", "n_sessions": 4, "n_anomalies": 0}])
        for number, stage in enumerate(Stage.REPORT.before):
            row = {"run_id": "r", "ds": DS, "system": system, "stage": stage.value, "outcome": "done", "seconds": 1.0}
            lake.append(OUTCOMES, [row | {"counts": {"n_anomalies": 0}, "at": NOON + timedelta(seconds=number)}])
    later = NOON + timedelta(minutes=1)
    settings = settings or Settings(llm="off")
    return Night(DS, "r", [small_system(name) for name in systems], lake, settings, lambda: later)


def test_the_report_writes_the_pages_of_all_systems_once(tmp_path: Path) -> None:
    night = published(tmp_path / "lake", "one", "two")
    assert [(each.system, each.stage, each.outcome) for each in night.run_stage(Stage.REPORT)] == [
        ("one", Stage.REPORT, "done"),
        ("two", Stage.REPORT, "done"),
    ]
    assert {file.name for file in (tmp_path / "lake" / "reports" / DS).iterdir()} == {"index.html", "one.html", "two.html"}
    assert list(night.run_stage(Stage.REPORT)) == [], "a retry of what is done does nothing"


def test_a_page_that_cannot_be_written_fails_the_report_and_hides_nothing_published(tmp_path: Path) -> None:
    night = published(tmp_path / "lake", "one", "two")
    before = Lake(tmp_path / "lake").rows(NIGHTS)
    (tmp_path / "lake" / "reports" / DS / "one.html").mkdir(parents=True)  # in the page's place
    one, two = night.run_stage(Stage.REPORT)
    assert (one.system, one.outcome, two.outcome) == ("one", "failed", "done")
    assert one.detail is not None and one.detail.startswith("no page: IsADirectoryError")
    tables = Lake(tmp_path / "lake")
    assert tables.rows(NIGHTS) == before
    assert run_outcomes(tables, DS, "r") == [("one", "failed", f"report: {one.detail}"), ("two", "done", "0 anomalies")]
    assert "No page could be written for one." in (tmp_path / "lake" / "reports" / DS / "index.html").read_text(encoding="utf-8")
    # A retry of the report does the one system that is left.
    (tmp_path / "lake" / "reports" / DS / "one.html").rmdir()
    assert [(each.system, each.outcome) for each in night.run_stage(Stage.REPORT)] == [("one", "done")]


def test_a_night_without_any_page_fails_the_report_of_every_system(tmp_path: Path) -> None:
    night = published(tmp_path / "lake", "one", "two")
    (tmp_path / "lake" / "reports").write_text("in the way")
    assert [(each.system, each.outcome) for each in night.run_stage(Stage.REPORT)] == [("one", "failed"), ("two", "failed")]
    assert {row["outcome"] for row in Lake(tmp_path / "lake").rows(NIGHTS)} == {"done"}


def test_a_night_is_handed_off_and_a_receiver_that_is_not_there_fails_nothing(tmp_path: Path) -> None:
    more = {"webhook_url": "https://127.0.0.1:9/key", "webhook_hosts": "example.org", "exports": tmp_path / "out"}
    night = published(tmp_path / "lake", "one", "two", settings=Settings(llm="off", **more))
    assert {each.outcome for each in night.run_stage(Stage.REPORT)} == {"done"}
    tables = Lake(tmp_path / "lake")
    assert {(row["kind"], row["outcome"]) for row in tables.rows(HANDOFFS)} == {("webhook", "failed"), ("export", "done")}
    assert (tmp_path / "out" / DS / "nights.csv").read_text().count("\n") == 3
    assert {row["outcome"] for row in tables.rows(OUTCOMES)} == {"done"}
