"""Records that Spark takes apart and that are parsed by shape: what Spark's column expressions give for each alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from nightlog.lake.parts import read_part
from nightlog.lake.tables import COUNTS_TABLE, EVENTS_TABLE
from nightlog.parsing.events import Parsed
from nightlog.parsing.flat import flat_records, flat_system, packed, parse_records, unpacked
from nightlog.parsing.lines import parse_lines
from nightlog.parsing.number_ranges import extremes_by_columns
from nightlog.parsing.shapes import by_shape
from nightlog.systems.spec import Header, Record, Session, System, Timestamp
from parsing_help import STAMPED, make_system
from pyspark.sql import DataFrame, SparkSession

NIGHTS = ("2026-03-03", "2026-03-04")
LINES = "ds string, file string, line_no long, text string"
VALUES = [
    "took 5 ms",
    "0x1f at 10.0.0.1",
    'a "quoted" one',
    "tab\there",
    "é 漢 7",
    "",
    "  ",
    "a=b c=d",
    "x\x1fy",
    "req-q9 req-q9 req-r1",
    "\\n",
    "<NUM>",
]
SYSTEMS = {
    "json": make_system(
        header=Header(kind="json", keys={"message": ("msg", "$.http.status"), "time": "time", "level": "lvl", "id": "id"}),
        timestamp=Timestamp(value="{time}", format="epoch_ms"),
        session=Session(kind="field", field="id"),
    ),
    "json behind a header": make_system(
        header=Header(pattern=r"(?P<time>\S+ \S+) (?P<message>.*)", kind="json", keys={"message": "msg", "level": "lvl"}),
    ),
    "logfmt": make_system(header=Header(kind="logfmt", keys={"message": ("msg", "code"), "time": "time", "level": "lvl"})),
    "export": make_system(
        header=Header(kind="export", keys={"message": "MESSAGE", "level": "PRIORITY"}), timestamp=None, record=Record(start="__CURSOR=")
    ),
    "json of a message alone": make_system(header=Header(kind="json", keys={"message": "msg"}), timestamp=None),
    "records": make_system(header=STAMPED, record=Record(start=r"\d{4}-\d\d-")),
}


def record(kind: str, number: int, rng: random.Random) -> str:
    time, level = f"2026-03-0{1 + number % 4} 1{number % 10}:{number % 60:02d}:07", rng.choice(["INFO", "WARN"])
    message = f"{rng.choice(VALUES)} of req-{number // 3} {rng.choice(VALUES)}"
    if kind == "json":
        given: dict[str, Any] = {"msg": message, "time": 1772600000000 + number, "lvl": level, "id": f"i{number // 3} "}
        given |= {"http": {"status": 200 + number % 3}} if number % 2 else {}
        given |= {"id": None} if number % 7 == 0 else {}
        return json.dumps(given, ensure_ascii=number % 2 == 0)
    if kind == "json of a message alone":
        return json.dumps({"msg": message if number % 5 else rng.choice(["", "  "])})
    if kind == "json behind a header":
        return f"{time} {json.dumps({'msg': message, 'lvl': level})}"
    if kind == "logfmt":
        return f"time={json.dumps(time)} lvl={level} msg={json.dumps(message, ensure_ascii=False)} code={number}"
    if kind == "export":
        return f"__CURSOR=s={number}\nPRIORITY={number % 8}\nMESSAGE={message}\n"
    return f"{time} {level} {message}\n  at step {number}\n  at last"


def lines_of(spark: SparkSession, kind: str) -> DataFrame:
    """Records of two nights in two files, and what is none: broken ones, blank lines, ones without a message."""
    rng = random.Random(5)
    texts = ["", "   ", '{"msg": ', "no record", '{"lvl": "INFO"}', "lvl=INFO", *(record(kind, n, rng) for n in range(400))]
    rows, number = [], 0
    for text in texts:
        for line in text.split("\n"):
            number += 1
            rows.append((NIGHTS[len(rows) * 2 // 1000 % 2], f"{len(rows) * 2 // 1000 % 2}.log", number, line))
    return spark.createDataFrame(rows, LINES).repartition(3)


def expected_of(lines: DataFrame, system: System) -> tuple[list[tuple[Any, ...]], dict[str, int], list[dict[str, Any]]]:
    parsed = parse_lines(lines, system).cache()
    rows = parsed.collect()
    events = [
        (row["ds"], row["file"], row["line_no"], row["at"], row["level"], session, row["message_id"], row["message"])
        for row in rows
        if row["matched"]
        for session in row["session_ids"] or [None]
    ]
    tally = {"n_blank": sum(row["blank"] for row in rows), "n_unparsed": sum(not row["matched"] and not row["blank"] for row in rows)}
    return sorted(events, key=str), tally, extremes_by_columns(parsed.where("matched")).toArrow().to_pylist()


@pytest.mark.parametrize("kind", SYSTEMS)
def test_records_parsed_by_shape_are_what_they_are_one_by_one(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    system, lines, root = SYSTEMS[kind], lines_of(spark, kind), str(tmp_path)
    flat = flat_system(system)
    assert flat is not None and not by_shape(system)
    events, tally, numbers = expected_of(lines, system)
    assert len(events) > 300 and tally["n_blank"] >= 2 and tally["n_unparsed"] >= 2
    found = parse_records(lines, system, flat, root)
    columns = ["file", "line_no", "at", "level", "session_id", "message_id"]
    read = []
    for part in found.events:
        for row in read_part(root, EVENTS_TABLE, part.path, columns).to_pylist():
            at = row["at"] and row["at"].replace(tzinfo=None)
            text = found.messages[row["message_id"]][0]
            read.append(
                (dict(part.partition)["ds"], row["file"], row["line_no"], at, row["level"], row["session_id"], row["message_id"], text)
            )
    assert sorted(read, key=str) == events
    assert {name: found.tally[name] for name in tally} == tally and found.tally["n_events"] == len(events)
    shown = {(row["file"], row["line_no"], row["text"]) for row in found.unmatched}
    assert len(shown) == tally["n_unparsed"]

    def by_place(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        least: dict[tuple[Any, ...], tuple[float, float, int]] = {}
        for row in rows:
            key = (row["ds"], row["message_id"], row["nth"])
            low, high, n = least.get(key, (row["low"], row["high"], 0))
            least[key] = (min(low, row["low"]), max(high, row["high"]), n + row["n"])
        return sorted((*key, *value) for key, value in least.items())

    assert by_place([row for table in found.numbers for row in table.to_pylist()]) == by_place(numbers)
    n_counted = sum(sum(read_part(root, COUNTS_TABLE, part.path, ["n"]).column("n").to_pylist()) for part in found.counts)
    assert n_counted == sum(event[5] is not None for event in events)


def test_a_separator_in_a_value_does_not_shift_the_others(spark: SparkSession) -> None:
    system = SYSTEMS["json"]
    text = json.dumps({"msg": "a\x1fb", "time": 5, "lvl": "x\x1fy", "id": "s1"})
    (row,) = flat_records(spark.createDataFrame([("d", "f", 1, text)], LINES), system).collect()
    assert row["text"] == "\x1fs1\x1fx\ufffdy\x1f5\x1fa\x1fb"


def test_what_python_cannot_follow_is_left_to_spark() -> None:
    assert (
        flat_system(
            make_system(header=Header(kind="json", keys={"message": "m", "time": "t"}), timestamp=Timestamp(value="{time}", format="EEE"))
        )
        is None
    )


def test_what_a_worker_tells_comes_back_whole() -> None:
    numbers = pa.table({"ds": ["d"], "n": [1]})
    parsed = Parsed([], [], {"n_blank": 1}, {-5: ("mé", "d")}, [{"ds": "d", "file": "f", "line_no": 1, "text": "x"}], [numbers, numbers])
    row = packed(parsed).to_pylist()[0]
    found = unpacked(row["told"], row["numbers"])
    assert (found.tally, found.messages, found.unmatched) == (parsed.tally, parsed.messages, parsed.unmatched)
    assert pa.concat_tables(found.numbers) == pa.concat_tables(parsed.numbers)
