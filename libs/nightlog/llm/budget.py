"""How much may be asked: hard limits for the night and the month, and an end to asking where the endpoint is broken."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from nightlog.errors import BudgetExhausted
from nightlog.settings import Limits

FAILURES_IN_A_ROW = 5
UNLIMITED = Limits()
UNITS = {"calls": "LLM calls", "tokens": "LLM tokens", "money": "US dollars for the LLM"}


@dataclass(frozen=True)
class Cost:
    """Calls, tokens (in and out together) and US dollars."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.calls + other.calls, self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.calls - other.calls, self.tokens - other.tokens, self.money - other.money)


@dataclass(frozen=True)
class Spent:
    """What earlier runs have spent, and what waits in open batches: on this night, and in this calendar month."""

    night: Cost = Cost()
    month: Cost = Cost()


class Budget:
    """What may still be spent. Each call's expected cost is reserved before it is made and replaced by the true one after it. Safe to
    share between threads.

    Calls never go beyond their limit. Tokens and money are known only after a call, so they can pass theirs by what the calls under way
    cost above what was expected.
    """

    def __init__(self, night: Limits, month: Limits = UNLIMITED, spent: Spent = Spent()):
        self._limits = {"night": night, "month": month}
        self._used = {"night": spent.night, "month": spent.month}
        self._lock = Lock()

    def _obstacle(self, expected: Cost) -> str | None:
        for period, limits in self._limits.items():
            used = self._used[period]
            for unit, limit in limits._asdict().items():
                if limit is not None and getattr(used, unit) + getattr(expected, unit) > limit:
                    most = f"{limit:.2f}" if unit == "money" else f"{limit}"
                    rest = "is spent" if unit == "calls" else f"has no room for another request ({getattr(used, unit):.10g} are spent)"
                    setting = f"NIGHTLOG_LLM_{unit.upper()}_PER_{period.upper()}"
                    return f"the {period}'s budget of {most} {UNITS[unit]} {rest} (raise {setting})"
        return None

    def allows(self, expected: Cost) -> bool:
        """May a call of this cost be made now?"""
        with self._lock:
            return self._obstacle(expected) is None

    def reserve(self, expected: Cost) -> None:
        """Take what a call may cost off the budget. Raises BudgetExhausted, and takes nothing, where it does not fit."""
        with self._lock:
            if (obstacle := self._obstacle(expected)) is not None:
                raise BudgetExhausted(obstacle)
            self._used = {period: used + expected for period, used in self._used.items()}

    def settle(self, expected: Cost, actual: Cost) -> None:
        """Put the true cost of a call in the place of what was reserved for it."""
        with self._lock:
            self._used = {period: used - expected + actual for period, used in self._used.items()}


class Breaker:
    """Ends the asking for this night: after some failed requests in a row, or at once where more requests cannot help. Safe to share
    between threads."""

    def __init__(self, limit: int = FAILURES_IN_A_ROW):
        self.limit = limit
        self.why: str | None = None
        self._failures = 0
        self._lock = Lock()

    def succeeded(self) -> None:
        """A request brought at least one verdict."""
        with self._lock:
            self._failures = 0

    def failed(self, trouble: str) -> None:
        """A request brought nothing, in spite of its retries."""
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= self.limit:
            self.trip(f"{trouble}; {failures} requests in a row failed, no more are made tonight")

    def trip(self, why: str) -> None:
        """No more requests tonight. The first reason stays."""
        with self._lock:
            self.why = self.why or why
