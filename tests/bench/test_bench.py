"""The bench's own parts: inputs, ranges of a file, limits of a program, and the tables' arithmetic."""

from __future__ import annotations

import gzip
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from corpus import DS, LINES, NEXT_DS, build, build_next
from measure import run
from peers import cuts
from report import median_rows, run_rows, spread, table, target_table

HERE = Path(__file__).resolve().parent


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Two days of a block each, as the labelled logs hold them."""
    folder = tmp_path / "shared" / "data" / "raw" / "hdfs"
    folder.mkdir(parents=True)
    for day, block in (("081110", "blk_-11"), ("081111", "blk_22")):
        text = f"{day} 000001 148 INFO dfs.DataNode: Received block {block} of size 081110 \n" * 2
        (folder / f"hdfs-20{day}.log.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "block_labels.csv").write_text("block_id,label\nblk_-11,0\nblk_22,1\n")
    return tmp_path / "shared"


def test_next_day_has_other_ids_and_is_a_day_later(shared: Path, tmp_path: Path) -> None:
    first, later = build(shared, tmp_path / "in", 2).read_text(), build_next(shared, tmp_path / "in", 2).read_text()
    assert (tmp_path / "in" / "hdfs" / f"hdfs-{NEXT_DS}.log").read_text() == later
    assert first != later
    assert [line.split(" ")[0] for line in first.splitlines()] == ["081110", "081110", "081111", "081111"] * 2
    assert [line.split(" ")[0] for line in later.splitlines()] == ["081111", "081111", "081112", "081112"] * 2
    assert later.count("of size 081110 ") == 8  # numbers in a message are no days
    blocks = [{line.split(" ")[7] for line in text.splitlines()} for text in (first, later)]
    assert [len(each) for each in blocks] == [4, 4]
    assert not blocks[0] & blocks[1]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_ranges_start_with_lines_and_cover_the_file(parts: int, tmp_path: Path) -> None:
    log = tmp_path / f"hdfs-{DS}.log"
    lines = [b"short\n", b"a line much longer than the others, more than a third of all\n", b"end\n", b"\n", b"last\n"]
    log.write_bytes(b"".join(lines))
    found = cuts(log, parts)
    starts = {0, *(sum(map(len, lines[:n])) for n in range(1, 6))}
    assert len(found) == parts + 1
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, log.stat().st_size)
    assert set(found) <= starts


def test_program_beyond_its_time_is_stopped_with_its_children(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    child = f"import time, pathlib\nwhile True: pathlib.Path({str(beats)!r}).write_text(str(time.time())); time.sleep(0.02)"
    code = f"import subprocess, sys; print('@stage work', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    started = time.monotonic()
    *_, total = run([sys.executable, "-c", code], {}, tmp_path / "log", most_s=3)
    assert time.monotonic() - started < 30
    assert total["stopped"] == "3 s"
    last = beats.read_text()
    time.sleep(0.3)
    assert beats.read_text() == last


def test_program_beyond_its_memory_is_stopped(tmp_path: Path) -> None:
    code = "import time; held = bytearray(200 << 20); time.sleep(60)"
    *_, total = run([sys.executable, "-c", code], {}, tmp_path / "log", most_bytes=100e6)
    assert total["stopped"] == "0.1 GB"
    assert total["wall_s"] < 30


def test_program_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        run([sys.executable, "-c", "raise SystemExit(3)"], {}, tmp_path / "log")


def process(program: str, number: int, **seconds: float) -> list[dict[str, Any]]:
    """Return the records of one process at 11.1 million lines."""
    same = {"program": program, "lines": 50 * LINES, "round": number}
    used = {"bytes_written": 10, "peak_rss_bytes": 10**9}
    stages = [same | used | {"stage": name.replace("_", "-"), "wall_s": wall, "cpu_s": 2 * wall} for name, wall in seconds.items()]
    total = sum(seconds.values())
    return [*stages, same | used | {"stage": "total", "wall_s": total, "cpu_s": 2 * total}]


def test_process_of_a_night_has_its_start_and_end_but_no_second_night() -> None:
    rows = run_rows(process("nightlog-night", 1, start=1, ingest=10, publish=20, again_ingest=3, next_ingest=5, end=2))
    assert {row["program"]: (row["wall_s"], row["process_s"]) for row in rows} == {
        "nightlog-night": (30, 33),
        "nightlog-night, again": (3, None),
        "nightlog-night, next": (5, None),
    }


def test_ratios_are_of_the_rounds_that_both_programs_have() -> None:
    records = [record for n, wall in ((1, 10), (2, 30), (3, 20)) for record in process("nightlog-parse", n, start=1, parse=wall - 1)]
    records += [record for n in (1, 2) for record in process("loglead-tip", n, load=40)]
    text = target_table(run_rows(records))
    (line,) = (line for line in text.splitlines() if "LogLead" in line)
    assert "| 0.50 | 0.25, 0.75 | ≤ 0.60 | 0.45 | met |" in line
    slower = target_table(run_rows(records + process("loglead-tip", 3, load=20)))
    assert "0.50 | 0.25, 0.75, 1.00 |" in slower


def test_stopped_program_is_listed_and_has_no_ratio() -> None:
    records = process("nightlog-parse", 1, parse=10) + process("loglead-tip", 1, load=600)
    records[-1]["stopped"] = "600 s"
    assert "LogLead" not in target_table(run_rows(records))
    assert "| loglead-tip | 1 | stopped at 600 s |" in table(records)


def test_medians_of_rounds_and_largest_peak() -> None:
    records = [record for n, wall in ((1, 9), (2, 1), (3, 2)) for record in process("drain3", n, mine=wall)]
    records[0]["peak_rss_bytes"] = records[1]["peak_rss_bytes"] = 7 * 10**9
    (row,) = median_rows(run_rows(records))
    assert (row["wall_s"], row["process_s"], row["rounds"], row["peak_rss_bytes"]) == (2, 2, 3, 7 * 10**9)


@pytest.mark.parametrize("heights", [[], [0.5], [0.1, 0.1, 0.1], [0.1, 0.12, 0.5, 0.51, 0.52, 0.9]])
def test_labels_are_apart_and_in_order(heights: list[float]) -> None:
    levels = spread(heights, 0.05)
    assert len(levels) == len(heights)
    assert all(later - sooner >= 0.05 - 1e-9 for sooner, later in pairwise(levels))
    assert sum(levels) == pytest.approx(sum(heights))
