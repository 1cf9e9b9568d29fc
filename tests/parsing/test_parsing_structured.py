"""Structured records: JSON, logfmt, journald's export, alone and behind a header."""

from __future__ import annotations

import json
import random
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.parsing.events import parse_lines
from nightlog.parsing.structured import export_values, flatten, json_values, logfmt_values
from nightlog.systems.spec import Header, Record, Session, Timestamp
from parsing_help import lines_table, make_system, parsed_lines

VALUES = ["took 5 ms", "0x1f", 'a "quoted" one', "tab\there", "é 漢 7", "", "  ", "a=b c=d", "x\x1fy", "back\\slash", "<NUM>", "fin\\"]
JSON = make_system(
    header=Header(kind="json", keys={"message": ("msg", "$.http.status"), "time": "time", "level": "lvl", "id": "id"}),
    timestamp=Timestamp(value="{time}", format="epoch_ms"),
    session=Session(kind="field", field="id"),
)


def column(values: dict[str, pa.StringArray], key: str) -> list[Any]:
    found: list[Any] = values[key].to_pylist()
    return found


def test_json_values_are_text_and_missing_ones_are_null() -> None:
    records: list[Any] = [
        {"msg": "a", "n": 1, "deep": {"x": ["y", 7]}, "ok": True},
        {"msg": None, "n": 1.5, "deep": {}},
        {"n": 12345678901234567890123, "deep": {"x": "no list"}},
    ]
    texts = pa.array([*(json.dumps(each) for each in records), '["no object"]', "{broken", "", '{"msg": "\\ud800"}', '{"n": NaN}'])
    found = json_values(texts, ["msg", "n", "deep", "$.deep.x[1]", "ok"])
    assert column(found, "msg")[:6] == ["a", None, None, None, None, None]
    assert column(found, "n")[:3] == ["1", "1.5", "12345678901234567890123"]
    assert column(found, "deep")[:2] == ['{"x":["y",7]}', "{}"]
    assert column(found, "$.deep.x[1]") == ["7", *[None] * 7]
    assert column(found, "ok") == ["true", *[None] * 7]


def test_an_event_has_the_fields_of_its_record() -> None:
    texts = [
        json.dumps({"msg": "paid 5", "time": 1772600767123, "lvl": "INFO", "id": " i1 ", "http": {"status": 200}}),
        json.dumps({"msg": "sent", "time": 1772600767124, "id": None}),
        '{"lvl": "INFO"}',
        '{"msg": ',
        "",
        "no record",
    ]
    lines, parsed = parsed_lines(JSON, texts)
    assert lines[0][:5] == (True, "paid <NUM> status=<NUM>", datetime(2026, 3, 4, 5, 6, 7, 123000), "info", ("i1",))
    assert lines[1][:5] == (True, "sent", datetime(2026, 3, 4, 5, 6, 7, 124000), None, ())
    assert lines[2][:4] == (True, "", None, "info"), "an object without these keys is a record all the same"
    assert not any(line.matched for line in lines[3:])
    assert {name: parsed.tally[name] for name in ("n_parsed", "n_blank", "n_unparsed")} == {"n_parsed": 3, "n_blank": 1, "n_unparsed": 2}
    assert [row["text"] for row in parsed.unmatched] == ['{"msg": ', "no record"]


def test_a_separator_in_a_value_does_not_shift_the_others() -> None:
    text = json.dumps({"msg": "a\x1fb", "time": 5, "lvl": "x\x1fy", "id": "s1"})
    flat, matched = flatten(pa.array([text]), JSON)
    assert (flat.to_pylist(), matched.tolist()) == (["\x1fs1\x1fx\ufffdy\x1f5\x1fa\x1fb"], [True])


def test_json_may_stand_behind_a_header() -> None:
    header = Header(pattern=r"(?P<time>\S+ \S+) (?P<message>.*)", kind="json", keys={"message": "msg", "level": "lvl"})
    lines, _ = parsed_lines(make_system(header=header), ['2026-03-04 05:06:07 {"msg": "x of req-a", "lvl": "WARN"}', '{"msg": "x"}'])
    assert lines[0][:5] == (True, "x of req-a", datetime(2026, 3, 4, 5, 6, 7), "warning", ("req-a",))
    assert not lines[1].matched


def quoted(value: str) -> str:
    """A value as logfmt writes it."""
    return json.dumps(value, ensure_ascii=False) if not value or set(value) & set(' "=\\\t') else value


def logfmt(pairs: list[tuple[str, str]]) -> str:
    return " ".join(f"{key}={quoted(value)}" for key, value in pairs)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["msg", "code", "a.b", "m", "xmsg"]), st.sampled_from([*VALUES, "7", "msg=no"])), max_size=5),
        max_size=8,
    )
)
def test_logfmt_values_are_those_that_were_written(records: list[list[tuple[str, str]]]) -> None:
    found = logfmt_values(pa.array([logfmt(pairs) for pairs in records], pa.string()), ["msg", "code", "a.b"])
    for key in ("msg", "code", "a.b"):
        written = [next((value for name, value in pairs if name == key), None) for pairs in records]
        # json.dumps writes a tab as \t, and logfmt's backslash only protects the next character
        assert column(found, key) == [value.replace("\t", "t") if value is not None else None for value in written]


def test_logfmt_with_odd_quotes_is_read_pair_by_pair() -> None:
    expected = {
        'msg="open code=7': ('"open', "7"),
        'say "hi" msg=ok code=7': ("ok", "7"),
        'msg=a"b code=7': ('a"b', "7"),
        "code=7 msg": (None, "7"),
        "msg= code=7": ("", "7"),
        'x="y\\\\" msg="z"': ("z", None),
    }
    found = logfmt_values(pa.array(list(expected)), ["msg", "code"])
    assert dict(zip(expected, zip(column(found, "msg"), column(found, "code"), strict=True), strict=True)) == expected


def test_export_values_may_span_lines() -> None:
    long = b"MESSAGE\n" + (9).to_bytes(8, "little") + b"two\nlines\n"
    texts = ["__CURSOR=1\nMESSAGE=one\nPRIORITY=6", "__CURSOR=2\nXMESSAGE=no\nPRIORITY=", f"__CURSOR=3\n{long.decode()}PRIORITY=3"]
    found = export_values(pa.array(texts), ["MESSAGE", "PRIORITY"])
    assert column(found, "MESSAGE") == ["one", None, "two\nlines"]
    assert column(found, "PRIORITY") == ["6", "", "3"]


def test_export_records_are_events() -> None:
    header = Header(kind="export", keys={"message": "MESSAGE", "level": "PRIORITY"})
    system = make_system(header=header, timestamp=None, record=Record(start="__CURSOR="))
    texts = ["__CURSOR=s=1", "PRIORITY=3", "MESSAGE=lost req-a", "", "__CURSOR=s=2", "PRIORITY=6", "", "__CURSOR=s=3", "MESSAGE=ok req-b"]
    events, parsed = parse_lines(lines_table(texts), system, "2026-03-04")
    assert [(row["line_no"], row["level"], row["session_id"]) for row in events.to_pylist()] == [(1, "error", "req-a"), (8, None, "req-b")]
    tally = {name: parsed.tally[name] for name in ("n_parsed", "n_unparsed", "n_blank", "n_continuation", "n_swallowed")}
    assert tally == {"n_parsed": 2, "n_unparsed": 1, "n_blank": 2, "n_continuation": 4, "n_swallowed": 0}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_records_has_no_influence_on_any_of_them(seed: int) -> None:
    rng = random.Random(seed)
    texts = [json.dumps({"msg": f"{rng.choice(VALUES)} {n}", "time": 1772600000000 + n, "id": f"i{n % 7}"}) for n in range(200)]
    whole = dict(zip(texts, parsed_lines(JSON, texts)[0], strict=True))
    shuffled = rng.sample(texts, len(texts))
    assert dict(zip(shuffled, parsed_lines(JSON, shuffled)[0], strict=True)) == whole
