"""Nights on a lake without a trained model: the general model that ships judges, through the CLI and stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.cli.app import app
from nightlog.history.general import general
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, MODELS, NIGHTS, ROUTES, SCORES, VECTORS
from nightlog.outcomes import EXIT_INCOMPLETE, Stage
from nightlog.publishing.replay import replay
from nightlog.run.night import Night
from nightlog.settings import Settings
from nights import add_toy_model, rows_of, run_night, small_system, snapshot
from typer.testing import CliRunner

DS = "2026-03-04"
WriteLog = Callable[[str, str, bytes], Path]
SHOP = """role = "target"
[input]
path = "shop/{ds}.log*"
[header]
pattern = '(?P<level>INFO|WARN|ERROR) (?P<id>s\\d+) (?P<message>.*)'
[session]
kind = "field"
field = "id"
"""


def usual(n: int, odd: int = 0) -> bytes:
    """Sessions that are served, and some whose disk breaks."""
    served = b"".join(b"INFO s%d request accepted\nINFO s%d request served\n" % (i, i) for i in range(n))
    return served + b"".join(b"INFO s%d request accepted\nERROR s%d disk broken\n" % (i, i) for i in range(n, n + odd))


def night(lake: Lake) -> dict[str, object]:
    (row,) = rows_of(lake, NIGHTS, ds=DS)
    return row


def test_a_fresh_lake_is_judged_without_training_by_the_command_line_and_stage_by_stage(
    tmp_path: Path, write_log: WriteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log("shop", f"{DS}.log", usual(600, 2))
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "shop.toml").write_text('name = "shop"\n' + SHOP)
    settings = {"LAKE": tmp_path / "lake", "DATA": tmp_path / "data", "SYSTEMS": tmp_path / "systems", "LLM": "off", "DEVICE": "cpu"}
    for name, value in settings.items():
        monkeypatch.setenv(f"NIGHTLOG_{name}", str(value))
    ran = CliRunner().invoke(app, ["run", "--ds", DS, "--systems", "shop"])
    assert ran.exit_code == EXIT_INCOMPLETE, ran.output
    assert "600 of 602 sessions were judged by nobody: the LLM is off" in ran.output
    lake = Lake(tmp_path / "lake")
    rows = rows_of(lake, ANOMALIES, ds=DS)
    assert {(row["session_id"], row["decided_by"], row["versions"]["model"]) for row in rows} == {
        (name, "history", general().version) for name in ("s600", "s601")
    }
    assert all("disk broken" in row["reason"] for row in rows)
    assert night(lake)["n_by_model"] == 2 and night(lake)["versions"]["model"] == general().version  # type: ignore[index]
    assert {row["model"] for spec in (ROUTES, SCORES) for row in rows_of(lake, spec)} == {general().version}
    assert not lake.exists(VECTORS) and not lake.exists(MODELS)
    shop = small_system("shop")
    assert replay(lake, shop, DS).result == "same"

    apart = Lake(tmp_path / "apart")
    off = Settings(data=tmp_path / "data", llm="off", device="cpu")
    for stage in Stage:  # a process each under Airflow
        outcomes = list(Night(DS, "staged", [shop], apart, off, lambda: datetime.now(UTC)).run_stage(stage))
        assert [outcome.outcome for outcome in outcomes] == ["incomplete" if stage == Stage.PUBLISH else "done"], outcomes
    assert snapshot(apart)["gold.anomalies"] == snapshot(lake)["gold.anomalies"]


def test_a_history_that_is_learning_calls_nothing_normal_and_nothing_anomalous(tmp_path: Path, write_log: WriteLog) -> None:
    write_log("shop", f"{DS}.log", usual(50, 1))
    lake = Lake(tmp_path / "lake")
    found = run_night(lake, Settings(data=tmp_path / "data", llm="off", device="cpu"), [small_system("shop")], DS, "first")
    assert found["shop", Stage.DETECT].detail == "the history is learning: 51 of 500 sessions"
    assert found["shop", Stage.PUBLISH].outcome == "incomplete"
    row = night(lake)
    assert (row["n_unjudged"], row["n_by_model"], row["n_anomalies"]) == (51, 0, 0)


def test_a_trained_model_takes_over_from_the_next_run_on(tmp_path: Path, write_log: WriteLog) -> None:
    write_log("shop", f"{DS}.log", usual(600, 2))
    lake, off = Lake(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off", device="cpu")
    run_night(lake, off, [small_system("shop")], DS, "first")
    trained = add_toy_model(lake)
    found = run_night(lake, off, [small_system("shop")], DS, "second")
    assert found["shop", Stage.EMBED].counts["run_n_embedded"] == 3, "templates of nights before are embedded as well"
    assert night(lake)["versions"]["model"] == trained  # type: ignore[index]
    assert {row["model"] for spec in (ROUTES, SCORES) for row in rows_of(lake, spec)} == {trained}
