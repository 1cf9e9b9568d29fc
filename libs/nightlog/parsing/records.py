"""Records that span lines: what follows a line that begins a record is joined to it. Spark's own column expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from nightlog.systems.spec import LONGEST_RECORD

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

CHUNK = 1 << 14  # lines; far more than a record may have, so that few lines are looked at twice


def join_records(lines: DataFrame, start: str, kept_lines: int, chunk_lines: int = CHUNK) -> DataFrame:
    """One row a record: (ds, file, line_no of its first line, text of its lines joined by line feeds, without blank ones).

    A file is cut into chunks, so that a large one is not one task's work. Each chunk also gets the first LONGEST_RECORD lines of the
    next: a record belongs to the chunk in which it begins. A line that no record claims is a row of its own.

    Args: lines (ds, file, line_no, text), numbered without gaps; start, a regular expression as Java reads it; kept_lines, how many of a
    record's lines are kept.
    """
    own = F.floor(F.col("line_no") / chunk_lines)
    early = (F.col("line_no") % chunk_lines < LONGEST_RECORD) & (own > 0)
    placed = lines.select(
        "ds",
        "file",
        "line_no",
        "text",
        F.col("text").rlike(f"^(?:{start})").alias("starts"),
        own.alias("own"),
        early.alias("early"),
        F.explode(F.when(early, F.array(own, own - 1)).otherwise(F.array(own))).alias("chunk"),
    )
    in_order = Window.partitionBy("ds", "file", "chunk").orderBy("line_no")
    seen = F.last(F.when(F.col("starts"), F.col("line_no")), ignorenulls=True).over(in_order)
    guest = F.col("own") != F.col("chunk")
    begun = F.when(F.col("line_no") - F.col("seen") < LONGEST_RECORD, F.col("seen"))
    # Whether the chunk before claims an early line without a start, the copy there knows; whether this chunk does, this one.
    theirs = F.when(guest, F.floor(F.col("seen") / chunk_lines) == F.col("own")).otherwise(F.col("seen").isNull() & F.col("early"))
    kept = placed.withColumn("seen", seen).where(~F.coalesce(theirs, F.lit(False)))
    line = F.struct("line_no", "text")
    joined = kept.groupBy("ds", "file", "chunk", F.coalesce(begun, F.col("line_no")).alias("first")).agg(
        F.sort_array(F.collect_list(line)).alias("lines")
    )
    texts = F.filter(F.col("lines.text"), lambda text: F.trim(text) != "")
    return joined.select("ds", "file", F.col("first").alias("line_no"), F.concat_ws("\n", F.slice(texts, 1, kept_lines)).alias("text"))
