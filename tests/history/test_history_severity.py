"""Severity of wordings and levels."""

from __future__ import annotations

import pytest
from nightlog.history.severity import level_severity, wording_severity


@pytest.mark.parametrize(
    ("milder", "worse"),
    [
        ("connection accepted", "connection refused"),
        ("3 errors corrected", "3 errors"),
        ("query cancelled by user request", "query aborted"),
        ("warning: slow disk", "disk failure"),
        ("syntax error near <*>", "unrecoverable error"),
        ("request failed", "kernel panic"),
        ("completed with no errors", "completed with errors"),
        ("failed=0 done", "failed=<*> done"),
    ],
)
def test_one_wording_is_milder_than_another(milder: str, worse: str) -> None:
    assert wording_severity(milder) < wording_severity(worse)


def test_camel_case_and_underscores_are_words() -> None:
    assert wording_severity("java.net.SocketTimeoutException") == wording_severity("IOException") == wording_severity("io_exception") > 0


def test_parts_of_other_words_and_masks_are_no_trouble() -> None:
    for text in ("terror alerting badge", "<ERROR> opened", "breakdownload", "", "<*>", "Ünïcödé ☂"):
        assert wording_severity(text) == 0.0


def test_levels_of_many_programs() -> None:
    assert level_severity(" fatal ") == level_severity("PANIC") == level_severity("crit") == level_severity("2") == 1.0
    assert level_severity("Error") == level_severity("3") > level_severity("WARNING") > 0.0
    assert level_severity("notice") == level_severity("6") == level_severity("") == level_severity(None) == 0.0
