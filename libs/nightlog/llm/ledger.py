"""What the LLM costs: one row a request in ops.llm_calls, and their sums by night, system and mode."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from nightlog.lake.store import Lake
from nightlog.lake.tables import LLM_CALLS, NIGHTS
from nightlog.llm.judge import Answer
from nightlog.settings import Prices

SUMMED = ("calls", "items", "tokens_in", "tokens_cached", "tokens_out", "money", "seconds")


def money(answer: Answer, prices: Prices) -> float:
    """What an answer costs in US dollars.

    >>> money(Answer((), 1, 1_000_000, 500_000, tokens_cached=800_000), Prices(0.25, 0.025, 2.0))
    1.07
    """
    fresh = answer.tokens_in - answer.tokens_cached
    return round((fresh * prices.input + answer.tokens_cached * prices.cached + answer.tokens_out * prices.output) / 1e6, 9)


def spent(answer: Answer, prices: Prices) -> dict[str, Any]:
    """The part of a row of ops.llm_calls that is about the request."""
    return {
        "round": answer.round,
        "calls": answer.calls,
        "items": len(answer.asked),
        "tokens_in": answer.tokens_in,
        "tokens_cached": answer.tokens_cached,
        "tokens_out": answer.tokens_out,
        "money": money(answer, prices),
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
