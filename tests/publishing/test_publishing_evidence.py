"""Lines of anomalous sessions: rare and severe ones come first, and the lines that continue a record are shown with it."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, schema_of, write_part
from nightlog.lake.tables import EVENTS_TABLE, LINES_TABLE
from nightlog.publishing.evidence import SHOWN_LINES, Pairs, Sources, TemplateFacts, with_evidence
from nightlog.publishing.raw_lines import CONTINUATION_LINES

DS = "2026-03-04"
NOON = datetime(2026, 3, 4, 12)
START = r"\d\d:\d\d"
TEMPLATES = ("common", "rare", "usual")

Line = tuple[str, str | None, str | None]  # text, template of the event that begins here, its level


def shown(root: Path, lines: list[Line], cuts: tuple[int, ...] = (), start: str | None = START, **n_sessions: int) -> list[dict[str, Any]]:
    """The lines of the one session that has all events. Args: cuts: numbers of lines at which a new part begins."""
    found: list[dict[str, Any]] = session_shown(root, lines, {}, cuts, start, **n_sessions)["lines"]
    return found


def session_shown(
    root: Path, lines: list[Line], telling: dict[str, float], cuts: tuple[int, ...] = (), start: str | None = START, **n_sessions: int
) -> dict[str, Any]:
    """The one session that has all events. Args: telling: template → the value of its difference to normal sessions."""
    rows = [{"file": "a.log", "line_no": number, "text": text} for number, (text, _, _) in enumerate(lines, 1)]
    events = [
        {
            "session_id": "s",
            "file": "a.log",
            "line_no": number,
            "at": NOON + timedelta(seconds=number),
            "message_id": TEMPLATES.index(name),
            "level": level,
        }
        for number, (_, name, level) in enumerate(lines, 1)
        if name is not None
    ]
    parts: dict[str, list[Part]] = {}
    for spec, table in ((EVENTS_TABLE, events), (LINES_TABLE, rows)):
        edges = [0, *cuts, len(rows) + 1] if spec is LINES_TABLE else [0, len(rows) + 1]
        parts[spec.name] = [
            write_part(str(root), spec, pa.Table.from_pylist(some, schema_of(spec)), system="app", ds=DS)
            for first, last in pairwise(edges)
            if (some := [row for row in table if first <= int(str(row["line_no"])) < last])
        ]
    weights = {"common": 0.9, "rare": 0.05, "usual": 0.05}  # of a model; they choose nothing
    known = {
        "p": {name: TemplateFacts(name, None, None, weights[name], telling.get(name, 0.0), n_sessions.get(name, 0)) for name in TEMPLATES}
    }
    found = pa.table({"session_id": ["s"], "pattern_id": ["p"], "started_at": [NOON], "ended_at": [NOON + timedelta(days=1)]})
    sources = Sources(Pairs.of(known), dict(enumerate(TEMPLATES)), parts[EVENTS_TABLE.name], parts[LINES_TABLE.name], start)
    (row,) = with_evidence(Lake(root), found, sources).to_pylist()
    return dict(row)


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [line["line_no"] for line in lines]


TRACE: list[Line] = [
    ("12:00 start", "common", None),
    ("12:01 request failed", "rare", None),
    ("java.lang.OutOfMemoryError: heap", None, None),
    ("  at shop.Cart.add(Cart.java:10)", None, None),
    ("", None, None),
    ("Caused by: disk full on /dev/sda1", None, None),
    ("12:02 end", "usual", None),
    ("  of the day", None, None),
]


@pytest.mark.parametrize("cuts", [(), (2,), (3,), (4,), (6,), (3, 7), (4, 8)])
def test_a_record_is_shown_with_the_lines_that_continue_it_wherever_parts_are_cut(cuts: tuple[int, ...], tmp_path: Path) -> None:
    lines = shown(tmp_path, TRACE, cuts, common=9, usual=9)
    assert numbers(lines) == [2, 3, 4, 6, 1, 7, 8]
    assert [line["text"] for line in lines][2:4] == ["  at shop.Cart.add(Cart.java:10)", "Caused by: disk full on /dev/sda1"]


def test_the_lines_of_another_session_that_follow_are_not_shown(tmp_path: Path) -> None:
    lines = [TRACE[1], TRACE[2], ("12:02 of another session", None, None), ("  and its trace", None, None), *TRACE[6:]]
    assert numbers(shown(tmp_path, lines)) == [1, 2, 5, 6]


def test_where_records_are_single_lines_nothing_is_added(tmp_path: Path) -> None:
    assert numbers(shown(tmp_path, TRACE, start=None)) == [1, 2, 7]


def test_of_a_long_trace_the_causes_are_shown(tmp_path: Path) -> None:
    frames: list[Line] = [(f"\tat shop.Cart.f{n}(Cart.java:{n})", None, None) for n in range(90)]
    lines = shown(tmp_path, [("12:00 failed", "rare", None), *frames, ("Caused by: disk full", None, None), ("12:01 end", "usual", None)])
    assert len(lines) <= CONTINUATION_LINES + 2
    assert [line["text"] for line in lines][-2:] == ["Caused by: disk full", "12:01 end"]
    many: list[Line] = [(f"{n} is no indented line", None, None) for n in range(90)]
    assert len(shown(tmp_path, [("12:00 failed", "rare", None), *many])) == CONTINUATION_LINES + 1


def test_lines_of_templates_that_few_sessions_have_come_first_then_the_others_in_order(tmp_path: Path) -> None:
    lines: list[Line] = [(f"12:{n:02d} beat", "common", "INFO") for n in range(9)]
    lines += [("12:10 disk lost", "rare", "INFO"), *[(f"12:{n} beat", "common", "INFO") for n in range(11, 15)]]
    found = numbers(shown(tmp_path, lines, common=500, rare=1))
    assert found == [10, *(n for n in range(1, 15) if n != 10)]


@pytest.mark.parametrize(("level", "first"), [("ERROR", True), ("fatal", True), ("INFO", False), (None, False)])
def test_an_error_tells_more_than_what_is_as_common(level: str | None, first: bool, tmp_path: Path) -> None:
    lines: list[Line] = [(f"12:{n:02d} beat", "common", "INFO") for n in range(60)]
    lines.append(("13:00 lost", "usual", level))
    found = numbers(shown(tmp_path, lines, common=40, usual=45))
    assert len(found) == SHOWN_LINES
    assert (found[0] == 61) == first
    assert (61 in found) == first


def test_a_long_trace_leaves_room_for_what_tells_most(tmp_path: Path) -> None:
    lines: list[Line] = []
    for n in range(10):
        lines += [(f"12:{n:02d} beat", "common", "INFO"), *[(f"detail {n} {at}", None, None) for at in range(30)]]
    lines.append(("13:00 disk lost", "rare", "ERROR"))
    found = shown(tmp_path, lines, common=100, rare=1)
    assert len(found) == SHOWN_LINES
    assert numbers(found)[:2] == [len(lines), 1]


@pytest.mark.parametrize("cuts", [(), (3,), (4,)])
def test_what_sets_the_session_apart_comes_before_rarer_lines_with_its_stack_trace(cuts: tuple[int, ...], tmp_path: Path) -> None:
    row = session_shown(tmp_path, TRACE, {"rare": 5.0, "usual": 4.0}, cuts, common=1, usual=1, rare=900)
    assert numbers(row["lines"]) == [2, 3, 4, 6, 1, 7, 8]
    assert [each["template_id"] for each in row["evidence"]] == ["rare", "usual", "common"]
    assert row["noticed_at"] == (NOON + timedelta(seconds=2)).replace(tzinfo=row["noticed_at"].tzinfo)


def test_a_session_that_only_lacks_something_was_noticed_at_no_line_of_its_own(tmp_path: Path) -> None:
    row = session_shown(tmp_path, TRACE, {}, common=9, usual=9)
    assert row["noticed_at"] is None and numbers(row["lines"])[0] == 2
