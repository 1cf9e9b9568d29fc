"""Labels and suppressions: kept once, the last counts, they can be taken back, and a template never hides other trouble."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import ConfigError
from nightlog.feedback.questions import answers_by_question
from nightlog.feedback.store import (
    Suppressions,
    current_statements,
    history,
    label_row,
    record,
    statement,
    suppression_row,
    suppressions,
    take_back,
)
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import find_session, find_target, find_template
from nightlog.lake.tables import ANSWERS, PATTERNS, SESSIONS, TEMPLATES

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
DS, NEXT = "2026-03-04", "2026-03-05"


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def labelled(pattern: str, label: str, minute: int = 0, **more: str | None) -> dict[str, Any]:
    return label_row("shop", pattern, label, "kim", at(minute), **more)


def test_the_same_said_twice_is_one_and_another_word_replaces_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, new = record(lake, labelled("p1", "normal", note="a load test"))
    assert new
    for again in (labelled("p1", "normal", 1), labelled("p1", "normal", 2, note="a load test")):
        held, new = record(lake, again)
        assert (held["answered_at"], new) == (first["answered_at"], False)
    assert len(lake.rows(ANSWERS)) == 1
    assert record(lake, labelled("p1", "normal", 3, note="said Lee too"))[1], "another note is another word"
    assert record(lake, labelled("p1", "anomalous", 4))[1]
    assert record(lake, suppression_row("shop", "pattern", "p1", "2026-04-01", "lee", at(5)))[1], "what is anomalous may be suppressed too"
    assert not record(lake, suppression_row("shop", "pattern", "p1", "2026-04-01", "kim", at(6)))[1]
    assert record(lake, suppression_row("shop", "pattern", "p1", "2026-05-01", "kim", at(7)))[1]
    held = {(row["kind"], row["label"], row["until"]) for row in current_statements(lake.rows(ANSWERS))}
    assert held == {("label", "anomalous", None), ("suppression", "suppressed", "2026-05-01")}

    take_back(lake, "label", "pattern", "p1", "lee", at(8))
    assert [row["kind"] for row in current_statements(lake.rows(ANSWERS))] == ["suppression"]
    with pytest.raises(ConfigError, match="no label about pattern `p1` stands"):
        take_back(lake, "label", "pattern", "p1", "lee", at(9))
    told_all = [(row["label"], row["by"], row["holds"], row["why"]) for row in history(lake.rows(ANSWERS), "2026-04-15")]
    assert told_all == [
        ("suppressed until 2026-05-01", "kim", True, None),
        ("suppressed until 2026-04-01", "lee", False, "replaced by kim on 2026-03-05"),
        ("anomalous", "kim", False, "taken back by lee on 2026-03-05"),
        ("normal", "kim", False, "replaced by kim on 2026-03-05"),
        ("normal", "kim", False, "replaced by kim on 2026-03-05"),
    ]
    assert history(lake.rows(ANSWERS), "2026-05-02")[0]["why"] == "the night of 2026-05-01 is over"


def test_a_label_is_about_its_pattern_alone_and_outranks_a_groups_answer_whenever_it_was_given() -> None:
    group = {"system": "shop", "group": "g", "label": "anomalous", "questions": ["p1", "p2"], "answered_at": at(5)}
    for minute in (1, 9):
        found = answers_by_question([group, labelled("p1", "normal", minute), labelled("p3", "normal")], {"p1": "g", "p4": "g", "p5": "p3"})
        assert {name: row["label"] for name, row in found.items()} == {"p1": "normal", "p2": "anomalous", "p3": "normal", "p4": "anomalous"}
    assert answers_by_question([suppression_row("shop", "pattern", "p1", DS, "kim", NOON) | {"questions": ["p1"]}], {"p1": "p1"}) == {}


def test_a_suppression_holds_up_to_its_night_included() -> None:
    rows = [suppression_row("shop", "pattern", "p1", DS, "kim", NOON), suppression_row("shop", "template", "t1", NEXT, "kim", NOON)]
    assert (set(suppressions(rows, DS).patterns), set(suppressions(rows, DS).templates)) == ({"p1"}, {"t1"})
    assert (set(suppressions(rows, NEXT).patterns), set(suppressions(rows, NEXT).templates)) == (set(), {"t1"})
    assert suppressions([*rows, rows[0] | {"label": None, "answered_at": at(1)}], DS).patterns == {}


def test_a_suppressed_template_does_not_hide_what_is_not_ordinary_beside_it() -> None:
    noise = Suppressions(templates={"noise": {"group": "noise"}, "hum": {"group": "hum"}})
    assert noise.of("p", ["noise", "open"], {"open"}) == {"group": "noise"}
    assert noise.of("p", ["noise", "hum"], set()) == {"group": "hum"}
    assert noise.of("p", ["noise", "lost", "open"], {"open"}) is None
    assert noise.of("p", ["lost"], {"lost"}) is None
    assert Suppressions(patterns={"p": {"group": "p"}}).of("p", ["lost"], set()) == {"group": "p"}


def test_what_was_said_names_who_when_and_why() -> None:
    text = statement(suppression_row("shop", "template", "t", DS, "kim", NOON, name="fan slow", note="ticket 7"))
    assert text == f"suppressed until {DS} by kim on 2026-03-05 (its template fan slow): ticket 7"
    assert statement(labelled("p", "normal")) == "kim labelled a pattern normal on 2026-03-05, and with it all of its kind"


@pytest.fixture
def seen(tmp_path: Path) -> Lake:
    """s1 on two nights of shop, s2 of shop and mail on one night."""
    lake = Lake(tmp_path)
    for ds, system, session, pattern in (
        (DS, "shop", "s1", "p1"),
        (NEXT, "shop", "s1", "p2"),
        (DS, "shop", "s2", "p1"),
        (DS, "mail", "s2", "m"),
    ):
        lake.append(SESSIONS, [{"system": system, "ds": ds, "session_id": session, "pattern_id": pattern}])
        lake.append(PATTERNS, [{"system": system, "ds": ds, "pattern_id": pattern, "question_id": pattern}])
    lake.append(
        TEMPLATES,
        [{"system": "shop", "template_id": f"t{n}", "text": text} for n, text in enumerate(("fan slow", "fan slow again", "open"))],
    )
    return lake


def test_a_session_is_found_on_its_last_night_and_an_ambiguous_one_is_statement(seen: Lake) -> None:
    assert find_session(seen, "s1") == ("shop", NEXT, "p2", "s1")
    assert find_session(seen, "s1", ds=DS) == ("shop", DS, "p1", "s1")
    assert find_session(seen, "s2", "mail") == ("mail", DS, "m", "s2")
    with pytest.raises(ConfigError, match=r"several systems have `s2` on 2026-03-04: .*: mail, shop"):
        find_session(seen, "s2")
    assert find_target(seen, "p1") == ("shop", DS, "p1", None)
    for unknown in ("s'9", ""):
        with pytest.raises(ConfigError, match="is no session and no pattern of mail"):
            find_target(seen, unknown, "mail")
    with pytest.raises(ConfigError, match="no session"):
        find_session(Lake(seen.root + "/empty"), "s1")


def test_a_template_is_found_by_id_by_text_and_by_what_no_other_has(seen: Lake) -> None:
    assert find_template(seen, "shop", "t1") == ("t1", "fan slow again")
    assert find_template(seen, "shop", "fan slow") == ("t0", "fan slow"), "the whole text of one counts, though another contains it"
    assert find_template(seen, "shop", "again") == ("t1", "fan slow again")
    with pytest.raises(ConfigError, match="2 templates of shop contain `fan`"):
        find_template(seen, "shop", "fan")
    with pytest.raises(ConfigError, match="no template of shop"):
        find_template(seen, "shop", "disk")
