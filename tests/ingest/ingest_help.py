"""Small systems and log files for the tests of ingest."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
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


def zst(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as out:
        out.write(content)
    return packed.getvalue().to_pybytes()  # type: ignore[no-any-return]


def zipped(*contents: bytes, flags: int = 0) -> bytes:
    """Return a zip archive of members a, b, …; bit 1 of the flags says that they are encrypted."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        for number, content in reversed(list(enumerate(contents))):
            archive.writestr(f"folder/{'abc'[number]}.log", content)
    data = bytearray(packed.getvalue())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(mark), bytes(data)):
            data[found.start() + place] |= flags
    return bytes(data)


PACKERS = {
    "gz": lambda content: gzip.compress(content, mtime=0),
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": zst,
    "zip": zipped,
}
