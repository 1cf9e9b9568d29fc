"""What must hold for any input: of reading files, parsing lines, masking, sessions, answers of the LLM, system files, pages, gates.

Each property is a function of drawn data that fails by an assertion; `test_fuzz_properties.py` tries a few inputs of each, `fuzz.py` as
many as fit into its minutes. None of them needs Spark.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import string
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from nightlog.doctor.machine import in_bytes
from nightlog.errors import ConfigError
from nightlog.ingest import splits
from nightlog.ingest.splits import ends_in, ends_with_returns, numbered, plan, read_piece, to_count
from nightlog.llm.prompt import read_answer
from nightlog.pages.words import is_unseen, visible
from nightlog.parsing.events import parse_table
from nightlog.parsing.shapes import MAX_MESSAGE, LineParser
from nightlog.parsing.timestamps import EPOCH, LATEST, MICROSECOND, reader
from nightlog.quality.outliers import bounds
from nightlog.sessions.group import COUNTS, Assignment, group_sessions, pattern_id, powers_of_two
from nightlog.systems.catalog import load_catalog, parse_system
from nightlog.systems.spec import Header, Input, Mask, Session, System, Timestamp

DS = "2026-03-04"
Property = Callable[[DataObject], None]

BYTES = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"a" * 70, "é".encode() * 40, b"\xf0\x9f\x99"]),
        st.binary(max_size=20),
        st.text(max_size=12).map(lambda text: text.encode(errors="surrogatepass")),
    ),
    max_size=30,
).map(b"".join)


def as_lines(data: bytes, most: int, returns: bool) -> list[tuple[str, bool]]:
    """What the lines of a file are, plainly: (text, whether bytes were replaced). Args: returns, whether carriage returns end lines."""
    data = data.removeprefix(splits.BOM)
    raw = (data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if returns else data).split(b"\n")
    if not raw[-1]:
        raw.pop()
    found = []
    for each in raw:
        line = each.removesuffix(b"\r")
        if len(line) > most:
            line = line[:most]
            while line and len(line) > most - 4 and each[len(line)] & 0xC0 == 0x80:
                line = line[:-1]
        text = line.decode(errors="replace")
        found.append((text, text.encode() != line))
    return found


def files_are_read_line_by_line(data: DataObject) -> None:
    """In pieces and blocks of any size, plain or packed, a file gives the lines that are in it, numbered, long ones cut."""
    content = data.draw(BYTES)
    packed = data.draw(st.booleans())
    piece, limit, chunk = (data.draw(st.integers(least, 64)) for least in (1, 1, len(splits.BOM)))
    most = data.draw(st.sampled_from([8, 50, 1 << 20]))
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(splits, MAX_LINE=most, CHUNK=chunk):
        path = Path(folder, "a.log.gz" if packed else "a.log")
        path.write_bytes(gzip.compress(content) if packed else content)
        tasks = plan([(path, path.name, DS)], piece)
        ends = {(each.path, each.start): ends_in(each) for each in to_count(tasks)}
        found: list[tuple[int, str, bool]] = []
        for each in (piece for task in numbered(tasks, ends) for piece in task):
            for lines in read_piece(each, limit):
                lines.texts.validate(full=True)
                numbers = range(lines.first, lines.first + len(lines.texts))
                found += zip(numbers, lines.texts.to_pylist(), map(bool, lines.replaced), strict=True)
    assert found == [(number, *line) for number, line in enumerate(as_lines(content, most, ends_with_returns(content[:chunk])), 1)]


WORDS = st.one_of(
    st.sampled_from(
        ["10.0.0.1", "10.2.9.12:50010", "0x1f", "deadbeef01", "blk_-16089", "req-a1", "req-7 req-7", "/var/log/x9.log", "-12.5"]
    ),
    st.sampled_from(
        ["00:1b:44:11:3a:b7", "123e4567-e89b-12d3-a456-426614174000", "é7", "漢", "\t", "<NUM>", "x\u2028y", "\u00a0", "=", "[", "٣"]
    ),
    st.integers(-(10**12), 10**12).map(str),
    st.text(st.sampled_from(string.ascii_letters + string.digits + "-_./:=[](){}<>@#+ "), max_size=12),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=6),
)
STAMPS = st.builds("2026-0{}-{:02d} {:02d}:{:02d}:{:02d}".format, *(st.integers(0, n) for n in (9, 40, 30, 70, 70)))
LINES = st.one_of(
    st.builds(
        lambda stamp, level, words: f"{stamp} {level} {' '.join(words)}",
        STAMPS,
        st.sampled_from(["INFO", "WARN", "E7"]),
        st.lists(WORDS, max_size=6),
    ),
    st.lists(WORDS, max_size=8).map(" ".join),
)


def make_system(**more: Any) -> System:
    """A system of stamped lines whose sessions are requests, unless told otherwise."""
    given: dict[str, Any] = {
        "header": Header(pattern=r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<level>[A-Z]+) (?P<message>.*)"),
        "timestamp": Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"),
        "session": Session(kind="id", pattern=r"req-\w+"),
    }
    return System(name="app", role="target", input=Input(path="app/{ds}*"), **given | more)


SYSTEMS = {
    "stamped": make_system(),
    "masks that leave digits": make_system(default_masks=False, masks=(Mask(name="ODD", pattern="[13579]+"),)),
    "look-around": make_system(masks=(Mask(name="BLK", pattern=r"blk_-?\d+"), Mask(name="ONE", pattern=r"(?<=req-a)1"))),
    "by field": make_system(
        header=Header(pattern=r"(?P<date>\S+) (?P<time>\S+) (?P<level>\w+)(?: (?P<node> *\w+)?)? ?(?P<message>.*)"),
        timestamp=Timestamp(value="{date}  {time}", format="yyyy-MM-dd HH:mm:ss"),
        session=Session(kind="field", field="node"),
    ),
    "by window": make_system(session=Session(kind="window", window_minutes=7)),
    "whole lines": make_system(header=Header(), timestamp=None),
} | {system.name: system for system in load_catalog().values() if system.record is None}


def line_by_line(system: System, lines: list[str]) -> list[tuple[int, str, str | None]]:
    """(line_no, message, session) of each event, each line parsed for itself; windows give no session here."""
    parser = LineParser(system)
    found: list[tuple[int, str, str | None]] = []
    for number, line in enumerate(lines, 1):
        shape = parser.parse(line)
        if shape.matched:
            raw = line.encode()
            ids = list(dict.fromkeys(raw[start:end].decode() for start, end in shape.ids))
            found += [(number, shape.message, each) for each in ids or [None]]
    return found


def lines_of_one_shape_are_parsed_as_each_for_itself(data: DataObject) -> None:
    """What lines share by their shape is what each gives alone, and every line is an event, blank, or counted as without a header."""
    system = SYSTEMS[data.draw(st.sampled_from(sorted(SYSTEMS)))]
    drawn = data.draw(st.lists(LINES, min_size=1, max_size=8))
    # the same lines with other digits are of the same shapes
    digits = st.lists(st.sampled_from(string.digits), min_size=1, max_size=7)
    lines = drawn + [turned(line, data.draw(digits)) for line in drawn]
    table = pa.table({"file": ["a"] * len(lines), "line_no": np.arange(1, len(lines) + 1), "text": pa.array(lines, pa.string())})
    events, parsed, _, _ = parse_table(table, system, DS)
    texts = {number: text for number, (text, _) in parsed.messages.items()}
    rows = events.to_pylist()
    windowed = system.session.kind == "window"
    found = [(row["line_no"], texts[row["message_id"]], None if windowed else row["session_id"]) for row in rows]
    assert sorted(found, key=str) == sorted(line_by_line(system, lines), key=str)
    assert len({row["line_no"] for row in rows}) + parsed.tally["n_blank"] + parsed.tally["n_unparsed"] == len(lines)
    assert all(len(text) <= MAX_MESSAGE * 4 for text in texts.values())


def turned(line: str, digits: list[str]) -> str:
    """A line with its digits exchanged for others, in turn."""
    turn = itertools.cycle(digits)
    return re.sub("[0-9]", lambda _: next(turn), line)


def masks_hide_every_number(data: DataObject) -> None:
    """With the typed masks no digit of ASCII is left, values of one kind give one message, and words stay."""
    parser = LineParser(make_system(header=Header(), timestamp=None))
    words = data.draw(
        st.lists(
            st.text(st.sampled_from(string.ascii_lowercase), min_size=1, max_size=8).filter(lambda w: not set(w) <= set("abcdef")),
            max_size=5,
        )
    )
    values = {
        "<NUM>": st.integers(-(10**15), 10**15).map(str),
        "<IP>": st.builds("{}.{}.{}.{}".format, *[st.integers(0, 255)] * 4),
        "<UUID>": st.uuids().map(str),
        "<MAC>": st.lists(st.integers(0, 255), min_size=6, max_size=6).map(lambda parts: ":".join(f"{part:02x}" for part in parts)),
        "<PATH>": st.lists(st.text(st.sampled_from("abcxyz019_-"), min_size=1, max_size=5), min_size=2, max_size=4).map(
            lambda parts: "/" + "/".join(parts)
        ),
    }
    kinds = data.draw(st.lists(st.sampled_from(sorted(values)), max_size=4))
    line = " ".join(words + [data.draw(values[kind]) for kind in kinds])
    if line.strip():
        assert parser.parse(line).message == " ".join(words + kinds)
    anything = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    assert not re.search("[0-9]", parser.parse(anything).message)


TEMPLATES = [f"t{n}" for n in range(5)]


def sessions_are_grouped_as_by_hand(data: DataObject) -> None:
    """Sessions and patterns are those of a plain count, whatever the order of the rows and however they are split."""
    row = st.tuples(
        st.sampled_from(["s1", "s2", "s3", "ü", ""]),
        st.integers(0, 6),
        st.integers(1, 2**40),
        st.one_of(st.none(), st.integers(0, 10**6)),
        st.booleans(),
    )
    rows = data.draw(st.lists(row, max_size=25))
    window = data.draw(st.one_of(st.none(), st.tuples(st.integers(0, 5 * 10**5), st.integers(5 * 10**5, 10**6))))
    due = data.draw(st.lists(st.sampled_from(["s1", "s2", ""]), unique=True, max_size=2))
    assignment = Assignment.of((number, TEMPLATES[number]) for number in range(len(TEMPLATES)))

    def table(given: list[Any]) -> pa.Table:
        columns = list(zip(*given, strict=True)) or [()] * 5
        values = [columns[0], columns[1], columns[2], columns[3], columns[3], columns[4]]
        return pa.table([pa.array(list(each), field.type) for each, field in zip(values, COUNTS, strict=True)], schema=COUNTS)

    def grouped(counts: pa.Table) -> tuple[Any, Any, Any]:
        found = group_sessions(counts, assignment, window, pa.array(due, pa.string()))
        rows = [(kind, row) for kind in ("judged", "waiting", "unchanged") for row in getattr(found, kind).to_pylist()]
        return sorted(rows, key=str), found.patterns, (found.n_ids, found.n_due, found.n_outside, sorted(found.again.to_pylist()))

    found, patterns, sums = grouped(table(rows))
    of_ids = defaultdict(list)
    for session, message, n, at, is_own in rows:
        of_ids[session].append((message, n, at, is_own))
    wanted = {session for session, of_it in of_ids.items() if session in due or any(is_own for *_, is_own in of_it)}
    expected = {}
    again = []
    for session in wanted:
        of_it = [(TEMPLATES[message], n, at, is_own) for message, n, at, is_own in of_ids[session] if message < len(TEMPLATES)]
        if not of_it:
            continue
        times = [at for _, _, at, _ in of_it if at is not None]
        start = min(times, default=None)
        waits = session not in due and window is not None and start is not None and window[0] <= start < window[1]
        counts: Counter[str] = Counter()
        for name, n, _, _ in of_it:
            counts[name] += n
        events = tuple((name, 1 << (counts[name].bit_length() - 1)) for name in sorted(counts))
        expected[session] = ("waiting" if waits else "judged", pattern_id(events), sum(counts.values()), start, max(times, default=None))
        if not waits and not all(is_own for *_, is_own in of_it):
            again.append(session)
    assert sums == (len(wanted), len(set(due) & of_ids.keys()), len(wanted) - len(expected), sorted(again))
    micro = [
        (
            row["session_id"],
            kind,
            row["pattern_id"],
            row["n_events"],
            *((at and round((at - EPOCH) / MICROSECOND)) if at else None for at in (row["started_at"], row["ended_at"])),
        )
        for kind, row in found
    ]
    assert sorted(micro, key=str) == sorted([(session, *of_it) for session, of_it in expected.items()], key=str)
    assert Counter(row["pattern_id"] for kind, row in found if kind == "judged") == {
        name: each.n_sessions for name, each in patterns.items()
    }
    shuffled = data.draw(st.permutations(rows))
    assert grouped(table(shuffled)) == (found, patterns, sums)


def powers_of_two_are_exact(data: DataObject) -> None:
    """The exponent of a count is that of its highest bit."""
    counts = data.draw(st.lists(st.integers(1, 2**62), min_size=1, max_size=20))
    assert powers_of_two(np.array(counts)).tolist() == [n.bit_length() - 1 for n in counts]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["id", "label", "confidence", "reason", "group", "verdicts", "x"]), inner, max_size=5),
    ),
    max_leaves=12,
)
IDS = ["1", "2", "3"]
VERDICT = st.fixed_dictionaries(
    {
        "id": st.one_of(st.sampled_from([*IDS, "4"]), JSON),
        "label": st.one_of(st.sampled_from(["normal", "anomalous", "unclear", "fine"]), JSON),
        "confidence": st.one_of(st.floats(-0.5, 1.5), JSON),
        "reason": st.one_of(st.text(max_size=20), JSON),
    },
    optional={"group": st.one_of(st.none(), st.text(max_size=5), JSON), "other": JSON},
)
SOUND = st.builds(
    lambda name, label, confidence, reason: {"id": name, "label": label, "confidence": confidence, "reason": reason, "group": None},
    st.just(""),
    st.sampled_from(["normal", "anomalous", "unclear"]),
    st.floats(0, 1, exclude_min=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)


def any_answer_is_read_and_only_what_is_sound_is_kept(data: DataObject) -> None:
    """Whatever an LLM answers: no error, only ids that were asked, once each, and verdicts within their bounds."""
    text = data.draw(
        st.one_of(
            st.text(max_size=60),
            JSON.map(json.dumps),
            st.lists(st.one_of(VERDICT, JSON), max_size=5).map(lambda each: json.dumps({"verdicts": each})),
            st.lists(VERDICT, max_size=5).map(lambda each: "```json\n" + json.dumps({"verdicts": each}) + "\n```"),
        )
    )
    text = text[: data.draw(st.integers(0, len(text)))] if data.draw(st.booleans()) else text
    for number in (1, 2):
        reading = read_answer(text, IDS, number)
        assert set(reading.verdicts) <= set(IDS)
        for name, judged in reading.verdicts.items():
            assert judged.id == name and judged.label in ("normal", "anomalous", "unclear") and 0 <= judged.confidence <= 1
            assert not any(unicodedata.category(char)[0] == "C" for char in judged.reason) and len(judged.reason) <= 400
        assert set(reading.verdicts) == set(IDS) or reading.trouble


def an_answer_that_is_cut_keeps_what_was_whole(data: DataObject) -> None:
    """Of an answer cut anywhere, verdicts are as they were, or not there."""
    verdicts = [each | {"id": name} for name, each in zip(IDS, data.draw(st.lists(SOUND, min_size=3, max_size=3)), strict=True)]
    text = json.dumps({"verdicts": verdicts}, ensure_ascii=data.draw(st.booleans()))
    whole = read_answer(text, IDS).verdicts
    assert set(whole) == set(IDS)
    cut = read_answer(text[: data.draw(st.integers(0, len(text)))], IDS).verdicts
    assert all(cut[name] == whole[name] for name in cut)


FORMATS = {
    "yyyy-MM-dd HH:mm:ss": "%Y-%m-%d %H:%M:%S",
    "yyyy-MM-dd'T'HH:mm:ss.SSSSSS": "%Y-%m-%dT%H:%M:%S.%f",
    "dd/MMM/yyyy:HH:mm:ss": "%d/%b/%Y:%H:%M:%S",
    "yyyy-MM-dd'T'HH:mm:ssXXX": "%Y-%m-%dT%H:%M:%SZ",
}


def stamps_come_back_and_other_text_has_no_time(data: DataObject) -> None:
    """A time that is written in a format is read as itself; any other text gives a time within bounds or none, never an error."""
    form = data.draw(st.sampled_from([*FORMATS, "epoch", "M/d/yyyy h:mm:ss a", "yyMMdd HHmmss"]))
    read = reader(Timestamp(value="{time}", format=form, timezone=data.draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]))))
    assert read is not None
    text = data.draw(st.one_of(st.text(max_size=25), st.text(st.sampled_from("0123456789-/: .TZ+APMJanFeb,"), max_size=30)))
    (at,) = read(pa.array([text])).to_pylist()
    assert at is None or abs(at) <= LATEST
    if form in FORMATS:
        utc = reader(Timestamp(value="{time}", format=form))
        assert utc is not None
        when = data.draw(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1))).replace(tzinfo=UTC)
        when = when if "S" in form.replace("ss", "") else when.replace(microsecond=0)
        assert utc(pa.array([when.strftime(FORMATS[form])])).to_pylist() == [(when - EPOCH) // MICROSECOND]


def a_system_file_is_a_system_or_a_configuration_error(data: DataObject) -> None:
    """Whatever stands in a system file, it is read or refused in words."""
    keys = st.sampled_from(
        [
            "name",
            "role",
            "input",
            "path",
            "header",
            "pattern",
            "session",
            "kind",
            "field",
            "timestamp",
            "value",
            "format",
            "gates",
            "least",
            "masks",
            "x y",
        ]
    )
    scalar = st.one_of(
        st.integers().map(str),
        st.booleans().map(lambda value: str(value).lower()),
        st.text(max_size=10).map(json.dumps),
        st.sampled_from(['"target"', '"id"', '"a/{ds}"', "[]", "[1", "2026-03-04", "nan", '"(?P<message>.*)"']),
    )
    line = st.one_of(st.builds("{} = {}".format, keys, scalar), st.builds("[{}]".format, keys), st.text(max_size=12))
    text = "\n".join(data.draw(st.lists(line, max_size=10)))
    try:
        found = parse_system(text, "any.toml")
    except ConfigError as error:
        assert str(error).startswith("any.toml: ")
    else:
        assert found.name


def pages_show_any_text_and_no_markup_of_it(data: DataObject) -> None:
    """Text on a page brings no tag and no unseen character with it."""
    text = data.draw(
        st.one_of(
            st.text(max_size=60),
            st.lists(st.sampled_from(["<b>", "</span>", "&", '"', "\u202e", "\x1b[31m", "\x00", "a"]), max_size=12).map("".join),
        )
    )
    shown = str(visible(text))
    rest = re.sub(r'<span class="unseen">⟨U\+[0-9A-F]{4,6}⟩</span>', "", shown)
    assert "<" not in rest and ">" not in rest and '"' not in rest
    assert not any(is_unseen(char) for char in shown)


def gates_let_through_what_was_there_before(data: DataObject) -> None:
    """What two nights reached is within the bounds, whatever the nights' order, and the bounds are in order."""
    values = data.draw(st.lists(st.floats(0, 1e6), min_size=3, max_size=30))
    deviations, slack = data.draw(st.floats(0.1, 10)), data.draw(st.floats(0.001, 10))
    low, high = bounds(values, deviations, slack)
    ordered = sorted(values)
    assert low < ordered[1] and high > ordered[-2] and low < high
    assert bounds(data.draw(st.permutations(values)), deviations, slack) == (low, high)


def sizes_of_spark_are_numbers(data: DataObject) -> None:
    """Any text is a size or none."""
    assert in_bytes(data.draw(st.text(max_size=6))) >= 0


PROPERTIES: dict[str, Property] = {
    function.__name__: function
    for function in (
        files_are_read_line_by_line,
        lines_of_one_shape_are_parsed_as_each_for_itself,
        masks_hide_every_number,
        sessions_are_grouped_as_by_hand,
        powers_of_two_are_exact,
        any_answer_is_read_and_only_what_is_sound_is_kept,
        an_answer_that_is_cut_keeps_what_was_whole,
        stamps_come_back_and_other_text_has_no_time,
        a_system_file_is_a_system_or_a_configuration_error,
        pages_show_any_text_and_no_markup_of_it,
        gates_let_through_what_was_there_before,
        sizes_of_spark_are_numbers,
    )
}
