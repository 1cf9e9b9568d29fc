"""Records that span lines."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from nightlog.lake.parts import write_part
from nightlog.lake.tables import LINES_TABLE
from nightlog.parsing.events import parse_lines, parse_part, part_tasks
from nightlog.parsing.messages import MessageCap
from nightlog.parsing.records import join_records
from nightlog.systems.spec import LONGEST_RECORD, Header, Record
from parsing_help import STAMPED, lines_table, make_system

NO_CAP = MessageCap(np.zeros(0, dtype=np.int64), 1000)
START = Record(start="START ", lines=5)


def some_lines() -> list[str]:
    rng = random.Random(3)
    texts = ["older"] * 3
    for number in range(300):
        texts += [f"START {number}", *("" if rng.random() < 0.1 else f" more {n}" for n in range(rng.choice([0, 0, 1, 2, 30])))]
    return [*texts, "START long", *(f" long {n}" for n in range(LONGEST_RECORD + 200)), "START last", " end"]


def expected(texts: list[str]) -> dict[int, str]:
    found: dict[int, list[str]] = {}
    begun = 0
    for number, text in enumerate(texts, 1):
        begun = number if text.startswith("START ") else begun
        found.setdefault(begun if begun and number - begun < LONGEST_RECORD else number, []).append(text)
    return {number: "\n".join([text for text in same if text][:5]) for number, same in found.items()}


def test_lines_join_the_record_before_them() -> None:
    texts = some_lines()
    joined = join_records(pa.concat_tables([lines_table(texts, "f"), lines_table(texts, "g")]), START)
    for file in ("f", "g"):
        assert {row["line_no"]: row["text"] for row in joined.rows.to_pylist() if row["file"] == file} == expected(texts)
    blank = sum(not text for text in texts)
    assert len(joined.rows) + joined.n_continuation + joined.n_blank == 2 * len(texts)
    assert joined.n_blank == 2 * blank


@pytest.mark.parametrize("pieces", [1, 2, 5, 9])
def test_a_record_is_whole_wherever_a_file_is_cut(tmp_path: Path, pieces: int) -> None:
    texts = some_lines()
    table = lines_table(texts)
    cuts = [len(texts) * n // pieces for n in range(pieces + 1)]
    parts = [
        write_part(str(tmp_path), LINES_TABLE, table.slice(low, high - low), system="app", ds="2026-03-04")
        for low, high in itertools.pairwise(cuts)
    ]
    system = make_system(header=Header(), timestamp=None, record=START)
    found = [parse_part(task, str(tmp_path), system, NO_CAP) for task in part_tasks(str(tmp_path), parts, system)]
    whole = parse_lines(table, system, "2026-03-04")[1]
    for name in ("n_parsed", "n_blank", "n_continuation"):
        assert sum(each.tally[name] for each in found) == whole.tally[name]
    assert {id for each in found for id in each.messages} == set(whole.messages)
    assert whole.tally["n_parsed"] + whole.tally["n_blank"] + whole.tally["n_continuation"] == len(texts)


def test_continuations_that_do_not_look_like_one_are_counted() -> None:
    texts = [
        "2026-03-04 10:00:00 ERROR failed req-a",
        "java.lang.IllegalStateException: no heap",
        "\tat shop.Cart.add(Cart.java:10)",
        "Caused by: disk full",
        "</request>",
        "",
        "2026-03-04 10:00:01 INFO ok req-b",
        "[E 04/Mar/2026 08:00:01] worker lost req-c",
    ]
    tally = parse_lines(lines_table(texts), make_system(header=STAMPED, record=Record(start=r"\d{4}-")), "2026-03-04")[1].tally
    assert {name: tally[name] for name in ("n_parsed", "n_blank", "n_unparsed", "n_continuation", "n_swallowed")} == {
        "n_parsed": 2,
        "n_blank": 1,
        "n_unparsed": 0,
        "n_continuation": 5,
        "n_swallowed": 1,
    }


def test_no_lines_are_no_records() -> None:
    joined = join_records(lines_table([]), START)
    assert len(joined.rows) == joined.n_continuation == joined.n_blank == 0
