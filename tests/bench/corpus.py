"""The input of the bench: real HDFS lines, repeated with fresh block ids, so that every copy has sessions of its own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

LINES = 222_579  # of the three files together
DS = "2008-11-11"


def build(shared: Path, folder: Path, copies: int) -> Path:
    """One plain file of so many copies under folder/hdfs, and the labels of its blocks beside it; a second call finds both."""
    log, labels = folder / "hdfs" / f"hdfs-{DS}.log", folder / "labels.csv"
    if labels.is_file():
        return log
    log.parent.mkdir(parents=True, exist_ok=True)
    source = shared / "data" / "raw" / "hdfs"
    lines = b"".join(gzip.decompress(path.read_bytes()) for path in sorted(source.glob("*.log.gz")))
    blocks = (source / "block_labels.csv").read_bytes().split(b"\n", 1)[1]
    with log.open("wb") as out, (folder / "labels.part").open("wb") as told:
        told.write(b"BlockId,Label\n")
        for copy in range(copies):
            out.write(renamed(lines, copy))
            told.write(renamed(blocks, copy).replace(b",0", b",Normal").replace(b",1", b",Anomaly"))
    (folder / "labels.part").rename(labels)
    return log


def renamed(text: bytes, copy: int) -> bytes:
    """The text with three digits more at the start of each block id."""
    digits = b"%d" % (100 + copy)
    return text.replace(b"blk_-", b"\0").replace(b"blk_", b"blk_" + digits).replace(b"\0", b"blk_-" + digits)


def build_json(log: Path, folder: Path) -> Path:
    """The lines of a plain HDFS file as JSON objects, a data folder with one system of them; a second call finds it."""
    path = folder / "json" / f"{DS}.log"
    if path.is_file():
        return folder
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    with log.open(encoding="utf-8", errors="replace") as lines, aside.open("w", encoding="utf-8") as out:
        for line in lines:
            day, time, _, level, rest = line.rstrip("\n").split(" ", 4)
            stamp = f"20{day[:2]}-{day[2:4]}-{day[4:]} {time[:2]}:{time[2:4]}:{time[4:]}"
            out.write(json.dumps({"time": stamp, "level": level, "message": rest.partition(": ")[2]}) + "\n")
    aside.rename(path)
    return folder


def build_many(folder: Path, systems: int, lines: int = 5000) -> Path:
    """A data folder with small systems of generated lines, each with words of its own."""
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
