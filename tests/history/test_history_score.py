"""Scores, tails, flags, alerts and reasons."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from history_help import SESSIONS, SYSTEM, TEMPLATES, random_system, scorer, table
from nightlog.history.channels import Templates
from nightlog.history.reference import Reference
from nightlog.history.score import SCORES, THRESHOLD, Scorer

USUAL, MISSING, FAILED, ODD = 0, 4, 5, 6


def reasons(rows: pa.Table, i: int) -> dict[str, str]:
    return {row["channel"]: row["text"] for row in rows.column("reasons")[i].as_py()}


def test_what_fails_scores_highest_and_what_is_usual_scores_nothing() -> None:
    found = scorer(SYSTEM, SESSIONS, TEMPLATES).table(table(SYSTEM, SESSIONS))
    score = found.column("score").to_numpy()
    assert score[USUAL] == 0.0
    assert np.argmax(score) == FAILED
    assert min(score[MISSING], score[ODD]) > score[:4].max()
    assert found.schema == SCORES


def test_reasons_name_the_templates_and_their_shares() -> None:
    found = scorer(SYSTEM, SESSIONS, TEMPLATES).table(table(SYSTEM, SESSIONS))
    failed, missing, odd = (reasons(found, i) for i in (FAILED, MISSING, ODD))
    assert failed["words"] == "reports trouble: `write failed: no space left`, which 0.1 % of sessions have"
    assert failed["level"] == "level ERROR: `write failed: no space left`, seen in 0.1 % of sessions"
    assert "has `write failed: no space left`, which only 10 of 10,000 sessions have" in failed["rarest"]
    assert any("lacks `done`" in text for text in missing.values())
    assert "which only 20 of 10,000 sessions have" in odd["rarest"]
    assert reasons(found, USUAL) == {}


def test_a_reason_says_what_sessions_with_the_companion_have() -> None:
    rows = [{"begin": 1, "commit": 1}, {"other": 1}, {"begin": 1}]
    found = scorer(rows, [998, 1000, 2]).table(table(rows, [998, 1000, 2]))
    assert reasons(found, 2)["tree"].startswith("lacks `") or reasons(found, 2)["tree"].startswith("has `")
    assert "99.8 % of sessions with `begin` have" in reasons(found, 2)["tree"]


def test_an_unusual_count_is_named() -> None:
    rows = [{"login": 1}, {"login": 64}]
    found = scorer(rows, [995, 5]).table(table(rows, [995, 5]))
    assert reasons(found, 1)["bern"] == "has `login` 64 to 127 times, as 0.5 % of sessions do"


def test_the_tail_is_the_share_of_sessions_with_at_least_this_score() -> None:
    rows, sessions = random_system(1)
    one = scorer(rows, sessions)
    scored = one.score(one.channels.read(table(rows, sessions).column("events")))
    for i in range(len(rows)):
        share = sum(n for n, score in zip(sessions, scored.score, strict=True) if score >= scored.score[i] - 1e-9) / sum(sessions)
        assert scored.tail[i] == pytest.approx(-np.log10(share))


def test_order_of_patterns_and_templates_does_not_matter() -> None:
    rows, sessions = random_system(2)
    first = scorer(rows, sessions).table(table(rows, sessions))
    order = np.random.default_rng(0).permutation(len(rows))
    mixed = table([dict(reversed(rows[i].items())) for i in order], [sessions[i] for i in order])
    names = pa.array([f"p{i:04}" for i in order])
    mixed = mixed.set_column(0, "pattern_id", names).set_column(1, "question_id", names)
    second = Scorer(Reference.of_night(mixed, True), Templates()).table(mixed)
    for name in ("score", "tail", "suspicion"):
        assert second.column(name).to_numpy() == pytest.approx(first.column(name).to_numpy()[order])


def test_nothing_known_one_session_and_all_alike() -> None:
    empty = scorer([], [])
    assert empty.table(table(SYSTEM, SESSIONS)).column("tail").to_pylist() == [0.0] * len(SYSTEM)
    assert empty.table(table([], [])).num_rows == 0
    assert not empty.is_usable
    for rows, sessions in (([{"a": 1}], [1]), ([{"a": 1}], [9000]), ([{}], [600])):
        one = scorer(rows, sessions)
        found = one.table(table(rows, sessions))
        assert found.column("score").to_pylist() == [0.0]
        assert found.column("reasons").to_pylist() == [[]]
    assert scorer([{"a": 1}], [9000]).is_usable


def test_unseen_templates_are_flagged_in_a_uniform_system() -> None:
    one = scorer([{"a": 1}, {"a": 2}], [9000, 100], Templates({"x": "disk corrupted"}))
    scored = one.score(one.channels.read(table([{"a": 1}, {"a": 1, "x": 1}], [1, 1]).column("events")))
    assert scored.flagged.tolist() == [False, True]
    assert scored.suspicion[1] >= THRESHOLD > scored.suspicion[0]
    assert scored.prior[1] > 0 > scored.prior[0]


def test_what_has_become_usual_tonight_is_not_flagged_but_a_rare_fault_is() -> None:
    past = Reference.of_night(table([{"old": 1}], [5000]), True, "d1")
    tonight = table([{"old": 1}, {"new": 1}, {"old": 1, "crashed": 1}], [3000, 2000, 5])
    templates = Templates({"crashed": "crashed"})
    for reference, expected in (
        (past, [False, True, True]),
        (past.including(Reference.of_night(tonight, True, "d2")), [False, False, True]),
    ):
        one = Scorer(reference, templates)
        assert one.score(one.channels.read(tonight.column("events"))).flagged.tolist() == expected


def test_null_ids_and_sessions_do_not_count() -> None:
    rows = table(SYSTEM, SESSIONS)
    with_nulls = pa.concat_tables([rows, rows.set_column(0, "pattern_id", pa.nulls(len(SYSTEM), pa.string()))])
    assert Reference.of_night(with_nulls, True).n_sessions == sum(SESSIONS)


@pytest.mark.slow
def test_ten_thousand_patterns_take_seconds() -> None:
    random = np.random.default_rng(0)
    usual = random.random(300) ** 4
    rows = [{f"t{t:03}": int(random.integers(1, 9)) for t in np.flatnonzero(random.random(300) < usual)} for _ in range(10_000)]
    sessions = (1 + random.pareto(1.0, len(rows)) * 3).astype(int).tolist()
    patterns = table(rows, sessions)
    started = time.process_time()
    found = scorer(rows, sessions).table(patterns, explained=100)
    assert found.num_rows == 10_000
    assert time.process_time() - started < 30
