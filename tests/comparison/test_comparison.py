"""A run against a good one: what counts as new, how it ranks, where lines come from, and what is shown."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from nightlog.comparison.blocks import file_blocks, night_blocks, pick, split_returns
from nightlog.comparison.compare import HEAD, TAIL, Comparison
from nightlog.comparison.lines import Coder
from nightlog.comparison.novelty import novelty, passages
from nightlog.errors import FormatError, NotThere
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LINES_TABLE

GOOD = [f"2026-03-04 10:{n:02d}:00 INFO order {n} of user{n} served in {n * 7} ms" for n in range(40)]
TROUBLE = [
    "2026-03-05 11:00:00 ERROR payment gateway refused the connection",
    "    at shop.pay.Gateway.connect(Gateway.java:31)",
    "    at shop.pay.Payments.charge(Payments.java:88)",
]
BAD = [*(line.replace("03-04", "03-05") for line in GOOD[:20]), *TROUBLE, *GOOD[20:]]


def scored(bad: list[str], good: list[str], files: list[int] | None = None) -> np.ndarray:
    coder = Coder()
    codes_of_good, codes = coder.code(pa.array(good, pa.string())), coder.code(pa.array(bad, pa.string()))
    return novelty(codes, codes_of_good, coder.messages, np.array(files or [0] * len(bad), dtype=np.int64)).score


def compared(tmp_path: Path, bad: list[str], good: list[str]) -> Comparison:
    for name, lines in (("bad.log", bad), ("good.log", good)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    return Comparison(partial(file_blocks, tmp_path / "bad.log"), partial(file_blocks, tmp_path / "good.log"))


def test_numbers_times_ids_paths_and_addresses_are_not_new() -> None:
    good = ["2026-03-04T10:00:00Z GET /var/lib/shop/a.txt for 10.0.0.1 took 12.5 ms, id 6f1c2a9e-1b2c-4d5e-8f90-0123456789ab"]
    same = ["2027-11-30T23:59:59Z GET /var/lib/shop/b.txt for 10.9.8.7 took 3 ms, id 0a1b2c3d-1b2c-4d5e-8f90-ba9876543210"]
    assert not scored(same, good).any()
    assert scored(["2027-11-30T23:59:59Z PUT /var/lib/shop/b.txt was denied"], good)[0] > 0


def test_the_trouble_ranks_first_wherever_it_stands_and_however_the_good_lines_are_ordered() -> None:
    score = scored(BAD, GOOD)
    assert set(np.argsort(-score)[:3].tolist()) == {20, 21, 22}
    assert score[0] == 0 and 0 < score[19] < score[20], "a known line next to it is a little suspicious, one far away is not"
    assert np.array_equal(score, scored(BAD, GOOD[::-1])) and np.array_equal(score, scored(BAD, GOOD * 3))


def test_a_message_that_differs_more_and_one_that_is_worse_rank_higher() -> None:
    good = ["connection to the database opened", "connection to the database closed"]
    apart = good * 8
    lines = ["quota table vacuumed overnight", *apart, "connection to the cache opened", *apart, "fatal: quota table"]
    far, near, severe = scored(lines, good)[[0, 17, 34]]
    assert far > near > 0 and severe > far


def test_lines_of_another_file_are_no_neighbours() -> None:
    assert scored([*TROUBLE, GOOD[0]], GOOD, [0, 0, 0, 1])[3] == 0
    assert scored([*TROUBLE, GOOD[0]], GOOD)[3] > 0


def test_nothing_is_new_in_the_same_run_and_everything_without_a_good_one(tmp_path: Path) -> None:
    assert compared(tmp_path, GOOD, GOOD).rows() == []
    assert compared(tmp_path, [], GOOD).passages(5, 2) == ([], 0)
    assert len(compared(tmp_path, BAD, []).rows()) == len(BAD)


def test_rows_have_each_new_line_with_its_place_the_most_novel_first(tmp_path: Path) -> None:
    rows = compared(tmp_path, [*BAD, TROUBLE[0]], GOOD).rows()
    assert {(row["line_no"], row["text"]) for row in rows} == {*zip((21, 22, 23), TROUBLE, strict=True), (44, TROUBLE[0])}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True) and {row["file"] for row in rows} == {
        "bad.log"
    }
    assert {row["line_no"]: row["n_same"] for row in rows} == {21: 2, 22: 1, 23: 1, 44: 2}


def test_passages_are_shown_with_context_and_those_alike_once(tmp_path: Path) -> None:
    shown, n = compared(tmp_path, [*BAD, *TROUBLE, *GOOD], GOOD).passages(5, 1)
    assert n == len(shown) == 1
    assert (shown[0].passage.n_new, shown[0].passage.n_alike) == (3, 2)
    lines = [line for line in shown[0].lines if line is not None]
    assert [line.is_new for line in lines] == [False, True, True, True, False]
    assert [line.text for line in lines if line.is_new] == TROUBLE


def test_of_a_long_passage_the_first_the_last_and_the_most_novel_lines_are_shown(tmp_path: Path) -> None:
    frames = [f"    at shop.{'abcdefgh'[n % 8]}.{'xyz'[n % 3]}Call.run(Call.java)" for n in range(60)]
    middle = "Caused by: fatal: unexpected zebra quarrel overnight"
    shown, _ = compared(tmp_path, [*GOOD, TROUBLE[0], *frames[:30], middle, *frames[30:], *GOOD], GOOD).passages(1, 0)
    texts = [line and line.text for line in shown[0].lines]
    assert texts[:HEAD] == [TROUBLE[0], *frames[: HEAD - 1]] and texts[-TAIL:] == frames[-TAIL:]
    assert middle in texts and texts.count(None) == 2


def test_passages_end_at_a_file_and_at_many_known_lines() -> None:
    coder = Coder()
    good, codes = coder.code(pa.array(["a b"])), coder.code(pa.array(["x", "y", "z", "a b", "a b", "a b", "w"]))
    files = np.array([0, 1, 1, 1, 1, 1, 1])
    found = passages(novelty(codes, good, coder.messages, files), codes, files)
    assert sorted((each.first, each.end) for each in found) == [(0, 1), (1, 3), (6, 7)]


def test_lines_that_no_shape_stands_for_are_masked_one_by_one() -> None:
    texts = ["température 7 élevée", "température 8 élevée", "utf8mb4 is used", "utf8mb3 is used"]
    codes = Coder().code(pa.array(texts))
    assert codes[0] == codes[1]
    assert np.array_equal(codes, [Coder.code(coder, pa.array([text]))[0] for coder in [Coder()] for text in texts])
    assert np.array_equal(Coder().code(pa.array(["0x1f", *texts]).slice(1)), codes)
    assert len(Coder().code(pa.array([], pa.string()))) == 0


def test_a_folder_is_read_with_all_its_files_packed_ones_too(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "one.log").write_text("first\r\nsecond\n")
    with gzip.open(tmp_path / "a" / "deep" / "two.log.gz", "wt") as file:
        file.write("third\n")
    (tmp_path / "a" / ".hidden").write_text("no log\n")
    blocks = list(file_blocks(tmp_path / "a"))
    assert [(block.file, block.texts.to_pylist(), block.line_no.tolist()) for block in blocks] == [
        ("deep/two.log.gz", ["third"], [1]),
        ("one.log", ["first", "second"], [1, 2]),
    ]
    assert pick(file_blocks(tmp_path / "a"), [0, 2]) == ["third", "second"]


def test_a_carriage_return_ends_a_line_that_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_bytes(b"begin\nfetching\n10 %\r20 %\r\ndone\n")
    (block,) = file_blocks(tmp_path / "run.log")
    assert block.texts.to_pylist() == ["begin", "fetching", "10 %", "20 %", "done"] and block.line_no.tolist() == [1, 2, 3, 3, 4]


def test_what_is_not_there_or_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.log.gz").write_bytes(b"no gzip")
    for place in ("nothing.log", "empty"):
        with pytest.raises(NotThere, match=place):
            list(file_blocks(tmp_path / place))
    with pytest.raises(FormatError, match="broken"):
        list(file_blocks(tmp_path / "broken.log.gz"))


def test_a_night_of_the_lake_is_read_by_file_and_line(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    place = {"system": "shop", "ds": "2026-03-05"}
    rows = [place | {"file": file, "line_no": n, "text": text} for file, n, text in (("b", 1, "x"), ("a", 2, "z"), ("a", 1, "y"))]
    lake.append(LINES_TABLE, [*rows, rows[0] | {"ds": "2026-03-04"}])
    blocks = list(night_blocks(lake, "shop", "2026-03-05"))
    assert sorted((block.file, *block.texts.to_pylist()) for block in blocks) == [("a", "y", "z"), ("b", "x")]
    assert list(night_blocks(lake, "shop", "2026-03-06")) == []


def test_the_parts_of_a_large_file_are_put_in_order(tmp_path: Path) -> None:
    lake, place = Lake(tmp_path / "lake"), {"system": "shop", "ds": "2026-03-05", "file": "f"}
    for first in (40, 20, 0):  # the file's last part is written first
        lake.append(LINES_TABLE, [place | {"line_no": first + n + 1, "text": text} for n, text in enumerate(BAD[first : first + 20])])
    found = Comparison(partial(night_blocks, lake, "shop", "2026-03-05"), lambda: iter([split_returns("g", pa.array(GOOD), np.arange(40))]))
    assert found.run.line_no.tolist() == list(range(1, len(BAD) + 1))
    assert [(row["line_no"], row["text"]) for row in sorted(found.rows(), key=lambda row: row["line_no"])] == [
        *zip((21, 22, 23), TROUBLE, strict=True)
    ]
    (shown,), _ = found.passages(1, 1)
    assert [line.line_no for line in shown.lines if line] == [20, 21, 22, 23, 24]
