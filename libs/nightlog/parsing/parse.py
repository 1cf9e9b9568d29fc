"""Stage parse: bronze.lines → silver.messages, templates, events, sessions, patterns."""

from __future__ import annotations

import json
from typing import Any

from pyspark.sql import functions as F

from nightlog.lake.store import Lake
from nightlog.lake.tables import EVENTS_TABLE, LINES_TABLE, MESSAGES, PATTERNS, QUARANTINE, SESSIONS, TEMPLATES
from nightlog.parsing.ingest import look_back
from nightlog.parsing.lines import parse_lines
from nightlog.parsing.sessions import for_nights, group_patterns, group_sessions
from nightlog.parsing.templates import mine_templates
from nightlog.systems.spec import System

SHOWN_UNPARSED = 100


def parse(lake: Lake, system: System, ds: str, run_id: str) -> dict[str, int]:
    """Parse the night, and before it the look-back days that were ingested but never parsed.

    Returns counts: n_blank, n_unparsed, n_untimed, n_events, n_without_session, n_sessions, n_patterns, n_templates,
    run_n_templates_new.
    """
    waiting = lake.nights(LINES_TABLE, system.name) - lake.nights(EVENTS_TABLE, system.name)
    founded = 0
    if earlier := [day for day in look_back(system, ds) if day in waiting]:
        write_events(lake, system, earlier, run_id)
        founded = add_templates(lake, system, earlier)
    counts = parse_nights(lake, system, [ds], run_id)
    return counts | {"run_n_templates_new": counts["run_n_templates_new"] + founded}


def parse_nights(lake: Lake, system: System, nights: list[str], run_id: str) -> dict[str, int]:
    """Parse some nights in one go, each table in one commit. Returns the counts of `parse` over all of them."""
    counts = write_events(lake, system, nights, run_id)
    founded = add_templates(lake, system, nights)
    return counts | write_sessions(lake, system, nights) | {"run_n_templates_new": founded}


def write_events(lake: Lake, system: System, days: list[str], run_id: str) -> dict[str, int]:
    """One pass over the days' lines into their slices of silver.events; lines that do not match are counted, a few of them shown."""
    from pyspark.sql import Observation

    by_line, by_event = Observation(), Observation()
    unmatched = ~F.col("matched") & ~F.col("blank")
    lines = lake.read(LINES_TABLE, system=system.name, ds=days)
    parsed = parse_lines(lines, system)
    events = (
        parsed.observe(
            by_line,
            F.count_if("blank").alias("n_blank"),
            F.count_if(unmatched).alias("n_unparsed"),
            F.count_if(F.col("matched") & F.col("at").isNull()).alias("n_untimed"),
            F.count_if(F.col("matched") & (F.size("session_ids") == 0)).alias("n_without_session"),
        )
        .where("matched")
        .withColumns({"system": F.lit(system.name), "session_id": F.explode_outer("session_ids")})
        .observe(by_event, F.count("*").alias("n_events"))
    )
    lake.replace_slice(EVENTS_TABLE, events, system=system.name, ds=days)
    counts = {name: int(n or 0) for name, n in (by_line.get | by_event.get).items()}
    shown: list[dict[str, Any]] = []
    if counts["n_unparsed"]:
        first = parsed.where(unmatched).select("ds", "file", "line_no").orderBy("ds", "file", "line_no").limit(SHOWN_UNPARSED)
        shown = [row.asDict() for row in first.join(lines, ["ds", "file", "line_no"]).select("ds", "file", "line_no", "text").collect()]
    for day in days:
        quarantine_lines(lake, system, day, run_id, [row for row in shown if row["ds"] == day])
    return counts


def quarantine_lines(lake: Lake, system: System, ds: str, run_id: str, lines: list[dict[str, Any]]) -> None:
    """Set some lines aside that do not match the header, for the operator to look at; an earlier run's are replaced."""
    origin = {"system": system.name, "ds": ds, "stage": "parse", "reason": "the line does not match the header pattern", "run_id": run_id}
    ordered = sorted(lines, key=lambda row: (row["file"], row["line_no"]))
    rows = [{key: row[key] for key in ("file", "line_no", "text")} for row in ordered]
    aside = [origin | {"row": json.dumps(row, ensure_ascii=False)} for row in rows]
    lake.put(QUARANTINE, aside, system=system.name, ds=ds, stage="parse")


def add_templates(lake: Lake, system: System, days: list[str]) -> int:
    """Mine the days' messages that were never seen before. Returns how many templates they founded.

    Templates go in before the messages that refer to them.
    """
    seen = lake.read(EVENTS_TABLE, system=system.name, ds=days).select("ds", "message_id", "message").distinct()
    first = seen.groupBy("message_id", "message").agg(F.min("ds").alias("first_ds"))
    # Checkpoints, not caches: Spark recomputes a cached frame once a table that it was read from is written.
    new = first.join(lake.read(MESSAGES, system=system.name).select("message_id"), "message_id", "left_anti").localCheckpoint()
    if new.isEmpty():
        return 0
    mined = mine_templates(new, lake.read(TEMPLATES, system=system.name), system.name, system.templates)
    mined = mined.join(new.select("message_id", "first_ds"), "message_id").withColumn("system", F.lit(system.name)).localCheckpoint()
    touched = (
        mined.withColumn("text", F.col("widened"))
        .groupBy("system", "template_id", "text", "widened", "first_message", "token_count", "ordinal", "founded")
        .agg(F.min("first_ds").alias("first_ds"))
    )
    lake.merge(TEMPLATES, touched.select(*TEMPLATES.schema.names), update=["widened"])
    lake.append(MESSAGES, mined)
    return touched.where("founded").count()


def write_sessions(lake: Lake, system: System, nights: list[str]) -> dict[str, int]:
    """The nights' sessions and patterns, from their events and those of the look-back days. Returns n_sessions, n_patterns, n_templates."""
    days = sorted({day for ds in nights for day in (*look_back(system, ds), ds)})
    events = for_nights(lake.read(EVENTS_TABLE, system=system.name, ds=days), nights, system.session.lookback_days)
    messages = lake.read(MESSAGES, system=system.name)
    timezone = system.timestamp.timezone if system.timestamp is not None else "UTC"
    grouped = group_sessions(events, messages, system.settle_minutes, timezone)
    sessions = grouped.withColumn("system", F.lit(system.name)).persist()
    try:
        lake.replace_slice(SESSIONS, sessions, system=system.name, ds=nights)
        patterns = group_patterns(sessions, system.session.kind == "id").withColumn("system", F.lit(system.name))
        lake.replace_slice(PATTERNS, patterns, system=system.name, ds=nights)
    finally:
        sessions.unpersist()
    counted = lake.read(PATTERNS, system=system.name, ds=nights).agg(
        F.coalesce(F.sum("n_sessions"), F.lit(0)).alias("n_sessions"),
        F.count_distinct("pattern_id").alias("n_patterns"),
        F.coalesce(F.size(F.array_distinct(F.flatten(F.collect_set("events.template_id")))), F.lit(0)).alias("n_templates"),
    )
    return {name: int(n) for row in counted.collect() for name, n in row.asDict().items()}
