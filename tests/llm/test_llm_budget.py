"""A budget is never exceeded, by threads neither; a breaker keeps its first reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from nightlog.errors import BudgetExhausted
from nightlog.llm.budget import Breaker, Budget


def test_threads_together_get_exactly_the_budget() -> None:
    budget = Budget(100, spent=40)

    def take(_: int) -> bool:
        try:
            budget.reserve()
        except BudgetExhausted:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(take, range(500))) == 60
    assert budget.left == 0


def test_nothing_is_left_of_an_overspent_budget() -> None:
    assert Budget(3, spent=5).left == 0
    with pytest.raises(BudgetExhausted, match="budget of 0 LLM calls"):
        Budget(0).reserve()


def test_the_breaker_counts_failures_in_a_row() -> None:
    breaker = Breaker(limit=3)
    for _ in range(2):
        breaker.failed("time-out")
    breaker.succeeded()
    for _ in range(2):
        breaker.failed("time-out")
    assert breaker.why is None
    breaker.failed("time-out")
    assert breaker.why == "time-out; 3 requests in a row failed, no more are made tonight"
    breaker.trip("other")
    assert str(breaker.why).startswith("time-out")
