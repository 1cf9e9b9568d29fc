"""Who decides about a pattern and what is shown of a session."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from nightlog.detector.calibration import Calibration
from nightlog.reporting.anomalies import SHOWN_LINES, decide, with_evidence
from pyspark.sql import Row, SparkSession

GENERAL, FOREIGN = 0.5, 0.8
SAME = Calibration(1.0, 0.0)
VERDICTS = ("anomalous", "normal", "unclear", None)
ANSWERS = ("anomalous", "normal", None)
CASES = {
    f"{route}/{label}/{probability}/{answer}": (route, label, probability, answer)
    for route in ("general", "proprietary")
    for label in VERDICTS
    for probability in (0.3, 0.5, 0.7, 0.8, 0.9)
    for answer in ANSWERS
}
VERDICT = "question_id string, label string, confidence double, reason string"
ANSWER = "question_id string, answer string, told string"


def expected(route: str, label: str | None, probability: float, answer: str | None) -> tuple[str, str, float] | None:
    """(decided_by, status, score) of an anomalous pattern, None of a normal one."""
    if answer is not None:
        return ("feedback", "open", 1.0) if answer == "anomalous" else None
    if route == "general":
        return ("small_model", "open", probability) if probability >= GENERAL else None
    if label in ("anomalous", "normal"):
        return ("llm", "open", 0.66) if label == "anomalous" else None
    if probability < FOREIGN:
        return None
    return ("small_model", "open" if label == "unclear" else "provisional", probability)


@pytest.fixture(scope="module")
def decided(spark: SparkSession) -> dict[str, Row]:
    cases = random.Random(1).sample(sorted(CASES.items()), len(CASES))
    patterns = spark.createDataFrame([(name, f"question {name}") for name, _ in cases], "pattern_id string, question_id string")
    routes = spark.createDataFrame(
        [(name, case[0], 0.25) for name, case in cases[::-1]], "pattern_id string, route string, similarity double"
    )
    scores = spark.createDataFrame([(name, case[2]) for name, case in cases], "pattern_id string, probability double")
    said = [(f"question {name}", case[1], 0.66, "the LLM's reason") for name, case in cases if case[1]]
    said.append(("never seen tonight", "anomalous", 1.0, "old"))
    told = [(f"question {name}", case[3], "kim answered") for name, case in cases if case[3]]
    told.append(("never seen tonight", "anomalous", "old"))
    rows = decide(
        patterns, routes, scores, spark.createDataFrame(said, VERDICT), spark.createDataFrame(told, ANSWER), GENERAL, FOREIGN, SAME
    ).collect()
    assert len({row["pattern_id"] for row in rows}) == len(rows)
    return {row["pattern_id"]: row for row in rows}


def test_every_combination_of_route_verdict_and_probability_is_decided_as_it_should_be(decided: dict[str, Row]) -> None:
    found = {name: (row["decided_by"], row["status"], row["score"]) for name, row in decided.items()}
    assert found == {name: judged for name, case in CASES.items() if (judged := expected(*case))}


def test_the_route_goes_with_the_decision(decided: dict[str, Row]) -> None:
    assert all(row["route"] == CASES[name][0] for name, row in decided.items())


def test_the_llm_is_quoted_and_the_small_model_explains_itself(decided: dict[str, Row]) -> None:
    assert decided["proprietary/anomalous/0.3/None"]["reason"] == "the LLM's reason"
    assert decided["proprietary/normal/0.3/anomalous"]["reason"] == decided["general/None/0.3/anomalous"]["reason"] == "kim answered"
    for name, words in {
        "general/normal/0.7/None": ("0.70", "threshold 0.50", "labelled systems", "0.25"),
        "proprietary/unclear/0.9/None": ("0.90", "threshold 0.80", "could not tell", "0.25"),
        "proprietary/None/0.9/None": ("0.90", "threshold 0.80", "not judged it yet", "0.25"),
    }.items():
        for word in words:
            assert word in decided[name]["reason"], name


def test_a_system_that_the_llm_may_not_see_waits_for_nobody(spark: SparkSession) -> None:
    rows = decide(
        spark.createDataFrame([("sure", "q1"), ("unsure", "q2")], "pattern_id string, question_id string"),
        spark.createDataFrame(
            [(name, "proprietary", 0.1) for name in ("sure", "unsure")], "pattern_id string, route string, similarity double"
        ),
        spark.createDataFrame([("sure", 0.9), ("unsure", 0.7)], "pattern_id string, probability double"),
        spark.createDataFrame([], VERDICT),
        spark.createDataFrame([], ANSWER),
        GENERAL,
        FOREIGN,
        SAME,
        llm_allowed=False,
    ).collect()
    assert [(row["pattern_id"], row["decided_by"], row["status"]) for row in rows] == [("sure", "small_model", "open")]
    assert "may not be asked" in rows[0]["reason"]


def test_where_the_llm_could_not_tell_an_anomaly_must_be_more_likely_than_not(spark: SparkSession) -> None:
    names = [("doubtful", 0.3), ("likely", 0.6), ("waiting", 0.3)]
    rows = decide(
        spark.createDataFrame([(name, name) for name, _ in names], "pattern_id string, question_id string"),
        spark.createDataFrame([(name, "proprietary", 0.1) for name, _ in names], "pattern_id string, route string, similarity double"),
        spark.createDataFrame(names, "pattern_id string, probability double"),
        spark.createDataFrame([(name, "unclear", 0.0, "?") for name in ("doubtful", "likely")], VERDICT),
        spark.createDataFrame([], ANSWER),
        GENERAL,
        0.04,
        SAME,
    ).collect()
    assert {row["pattern_id"]: row["status"] for row in rows} == {"likely": "open", "waiting": "provisional"}


def test_patterns_of_one_question_share_verdict_and_answer(spark: SparkSession) -> None:
    names = [("p1", "q-judged"), ("p2", "q-judged"), ("p3", "q-answered"), ("p4", "q-answered")]
    rows = decide(
        spark.createDataFrame(names, "pattern_id string, question_id string"),
        spark.createDataFrame([(name, "proprietary", 0.1) for name, _ in names], "pattern_id string, route string, similarity double"),
        spark.createDataFrame([(name, 0.1) for name, _ in names], "pattern_id string, probability double"),
        spark.createDataFrame([("q-judged", "anomalous", 0.7, "lost"), ("q-answered", "normal", 0.7, "fine")], VERDICT),
        spark.createDataFrame([("q-answered", "anomalous", "kim answered")], ANSWER),
        GENERAL,
        FOREIGN,
        SAME,
    ).collect()
    assert {(row["pattern_id"], row["decided_by"], row["score"]) for row in rows} == {
        ("p1", "llm", 0.7),
        ("p2", "llm", 0.7),
        ("p3", "feedback", 1.0),
        ("p4", "feedback", 1.0),
    }


# Evidence and lines

DAYS = ("2026-03-03", "2026-03-04")
NOON = datetime(2026, 3, 4, 12)
Shown = dict[str, dict[str, Any]]
WEIGHTS = {"t-rare": 0.7, "t-some": 0.2, "t-flood": 0.1}


def happenings() -> list[tuple[str, str, str, int, datetime | None, str]]:
    """(session_id, ds, file, line_no, at, template_id): a long session over midnight in two files, a short one, an untimed one."""
    events: list[tuple[str, str, str, int, datetime | None, str]] = []
    for n in range(90):
        template = "t-rare" if n % 18 == 17 else "t-some" if n % 18 == 8 else "t-flood"
        events.append(("long", DAYS[n >= 45], f"{'ab'[n % 2]}.log", n + 1, NOON + timedelta(minutes=n), template))
    events += [("short", DAYS[1], "b.log", 200, NOON, "t-flood"), ("short", DAYS[1], "a.log", 201, NOON, "t-some")]
    events += [("untimed", DAYS[1], "a.log", n, None, "t-flood") for n in (303, 301, 302)]
    events += [("normal", DAYS[1], "a.log", 400, NOON, "t-rare")]
    return events


@pytest.fixture(scope="module", params=[0, 1])
def shown(spark: SparkSession, request: pytest.FixtureRequest) -> Shown:
    events = random.Random(request.param).sample(happenings(), len(happenings()))
    texts = [(ds, file, line_no, f"text of {file}:{line_no}") for _, ds, file, line_no, _, _ in events]
    known = [("p", name, f"text {name}", "like this" if name != "t-rare" else None, 0.5, weight) for name, weight in WEIGHTS.items()]
    rows = with_evidence(
        spark.createDataFrame(
            [(name, "p", "kept") for name in ("long", "short", "untimed")], "session_id string, pattern_id string, x string"
        ),
        spark.createDataFrame(
            events, "session_id string, ds string, file string, line_no long, at timestamp, template_id string"
        ).repartition(3),
        spark.createDataFrame(texts[::-1], "ds string, file string, line_no long, text string"),
        spark.createDataFrame(
            known,
            "pattern_id string, template_id string, template string, nearest_source_template string, similarity double, weight double",
        ),
    ).collect()
    assert len(rows) == 3
    return {row["session_id"]: row.asDict(recursive=True) for row in rows}


def test_the_evidence_is_every_template_with_its_count_the_most_telling_first(shown: Shown) -> None:
    found = [(each["template_id"], each["count"], each["weight"]) for each in shown["long"]["evidence"]]
    assert found == [("t-rare", 5, 0.7), ("t-some", 5, 0.2), ("t-flood", 80, 0.1)]
    first = shown["long"]["evidence"][0]
    assert (first["template"], first["nearest_source_template"], first["similarity"]) == ("text t-rare", None, 0.5)
    assert [each["template_id"] for each in shown["short"]["evidence"]] == ["t-some", "t-flood"]


def test_of_a_long_session_the_most_telling_lines_are_kept_in_order(shown: Shown) -> None:
    lines = shown["long"]["lines"]
    events = [event for event in happenings() if event[0] == "long"]
    assert len(lines) == SHOWN_LINES == 50 < len(events)
    kept = {line["line_no"] for line in lines}
    telling = {number for _, _, _, number, _, template in events if template != "t-flood"}
    flood = sorted((ds, file, number) for _, ds, file, number, _, template in events if template == "t-flood")
    assert kept == telling | {number for _, _, number in flood[: 50 - len(telling)]}
    assert [line["line_no"] for line in lines] == sorted(kept), "line numbers grow with time here"


def test_lines_are_raw_lines_of_the_session_in_the_order_of_time_then_place(shown: Shown) -> None:
    assert [(line["file"], line["line_no"]) for line in shown["short"]["lines"]] == [("a.log", 201), ("b.log", 200)]
    assert [line["line_no"] for line in shown["untimed"]["lines"]] == [301, 302, 303]
    for row in shown.values():
        for line in row["lines"]:
            assert line["text"] == f"text of {line['file']}:{line['line_no']}"


def test_what_was_found_stays_as_it_was(shown: Shown) -> None:
    assert {(row["pattern_id"], row["x"]) for row in shown.values()} == {("p", "kept")}
