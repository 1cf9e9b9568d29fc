"""A small lake with two real nights of the system `shop`, made once: what examples, stories and feedback are tried on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import pytest
from click.testing import Result
from nightlog.cli import app
from nightlog.errors import NightlogError
from nightlog.lake.store import Lake
from nightlog.settings import Settings
from nightlog.systems.catalog import parse_system
from nights import add_toy_model, run_night
from typer.testing import CliRunner

DS, NEXT = "2026-03-04", "2026-03-05"
SYSTEM = r"""
name = "shop"
description = "A shop, a session is an order"
role = "target"
[input]
path = "shop/shop-{ds}.log"
[header]
pattern = '(?P<stamp>\d{4}-\d\d-\d\dT[\d:]+Z) (?P<level>INFO|WARN|ERROR) (?P<id>s\d+) (?P<message>.*)'
[timestamp]
value = "{stamp}"
format = "yyyy-MM-dd'T'HH:mm:ssX"
[session]
kind = "id"
field = "id"
pattern = '(s\d+)'
lookback_days = 0
settle_minutes = 0
"""


class Place(NamedTuple):
    """Where the lake, the logs, the system files and the recorded verdicts are."""

    lake: Path
    data: Path
    systems: Path
    verdicts: Path

    def environment(self) -> dict[str, str]:
        """The settings of a run here; no browser is opened."""
        paths = {"LAKE": self.lake, "DATA": self.data, "SYSTEMS": self.systems, "LLM_RECORDED": self.verdicts}
        return {f"NIGHTLOG_{name}": str(path) for name, path in paths.items()} | {"NIGHTLOG_LLM": "recorded", "BROWSER": "true"}


def orders(ds: str, first: int, n: int, n_slow: int, n_lost: int = 0) -> str:
    """A day of orders: the first ones are slow, the next ones lose a disk."""
    lines = []
    for number in range(n):
        told = (
            ["INFO {} request served"] + ["WARN {} fan slow"] * (number < n_slow) + ["ERROR {} disk lost"] * (0 <= number - n_slow < n_lost)
        )
        lines += [f"{ds}T10:{number:02d}:{at:02d}Z {line.format(f's{first + number}')}" for at, line in enumerate(told)]
    return "\n".join(lines) + "\n"


def verdict(texts: list[str], label: str, confidence: float, **more: object) -> str:
    events = [{"template": text, "count": 1} for text in texts]
    return json.dumps({"system": "shop", "events": events, "label": label, "confidence": confidence, "reason": f"is {label}"} | more)


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
        outcomes = run_night(lake, settings, [parse_system(SYSTEM, "shop.toml")], ds, f"run-{ds}")
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
def call(shop: Place) -> Callable[..., Result]:
    """Run a command in this process, where everything is imported already; Nightlog's own errors become their exit code."""

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(app, list(arguments))
        if isinstance(done.exception, NightlogError):
            done.exit_code = done.exception.exit_code
        elif done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run
