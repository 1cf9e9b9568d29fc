"""Who decides about a pattern and what is shown of a session."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from nightlog.detector.calibration import Calibration
from nightlog.feedback.store import Suppressions
from nightlog.lake.lake import Lake
from nightlog.lake.parts import schema_of, write_part
from nightlog.lake.tables import EVENTS_TABLE, LINES_TABLE
from nightlog.publishing.account import account
from nightlog.publishing.decide import Decision, Thresholds, decisions, with_suppressions
from nightlog.publishing.evidence import SHOWN_LINES, Pairs, Sources, TemplateFacts, with_evidence

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


def table(rows: Iterable[tuple[Any, ...]], schema: str) -> list[dict[str, Any]]:
    """Rows as dicts; the schema names the columns: `pattern_id string, route string`."""
    names = [column.split(" ")[0] for column in schema.split(", ")]
    return [dict(zip(names, row, strict=True)) for row in rows]


def decided_of(*given: Any, **more: Any) -> list[Decision]:
    """The anomalous ones."""
    return [each for each in decisions(*given, **more) if each.anomalous]


def expected(route: str, label: str | None, probability: float, answer: str | None) -> tuple[str, str, float] | None:
    """(decided_by, status, score) of an anomalous pattern, None of a normal one."""
    if answer is not None:
        return ("feedback", "open", 1.0) if answer == "anomalous" else None
    if label in ("anomalous", "normal"):
        return ("llm", "open", 0.66) if label == "anomalous" else None
    if route == "general":
        return ("small_model", "open", probability) if probability >= GENERAL else None
    if probability < FOREIGN:
        return None
    return ("small_model", "open" if label == "unclear" else "provisional", probability)


@pytest.fixture(scope="module")
def decided() -> dict[str, Decision]:
    cases = random.Random(1).sample(sorted(CASES.items()), len(CASES))
    patterns = table([(name, f"question {name}") for name, _ in cases], "pattern_id string, question_id string")
    routes = table([(name, case[0], 0.25) for name, case in cases[::-1]], "pattern_id string, route string, similarity double")
    scores = table([(name, case[2]) for name, case in cases], "pattern_id string, probability double")
    said = [(f"question {name}", case[1], 0.66, "the LLM's reason") for name, case in cases if case[1]]
    said.append(("never seen tonight", "anomalous", 1.0, "old"))
    told = [(f"question {name}", case[3], "kim answered") for name, case in cases if case[3]]
    told.append(("never seen tonight", "anomalous", "old"))
    rows = decided_of(patterns, routes, scores, table(said, VERDICT), table(told, ANSWER), Thresholds(GENERAL, FOREIGN, SAME))
    assert len({row.pattern_id for row in rows}) == len(rows)
    return {row.pattern_id: row for row in rows}


def test_every_combination_of_route_verdict_and_probability_is_decided_as_it_should_be(decided: dict[str, Decision]) -> None:
    found = {name: (row.decided_by, row.status, row.score) for name, row in decided.items()}
    assert found == {name: judged for name, case in CASES.items() if (judged := expected(*case))}


def test_the_route_goes_with_the_decision(decided: dict[str, Decision]) -> None:
    assert all(row.route == CASES[name][0] for name, row in decided.items())


def test_the_llm_is_quoted_and_the_small_model_explains_itself(decided: dict[str, Decision]) -> None:
    assert decided["proprietary/anomalous/0.3/None"].reason == "the LLM's reason"
    assert decided["proprietary/normal/0.3/anomalous"].reason == decided["general/None/0.3/anomalous"].reason == "kim answered"
    for name, words in {
        "general/None/0.7/None": ("0.70", "threshold 0.50", "labelled systems", "0.25"),
        "proprietary/unclear/0.9/None": ("0.90", "threshold 0.80", "could not tell", "0.25"),
        "proprietary/None/0.9/None": ("0.90", "threshold 0.80", "not judged it yet", "0.25"),
    }.items():
        for word in words:
            assert word in decided[name].reason, name


def test_a_system_that_the_llm_may_not_see_waits_for_nobody() -> None:
    rows = decided_of(
        table([("sure", "q1"), ("unsure", "q2")], "pattern_id string, question_id string"),
        table([(name, "proprietary", 0.1) for name in ("sure", "unsure")], "pattern_id string, route string, similarity double"),
        table([("sure", 0.9), ("unsure", 0.7)], "pattern_id string, probability double"),
        table([], VERDICT),
        table([], ANSWER),
        Thresholds(GENERAL, FOREIGN, SAME),
        "not_allowed",
    )
    assert [(row.pattern_id, row.decided_by, row.status) for row in rows] == [("sure", "small_model", "open")]
    assert "may not be asked" in rows[0].reason


def test_a_label_is_about_one_pattern_and_suppressed_ones_say_by_whom() -> None:
    names = [("labelled", "q"), ("other", "q"), ("hidden", "q"), ("normal", "r")]
    said = {"kind": "suppression", "about": "pattern", "until": "2026-04-01", "answered_by": "lee", "answered_at": datetime(2026, 3, 1)}
    patterns = [
        {"pattern_id": name, "question_id": question, "events": [{"template_id": f"t-{name}"}, {"template_id": "t-all"}]}
        for name, question in names
    ]
    given = (
        patterns,
        table([(name, "proprietary", 0.1) for name, _ in names], "pattern_id string, route string, similarity double"),
        table([(name, 0.1) for name, _ in names], "pattern_id string, probability double"),
        table([("q", "anomalous", 0.8, "the LLM's reason"), ("r", "normal", 0.9, "fine")], VERDICT),
        table([("labelled", "normal", "kim labelled it")], ANSWER),
    )
    rows = decided_of(*given, Thresholds(GENERAL, FOREIGN, SAME))
    by_pattern = with_suppressions(rows, patterns, Suppressions({"hidden": said}))
    by_template = with_suppressions(rows, patterns, Suppressions(templates={"t-hidden": said, "t-gone": said}))
    for shown in (by_pattern, by_template):
        assert [(row.pattern_id, row.status) for row in shown] == [("other", "open"), ("hidden", "suppressed")]
        assert shown[1].reason.startswith("the LLM's reason; suppressed until 2026-04-01 by lee")
    every = {each.pattern_id: each for each in decisions(*given, Thresholds(GENERAL, FOREIGN, SAME))}
    assert {name: (each.anomalous, each.decided_by) for name, each in every.items()} == {
        "labelled": (False, "feedback"),
        "other": (True, "llm"),
        "hidden": (True, "llm"),
        "normal": (False, "llm"),
    }


def test_where_the_llm_could_not_tell_an_anomaly_must_be_more_likely_than_not() -> None:
    names = [("doubtful", 0.3), ("likely", 0.6), ("waiting", 0.3)]
    rows = decided_of(
        table([(name, name) for name, _ in names], "pattern_id string, question_id string"),
        table([(name, "proprietary", 0.1) for name, _ in names], "pattern_id string, route string, similarity double"),
        table(names, "pattern_id string, probability double"),
        table([(name, "unclear", 0.0, "?") for name in ("doubtful", "likely")], VERDICT),
        table([], ANSWER),
        Thresholds(GENERAL, 0.04, SAME),
    )
    assert {row.pattern_id: row.status for row in rows} == {"likely": "open", "waiting": "provisional"}


def test_patterns_of_one_question_share_verdict_and_answer() -> None:
    names = [("p1", "q-judged"), ("p2", "q-judged"), ("p3", "q-answered"), ("p4", "q-answered")]
    rows = decided_of(
        table(names, "pattern_id string, question_id string"),
        table([(name, "proprietary", 0.1) for name, _ in names], "pattern_id string, route string, similarity double"),
        table([(name, 0.1) for name, _ in names], "pattern_id string, probability double"),
        table([("q-judged", "anomalous", 0.7, "lost"), ("q-answered", "normal", 0.7, "fine")], VERDICT),
        table([("q-answered", "anomalous", "kim answered")], ANSWER),
        Thresholds(GENERAL, FOREIGN, SAME),
    )
    assert {(row.pattern_id, row.decided_by, row.score) for row in rows} == {
        ("p1", "llm", 0.7),
        ("p2", "llm", 0.7),
        ("p3", "feedback", 1.0),
        ("p4", "feedback", 1.0),
    }


# Evidence and lines

DAYS = ("2026-03-03", "2026-03-04")
NOON = datetime(2026, 3, 4, 12)
Shown = dict[str, dict[str, Any]]
# The model's weights choose nothing: what sets the sessions apart from normal ones comes first, then what few sessions have.
WEIGHTS = {"t-rare": 0.1, "t-some": 0.2, "t-flood": 0.7}
SESSIONS_WITH = {"t-rare": 90, "t-some": 3, "t-flood": 90}


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


@pytest.fixture(params=[0, 1])
def shown(tmp_path: Path, request: pytest.FixtureRequest) -> Shown:
    """The sessions with their evidence, from events and lines in any order, in several parts."""
    events = random.Random(request.param).sample(happenings(), len(happenings()))
    numbers = {name: number for number, name in enumerate(sorted(WEIGHTS))}
    seen = [
        {"session_id": session, "ds": ds, "file": file, "line_no": n, "at": at, "message_id": numbers[name], "level": None}
        for session, ds, file, n, at, name in events
    ]
    texts = [row | {"text": f"text of {row['file']}:{row['line_no']}"} for row in seen[::-1]]
    parts = {
        spec: [
            write_part(str(tmp_path), spec, pa.Table.from_pylist(some, schema_of(spec)), system="app", ds=ds)
            for ds in DAYS
            for start in range(3)
            if (some := [row for row in rows if row["ds"] == ds][start::3])
        ]
        for spec, rows in ((EVENTS_TABLE, seen), (LINES_TABLE, texts))
    }
    knowledge = {
        "p": {
            name: TemplateFacts(f"text {name}", source, 0.5, weight, 7.0 * (name == "t-rare"), SESSIONS_WITH[name])
            for name, weight in WEIGHTS.items()
            for source in ["like this" if name != "t-rare" else None]
        }
    }
    times = {"started_at": pa.array([NOON, NOON, None]), "ended_at": pa.array([NOON, NOON + timedelta(minutes=89), None])}
    found = pa.table({"session_id": ["short", "long", "untimed"], "pattern_id": ["p"] * 3, "x": ["kept"] * 3, **times})
    messages = {number: name for name, number in numbers.items()}
    sources = Sources(Pairs.of(knowledge), messages, parts[EVENTS_TABLE], parts[LINES_TABLE])
    rows = with_evidence(Lake(tmp_path), found, sources).to_pylist()
    assert len(rows) == 3
    return {row["session_id"]: row for row in rows}


def test_the_evidence_is_every_template_with_its_count_the_most_telling_first(shown: Shown) -> None:
    found = [(each["template_id"], each["count"], each["weight"]) for each in shown["long"]["evidence"]]
    assert found == [("t-rare", 5, 0.1), ("t-some", 5, 0.2), ("t-flood", 80, 0.7)]
    first = shown["long"]["evidence"][0]
    assert (first["template"], first["nearest_source_template"], first["similarity"]) == ("text t-rare", None, 0.5)
    assert [each["template_id"] for each in shown["short"]["evidence"]] == ["t-some", "t-flood"]


def test_of_a_long_session_the_most_telling_lines_are_kept_and_come_first(shown: Shown) -> None:
    lines = shown["long"]["lines"]
    events = [event for event in happenings() if event[0] == "long"]
    assert len(lines) == SHOWN_LINES == 50 < len(events)
    kept = {line["line_no"] for line in lines}
    telling = {number for _, _, _, number, _, template in events if template != "t-flood"}
    flood = sorted((ds, file, number) for _, ds, file, number, _, template in events if template == "t-flood")
    assert kept == telling | {number for _, _, number in flood[: 50 - len(telling)]}
    first = sorted(number for _, _, _, number, _, template in events if template == "t-rare")
    assert [line["line_no"] for line in lines] == [*first, *sorted(kept - set(first))], "line numbers grow with time here"


def test_lines_are_raw_lines_of_the_session_in_the_order_of_time_then_place(shown: Shown) -> None:
    assert [(line["file"], line["line_no"]) for line in shown["short"]["lines"]] == [("a.log", 201), ("b.log", 200)]
    assert [line["line_no"] for line in shown["untimed"]["lines"]] == [301, 302, 303]
    for row in shown.values():
        for line in row["lines"]:
            assert line["text"] == f"text of {line['file']}:{line['line_no']}"


def test_what_was_found_stays_as_it_was(shown: Shown) -> None:
    assert {(row["pattern_id"], row["x"]) for row in shown.values()} == {("p", "kept")}


def test_a_model_that_cannot_flag_leaves_a_pattern_unjudged_unless_the_llm_looked_at_it() -> None:
    names = [("asked", 0.99), ("unclear", 0.99), ("known", 0.99)]
    given = (
        table([(name, name) for name, _ in names], "pattern_id string, question_id string"),
        table(
            [(name, "general" if name == "known" else "proprietary", 0.1) for name, _ in names],
            "pattern_id string, route string, similarity double",
        ),
        table(names, "pattern_id string, probability double"),
        table([("unclear", "unclear", 0.0, "?")], VERDICT),
        table([], ANSWER),
    )
    found = {each.pattern_id: each for each in decisions(*given, Thresholds(GENERAL, None, SAME), "off")}
    assert {name: (each.decided_by, each.status, each.anomalous, each.may_change) for name, each in found.items()} == {
        "asked": (None, "unjudged", False, True),
        "unclear": ("llm", "open", False, False),
        "known": ("small_model", "open", True, False),
    }
    assert "judged by nobody: the LLM is off" in found["asked"].reason
    # A threshold above all that the calibration yields is as good as none.
    flat = Thresholds(GENERAL, 0.9, Calibration(0.0, -2.0))
    assert next(each for each in decisions(*given, flat) if each.pattern_id == "asked").decided_by is None


def test_what_the_history_flags_is_a_finding_and_what_it_only_ranks_stays_unjudged() -> None:
    patterns = [{"pattern_id": name, "question_id": name, "events": []} for name in ("strange", "usual", "judged")]
    routes = [{"pattern_id": row["pattern_id"], "route": "proprietary", "similarity": 0.1} for row in patterns]
    scores = [{"pattern_id": row["pattern_id"], "probability": 0.1} for row in patterns]
    history = [
        {"pattern_id": name, "probability": p, "flagged": p > 0.5, "reasons": ["lacks `commit done`"]}
        for name, p in (("strange", 0.9), ("usual", 0.2), ("judged", 0.9))
    ]
    verdicts = [{"question_id": "judged", "label": "normal", "confidence": 0.9, "reason": "routine"}]
    blind = Thresholds(None, None, Calibration())
    found = {each.pattern_id: each for each in decisions(patterns, routes, scores, verdicts, [], blind, "off", history)}
    strange, usual, judged = (found[name] for name in ("strange", "usual", "judged"))
    assert (strange.decided_by, strange.status, strange.score, strange.anomalous) == ("history", "provisional", 0.9, True)
    assert "lacks `commit done`" in strange.reason
    assert (usual.decided_by, usual.status, usual.anomalous) == (None, "unjudged", False)
    assert (judged.decided_by, judged.anomalous) == ("llm", False)
    counts = account(found.values(), {"strange": 3, "usual": 5, "judged": 2}).counts
    assert (counts["n_by_model"], counts["n_unjudged"], counts["n_by_llm"], counts["n_provisional"]) == (3, 5, 2, 8)


def test_the_history_takes_the_place_of_a_small_model_that_flags_everything_foreign() -> None:
    patterns = [{"pattern_id": name, "question_id": name, "events": []} for name in ("foreign", "general")]
    routes = [
        {"pattern_id": "foreign", "route": "proprietary", "similarity": 0.1},
        {"pattern_id": "general", "route": "general", "similarity": 0.99},
    ]
    scores = [{"pattern_id": name, "probability": 0.9} for name in ("foreign", "general")]

    def decide(flagged: bool | None, is_own: bool = False) -> list[tuple[str | None, bool]]:
        history = [{"pattern_id": name, "probability": 0.3, "flagged": flagged, "reasons": []} for name in ("foreign", "general")]
        eager = Thresholds(GENERAL, 0.1, SAME, SAME, is_own)
        return [(each.decided_by, each.anomalous) for each in decisions(patterns, routes, scores, [], [], eager, "off", history)]

    assert decide(None) == [("small_model", True), ("small_model", True)]
    assert decide(False) == [(None, False), ("small_model", True)]
    assert decide(True) == [("history", True), ("history", True)]
    assert decide(True, is_own=True) == [("history", True), ("small_model", True)]


def test_the_student_judges_what_nobody_judged_and_overrules_a_doubtful_verdict() -> None:
    names = ("flagged", "cleared", "doubtful", "sure", "answered")
    patterns = [{"pattern_id": name, "question_id": name, "events": []} for name in names]
    routes = [{"pattern_id": name, "route": "proprietary", "similarity": 0.1} for name in names]
    scores = [{"pattern_id": name, "probability": 0.1} for name in names]
    verdicts = [
        {"question_id": "doubtful", "label": "normal", "confidence": 0.6, "reason": "perhaps routine"},
        {"question_id": "sure", "label": "normal", "confidence": 0.95, "reason": "routine"},
    ]
    answers = [{"question_id": "answered", "answer": "normal", "told": "kim"}]
    student = {"flagged": 0.8, "cleared": 0.1, "doubtful": 0.6}

    def decide(is_enough: bool) -> dict[str, Decision]:
        history = [
            {"pattern_id": name, "probability": 0.3, "flagged": False, "reasons": ["lacks `commit done`"], "student": student.get(name)}
            | {"student_reason": f"like others: {name}", "overruled": name == "doubtful", "is_enough": is_enough}
            for name in names
        ]
        found = decisions(patterns, routes, scores, verdicts, answers, Thresholds(None, None, SAME), "not_answered", history)
        return {each.pattern_id: each for each in found}

    found = decide(False)
    assert {name: (each.decided_by, each.status, each.anomalous) for name, each in found.items()} == {
        "flagged": ("student", "provisional", True),
        "cleared": ("student", "provisional", False),
        "doubtful": ("student", "open", True),
        "sure": ("llm", "open", False),
        "answered": ("feedback", "open", False),
    }
    assert (found["flagged"].score, found["flagged"].reason) == (0.8, "like others: flagged")
    for words in ("outweighs", "normal (0.60)", "perhaps routine", "lacks `commit done`"):
        assert words in found["doubtful"].reason
    counts = account(found.values(), dict.fromkeys(names, 2)).counts
    assert (counts["n_by_student"], counts["n_by_llm"], counts["n_by_analyst"], counts["n_provisional"]) == (6, 2, 2, 4)
    assert {decide(True)[name].status for name in ("flagged", "cleared")} == {"open"}, "the LLM need not be asked any more"


def test_unclear_is_no_verdict_so_student_or_history_decides_and_none_of_them_calls_it_normal_without_a_student() -> None:
    names = ("taught", "flagged", "ranked")
    patterns = [{"pattern_id": name, "question_id": name, "events": []} for name in names]
    routes = [{"pattern_id": name, "route": "proprietary", "similarity": 0.1} for name in names]
    scores = [{"pattern_id": name, "probability": 0.1} for name in names]
    verdicts = [{"question_id": name, "label": "unclear", "confidence": 0.0, "reason": "?"} for name in names]
    history = [
        {"pattern_id": name, "probability": 0.7, "flagged": name == "flagged", "reasons": ["lacks `commit done`"], "overruled": False}
        | {"student": 0.9 if name == "taught" else None, "student_reason": "like others", "is_enough": False}
        for name in names
    ]
    found = {
        each.pattern_id: each for each in decisions(patterns, routes, scores, verdicts, [], Thresholds(None, None, SAME), "off", history)
    }
    assert {name: (each.decided_by, each.status, each.anomalous) for name, each in found.items()} == {
        "taught": ("student", "open", True),
        "flagged": ("history", "open", True),
        "ranked": ("llm", "open", False),
    }
    assert found["taught"].reason == "the LLM could not tell; like others"
