"""Stage ingest: raw files of the day → bronze.lines, and labels that stand in the lines → bronze.labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from nightlog.errors import FormatError, NoInput
from nightlog.lake.store import Lake
from nightlog.lake.tables import LABELS, LINES_TABLE
from nightlog.parsing.files import LineReader, check_whole, find_files, relative
from nightlog.parsing.lines import java
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def look_back(system: System, ds: str) -> list[str]:
    """The days before the night on which its sessions may have begun, earliest first."""
    day = date.fromisoformat(ds)
    return [(day - timedelta(days=n)).isoformat() for n in range(system.session.lookback_days, 0, -1)]


def ingest(lake: Lake, system: System, ds: str, data: Path) -> tuple[dict[str, int], str | None]:
    """Put the night's lines into the lake, and those of look-back days that the lake lacks but the data folder has.

    So a night's sessions are the same in whatever order nights are run. Returns counts (n_files, n_lines, n_replaced) of the
    night itself, and what an operator should know. Raises NoInput where the night has no file, FormatError where one of its files
    cannot be read to its end; then nothing is written.
    """
    files = find_files(system, data, ds)
    if not files:
        raise NoInput(f"no file matches {system.input.path.replace('{ds}', ds)} under the data folder")
    present = lake.nights(LINES_TABLE, system.name)
    earlier = {day: found for day in look_back(system, ds) if day not in present and (found := find_files(system, data, day))}
    detail = None
    if earlier:
        try:
            ingest_days(lake, system, earlier, data)
        except FormatError as error:
            detail = f"sessions that began before the night are judged on the night alone: {error}"
    return ingest_days(lake, system, {ds: files}, data), detail


def ingest_days(lake: Lake, system: System, files: Mapping[str, list[Path]], data: Path) -> dict[str, int]:
    """The files of some days into their slices of bronze.lines, in one commit. Returns n_files, n_lines, n_replaced."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import Observation

    assert lake.spark is not None
    counts = Observation()
    days = lake.spark.createDataFrame(
        [(relative(path, data), ds) for ds, found in files.items() for path in found], "file string, ds string"
    )
    every = [path for found in files.values() for path in found]
    try:
        with LineReader(lake.spark, data) as reader:
            lines = reader.read(every).join(F.broadcast(days), "file")
            counted = lines.observe(counts, F.count("*").alias("n_lines"), F.count_if("replaced").alias("n_replaced"))
            write_lines(lake, system, list(files), counted)
    except (PySparkException, Py4JJavaError):
        check_whole(every, data)
        raise
    return {"n_files": len(every)} | {name: int(n or 0) for name, n in counts.get.items()}


def write_lines(lake: Lake, system: System, days: list[str], lines: DataFrame) -> None:
    """Write slices of lines; a label at the start of a line is cut off, so that nothing after this stage can see it."""
    placed = lines.withColumn("system", F.lit(system.name))
    labels = system.labels
    if labels is None or labels.pattern is None:
        lake.replace_slice(LINES_TABLE, placed, system=system.name, ds=days)
        return
    start = f"(?s)^(?:{java(labels.pattern)})"
    tag = F.regexp_extract("text", start, re.compile(labels.pattern).groupindex["label"])
    tags = placed.select(
        "system",
        "ds",
        "file",
        "line_no",
        F.lit(None).cast("string").alias("session_id"),
        (~tag.isin(*labels.normal)).cast("int").alias("label"),
        tag.alias("tag"),
    ).where(F.col("text").rlike(start))
    lake.replace_slice(LABELS, tags, system=system.name, ds=days)
    lake.replace_slice(LINES_TABLE, placed.withColumn("text", F.regexp_replace("text", start, "")), system=system.name, ds=days)
