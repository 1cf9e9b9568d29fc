"""What the LLM costs: one row a request in ops.llm_calls, their sums by night, system and mode, and what is left to spend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_BATCHES, LLM_CALLS, NIGHTS
from nightlog.llm.budget import Cost, Spent
from nightlog.llm.judge import Answer
from nightlog.settings import Prices

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


def spent(answer: Answer, prices: Prices) -> dict[str, Any]:
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
