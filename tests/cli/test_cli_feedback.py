"""An analyst's morning on two real nights: the story of a session, a label and a suppression that nights follow, nights compared and
derived again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, ANSWERS, MODELS, NIGHTS
from shop_nights import DS, NEXT, Place

Call = Callable[..., Result]


def as_json(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def flagged(shop: Place, ds: str) -> dict[str, tuple[str, str]]:
    return {row["session_id"]: (row["decided_by"], row["status"]) for row in Lake(shop.lake).rows(ANOMALIES, ds=ds)}


@pytest.mark.slow
def test_the_story_of_an_anomalous_session(call: Call) -> None:
    story = as_json(call("show", "s20", "--format", "json"))
    assert (story["session"]["system"], story["session"]["ds"], story["session"]["sessions_alike"]) == ("shop", DS, 2)
    verdict = story["verdict"]
    assert (verdict["label"], verdict["decided_by"], verdict["status"], verdict["published"]) == ("anomalous", "llm", "open", True)
    assert [(each["text"].split(" ", 3)[3], each["marked"]) for each in story["events"]] == [("request served", False), ("fan slow", True)]
    (telling,) = story["telling"]
    assert (telling["template"], telling["change"], telling["count"], telling["usual"]) == ("fan slow", "more", 1, 0)
    (said,) = story["llm"]
    assert (said["label"], said["first_label"], said["group"], said["in_force"]) == ("anomalous", "normal", "fan slow", True)
    assert [(night["ds"], night["sessions"], night["anomalous"]) for night in story["nights"]] == [(NEXT, 1, 1), (DS, 2, 2)]
    text = call("show", "s20").stdout
    for words in (
        "s20 · night 2026-03-04: anomalous, open",
        "decided by the LLM, score 0.70",
        "▶ shop-2026-03-04.log:2",
        "fan slow",
        "+ 1× fan slow",
    ):
        assert words in text

    normal = as_json(call("show", "s30", "--format", "json"))
    assert (normal["verdict"]["label"], normal["verdict"]["decided_by"], normal["verdict"]["reason"]) == ("normal", "llm", "is normal")
    unknown = call("show", "s99")
    assert unknown.exit_code == 4 and "`s99` is no session" in str(unknown.exception)


@pytest.mark.slow
def test_a_label_and_a_suppression_are_followed_by_the_next_run_and_replayed_as_of_then(call: Call, shop: Place) -> None:
    assert flagged(shop, DS) == {"s20": ("llm", "open"), "s21": ("llm", "open")}
    assert call("label", "s20", "normal", "--by", "kim", "--note", "a load test").exit_code == 0
    assert call("label", "s30", "anomalous", "--by", "kim").exit_code == 0
    assert call("suppress", "s51", "--until", NEXT, "--by", "lee").exit_code == 0
    assert "by kim since" in call("label", "s20", "normal", "--by", "lee").stdout
    assert len(Lake(shop.lake).rows(ANSWERS)) == 3

    assert call("replay", "--ds", DS, "--system", "shop").exit_code == 0, "what was said later changes nothing about the verdict of then"
    for ds in (DS, NEXT):
        assert call("run", "--ds", ds).exit_code == 0
    found = flagged(shop, DS)
    assert {found[name] for name in found} == {("feedback", "open")} and "s20" not in found and len(found) == 18
    row = next(row for row in Lake(shop.lake).rows(ANOMALIES, ds=DS) if row["session_id"] == "s30")
    assert row["reason"].startswith("kim labelled session s30 anomalous on ") and row["score"] == 1.0
    assert {flagged(shop, NEXT)[name] for name in ("s51", "s52", "s53")} == {("llm", "suppressed")}
    story = as_json(call("show", "s20", "--ds", DS, "--format", "json"))
    assert (story["verdict"]["label"], story["verdict"]["decided_by"]) == ("normal", "feedback")
    assert [(each["by"], each["label"], each["holds"]) for each in story["feedback"]] == [("kim", "normal", True)]
    assert call("replay", "s20", "--ds", DS).exit_code == call("replay", "s51").exit_code == 0

    for undo in (("label", "s20"), ("label", "s30"), ("suppress", "s51")):
        assert call(*undo, "--undo", "--by", "kim").exit_code == 0
        again = call(*undo, "--undo")
        assert again.exit_code == 4 and "nightlog feedback" in str(again.exception)
    rows = as_json(call("feedback", "--format", "json"))
    assert {(row["by"], row["label"], row["holds"]) for row in rows} == {
        ("kim", "normal", False),
        ("kim", "anomalous", False),
        ("lee", f"suppressed until {NEXT}", False),
    }
    assert as_json(call("feedback", "--holding", "--format", "json")) == []
    assert "taken back by kim" in call("feedback").stdout.replace("\n", " ")


@pytest.mark.slow
def test_two_nights_are_compared(call: Call) -> None:
    rows = as_json(call("compare", DS, NEXT, "--format", "json"))
    found = {(row["kind"], row["change"], row["before"], row["after"]) for row in rows}
    assert ("template", "new", 0, 3) in found and ("anomaly", "new", 0, 3) in found and ("anomaly", "fewer", 2, 1) in found
    assert next(row["what"] for row in rows if row["kind"] == "template") == "disk lost"
    assert not any(row["what"] == "1× request served" for row in rows), "what is about as frequent as before is no news"
    back = {(row["kind"], row["change"], row["before"], row["after"]) for row in as_json(call("compare", NEXT, DS, "--format", "json"))}
    assert ("template", "gone", 3, 0) in back and ("anomaly", "more", 1, 2) in back
    assert "disk lost" in call("compare", DS, NEXT).stdout
    other = call("compare", DS, "2026-03-09")
    assert other.exit_code == 4 and "night 2026-03-09 was never run" in other.stderr


@pytest.mark.slow
def test_a_replay_says_what_differs_and_when_it_cannot_tell(call: Call, shop: Place) -> None:
    assert as_json(call("replay", "s20", "--format", "json"))[0]["result"] == "same"
    assert "normal then and now" in call("replay", "s30").stdout
    lake = Lake(shop.lake)
    rows = lake.rows(ANOMALIES, ds=DS)
    lake.replace(ANOMALIES, [row | {"score": 0.2} for row in rows], ds=DS, system="shop")
    changed = call("replay", "s20", "--ds", DS)
    assert changed.exit_code == 1 and "score 0.2 then, 0.7 now" in changed.stdout
    lake.replace(ANOMALIES, [row for row in rows if row["session_id"] == "s20"], ds=DS, system="shop")
    assert "1 are new" in call("replay", "--ds", DS, "--system", "shop").stdout
    (night,) = lake.rows(NIGHTS, ds=DS)
    lake.replace(NIGHTS, [night | {"versions": night["versions"] | {"templates": "0"}}], ds=DS, system="shop")
    assert "texts are not those of then" in call("replay", "s20", "--ds", DS).stdout
    (model,) = lake.rows(MODELS)
    lake.replace(NIGHTS, [night | {"versions": night["versions"] | {"model": "gone"}}], ds=DS, system="shop")
    gone = call("replay", "s20", "--ds", DS)
    assert gone.exit_code == 30 and "does not know the model gone" in gone.stdout, model["version"]
    assert call("replay").exit_code == 2
