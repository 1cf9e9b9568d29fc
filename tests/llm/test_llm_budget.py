"""A budget is never exceeded, by threads neither; a breaker keeps its first reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from nightlog.errors import BudgetExhausted
from nightlog.llm.budget import Breaker, Budget, Cost, Spent
from nightlog.settings import Limits

CALL = Cost(1, 1000, 0.01)


@pytest.mark.parametrize(
    ("night", "month"),
    [
        (Limits(calls=100), Limits()),
        (Limits(tokens=100_000), Limits()),
        (Limits(money=1.001), Limits()),
        (Limits(calls=500), Limits(calls=100)),
        (Limits(), Limits(tokens=100_999)),
        (Limits(), Limits(money=1.009)),
        (Limits(200, 150_000, 5.0), Limits(1000, 100_000, 50.0)),
    ],
)
def test_threads_together_get_exactly_the_budget(night: Limits, month: Limits) -> None:
    before = Cost(40, 40_000, 0.4)
    budget = Budget(night, month, Spent(before, before))

    def take(_: int) -> bool:
        try:
            budget.reserve(CALL)
        except BudgetExhausted:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(take, range(500))) == 60
    assert not budget.allows(CALL)


def test_what_was_reserved_makes_room_once_the_true_cost_is_known() -> None:
    budget = Budget(Limits(tokens=2500), Limits(money=1.0))
    for _ in range(2):
        budget.reserve(CALL)
    assert not budget.allows(CALL)
    budget.settle(CALL, Cost(1, 100, 0.001))
    budget.reserve(CALL)
    budget.settle(CALL, Cost(1, 5000, 0.001))
    with pytest.raises(BudgetExhausted, match=r"the night's budget of 2500 LLM tokens has no room .*6100 are spent.*TOKENS_PER_NIGHT"):
        budget.reserve(Cost(1))


@pytest.mark.parametrize(
    ("night", "month", "said"),
    [
        (Limits(calls=0), Limits(), "the night's budget of 0 LLM calls is spent .raise NIGHTLOG_LLM_CALLS_PER_NIGHT"),
        (Limits(calls=9), Limits(calls=0), "the month's budget of 0 LLM calls is spent .raise NIGHTLOG_LLM_CALLS_PER_MONTH"),
        (Limits(), Limits(money=0.005), "the month's budget of 0.01 US dollars for the LLM .*NIGHTLOG_LLM_MONEY_PER_MONTH"),
    ],
)
def test_the_message_names_the_budget_and_its_setting(night: Limits, month: Limits, said: str) -> None:
    with pytest.raises(BudgetExhausted, match=said):
        Budget(night, month).reserve(CALL)


def test_a_refused_call_takes_nothing() -> None:
    budget = Budget(Limits(tokens=1500))
    budget.reserve(CALL)
    with pytest.raises(BudgetExhausted):
        budget.reserve(CALL)
    budget.reserve(Cost(1, 500))


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
