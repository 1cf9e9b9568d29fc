"""A real, slow, sometimes wrong server: requests fit its speed, what came is kept, no pattern and no request ends the night."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from llm_stub import Stub, answer_all, asked, completion, settings_at, verdict_on
from nightlog.errors import SettingsError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_CALLS, NIGHTS, VERDICTS
from nightlog.llm.budget import TimeLimit, cost, with_total
from nightlog.llm.chat import RequestSize
from nightlog.llm.client import RequestOptions
from nightlog.llm.items import Answer, Item, Verdict
from nightlog.llm.judge import make_judge
from nightlog.llm.label import Progress, label_patterns
from nightlog.run.context import Context, Versions
from nightlog.run.progress import Progress as RunProgress
from nightlog.run.stages import label
from nightlog.settings import Settings, read_settings
from nightlog.systems.spec import System

DS = "2008-11-10"
NOON = datetime(2008, 11, 11, 12, tzinfo=UTC)

Body = dict[str, Any]
Reaction = Callable[[Body], Any]


def items(number: int) -> list[Item]:
    return [Item(f"pattern-{n:03d}", ((f"step {n} done", 1),)) for n in range(number)]


def patterns(number: int) -> dict[str, list[tuple[str, int]]]:
    return {f"pat-{n:03d}": [(f"step number {chr(97 + n)} done", 1)] for n in range(number)}


def judge_with(url: str, **settings: Any) -> Any:
    """A judge at a server of unknown speed."""
    return make_judge(settings_at(url, llm_first_items=None, **settings), sleep=lambda _: None)


def judged(answers: list[Answer]) -> set[str]:
    return {verdict.id for answer in answers for verdict in answer.verdicts}


def takes(fixed: float, an_item: float, then: Reaction = answer_all) -> Reaction:
    """A server that answers after a time which grows with the items."""

    def react(body: Body) -> Any:
        time.sleep(fixed + an_item * len(asked(body)))
        return then(body)

    return react


def event(**fields: Any) -> bytes:
    return f"data: {json.dumps({'model': 'stub', **fields})}\n\n".encode()


def delta(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


def streams(an_item: float, stop_after: int | None = None) -> Reaction:
    """A server that streams one verdict after the other; `stop_after` some of them it sends an error and nothing more."""

    def react(body: Body) -> Any:
        def chunks() -> Iterator[bytes]:
            yield b": a comment, as some servers send\n\n"
            yield delta('{"verdicts": [')
            for number, item in enumerate(asked(body)):
                if number == stop_after:
                    yield b'data: {"error": {"message": "out of memory"}}\n\n'
                    return
                time.sleep(an_item)
                text = json.dumps(verdict_on(item))
                yield delta(("," if number else "") + text[:20])
                yield delta(text[20:])
            yield delta("]}", "stop")
            yield event(choices=[], usage={"prompt_tokens": 700, "completion_tokens": 30})
            yield b"data: [DONE]\n\n"

        return 200, chunks(), {"Content-Type": "text/event-stream; charset=utf-8"}

    return react


# Size of requests


def test_requests_start_small_and_grow_as_far_as_the_server_is_fast(stub: Stub, system: System) -> None:
    answers = list(judge_with(stub.url).judge(system, items(50)))
    assert [len(answer.asked) for answer in answers] == [4, 20, 20, 6]
    assert len(judged(answers)) == 50


def test_a_slow_server_gets_requests_that_it_manages_in_time(stub: Stub, system: System) -> None:
    stub.reactions = [takes(0.2, 0.1)]  # eight items in a second
    answers = list(judge_with(stub.url, llm_timeout_s=1, llm_at_once=2).judge(system, items(30)))
    assert len(judged(answers)) == 30
    assert all(answer.trouble is None for answer in answers), "no request was too large"
    assert max(len(answer.asked) for answer in answers) > 4, "and none smaller than necessary for long"


def test_a_server_slower_than_expected_gets_half(stub: Stub, system: System) -> None:
    stub.reactions = [takes(0.1, 0.1)]
    answers = list(judge_with(stub.url, llm_timeout_s=0.35).judge(system, items(9)))
    assert len(judged(answers)) == 9
    assert [len(answer.asked) for answer in answers[:3]] == [4, 2, 2], "a time-out halves the request instead of losing it"
    assert max(len(answer.asked) for answer in answers[1:]) < 4, "a size that was too large is not tried again"


def test_the_size_follows_what_was_measured() -> None:
    size = RequestSize(4, timeout_s=120)
    size.answered(4, 20.0)
    assert size.items == 16, "four times the items take four times as long at most: 80 s"
    size.answered(16, 70.0)
    assert size.items == 17, "twice as many could take 140 s"
    size.answered(3, 1.0)
    assert size.items == 17, "the rest of a night says nothing about larger requests"
    size.timed_out(17)
    assert size.items == 8
    size.answered(8, 5.0)
    assert size.items == 16, "what was too large once is not tried again"


# Streams


def test_what_was_streamed_before_a_time_out_is_kept(stub: Stub, system: System) -> None:
    stub.reactions = [streams(0.2), answer_all]
    answers = list(judge_with(stub.url, llm_timeout_s=0.75).judge(system, items(4)))
    assert stub.requests[0]["stream"] is True
    assert len(answers[0].verdicts) >= 2
    assert "did not answer in time (0.75 s, NIGHTLOG_LLM_TIMEOUT_S)" in str(answers[0].trouble)
    assert judged(answers) == {item.id for item in items(4)}
    again = [len(stub.items(number)) for number in range(1, len(stub.requests))]
    assert sum(again) == 4 - len(answers[0].verdicts), "only what is open is asked again"


def test_a_stream_is_read_as_a_whole_answer_is(stub: Stub, system: System) -> None:
    stub.reactions = [streams(0.0)]
    (answer,) = judge_with(stub.url).judge(system, items(3))
    assert (len(answer.verdicts), answer.trouble, answer.tokens_in, answer.tokens_out) == (3, None, 700, 30)
    assert answer.served_by == "stub"


def test_a_stream_that_breaks_off_keeps_its_whole_verdicts(stub: Stub, system: System) -> None:
    stub.reactions = [streams(0.0, stop_after=2), answer_all]
    answers = list(judge_with(stub.url).judge(system, items(4)))
    assert (len(answers[0].verdicts), answers[0].trouble) == (1, "the answer is cut off"), "the last one may have lost its end"
    assert judged(answers) == {item.id for item in items(4)}


# Failures


def hangs_at(word: str, seconds: float = 0.6) -> Reaction:
    def react(body: Body) -> Any:
        if word in str(asked(body)):
            time.sleep(seconds)
        return answer_all(body)

    return react


def refuses(word: str) -> Reaction:
    def react(body: Body) -> Any:
        return (400, {"error": {"type": "invalid_request_error"}}, {}) if word in str(asked(body)) else answer_all(body)

    return react


@pytest.mark.parametrize("fault", [hangs_at("number a"), refuses("number a")], ids=["hangs", "refused"])
def test_the_most_frequent_pattern_cannot_block_every_night(
    stub: Stub, lake: Lake, put_night: Any, system: System, fault: Reaction
) -> None:
    put_night(lake, patterns(12), sessions={"pat-000": 500})
    stub.reactions = [fault]
    judge = judge_with(stub.url, llm_timeout_s=0.3)
    counts, detail = label_patterns(lake, system, DS, "run-1", judge, lambda: NOON)
    assert (counts["verdicts_new"], counts["llm_failed"]) == (11, 1)
    assert "1 of 12 proprietary patterns wait for the next run: 127.0.0.1" in str(detail)
    assert any("pat-000" in row["unanswered"] for row in lake.rows(LLM_CALLS))
    put_night(lake, patterns(16), ds="2008-11-11", sessions={"pat-000": 500})
    before = len(stub.requests)
    counts, _ = label_patterns(lake, system, "2008-11-11", "run-2", judge_with(stub.url, llm_timeout_s=0.3), lambda: NOON)
    assert (counts["verdicts_new"], counts["llm_failed"]) == (4, 1)
    sent = [item["events"][0]["template"] for item in stub.items(before)]
    assert "step number a done" not in sent, "what failed before is asked last, over nights too"


def test_a_request_and_its_smaller_parts_are_one_failure(stub: Stub, system: System) -> None:
    stub.reactions = [hangs_at("step", 0.4)]
    answers = list(judge_with(stub.url, llm_timeout_s=0.1).judge(system, items(40)))
    assert [len(answer.asked) for answer in answers] == [4, 2, 1, 1, 1, 1, 1, 0], "4, 2 and 1 are the first failure"
    assert str(answers[-1].trouble).endswith("5 requests in a row failed, no more are made tonight")


def test_nothing_is_sent_to_a_server_that_is_not_there_after_the_first_request(lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(20))
    judge = judge_with("http://127.0.0.1:9/v1")
    counts, detail = label_patterns(lake, system, DS, "run", judge, lambda: NOON)
    assert (counts["llm_failed"], counts["llm_calls"], counts["llm_items"]) == (20, 5, 4)
    assert detail == "LLM: 20 of 20 proprietary patterns wait for the next run: no connection to 127.0.0.1: check OPENAI_BASE_URL"


def test_each_trouble_is_named_once(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(20))
    stub.reactions = [lambda body: (500, {"error": {"type": "server_error"}}, {})]
    _, detail = label_patterns(lake, system, DS, "run", judge_with(stub.url, llm_items_per_call=2), lambda: NOON)
    assert str(detail).count("127.0.0.1 answered 500 server_error") == 1
    assert "5 requests in a row failed" in str(detail)


def test_a_second_request_at_once_is_made_only_if_both_are_in_time_one_after_the_other(stub: Stub, system: System) -> None:
    under_way, together = [0], list[int]()

    def one_slot(body: Body) -> Any:
        under_way[0] += 1
        together.append(under_way[0])
        time.sleep(0.35)
        under_way[0] -= 1
        return answer_all(body)

    stub.reactions = [one_slot]
    answers = list(judge_with(stub.url, llm_timeout_s=0.8, llm_at_once=2, llm_items_per_call=4).judge(system, items(16)))
    assert (len(judged(answers)), max(together)) == (16, 1)


def test_after_a_time_out_requests_are_made_one_at_a_time(stub: Stub, system: System) -> None:
    """A server with one slot lets a second request wait, and both are late."""
    under_way, together = [0], list[int]()

    def one_slot(body: Body) -> Any:
        under_way[0] += 1
        together.append(under_way[0])
        time.sleep(0.5 if len(stub.requests) == 3 else 0.05)
        under_way[0] -= 1
        return answer_all(body)

    stub.reactions = [one_slot]
    answers = list(judge_with(stub.url, llm_timeout_s=0.3, llm_at_once=2, llm_items_per_call=4).judge(system, items(100)))
    assert len(judged(answers)) == 100
    assert max(together[:3]) == 2
    assert sum(answer.trouble is not None for answer in answers) == 1
    assert max(together[-5:]) == 1


# Time


def test_the_asking_ends_after_the_minutes_of_the_settings(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(20))
    stub.reactions = [takes(0.3, 0)]
    judge = judge_with(stub.url, llm_items_per_call=1, llm_minutes_per_night=0.02)
    began = time.monotonic()
    counts, detail = label_patterns(lake, system, DS, "run", judge, lambda: NOON)
    assert time.monotonic() - began < 4
    assert 3 <= counts["verdicts_new"] <= 5
    assert counts["llm_failed"] == 20 - counts["verdicts_new"], "what was not asked stays open"
    assert "the 0.02 minutes for asking are over (raise NIGHTLOG_LLM_MINUTES_PER_NIGHT)" in str(detail)


def test_the_time_of_a_night_begins_with_its_first_question() -> None:
    now = [1000.0]
    limit = TimeLimit(2, lambda: now[0])
    now[0] += 900
    assert limit.reason() is None
    now[0] += 119
    assert limit.reason() is None
    now[0] += 1
    assert "the 2 minutes for asking are over" in str(limit.reason())


def test_progress_names_the_minutes_that_are_left() -> None:
    now, lines = [0.0], list[str]()
    progress = Progress("shop", 120, lines.append, every_s=30, timer=lambda: now[0])

    def answer(first: int, number: int, round_: int = 1) -> Answer:
        return Answer(tuple(Verdict(f"q{n}", "normal", 0.9, "") for n in range(first, first + number)), 1, 0, 0, round=round_)

    for seconds, part in ((10, answer(0, 5)), (25, answer(5, 5)), (5, answer(10, 20)), (60, answer(30, 30)), (60, answer(0, 7, 2))):
        now[0] += seconds
        progress.add(part)
    assert lines == [
        "shop: 10 of 120 patterns judged, about 7 minutes left",
        "shop: 60 of 120 patterns judged, about 2 minutes left",
        "shop: second round, 7 patterns judged again",
    ]


def test_a_night_reports_its_progress(stub: Stub, lake: Lake, put_night: Any, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    put_night(lake, patterns(6))
    lines: list[str] = []
    monkeypatch.setattr(Progress.__init__, "__defaults__", (0.0, time.monotonic))  # every answer instead of every 30 seconds
    settings = settings_at(stub.url, llm_first_items=None)
    run = Context(DS, "run", (system,), lake, settings, lambda: NOON, notify=lines.append)
    label(lake, run, system, Versions(None, "", None), RunProgress(run))
    assert lines[0].startswith("hdfs: 4 of 6 patterns judged, about 1 minute left")


# What a request asks for


def test_a_request_binds_its_ids_their_number_and_the_length_of_reasons(stub: Stub, system: System) -> None:
    list(judge_with(stub.url).judge(system, items(3)))
    verdicts = stub.requests[0]["response_format"]["json_schema"]["schema"]["properties"]["verdicts"]
    assert verdicts["items"]["properties"]["id"] == {"type": "string", "enum": ["p1", "p2", "p3"]}
    assert (verdicts["minItems"], verdicts["maxItems"]) == (3, 3)
    assert verdicts["items"]["properties"]["reason"]["maxLength"] <= 400


def test_where_bounds_are_refused_only_the_ids_are_bound(stub: Stub, system: System) -> None:
    list(judge_with(stub.url, llm_schema_bounds=False, llm_stream=False).judge(system, items(3)))
    sent = json.dumps(stub.requests[0])
    assert '"enum": ["p1", "p2", "p3"]' in sent
    assert not any(word in sent for word in ("minItems", "maxItems", "maxLength", "anyOf", '"stream"'))


@pytest.mark.parametrize(
    ("host", "is_openai"), [("api.openai.com", True), ("shop.openai.azure.com", True), ("127.0.0.1", False), ("openai.com.evil.net", False)]
)
def test_at_openai_no_bounds_no_stream_and_another_name_of_the_limit(host: str, is_openai: bool) -> None:
    options = RequestOptions.of(Settings(), host)
    assert (options.schema_bounds, options.stream) == (not is_openai, not is_openai)
    body = options.body([("user", "x")], {}, 20)
    assert body.get("max_completion_tokens") == (18_000 if is_openai else None)
    assert body.get("max_tokens") == (None if is_openai else 6_000), "the default grows with the items"


def test_settings_reach_each_request(stub: Stub, system: System) -> None:
    more = '{"chat_template_kwargs": {"enable_thinking": false}, "seed": 7}'
    list(judge_with(stub.url, llm_temperature=0.1, llm_answer_tokens=900, llm_body=more).judge(system, items(2)))
    (request,) = stub.requests
    assert (request["temperature"], request["max_tokens"], request["seed"]) == (0.1, 900, 7)
    assert request["chat_template_kwargs"] == {"enable_thinking": False}
    stub.requests.clear()
    list(judge_with(stub.url).judge(system, items(2)))
    assert "temperature" not in stub.requests[0], "the server's own, unless it is set"


@pytest.mark.parametrize(
    ("body", "words"),
    [("{", "not a JSON object"), ("[1]", "not a JSON object"), ('{"messages": []}', "the field `messages` is set by Nightlog")],
)
def test_extra_fields_that_cannot_be_right(monkeypatch: pytest.MonkeyPatch, body: str, words: str) -> None:
    monkeypatch.setenv("NIGHTLOG_LLM_BODY", body)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    ((name, why),) = caught.value.wrong
    assert name == "NIGHTLOG_LLM_BODY" and words in why


def test_a_verdict_with_confidence_0_is_no_verdict(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(3))
    changes = {"p1": {"confidence": 0}, "p2": {"label": "unclear", "confidence": 0}, "p3": {}}
    stub.reactions = [lambda body: json.dumps({"verdicts": [verdict_on(item, **changes[item["id"]]) for item in asked(body)]})]
    counts, detail = label_patterns(lake, system, DS, "run", judge_with(stub.url), lambda: NOON)
    assert {row["question_id"]: row["first_label"] for row in lake.rows(VERDICTS)} == {"pat-001": "unclear", "pat-002": "normal"}
    assert counts["llm_failed"] >= 1
    assert "verdicts not usable: 1 with confidence 0" in str(detail)


# Cost


def test_time_outs_are_free_where_tokens_are(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(6))
    stub.reactions = [hangs_at("number", 0.4)]
    free = dict.fromkeys(("llm_price_in", "llm_price_cached", "llm_price_out"), 0.0)
    settings = settings_at(stub.url, llm_first_items=None, llm_timeout_s=0.1, llm_tokens_per_night=5000, **free)
    counts, detail = label_patterns(lake, system, DS, "run", make_judge(settings, sleep=lambda _: None), lambda: NOON, settings.prices)
    assert (counts["llm_tokens_in"], counts["llm_tokens_out"]) == (0, 0)
    assert "budget" not in str(detail), "time-outs take nothing off the budget of tokens"
    assert {row["money"] for row in lake.rows(LLM_CALLS)} == {0.0}
    (row, total) = with_total(cost(lake))
    assert (row["calls"], row["money"], total["calls"]) == (counts["llm_calls"], 0.0, counts["llm_calls"])


def test_cost_is_told_by_model_and_asks_about_no_session_twice(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, patterns(4), sessions={"pat-000": 97})
    lake.append(NIGHTS, [{"system": "hdfs", "ds": DS, "n_sessions": 100}])
    stub.reactions = [lambda body: "nonsense"]
    for run in ("run-1", "run-2"):
        label_patterns(lake, system, DS, run, judge_with(stub.url), lambda: NOON)
    stub.reactions = [answer_all]
    for model in ("gpt-5-mini", "other"):
        label_patterns(lake, system, DS, f"run-{model}", judge_with(stub.url, llm_model=model), lambda: NOON)
    first, second, total = with_total(cost(lake))
    assert [row["llm"] for row in (first, second)] == ["openai:gpt-5-mini", "openai:other"]
    assert (first["sessions_asked"], second["sessions_asked"]) == (1.0, 1.0), "three runs asked about the same sessions"
    assert (total["ds"], total["calls"]) == ("total", len(stub.requests))
    assert total["money"] == pytest.approx(first["money"] + second["money"])
    assert with_total([]) == []


# The recorded server, as slow as a small machine


def test_a_night_on_a_slow_recorded_server_is_judged_completely(
    serve: Any, recorded_patterns: Any, lake: Lake, put_night: Any, system: System
) -> None:
    recorded = recorded_patterns("hdfs", 30)
    put_night(lake, {f"p-{n}": [(e["template"], e["count"]) for e in row["events"]] for n, row in enumerate(recorded)})
    judge = judge_with(serve("--latency", "0.2", "--malformed", "0.2", "--errors", "0.2", "--seed", "3"), llm_timeout_s=2)
    counts, _ = label_patterns(lake, system, DS, "run", judge, lambda: NOON)
    stored = {row["question_id"]: row["first_label"] for row in lake.rows(VERDICTS)}
    assert stored.items() <= {f"p-{n}": row["label"] for n, row in enumerate(recorded)}.items()
    assert counts["verdicts_new"] >= 25


def test_what_a_whole_answer_without_a_list_is(stub: Stub, system: System) -> None:
    stub.reactions = [lambda body: completion("{}")]
    (first, *rest) = judge_with(stub.url).judge(system, items(1))
    assert first.trouble == "the answer is not JSON of the agreed form"
    assert len(rest) == 1, "asked once more, not again and again"
