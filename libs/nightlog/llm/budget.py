"""The cost of the LLM: hard limits per night and month, and the ledger in ops.llm_calls."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from nightlog.errors import BudgetExhausted
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_BATCHES, LLM_CALLS, NIGHTS, LlmBatchRow, LlmCallRow
from nightlog.llm.items import Answer
from nightlog.settings import Limits, Prices

FAILURES_IN_A_ROW = 5
UNLIMITED = Limits()
SUMMED = ("calls", "items", "tokens_in", "tokens_cached", "tokens_out", "money", "seconds")
UNSETTLED = ("submitting", "open")  # batches that may still cost what was reserved for them
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
    """The cost of earlier runs and of open batches: on this night, and in this calendar month."""

    night: Cost = Cost()
    month: Cost = Cost()


class Budget:
    """The rest of the limits. Each call's expected cost is reserved before it is made and replaced by the true one after it.

    Calls never exceed their limit. Tokens and money are known only after a call, so they can exceed theirs by the part that the calls
    under way cost above the expectation. Safe to share between threads.
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
        """Return True if a call of this cost may be made now."""
        with self._lock:
            return self._obstacle(expected) is None

    def reserve(self, expected: Cost) -> None:
        """Reserve the expected cost of a call. Raises BudgetExhausted, and reserves nothing, if it does not fit."""
        with self._lock:
            if (obstacle := self._obstacle(expected)) is not None:
                raise BudgetExhausted(obstacle)
            self._used = {period: used + expected for period, used in self._used.items()}

    def settle(self, expected: Cost, actual: Cost) -> None:
        """Replace the reservation of a call by its true cost."""
        with self._lock:
            self._used = {period: used - expected + actual for period, used in self._used.items()}


class TimeLimit:
    """Ends the asking of one process after so many minutes, counted from the first question."""

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic):
        self._minutes = minutes
        self._clock = clock
        self._began: float | None = None

    def reason(self) -> str | None:
        """Return the reason to ask no more, None while there is time."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        if now - self._began < 60 * self._minutes:
            return None
        return f"the {self._minutes:g} minutes for asking are over (raise NIGHTLOG_LLM_MINUTES_PER_NIGHT)"


class Breaker:
    """Ends the asking for this night: after some failures in a row, or at once if more requests cannot help.

    A request and the smaller ones that it was split into are one failure. Safe to share between threads.
    """

    def __init__(self, limit: int = FAILURES_IN_A_ROW):
        self.limit = limit
        self.why: str | None = None
        self._failures = 0
        self._lock = Lock()

    def succeeded(self) -> None:
        """Note a request that brought at least one verdict."""
        with self._lock:
            self._failures = 0

    def failed(self, trouble: str) -> None:
        """Note a request that brought nothing, in spite of retries and smaller requests."""
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= self.limit:
            self.trip(f"{trouble}; {failures} requests in a row failed, no more are made tonight")

    def trip(self, reason: str) -> None:
        """Allow no more requests tonight. The first reason stays."""
        with self._lock:
            self.why = self.why or reason


# The ledger


def month_of(moment: datetime) -> str:
    """Return the calendar month of a moment, UTC; a moment without a time zone is UTC already.

    >>> month_of(datetime(2026, 3, 4, tzinfo=UTC))
    '2026-03'
    """
    return (moment.astimezone(UTC) if moment.tzinfo is not None else moment).strftime("%Y-%m")


def cost_of(row: LlmCallRow | LlmBatchRow) -> Cost:
    """Return the cost of a row of ops.llm_calls, or the reservation of one of ops.llm_batches."""
    return Cost(row["calls"] or 0, (row["tokens_in"] or 0) + (row["tokens_out"] or 0), row["money"] or 0.0)


def spending(lake: Lake, ds: str, now: datetime) -> Spent:
    """Return the cost of the night `ds` and of the calendar month of `now`, with the reservations of open batches."""
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


def call_row(answer: Answer, prices: Prices) -> LlmCallRow:
    """Return the columns of ops.llm_calls that are about the request."""
    judged = {verdict.id for verdict in answer.verdicts}
    return {
        "round": answer.round,
        "calls": answer.calls,
        "items": len(answer.asked),
        "unanswered": [question for question in answer.asked if question not in judged],
        "tokens_in": answer.tokens_in,
        "tokens_cached": answer.tokens_cached,
        "tokens_out": answer.tokens_out,
        "money": prices.of(answer.tokens_in, answer.tokens_out, answer.tokens_cached),
        "trouble": answer.trouble,
    }


def failed_runs(lake: Lake, system: str, llm: str) -> dict[str, set[tuple[str, str]]]:
    """Return question id → the runs, as (ds, run_id), in which a request asked it and got no verdict on it."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in lake.rows(LLM_CALLS, ["ds", "run_id", "unanswered"], system=system, llm=llm):
        for question in row["unanswered"] or ():
            found[question].add((row["ds"], row["run_id"]))
    return found


def cost(lake: Lake, since: str = "", until: str = "9999", system: str | None = None) -> list[dict[str, Any]]:
    """Return the sums of each night, system, mode and model from day `since` to `until`, both included, by day.

    Nights that asked nothing are left out. `sessions_asked` is the share of the night's sessions whose question was put to the LLM, at
    most 1; null if the night was never published.
    """
    equal = {"system": system} if system is not None else {}
    n_sessions = {(row["system"], row["ds"]): row["n_sessions"] for row in lake.rows(NIGHTS, ["system", "ds", "n_sessions"], **equal)}
    groups: dict[tuple[str, str, str, str], list[LlmCallRow]] = defaultdict(list)
    for row in lake.rows(LLM_CALLS, None, **equal):
        if since <= row["ds"] <= until:
            groups[row["ds"], row["system"], row["mode"] or "", row["llm"] or ""].append(row)
    return [
        {"ds": ds, "system": name, "mode": mode, "llm": llm} | sums(rows) | {"sessions_asked": share(rows, n_sessions.get((name, ds)))}
        for (ds, name, mode, llm), rows in sorted(groups.items())
    ]


def sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of each column in SUMMED."""
    return {column: round(sum(row[column] or 0 for row in rows), 6) for column in SUMMED}


def share(rows: Sequence[LlmCallRow], n_sessions: int | None) -> float | None:
    """Return the share of a night's sessions that requests of the first round asked about."""
    asked = sum(row["n_sessions"] or 0 for row in rows if row["round"] == 1)
    return min(1.0, round(asked / n_sessions, 6)) if n_sessions else None


def with_total(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `cost` and their total as the last row, if there are any."""
    if not rows:
        return []
    blank = dict.fromkeys(rows[0]) | {"ds": "total", "system": "", "mode": "", "llm": ""}
    return [*rows, blank | sums(rows)]
