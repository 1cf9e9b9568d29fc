"""Header split, masks, time and session ids of lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nightlog.parsing.shapes import MAX_MESSAGE
from nightlog.parsing.structured import SEPARATOR
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import DEFAULT_MASKS, Header, Input, Mask, Session, System, Timestamp
from parsing_help import ParsedLine, make_system, parsed_lines

DS = "2026-03-04"
ANY = Session(kind="id", pattern=r"req-\w+")


def parsed(system: System, texts: Sequence[str]) -> list[ParsedLine]:
    """The lines as parsed, in their order."""
    return parsed_lines(system, texts, DS)[0]


def masked(messages: Sequence[str], masks: tuple[Mask, ...] = DEFAULT_MASKS) -> list[str]:
    system = make_system(header=Header(pattern=r"> ?(?P<message>.*)"), timestamp=None, masks=masks, default_masks=False)
    return [line.message for line in parsed(system, [f"> {message}" for message in messages])]


# Header


def test_header_groups_are_split_and_optional_ones_may_be_missing() -> None:
    rows = parsed(
        load_catalog()["openstack"].model_copy(update={"record": None}),
        [
            "INFO nova.compute.manager [req-1 - - -] [instance: 11111111-2222-3333-4444-555555555555] VM Started",
            " WARNING nova.virt [None] message without a request",
            "ERROR nova.api no request at all",
            "lower nova.api no level",
        ],
    )
    assert [(row.matched, row.level, row.message) for row in rows[:3]] == [
        (True, "info", "[instance: <UUID>] VM Started"),
        (True, "warning", "message without a request"),
        (True, "error", "no request at all"),
    ]
    assert not rows[3].matched
    assert [row.session_ids for row in rows[:3]] == [("11111111-2222-3333-4444-555555555555",), (), ()]


def test_lines_are_matched_whole_even_where_they_hold_other_line_ends() -> None:
    plain = make_system(header=Header(pattern=r"(?P<level>[A-Z]+) (?P<message>.*)"), timestamp=None)
    texts = ["INFO one\rtwo", "INFO one\ntwo", "INFO one\u2028two\u0085three", "one\nINFO two", "INFO ends\r", "INFOrm nobody", "INFO "]
    rows = parsed(plain, texts)
    assert [row.matched for row in rows] == [True, True, True, False, True, False, True]
    assert [row.message for row in rows if row.matched] == ["one\rtwo", "one\ntwo", "one\u2028two\u0085three", "ends\r", ""]


def test_more_than_nine_groups_are_told_apart() -> None:
    letters = [f"(?P<g_{i}>x{i})" for i in range(11)]
    system = make_system(
        header=Header(pattern=" ".join(letters) + r" (?P<message>.*)"), timestamp=None, session=Session(kind="field", field="g_10")
    )
    (row,) = parsed(system, [" ".join(f"x{i}" for i in range(11)) + " $1 done"])
    assert (row.session_ids, row.message) == (("x10",), "$<NUM> done")


def test_the_end_of_a_message_may_stand_elsewhere_in_the_line() -> None:
    header = Header(pattern=r"(?P<message>\S+ \S+) (?P<client>\S+)(?: (?P<message_end>\d+))? \d+ms")
    refused = Mask(name="REFUSED", pattern=r"(?<= )4\d\d$", word=True)
    system = make_system(header=header, timestamp=None, masks=(refused,), session=Session(kind="field", field="client"))
    lines, whole = parsed_lines(system, ["GET /cart?id=17 c1 200 5ms", "GET /cart?id=3 c2 404 7ms", "GET /cart?id=3 c3 7ms"])
    assert [line.message for line in lines] == ["GET /cart?id=<NUM> <NUM>", "GET /cart?id=<NUM> REFUSED", "GET /cart?id=<NUM>"]
    numbers = whole.numbers[0].to_pylist()
    assert sorted((row["nth"], row["low"], row["high"]) for row in numbers) == [(0, 3, 3), (0, 3, 3), (0, 17, 17)]


def test_text_that_looks_like_the_internal_separator_is_only_text() -> None:
    system = make_system(header=Header(pattern=r"(?P<level>\S+) (?P<node>\S+) (?P<message>.*)"), timestamp=None, session=ANY)
    by_node = system.model_copy(update={"session": Session(kind="field", field="node")})
    texts = [f"{SEPARATOR}INFO{SEPARATOR}n1{SEPARATOR}forged", f"INFO n1 a{SEPARATOR}b{SEPARATOR}c", f"INFO n{SEPARATOR}1 true"]
    for each in (system, by_node):
        assert [row.matched for row in parsed(each, texts)] == [False, True, True]
    assert [row.session_ids for row in parsed(by_node, texts)] == [(), ("n1",), (f"n{SEPARATOR}1",)]


def test_blank_lines_are_neither_matched_nor_strange_and_huge_messages_are_cut() -> None:
    free = make_system(header=Header(), timestamp=None)
    rows = parsed(free, ["", "   ", "word", "word " * 5000])
    assert [row.matched for row in rows] == [False, False, True, True]
    assert parsed_lines(free, ["", "   ", "word"])[1].tally["n_blank"] == 2
    assert len(rows[3].message) <= MAX_MESSAGE


def test_equal_messages_have_equal_ids_and_others_have_others() -> None:
    rows = parsed(make_system(header=Header(), timestamp=None), ["took 5 ms", "took 77 ms", "took <NUM> ms", "took 5 s"])
    assert rows[0].message_id == rows[1].message_id == rows[2].message_id != rows[3].message_id


def test_colours_of_a_terminal_are_no_part_of_a_line() -> None:
    plain = "2026-03-04 05:06:07 WARN slow req-a"
    coloured = "\x1b[2m2026-03-04 05:06:07\x1b[0m \x1b[1;33mWARN\x1b[0m slow \x1b[31mreq-a\x1b[0m"
    rows = parsed(make_system(), [plain, coloured])
    assert rows[0] == rows[1] and rows[0].level == "warning"


# Masks


def test_masks_are_typed_and_the_longer_kinds_come_first() -> None:
    expected = {
        "id 123e4567-e89b-12d3-a456-426614174000 end": "id <UUID> end",
        "src: /10.250.19.102:50010 dest: 10.0.0.1,": "src: <IP> dest: <IP>,",
        "version 1.2.3 of 1.2.3.4.5": "version <NUM> of <NUM>",
        "mac 00:1B:44:11:3a:b7 and 00-1b-44-11-3a-b7": "mac <MAC> and <MAC>",
        "at 0xDEADbeef, digest 0123abcd0123abcd": "at <HEX>, digest <HEX>",
        "facade deadbeef 12345678": "facade deadbeef <NUM>",
        "open /var/log/app-1.log: and/or /tmp": "open <PATH>: and/or /tmp",
        "took -3.14 s, 7% of +2": "took <NUM> s, <NUM>% of <NUM>",
        "user42 id=7": "user<NUM> id=<NUM>",
        "  blanks at the ends  ": "blanks at the ends",
        "nothing to hide": "nothing to hide",
        "": "",
    }
    assert dict(zip(expected, masked(list(expected)), strict=True)) == expected


def test_own_masks_go_before_the_typed_ones_in_their_order() -> None:
    first, second = Mask(name="BLK", pattern=r"blk_-?\d+"), Mask(name="JOB", pattern=r"(?P<kind>job|blk)_\S+")
    text = ["read blk_-1608999687919862906 of job_10.0.0.1:80"]
    assert masked(text, (first, second, *DEFAULT_MASKS)) == ["read <BLK> of <JOB>"]
    assert masked(text, (second, first, *DEFAULT_MASKS)) == ["read <JOB> of <JOB>"]
    assert masked(text, (first,)) == ["read <BLK> of job_10.0.0.1:80"]


PIECES = (
    "00:1b:44:11:3a:b7",
    "10.0.0.1",
    ":8080",
    "/var/log/x.log",
    "-12.5",
    "0x1f",
    "deadbeef01",
    "123e4567-e89b-12d3-a456-426614174000",
    "/",
    "-",
    ".",
    ",",
    "=",
    "[",
    " ",
    "<NUM>",
    "word",
    "_",
    "é",
    "漢",
)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=300, max_size=400))
def test_no_digit_survives_and_masking_again_changes_nothing(texts: list[str]) -> None:
    once = masked(texts)
    assert not [text for text in once if any(letter in "0123456789" for letter in text)]
    assert masked(once) == once


# Time


def stamped(header: str, value: str, form: str, zone: str = "UTC") -> System:
    return make_system(
        header=Header(pattern=header + r" (?P<message>.*)"), timestamp=Timestamp(value=value, format=form, timezone=zone), session=ANY
    )


PATTERN = r"(?P<date>\S+) (?P<time>\S+)"
SYSLOG = r"(?P<stamp>\w{3} +\d+ [\d:]+)"


@pytest.mark.parametrize(
    ("system", "times"),
    [
        (
            stamped(PATTERN, "{date} {time}", "yyyy-MM-dd HH:mm:ss"),
            {
                "2026-03-04 05:06:07 x": datetime(2026, 3, 4, 5, 6, 7),
                "2026-02-30 05:06:07 x": None,
                "2026-03-04 25:00:00 x": None,
                "2026-3-4 5:6:7 x": datetime(2026, 3, 4, 5, 6, 7),
                "9999-03-04 05:06:07 x": None,
                "- - x": None,
            },
        ),
        (
            stamped(PATTERN, "{date} {time}", "yyMMdd HHmmss", "Europe/Berlin"),
            {"260704 120000 summer": datetime(2026, 7, 4, 10), "260104 003000 winter": datetime(2026, 1, 3, 23, 30)},
        ),
        (
            stamped(r"(?P<stamp>\S+)", "{stamp}", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX"),
            {"2026-03-04T05:06:07.250+02:00 x": datetime(2026, 3, 4, 3, 6, 7, 250_000), "2026-03-04T05:06:07 x": None},
        ),
        (
            stamped(r"(?P<epoch>\S+)", "{epoch}", "epoch"),
            {
                "1772600767 x": datetime(2026, 3, 4, 5, 6, 7),
                "1772600767.5 x": datetime(2026, 3, 4, 5, 6, 7, 500_000),
                "0 x": datetime(1970, 1, 1),
                "soon x": None,
                "nan x": None,
                "1772600767123 milliseconds": None,
                "99999999999999999999 x": None,
            },
        ),
        (
            stamped(SYSLOG, "{ds_year} {stamp}", "yyyy MMM d HH:mm:ss"),
            {
                "Mar  4 05:06:07 x": datetime(2026, 3, 4, 5, 6, 7),
                "Mar 14 05:06:07 x": datetime(2025, 3, 14, 5, 6, 7),
                "Foo 4 05:06:07 x": None,
            },
        ),
        (make_system(header=Header(), timestamp=None), {"anything": datetime(2026, 3, 4)}),
    ],
    ids=["date and time", "time zone", "offset", "epoch", "year of the night", "no stamp"],
)
def test_time_is_utc_and_null_where_it_cannot_be_read(system: System, times: dict[str, Any]) -> None:
    rows = parsed(system, list(times))
    assert all(row.matched for row in rows)
    assert {text: row.at for text, row in zip(times, rows, strict=True)} == times


@pytest.mark.parametrize(
    ("ds", "stamp", "year"),
    [
        ("2027-01-01", "Dec 31 23:59:00", 2026),
        ("2027-01-01", "Jan  1 00:00:05", 2027),
        ("2026-12-31", "Jan  1 00:00:05", 2027),
        ("2026-12-31", "Jan  2 00:00:05", 2026),
        ("2026-12-30", "Jan  1 00:00:05", 2026),
    ],
)
def test_a_stamp_without_year_is_of_the_night_or_before_it(ds: str, stamp: str, year: int) -> None:
    system = stamped(SYSLOG, "{ds_year} {stamp}", "yyyy MMM d HH:mm:ss")
    (line,), _ = parsed_lines(system, [f"{stamp} x"], ds)
    assert line.at is not None and line.at.year == year


def test_a_delivery_of_a_whole_year_begins_in_january_of_it() -> None:
    system = stamped(SYSLOG, "{ds_year} {stamp}", "yyyy MMM d HH:mm:ss")
    system = system.model_copy(update={"input": Input(path="messages", delivered="2026-12-31")})
    lines, _ = parsed_lines(system, ["Jan  1 00:00:05 x", "Dec 31 23:59:00 x"], "2026-12-31")
    assert [line.at and line.at.year for line in lines] == [2026, 2026]


# Sessions


def ids_of(session: Session, texts: list[str], **more: Any) -> list[list[str]]:
    return [list(row.session_ids) for row in parsed(make_system(session=session, **more), texts)]


STAMP = "2026-03-04 05:06:07 INFO "


def test_a_line_belongs_to_each_session_that_it_names_once() -> None:
    texts = [STAMP + text for text in ("req-a then req-b then req-a", "req-c", "none", "REQ-d")]
    assert ids_of(Session(kind="id", pattern=r"req-\w+"), texts) == [["req-a", "req-b"], ["req-c"], [], []]


def test_a_group_of_the_pattern_is_the_id() -> None:
    texts = [STAMP + text for text in ("(id=a1) (id=b2)", "(id=)", "id=c3", "(job=d4)")]
    session = Session(kind="id", pattern=r"\((?:id|(?P<other>job))=(\w+)\)")
    assert ids_of(Session(kind="id", pattern=r"\(id=(\w*)\)"), texts) == [["a1", "b2"], [], [], []]
    assert ids_of(session, texts) == [[], [], [], ["job"]]


def test_a_field_is_the_session_without_its_blanks() -> None:
    header = Header(pattern=r"\[(?P<node>[^\]]*)\] (?P<message>.*)")
    found = ids_of(Session(kind="field", field="node"), ["[n1] a", "[ n1 ] b", "[] c", "[n 2] d"], header=header, timestamp=None)
    assert found == [["n1"], ["n1"], [], ["n 2"]]


def test_a_time_window_is_the_session_and_lines_without_time_have_none() -> None:
    times = ["00:00:00", "00:29:59", "00:30:00", "23:59:59", "99:99:99"]
    found = ids_of(Session(kind="window", window_minutes=30), [f"2026-03-04 {time} INFO x" for time in times])
    assert found == [["2026-03-04T00:00Z"], ["2026-03-04T00:00Z"], ["2026-03-04T00:30Z"], ["2026-03-04T23:30Z"], []]
