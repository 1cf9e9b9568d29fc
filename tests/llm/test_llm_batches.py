"""Batches across runs: noted before they leave, collected later, nothing asked twice, no paid answer lost in silence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from batch_stub import BatchStub
from llm_stub import Stub, answer_all, asked, completion, settings_at, verdict_on
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_BATCHES, LLM_CALLS, VERDICTS
from nightlog.llm.budget import Cost, spending
from nightlog.llm.judge import make_batch_queue, make_judge
from nightlog.llm.label import label_patterns
from nightlog.systems.spec import System

DS = "2008-11-10"
NOON = datetime(2008, 11, 11, 12, tzinfo=UTC)
DAY = timedelta(days=1)

Found = tuple[dict[str, int], str | None]
RunNight = Callable[..., Found]


def patterns(number: int) -> dict[str, list[tuple[str, int]]]:
    return {f"pat-{n:03d}": [(f"step number {chr(97 + n)} done", 1)] for n in range(number)}


@pytest.fixture
def endpoint() -> Iterator[BatchStub]:
    stub = BatchStub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.fixture
def run_night(lake: Lake, system: System, endpoint: BatchStub) -> RunNight:
    """The label stage of a run of its own: a new judge, a new desk, what was spent read from the lake."""

    def run(now: datetime = NOON, url: str | None = None, ds: str = DS, **settings: Any) -> Found:
        given = settings_at(url or endpoint.url, **{"llm_mode": "batch", "llm_items_per_call": 2} | settings)
        judge = make_judge(given, spent=spending(lake, ds, now), sleep=lambda _: None)
        return label_patterns(lake, system, ds, f"run-{now:%d%H%M}", judge, lambda: now, given.prices, make_batch_queue(given, judge))

    return run


def stored(lake: Lake) -> dict[str, str]:
    return {row["question_id"]: row["label"] for row in lake.rows(VERDICTS)}


def the_batch(lake: Lake, **where: str) -> dict[str, Any]:
    (row,) = lake.rows(LLM_BATCHES, **where)
    return row


def test_submitted_tonight_collected_by_the_next_run(endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight) -> None:
    put_night(lake, patterns(5), sessions={"pat-000": 3})
    counts, detail = run_night()
    assert (counts["llm_waiting"], counts["llm_failed"], counts["llm_calls"]) == (5, 0, 0)
    assert detail == "LLM: 5 of 5 proprietary patterns wait in a batch"
    row = the_batch(lake)
    assert (row["status"], row["batch_id"], row["calls"], row["n_sessions"], row["round"]) == ("open", "batch-0", 3, 7, 1)
    assert endpoint.batches["batch-0"]["metadata"] == {"nightlog": row["batch"]}
    reserved = spending(lake, DS, NOON).night
    assert reserved == Cost(3, row["tokens_in"] + row["tokens_out"], row["money"])

    counts, detail = run_night(NOON + timedelta(hours=1))
    assert (counts["llm_waiting"], detail) == (5, "LLM: 5 of 5 proprietary patterns wait in a batch")
    assert len(endpoint.batches) == 1, "nothing is asked twice while a batch is open"

    endpoint.finish()
    counts, detail = run_night(NOON + DAY)
    assert (counts["verdicts_new"], counts["verdicts_known"], counts["llm_calls"], counts["llm_items"]) == (5, 0, 3, 5)
    assert (counts["llm_waiting"], counts["llm_failed"], detail) == (0, 0, None)
    assert stored(lake) == {f"pat-{n:03d}": "normal" for n in range(5)}
    origins = {(row["ds"], row["run_id"], row["served_by"], row["asked_at"]) for row in lake.rows(VERDICTS)}
    assert origins == {(DS, "run-111200", "stub", NOON + DAY)}, "the run that asked, and when the answer came"
    assert the_batch(lake)["status"] == "collected"
    (paid,) = lake.rows(LLM_CALLS)
    assert (paid["calls"], paid["items"], paid["tokens_in"], paid["tokens_out"], paid["run_id"]) == (3, 5, 300, 30, "run-111200")
    assert paid["money"] == pytest.approx(0.5 * (300 * 0.25 + 30 * 2.0) / 1e6)
    assert spending(lake, DS, NOON).night == Cost(3, 330, paid["money"])
    assert endpoint.files == {}, "what was collected does not stay at the endpoint"

    counts, detail = run_night(NOON + 2 * DAY)
    assert (counts["verdicts_known"], counts["llm_calls"], detail) == (5, 0, None)
    assert len(endpoint.batches) == 1


def test_the_second_round_is_a_batch_of_its_own(endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight) -> None:
    def doubts(body: dict[str, Any]) -> str:
        return json.dumps({"verdicts": [verdict_on(i, confidence=0.6 if "odd" in str(i["events"]) else 0.97) for i in asked(body)]})

    def decides(body: dict[str, Any]) -> str:
        return json.dumps({"verdicts": [verdict_on(i, label="anomalous", confidence=0.8, group="odd step") for i in asked(body)]})

    put_night(lake, {"ok": [("open", 1), ("close", 1)], "odd": [("open", 1), ("close", 1), ("odd step", 1)]}, sessions={"ok": 9})
    run_night()
    endpoint.finish(answer=doubts)
    counts, detail = run_night(NOON + DAY)
    assert (counts["verdicts_new"], counts["llm_waiting"], detail) == (2, 1, "LLM: 1 of 2 proprietary patterns wait in a batch")
    run_night(NOON + DAY + timedelta(hours=1))
    assert len(endpoint.batches) == 2
    endpoint.finish("batch-1", answer=decides)
    counts, detail = run_night(NOON + 2 * DAY)
    assert (counts["verdicts_again"], counts["llm_waiting"], detail) == (1, 0, None)
    (odd,) = lake.rows(VERDICTS, question_id="odd")
    assert (odd["label"], odd["round"], odd["group"], odd["first_label"], odd["first_confidence"]) == (
        "anomalous",
        2,
        "odd step",
        "normal",
        0.6,
    )
    assert odd["added"] == [{"template": "odd step", "count": 1}]
    assert odd["group_key"] is not None


@pytest.mark.parametrize(
    ("status", "keep", "kept", "told"),
    [
        ("completed", lambda lines: lines[::-1], 6, None),
        ("expired", lambda lines: lines[:1], 2, "the batch is expired; 2 of 3 requests were not answered (batch_expired)"),
        ("cancelled", lambda lines: lines[1:], 4, "the batch is cancelled; 1 of 3 requests were not answered"),
        ("failed", lambda lines: [], 0, "the batch is failed; 3 of 3 requests were not answered"),
        ("completed", lambda lines: [*lines, lines[0] | {"custom_id": "stranger"}], 6, None),
        ("completed", lambda lines: [*lines[1:], lines[0], lines[0] | {"response": None}], 4, "1 of 3 requests were not answered"),
    ],
    ids=["out of order", "expired half-filled", "cancelled", "failed", "a stranger's line", "two answers to one request"],
)
def test_what_came_is_kept_and_the_rest_asked_again(
    endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight, status: str, keep: Any, kept: int, told: str | None
) -> None:
    put_night(lake, patterns(6))
    run_night()
    endpoint.finish(status=status, keep=keep)
    counts, detail = run_night(NOON + DAY)
    assert counts["verdicts_new"] == kept == len(stored(lake))
    assert counts["llm_waiting"] == 6 - kept, "the rest waits in a new batch"
    assert (told or "") in (detail or "")
    assert sum(row["calls"] for row in lake.rows(LLM_CALLS)) == kept // 2, "what was not answered is not charged"
    if kept < 6:
        endpoint.finish("batch-1")
        counts, detail = run_night(NOON + 2 * DAY)
        assert (counts["verdicts_known"], counts["verdicts_new"], detail) == (kept, 6 - kept, None)


def test_bad_verdicts_in_a_batch_are_dropped_like_any_other(endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight) -> None:
    put_night(lake, patterns(6))
    run_night()
    bad = iter([lambda body: "no JSON", lambda body: completion(None, refusal="no"), answer_all])

    def react(body: dict[str, Any]) -> Any:
        return next(bad)(body)

    endpoint.finish(answer=react)
    counts, detail = run_night(NOON + DAY)
    assert (counts["verdicts_new"], counts["llm_waiting"], counts["llm_calls"]) == (2, 4, 3)
    assert "the answer is not JSON of the agreed form; the LLM refused to answer" in str(detail)


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("POST /v1/files", 404, "127.0.0.1 answered 404: check OPENAI_BASE_URL and NIGHTLOG_LLM_MODEL; this endpoint has no Batch API"),
        ("POST /v1/files", 500, "127.0.0.1 answered 500; no batch was made"),
        ("POST /v1/batches", 401, "127.0.0.1 answered 401: check OPENAI_API_KEY; no batch was made"),
        ("POST /v1/batches", 400, "127.0.0.1 answered 400: check NIGHTLOG_LLM_MODEL"),
    ],
)
def test_where_no_batch_is_made_nothing_waits_and_nothing_is_spent(
    endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight, path: str, status: int, told: str
) -> None:
    put_night(lake, patterns(3))
    endpoint.status = {path: status}
    counts, detail = run_night()
    assert (counts["llm_failed"], counts["llm_waiting"]) == (3, 0)
    assert told in str(detail)
    assert spending(lake, DS, NOON).night == Cost()
    endpoint.status = {}
    assert run_night(NOON + DAY)[0]["llm_waiting"] == 3


def test_a_batch_whose_making_was_never_answered_is_found_again(
    endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight
) -> None:
    put_night(lake, patterns(4))
    endpoint.after_making = lambda: 502
    counts, detail = run_night()
    assert (counts["llm_waiting"], len(endpoint.batches), the_batch(lake)["batch_id"]) == (4, 1, None)
    assert endpoint.calls.count("POST /v1/batches") == 1, "a second try could be charged for a second batch"
    endpoint.finish()
    counts, detail = run_night(NOON + DAY)
    assert (counts["verdicts_new"], detail, len(endpoint.batches)) == (4, None, 1)


def test_a_batch_that_was_never_made_is_asked_again(endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight) -> None:
    put_night(lake, patterns(4))
    endpoint.status = {"POST /v1/batches": 502}
    run_night()
    endpoint.status = {}
    counts, _ = run_night(NOON + timedelta(minutes=1))
    assert (counts["llm_waiting"], len(endpoint.batches)) == (4, 0), "another process may be about to make it"
    counts, detail = run_night(NOON + DAY)
    assert (counts["llm_waiting"], len(endpoint.batches)) == (4, 1)
    assert "it was never made; its questions are asked again" in str(detail)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            {"GET /v1/batches": 404},
            "it may have been made and paid, and this endpoint cannot list its batches; its questions are asked again",
        ),
        ({"GET /v1/batches/ID": 404}, "the endpoint knows it no more; its questions are asked again"),
    ],
)
def test_what_may_be_lost_is_told(
    endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight, status: dict[str, int], told: str
) -> None:
    put_night(lake, patterns(4))
    if "GET /v1/batches" in status:
        endpoint.after_making = lambda: 502
    run_night()
    endpoint.after_making = lambda: 200
    endpoint.status = status
    counts, detail = run_night(NOON + DAY)
    assert told in str(detail)
    assert (counts["llm_waiting"], len(endpoint.batches)) == (4, 2)
    assert told in lake.rows(LLM_BATCHES, status="lost")[0]["trouble"]


@pytest.mark.parametrize("path", ["GET /v1/batches/ID", "GET /v1/files/ID/content"])
def test_an_endpoint_that_is_down_while_a_batch_is_collected_loses_nothing(
    endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight, path: str
) -> None:
    put_night(lake, patterns(4))
    run_night()
    endpoint.finish()
    endpoint.status = {path: 503}
    counts, detail = run_night(NOON + DAY)
    assert (counts["verdicts_new"], counts["llm_waiting"], len(endpoint.batches)) == (0, 4, 1)
    assert "127.0.0.1 answered 503" in str(detail)
    endpoint.status = {}
    assert run_night(NOON + 2 * DAY)[0]["verdicts_new"] == 4


def test_results_that_are_gone_are_asked_again(endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight) -> None:
    put_night(lake, patterns(2))
    run_night()
    endpoint.finish()
    endpoint.status = {"GET /v1/files/ID/content": 404}
    counts, detail = run_night(NOON + DAY)
    assert (counts["llm_waiting"], len(endpoint.batches)) == (2, 2)
    assert "1 of 1 requests were not answered" in str(detail)


def test_a_batch_that_never_finishes_is_given_up(endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight) -> None:
    put_night(lake, patterns(2))
    run_night()
    assert run_night(NOON + 7 * DAY)[0]["llm_waiting"] == 2
    _, detail = run_night(NOON + 9 * DAY)
    assert "it did not finish in 8 days" in str(detail)
    assert len(endpoint.batches) == 2


def test_the_budget_bounds_what_is_submitted(endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight) -> None:
    put_night(lake, patterns(10))
    counts, detail = run_night(llm_calls_per_night=3)
    assert (counts["llm_waiting"], counts["llm_failed"]) == (6, 4)
    assert "4 of 10 proprietary patterns wait for the next run: the night's budget of 3 LLM calls is spent" in str(detail)
    counts, _ = run_night(NOON + timedelta(hours=1), llm_calls_per_night=3)
    assert (counts["llm_failed"], len(endpoint.batches)) == (4, 1), "an open batch takes its share of the budget in later runs too"


def test_a_night_in_chat_mode_collects_what_is_open_and_asks_none_of_it(
    endpoint: BatchStub, stub: Stub, lake: Lake, put_night: Any, run_night: RunNight
) -> None:
    put_night(lake, patterns(4))
    run_night()
    counts, _ = run_night(NOON + timedelta(hours=1), llm_mode="chat")
    assert (counts["llm_waiting"], "POST /v1/chat/completions" in endpoint.calls) == (4, False)
    endpoint.finish()
    counts, detail = run_night(NOON + DAY, llm_mode="chat")
    assert (counts["verdicts_new"], detail) == (4, None)


def test_a_batch_of_another_policy_is_collected_under_its_own(
    endpoint: BatchStub, lake: Lake, put_night: Any, systems: Callable[..., System], run_night: RunNight
) -> None:
    put_night(lake, patterns(2))
    run_night()
    endpoint.finish()
    given = settings_at(endpoint.url, llm_mode="batch")
    judge = make_judge(given)
    ruled = systems(policy="All steps are well.")
    counts, _ = label_patterns(lake, ruled, DS, "run", judge, lambda: NOON + DAY, given.prices, make_batch_queue(given, judge))
    assert (counts["llm_waiting"], len(endpoint.batches)) == (2, 2), "another policy is another question"
    assert {row["prompt"] for row in lake.rows(VERDICTS)} == {lake.rows(LLM_BATCHES, status="collected")[0]["prompt"]}


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
sys.path[:0] = [sys.argv[3]]
from llm_stub import settings_at
from nightlog.lake.lake import Lake
from nightlog.llm import batch
from nightlog.llm.judge import make_batch_queue, make_judge
from nightlog.llm.label import label_patterns
from nightlog.systems.spec import Input, Session, System

lake, commits = Lake(sys.argv[1]), 0
merge = lake.merge

def dying(spec, rows):
    global commits
    commits += 1
    if commits > int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    merge(spec, rows)

lake.merge = dying
system = System(name="hdfs", role="target", input=Input(path="hdfs-{ds}.log"), session=Session(kind="id", pattern=r"blk_-?\\d+"))
given = settings_at(sys.argv[2], llm_mode="batch", llm_items_per_call=2)
judge = make_judge(given)
now = datetime.fromisoformat(sys.argv[5])
label_patterns(lake, system, "2008-11-10", "run-killed", judge, lambda: now, given.prices, make_batch_queue(given, judge))
"""


def killed_after(commits: int, lake: Lake, endpoint: BatchStub, now: datetime) -> None:
    """A run that gets SIGKILL instead of its next commit."""
    tests = str(Path(__file__).parents[1])
    process = subprocess.run([sys.executable, "-c", KILLED, lake.root, endpoint.url, tests, str(commits), now.isoformat()], check=False)
    assert process.returncode == -signal.SIGKILL


def test_a_kill_between_submission_and_its_note_loses_no_paid_answer(
    endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight
) -> None:
    put_night(lake, patterns(4))
    killed_after(1, lake, endpoint, NOON)
    assert (the_batch(lake)["status"], len(endpoint.batches)) == ("submitting", 1)
    endpoint.finish()
    counts, detail = run_night(NOON + timedelta(minutes=1))
    assert (counts["verdicts_new"], detail, len(endpoint.batches)) == (4, None, 1)


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_kill_while_a_batch_is_collected_pays_nothing_twice(
    endpoint: BatchStub, lake: Lake, put_night: Any, run_night: RunNight, commits: int
) -> None:
    put_night(lake, patterns(4))
    run_night()
    endpoint.finish()
    killed_after(commits, lake, endpoint, NOON + DAY)
    run_night(NOON + DAY)
    assert stored(lake).keys() == patterns(4).keys()
    assert the_batch(lake)["status"] == "collected"
    assert (len(endpoint.batches), sum(row["calls"] for row in lake.rows(LLM_CALLS))) == (1, 2)


def test_a_batch_on_the_recorded_server(
    serve: Any, recorded_patterns: Any, lake: Lake, put_night: Any, run_night: RunNight, system: System
) -> None:
    recorded = recorded_patterns("hdfs", 30)
    put_night(lake, {f"p-{n}": [(e["template"], e["count"]) for e in row["events"]] for n, row in enumerate(recorded)})
    url = serve("--batch-seconds", "0.1")
    assert run_night(url=url, llm_items_per_call=7)[0]["llm_waiting"] == 30
    time.sleep(0.4)
    counts, _ = run_night(NOON + DAY, url=url, llm_items_per_call=7)
    assert counts["verdicts_new"] == 30
    first = {row["question_id"]: row["first_label"] for row in lake.rows(VERDICTS)}
    assert first == {f"p-{n}": row["label"] for n, row in enumerate(recorded)}
