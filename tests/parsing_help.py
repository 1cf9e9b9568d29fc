"""Small systems and log files for the tests of parsing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from nightlog.parsing.events import Parsed, parse_flattened, parse_form, parse_lines
from nightlog.systems.spec import Header, Input, Session, System, Timestamp

STAMPED = Header(pattern=r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<level>[A-Z]+) (?P<message>.*)")
IN_SECONDS = Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss")
BY_REQUEST = Session(kind="id", pattern=r"req-\w+")


def make_system(name: str = "app", **more: Any) -> System:
    """A system of stamped lines whose sessions are requests, unless told otherwise."""
    given = {"header": STAMPED, "timestamp": IN_SECONDS, "session": BY_REQUEST} | more
    return System(name=name, role=given.pop("role", "target"), input=given.pop("input", Input(path=name + "/{ds}*")), **given)


def put_file(data: Path, name: str, content: bytes | str) -> Path:
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


class ParsedLine(NamedTuple):
    """A line as parsed: its sessions, and the rest as its events have it; nothing if it does not match."""

    matched: bool
    message: str = ""
    at: datetime | None = None
    level: str | None = None
    session_ids: tuple[str, ...] = ()
    message_id: int = 0


def lines_table(texts: Sequence[str], file: str = "a.log") -> pa.Table:
    """Texts as the lines of a file, numbered from 1."""
    return pa.table(
        {"file": pa.array([file] * len(texts), pa.string()), "line_no": np.arange(1, len(texts) + 1), "text": pa.array(texts, pa.string())}
    )


def parsed_lines(system: System, texts: Sequence[str], ds: str = "2026-03-04") -> tuple[list[ParsedLine], Parsed]:
    """Parse lines; one result per line, in their order."""
    events, parsed = parse_lines(lines_table(texts), system, ds)
    found: dict[int, ParsedLine] = {}
    for row in events.to_pylist():
        at = row["at"] and row["at"].replace(tzinfo=None)
        before = found.get(row["line_no"])
        ids = (*(before.session_ids if before else ()), *([row["session_id"]] if row["session_id"] is not None else []))
        found[row["line_no"]] = ParsedLine(True, parsed.messages[row["message_id"]][0], at, row["level"], ids, row["message_id"])
    return [found.get(number, ParsedLine(False)) for number in range(1, len(texts) + 1)], parsed


def outcome(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what the stage writes of its records: events, account, messages, lines set aside, numbers and totals."""
    events, parsed, left = result
    numbers = sorted((row for table in parsed.numbers for row in table.to_pylist()), key=str)
    totals: dict[tuple[int, str], int] = {}
    for table in parsed.totals:
        for row in table.to_pylist():
            totals[row["message_id"], row["level"]] = totals.get((row["message_id"], row["level"]), 0) + row["n"]
    rows = [(row["message_id"], row["nth"], row["low"], row["low_line"]) for row in numbers]
    lowest = {}
    for message, nth, low, line in sorted(rows):
        lowest.setdefault((message, nth), (low, line))
    tally = {name: parsed.tally.get(name, 0) for name in line_tally(parsed.tally)}
    return events.to_pylist(), tally, parsed.messages, parsed.unmatched, lowest, totals, left.tolist()


def line_tally(tally: dict[str, int]) -> list[str]:
    return sorted(name for name, n in tally.items() if n)


def by_shape_and_flattened(lines: list[str], system: System, ds: str = "2026-03-04") -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the outcome of structured records read by shape, and the outcome if all of them are flattened."""
    rows = lines_table(lines)
    return outcome(parse_form(rows, system, ds)), outcome(parse_flattened(rows, system, ds))
