"""JSON records read by shape give what they give when each of them is decoded."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.parsing import line_shapes
from nightlog.parsing.events import parser_of, shapes_of
from nightlog.parsing.shapes import Text
from nightlog.systems.spec import Header, Mask, Session, Timestamp
from parsing_help import by_shape_and_flattened, lines_table, make_system

DS = "2026-03-04"
KEYS = {"message": ("msg", "$.http.status", "k8s"), "time": "time", "level": "lvl", "id": "$.ids[1]"}
SYSTEMS = {
    "paths": make_system(
        header=Header(kind="json", keys=KEYS),
        timestamp=Timestamp(value="{time}", format="epoch_ms"),
        session=Session(kind="field", field="id"),
    ),
    "an id in the message": make_system(
        header=Header(kind="json", keys={"message": "msg", "time": "time"}),
        timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"),
        session=Session(kind="id", pattern=r"req-\w+(?: k8s=\d)?"),
    ),
    "digits are distinguished": make_system(
        header=Header(kind="json", keys={"message": "msg"}), timestamp=None, masks=(Mask(name="LOW", pattern="[0-4]+"),)
    ),
}
WORDS = [
    *(
        "took 5 ms",
        "req-a1 of req-b2",
        'a "quoted" one',
        "tab\t7",
        "é 漢 7",
        "",
        "  ",
        "a\x1fb",
        "back\\slash",
        "<NUM>",
        "\ud800",
        "0x1f 1x0",
    ),
    *("123e4567-e89b-12d3-a456-426614174000", "deadbeef01", "\ufdd0", "{}", "2026-03-04 05:06:07", "1772600767123", "k8s=5"),
]
VALUES = [
    *("0", "-0", "7", "-7", "12", "01", "-01", "1.5", "10.50", "1e5", "1E+2", "1772600767123", "12345678901234567890", "1234567890" * 3),
    *("true", "false", "null", "NaN", "[]", "{}", '["x", "s7"]', '["x", 7, "y"]', '{"status": 200}', '{"status": "ok 7"}', "007"),
    *(
        '{"status": 200, "status": 3}',
        '"\\u0031"',
        '"\\ud83d\\ude00"',
        '"a\\/b"',
        '"1\\n2"',
        '[[["deep 1"]]]',
        '{"k8s": {"k8s": 1}}',
        '"\t"',
    ),
]
NAMES = ["msg", "time", "lvl", "http", "ids", "k8s", "k1s", "other", "x1", "x2", "m\\u0073g"]
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([*VALUES, *map(json.dumps, WORDS)])), max_size=6)


def record(pairs: list[tuple[str, str]], space: str) -> str:
    return "{" + ",".join(f'{space}"{key}":{space}{value}' for key, value in pairs) + "}"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SYSTEMS)),
    st.lists(st.tuples(PAIRS, st.sampled_from(["", " ", "\n"]), st.sampled_from(["", "", "", " ", "x", "}"])), max_size=25),
)
def test_records_by_shape_are_what_they_are_one_by_one(name: str, drawn: list[tuple[list[tuple[str, str]], str, str]]) -> None:
    lines = [record(pairs, space) + end for pairs, space, end in drawn] + [
        "",
        "  ",
        "no record 7",
        "[1]",
        "{}",
        '{"msg": ' + "[" * 3000 + "]" * 3000 + "}",
    ]
    found, expected = by_shape_and_flattened(lines, SYSTEMS[name])
    assert found == expected


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("seed", range(3))
def test_so_are_records_with_ids_in_them(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in {"SAMPLE": 64, "LEAST_LINES": 2, "HELPFUL": 1.0}.items():
        monkeypatch.setattr(line_shapes, constant, value)
    rng = random.Random(seed)
    lines = []
    for n in range(300):
        name_of_it = f"{rng.getrandbits(128):032x}"
        uuid = f"{name_of_it[:8]}-{name_of_it[8:12]}-{name_of_it[12:16]}-{name_of_it[16:20]}-{name_of_it[20:]}"
        fields = {
            "msg": f"job {uuid} of req-{name_of_it[:7]}",
            "time": 1772600000000 + n,
            "trace": rng.choice([uuid, name_of_it, f"\\{name_of_it}"]),
        }
        fields |= {
            "http": {"status": rng.choice([200, 404, "a1b2c3"])},
            "ids": ["x", rng.choice(["s1", uuid])],
            rng.choice([uuid, "other"]): 1,
        }
        lines.append(json.dumps(fields))
    found, expected = by_shape_and_flattened(lines, SYSTEMS[name])
    assert found == expected


@pytest.mark.parametrize(
    ("line", "has_shape"),
    [
        ('{"msg": "a 12", "time": 1772600767123, "lvl": "INFO", "http": {"status": 200, "x": [1.5, "\\n"]}, "ids": [0, "s1"]}', True),
        ('{"other": 1}', True),
        ('{"msg": "a\\n12"}', False),
        ('{"msg": 1.50}', False),
        ('{"msg": "x", "n": 012}', False),
        ('{"msg": "x", "k8s": 1}', False),
        ('{"msg": "x", "http": 5, "http": 6}', False),
    ],
)
def test_only_records_whose_values_stand_as_they_are_have_a_shape(line: str, has_shape: bool) -> None:
    parser, cache, _ = parser_of(SYSTEMS["paths"].model_dump_json())
    found = shapes_of(Text(lines_table([line]).column("text")), parser, cache)
    assert (found.of_line[0] >= 0) == has_shape
