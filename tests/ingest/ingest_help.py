"""Small systems and log files for the tests of ingest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightlog.systems.spec import Header, Input, Session, System, Timestamp

STAMPED = Header(pattern=r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<level>[A-Z]+) (?P<message>.*)")
IN_SECONDS = Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss")


def make_system(path: str = "app/{ds}*", **more: Any) -> System:
    """Return a system of stamped lines."""
    given = {"header": STAMPED, "timestamp": IN_SECONDS, "session": Session(kind="id", pattern=r"req-\w+")} | more
    return System(name="app", role="target", input=given.pop("input", Input(path=path)), **given)


def put_file(data: Path, name: str, content: bytes | str) -> Path:
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
