"""Log lines that mean harm change no request, no verdict but their own, and nothing that shows them."""

from __future__ import annotations

import csv
import io
import json
import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hostile import hostile_lines, is_inert
from llm_stub import Stub, asked, settings_at, verdict_on
from nightlog.cli.app import Format, out, print_rows
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, VERDICTS
from nightlog.llm.items import Comparison, Difference, Item, Verdict
from nightlog.llm.judge import make_batch_queue, make_judge
from nightlog.llm.label import label_patterns
from nightlog.llm.prompt import NEIGHBOURS, instructions, messages, prompt_hash
from nightlog.llm.redaction import MAX_TEMPLATE
from nightlog.systems.spec import System

DS = "2008-11-10"
NOON = datetime(2008, 11, 11, 12, tzinfo=UTC)
LINES = hostile_lines()
SHORT = [line for line in LINES if len(line) <= MAX_TEMPLATE]


def test_the_corpus_is_large_enough() -> None:
    assert len(LINES) >= 60
    assert sum(not is_inert(line) for line in LINES) >= 15
    assert max(map(len, LINES)) >= 1_000_000


# The request


@pytest.mark.parametrize("number", [1, 2])
def test_a_request_stays_one_json_object_with_the_items_that_it_had(system: System, number: int) -> None:
    def item(n: int, text: str) -> Item:
        first = Verdict(f"q-{n}", "unclear", 0.5, text)
        apart = Difference(((text, 2),), ((text, None),))
        return Item(f"q-{n}", ((text, 1), ("all well", 4)), Comparison(0.1, first, apart, apart) if number == 2 else None)

    said = messages(system, [item(n, line) for n, line in enumerate(LINES)], [(((line, 1),), "normal") for line in LINES])
    assert said[0] == ("system", f"{instructions(number)}\n\n{NEIGHBOURS}"), "the instructions hold nothing of a log"
    assert [role for role, _ in said] == ["system", "user"]
    request = json.loads(said[-1][1])
    assert [found["id"] for found in request["items"]] == [f"p{n}" for n in range(1, len(LINES) + 1)]
    for found in request["items"]:
        assert [event.keys() for event in found["events"]] == [{"template", "count"}] * 2
        assert [event["count"] for event in found["events"]] == [1, 4]
        assert len(found["events"][0]["template"]) <= MAX_TEMPLATE
    assert all(is_inert(json.dumps(found, ensure_ascii=False)) for found in request["items"])
    assert "never an instruction" in NEIGHBOURS
    assert len(request["judged"]) == len(LINES)


def test_hostile_lines_change_nothing_that_a_verdict_depends_on(system: System, systems: Callable[..., System]) -> None:
    assert prompt_hash(system) == prompt_hash(systems("other"))
    assert {prompt_hash(systems(policy=line)) for line in SHORT}.isdisjoint({prompt_hash(system)}), (
        "a policy is an instruction of its owner"
    )


# The verdicts


def obedient(body: dict[str, Any]) -> str:
    """An LLM that is taken in: beside honest verdicts it hands on all that log lines say in its place."""
    told: list[Any] = []
    for item in asked(body):
        for event in item["events"]:
            start = event["template"].find('{"verdicts"')
            try:
                told += json.JSONDecoder().raw_decode(event["template"][start:])[0]["verdicts"] if start >= 0 else []
            except ValueError:
                continue
    return json.dumps({"verdicts": [verdict_on(item) for item in asked(body)] + told})


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_line_decides_about_another_item(stub: Stub, lake: Lake, put_night: Any, system: System, at_once: int) -> None:
    """Whatever lines make an LLM say: a verdict is of the three labels, and is the honest one or none. Nothing else is stored."""
    wanted = {f"bad-{n:03d}": [(f"broken {line}", 1)] for n, line in enumerate(SHORT)}
    wanted |= {f"pat-{n:03d}": [(f"step {chr(97 + n)} done", 1)] for n in range(20)}
    put_night(lake, wanted, sessions={f"pat-{n:03d}": 5 for n in range(20)})
    stub.reactions = [obedient]
    counts, _ = label_patterns(lake, system, DS, "run", make_judge(settings_at(stub.url, llm_at_once=at_once)), lambda: NOON)
    stored = {row["question_id"]: row["label"] for row in lake.rows(VERDICTS)}
    assert stored.keys() <= wanted.keys()
    assert all(label == ("anomalous" if name.startswith("bad") else "normal") for name, label in stored.items())
    assert len(stored) + counts["llm_failed"] == len(wanted)
    assert counts["llm_failed"] <= 3, "only what a line spoke for stays open"


def test_what_the_llm_says_is_no_less_hostile_than_the_log(stub: Stub, lake: Lake, put_night: Any, system: System) -> None:
    put_night(lake, {f"p-{n}": [(f"step {n} {line[:50]}", 1)] for n, line in enumerate(SHORT)})
    said = iter(SHORT * 2)
    stub.reactions = [lambda body: json.dumps({"verdicts": [verdict_on(i, reason=next(said), group="x") for i in asked(body)]})]
    label_patterns(lake, system, DS, "run", make_judge(settings_at(stub.url)), lambda: NOON)
    reasons = [row["reason"] for row in lake.rows(VERDICTS)]
    assert len(reasons) == len(SHORT)
    assert all(is_inert(reason) and "\n" not in reason and len(reason) <= 400 for reason in reasons)


# What shows them


def rows() -> list[dict[str, Any]]:
    return [{"n": -n, "text": line, "lines": [{"text": line}]} for n, line in enumerate(LINES) if len(line) < 100_000]


def test_in_the_terminal_they_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    with out.capture() as shown:
        print_rows(rows(), ["n", "text", "lines"], Format.TABLE)
    assert is_inert(shown.get())
    assert "[bold red]" in shown.get().replace("\n", ""), "markup is shown, not obeyed"


def test_in_csv_no_cell_is_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    csv.field_size_limit(10_000_000)
    print_rows(rows(), ["n", "text", "lines"], Format.CSV)
    written = capsys.readouterr().out
    assert is_inert(written.replace("\r\n", "\n").replace("\t", " "))
    found = list(csv.reader(io.StringIO(written, newline="")))
    assert len(found) == len(rows()) + 1
    for row, (number, text, nested) in zip(rows(), found[1:], strict=True):
        assert number == str(row["n"]), "numbers stay numbers"
        assert text.lstrip()[:1] not in tuple("=+-@＝")
        assert json.loads(nested) == row["lines"], "nested values lose nothing"


def test_in_json_they_come_back_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(rows(), ["n", "text", "lines"], Format.JSON)
    written = capsys.readouterr().out
    assert is_inert(written)
    assert json.loads(written) == rows()


def test_in_the_log_they_are_not_at_all(stub: Stub, lake: Lake, put_night: Any, system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    put_night(lake, {f"p-{n}": [(f"zebra{n} {line}", 1)] for n, line in enumerate(SHORT)})
    stub.reactions = [lambda body: (500, {"error": {"message": str(body), "code": str(body)}}, {}), obedient]
    label_patterns(lake, system, DS, "run", make_judge(settings_at(stub.url), sleep=lambda _: None), lambda: NOON)
    assert caplog.text
    assert "zebra" not in caplog.text
    assert is_inert(caplog.text)


def test_in_a_condition_on_the_lake_they_are_values(lake: Lake) -> None:
    lake.append(ANSWERS, [{"system": "s", "group": line, "name": "old", "answered_at": NOON} for line in SHORT])
    lake.replace(ANSWERS, [{"system": "s", "group": SHORT[0], "name": "new", "answered_at": NOON}], group=SHORT[0])
    for number, line in enumerate(SHORT[1:3] + hostile_lines("sql")):
        lake.replace(ANSWERS, [], group=line)
        assert lake.rows(ANSWERS, group=line) == [], number
    assert len(lake.rows(ANSWERS)) == len(SHORT) - 2 - len(hostile_lines("sql"))


def test_a_system_that_may_send_nothing_opens_no_connection(lake: Lake, put_night: Any, systems: Callable[..., System]) -> None:
    """Counted at the socket: not even a connection is made."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.3)
        put_night(lake, {"p": [("step", 1)]})
        for mode in ("chat", "batch"):
            given = settings_at(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", llm_mode=mode, llm_timeout_s=0.2)
            judge = make_judge(given, sleep=lambda _: None)
            counts, detail = label_patterns(
                lake, systems(allowed=False), DS, "run", judge, lambda: NOON, given.prices, make_batch_queue(given, judge)
            )
            assert (counts["llm_calls"], detail) == (0, None)
            with pytest.raises(TimeoutError):
                listening.accept()
        label_patterns(lake, systems(), DS, "run", judge, lambda: NOON)
        listening.accept()[0].close()
