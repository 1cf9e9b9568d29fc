"""The day's log files of a system: which they are, their lines with numbers, and where they are damaged."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from pyspark.sql import functions as F

from nightlog.errors import FormatError
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
CHUNK = 1 << 20
# Spark silently skips names that begin like this, takes these characters for a pattern, and cannot open names with a colon.
NOT_FOR_SPARK = re.compile(r"[*?\[\]{}\\:]|/[_.][^/]*$")


def find_files(system: System, data: Path, ds: str) -> list[Path]:
    """The files that hold the system's lines of one night, in order of their names; none is not an error here."""
    delivered = system.input.delivered
    if delivered is not None and delivered.isoformat() != ds:
        return []
    return sorted(path for path in data.glob(system.input.path.replace("{ds}", ds)) if path.is_file())


def find_days(system: System, data: Path) -> list[str]:
    """The nights for which the system has files, in order."""
    if system.input.delivered is not None:
        ds = system.input.delivered.isoformat()
        return [ds] if find_files(system, data, ds) else []
    wanted = system.input.path.replace("{ds}", DAY)
    # Names may hold other days than the one that {ds} stands for.
    seen = {day for path in data.glob(wanted) for day in re.findall(r"\d{4}-\d{2}-\d{2}", relative(path, data))}
    return sorted(day for day in seen if find_files(system, data, day))


def damage(path: Path) -> tuple[int, str] | None:
    """Where a compressed file stops being readable: (bytes of the file that could be used, what is wrong); None if it is whole."""
    if path.suffix not in (".gz", ".xz"):
        return None
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else lzma.LZMAFile(raw) as unpacked:
        try:
            while unpacked.read(CHUNK):
                pass
        except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
            return raw.tell(), str(error)
    return None


def check_whole(paths: Sequence[Path], data: Path) -> None:
    """Raise FormatError that names the first damaged file and its byte."""
    for path in paths:
        if found := damage(path):
            byte, what = found
            raise FormatError(
                f"{relative(path, data)}: not readable after byte {byte:,} of {path.stat().st_size:,}: {what}; "
                "nothing of the file was published: deliver it again and run the night again"
            )


def relative(path: Path, data: Path) -> str:
    """A file's name in the lake: relative to the data folder, so that a lake can be moved."""
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else path.as_posix()


class LineReader:
    """Numbered lines of files, by Spark's own text reader. Use as a context: what is put aside for it is removed at its end."""

    def __init__(self, spark: SparkSession, data: Path):
        self.spark = spark
        self.data = data
        self.stack = ExitStack()

    def __enter__(self) -> LineReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def read(self, paths: Sequence[Path]) -> DataFrame:
        """Lines of the files: (file string, line_no long from 1, text string valid UTF-8, replaced boolean).

        Lines end with a line feed; one carriage return before it is dropped. Bytes that are not UTF-8 become U+FFFD. A large
        plain file is read in splits, so a first pass counts the lines of each split and the second adds what came before it.
        Raises FormatError where a file cannot be read to its end.
        """
        names = {str(self.readable(path.parent.resolve() / path.name)): relative(path, self.data) for path in paths}
        raw = (
            self.spark.read.option("lineSep", "\n")
            .text(list(names))
            .select(
                F.col("_metadata.file_path").alias("uri"),
                F.col("_metadata.file_block_start").alias("split"),
                F.monotonically_increasing_id().alias("ordinal"),
                F.col("value").alias("bytes"),
            )
        )
        splits = raw.groupBy("uri", "split").agg(F.min("ordinal").alias("first"), F.count("*").alias("n")).collect()
        numbered = self.spark.createDataFrame(
            offsets([row.asDict() for row in splits], names), "uri string, split long, file string, shift long"
        )
        valid = F.regexp_replace(F.make_valid_utf8("bytes"), r"\r\z", "")
        return raw.join(F.broadcast(numbered), ["uri", "split"]).select(
            "file",
            (F.col("ordinal") + F.col("shift")).alias("line_no"),
            valid.alias("text"),
            (~F.is_valid_utf8("bytes")).alias("replaced"),
        )

    def readable(self, path: Path) -> Path:
        """The file where Spark can read it: .xz, which Hadoop does not know, unpacked aside; a name that it cannot take, linked."""
        packed = path.suffix == ".xz" and path.stat().st_size > 0
        if not packed and not NOT_FOR_SPARK.search(str(path)):
            return path
        aside = Path(self.stack.enter_context(TemporaryDirectory(prefix="nightlog-"))) / "lines"
        if not packed:
            aside = aside.with_suffix(path.suffix if path.suffix[1:].isalnum() else "")
            aside.symlink_to(path)
            return aside
        try:
            with lzma.open(path) as lines, aside.open("wb") as out:
                shutil.copyfileobj(lines, out, CHUNK)
        except (EOFError, lzma.LZMAError):
            check_whole([path], self.data)
            raise
        return aside


def offsets(splits: Sequence[Mapping[str, int | str]], names: Mapping[str, str]) -> list[tuple[str, int, str, int]]:
    """(uri, split, file, shift) with line_no = ordinal + shift.

    Args: splits: one mapping a split of a file with uri, split (its first byte), first (its least ordinal), n (its lines).
    """
    numbered = []
    ordered = sorted(splits, key=lambda s: (s["uri"], s["split"]))
    for uri in dict.fromkeys(str(s["uri"]) for s in ordered):
        parts = [s for s in ordered if s["uri"] == uri]
        before = [0, *accumulate(int(s["n"]) for s in parts)]
        file = names[unquote(urlparse(uri).path)]
        numbered += [(uri, int(s["split"]), file, seen + 1 - int(s["first"])) for s, seen in zip(parts, before, strict=False)]
    return numbered
