"""A small lake with two real nights of the system `shop`, made once: what examples, stories and feedback are tried on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from click.testing import Result
from nightlog.cli import app
from nightlog.errors import NightlogError
from nightlog.lake.lake import Lake
from nightlog.settings import Settings
from nightlog.systems.catalog import parse_system
from nights import add_toy_model, run_night
from shop_nights import DS, NEXT, SYSTEM, Place, orders, verdict
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The nights as they were published; nobody writes here."""
    root = tmp_path_factory.mktemp("two-nights")
    at = Place(root / "lake", root / "data", root / "my-systems", root / "verdicts.jsonl")
    for folder in (at.data / "shop", at.systems):
        folder.mkdir(parents=True)
    (at.systems / "shop.toml").write_text(SYSTEM)
    (at.data / "shop" / f"shop-{DS}.log").write_text(orders(DS, 20, 20, 2))
    (at.data / "shop" / f"shop-{NEXT}.log").write_text(orders(NEXT, 50, 20, 1, 3))
    slow = ["request served", "fan slow"]
    said = [
        verdict(["request served"], "normal", 0.97),
        verdict(slow, "normal", 0.6),
        verdict(["request served", "disk lost"], "anomalous", 0.95),
    ]
    at.verdicts.write_text("\n".join([*said, verdict(slow, "anomalous", 0.7, round=2, group="fan slow")]) + "\n")
    lake = Lake(at.lake)
    add_toy_model(lake)
    settings = Settings(data=at.data, llm="recorded", llm_recorded=at.verdicts, device="cpu")
    for ds in (DS, NEXT):
        outcomes = run_night(lake, settings, [parse_system(SYSTEM, "shop.toml")], ds, "manual__1")
        assert {outcome.outcome for outcome in outcomes.values()} == {"done"}, outcomes
    return at


@pytest.fixture
def shop(two_nights: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of the two nights to write to; commands find it by the environment, and run in its folder."""
    copytree(two_nights.lake, tmp_path / "lake")
    copytree(two_nights.systems, tmp_path / "my-systems")
    at = two_nights._replace(lake=tmp_path / "lake", systems=tmp_path / "my-systems")
    for name, value in at.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return at


@pytest.fixture
def run_command() -> Callable[..., Result]:
    """Run a command in this process, where everything is imported already; Nightlog's own errors become their exit code."""

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(app, list(arguments))
        if isinstance(done.exception, NightlogError):
            done.exit_code = done.exception.exit_code
        elif done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


@pytest.fixture
def call(shop: Place, run_command: Callable[..., Result]) -> Callable[..., Result]:
    """Run a command on the lake of `shop`."""
    return run_command
