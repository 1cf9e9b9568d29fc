"""Signals of three weeks of logs with planted changes: most are found, and hardly any other is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_month import QUIET_NIGHTS, month, run_month


@pytest.mark.slow
def test_planted_changes_are_found_and_ordinary_nights_are_calm(tmp_path: Path) -> None:
    score = run_month(tmp_path, QUIET_NIGHTS + 7, seed=3)
    assert score.planted.total() >= 10 and score.found.total() >= 0.75 * score.planted.total(), score
    assert score.n_false <= 1, score.false


def test_a_month_is_the_same_by_the_same_seed_and_its_first_nights_are_quiet() -> None:
    one, other = ([(night.ds, night.changes, night.lines) for night in month(16, 5)] for _ in range(2))
    assert one == other and [night[1] for night in one[:QUIET_NIGHTS]] == [[]] * QUIET_NIGHTS and one[-1][1]
