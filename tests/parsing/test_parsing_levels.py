"""Levels of lines: normalised in silver.events, and per template in silver.template_counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from nightlog.history.severity import level_severity
from nightlog.ingest.ingest import ingest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import TEMPLATE_COUNTS, TEMPLATES
from nightlog.parsing.parse import parse
from nightlog.systems.levels import LEVELS, normal_level
from nightlog.systems.spec import Header, Session
from parsing_help import make_system, parsed_lines, put_file

DS = "2026-03-04"
OF_LINES = {
    "[INF] started": "info",
    "[WRN] disk is slow": "warning",
    "[Note] ready for connections": "notice",
    "[I] accepted": "info",
    "[DBG] tick": "debug",
    "[FATAL] stopped": "fatal",
    "[auth.err] denied": "error",
    "[3] of journald": "error",
    "[fail] is no level": None,
    "[nova.api] is a name": None,
}


def test_levels_are_normalised_and_what_is_none_is_null() -> None:
    system = make_system(header=Header(pattern=r"(?P<level>\[[^\]]*\]) (?P<message>.*)"), timestamp=None, session=Session(kind="field"))
    rows = parsed_lines(system, list(OF_LINES))[0]
    assert dict(zip(OF_LINES, [row.level for row in rows], strict=True)) == OF_LINES


def test_letters_of_klog_are_levels() -> None:
    header = Header(pattern=r"(?P<level>[IWEF])(?P<time>\d{4} \d\d:\d\d:\d\d) +\d+ \S+\] (?P<message>.*)")
    system = make_system(header=header, timestamp=None, session=Session(kind="field"))
    rows = parsed_lines(system, [f"{letter}0304 05:06:07 1 a.go:1] x" for letter in "IWEF"])[0]
    assert [row.level for row in rows] == ["info", "warning", "error", "fatal"]


def test_the_severity_of_a_normalised_level_never_falls_as_levels_rise() -> None:
    severities = [level_severity(level) for level in LEVELS]
    assert severities == sorted(severities) and severities[0] == 0 and severities[-1] == 1
    assert [normal_level(level) for level in LEVELS] == list(LEVELS)


@pytest.mark.slow
def test_each_template_of_a_night_has_its_usual_level(lake: Lake, tmp_path: Path) -> None:
    lines = [f"{DS} 10:00:{n:02d} {level} disk {n} is slow" for n, level in enumerate(["WARN", "WARN", "ERROR"])]
    put_file(tmp_path, f"app/{DS}.log", "\n".join([*lines, f"{DS} 10:01:00 AUDIT somebody logged in"]) + "\n")
    system = make_system(session=Session(kind="field"))
    ingest(lake, system, DS, tmp_path)
    parse(lake, system, DS, "run")
    texts = {row["template_id"]: row["text"] for row in lake.rows(TEMPLATES)}
    rows = {texts[row["template_id"]]: (row["n"], row["level"]) for row in lake.rows(TEMPLATE_COUNTS)}
    assert rows == {"disk <NUM> is slow": (3, "warning"), "somebody logged in": (1, None)}
