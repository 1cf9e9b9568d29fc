"""Lines with ids of letters and digits are parsed by shape, and give what each of them gives alone."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from nightlog.parsing import line_shapes
from nightlog.parsing.events import parse_table
from nightlog.parsing.ids import MARK_BYTES, find_ids
from nightlog.parsing.line_shapes import LEAST_LINES, SAMPLE, ShapeCache, shapes_of
from nightlog.parsing.shapes import LineParser, Text
from nightlog.parsing.visibility import MARKS
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import Header, Mask, Session, System
from parsing_help import lines_table, make_system

DS = "2026-03-04"
HEX = "0123456789abcdef"
BASE36 = HEX + "ghijklmnopqrstuvwxyz"


def random_text(rng: random.Random, characters: str, n: int) -> str:
    return "".join(rng.choices(characters, k=n))


IDS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128))),
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128))).upper(),
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128))) + rng.choice(["", "a", "-", "-1", "_"]),
    lambda rng: random_text(rng, HEX, rng.choice([6, 7, 8, 40])),
    lambda rng: random_text(rng, HEX.upper(), 8),
    lambda rng: "0x" + random_text(rng, HEX, 8),
    lambda rng: random_text(rng, BASE36, 10),
    lambda rng: random_text(rng, BASE36 + BASE36.upper(), 9),
    lambda rng: ":".join(random_text(rng, HEX, 2) for _ in range(6)),
    lambda rng: rng.choice(
        ["v1beta1", "x86", "ip4addr", "sha256", "10.0.0.1", "0x1f", "8h30m15s", "1e1000", "a1b2c3.host:80", "é12ab34", "a1b2c3é"]
    ),
    lambda rng: f"/var/{random_text(rng, BASE36, 8)}/x",
    lambda rng: f"user{rng.randint(0, 3)}a: Mar 4 05:06:07",
    lambda rng: rng.choice(["", "word", "\ufdd0", "took 5 ms", "java:12", "漢字"]),
)
SYSTEMS = {
    "default masks": make_system(),
    "no masks": make_system(default_masks=False),
    "masks of version 1": make_system(templates={"version": 1}),
    "a mask that sees some letters": make_system(masks=(Mask(name="CAFE", pattern="(?i)cafe|[13579]+b"),)),
    "a mask that looks at neighbours": make_system(masks=(Mask(name="A", pattern=r"(?<=[0-9])a(?!\d)"),)),
    "an id of its own": make_system(masks=(Mask(name="REQ", pattern=r"req-\w+"),), session=Session(kind="id", pattern=r"req-(\w+)")),
    "an id of hex digits": make_system(session=Session(kind="id", pattern=r"[0-9a-f]{6,}")),
    "an id in the header": make_system(
        header=Header(pattern=r"(?P<time>\S+ \S+) (?P<level>\w+) (?P<id>\S*) ?(?P<message>.*)"), session=Session(kind="field", field="id")
    ),
    "a header that sees digits": make_system(header=Header(pattern=r"(?P<time>\S+ \S+) (?P<level>\w+) (?P<n>\d*)(?P<message>.*)")),
    "a level of digits": make_system(
        header=Header(pattern=r"(?P<date>\S+) (?P<time>\S+) (?P<x>\w+) (?P<level>\S*) ?(?P<message>.*)"), timestamp=None
    ),
}


@pytest.fixture
def marked_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are marked in few lines already."""
    for name, value in {"SAMPLE": 64, "LEAST_LINES": 2, "HELPFUL": 1.0}.items():
        monkeypatch.setattr(line_shapes, name, value)


def lines_of(seed: int, n: int = 200) -> list[str]:
    rng = random.Random(seed)
    kinds = rng.sample(IDS, 4)
    words = ["start", "end of", "req-", "cafe", "for user ", "="]
    bodies = [[rng.choice([*words, *kinds]) for _ in range(rng.randint(1, 5))] for _ in range(5)]
    found = []
    for _ in range(n):
        body = rng.choice(bodies)
        glue = rng.choice([" ", " ", " ", ""])
        found.append("2026-03-04 10:00:00 INFO " + glue.join(each if isinstance(each, str) else each(rng) for each in body))
    return found


def outcome(
    lines: list[str], system: System
) -> tuple[list[dict[str, Any]], dict[str, int], dict[int, tuple[str, str]], list[Any], list[Any]]:
    """The result of parsing lines: events, account, messages, numbers, totals."""
    events, parsed, _, _ = parse_table(lines_table(lines), system, DS)
    numbers = [row for table in parsed.numbers for row in table.to_pylist()]
    return events.to_pylist(), parsed.tally, parsed.messages, numbers, [row for table in parsed.totals for row in table.to_pylist()]


def alone(lines: list[str], system: System) -> list[dict[str, Any]]:
    """Return the events of each line in a table of its own."""
    found = []
    for number, line in enumerate(lines, 1):
        found += [row | {"line_no": number} for row in parse_table(lines_table([line]), system, DS)[0].to_pylist()]
    return found


@pytest.mark.usefixtures("marked_early")
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("seed", range(3))
def test_lines_with_ids_give_what_each_gives_alone(name: str, seed: int) -> None:
    lines = lines_of(seed)
    assert outcome(lines, SYSTEMS[name])[0] == alone(lines, SYSTEMS[name])


@pytest.mark.usefixtures("marked_early")
@pytest.mark.parametrize("name", sorted(load_catalog()))
def test_lines_of_shipped_systems_with_ids_give_what_they_give_without_marks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system, rng = load_catalog()[name], random.Random(5)
    lines = [
        line.replace("2026-03-04 10:00:00 INFO ", rng.choice(["", "081109 203615 148 INFO dfs.Node: ", "Mar  4 05:06:07 host x[1]: "]))
        for line in lines_of(11)
    ]
    found = outcome(lines, system)
    monkeypatch.setattr(line_shapes, "SAMPLE", len(lines) + 1)
    assert found == outcome(lines, system)


@pytest.mark.parametrize(
    ("mask", "has_one_shape"), [(r"x\w+", True), ("[0-4]+-", False)], ids=["blind expressions", "an expression that sees digits"]
)
def test_lines_that_differ_in_a_uuid_alone_have_one_shape(mask: str, has_one_shape: bool) -> None:
    rng, parser = random.Random(3), LineParser(make_system(masks=(Mask(name="OWN", pattern=mask),)))
    lines = [f"2026-03-04 10:00:00 INFO jöb {uuid.UUID(int=rng.getrandbits(128))} of req-a" for _ in range(SAMPLE)]
    found = shapes_of(Text(pa.array(lines)), parser, ShapeCache())
    assert [found.shapes[number].message for number in found.of_line.tolist()] == [parser.parse(line).message for line in lines]
    assert (len(np.unique(found.of_line)) == 1) == has_one_shape


def test_an_id_that_survives_masking_is_kept_and_the_others_are_marked() -> None:
    rng = random.Random(3)
    hosts = ["web7a1", "db12b3"] * SAMPLE
    lines = [f"2026-03-04 10:00:00 INFO job {random_text(rng, HEX, 4)}1a{random_text(rng, HEX, 20)} of {host} req-a" for host in hosts]
    found = shapes_of(Text(pa.array(lines)), LineParser(make_system()), ShapeCache())
    messages = {found.shapes[number].message for number in np.unique(found.of_line).tolist()}
    assert messages == {"job <HEX> of web<NUM>a<NUM> req-a", "job <HEX> of db<NUM>b<NUM> req-a"}
    assert len(np.unique(found.of_line)) < SAMPLE / 10


def test_what_is_remembered_of_one_part_holds_in_the_next() -> None:
    rng, parser, cache = random.Random(4), LineParser(make_system()), ShapeCache()
    for n in (SAMPLE, SAMPLE, SAMPLE + LEAST_LINES - 1):
        lines = [f"2026-03-04 10:00:00 INFO job {uuid.UUID(int=rng.getrandbits(128))} of req-{n}" for _ in range(n)]
        found = shapes_of(Text(pa.array(lines)), parser, cache)
        ids = found.shapes[found.of_line[-1]].ids
        assert [lines[-1][first:last] for first, last in ids] == [f"req-{n}"]
    assert len(cache.marked) == 1


def ids_in(lines: list[str]) -> list[str]:
    text = Text(pa.array(lines))
    found = find_ids(text.data, text.starts)
    raw = text.data.tobytes()
    return [raw[first:last].decode() for first, last in zip(found.first, found.last, strict=True)]


def test_ids_are_runs_of_letters_and_digits_of_one_line() -> None:
    name = "123e4567-e89b-12d3-a456-426614174000"
    lines = ["", "abc", "123", f"x {name}", name[:14], name[14:], "", f"{name}a{name}", "é1a2b3cé", "word 123456 deadbe", "a1b2c3", ""]
    assert ids_in([f"x {name}", "é1a2b3cé", "word 123456 deadbe", "a1b2c3", "a1b2c"]) == [name, "1a2b3c", "a1b2c3"]
    assert ids_in([name[:14], name[14:]]) == ["123e4567"]
    assert ids_in(lines) == [each for line in lines for each in ids_in([line])]


def test_marks_and_their_bytes_are_as_many() -> None:
    assert len(MARK_BYTES) == len(MARKS)
    for byte in MARK_BYTES:
        with pytest.raises(UnicodeDecodeError):
            bytes([byte]).decode()
