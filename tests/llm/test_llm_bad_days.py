"""Bad days of an endpoint, each caused over HTTP: the night ends, what was answered is kept, the rest is asked by the next run."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from llm_stub import Stub, answer_all, asked, completion, settings_at, verdict_on
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_CALLS, VERDICTS
from nightlog.llm.budget import spending
from nightlog.llm.connection import MAX_ANSWER
from nightlog.llm.judge import make_judge
from nightlog.llm.label import label_patterns
from nightlog.systems.spec import System

DS = "2008-11-10"
NOON = datetime(2008, 11, 11, 12, tzinfo=UTC)
PER_CALL = 2

Body = dict[str, Any]


def clock() -> datetime:
    return NOON


def patterns(number: int) -> dict[str, list[tuple[str, int]]]:
    return {f"pat-{n:03d}": [(f"step number {chr(97 + n)} done", 1)] for n in range(number)}


def error(status: int, code: str = "", **headers: str) -> Callable[[Body], Any]:
    return lambda body: (status, {"error": {"message": "no", "code": code or None}}, {k.replace("_", "-"): v for k, v in headers.items()})


def said(change: Callable[[list[Any]], list[Any]], **how: Any) -> Callable[[Body], Any]:
    """A whole answer with its verdicts changed."""
    return lambda body: completion(json.dumps({"verdicts": change([verdict_on(item) for item in asked(body)])}), **how)


def slow(body: Body) -> str:
    time.sleep(0.4)
    return answer_all(body)


def drip() -> Iterator[bytes]:
    """Blanks for ever, as some gateways send them to keep a connection open."""
    for _ in range(600):
        yield b" "
        time.sleep(0.02)


def flood() -> Iterator[bytes]:
    """More than any answer has, as fast as it goes."""
    yield b'{"choices": [{"message": {"content": "'
    yield from itertools.repeat(b"a" * 1_000_000, 2 * MAX_ANSWER // 1_000_000)


def torn(body: Body) -> tuple[int, Iterator[bytes], dict[str, str]]:
    """The connection ends in the middle of the answer."""
    whole = json.dumps(completion(answer_all(body))).encode()
    return 200, iter([whole[: len(whole) // 2]]), {"Content-Length": str(len(whole))}


# Fault → (what the endpoint does after a first good answer, verdicts that are kept of six, what the night tells)
LASTING: dict[str, tuple[Callable[[Body], Any], int, str]] = {
    "errors 500": (error(500), 2, "127.0.0.1 answered 500"),
    "rate limit": (error(429, "rate_limit_exceeded", Retry_After="2"), 2, "127.0.0.1 answered 429 rate_limit_exceeded"),
    "quota gone": (error(429, "insufficient_quota"), 2, "127.0.0.1 answered 429 insufficient_quota"),
    "wrong key": (error(401, "invalid_api_key"), 2, "127.0.0.1 answered 401 invalid_api_key: check OPENAI_API_KEY"),
    "time-out": (slow, 2, "127.0.0.1 did not answer in time"),
    "reset in the middle of an answer": (torn, 2, "the connection to 127.0.0.1 broke off"),
    "endless answer": (lambda body: (200, drip(), {}), 2, "127.0.0.1 did not answer in time"),
    "endless error": (lambda body: (500, drip(), {}), 2, "127.0.0.1 did not answer in time"),
    "flood": (lambda body: (200, flood(), {}), 2, "the connection to 127.0.0.1 broke off"),
    "a page of HTML": (lambda body: (200, iter([b"<html>busy</html>"]), {}), 2, "127.0.0.1 answered something that is no chat completion"),
    "refusal": (lambda body: completion(None, refusal="I cannot help with that"), 2, "the LLM refused to answer"),
    "cut off": (lambda body: completion(answer_all(body)[:60], "length"), 2, "the answer is cut off"),
    "confidence out of range": (said(lambda verdicts: [v | {"confidence": 97} for v in verdicts]), 2, "with a bad confidence"),
    "redirect": (lambda body: (307, "", {"Location": "/elsewhere"}), 2, "127.0.0.1 answered 307: no redirect is followed"),
    "half of each answer": (said(lambda verdicts: verdicts[:1]), 6, ""),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_ends_in_one_defined_way(stub: Stub, lake: Lake, put_night: Any, system: System, fault: str) -> None:
    """Kept are the verdicts that came; the night tells the rest; a later run asks for exactly that, and is charged for it alone."""
    reaction, kept, told = LASTING[fault]
    put_night(lake, patterns(6))
    settings = settings_at(stub.url, llm_items_per_call=PER_CALL, llm_timeout_s=0.2, llm_calls_per_night=40)
    stub.reactions = [answer_all, reaction]
    counts, detail = label_patterns(lake, system, DS, "run-1", make_judge(settings, sleep=lambda _: None), clock)
    assert len(lake.rows(VERDICTS)) == kept == counts["verdicts_new"]
    assert counts["llm_failed"] == 6 - kept
    assert told in (detail or "")
    assert (detail is None) == (kept == 6)
    assert counts["llm_calls"] == len(stub.requests) == sum(row["calls"] for row in lake.rows(LLM_CALLS)) <= 40
    before = len(stub.requests)
    stub.reactions = [answer_all]
    later = settings_at(stub.url, llm_items_per_call=PER_CALL)
    judge = make_judge(later, spent=spending(lake, DS, NOON), sleep=lambda _: None)
    counts, detail = label_patterns(lake, system, DS, "run-2", judge, clock)
    assert (counts["verdicts_known"], counts["verdicts_new"], counts["llm_failed"], detail) == (kept, 6 - kept, 0, None)
    assert len(stub.requests) - before == (6 - kept) // PER_CALL
    assert len(lake.rows(VERDICTS)) == 6


PASSING: dict[str, Callable[[Body], Any]] = {
    "error 503": error(503),
    "rate limit with Retry-After": error(429, "rate_limit_exceeded", Retry_After="7"),
    "time-out": slow,
    "connection cut": lambda body: None,
    "reset in the middle of an answer": torn,
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_costs_a_call_and_nothing_else(stub: Stub, lake: Lake, put_night: Any, system: System, fault: str) -> None:
    put_night(lake, patterns(4))
    waits: list[float] = []
    stub.reactions = [PASSING[fault], answer_all]
    judge = make_judge(settings_at(stub.url, llm_items_per_call=PER_CALL, llm_timeout_s=0.2), sleep=waits.append)
    counts, detail = label_patterns(lake, system, DS, "run", judge, clock)
    halved = fault == "time-out"
    assert (counts["verdicts_new"], counts["llm_calls"], counts["llm_failed"], detail) == (4, 5 if halved else 3, 0, None)
    assert len(waits) == (0 if halved else 1)
    assert all(7 <= wait <= 8 if "Retry-After" in fault else wait <= 2 for wait in waits)


def test_failures_in_a_row_end_the_asking_for_all_systems(stub: Stub, lake: Lake, put_night: Any, systems: Callable[..., System]) -> None:
    stub.reactions = [error(500)]
    judge = make_judge(settings_at(stub.url, llm_items_per_call=1), sleep=lambda _: None)
    for name in ("one", "two"):
        put_night(lake, patterns(9), name)
        counts, detail = label_patterns(lake, systems(name), DS, "run", judge, clock)
        assert counts["llm_failed"] == 9
        assert "5 requests in a row failed, no more are made tonight" in str(detail)
    assert len(stub.requests) == 25


def test_another_model_under_the_same_name_is_told_and_kept_apart(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    """What was judged stays judged: asking everything again would change past nights and cost a budget, without anybody's decision."""

    def served(model: str, fingerprint: str | None = None) -> Callable[[Body], Body]:
        return lambda body: completion(answer_all(body)) | {"model": model, "system_fingerprint": fingerprint}

    put_night(lake, patterns(4))
    judge = make_judge(settings_at(stub.url, llm_items_per_call=1))
    stub.reactions = [served("m-2025", "fp_1"), served("m-2025", "fp_2")]
    _, detail = label_patterns(lake, system, DS, "run-1", judge, clock)
    assert detail is None, "a fingerprint changes with every small repair"
    rows = lake.rows(VERDICTS)
    assert sorted(row["served_by"] for row in rows) == ["m-2025 fp_1", *["m-2025 fp_2"] * 3]
    put_night(lake, patterns(6), ds="2008-11-11")
    stub.reactions = [served("m-2026")]
    counts, detail = label_patterns(lake, system, "2008-11-11", "run-2", judge, clock)
    assert (counts["verdicts_known"], counts["verdicts_new"]) == (4, 2)
    assert detail == "LLM: openai:gpt-5-mini is answered by m-2026 now, by m-2025 before; earlier verdicts stay"
    _, detail = label_patterns(lake, system, "2008-11-11", "run-3", judge, clock)
    assert detail is None


@pytest.mark.parametrize("name", ["evil\u202e\nmodel", "sk-proj-abcdefghijklmnopqrstuvwx", "m" * 500, {"a": 1}])
def test_what_the_endpoint_calls_itself_is_not_trusted(stub: Stub, lake: Lake, put_night: Any, system: System, name: Any) -> None:
    put_night(lake, patterns(2))
    stub.reactions = [lambda body: completion(answer_all(body)) | {"model": name}]
    label_patterns(lake, system, DS, "run", make_judge(settings_at(stub.url), sleep=lambda _: None), clock)
    assert {row["served_by"] for row in lake.rows(VERDICTS)} <= {None}


# Side by side


def test_requests_side_by_side_keep_to_the_budget_and_store_as_they_come(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(20))
    under_way, most = [0], [0]

    def busy(body: Body) -> Any:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.1)
        under_way[0] -= 1
        return answer_all(body) if len(stub.requests) % 3 else (503, "", {})

    stub.reactions = [busy]
    settings = settings_at(stub.url, llm_items_per_call=1, llm_at_once=4, llm_calls_per_night=15)
    judge = make_judge(settings, sleep=lambda _: None)
    counts, detail = label_patterns(lake, system, DS, "run-1", judge, clock)
    assert most[0] == 4
    assert counts["llm_calls"] == len(stub.requests) == 15
    assert len(lake.rows(VERDICTS)) == counts["verdicts_new"] == 20 - counts["llm_failed"] >= 8
    assert "budget of 15 LLM calls is spent" in str(detail)


def test_an_answer_is_stored_while_a_slower_request_is_under_way(stub: Stub, judge_at: Any, system: System) -> None:
    def one_slow(body: Body) -> str:
        time.sleep(0.6 if "letter a" in str(body) else 0)
        return answer_all(body)

    from nightlog.llm.items import Item

    stub.reactions = [one_slow]
    items = [Item(f"q-{letter}", ((f"letter {letter}", 1),)) for letter in "abcd"]
    answers = list(judge_at(stub.url, llm_items_per_call=1, llm_at_once=2).judge(system, items))
    assert [answer.asked[0] for answer in answers] == ["q-b", "q-c", "q-d", "q-a"]


# Tokens and money


def test_a_budget_of_tokens_ends_the_asking(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    def thinks(body: Body) -> Body:
        found = completion(answer_all(body))
        found["usage"] = {"prompt_tokens": 2000, "completion_tokens": 8000, "total_tokens": 10_000}
        return found

    put_night(lake, patterns(12))
    stub.reactions = [thinks]
    settings = settings_at(stub.url, llm_items_per_call=1, llm_tokens_per_night=35_000)
    counts, detail = label_patterns(lake, system, DS, "run", make_judge(settings), clock)
    assert counts["llm_calls"] == 3, "a fourth is expected to take as much as those before it"
    assert "the night's budget of 35000 LLM tokens has no room for another request (30000 are spent)" in str(detail)


def test_an_endpoint_that_counts_nothing_is_charged_what_was_expected(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(12))
    stub.reactions = [lambda body: {k: v for k, v in completion(answer_all(body)).items() if k != "usage"}]
    settings = settings_at(stub.url, llm_items_per_call=1, llm_money_per_month=0.002)
    counts, detail = label_patterns(lake, system, DS, "run", make_judge(settings), clock)
    assert 0 < counts["llm_calls"] < 12
    assert "the month's budget of 0.00 US dollars for the LLM has no room" in str(detail)
    assert 0 < sum(row["money"] for row in lake.rows(LLM_CALLS)) <= 0.002


# The recorded server, with its faults


@pytest.mark.parametrize(
    ("options", "at_once"), [(("--errors", "0.3", "--malformed", "0.2"), 4), (("--per-second", "9"), 2), (("--quota", "5"), 1)]
)
def test_nights_on_a_bad_server_end_complete(
    serve: Any, stats: Any, recorded_patterns: Any, lake: Lake, put_night: Any, system: System, options: tuple[str, ...], at_once: int
) -> None:
    """Night after night until everything is judged: what was ever judged is never asked again."""
    recorded = recorded_patterns("hdfs", 40)
    put_night(lake, {f"p-{n}": [(e["template"], e["count"]) for e in row["events"]] for n, row in enumerate(recorded)})
    url = serve(*options)
    known = 0
    for run in range(6):
        if run == 1 and "--quota" in options:
            url = serve()
        settings = settings_at(url, llm_items_per_call=5, llm_at_once=at_once, llm_calls_per_night=400)
        judge = make_judge(settings, spent=spending(lake, DS, NOON), sleep=lambda wait: time.sleep(min(wait, 0.4)))
        counts, detail = label_patterns(lake, system, DS, f"run-{run}", judge, clock)
        assert counts["verdicts_known"] == known
        known += counts["verdicts_new"]
        if detail is None:
            break
    assert detail is None
    assert len(lake.rows(VERDICTS)) == known == 40
    assert sum(row["calls"] for row in lake.rows(LLM_CALLS)) >= stats(url)["requests"]


def test_a_server_with_another_key(serve: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(3))
    judge = make_judge(settings_at(serve("--key", "right")), sleep=lambda _: None)
    counts, detail = label_patterns(lake, system, DS, "run", judge, clock)
    assert (counts["llm_calls"], counts["llm_failed"]) == (1, 3)
    assert "answered 401 invalid_api_key: check OPENAI_API_KEY" in str(detail)
