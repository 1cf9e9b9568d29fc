"""Messages beyond the bound share templates of wildcards, however a night's lines are cut into tasks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.parts import write_part
from nightlog.lake.tables import EVENTS_TABLE, LINES_TABLE, MESSAGES, NUMBERS, PATTERNS, SESSIONS, TEMPLATE_COUNTS, TEMPLATES
from nightlog.parsing.parse import parse
from nightlog.systems.spec import System, Templates
from parsing_help import lines_table, make_system

DS, NEXT = "2026-03-04", "2026-03-05"
CAP = 3
WORDS = ["accepted", "blocked", "closed", "denied", "ended", "failed"]
RESULTS = (TEMPLATES, TEMPLATE_COUNTS, NUMBERS, SESSIONS, PATTERNS)


def lines_of(ds: str) -> list[str]:
    """Each session has the same messages in each order of the lines; some have more words than others."""
    lines = [f"{ds} 10:00:0{k} INFO {WORDS[k]} {10 * n + k} req-{'abcd'[n]}" for k in range(6) for n in range(4)]
    return lines + [f"{ds} 10:00:09 INFO a {word} thing {n} req-{'abcd'[n]}" for word in WORDS for n in range(2)]


def put_lines(lake: Lake, ds: str, lines: Sequence[str], n_parts: int) -> None:
    """Write lines as so many parts, in files of their own."""
    parts = [lines_table(list(lines[start::n_parts]), f"{start}.log") for start in range(n_parts)]
    written = [write_part(lake.root, LINES_TABLE, part, system="app", ds=ds) for part in parts]
    lake.replace(LINES_TABLE, written, system="app", ds=ds)


def results(lake: Lake) -> dict[str, list[Any]]:
    """The rows that later stages read, without the places of lines."""
    found = {}
    for spec in RESULTS:
        rows = ({key: value for key, value in row.items() if not key.endswith(("_file", "_line"))} for row in lake.rows(spec))
        found[spec.name] = sorted(map(str, rows))
    return found


@pytest.fixture(scope="module")
def system() -> System:
    return make_system(templates=Templates(messages=CAP, values=1000))


def run(lake: Lake, system: System, ds: str, lines: Sequence[str], n_parts: int) -> dict[str, int]:
    put_lines(lake, ds, lines, n_parts)
    return parse(lake, system, ds, "run")[0]


@pytest.mark.parametrize("n_parts", [2, 5, 12])
def test_templates_and_sessions_do_not_depend_on_how_lines_are_cut(tmp_path: Path, system: System, n_parts: int) -> None:
    whole, cut = Lake(tmp_path / "whole"), Lake(tmp_path / "cut")
    shuffled = random.Random(n_parts).sample(lines_of(DS), len(lines_of(DS)))
    one, several = run(whole, system, DS, lines_of(DS), 1), run(cut, system, DS, shuffled, n_parts)
    assert results(cut) == results(whole)
    assert several == one and one["n_outside"] == 0
    texts = {row["text"]: row["template_id"] for row in whole.rows(TEMPLATES)}
    assert {"<*> <*> <*>", "<*> <*> <*> <*> <*>"} < set(texts) and len(texts) == CAP + 2
    n = {row["template_id"]: row["n"] for row in whole.rows(TEMPLATE_COUNTS)}
    assert one["n_beyond_cap"] == sum(n[texts[text]] for text in texts if text.startswith("<*>")) == len(lines_of(DS)) - CAP
    # The first ones in the order of their texts have a template of their own, and none of the others is stored with its text.
    own = sorted({row["message"] for row in cut.rows(MESSAGES)} - {"<*> <*> <*>", "<*> <*> <*> <*> <*>"})
    assert len(own) == CAP and all(text.startswith("a ") for text in own)
    assert len(cut.rows(MESSAGES)) <= n_parts * CAP + 2


def test_a_task_maps_what_is_beyond_and_its_events_find_their_templates(tmp_path: Path, system: System) -> None:
    lake = Lake(tmp_path / "lake")
    run(lake, system, DS, lines_of(DS), 1)
    ids = {row["message_id"]: row["message"] for row in lake.rows(MESSAGES)}
    named = Counter(ids[row["message_id"]] for row in lake.rows(EVENTS_TABLE))
    assert named["<*> <*> <*>"] == 24 and named["<*> <*> <*> <*> <*>"] == 2 * len(WORDS) - CAP
    assert len(ids) == CAP + 2


def test_once_it_is_full_nothing_more_is_stored_and_known_messages_keep_their_templates(tmp_path: Path, system: System) -> None:
    lake = Lake(tmp_path / "lake")
    run(lake, system, DS, lines_of(DS), 4)
    before, templates = {row["message"] for row in lake.rows(MESSAGES)}, sorted(map(str, lake.rows(TEMPLATES)))
    other = [line.replace("accepted", "zoomed") for line in lines_of(NEXT)]
    counts = run(lake, system, NEXT, other, 3)
    assert {row["message"] for row in lake.rows(MESSAGES)} == before and len(lake.rows(MESSAGES, first_ds=NEXT)) <= 2
    assert sorted(map(str, lake.rows(TEMPLATES))) == templates
    assert counts["run_n_templates_new"] == 0 and counts["n_beyond_cap"] > 24 and counts["n_outside"] == 0
    # The first night once more, its lines cut in another way.
    found = results(lake)
    run(lake, system, DS, lines_of(DS), 2)
    assert results(lake) == found
