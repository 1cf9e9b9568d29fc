"""Stage parse: bronze.lines → silver.messages, templates, events, sessions, patterns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from nightlog.lake.store import Lake
from nightlog.lake.tables import EVENTS_TABLE, LINES_TABLE, MESSAGES, PATTERNS, QUARANTINE, SESSIONS, TEMPLATES
from nightlog.parsing.ingest import look_back
from nightlog.parsing.lines import parse_lines
from nightlog.parsing.sessions import group_patterns, group_sessions
from nightlog.parsing.templates import mine_templates
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SHOWN_UNPARSED = 100


def parse(lake: Lake, system: System, ds: str, run_id: str) -> dict[str, int]:
    """Parse the night, and the look-back days that were ingested but never parsed; earlier days first.

    Returns counts: n_blank, n_unparsed, n_untimed, n_events, n_without_session, n_sessions, n_patterns, n_templates,
    run_n_templates_new.
    """
    parsed = lake.nights(EVENTS_TABLE, system.name)
    ingested = lake.nights(LINES_TABLE, system.name)
    founded = 0
    for day in look_back(system, ds):
        if day in ingested - parsed:
            write_events(lake, system, day, run_id)
            founded += add_templates(lake, system, day)
    counts = write_events(lake, system, ds, run_id)
    founded += add_templates(lake, system, ds)
    return counts | write_sessions(lake, system, ds) | {"run_n_templates_new": founded}


def write_events(lake: Lake, system: System, ds: str, run_id: str) -> dict[str, int]:
    """One pass over the day's lines into its slice of silver.events; lines that do not match are counted, a few of them shown."""
    from pyspark.sql import Observation

    by_line, by_event = Observation(), Observation()
    unmatched = ~F.col("matched") & ~F.col("blank")
    parsed = parse_lines(lake.read(LINES_TABLE, system=system.name, ds=ds), system, ds)
    events = (
        parsed.observe(
            by_line,
            F.count_if("blank").alias("n_blank"),
            F.count_if(unmatched).alias("n_unparsed"),
            F.count_if(F.col("matched") & F.col("at").isNull()).alias("n_untimed"),
            F.count_if(F.col("matched") & (F.size("session_ids") == 0)).alias("n_without_session"),
        )
        .where("matched")
        .withColumns({"system": F.lit(system.name), "ds": F.lit(ds), "session_id": F.explode_outer("session_ids")})
        .observe(by_event, F.count("*").alias("n_events"))
    )
    lake.replace_slice(EVENTS_TABLE, events, system=system.name, ds=ds)
    counts = {name: int(n or 0) for name, n in (by_line.get | by_event.get).items()}
    show_unparsed(lake, system, ds, run_id, parsed.where(unmatched) if counts["n_unparsed"] else None)
    return counts


def show_unparsed(lake: Lake, system: System, ds: str, run_id: str, unmatched: DataFrame | None) -> None:
    """The first lines that do not match the header, for the operator to look at."""
    first = []
    if unmatched is not None:
        lines = lake.read(LINES_TABLE, system=system.name, ds=ds)
        found = unmatched.select("file", "line_no").orderBy("file", "line_no").limit(SHOWN_UNPARSED)
        first = [row.asDict() for row in found.join(lines, ["file", "line_no"]).select("file", "line_no", "text").collect()]
    rows = [
        {
            "system": system.name,
            "ds": ds,
            "stage": "parse",
            "reason": "the line does not match the header pattern",
            "row": json.dumps(row, ensure_ascii=False),
            "run_id": run_id,
        }
        for row in sorted(first, key=lambda row: (row["file"], row["line_no"]))
    ]
    lake.put(QUARANTINE, rows, system=system.name, ds=ds, stage="parse")


def add_templates(lake: Lake, system: System, ds: str) -> int:
    """Mine the day's messages that were never seen before. Returns how many templates they founded.

    Templates go in before the messages that refer to them.
    """
    day = lake.read(EVENTS_TABLE, system=system.name, ds=ds).select("message_id", "message").distinct()
    new = day.join(lake.read(MESSAGES, system=system.name).select("message_id"), "message_id", "left_anti").cache()
    try:
        if new.isEmpty():
            return 0
        mined = mine_templates(new, lake.read(TEMPLATES, system=system.name), system.name, system.templates)
        mined = mined.withColumns({"system": F.lit(system.name), "first_ds": F.lit(ds)}).cache()
        try:
            touched = mined.dropDuplicates(["template_id"]).withColumn("text", F.col("widened"))
            founded = touched.where("founded").count()
            lake.merge(TEMPLATES, touched.select(*TEMPLATES.schema.names), update=["widened"])
            lake.append(MESSAGES, mined)
            return founded
        finally:
            mined.unpersist()
    finally:
        new.unpersist()


def write_sessions(lake: Lake, system: System, ds: str) -> dict[str, int]:
    """The night's sessions and patterns, from its events and those of the look-back days."""
    days = [*look_back(system, ds), ds]
    events = lake.read(EVENTS_TABLE, system=system.name).where(F.col("ds").isin(days))
    messages = lake.read(MESSAGES, system=system.name)
    place = {"system": F.lit(system.name), "ds": F.lit(ds)}
    sessions = group_sessions(events, messages, ds).withColumns(place).persist()
    try:
        lake.replace_slice(SESSIONS, sessions, system=system.name, ds=ds)
        patterns = group_patterns(sessions).withColumns(place)
        lake.replace_slice(PATTERNS, patterns, system=system.name, ds=ds)
    finally:
        sessions.unpersist()
    counted = lake.read(PATTERNS, system=system.name, ds=ds).agg(
        F.coalesce(F.sum("n_sessions"), F.lit(0)).alias("n_sessions"),
        F.count("*").alias("n_patterns"),
        F.coalesce(F.size(F.array_distinct(F.flatten(F.collect_list("events.template_id")))), F.lit(0)).alias("n_templates"),
    )
    return {name: int(n) for row in counted.collect() for name, n in row.asDict().items()}
