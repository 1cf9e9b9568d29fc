"""The story of a session: its events with their raw lines, and the lines that continue a record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import PatternNight
from nightlog.lake.tables import ANOMALIES, EVENTS_TABLE, LINES_TABLE, PATTERNS, SESSIONS
from nightlog.pages.story import read_story

DS, START = "2026-03-04", r"\d\d:\d\d"
PLACE = {"system": "shop", "ds": DS}
TEXTS = ["12:01 s1 failed", "java.lang.Error", "  at shop.Cart", "Caused by: disk full", "12:02 s2 served", "  of s2", "12:03 s1 end"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A session of two records, the first over four lines; a record of another session lies between them."""
    lake = Lake(tmp_path / "lake")
    lake.append(LINES_TABLE, [PLACE | {"file": "a.log", "line_no": number, "text": text} for number, text in enumerate(TEXTS, 1)])
    at = datetime(2026, 3, 4, 12, tzinfo=UTC)
    events = [(1, "s1"), (5, "s2"), (7, "s1")]
    lake.append(
        EVENTS_TABLE,
        [
            PLACE | {"file": "a.log", "line_no": number, "session_id": session, "message_id": number, "at": at + timedelta(minutes=number)}
            for number, session in events
        ],
    )
    lake.append(SESSIONS, [PLACE | {"session_id": "s1", "pattern_id": "p", "started_at": at, "ended_at": at, "n_events": 2}])
    lake.append(PATTERNS, [PLACE | {"pattern_id": "p", "question_id": "p", "n_sessions": 1, "events": []}])
    return lake


def events(lake: Lake, start: str | None) -> list[tuple[str, list[str]]]:
    story: dict[str, Any] = read_story(lake, PatternNight("shop", DS, "p", "s1"), 40, DS, start)
    return [(each["text"], each["continuation"]) for each in story["events"]]


def test_a_record_is_shown_with_its_lines_and_not_with_those_of_the_next(lake: Lake) -> None:
    assert events(lake, START) == [(TEXTS[0], TEXTS[1:4]), (TEXTS[6], [])]


def test_where_a_record_is_a_line_no_other_line_is_shown(lake: Lake) -> None:
    assert events(lake, None) == [(TEXTS[0], []), (TEXTS[6], [])]


def test_lines_that_were_dropped_are_those_that_were_published(lake: Lake) -> None:
    published = [{"file": "a.log", "line_no": number, "text": TEXTS[number - 1]} for number in (7, 1, 2, 4)]
    lake.append(ANOMALIES, [PLACE | {"session_id": "s1", "pattern_id": "p", "lines": published, "evidence": []}])
    lake.replace(LINES_TABLE, [], **PLACE)
    assert events(lake, START) == [(TEXTS[0], [TEXTS[1], TEXTS[3]]), (TEXTS[6], [])]
