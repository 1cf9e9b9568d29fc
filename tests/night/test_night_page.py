"""A page that cannot be written fails no publication: the system stays done, and its outcome says why there is no page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightlog.lake.lake import Lake
from nightlog.lake.query import run_outcomes
from nightlog.lake.tables import HANDOFFS, NIGHTS, OUTCOMES
from nightlog.run.night import Night
from nightlog.run.stages import Stage, exit_code
from nightlog.settings import Settings
from nights import add_toy_model, small_system

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def published(root: Path, *systems: str) -> Night:
    """A night whose systems were published a moment ago."""
    lake = Lake(root)
    add_toy_model(lake)
    for system in systems:
        lake.put(NIGHTS, [{"ds": DS, "system": system, "outcome": "done", "n_sessions": 4, "n_anomalies": 0}])
        for number, stage in enumerate(Stage):
            row = {"run_id": "r", "ds": DS, "system": system, "stage": stage.value, "outcome": "done", "seconds": 1.0}
            lake.put(OUTCOMES, [row | {"counts": {"n_anomalies": 0}, "at": NOON + timedelta(seconds=number)}])
    later = NOON + timedelta(minutes=1)
    return Night(DS, "r", [small_system(name) for name in systems], lake, Settings(llm="off"), lambda: later)


def test_a_retry_of_publish_writes_the_pages_of_what_is_done_already(tmp_path: Path) -> None:
    night = published(tmp_path / "lake", "one", "two")
    assert list(night.run_stage(Stage.PUBLISH)) == []
    assert {file.name for file in (tmp_path / "lake" / "reports" / DS).iterdir()} == {"index.html", "one.html", "two.html"}
    assert len(night.lake.rows(OUTCOMES)) == 2 * len(Stage), "a page that was written leaves no row"


def test_a_page_that_cannot_be_written_is_told_and_fails_nothing(tmp_path: Path) -> None:
    night = published(tmp_path / "lake", "one", "two")
    (tmp_path / "lake" / "reports" / DS / "one.html").mkdir(parents=True)  # in the page's place
    (told,) = night.run_stage(Stage.PUBLISH)
    assert (told.system, told.stage, told.outcome) == ("one", Stage.PUBLISH, "done")
    assert told.detail is not None and told.detail.startswith("no page: IsADirectoryError")
    assert exit_code([told.outcome]) == 0
    assert run_outcomes(night.lake, DS, "r") == [("one", "done", "0 anomalies"), ("two", "done", "0 anomalies")]
    assert night.latest()["one", Stage.PUBLISH]["detail"] == told.detail
    assert "No page could be written for one." in (tmp_path / "lake" / "reports" / DS / "index.html").read_text(encoding="utf-8")


def test_a_night_without_any_page_is_told_for_every_system(tmp_path: Path) -> None:
    night = published(tmp_path / "lake", "one", "two")
    (tmp_path / "lake" / "reports").write_text("in the way")
    assert [(told.system, told.outcome) for told in night.run_stage(Stage.PUBLISH)] == [("one", "done"), ("two", "done")]
    assert {row["outcome"] for row in night.lake.rows(OUTCOMES)} == {"done"}


def test_a_night_is_handed_off_and_a_receiver_that_is_not_there_fails_nothing(tmp_path: Path) -> None:
    night = published(tmp_path / "lake", "one", "two")
    more = {"webhook_url": "https://127.0.0.1:9/key", "webhook_hosts": "example.org", "exports": tmp_path / "out"}
    night.settings = Settings(llm="off", **more)
    assert list(night.run_stage(Stage.PUBLISH)) == []
    assert {(row["kind"], row["outcome"]) for row in night.lake.rows(HANDOFFS)} == {("webhook", "failed"), ("export", "done")}
    assert (tmp_path / "out" / DS / "nights.csv").read_text().count("\n") == 3
    assert {row["outcome"] for row in night.lake.rows(OUTCOMES)} == {"done"}
