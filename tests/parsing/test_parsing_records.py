"""Records that span lines, over the borders of chunks."""

from __future__ import annotations

import random

from nightlog.parsing.records import join_records
from nightlog.systems.spec import LONGEST_RECORD
from pyspark.sql import SparkSession

CHUNK = LONGEST_RECORD + 200


def test_lines_join_the_record_before_them_wherever_a_chunk_ends(spark: SparkSession) -> None:
    rng = random.Random(3)
    texts = ["older"] * 3
    for number in range(300):
        texts += [f"START {number}", *("" if rng.random() < 0.1 else f" more {n}" for n in range(rng.choice([0, 0, 1, 2, 30])))]
    # A record across a border, and one with more lines than a record may have.
    texts += ["START long", *(f" long {n}" for n in range(2 * CHUNK)), "START last", " end"]
    frame = spark.createDataFrame([("d", "f", n, t) for n, t in enumerate(texts, 1)], "ds string, file string, line_no long, text string")
    frame = frame.unionByName(frame.replace("f", "g", ["file"])).repartition(5)
    rows = join_records(frame, "START ", 5, CHUNK).collect()
    expected: dict[int, list[str]] = {}
    begun = 0
    for number, text in enumerate(texts, 1):
        begun = number if text.startswith("START ") else begun
        mine = begun if begun and number - begun < LONGEST_RECORD else number
        expected.setdefault(mine, []).append(text)
    joined = {number: "\n".join([text for text in same if text][:5]) for number, same in expected.items()}
    for file in ("f", "g"):
        assert {row["line_no"]: row["text"] for row in rows if row["file"] == file} == joined
    assert len(rows) == 2 * len(joined)
