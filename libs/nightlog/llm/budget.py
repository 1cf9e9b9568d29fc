"""How much may be asked in one night: a hard number of calls, and an end to asking where the endpoint is broken."""

from __future__ import annotations

from threading import Lock

from nightlog.errors import BudgetExhausted

FAILURES_IN_A_ROW = 5


class Budget:
    """Calls of one night, each reserved before it is made. Safe to share between threads.

    Args: limit, calls allowed in the night; spent, calls already made by earlier runs of the night.
    """

    def __init__(self, limit: int, spent: int = 0):
        self.limit = limit
        self._used = spent
        self._lock = Lock()

    @property
    def left(self) -> int:
        """Calls that may still be made."""
        return max(0, self.limit - self._used)

    def reserve(self) -> None:
        """Take one call off the budget. Raises BudgetExhausted, and takes nothing, where none is left."""
        with self._lock:
            if self._used >= self.limit:
                raise BudgetExhausted(f"the night's budget of {self.limit} LLM calls is spent (raise NIGHTLOG_LLM_CALLS_PER_NIGHT)")
            self._used += 1


class Breaker:
    """Ends the asking for this night: after some failed requests in a row, or at once where more requests cannot help."""

    def __init__(self, limit: int = FAILURES_IN_A_ROW):
        self.limit = limit
        self.why: str | None = None
        self._failures = 0

    def succeeded(self) -> None:
        """A request brought at least one verdict."""
        self._failures = 0

    def failed(self, trouble: str) -> None:
        """A request brought nothing, in spite of its retries."""
        self._failures += 1
        if self._failures >= self.limit:
            self.trip(f"{trouble}; {self._failures} requests in a row failed, no more are made tonight")

    def trip(self, why: str) -> None:
        """No more requests tonight. The first reason stays."""
        self.why = self.why or why
