"""Every command: 4 if what is asked for is not there, 2 for wrong usage, and never 0 for either."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from nightlog.cli import app
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS, OUTCOMES

COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
DS, OTHER = "2026-03-04", "2026-03-05"
# What each command is asked for and the lake lacks.
MISSING = {
    "run": "--ds 2026-03-04 --system nosuch",
    "anomalies": "--ds 2026-03-05",
    "outcomes": "--ds 2026-03-04 --run-id nosuch",
    "nights": "--system nosuch",
    "signals": "--ds 2026-03-05",
    "notify": "--ds 2026-03-05",
    "report": "--ds 2026-03-05",
    "approve": "--ds 2026-03-05 --system dovecot",
    "restore": "gold.anomalies",
    "query": "'select * from gold.anomalies'",
    "export": "duckdb out.duckdb --since 2026-03-05",
    "maintain": "--system nosuch",
    "questions": "--system nosuch",
    "label": "nosuch normal",
    "suppress": "nosuch --until 2026-12-31",
    "feedback": "--system nosuch",
    "show": "nosuch",
    "compare": "2026-03-04 2026-03-05",
    "replay": "nosuch",
    "train": "--system nosuch",
    "retrain": "--system nosuch",
    "collect": "--system nosuch",
    "cost": "--system nosuch",
    "evaluate": "--targets nosuch",
    "try": "nosuch.log",
}
# Commands that ask for nothing in the lake, and why.
ASKS_FOR_NOTHING = {
    "init": "writes a new file",
    "doctor": "shows what is missing, with code 1",
    "systems": "lists system files",
    "mcp": "serves",
    "jars": "downloads files",
    "spark-submit": "starts a job with options of its own",
}
# Commands whose answer about a lake without any night would look like one about a calm night.
READERS = ["anomalies", "outcomes", "nights", "signals", "report", "questions", "feedback", "cost", "export duckdb out.duckdb"]
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Call) -> Call:
    """Run a command on a lake that has one night of `shop`, unless `lake` names another."""
    lake = Lake(tmp_path / "lake")
    lake.append(NIGHTS, [{"ds": DS, "system": "shop", "outcome": "done", "run_id": "r", "n_sessions": 1, "n_anomalies": 0}])
    lake.append(OUTCOMES, [{"ds": DS, "system": "shop", "stage": "report", "outcome": "done", "run_id": "r", "counts": {}}])
    endpoint = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "NIGHTLOG_LLM": "openai"}
    for name, value in ({"NIGHTLOG_LAKE": lake.root, "COLUMNS": "300"} | endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return run_command


def test_every_command_is_walked() -> None:
    assert MISSING.keys() | ASKS_FOR_NOTHING.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", MISSING)
def test_what_is_not_there_ends_with_4_and_is_named(name: str, call: Call) -> None:
    words = shlex.split(MISSING[name])
    done = call(name, *words)
    assert done.exit_code == 4, f"{done.output} {done.exception}"
    message = done.stderr + str(done.exception)
    assert any(word in message for word in ("nosuch", OTHER, "anomalies")), message


@pytest.mark.parametrize("name", READERS)
def test_a_lake_without_a_night_is_not_calm(name: str, call: Call, tmp_path: Path) -> None:
    for form in ("table", "json"):
        done = call(*name.split(), "--lake", str(tmp_path / "nowhere"), "--format", form)
        assert done.exit_code == 4, f"{done.output} {done.exception}"
        assert "no night was run yet" in done.stderr + str(done.exception)
        assert not done.stdout or json.loads(done.stdout) == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_wrong_usage_ends_with_2(name: str, call: Call) -> None:
    assert call(name, "--nosuch-option").exit_code == 2
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    day = next((option for option in ("--ds", "--since", "--until") if option in options), None)
    if day is not None:
        words = MISSING[name].split()
        words = words[: words.index(day)] + words[words.index(day) + 2 :] if day in words else words
        more = ["--system", "shop"] if name == "evaluate" else []
        assert call(name, *words, *more, day, "2026-02-30").exit_code == 2


def test_former_names_of_commands_and_options_still_work(call: Call) -> None:
    assert call("answer", "12345678", "normal").exit_code == 4
    assert call("run", "--ds", DS, "--systems", "nosuch").exit_code == 4
    for name, command in COMMANDS.items():
        assert name != "answer" and "--systems" not in {option for parameter in command.params for option in parameter.opts}
    assert call("systems", "--format", "json").exit_code == 0, "the command of the same name is another thing"
