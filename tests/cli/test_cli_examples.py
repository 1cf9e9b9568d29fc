"""What every command promises: an example that runs, rows for programs, no colour where none is wanted, completion, quick help."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click import Command
from click.testing import Result
from nightlog.cli import app
from shop_nights import DS, Place

PROGRAM = Path(sys.executable).with_name("nightlog")
COMMANDS: dict[str, Command] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
# Examples that are not run here, and why.
NOT_RUN = {
    "train": "teaches on labelled logs for minutes: tests/detector",
    "evaluate": "minutes on all labelled systems: tests/evaluation",
    "collect": "needs an endpoint: test_cli.py has it with one",
    "jars": "downloads files: tests/test_wheel.py",
    "spark-submit": "starts a JVM: tests/test_wheel.py",
    "notify": "needs a receiver: tests/handoff",
    "mcp": "serves until its client ends: tests/handoff",
    "doctor": "its example asks an endpoint: tests/doctor",
    "approve": "needs a night that was held back: tests/night",
}
# Commands without --format: their answer is a sentence.
IN_WORDS = {"approve", "init", "jars", "mcp", "spark-submit"}


def examples(name: str) -> list[str]:
    return [line.partition("Example: ")[2].strip() for line in (COMMANDS[name].help or "").splitlines() if "Example: " in line]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_examples_and_rows_for_programs(name: str) -> None:
    assert examples(name), f"`nightlog {name} --help` teaches by no example"
    assert all(example.startswith(f"nightlog {name} ") or example == f"nightlog {name}" for example in examples(name))
    assert name in IN_WORDS or any("--format" in parameter.opts for parameter in COMMANDS[name].params)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(NOT_RUN)))
def test_the_examples_of_a_command_run(
    name: str, call: Callable[..., Result], shop: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for example in examples(name):
        done = call(*shlex.split(example.replace("/var/log", str(shop.data)))[1:])
        assert done.exit_code == 0, f"{example}: {done.output} {done.exception}"
        if "--format json" in example:
            assert isinstance(json.loads(done.stdout), list | dict)
        assert done.output.strip(), f"{example} says nothing"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["outcomes --run-id manual__1", "report", "run"])
def test_what_tells_of_a_night_tells_it_to_programs_too(command: str, call: Callable[..., Result]) -> None:
    done = call(*command.split(), "--ds", DS, "--format", "json")
    rows = json.loads(done.stdout)
    assert done.exit_code == 0 and rows
    assert rows[0].get("system") == "shop" or rows[0]["page"].endswith(f"reports/{DS}/index.html")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROGRAM), *arguments], capture_output=True, text=True, env=dict(os.environ) | environment, check=False)


def test_help_is_quick_names_the_exit_codes_and_has_no_colour_where_none_is_wanted() -> None:
    took = []
    for _ in range(3):
        before = os.times()
        done = run("--help", FORCE_COLOR="1", NO_COLOR="1", COLUMNS="200")
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.returncode == 0
    for word in ("Exit codes", "10 a quality gate", "show", "suppress", "replay"):
        assert word in done.stdout
    assert not re.search(r"\x1b\[[\d;]*3[0-7]", done.stdout), "colour codes"
    assert re.search(r"\x1b\[[\d;]*3[0-7]", run("--help", FORCE_COLOR="1", NO_COLOR="").stdout), (
        "the test sees colours where there are some"
    )
    assert min(took) < 0.5, f"{took} s of processor time"


def test_the_shell_completes_commands_and_choices() -> None:
    found = run(_NIGHTLOG_COMPLETE="complete_bash", COMP_WORDS="nightlog sup", COMP_CWORD="1").stdout
    assert found.split() == ["suppress"]
    found = run(_NIGHTLOG_COMPLETE="complete_bash", COMP_WORDS="nightlog label s20 ", COMP_CWORD="3").stdout
    assert set(found.split()) == {"normal", "anomalous"}
