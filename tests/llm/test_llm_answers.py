"""Of an answer only sound verdicts are kept, and what is wrong with the rest is told without quoting it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nightlog.llm.items import Comparison, Item, Verdict
from nightlog.llm.prompt import MAX_GROUP, MAX_REASON, read_answer, verdict_of


def verdict(name: str, **changes: Any) -> dict[str, Any]:
    return {"id": name, "label": "normal", "confidence": 0.9, "reason": "ordinary work"} | changes


def read(*verdicts: Any, asked: tuple[str, ...] = ("p1", "p2")) -> tuple[list[str], str | None]:
    reading = read_answer(json.dumps({"verdicts": verdicts}), asked)
    return list(reading.verdicts), reading.trouble


def test_a_sound_answer_is_kept_whole() -> None:
    reading = read_answer(json.dumps({"verdicts": [verdict("p2", label="anomalous", confidence=1), verdict("p1")]}), ["p1", "p2"])
    assert reading.trouble is None
    assert {name: (v.label, v.confidence, v.reason) for name, v in reading.verdicts.items()} == {
        "p1": ("normal", 0.9, "ordinary work"),
        "p2": ("anomalous", 1.0, "ordinary work"),
    }


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (verdict("p2", confidence=7), "1 with a bad confidence"),
        (verdict("p2", confidence=-0.1), "1 with a bad confidence"),
        (verdict("p2", confidence="0.9"), "1 with a bad confidence"),
        (verdict("p2", confidence=True), "1 with a bad confidence"),
        (verdict("p2", confidence=float("nan")), "1 with a bad confidence"),
        (verdict("p2", confidence=None), "1 with a bad confidence"),
        (verdict("p2", label="suspicious"), "1 with a bad label"),
        (verdict("p2", label="Normal"), "1 with a bad label"),
        (verdict("p2", reason=None), "1 with a bad reason"),
        ({"id": "p2"}, "1 with a bad confidence/label/reason"),
        ("p2", "1 missing, 1 with a bad form"),
        (verdict("p3"), "1 missing, 1 with an unknown id"),
        (verdict("<script>"), "1 missing, 1 with an unknown id"),
        (verdict(2), "1 missing, 1 with a bad id"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_verdict_costs_no_other(bad: Any, named: str) -> None:
    assert read(verdict("p1"), bad) == (["p1"], f"verdicts not usable: {named}")


def test_of_a_repeated_id_none_is_kept() -> None:
    assert read(verdict("p1"), verdict("p2"), verdict("p2", label="anomalous")) == (["p1"], "verdicts not usable: 2 with a repeated id")
    assert read(verdict("p1"), verdict("p2"), verdict("p2", confidence=9))[0] == ["p1"]


def test_missing_items_are_told() -> None:
    assert read(verdict("p1")) == (["p1"], "verdicts not usable: 1 missing")
    assert read() == ([], "verdicts not usable: 2 missing")


@pytest.mark.parametrize(
    "text", ["", "no", "[]", "null", "{}", '{"verdicts": {}}', '{"verdicts": null}', "I am sorry, {", "\x00", '{"other": [1]}']
)
def test_what_is_no_answer(text: str) -> None:
    reading = read_answer(text, ["p1"])
    assert (reading.verdicts, reading.trouble) == ({}, "the answer is not JSON of the agreed form")


def test_every_cut_keeps_only_whole_verdicts() -> None:
    """Cut anywhere, an answer never yields a verdict that differs from the whole one's."""
    whole = json.dumps({"verdicts": [verdict(f"p{n}", confidence=0.25 + n / 100) for n in range(1, 5)]})
    asked = [f"p{n}" for n in range(1, 5)]
    expected = read_answer(whole, asked).verdicts
    kept = []
    for end in range(len(whole)):
        reading = read_answer(whole[:end], asked)
        assert reading.trouble is not None
        assert reading.verdicts.items() <= expected.items()
        kept.append(len(reading.verdicts))
    assert kept == sorted(kept)
    assert max(kept) == 3


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({"group": "fan stopped"}, True), ({"group": None}, True), ({}, False), ({"group": 7}, False), ({"group": ["a"]}, False)],
)
def test_in_the_second_round_a_group_or_null_is_required(changes: dict[str, Any], kept: bool) -> None:
    text = json.dumps({"verdicts": [verdict("p1", **changes), verdict("p2", group="other")]})
    reading = read_answer(text, ["p1", "p2"], 2)
    assert list(reading.verdicts) == (["p1", "p2"] if kept else ["p2"])
    assert reading.trouble == (None if kept else "verdicts not usable: 1 with a bad group")
    assert list(read_answer(text, ["p1", "p2"]).verdicts) == ["p1", "p2"], "the first round knows no groups"


def test_a_verdict_without_a_group_is_the_first_one_again() -> None:
    first = Verdict("x", "anomalous", 0.6, "disk slow")
    item = Item("x", (("a", 1),), Comparison(0.1, first, None, None))
    for nothing in (None, "", " \u200b\n"):
        assert verdict_of(item, "normal", 0.9, "changed", nothing) == Verdict("x", "anomalous", 0.6, "disk slow", 2, None)
    named = verdict_of(item, "normal", 0.9, "a\nb", "fan\x1b[31m\nstopped " + "x" * 200)
    assert (named.label, named.reason, named.round) == ("normal", "a b", 2)
    assert named.group is not None and named.group.startswith("fan [31m stopped xxx") and len(named.group) == MAX_GROUP
    assert verdict_of(Item("x", ()), "normal", 0.9, "fine", "a group") == Verdict("x", "normal", 0.9, "fine")


def test_json_in_a_fence_or_after_words_is_read() -> None:
    text = json.dumps({"verdicts": [verdict("p1")]})
    assert list(read_answer(f"```json\n{text}\n```", ["p1"]).verdicts) == ["p1"]
    assert list(read_answer(f"Here it is: {text}", ["p1"]).verdicts) == ["p1"]


def test_reasons_become_one_short_line() -> None:
    reason = "disk\n\x1b[31mfull\u202e \u200b" + "x" * 1000
    (found,) = read_answer(json.dumps({"verdicts": [verdict("p1", reason=reason)]}), ["p1"]).verdicts.values()
    assert found.reason.startswith("disk [31mfull xxx")
    assert len(found.reason) == MAX_REASON
