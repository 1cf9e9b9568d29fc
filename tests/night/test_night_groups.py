"""From a doubt to an answer: two rounds, a group, an analyst, and a night that follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.feedback.questions import questions, record_answer
from nightlog.feedback.store import take_back
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, LLM_CALLS, PATTERNS, VERDICTS
from nightlog.llm.budget import cost
from nightlog.outcomes import Stage
from nightlog.settings import Settings
from nights import add_toy_model, rows_of, run_night, small_system, snapshot

DS, NEXT = "2026-03-04", "2026-03-05"
NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)

ORDINARY = b"".join(b"INFO s%d request served\n" % n for n in range(20))
SLOW = b"".join(b"INFO s%d request served\nWARN s%d fan slow\n" % (n, n) for n in (20, 21)) + b"WARN s21 fan slow\n"
LATER = b"INFO s30 request served\nWARN s30 fan slow\nWARN s30 fan slow\nWARN s30 fan slow\nWARN s30 fan slow\n"


def recorded(path: Path) -> Path:
    """Two patterns: the ordinary one beyond doubt, the slow fan judged again as a group."""

    def row(texts: list[str], label: str, confidence: float, **more: object) -> dict[str, object]:
        events = [{"template": text, "count": 1} for text in texts]
        return {"system": "fans", "events": events, "label": label, "confidence": confidence, "reason": f"is {label}"} | more

    slow = ["request served", "fan slow"]
    rows = [
        row(["request served"], "normal", 0.97),
        row(slow, "normal", 0.6),
        row(slow, "anomalous", 0.7, round=2, group="fan slow"),
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


@pytest.mark.slow
def test_a_group_is_decided_once_answered_once_and_the_night_follows(
    lake: Lake, tmp_path: Path, write_log: Callable[[str, str, bytes], Path]
) -> None:
    write_log("fans", f"{DS}.log", ORDINARY + SLOW)
    add_toy_model(lake)
    fans = small_system("fans")
    settings = Settings(data=tmp_path / "data", llm="recorded", llm_recorded=recorded(tmp_path / "v.jsonl"), device="cpu")

    def flagged(ds: str = DS) -> list[tuple[str, str, float]]:
        return sorted((row["session_id"], row["decided_by"], row["score"]) for row in rows_of(lake, ANOMALIES, ds=ds))

    first = run_night(lake, settings, [fans], DS, "first")
    assert first["fans", Stage.LABEL].counts["llm_items"] == 3, "two questions, and one of them again"
    assert len({row["pattern_id"] for row in rows_of(lake, PATTERNS)}) == 3
    assert {(row["round"], row["group"], row["label"], row["first_label"]) for row in rows_of(lake, VERDICTS)} == {
        (1, None, "normal", "normal"),
        (2, "fan slow", "anomalous", "normal"),
    }
    assert flagged() == [("s20", "llm", 0.7), ("s21", "llm", 0.7)]
    assert [(row["round"], row["items"]) for row in sorted(rows_of(lake, LLM_CALLS), key=lambda row: row["round"])] == [(1, 2), (2, 1)]
    (spent,) = cost(lake)
    assert (spent["items"], spent["calls"], spent["money"], spent["sessions_asked"]) == (3, 0, 0, 1.0)

    before = snapshot(lake)
    again = run_night(lake, settings, [fans], DS, "again")
    assert again["fans", Stage.LABEL].counts["llm_items"] == 0
    assert snapshot(lake) == before

    (asked,) = questions(lake, [fans])
    assert (asked["what"], asked["patterns"], asked["sessions"], asked["decision"]) == ("fan slow", 1, 2, "anomalous")
    assert asked["example"] == "+fan slow"
    record_answer(lake, [fans], asked["group"], "normal", "kim", NOW)
    run_night(lake, settings, [fans], DS, "answered")
    assert flagged() == []

    take_back(lake, "answer", "group", asked["group"], "kim", NOW.replace(minute=1))
    record_answer(lake, [fans], asked["group"], "anomalous", "kim", NOW.replace(minute=2))
    write_log("fans", f"{NEXT}.log", LATER)
    later = run_night(lake, settings, [fans], NEXT, "later")
    assert later["fans", Stage.LABEL].counts["llm_items"] == 0, "other counts of the same templates are the same question"
    assert flagged(NEXT) == [("s30", "feedback", 1.0)]
