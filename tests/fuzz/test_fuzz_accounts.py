"""A few random worlds; `make fuzz` simulates as many as fit into its minutes."""

from __future__ import annotations

import pytest
from accounts import in_order, simulate


@pytest.mark.parametrize("seed", [3, 9])
def test_the_accounts_of_random_nights_hold(seed: int) -> None:
    figures = simulate(seed)
    assert figures.nights >= 8 and figures.waited and figures.judged_again


def test_nights_in_another_order_end_in_the_same_tables() -> None:
    assert in_order(9).waited
