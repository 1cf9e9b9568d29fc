"""Parsing by shape gives what the expressions give for every line alone."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from nightlog.parsing import line_shapes
from nightlog.parsing.digits import change_runs, runs_of
from nightlog.parsing.events import parse_table
from nightlog.parsing.line_shapes import EVERY, FULLY, ShapeCache, shapes_of
from nightlog.parsing.shapes import LineParser, Text
from nightlog.systems.levels import normal_level
from nightlog.systems.spec import Header, Input, Mask, Session, System, Timestamp
from parsing_help import lines_table, make_system

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


def one_by_one(system: System, lines: list[str]) -> list[tuple[Any, ...]]:
    """Each line parsed for itself by the same expressions."""
    parser = LineParser(system)
    found = []
    for number, text in enumerate(lines, 1):
        line = parser.parse(text)
        if line.matched:
            raw = text.encode()
            ids = dict.fromkeys(raw[first:last].decode() for first, last in line.ids) or {None: None}
            found += [(number, normal_level(line.level), session, line.message) for session in ids]
    return sorted(found, key=str)


def by_shapes(system: System, lines: list[str]) -> list[tuple[Any, ...]]:
    table = pa.table({"file": ["a.log"] * len(lines), "line_no": np.arange(1, len(lines) + 1), "text": pa.array(lines, pa.string())})
    events, parsed, _, _ = parse_table(table, system, DS)
    assert parsed.tally["n_events"] == len(events)
    texts = {number: text for number, (text, _) in parsed.messages.items()}
    found = []
    for row in events.to_pylist():
        at = row["at"] and row["at"].replace(tzinfo=None)
        found.append((row["line_no"], at, row["level"], row["session_id"], row["message_id"], texts[row["message_id"]]))
    return sorted(found, key=str)


@pytest.mark.parametrize("name", SYSTEMS)
def test_lines_parsed_by_shape_are_what_they_are_one_by_one(name: str) -> None:
    system, lines = SYSTEMS[name], lines_of(7, 600)
    expected = one_by_one(system, lines)
    found = sorted(((number, level, session, text) for number, _, level, session, _, text in by_shapes(system, lines)), key=str)
    if system.session.kind == "window":
        found, expected = ([(*row[:2], *row[3:]) for row in rows] for rows in (found, expected))
    assert len(expected) > 300
    assert found == expected


@pytest.mark.parametrize("together", [1, 100, 5000])
@pytest.mark.parametrize("name", ["own masks", "masks that leave digits"])
def test_shapes_do_not_depend_on_how_many_bytes_are_searched_together(name: str, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    system, lines = SYSTEMS[name], lines_of(9, 300)
    expected = by_shapes(system, lines)
    monkeypatch.setattr(line_shapes, "TOGETHER", together)
    assert by_shapes(system, lines) == expected
    found = shapes_of(Text(pa.array(lines)), LineParser(system), ShapeCache())
    assert len(set(found.texts)) == len(found.texts)


def test_times_do_not_depend_on_the_lines_beside_them() -> None:
    system, lines = SYSTEMS["stamped"], lines_of(7, 200)
    alone = {number: by_shapes(system, [text])[0][1] for number, text in enumerate(lines, 1) if by_shapes(system, [text])}
    assert {row[0]: row[1] for row in by_shapes(system, lines)} == alone


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
def test_numbers_read_by_shape_are_those_of_the_lines_alone(name: str) -> None:
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
    expected: dict[tuple[int, int], list[float]] = {}
    for text in lines:
        for table in parse_table(lines_table([text]), system, DS)[1].numbers:
            for row in table.to_pylist():
                expected.setdefault((row["message_id"], row["nth"]), []).append(row["low"])
    (found,) = parse_table(lines_table(lines), system, DS)[1].numbers
    assert len(expected) > 30
    assert {(row["message_id"], row["nth"]): (row["n"], row["low"], row["high"]) for row in found.to_pylist()} == {
        key: (len(values), min(values), max(values)) for key, values in expected.items()
    }


def test_numbers_are_the_values_in_the_text() -> None:
    lines = [
        f"2026-03-04 10:00:00 INFO sent {value} bytes" for value in ("7", "-12.5", "000123", "99999999999", "1.2.3", "12345678901234567")
    ]
    (found,) = parse_table(lines_table(lines), SYSTEMS["stamped"], DS)[1].numbers
    (row,) = found.to_pylist()
    assert (row["n"], row["low"], row["low_line"], row["high"], row["high_line"]) == (4, -12.5, 2, 99999999999.0, 4)


@pytest.mark.parametrize("lines", [["7"], ["12", "345 6"], ["123456789 1", "0"]])
def test_so_are_numbers_at_the_start_of_all_lines(lines: list[str]) -> None:
    (found,) = parse_table(lines_table(lines), SYSTEMS["whole lines"], DS)[1].numbers
    assert (
        sorted((row["low"], row["high"]) for row in found.to_pylist())
        == {
            "7": [(7, 7)],
            "12": [(6, 6), (12, 12), (345, 345)],
            "123456789 1": [(0, 0), (1, 1), (123456789, 123456789)],
        }[lines[0]]
    )


def test_where_each_line_has_a_shape_of_its_own_only_some_are_looked_at_for_numbers() -> None:
    letters = ["".join(chr(97 + n // 26**at % 26) for at in range(4)) for n in range(FULLY + 10 * EVERY)]
    lines = [f"2026-03-04 10:00:00 INFO sent 5 to {name} req-{name}" for name in letters]
    table = pa.table({"file": ["a.log"] * len(lines), "line_no": np.arange(1, len(lines) + 1), "text": pa.array(lines, pa.string())})
    (found,) = parse_table(table, make_system(), DS)[1].numbers
    assert sum(found.column("n").to_pylist()) == FULLY + 10


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


TIMES = {
    ("yyyy-MM-dd HH:mm:ss", "UTC"): {
        "2026-03-04 05:06:07": at("2026-03-04 05:06:07"),
        "2026-02-30 05:06:07": None,
        "2026-3-4 5:6:7": at("2026-03-04 05:06:07"),
        "2026-03-04  5:06:07": at("2026-03-04 05:06:07"),
        "9999-03-04 05:06:07": None,
        "- -": None,
        "2024-02-29 00:00:00": at("2024-02-29 00:00:00"),
    },
    ("yyMMdd HHmmss", "UTC"): {"081109 203615": at("2008-11-09 20:36:15"), "260704 240000": None, "26074 120000": None},
    ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "UTC"): {
        "2026-03-04T05:06:07.250+02:00": at("2026-03-04 03:06:07.250"),
        "2026-03-04T05:06:07.25Z": at("2026-03-04 05:06:07.250"),
        "2026-03-04T05:06:07.123456789+0200": at("2026-03-04 03:06:07.123456"),
        "2026-03-04T05:06:07": None,
        "2026-03-04T05:06:07.1-11:30": at("2026-03-04 16:36:07.100"),
    },
    ("yyyy-MM-dd HH:mm:ss,SSS", "Europe/Berlin"): {
        "1970-01-01 00:30:00,000": None,
        "1970-01-01 01:30:00,000": at("1970-01-01 00:30:00"),
        "2026-03-29 03:30:00,999": at("2026-03-29 01:30:00.999"),
        "2026-10-25 02:30:00,001": at("2026-10-25 00:30:00.001"),
        "2026-07-04 05:06:07,1": at("2026-07-04 03:06:07.100"),
    },
    ("yyyy MMM d HH:mm:ss", "UTC"): {
        "2026 Mar 4 05:06:07": at("2026-03-04 05:06:07"),
        "2026 Mar  4 05:06:07": at("2026-03-04 05:06:07"),
        "2026 mar 14 05:06:07": at("2026-03-14 05:06:07"),
        "2026 March 04 05:06:07": at("2026-03-04 05:06:07"),
        "2026 Foo 4 05:06:07": None,
        "2026 Sept 4 05:06:07": at("2026-09-04 05:06:07"),
    },
    ("EEE MMM dd HH:mm:ss yyyy", "UTC"): {"Wed Mar  4 05:06:07 2026": at("2026-03-04 05:06:07")},
    ("MMM dd yyyy HH:mm:ss[.SSS] z", "UTC"): {
        "Nov  9 2025 05:06:07 PDT": at("2025-11-09 12:06:07"),
        "Nov 19 2025 05:06:07.5 CEST": at("2025-11-19 03:06:07.500"),
        "Nov 19 2025 05:06:07 XYZ": None,
    },
    ("dd/MMM/yyyy:HH:mm:ss Z", "Europe/Berlin"): {
        "04/Mar/2026:05:06:07 +0100": at("2026-03-04 04:06:07"),
        "4/Mar/2026:05:06:07 -0930": at("2026-03-04 14:36:07"),
        "04/Mar/2026:05:06:07": None,
    },
    ("M/d/yyyy h:mm:ss a", "UTC"): {
        "3/4/2026 5:06:07 PM": at("2026-03-04 17:06:07"),
        "12/14/2026 12:00:00 am": at("2026-12-14 00:00:00"),
        "3/4/2026 13:00:00 PM": None,
    },
    ("yyyy/MM/dd HH:mm:ss", "America/New_York"): {"1969/12/31 20:00:00": at("1970-01-01 01:00:00"), "1969/12/31 18:00:00": None},
    ("HH:mm", "UTC"): {"05:06": at("1970-01-01 05:06:00"), "24:00": None, "5:06": at("1970-01-01 05:06:00")},
    ("yyyy-MM-dd-HH.mm.ss.SSSSSS", "UTC"): {
        "2005-06-03-15.42.50.363779": at("2005-06-03 15:42:50.363779"),
        "2005-06-31-15.42.50.363779": None,
    },
    ("'20'yy-MM-dd'T1'H", "UTC"): {"2026-03-04T15": at("2026-03-04 05:00:00"), "1926-03-04T15": None, "2026-03-04T25": None},
    ("epoch_ms", "UTC"): {"1772600767123": at("2026-03-04 05:06:07.123"), "-5": None, "x": None},
    ("epoch_us", "UTC"): {"1772600767123456": at("2026-03-04 05:06:07.123456")},
    ("epoch", "Europe/Berlin"): {
        "1772600767": at("2026-03-04 05:06:07"),
        "1772600767.5": at("2026-03-04 05:06:07.500"),
        **dict.fromkeys(["soon", "nan", "1772600767123", "99999999999999999999", "-1", "1_0", ""]),
        "1e9": at("2001-09-09 01:46:40"),
    },
}


@pytest.mark.parametrize("form", TIMES)
def test_time_stamps_are_read_by_their_format(form: tuple[str, str]) -> None:
    header = Header(pattern=r"\[(?P<stamp>[^\]]*)\] (?P<message>.*)")
    system = make_system(header=header, timestamp=Timestamp(value="{stamp}", format=form[0], timezone=form[1]))
    rows = by_shapes(system, [f"[{stamp}] x" for stamp in TIMES[form]])
    assert {stamp: row[1] for stamp, row in zip(TIMES[form], sorted(rows), strict=True)} == TIMES[form]


@pytest.mark.parametrize("form", ["yyyy-QQ", "yyyy yyyy", "{yyyy}", "B"])
def test_a_format_with_unknown_letters_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"unknown letters|once|reserved"):
        Timestamp(value="{time}", format=form)


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


@pytest.mark.parametrize("seed", range(5))
def test_bytes_are_changed_as_their_table_has_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.arange(256, dtype=np.uint8)
    table[48:58] = rng.integers(48, 48 + 2 * seed + 1, 10)
    data, found = rng.integers(0, 256, 1000).astype(np.uint8), np.zeros(1000, dtype=np.uint8)
    change_runs(data, runs_of(table), found)
    assert found.tolist() == table[data].tolist()


def test_lines_with_letters_outside_of_ascii_have_shapes() -> None:
    lines = [f"2026-03-04 10:00:00 INFO grün {n} für req-ä{n} 漢字" for n in range(1000, 2000)]
    found = shapes_of(Text(pa.array(lines)), LineParser(make_system()), ShapeCache())
    assert len(np.unique(found.of_line)) == 1
    assert found.shapes[found.of_line[0]].message == "grün <NUM> für req-ä<NUM> 漢字"


def test_an_expression_that_refers_back_tells_all_digits_apart() -> None:
    system = make_system(masks=(Mask(name="TWICE", pattern=r"(\d)\1"),))
    lines = [f"2026-03-04 10:00:00 INFO code {code} req-a" for code in ("11", "12", "22", "21")]
    assert [row[5] for row in sorted(by_shapes(system, lines))] == [
        f"code {each} req-a" for each in ("<TWICE>", "<NUM>", "<TWICE>", "<NUM>")
    ]


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
    events, parsed, _, _ = parse_table(table, system, day)
    assert (len(events), parsed.tally["n_untimed"], parsed.tally["n_astray"]) == (len(lines), 0, 0)
    assert set(events.column("session_id").to_pylist()) == {"req-a"}
    read = events.column("at").to_pylist()
    # of the hour that is there twice the first or the second is meant, which nobody can tell; all other times are right
    wrong = [at for at, true in zip(read, instants, strict=True) if at != true]
    assert len(wrong) == (6 if hours == 25 else 0)
    assert max(read) - min(read) == timedelta(hours=hours) - timedelta(minutes=10)
