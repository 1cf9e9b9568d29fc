"""The cost of the LLM: hard limits per night and month, and the ledger in ops.llm_calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from nightlog.errors import BudgetExhausted
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_BATCHES, LLM_CALLS, NIGHTS
from nightlog.llm.items import Answer
from nightlog.settings import Limits, Prices

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


SUMMED = ("calls", "items", "tokens_in", "tokens_cached", "tokens_out", "money", "seconds")
UNSETTLED = ("submitting", "open")  # batches that may still cost what was reserved for them


def month_of(moment: datetime) -> str:
    """The calendar month of a moment, UTC; what has no time zone is UTC already.

    >>> month_of(datetime(2026, 3, 4, tzinfo=UTC))
    '2026-03'
    """
    return (moment.astimezone(UTC) if moment.tzinfo is not None else moment).strftime("%Y-%m")


def cost_of(row: Mapping[str, Any]) -> Cost:
    """What a row of ops.llm_calls or ops.llm_batches cost or may cost."""
    return Cost(row["calls"] or 0, (row["tokens_in"] or 0) + (row["tokens_out"] or 0), row["money"] or 0.0)


def spending(lake: Lake, ds: str, now: datetime) -> Spent:
    """What was spent on the night `ds` and in the calendar month of `now`, with what is reserved for batches that are still open."""
    night, month = Cost(), Cost()
    columns = ["ds", "calls", "tokens_in", "tokens_out", "money"]
    made = [(row, row["at"]) for row in lake.rows(LLM_CALLS, [*columns, "at"])]
    reserved = [
        (row, row["submitted_at"]) for row in lake.rows(LLM_BATCHES, [*columns, "submitted_at", "status"]) if row["status"] in UNSETTLED
    ]
    for row, at in made + reserved:
        if row["ds"] == ds:
            night += cost_of(row)
        if month_of(at) == month_of(now):
            month += cost_of(row)
    return Spent(night, month)


def call_row(answer: Answer, prices: Prices) -> dict[str, Any]:
    """The part of a row of ops.llm_calls that is about the request."""
    return {
        "round": answer.round,
        "calls": answer.calls,
        "items": len(answer.asked),
        "tokens_in": answer.tokens_in,
        "tokens_cached": answer.tokens_cached,
        "tokens_out": answer.tokens_out,
        "money": prices.of(answer.tokens_in, answer.tokens_out, answer.tokens_cached),
        "trouble": answer.trouble,
    }


def cost(lake: Lake, since: str = "", until: str = "9999", system: str | None = None) -> list[dict[str, Any]]:
    """The sums of each night, system and mode from day `since` to `until`, both included, by day; nights that asked nothing are left out.

    `sessions_asked` is the share of the night's sessions whose question was new to the LLM, null where the night was never published.
    """
    equal = {"system": system} if system is not None else {}
    n_sessions = {(row["system"], row["ds"]): row["n_sessions"] for row in lake.rows(NIGHTS, ["system", "ds", "n_sessions"], **equal)}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in lake.rows(LLM_CALLS, None, **equal):
        if since <= row["ds"] <= until:
            groups[row["ds"], row["system"], row["mode"]].append(row)
    found = []
    for (ds, name, mode), rows in sorted(groups.items()):
        total = n_sessions.get((name, ds))
        asked = sum(row["n_sessions"] for row in rows if row["round"] == 1)
        sums = {column: round(sum(row[column] for row in rows), 6) for column in SUMMED}
        found.append({"ds": ds, "system": name, "mode": mode} | sums | {"sessions_asked": round(asked / total, 6) if total else None})
    return found
