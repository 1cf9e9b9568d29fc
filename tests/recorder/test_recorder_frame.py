"""The recorder's frame: conversations and their truth, the clock, the plan, and what is published of a small program."""

import csv
import random
import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from nightlog.systems.catalog import parse_system
from recorder.clock import Clock
from recorder.ledger import Ledger
from recorder.plan import Entry, drive, plan
from recorder.program import MissedError, Program, Stage, demand
from recorder.programs import NAMES, entry
from recorder.publish import Corpus, publish

SYSTEM = """
name = "echo"
role = "source"
[input]
path = "echo/echo-{ds}.log.gz"
[header]
pattern = '(?P<stamp>\\S+) \\[(?P<client>\\d+)\\] (?P<message>.*)'
[timestamp]
value = "{stamp}"
format = "yyyy-MM-dd'T'HH:mm:ss"
[session]
kind = "field"
field = "client"
[labels]
file = "echo/labels.csv"
"""


class Echo(Program):
    """A program that never runs; its clients write its lines."""

    name = "echo"
    packages = ("echo",)
    needs = ("sh",)
    address = ("127.0.0.1", 1)
    stamp = "%Y-%m-%dT%H:%M:%S "
    introduces = (re.compile(r"\[(?P<session>(?P<conversation>\d+))\]"),)

    def prepare(self) -> list[str]:
        return ["sh"]

    def say(self, source: tuple[str, int], text: str) -> None:
        self.lines.append((time.time(), f"[{source[1]}] {text}"))


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    yield Echo(Stage(tmp_path, Clock(date(2026, 3, 2), 2, 86400.0, time.time()), Ledger(random.Random(7))))


def greet(echo: Echo, rng: random.Random) -> None:
    with echo.visit(rng) as source:
        echo.say(source, "hello")


def stumble(echo: Echo, rng: random.Random) -> None:
    with echo.visit(rng, "stumbled") as source:
        echo.say(source, "hello")
        demand(False, "an answer")


def test_a_victim_that_notices_is_written_down_and_one_that_does_not_is_no_victim(echo: Echo) -> None:
    stumble(echo, random.Random(1))
    assert list(echo.stage.ledger.broken.values()) == ["stumbled"]
    with pytest.raises(AssertionError, match="nobody noticed: quiet"), echo.visit(random.Random(1), "quiet"):
        pass
    assert len(echo.stage.ledger.broken) == 1


def test_an_ordinary_client_that_meets_trouble_is_written_down_and_the_trouble_goes_on(echo: Echo) -> None:
    with pytest.raises(MissedError), echo.visit(random.Random(1)) as source:
        demand(False, "an answer")
    assert echo.stage.ledger.broken == {str(source[1]): "side effect of another fault"}


def test_the_published_labels_are_those_of_the_clients(echo: Echo, tmp_path: Path) -> None:
    cast = Entry(Echo, {greet: 1.0}, {stumble: (2, 1)}, per_day=20)
    assert drive(plan(cast, 2, 20, random.Random(3)), echo, echo.stage.clock) == 0
    result = publish(echo, parse_system(SYSTEM, "echo.toml"), Corpus(tmp_path / "out"))
    assert [row.n_anomalous for row in result.days] == [2, 1]
    assert [row.n_lines for row in result.days] == [row.n_sessions for row in result.days]
    assert (result.n_silent, sum(row.n_unmatched for row in result.days)) == (0, 0)
    with (tmp_path / "out" / "echo" / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {row["session_id"]: row["label"] for row in csv.DictReader(file)}
    assert {session for session, label in labels.items() if label == "1"} == set(echo.stage.ledger.broken)
    assert set(result.faults.values()) == {"stumbled"}


@pytest.mark.parametrize("name", NAMES)
def test_each_program_has_ordinary_acts_and_several_faults_on_three_days(name: str) -> None:
    cast = entry(name)
    assert cast.program.name == name
    assert len(cast.ordinary) >= 4
    assert len(cast.faults) >= 8
    assert {len(counts) for counts in cast.faults.values()} == {3}
