"""`nightlog compare`: files without a lake, nights of a lake, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from nightlog.cli import app
from nightlog.errors import NightlogError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LINES_TABLE, NIGHTS, PATTERNS
from typer.testing import CliRunner

GOOD = [f"INFO order {n} served" for n in range(30)]
BAD = [*GOOD[:10], "ERROR disk lost \x1b]0;owned\x07", *GOOD[10:]]
DS, NEXT = "2026-03-04", "2026-03-05"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two log files, and a lake with the same lines on two nights."""
    lake = Lake(tmp_path / "lake")
    for ds, name, lines in ((DS, "pass.log", GOOD), (NEXT, "fail.log", BAD)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        place = {"system": "shop", "ds": ds}
        lake.append(LINES_TABLE, [place | {"file": name, "line_no": n, "text": text} for n, text in enumerate(lines, 1)])
        lake.append(NIGHTS, [place | {"outcome": "done"}])
        lake.append(PATTERNS, [place | {"pattern_id": f"p{ds}", "n_sessions": 5, "events": []}])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIGHTLOG_LAKE", lake.root)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def compare(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["compare", *arguments])
    if isinstance(done.exception, NightlogError):
        done.exit_code = done.exception.exit_code
    return done


@pytest.mark.parametrize("arguments", [("fail.log", "--baseline", "pass.log"), ("pass.log", "fail.log")])
def test_two_files_need_no_lake(arguments: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLOG_LAKE", str(folder / "no lake"))
    done = compare(*arguments)
    assert done.exit_code == 0 and "1 of 31 lines are new, in 1 passage" in done.stdout
    assert "▶      11  ERROR disk lost" in done.stdout and " 10  INFO order 9 served" in done.stdout
    assert "\x1b]" not in done.stdout and "\x07" not in done.stdout, "log text steers no terminal"
    (row,) = json.loads(compare(*arguments, "--format", "json").stdout)
    assert (row["kind"], row["change"], row["file"], row["line_no"], row["before"], row["after"]) == ("line", "new", "fail.log", 11, 0, 1)
    (row,) = csv.DictReader(io.StringIO(compare(*arguments, "--format", "csv").stdout))
    assert row["what"].startswith("ERROR disk lost") and 0 < float(row["score"]) < 1


@pytest.mark.parametrize("arguments", [("--ds", NEXT, "--baseline", DS), ("--baseline", DS), (DS, NEXT)])
def test_two_nights_are_compared_by_sessions_and_by_lines(arguments: tuple[str, ...], folder: Path) -> None:
    done = compare(*arguments)
    assert done.exit_code == 0 and f"p{NEXT}" in done.stdout and "ERROR disk lost" in done.stdout
    rows = json.loads(compare(*arguments, "--format", "json").stdout)
    assert {row["kind"] for row in rows} == {"pattern", "line"} and {row["system"] for row in rows} == {"shop"}


def test_a_night_without_its_lines_is_compared_by_sessions_alone_and_a_message_says_so(folder: Path) -> None:
    Lake(folder / "lake").replace(LINES_TABLE, [], system="shop", ds=DS)
    done = compare("--ds", NEXT, "--baseline", DS)
    assert done.exit_code == 0 and f"lines of {DS} are not in the lake" in done.stderr and "ERROR" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fail.log",), 2, "--baseline"),
        ((), 2, "--baseline"),
        (("fail.log", "--baseline", DS), 2, "two nights, or two files"),
        (("--ds", NEXT, "--baseline", "pass.log"), 2, "two nights, or two files"),
        (("fail.log", "--ds", NEXT, "--baseline", "pass.log"), 2, "--baseline"),
        (("lost.log", "--baseline", "pass.log"), 4, "lost.log"),
        (("--ds", "2026-03-09", "--baseline", DS), 4, "never run"),
        (("--ds", NEXT, "--baseline", "2026-02-30"), 2, "2026-02-30"),
    ],
)
def test_what_cannot_be_compared_has_a_message_and_an_exit_code(arguments: tuple[str, ...], code: int, message: str, folder: Path) -> None:
    done = compare(*arguments)
    assert done.exit_code == code and message in done.stderr + str(done.exception)
