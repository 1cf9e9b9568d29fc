"""Parsing by shape gives what Spark's column expressions give for every line alone."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from nightlog.parsing.events import EVERY, FULLY, parse_table
from nightlog.parsing.lines import parse_lines
from nightlog.parsing.number_ranges import extremes_by_columns
from nightlog.parsing.parse import far_from_night
from nightlog.parsing.shapes import LineParser, by_shape
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import Header, Input, Mask, Record, Session, System, Timestamp
from parsing_help import make_system
from pyspark.sql import SparkSession

DS = "2026-03-04"
WORDS = (
    *(
        "10.0.0.1",
        "10.250.19.102:50010",
        "/10.0.0.7",
        "0x1f",
        "0X1F",
        "1x0",
        "00x0x1",
        "deadbeef01",
        "blk_-16089",
        "blk_7",
        "req-a1 req-b2",
    ),
    *(
        "req-a1 req-a1",
        "123e4567-e89b-12d3-a456-426614174000",
        "/var/log/x9.log",
        "-12.5",
        "00:1b:44:11:3a:b7",
        "word",
        "=",
        "[",
        "é7",
        "漢",
    ),
    *("took 5 ms", "  ", "v1.2", "user42", "\t", "<NUM>", "x\u2028y", "\u00a0", "n1", "end"),
)
SYSTEMS = {
    "stamped": make_system(),
    "masks that leave digits": make_system(default_masks=False, masks=(Mask(name="ODD", pattern="[13579]+"),)),
    "own masks": make_system(masks=(Mask(name="BLK", pattern=r"blk_-?\d+"), Mask(name="ONE", pattern=r"(?<=req-a)1"))),
    "field": make_system(
        header=Header(pattern=r"(?P<date>\S+) (?P<time>\S+) (?P<level>\w+)(?: (?P<node> *\w+)?)? ?(?P<message>.*)"),
        timestamp=Timestamp(value="{date}  {time}", format="yyyy-MM-dd HH:mm:ss"),
        session=Session(kind="field", field="node"),
    ),
    "day of the night": make_system(
        header=Header(pattern=r"(?P<date>\S+) (?P<time>\S+) (?P<message>.*)"),
        timestamp=Timestamp(value="{ds} {time}", format="yyyy-MM-dd HH:mm:ss"),
    ),
    "window": make_system(session=Session(kind="window", window_minutes=7)),
    "whole lines": make_system(header=Header(), timestamp=None),
    "level with digits": make_system(header=Header(pattern=r"(?P<date>\S+) (?P<level>\S+) (?P<message>.*)"), timestamp=None),
}


def lines_of(seed: int, n: int) -> list[str]:
    rng = random.Random(seed)
    lines = ["", "   ", "no header 7", "2026-03-04 99:00:00 INFO late req-z9", "2026-03-04 10:00:00 INFO " + "word 17 " * 2000]
    for _ in range(n):
        stamp = f"2026-03-0{rng.randint(1, 9)} {rng.randint(0, 25):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}"
        lines.append(f"{stamp} {rng.choice(['INFO', 'WARN'])} {' '.join(rng.choices(WORDS, k=rng.randint(0, 6)))}")
    return lines


def by_columns(spark: SparkSession, system: System, lines: list[str]) -> list[tuple[Any, ...]]:
    rows = [(DS, "a.log", number, text) for number, text in enumerate(lines, 1)]
    parsed = (
        parse_lines(spark.createDataFrame(rows, "ds string, file string, line_no long, text string"), system).where("matched").collect()
    )
    found = []
    for row in parsed:
        for session in row["session_ids"] or [None]:
            found.append((row["line_no"], row["at"], row["level"], session, row["message_id"], row["message"]))
    return sorted(found, key=str)


def by_shapes(system: System, lines: list[str]) -> list[tuple[Any, ...]]:
    table = pa.table({"file": ["a.log"] * len(lines), "line_no": np.arange(1, len(lines) + 1), "text": pa.array(lines, pa.string())})
    events, parsed = parse_table(table, system, DS)
    assert parsed.tally["n_events"] == len(events)
    texts = {number: text for number, (text, _) in parsed.messages.items()}
    found = []
    for row in events.to_pylist():
        at = row["at"] and row["at"].replace(tzinfo=None)
        found.append((row["line_no"], at, row["level"], row["session_id"], row["message_id"], texts[row["message_id"]]))
    return sorted(found, key=str)


@pytest.mark.parametrize("name", SYSTEMS)
def test_lines_parsed_by_shape_are_what_they_are_one_by_one(spark: SparkSession, name: str) -> None:
    system, lines = SYSTEMS[name], lines_of(7, 600)
    assert by_shape(system)
    expected = by_columns(spark, system, lines)
    assert len(expected) > 300
    for one, other in zip(by_shapes(system, lines), expected, strict=True):
        assert one == other


FIGURES = (
    "0",
    "007",
    "12",
    "-3",
    "+4",
    "1.50",
    "0.000001",
    "123456789012345",
    "1234567890123456",
    "1.2.3",
    "99999999",
    "100000000",
    "é5",
    "n8",
)


@pytest.mark.parametrize("name", ["stamped", "own masks", "whole lines"])
def test_numbers_read_by_shape_are_those_that_spark_reads_with_the_same_lines(spark: SparkSession, name: str) -> None:
    system, rng = SYSTEMS[name], random.Random(3)
    figures = [
        *FIGURES,
        *(str(rng.randint(0, 10 ** rng.randint(1, 15) - 1)) for _ in range(200)),
        *(f"{rng.random():.9f}" for _ in range(50)),
    ]
    lines = lines_of(8, 200)
    for word in ("took", "sent", "left"):
        lines += [f"2026-03-04 10:00:00 INFO {word} {each} of blk_7 {each}:{each} ms req-a1" for each in rng.sample(figures, 80)]
    lines += [f"2026-03-04 10:00:00 INFO lone {each}" for each in (*FIGURES, "<NUM> 5", " ".join("123456"))]
    rows = spark.createDataFrame(
        [(DS, "a.log", n, text) for n, text in enumerate(lines, 1)], "ds string, file string, line_no long, text string"
    )
    expected = extremes_by_columns(parse_lines(rows, system).where("matched")).toArrow().to_pylist()
    table = pa.table({"file": ["a.log"] * len(lines), "line_no": np.arange(1, len(lines) + 1), "text": pa.array(lines, pa.string())})
    (found,) = parse_table(table, system, DS)[1].numbers
    assert len(expected) > 30

    def key(row: dict[str, Any]) -> tuple[int, int]:
        return row["message_id"], row["nth"]

    assert sorted(found.to_pylist(), key=key) == sorted(expected, key=key)


def test_where_each_line_has_a_shape_of_its_own_only_some_are_looked_at_for_numbers() -> None:
    letters = ["".join(chr(97 + n // 26**at % 26) for at in range(4)) for n in range(FULLY + 10 * EVERY)]
    lines = [f"2026-03-04 10:00:00 INFO sent 5 to {name} req-{name}" for name in letters]
    table = pa.table({"file": ["a.log"] * len(lines), "line_no": np.arange(1, len(lines) + 1), "text": pa.array(lines, pa.string())})
    (found,) = parse_table(table, make_system(), DS)[1].numbers
    assert sum(found.column("n").to_pylist()) == FULLY + 10


ZONED = "yyyy-MM-dd HH:mm:ss,SSS"
WEST = "yyyy/MM/dd HH:mm:ss"
STAMPS = {
    "yyyy-MM-dd HH:mm:ss": [
        "2026-03-04 05:06:07",
        "2026-02-30 05:06:07",
        "2026-3-4 5:6:7",
        "9999-03-04 05:06:07",
        "- -",
        "2024-02-29 00:00:00",
    ],
    "yyMMdd HHmmss": ["081109 203615", "260704 240000", "26074 120000", "000101 000000"],
    "yyyy-MM-dd'T'HH:mm:ss.SSSXXX": [
        "2026-03-04T05:06:07.250+02:00",
        "2026-03-04T05:06:07.25Z",
        "2026-03-04T05:06:07",
        "2026-03-04T05:06:07.1-11:30",
    ],
    ZONED: [
        "1970-01-01 00:30:00,000",
        "1970-01-01 01:30:00,000",
        "2026-03-29 02:30:00,999",
        "2026-10-25 02:30:00,001",
        "2026-03-04 05:06:07,1234",
    ],
    "yyyy MMM d HH:mm:ss": [
        "2026 Mar 4 05:06:07",
        "2026 mar 14 05:06:07",
        "2026 Foo 4 05:06:07",
        "2026 Sept 4 05:06:07",
        "2026 Mar 04 05:06:07",
    ],
    "dd/MMM/yyyy:HH:mm:ss Z": ["04/Mar/2026:05:06:07 +0100", "04/Mar/2026:05:06:07 -0930", "04/Mar/2026:05:06:07"],
    "M/d/yyyy h:mm:ss a": ["3/4/2026 5:06:07 PM", "12/14/2026 12:00:00 am", "3/4/2026 13:00:00 PM", "3/4/2026 0:00:00 AM"],
    WEST: ["1969/12/31 20:00:00", "1969/12/31 18:00:00", "2026/07/04 05:06:07"],
    "HH:mm": ["05:06", "24:00", "5:06"],
    "yyyy-MM-dd-HH.mm.ss.SSSSSS": ["2005-06-03-15.42.50.363779", "2005-06-03-15.42.50.36", "2005-06-31-15.42.50.363779"],
    "'20'yy-MM-dd'T1'H": ["2026-03-04T15", "1926-03-04T15", "2026-03-04T25", "2026-03-04T123"],
    "yyyy-MM-dd HH:mm:ssx": ["2026-03-04 05:06:07+02", "2026-03-04 05:06:07-0330", "0001-01-01 00:00:00+01", "0000-01-01 00:00:00+01"],
    "epoch_ms": ["1772600767123", "1772600767123.25", "-5", "x"],
    "epoch_us": ["1772600767123456", "1"],
    "epoch_ns": ["1772600767123456789", "1772600767123456789123456789"],
    "epoch": [
        "1772600767",
        "1772600767.5",
        "0",
        "soon",
        "nan",
        "1772600767123",
        "99999999999999999999",
        "-1",
        "1e9",
        "1_0",
        "+7",
        "5d",
        "",
    ],
}


@pytest.mark.parametrize(
    ("zone", "forms"), [("UTC", list(STAMPS)), ("Europe/Berlin", [ZONED, "epoch", "dd/MMM/yyyy:HH:mm:ss Z"]), ("America/New_York", [WEST])]
)
def test_stamps_are_read_as_spark_reads_them(spark: SparkSession, zone: str, forms: list[str]) -> None:
    for form in forms:
        header = Header(pattern=r"\[(?P<stamp>[^\]]*)\] (?P<message>.*)")
        system = make_system(header=header, timestamp=Timestamp(value="{stamp}", format=form, timezone=zone))
        assert by_shape(system)
        lines = [f"[{stamp}] x" for stamp in STAMPS[form]]
        assert [row[1] for row in by_shapes(system, lines)] == [row[1] for row in by_columns(spark, system, lines)], (form, zone)


def test_an_offset_in_a_stamp_outranks_the_system_s_time_zone() -> None:
    form = "yyyy-MM-dd HH:mm:ssXXX"
    system = make_system(header=Header(pattern=r"\[(?P<stamp>[^\]]*)\] (?P<message>.*)"), timestamp=Timestamp(value="{stamp}", format=form))
    berlin = system.model_copy(update={"timestamp": Timestamp(value="{stamp}", format=form, timezone="Europe/Berlin")})
    lines = ["[2026-07-04 05:06:07+02:00] x", "[2026-07-04 05:06:07Z] x"]
    assert [row[1] for row in by_shapes(berlin, lines)] == [row[1] for row in by_shapes(system, lines)]


def test_digits_are_told_apart_where_an_expression_does() -> None:
    def shaped(text: str, **more: Any) -> str:
        return (
            LineParser(make_system(header=Header(), timestamp=None, **more))
            .shaped(np.frombuffer(text.encode(), np.uint8))
            .tobytes()
            .decode()
        )

    assert shaped("0x10 and 1x0 at 10:00") == "0x11 and 1x1 at 11:11"
    none = {"default_masks": False, "session": Session(kind="id", pattern=r"id(\d+)")}
    assert shaped("0x1029", **none) == shaped("9x5555", **none)
    odd = none | {"masks": (Mask(name="ODD", pattern="[13579]+"),)}
    assert shaped("1357", **odd) != shaped("1356", **odd)
    assert shaped("13", **odd) == shaped("97", **odd)


def test_what_cannot_be_parsed_by_shape_is_left_to_spark() -> None:
    assert not by_shape(make_system(masks=(Mask(name="TWICE", pattern=r"(\d)\1"),)))
    assert not by_shape(make_system(timestamp=Timestamp(value="{time}", format="EEE MMM dd")))
    assert not by_shape(make_system(record=Record(start=r"\d{4}-")))
    assert not by_shape(make_system(header=Header(kind="json", keys={"message": "msg"}), timestamp=None))
    assert all(by_shape(system) for system in load_catalog().values() if system.record is None)


def test_times_far_from_the_night_are_counted() -> None:
    lines = [
        f"{day} 10:00:00 INFO x req-a" for day in ("2026-03-02", "2026-03-03", DS, "2026-03-05", "2026-03-06", "2016-03-04", "9999-01-01")
    ]

    def astray(system: System) -> int:
        table = pa.table({"file": ["a.log"] * 7, "line_no": np.arange(1, 8), "text": pa.array(lines, pa.string())})
        return parse_table(table, system, DS)[1].tally["n_astray"]

    assert astray(SYSTEMS["stamped"]) == 3, "a time that cannot be is no time"
    assert astray(make_system(input=Input(path="x.log", delivered=date(2026, 3, 4)))) == 0, "a delivery may hold many days"
    assert astray(SYSTEMS["whole lines"]) == 0


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_no_line_is_lost_or_out_of_its_session_when_the_clock_changes(day: str, hours: int) -> None:
    """In spring 02:00 to 03:00 is not on the clock, in autumn it is there twice; a log has what the clock showed."""
    first = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    instants = [first + timedelta(minutes=10 * n) for n in range(6 * hours)]
    shown = [at.astimezone(ZoneInfo("Europe/Berlin")) for at in instants]
    system = make_system(timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss", timezone="Europe/Berlin"))
    lines = [f"{at:%Y-%m-%d %H:%M:%S} INFO step req-a" for at in shown]
    table = pa.table({"file": ["a.log"] * len(lines), "line_no": np.arange(1, len(lines) + 1), "text": pa.array(lines, pa.string())})
    events, parsed = parse_table(table, system, day)
    assert (len(events), parsed.tally["n_untimed"], parsed.tally["n_astray"]) == (len(lines), 0, 0)
    assert set(events.column("session_id").to_pylist()) == {"req-a"}
    read = events.column("at").to_pylist()
    # of the hour that is there twice the first or the second is meant, which nobody can tell; all other times are right
    wrong = [at for at, true in zip(read, instants, strict=True) if at != true]
    assert len(wrong) == (6 if hours == 25 else 0)
    assert max(read) - min(read) == timedelta(hours=hours) - timedelta(minutes=10)


def test_spark_finds_the_same_times_far_from_the_night(spark: SparkSession) -> None:
    days = ("2026-03-02", "2026-03-03", DS, "2026-03-05", "2026-03-06", "2016-03-04")
    rows = spark.createDataFrame([(DS, f"{day} 10:00:00") for day in days] + [(DS, None)], "ds string, at string")
    timed = rows.selectExpr("ds", "cast(at as timestamp) as at")
    assert timed.where(far_from_night(SYSTEMS["stamped"])).count() == 3
    assert timed.where(far_from_night(SYSTEMS["whole lines"])).count() == 0
