"""Publishing a night: what stands in gold, and what a critical breach leaves untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import torch
from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import Manifest, Shape
from nightlog.detector.network import Network
from nightlog.detector.registry import Loaded
from nightlog.errors import ConfigError, GateFailed
from nightlog.feedback.store import take_back
from nightlog.history.night import score_night
from nightlog.lake.lake import Lake
from nightlog.lake.tables import (
    ANOMALIES,
    ANSWERS,
    EVENTS_TABLE,
    HISTORY,
    LINES_TABLE,
    MESSAGES,
    NIGHTS,
    PATTERNS,
    QUARANTINE,
    ROUTES,
    SCORES,
    SESSIONS,
    TEMPLATES,
    VERDICTS,
)
from nightlog.lake.time_travel import PastLake
from nightlog.publishing.inputs import learn, read_judged, verdicts_and_answers
from nightlog.publishing.publish import Publication, publish, publish_unfinished
from nightlog.routing.router import SourceTemplates
from nightlog.systems.spec import LLM, Input, Session, System

DS, BEFORE = "2026-03-04", "2026-03-03"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SYSTEM = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"))
DAY = {"system": "app", "ds": DS}


def publication(run_id: str, model: str = "m1", llm: str | None = "judge", prompt: str = "prompt-1", flags: bool = True) -> Publication:
    torch.manual_seed(0)
    shape = Shape(4, 2)
    manifest = Manifest("e", 0.9, 0.5, 0.8 if flags else None, Calibration(1.0, 0.0), shape, ("one",), ("bgl",), ("bgl",), {})
    sources = SourceTemplates(np.eye(1, 4, dtype=np.float32), ("one",), ("bgl",))
    return Publication(DS, run_id, Loaded(model, Network(shape), manifest, sources), prompt, llm, NOON)


@pytest.fixture
def put_scores(lake: Lake) -> Callable[..., None]:
    """Write a night of three patterns: general and anomalous, proprietary and judged, general and normal."""
    texts = {"t-open": "open <FILE>", "t-lost": "disk <NUM> lost"}
    patterns = {
        "p-general": ("general", ["t-lost", "t-open"]),
        "p-judged": ("proprietary", ["t-open"]),
        "p-normal": ("general", ["t-open"]),
    }
    lake.append(TEMPLATES, [{"system": "app", "template_id": name, "text": text} for name, text in texts.items()])
    lake.append(MESSAGES, [{"system": "app", "message_id": n, "template_id": name} for n, name in enumerate(texts)])
    sessions = {"s1": "p-general", "s2": "p-judged", "s3": "p-normal", "s4": "p-normal"}
    lake.append(SESSIONS, [DAY | {"session_id": s, "pattern_id": p, "n_events": 2} for s, p in sessions.items()])
    rows = []
    for pattern, (_, templates) in patterns.items():
        events = [{"template_id": name, "count": 1} for name in templates]
        n_sessions = list(sessions.values()).count(pattern)
        rows.append(DAY | {"pattern_id": pattern, "question_id": f"q-{pattern}", "events": events, "n_sessions": n_sessions})
    lake.append(PATTERNS, rows)
    near = [{"template_id": "t-open", "source": "bgl", "nearest_source_template": "opened", "similarity": 0.95}]
    similar = {"general": 0.95, "proprietary": 0.2}
    lake.append(
        ROUTES,
        [
            DAY | {"pattern_id": p, "route": route, "similarity": similar[route], "nearest": near, "model": "m1"}
            for p, (route, _) in patterns.items()
        ],
    )
    judged = {
        "question_id": "q-p-judged",
        "round": 1,
        "prompt": "prompt-1",
        "llm": "judge",
        "label": "anomalous",
        "confidence": 0.8,
        "reason": "lost",
    }
    lake.append(VERDICTS, [{"system": "app", "asked_at": NOON} | judged])
    events, lines = [], []
    for number, (session, pattern) in enumerate(sessions.items()):
        for n, template in enumerate(patterns[pattern][1]):
            place = {"system": "app", "ds": BEFORE if n else DS, "file": f"{n}.log", "line_no": number + 1}
            events.append(place | {"session_id": session, "message_id": list(texts).index(template)})
            lines.append(place | {"text": f"raw {session} {template}"})
    lake.append(EVENTS_TABLE, events)
    lake.append(LINES_TABLE, lines)

    def put(**probability: float) -> None:
        given = {"p_general": 0.9, "p_judged": 0.1, "p_normal": 0.1} | probability
        rows = []
        for pattern, (_, templates) in patterns.items():
            weights = [{"template_id": name, "weight": 1 / len(templates)} for name in templates]
            rows.append(DAY | {"pattern_id": pattern, "probability": given[pattern.replace("-", "_")], "weights": weights, "model": "m1"})
        lake.replace(SCORES, rows, **DAY)

    return put


def shown(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted((row["session_id"], row["decided_by"], row["score"], row["run_id"]) for row in lake.rows(ANOMALIES))


@pytest.mark.slow
def test_a_night_is_published_and_a_critical_breach_leaves_it_as_it_was(lake: Lake, put_scores: Callable[..., None]) -> None:
    put_scores()
    counts, warnings, outcome = publish(lake, SYSTEM, publication("first"), {"n_sessions": 4, "n_lines": 9}, 1.5)
    judged = {"n_by_analyst": 0, "n_by_llm": 1, "n_by_student": 0, "n_by_model": 3, "n_unjudged": 0}
    assert (counts, warnings, outcome) == ({"n_anomalies": 2, "n_provisional": 0} | judged, None, "done")
    assert shown(lake) == [("s1", "small_model", 0.9, "first"), ("s2", "llm", 0.8, "first")]
    row = next(row for row in lake.rows(ANOMALIES) if row["session_id"] == "s1")
    assert [line["text"] for line in row["lines"]] == ["raw s1 t-lost", "raw s1 t-open"], "the rare line, then that of the look-back day"
    assert {(each["template"], each["nearest_source_template"]) for each in row["evidence"]} == {
        ("disk <NUM> lost", None),
        ("open <FILE>", "opened"),
    }
    assert (row["versions"]["model"], row["versions"]["prompt"], row["versions"]["llm"]) == ("m1", "prompt-1", "judge")
    (night,) = lake.rows(NIGHTS)
    assert (night["outcome"], night["n_anomalies"], night["n_sessions"], night["n_lines"], night["run_id"]) == ("done", 2, 4, 9, "first")
    assert night["proprietary_share"] == 0.25
    curve = {point["tau"]: point["proprietary_share"] for point in night["tau_curve"]}
    assert (curve[0.2], curve[0.25], curve[0.95]) == (0, 0.25, 0.25)
    assert not lake.exists(QUARANTINE)

    before, version = lake.rows(ANOMALIES), lake.table(ANOMALIES).version()
    put_scores(p_general=7.0)
    with pytest.raises(GateFailed, match="score"):
        publish(lake, SYSTEM, publication("second"), {}, 1.0)
    assert lake.rows(ANOMALIES) == before
    assert lake.table(ANOMALIES).version() == version
    assert [row["run_id"] for row in lake.rows(NIGHTS)] == ["first"]
    (aside,) = lake.rows(QUARANTINE)
    assert (aside["stage"], aside["run_id"], json.loads(aside["row"])["session_id"]) == ("publish", "second", "s1")
    assert aside["reason"].startswith("critical: ") and "score" in aside["reason"]

    put_scores(p_general=0.1)
    assert publish(lake, SYSTEM, publication("third"), {}, 1.0)[0]["n_anomalies"] == 1
    assert shown(lake) == [("s2", "llm", 0.8, "third")]
    assert lake.rows(QUARANTINE) == []

    about = {"system": "app", "name": "clean copy", "questions": ["q-p-judged"], "answered_by": "kim", "answered_at": NOON}
    lake.append(ANSWERS, [about | {"group": "g1", "label": "normal"}])
    lake.append(ANSWERS, [about | {"group": "g2", "label": "anomalous", "name": None, "questions": ["q-p-normal"]}])
    counts, _, _ = publish(lake, SYSTEM, publication("fourth"), {}, 1.0)
    assert {name: counts[name] for name in ("n_anomalies", *judged)} == {
        "n_anomalies": 2,
        "n_by_analyst": 3,
        "n_by_llm": 0,
        "n_by_student": 0,
        "n_by_model": 1,
        "n_unjudged": 0,
    }
    assert shown(lake) == [("s3", "feedback", 1.0, "fourth"), ("s4", "feedback", 1.0, "fourth")]
    assert {row["reason"] for row in lake.rows(ANOMALIES)} == {"kim answered on 2026-03-04 that this is anomalous (group g2)"}
    take_back(lake, "answer", "group", "g1", "lee", NOON + timedelta(hours=1))
    take_back(lake, "answer", "group", "g2", "lee", NOON + timedelta(hours=1))
    publish(lake, SYSTEM, publication("third"), {}, 1.0)
    assert shown(lake) == [("s2", "llm", 0.8, "third")], "an answer that was taken back leaves no trace"


@pytest.mark.slow
def test_scores_of_another_model_are_not_published(lake: Lake, put_scores: Callable[..., None]) -> None:
    put_scores()
    with pytest.raises(ConfigError, match=r"stage route are of model m1, this run judges by model m2.*clear task `route`"):
        publish(lake, SYSTEM, publication("first", model="m2"), {}, 1.0)
    lake.replace(ROUTES, [row | {"model": "m2"} for row in lake.rows(ROUTES)], **DAY)
    with pytest.raises(ConfigError, match="--from detect"):
        publish(lake, SYSTEM, publication("first", model="m2"), {}, 1.0)
    assert not lake.exists(NIGHTS) and not lake.exists(ANOMALIES)


@pytest.mark.slow
def test_what_nobody_judged_is_counted_and_makes_the_night_incomplete(lake: Lake, put_scores: Callable[..., None]) -> None:
    put_scores(p_judged=0.99)
    lake.replace(VERDICTS, [], system="app")
    counts, detail, outcome = publish(lake, SYSTEM, publication("off", llm=None, flags=False), {}, 1.0)
    assert outcome == "incomplete" and (detail or "").startswith("1 of 4 sessions was judged by nobody: the LLM is off")
    assert (counts["n_unjudged"], counts["n_by_model"], counts["n_provisional"], counts["n_anomalies"]) == (1, 3, 1, 1)
    (night,) = lake.rows(NIGHTS)
    assert (night["outcome"], night["n_unjudged"], night["unjudged_why"]) == ("incomplete", 1, "the LLM is off")
    # No LLM is wanted: the session is as unjudged as before, and the night is complete.
    unwanted = SYSTEM.model_copy(update={"llm": LLM(wanted=False)})
    counts, detail, outcome = publish(lake, unwanted, publication("unwanted", llm=None, flags=False), {}, 1.0)
    assert (counts["n_unjudged"], counts["n_provisional"], outcome) == (1, 0, "done") and "no LLM is wanted" in (detail or "")
    # A model that can flag such patterns judges them, until the LLM does.
    counts, detail, outcome = publish(lake, SYSTEM, publication("model", llm=None), {}, 1.0)
    assert (counts["n_unjudged"], counts["n_by_model"], counts["n_provisional"], detail, outcome) == (0, 4, 1, None, "done")


@pytest.mark.slow
def test_a_night_that_was_judged_is_not_replaced_by_one_that_is_not(lake: Lake, put_scores: Callable[..., None]) -> None:
    put_scores()
    publish(lake, SYSTEM, publication("judged", flags=False), {}, 1.0)
    before = lake.rows(ANOMALIES), lake.rows(NIGHTS)
    with pytest.raises(
        GateFailed, match=r"judges 3 sessions and leaves 1 unjudged \(the LLM has not answered\); the published night judged 4"
    ):
        publish(lake, SYSTEM, publication("other prompt", prompt="prompt-2", flags=False), {}, 1.0)
    assert (lake.rows(ANOMALIES), lake.rows(NIGHTS)) == before
    # With the LLM off its verdicts are still known.
    assert publish(lake, SYSTEM, publication("off", llm=None, flags=False), {}, 1.0)[2] == "done"


def test_an_unfinished_night_is_noted_unless_one_was_published(lake: Lake) -> None:
    publish_unfinished(lake, "app", "first", DS, "failed", "cut file", NOON)
    publish_unfinished(lake, "app", "second", DS, "no_input", "no file", NOON)
    assert [(row["outcome"], row["detail"], row["run_id"]) for row in lake.rows(NIGHTS)] == [("no_input", "no file", "second")]
    lake.replace(NIGHTS, [DAY | {"outcome": "done", "run_id": "third"}], **DAY)
    publish_unfinished(lake, "app", "fourth", DS, "failed", "cut file", NOON)
    publish_unfinished(lake, "web", "fourth", DS, "failed", "cut file", NOON)
    assert {(row["system"], row["outcome"]) for row in lake.rows(NIGHTS)} == {("app", "done"), ("web", "failed")}


@pytest.mark.slow
def test_the_student_of_earlier_verdicts_judges_a_pattern_and_comes_out_the_same_again(lake: Lake, put_scores: Callable[..., None]) -> None:
    """Eight patterns of the night before were judged; those with a lost disk are anomalous."""
    put_scores()
    lake.replace(VERDICTS, [], system="app")
    before, verdicts = [], []
    for n in range(8):
        lost = n > 5
        events = [{"template_id": "t-lost" if lost else "t-open", "count": 1 << n}]
        before.append({"pattern_id": f"q{n}", "question_id": f"q{n}", "events": events, "n_sessions": 10 if lost else 300})
        judged = {"label": "anomalous" if lost else "normal", "confidence": 0.97, "reason": f"reason {n}", "round": 1}
        verdicts.append({"system": "app", "question_id": f"q{n}", "prompt": "prompt-1", "llm": "judge", "asked_at": NOON} | judged)
    lake.append(PATTERNS, [{"system": "app", "ds": BEFORE} | row for row in before])
    score_night(lake, SYSTEM, DS)
    counts, _, _ = publish(lake, SYSTEM, publication("untaught"), {}, 1.0)
    assert counts["n_by_student"] == 0

    lake.append(VERDICTS, verdicts)
    counts, _, _ = publish(lake, SYSTEM, publication("taught"), {}, 1.0)
    assert counts["n_by_student"] == 4 and counts["n_unjudged"] == 0
    shown = {row["session_id"]: row for row in lake.rows(ANOMALIES)}
    assert list(shown) == ["s1"] and shown["s1"]["decided_by"] == "student"
    for words in ("like 8 judged patterns", "most similar (0.43) is one judged normal: reason 0", "disk <NUM> lost"):
        assert words in shown["s1"]["reason"]
    stored = {row["pattern_id"]: row["student"] for row in lake.rows(HISTORY, **DAY)}
    assert all(probability is not None for probability in stored.values())

    past = PastLake(lake.root, datetime.now(UTC))
    lake.append(VERDICTS, [verdicts[0] | {"question_id": "q-p-general", "label": "normal", "asked_at": datetime.now(UTC)}])
    again = read_judged(past, SYSTEM, DS)
    learn(past, SYSTEM, DS, again, *verdicts_and_answers(past, SYSTEM, "prompt-1", "judge"))
    (night,) = lake.rows(NIGHTS)
    assert again.student == night["student"] and {row["pattern_id"]: row["student"] for row in again.history} == stored
    now = read_judged(lake, SYSTEM, DS)
    learn(lake, SYSTEM, DS, now, *verdicts_and_answers(lake, SYSTEM, "prompt-1", "judge"))
    assert now.student != night["student"], "a verdict that came later gives another student"
