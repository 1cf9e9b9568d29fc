"""Logfmt records read by shape give what they give when each of them is flattened."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.parsing import line_shapes
from nightlog.parsing.events import parser_of, shapes_of
from nightlog.parsing.shapes import Text
from nightlog.systems.spec import Header, Mask, Session, Timestamp
from parsing_help import by_shape_and_flattened, lines_table, make_system

SYSTEMS = {
    "fields": make_system(
        header=Header(kind="logfmt", keys={"message": ("msg", "status", "k8s"), "time": "time", "level": "lvl", "id": "id"}),
        timestamp=Timestamp(value="{time}", format="epoch_ms"),
        session=Session(kind="field", field="id"),
    ),
    "an id in the message": make_system(
        header=Header(kind="logfmt", keys={"message": "msg", "time": "time"}),
        timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"),
        session=Session(kind="id", pattern=r"req-\w+(?: k8s=\d)?"),
    ),
    "digits are distinguished": make_system(
        header=Header(kind="logfmt", keys={"message": "msg"}), timestamp=None, masks=(Mask(name="LOW", pattern="[0-4]+"),)
    ),
    "a key like an id": make_system(header=Header(kind="logfmt", keys={"message": "msg", "level": "abcdef1"}), timestamp=None),
    "a key of two words": make_system(header=Header(kind="logfmt", keys={"message": "msg x", "level": "lvl"}), timestamp=None),
}
NAMES = ["msg", "time", "lvl", "status", "id", "k8s", "k1s", "x1", "x2", "xmsg", "mé", "", "msg=msg", "\\msg", '"msg', "m\u00a0sg"]
VALUES = [
    *("7", "-7", "007", "1772600767123", "2026-03-04", '"2026-03-04 05:06:07"', "took", '"took 5 ms"', '""', "", "req-a1", "é7", '"漢 7"'),
    *('"req-a1 of req-b2"', '"a \\"quoted\\" one"', '"back\\\\"', '"fin\\"', '"open', 'a"b', '"a"b', '"a""b"', 'x="y z"', "a=b"),
    *('"msg=no 5"', "back\\slash", '\\"', '"msg=5\\" id=7"', '"two\nlines 5"', "5\r", '"a\x1fb"', "a\x1fb", "x\u2028y"),
    *("<NUM>", "0x1f", "deadbeef01", "123e4567-e89b-12d3-a456-426614174000"),
]
PAIR = st.tuples(st.sampled_from(NAMES), st.sampled_from(["=", "=", "=", "=", "", "==", " = "]), st.sampled_from(VALUES)).map("".join)
GAP = st.sampled_from([" ", " ", " ", "  ", "\t", "\n", "\x0b", ""])
RECORD = st.lists(st.tuples(PAIR, GAP), max_size=6).map(lambda drawn: "".join(pair + gap for pair, gap in drawn))
ALONE = ["", "  ", "no record 7", "msg", "msg=", 'msg="', "=", '"', "msg=5 msg=6", "id=1 time=2", "\\", '\\" msg=7']


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SYSTEMS)), st.lists(RECORD, max_size=25))
def test_records_by_shape_are_what_they_are_one_by_one(name: str, records: list[str]) -> None:
    found, expected = by_shape_and_flattened(records + ALONE, SYSTEMS[name])
    assert found == expected


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("seed", range(3))
def test_so_are_records_with_ids_in_them(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in {"SAMPLE": 64, "LEAST_LINES": 2, "HELPFUL": 1.0}.items():
        monkeypatch.setattr(line_shapes, constant, value)
    rng = random.Random(seed)
    lines = []
    for n in range(300):
        id_of_it = f"{rng.getrandbits(128):032x}"
        uuid = f"{id_of_it[:8]}-{id_of_it[8:12]}-{id_of_it[12:16]}-{id_of_it[16:20]}-{id_of_it[20:]}"
        pairs = [f'msg="job {uuid} of req-{id_of_it[:7]}"', f"time={1772600000000 + n}", f"status={rng.choice(['200', 'a1b2c3'])}"]
        pairs += [f"trace={rng.choice([uuid, id_of_it, chr(92) + id_of_it])}", f"id={rng.choice(['s1', uuid])}"]
        pairs += [rng.choice([uuid, "other", f"{uuid}=1", f'note="{chr(92)}{id_of_it}"'])]
        lines.append(" ".join(rng.sample(pairs, len(pairs))))
    found, expected = by_shape_and_flattened(lines, SYSTEMS[name])
    assert found == expected


def test_keys_that_look_like_ids_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in {"SAMPLE": 64, "HELPFUL": 1.0}.items():
        monkeypatch.setattr(line_shapes, constant, value)
    lines = [f'{"abcdef1" if n % 3 == 1 else "fedcba2"}=WARN trace=req{n}a msg="took 5 ms"' for n in range(300)]
    found, expected = by_shape_and_flattened(lines, SYSTEMS["a key like an id"])
    assert found == expected
    assert {row["level"] for row in found[0]} == {None, "warning"}


@pytest.mark.parametrize(
    ("line", "has_shape"),
    [
        ('time=5 lvl=INFO msg="a 12" status=200 id=s1', True),
        ('msg=12 alone other="a\\"b 7"', True),
        ("msg= other=7", True),
        ('msg="漢 7"  id=é\n', True),
        ('msg="a\\"12"', False),
        ('msg=a"12"', False),
        ('msg="12"x', False),
        ('msg="12', False),
        ("msg=back\\slash", False),
        ("msg=x k1s=5", False),
        ("msg=a\x1fb", False),
        ("other=1", False),
        ("", False),
    ],
)
def test_only_records_whose_values_stand_as_they_are_have_a_shape(line: str, has_shape: bool) -> None:
    parser, cache, _ = parser_of(SYSTEMS["fields"].model_dump_json())
    found = shapes_of(Text(lines_table([line]).column("text")), parser, cache)
    assert (found.of_line[0] >= 0) == has_shape
