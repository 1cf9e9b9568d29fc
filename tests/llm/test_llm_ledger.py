"""What the LLM costs, request by request and night by night."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from llm_stub import Stub, answer_all, completion, settings_at
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_BATCHES, LLM_CALLS, NIGHTS
from nightlog.llm.budget import Cost, Spent, cost, spending
from nightlog.llm.judge import make_judge
from nightlog.llm.label import label_patterns
from nightlog.settings import Prices, Settings
from nightlog.systems.spec import System

DS = "2008-11-10"
NOON = datetime(2008, 11, 11, 12, tzinfo=UTC)


def test_cached_tokens_and_batches_are_cheaper() -> None:
    prices = Prices(1.0, 0.1, 10.0, batch=0.5)
    assert prices.of(1_000_000, 0) == 1.0
    assert prices.of(1_000_000, 0, tokens_cached=1_000_000) == 0.1
    assert prices.of(0, 1_000_000) == 10.0
    assert prices.of(0, 1_000_000, in_batch=True) == 5.0
    assert prices.of(0, 0) == 0


def test_prices_are_settings(monkeypatch: Any) -> None:
    assert Settings().prices == Prices(0.25, 0.025, 2.0, 0.5)
    for name, price in (("IN", "1.5"), ("CACHED", "0.5"), ("OUT", "9")):
        monkeypatch.setenv(f"NIGHTLOG_LLM_PRICE_{name}", price)
    assert Settings().prices == Prices(1.5, 0.5, 9.0)


def test_each_request_is_in_the_ledger(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, {f"pat-{n}": [(f"step {'abcde'[n]} done", 1)] for n in range(5)}, sessions={"pat-0": 90, "pat-1": 5})

    def cached(body: dict[str, Any]) -> dict[str, Any]:
        found = completion(answer_all(body))
        found["usage"] |= {"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 400}, "completion_tokens": 50}
        return found

    moments = iter(NOON + timedelta(seconds=n) for n in range(100))
    stub.reactions = [lambda body: json.dumps({"verdicts": []}), cached]
    judge = judge_at(stub.url, llm_items_per_call=4)
    found, _ = label_patterns(lake, system, DS, "run", judge, lambda: next(moments), Prices(1.0, 0.5, 2.0))
    rows = sorted(lake.rows(LLM_CALLS), key=lambda row: row["at"])
    assert [(row["items"], row["n_sessions"], row["calls"], row["tokens_in"], row["tokens_cached"], row["tokens_out"]) for row in rows] == [
        (4, 97, 1, 100, 0, 10),
        *[(1, 0, 1, 1000, 400, 50)] * 4,
        (1, 1, 1, 1000, 400, 50),
    ]
    assert {(row["system"], row["ds"], row["run_id"], row["mode"], row["llm"], row["round"], row["seconds"]) for row in rows} == {
        ("hdfs", DS, "run", "generallog", "openai:gpt-5-mini", 1, 1.0)
    }
    assert rows[0]["trouble"] == "verdicts not usable: 4 missing"
    assert [round(row["money"], 9) for row in rows] == [0.00012, *[0.0009] * 5]
    assert (found["llm_calls"], found["llm_tokens_cached"]) == (6, 2000)

    lake.append(NIGHTS, [{"system": "hdfs", "ds": DS, "outcome": "done", "n_sessions": 980}])
    (total,) = cost(lake)
    assert total == {
        "ds": DS,
        "system": "hdfs",
        "mode": "generallog",
        "llm": "openai:gpt-5-mini",
        "calls": 6,
        "items": 9,
        "tokens_in": 5100,
        "tokens_cached": 2000,
        "tokens_out": 260,
        "money": 0.00462,
        "seconds": 6.0,
        "sessions_asked": 0.1,
    }
    label_patterns(lake, system, DS, "again", judge, lambda: next(moments))
    assert cost(lake) == [total], "a night that asks nothing costs nothing"


def test_costs_are_summed_by_night_system_and_mode(lake: Lake) -> None:
    def row(ds: str, system: str, mode: str = "generallog", number: int = 1) -> dict[str, Any]:
        counted = dict.fromkeys(("calls", "items", "n_sessions", "tokens_in", "tokens_cached", "tokens_out"), 1)
        return {"ds": ds, "system": system, "mode": mode, "round": number, "money": 0.1, "seconds": 2.0, "at": NOON} | counted

    days = [f"2008-11-{n:02}" for n in (9, 10, 11)]
    lake.append(LLM_CALLS, [row(ds, system) for ds in days for system in ("bgl", "hdfs")])
    lake.append(LLM_CALLS, [row(days[0], "hdfs", number=2), row(days[0], "hdfs", "fusionlog")])
    assert len(cost(lake)) == 7
    assert [(each["ds"], each["mode"], each["calls"]) for each in cost(lake, days[0], days[1], "hdfs")] == [
        (days[0], "fusionlog", 1),
        (days[0], "generallog", 2),
        (days[1], "generallog", 1),
    ]
    assert cost(lake)[0]["sessions_asked"] is None, "the night was never published"
    assert cost(Lake(lake.root + "-absent")) == cost(lake, "2009-01-01") == []


def test_the_months_spending_is_that_of_its_calendar_month_with_what_waits_in_batches(lake: Lake) -> None:
    def call(ds: str, at: datetime) -> dict[str, Any]:
        return {"ds": ds, "system": "hdfs", "calls": 2, "tokens_in": 900, "tokens_out": 100, "money": 0.25, "at": at}

    def batch(status: str, at: datetime) -> dict[str, Any]:
        reserved = {name: value for name, value in call(DS, NOON).items() if name != "at"}
        return reserved | {"batch": status, "status": status, "submitted_at": at}

    now = datetime(2008, 11, 30, 23, tzinfo=UTC)
    assert spending(lake, DS, now) == Spent()
    backfilled = datetime(2008, 11, 1, tzinfo=UTC)
    lake.append(LLM_CALLS, [call(DS, NOON), call("2008-10-31", backfilled), call("2007-11-10", datetime(2007, 11, 11, tzinfo=UTC))])
    lake.append(LLM_CALLS, [call(DS, datetime(2008, 12, 1, tzinfo=UTC))])
    assert spending(lake, DS, now) == Spent(Cost(4, 2000, 0.5), Cost(4, 2000, 0.5))
    states = {"submitting": NOON, "open": datetime(2008, 12, 2, tzinfo=UTC), "collected": NOON, "lost": NOON}
    lake.append(LLM_BATCHES, [batch(name, at) for name, at in states.items()])
    assert spending(lake, DS, now) == Spent(Cost(8, 4000, 1.0), Cost(6, 3000, 0.75))


def test_the_months_budget_holds_over_nights(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    for day in range(1, 5):
        ds, now = f"2008-11-{day:02}", datetime(2008, 11, day, 12, tzinfo=UTC)
        put_night(lake, {f"p-{n}": [(f"step {'abcdefgh'[n]} done", 1)] for n in range(8)}, ds=ds)
        settings = {"llm_items_per_call": 2, "llm_calls_per_night": 2, "llm_calls_per_month": 3}
        used = spending(lake, ds, now)
        judge = make_judge(settings_at(stub.url, **settings), spent=used)
        _, detail = label_patterns(lake, system, ds, f"run-{day}", judge, lambda now=now: now)
    assert len(stub.requests) == 3
    assert "2 of 8 proprietary patterns wait for the next run: the month's budget of 3 LLM calls is spent" in str(detail)
