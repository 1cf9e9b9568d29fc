"""The input of the bench: real HDFS lines, repeated with fresh block ids, so that every copy has sessions of its own."""

from __future__ import annotations

import gzip
import json
import random
import re
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

LINES = 222_579  # of the three files together
DS, NEXT_DS = "2008-11-11", "2008-11-12"
DAYS = ("081109", "081110", "081111", "081112")  # of the lines, and one more


def real_lines(shared: Path) -> bytes:
    """Return the lines of the three files."""
    return b"".join(gzip.decompress(path.read_bytes()) for path in sorted((shared / "data" / "raw" / "hdfs").glob("*.log.gz")))


def build(shared: Path, folder: Path, copies: int) -> Path:
    """Write one plain file of so many copies under folder/hdfs, and the labels of its blocks beside it; a second call finds both."""
    log, labels = folder / "hdfs" / f"hdfs-{DS}.log", folder / "labels.csv"
    if labels.is_file():
        return log
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = real_lines(shared)
    blocks = (shared / "data" / "raw" / "hdfs" / "block_labels.csv").read_bytes().split(b"\n", 1)[1]
    with log.open("wb") as out, (folder / "labels.part").open("wb") as labels_out:
        labels_out.write(b"BlockId,Label\n")
        for copy in range(copies):
            out.write(renamed(lines, copy))
            labels_out.write(renamed(blocks, copy).replace(b",0", b",Normal").replace(b",1", b",Anomaly"))
    (folder / "labels.part").rename(labels)
    return log


def build_next(shared: Path, folder: Path, copies: int) -> Path:
    """Write the next day's file beside the one of `build`: the same messages a day later, with ids that the first file lacks."""
    log = folder / "hdfs" / f"hdfs-{NEXT_DS}.log"
    if log.is_file():
        return log
    lines = real_lines(shared)
    for day, later in reversed(list(pairwise(DAYS))):
        lines = re.sub(rb"^%b " % day.encode(), later.encode() + b" ", lines, flags=re.MULTILINE)
    aside = log.with_suffix(".part")
    with aside.open("wb") as out:
        for copy in range(copies, 2 * copies):
            out.write(renamed(lines, copy))
    aside.rename(log)
    return log


def renamed(text: bytes, copy: int) -> bytes:
    """Put three digits more at the start of each block id. Copies are numbered from 0 to 899."""
    digits = b"%d" % (100 + copy)
    return text.replace(b"blk_-", b"\0").replace(b"blk_", b"blk_" + digits).replace(b"\0", b"blk_-" + digits)


def build_json(log: Path, folder: Path) -> Path:
    """Write the lines of a plain HDFS file as JSON objects. Returns a data folder with one system of them; a second call finds it."""

    def change(line: str) -> str:
        day, time, _, level, rest = line.split(" ", 4)
        stamp = f"20{day[:2]}-{day[2:4]}-{day[4:]} {time[:2]}:{time[2:4]}:{time[4:]}"
        return json.dumps({"time": stamp, "level": level, "message": rest.partition(": ")[2]})

    return rewritten(log, folder, folder / "json" / f"{DS}.log", change)


def build_uuid(log: Path, folder: Path) -> Path:
    """Write the lines of a plain HDFS file with a random UUID at the end of each. Returns their data folder; a second call finds it."""
    rng = random.Random(1)
    return rewritten(log, folder, folder / "hdfs" / log.name, lambda line: f"{line} for request {uuid.UUID(int=rng.getrandbits(128))}")


def rewritten(log: Path, folder: Path, path: Path, change: Callable[[str], str]) -> Path:
    """Write each line of a file, changed, to another one, if it is not there. Returns the folder."""
    if path.is_file():
        return folder
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    with log.open(encoding="utf-8", errors="replace") as lines, aside.open("w", encoding="utf-8") as out:
        for line in lines:
            out.write(change(line.rstrip("\n")) + "\n")
    aside.rename(path)
    return folder


def build_many(folder: Path, systems: int, lines: int = 5000) -> Path:
    """Write small systems of generated lines, each with words of its own. Returns their data folder."""
    for number in range(systems):
        path = folder / f"app{number:03d}" / f"{DS}.log"
        if path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        words = [f"step{number}x{chr(97 + kind)}" for kind in range(20)]
        rows = [
            f"2008-11-11 {n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d} INFO req-{n // 10} {words[n * 7919 % 20]} took {n % 97} ms\n"
            for n in range(lines)
        ]
        path.write_text("".join(rows))
    return folder
