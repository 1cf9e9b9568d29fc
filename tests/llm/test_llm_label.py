"""The label stage on a lake: most frequent first, stored as it comes, asked once, never a failed night."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from llm_stub import Stub, answer_all, asked, verdict_on
from nightlog.errors import SchemaMismatch
from nightlog.lake.lake import Lake
from nightlog.lake.tables import TEMPLATES, VERDICTS
from nightlog.llm.items import Answer, Item, Judge, Verdict
from nightlog.llm.label import COUNTS, label_patterns
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.rounds import is_uncertain
from nightlog.llm.verdicts import stored_verdict
from nightlog.systems.spec import Session, System

DS = "2008-11-10"
NOON = datetime(2008, 11, 11, 12, tzinfo=UTC)


def clock() -> datetime:
    return NOON


def simple(number: int) -> dict[str, list[tuple[str, int]]]:
    return {f"pat-{n:03d}": [(f"step number {chr(97 + n)} done", 1 << n % 4)] for n in range(number)}


def stored(lake: Lake) -> dict[str, str]:
    return {row["question_id"]: row["first_label"] for row in lake.rows(VERDICTS)}


def counts(**set_: int) -> dict[str, int]:
    return dict.fromkeys(COUNTS, 0) | set_


def test_verdicts_are_stored_with_their_origin(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, {"good": [("all well", 1)], "bad": [("disk broken", 2), ("all well", 1)]})
    found = label_patterns(lake, system, DS, "run-1", judge_at(stub.url), clock)
    assert found == (counts(llm_calls=1, llm_items=2, llm_tokens_in=100, llm_tokens_out=10, verdicts_new=2), None)
    assert sorted(lake.rows(VERDICTS), key=lambda row: row["question_id"])[0] == {
        "system": "hdfs",
        "question_id": "bad",
        "prompt": prompt_hash(system),
        "llm": "openai:gpt-5-mini",
        "label": "anomalous",
        "confidence": 0.9,
        "reason": "something broke",
        "round": 1,
        "group": None,
        "group_key": None,
        "added": None,
        "missing": None,
        "first_label": "anomalous",
        "first_confidence": 0.9,
        "events": [{"template": "disk broken", "count": 2}, {"template": "all well", "count": 1}],
        "ds": DS,
        "run_id": "run-1",
        "asked_at": NOON,
        "served_by": "stub",
    }


def test_only_the_nights_proprietary_patterns_are_asked_most_frequent_first(
    stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System
) -> None:
    put_night(lake, simple(6), sessions={"pat-002": 5, "pat-004": 50, "pat-005": 9}, general=("pat-005",))
    put_night(lake, {"other-day": [("step number a done", 1)]}, ds="2008-11-09")
    put_night(lake, {"other-system": [("step number a done", 1)]}, name="bgl")
    put_night(lake, simple(6), sessions={"pat-002": 5, "pat-004": 50, "pat-005": 9}, general=("pat-005",))
    label_patterns(lake, system, DS, "run", judge_at(stub.url, llm_items_per_call=1), clock)
    sent = [stub.items(number)[0]["events"][0]["template"] for number in range(len(stub.requests))]
    assert sent == [f"step number {letter} done" for letter in "ecabd"]


def test_nothing_is_asked_twice(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, systems: Callable[..., System]) -> None:
    put_night(lake, simple(5))
    label_patterns(lake, systems(), DS, "run-1", judge_at(stub.url), clock)
    before = lake.rows(VERDICTS)
    again, detail = label_patterns(lake, systems(), DS, "run-2", judge_at(stub.url), clock)
    assert (again, detail) == (counts(verdicts_known=5), None)
    assert lake.rows(VERDICTS) == before
    put_night(lake, simple(7), ds="2008-11-11")
    later, _ = label_patterns(lake, systems(), "2008-11-11", "run-3", judge_at(stub.url), clock)
    assert (later["verdicts_known"], later["verdicts_new"]) == (5, 2)
    assert len(stub.requests) == 2
    # Another policy or another model is another question.
    ruled, _ = label_patterns(lake, systems(policy="All steps are well."), DS, "run-4", judge_at(stub.url), clock)
    other, _ = label_patterns(lake, systems(), DS, "run-5", judge_at(stub.url, llm_model="other"), clock)
    assert (ruled["verdicts_new"], other["verdicts_new"]) == (5, 5)
    assert len(lake.rows(VERDICTS)) == 17


@pytest.mark.parametrize("why", ["no judge", "not allowed"])
def test_nothing_leaves_where_nobody_may_be_asked(
    stub: Stub, judge_at: Any, lake: Lake, put_night: Any, systems: Callable[..., System], why: str
) -> None:
    put_night(lake, simple(3))
    judge = None if why == "no judge" else judge_at(stub.url)
    assert label_patterns(lake, systems(allowed=why == "no judge"), DS, "run", judge, clock) == (counts(), None)
    assert not stub.requests
    assert not lake.exists(VERDICTS)


def test_an_empty_night(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    assert label_patterns(lake, system, DS, "run", judge_at(stub.url), clock) == (counts(), None)
    put_night(lake, simple(2), general=("pat-000", "pat-001"))
    assert label_patterns(lake, system, DS, "run", judge_at(stub.url), clock) == (counts(), None)
    assert not stub.requests


def test_an_endpoint_that_breaks_off_keeps_what_was_answered(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, simple(10))
    stub.reactions = [answer_all, answer_all, lambda body: (401, {"error": {"code": "invalid_api_key"}}, {})]
    found, detail = label_patterns(lake, system, DS, "run-1", judge_at(stub.url, llm_items_per_call=2), clock)
    assert found == counts(llm_calls=3, llm_items=6, llm_tokens_in=200, llm_tokens_out=20, llm_failed=6, verdicts_new=4)
    assert detail == (
        "LLM: 6 of 10 proprietary patterns wait for the next run: 127.0.0.1 answered 401 invalid_api_key: check OPENAI_API_KEY"
    )
    stub.reactions = [answer_all]
    found, detail = label_patterns(lake, system, DS, "run-2", judge_at(stub.url, llm_items_per_call=2), clock)
    assert (found["verdicts_known"], found["verdicts_new"], found["llm_calls"], detail) == (4, 6, 3, None)


def test_a_cured_mistake_is_no_trouble(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, simple(4))
    stub.reactions = [lambda body: json.dumps({"verdicts": [verdict_on(i, confidence=7) for i in asked(body)]}), answer_all]
    found, detail = label_patterns(lake, system, DS, "run", judge_at(stub.url), clock)
    assert (found["verdicts_new"], found["llm_items"], found["llm_failed"], detail) == (4, 4, 0, None)


def test_verdicts_nobody_asked_for_are_not_stored(lake: Lake, put_night: Any, system: System) -> None:
    class Eager:
        name = "eager"

        def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
            for label in ("normal", "anomalous"):
                yield Answer((Verdict("pat-000", label, 0.9, label), Verdict("stranger", label, 0.9, label)), 1, 0, 0)

    put_night(lake, simple(1))
    judge: Judge = Eager()
    found, _ = label_patterns(lake, system, DS, "run", judge, clock)
    assert found["verdicts_new"] == 1
    assert stored(lake) == {"pat-000": "normal"}


def test_a_broken_lake_does_raise(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, simple(2))
    lake.replace(TEMPLATES, [], system="hdfs")
    with pytest.raises(SchemaMismatch, match=r"t-hdfs-0000.*run the parse stage"):
        label_patterns(lake, system, DS, "run", judge_at(stub.url), clock)
    assert not stub.requests


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from nightlog.lake.lake import Lake
from nightlog.llm.judge import make_judge
from nightlog.llm.label import label_patterns
from nightlog.settings import Settings
from nightlog.systems.spec import Input, Session, System

class Killed:
    def __init__(self, judge):
        self.name, self.inner = judge.name, judge
    def judge(self, system, items):
        for number, answer in enumerate(self.inner.judge(system, items)):
            yield answer
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)

system = System(name="hdfs", role="target", input=Input(path="hdfs-{ds}.log"), session=Session(kind="id", pattern=r"blk_-?\\d+"))
settings = Settings(llm="openai", OPENAI_BASE_URL=sys.argv[2], OPENAI_API_KEY="k", llm_items_per_call=3, llm_at_once=1)
label_patterns(Lake(sys.argv[1]), system, "2008-11-10", "run-1", Killed(make_judge(settings)), lambda: datetime(2008, 11, 11, tzinfo=UTC))
"""


def test_a_kill_loses_no_answer_and_pays_none_twice(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, simple(11))
    killed = subprocess.run([sys.executable, "-c", KILLED, lake.root, stub.url], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(stored(lake)) == 6
    assert len(stub.requests) == 2
    found, detail = label_patterns(lake, system, DS, "run-2", judge_at(stub.url, llm_items_per_call=3), clock)
    assert (found["verdicts_known"], found["verdicts_new"], detail) == (6, 5, None)
    assert len(stub.requests) == 4
    sent = [item["events"][0]["template"] for number in range(4) for item in stub.items(number)]
    assert len(sent) == len(set(sent)) == 11


# The second round

OPEN: list[tuple[str, int]] = [("open", 1), ("close", 1)]
PATTERNS = {
    "ok": OPEN,
    "odd": [*OPEN, ("odd step", 1)],
    "odd-long": [("open", 8), ("close", 8), ("odd step", 1)],
    "long": [("open", 8), ("close", 8)],
    "rare": [*OPEN, ("rare step", 1)],
}


def two_rounds(body: dict[str, Any]) -> str:
    """Doubts whatever has an odd or rare step; in the second round groups by what is added, and calls the rare anomalous."""
    sent = json.loads(body["messages"][-1]["content"])
    verdicts = []
    for item in sent["items"]:
        if sent.get("round") == 2:
            name = item["to_normal"]["added"][0]["template"]
            verdicts.append(
                verdict_on(item, label="anomalous" if "rare" in name else "normal", confidence=0.75, group=name, reason="again")
            )
        else:
            odd = any("step" in event["template"] for event in item["events"])
            verdicts.append(verdict_on(item, confidence=0.6 if odd else 0.97))
    return json.dumps({"verdicts": verdicts})


def row_of(lake: Lake, question: str) -> dict[str, Any]:
    (row,) = (row for row in lake.rows(VERDICTS) if row["question_id"] == question)
    return row


def test_what_stays_uncertain_is_asked_again_side_by_side(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, PATTERNS, sessions={"ok": 80, "odd": 10, "rare": 5})
    stub.reactions = [two_rounds]
    found, detail = label_patterns(lake, system, DS, "run", judge_at(stub.url), clock)
    assert (found["verdicts_new"], found["verdicts_again"], found["llm_items"], found["llm_calls"], detail) == (5, 3, 7, 2, None)
    asked_again = stub.items(1)
    assert [(item["share"], item["first"]["confidence"]) for item in asked_again] == [(0.103093, 0.6), (0.051546, 0.6)]
    rare = row_of(lake, "rare")
    assert (rare["label"], rare["confidence"], rare["reason"], rare["round"], rare["group"]) == ("anomalous", 0.75, "again", 2, "rare step")
    assert (rare["first_label"], rare["first_confidence"]) == ("normal", 0.6)
    assert (rare["added"], rare["missing"]) == ([{"template": "rare step", "count": 1}], [])
    assert row_of(lake, "odd")["group_key"] == row_of(lake, "odd-long")["group_key"] not in (None, rare["group_key"])
    assert row_of(lake, "ok")["round"] == 1
    before = lake.rows(VERDICTS)
    again, _ = label_patterns(lake, system, DS, "run-2", judge_at(stub.url), clock)
    assert (again, len(stub.requests)) == (counts(verdicts_known=5), 2)
    assert lake.rows(VERDICTS) == before


def test_groups_are_stable_over_nights(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    first, second = dict(PATTERNS), {"odd-new": [("open", 1), ("close", 2), ("odd step", 1)], "ok-new": [("open", 1), ("close", 2)]}
    stub.reactions = [two_rounds]
    put_night(lake, first)
    label_patterns(lake, system, DS, "run-1", judge_at(stub.url), clock)
    put_night(lake, first | second)  # the templates of both nights
    put_night(lake, second | {"ok": OPEN}, ds="2008-11-11")
    found, _ = label_patterns(lake, system, "2008-11-11", "run-2", judge_at(stub.url), clock)
    assert (found["verdicts_known"], found["verdicts_new"], found["verdicts_again"], found["llm_calls"]) == (1, 2, 1, 1)
    joined, known = row_of(lake, "odd-new"), row_of(lake, "odd")
    same = ("label", "confidence", "reason", "round", "group", "group_key", "added", "missing")
    assert {name: joined[name] for name in same} == {name: known[name] for name in same}
    assert (joined["ds"], joined["run_id"]) == ("2008-11-11", "run-2")
    sent = stub.requests[-1]["messages"]
    assert {each["label"] for each in json.loads(sent[-1]["content"])["judged"]} >= {"normal"}, (
        "patterns that were judged before are shown to the LLM"
    )


def test_an_end_between_the_rounds_loses_nothing(stub: Stub, judge_at: Any, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, PATTERNS)
    stub.reactions = [two_rounds, lambda body: (401, {"error": {"code": "invalid_api_key"}}, {})]
    found, detail = label_patterns(lake, system, DS, "run-1", judge_at(stub.url), clock)
    assert (found["verdicts_new"], found["verdicts_again"], found["llm_failed"]) == (5, 0, 3)
    assert detail == "LLM: 3 uncertain ones wait for the second round: 127.0.0.1 answered 401 invalid_api_key: check OPENAI_API_KEY"
    stub.reactions = [two_rounds]
    found, detail = label_patterns(lake, system, DS, "run-2", judge_at(stub.url), clock)
    assert (found["verdicts_known"], found["verdicts_new"], found["verdicts_again"], found["llm_failed"], detail) == (5, 0, 3, 0, None)
    assert len(stub.requests) == 3
    assert row_of(lake, "odd")["first_confidence"] == 0.6


def test_where_counts_tell_nothing_patterns_of_the_same_templates_are_one_question(
    stub: Stub, judge_at: Any, lake: Lake, put_night: Any, systems: Callable[..., System]
) -> None:
    nodes = systems("bgl").model_copy(update={"session": Session(kind="field", field="node")})
    same = {f"same-{n}": [("heartbeat", 1 << n), ("fan ok", 1)] for n in range(6)}
    put_night(
        lake, same | {"other": [("heartbeat", 1)]}, "bgl", sessions={"same-1": 7, "other": 9}, questions=dict.fromkeys(same, "q-same")
    )
    found, _ = label_patterns(lake, nodes, DS, "run", judge_at(stub.url), clock)
    assert (found["llm_items"], found["verdicts_new"]) == (2, 2)
    assert [item["events"] for item in stub.items()] == [[{"template": "heartbeat"}, {"template": "fan ok"}], [{"template": "heartbeat"}]]
    assert stored(lake).keys() == {"q-same", "other"}
    put_night(lake, {"same-9": [("heartbeat", 512), ("fan ok", 2)]}, "bgl", ds="2008-11-11", questions={"same-9": "q-same"})
    found, _ = label_patterns(lake, nodes, "2008-11-11", "run", judge_at(stub.url), clock)
    assert (found["llm_items"], found["verdicts_known"]) == (0, 1)


# Against the recorded server


@pytest.fixture
def hdfs_night(lake: Lake, put_night: Any, recorded_patterns: Any) -> dict[str, str]:
    """A night of recorded HDFS patterns; returns the verdict that each should get."""
    rows = recorded_patterns("hdfs", 60)
    put_night(lake, {f"pat-{n:03d}": [(e["template"], e["count"]) for e in row["events"]] for n, row in enumerate(rows)})
    return {f"pat-{n:03d}": row["label"] for n, row in enumerate(rows)}


@pytest.mark.shared
def test_every_pattern_gets_its_own_verdict(
    serve: Any, stats: Any, judge_at: Any, lake: Lake, hdfs_night: dict[str, str], system: System
) -> None:
    url = serve()
    found, detail = label_patterns(lake, system, DS, "run-1", judge_at(url), clock)
    assert stored(lake) == hdfs_night
    assert (found["llm_calls"], found["verdicts_new"], detail) == (4, 60, None), "the uncertain ones make one request more"
    assert 60 < found["llm_items"] < 60 + found["verdicts_again"], "those that differ alike are asked once"
    assert found["llm_tokens_in"] == stats(url)["prompt_tokens"] > 0
    assert found["llm_tokens_out"] == stats(url)["completion_tokens"] > 0
    label_patterns(lake, system, DS, "run-2", judge_at(url), clock)
    assert stats(url)["requests"] == 4, "the second run makes no call"


@pytest.mark.shared
@pytest.mark.parametrize("fault", [("--errors", "0.4"), ("--malformed", "0.3"), ("--errors", "0.2", "--malformed", "0.2", "--seed", "4")])
def test_a_bad_day_ends_with_the_same_verdicts(
    serve: Any, stats: Any, judge_at: Any, lake: Lake, hdfs_night: dict[str, str], system: System, fault: tuple[str, ...]
) -> None:
    url = serve(*fault)
    calls = new = 0
    for run in range(4):
        found, detail = label_patterns(lake, system, DS, f"run-{run}", judge_at(url, llm_items_per_call=10), clock)
        calls, new = calls + found["llm_calls"], new + found["verdicts_new"]
        assert (detail is None) == (found["llm_failed"] == 0)
        if detail is None:
            break
    assert stored(lake) == hdfs_night
    assert new == 60, "no verdict is paid twice"
    assert stats(url)["requests"] == calls


@pytest.mark.shared
def test_a_rate_limit_is_waited_out(serve: Any, judge_at: Any, lake: Lake, hdfs_night: dict[str, str], system: System) -> None:
    import time

    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    found, detail = label_patterns(lake, system, DS, "run", judge_at(serve("--per-second", "4"), sleep=sleep, llm_items_per_call=10), clock)
    assert (stored(lake), detail) == (hdfs_night, None)
    assert found["llm_calls"] == 6 + 1 + len(waits)
    assert all(seconds >= 1 for seconds in waits), "Retry-After is honoured"


@pytest.mark.shared
def test_a_spent_quota_leaves_the_rest_open(
    serve: Any, stats: Any, judge_at: Any, lake: Lake, hdfs_night: dict[str, str], system: System
) -> None:
    url = serve("--quota", "2")
    found, detail = label_patterns(lake, system, DS, "run", judge_at(url, llm_items_per_call=10), clock)
    doubtful = sum(is_uncertain(stored_verdict(row)) for row in lake.rows(VERDICTS))
    assert (found["verdicts_new"], found["llm_failed"], found["llm_calls"]) == (20, 40 + doubtful, 3)
    assert detail == (
        f"LLM: 40 of 60 proprietary patterns wait for the next run and {doubtful} uncertain ones wait for the second round: "
        "127.0.0.1 answered 429 insufficient_quota: see the account's quota at the provider"
    )
    assert stored(lake).items() <= hdfs_night.items()
    assert stats(url)["requests"] == 3


@pytest.mark.shared
def test_a_wrong_key_costs_one_call(serve: Any, judge_at: Any, lake: Lake, hdfs_night: dict[str, str], system: System) -> None:
    found, detail = label_patterns(lake, system, DS, "run", judge_at(serve("--key", "right")), clock)
    assert found == counts(llm_calls=1, llm_items=20, llm_failed=60)
    assert detail is not None
    assert "check OPENAI_API_KEY" in detail
    found, detail = label_patterns(lake, system, DS, "run", judge_at(serve("--key", "right"), OPENAI_API_KEY="right"), clock)
    assert (stored(lake), detail) == (hdfs_night, None)


@pytest.mark.shared
def test_redaction_changes_no_recorded_verdict(serve: Any, judge_at: Any, recorded_patterns: Any, systems: Callable[..., System]) -> None:
    for name in ("hdfs", "openstack"):
        rows = recorded_patterns(name, 1000)
        wanted = [Item(str(n), tuple((e["template"], e.get("count", 1)) for e in row["events"])) for n, row in enumerate(rows)]
        verdicts = [v for answer in judge_at(serve(), llm_items_per_call=200).judge(systems(name), wanted) for v in answer.verdicts]
        assert {v.id: v.label for v in verdicts} == {str(n): row["label"] for n, row in enumerate(rows)}
