"""Small systems and log files for the tests of parsing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
