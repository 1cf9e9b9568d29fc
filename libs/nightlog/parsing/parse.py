"""Stage parse: bronze.lines → silver.messages, templates, events, counts, sessions, patterns."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from nightlog.ingest.ingest import look_back
from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, commit_parts, parts_of, read_part, schema_of, write_part
from nightlog.lake.runner import run_tasks
from nightlog.lake.tables import COUNTS_TABLE, EVENTS_TABLE, LINES_TABLE, MESSAGES, NUMBERS, PATTERNS, QUARANTINE, SESSIONS, TEMPLATES
from nightlog.parsing.events import BUCKETS, SHOWN_UNPARSED, Parsed, joined, parse_part, part_tasks
from nightlog.parsing.number_ranges import of_templates
from nightlog.parsing.timestamps import EPOCH, MICROSECOND
from nightlog.sessions.group import Assignment, Pattern, group_sessions, merged, question_id
from nightlog.systems.spec import System
from nightlog.templates.miner import WILDCARD, mine, mine_templates

# Bytes of a usual line, to tell from their number how much work lines are; messages that one process mines in a second or two.
LINE_BYTES = 128
FEW_MESSAGES = 5000
# Counts that one task groups in a second or two, and the bytes of text that take as long as one of them.
COUNTS_PER_TASK, COUNT_BYTES = 1_500_000, 64
# A session of more events than this is noted: an id that so much has in common tells little.
LONG_SESSION = 1_000_000


def parse(lake: Lake, system: System, ds: str, run_id: str) -> dict[str, int]:
    """Parse the night, and before it the look-back days that were ingested but never parsed.

    Returns counts: n_blank, n_unparsed, n_untimed, n_astray (with a time far from the night), n_events, n_without_session, n_sessions,
    n_patterns, n_templates, run_n_templates_new, n_beyond_cap, n_long_sessions.
    """
    waiting = lake.nights(LINES_TABLE, system.name) - lake.nights(EVENTS_TABLE, system.name)
    founded = 0
    if earlier := [day for day in look_back(system, ds) if day in waiting]:
        founded = write_events(lake, system, earlier, run_id)["run_n_templates_new"]
    counts = parse_nights(lake, system, [ds], run_id)
    return counts | {"run_n_templates_new": counts["run_n_templates_new"] + founded}


def parse_nights(lake: Lake, system: System, nights: list[str], run_id: str) -> dict[str, int]:
    """Parse some nights in one go, each table in one commit. Returns the counts of `parse` over all of them."""
    return write_events(lake, system, nights, run_id) | write_sessions(lake, system, nights)


def write_events(lake: Lake, system: System, days: list[str], run_id: str) -> dict[str, int]:
    """The days' lines as events, counts and messages; lines that do not match are counted, a few of them shown.

    Messages and their templates go in before the events that refer to them, so that a run that breaks off is made good by the next.
    """
    parts = parts_of(lake, LINES_TABLE, system=system.name, ds=days)
    n_bytes = LINE_BYTES * sum(part.n_rows for part in parts)
    tasks = part_tasks(lake.root, parts, system)
    found = joined(run_tasks(lake, tasks, partial(parse_part, root=lake.root, system=system), n_bytes))
    founded = commit_events(lake, system, days, found)
    shown = sorted(found.unmatched, key=lambda row: (row["ds"], row["file"], row["line_no"]))[:SHOWN_UNPARSED]
    for day in days:
        quarantine_lines(lake, system, day, run_id, [row for row in shown if row["ds"] == day])
    return found.tally | founded


def commit_events(lake: Lake, system: System, days: list[str], found: Parsed) -> dict[str, int]:
    """Commit what workers have written of the days. Returns the counts of `add_templates`."""
    founded = add_templates(lake, system, found.messages)
    write_numbers(lake, system, days, found)
    commit_parts(lake, COUNTS_TABLE, found.counts, system=system.name, ds=days)
    commit_parts(lake, EVENTS_TABLE, found.events, system=system.name, ds=days)
    return founded


def write_numbers(lake: Lake, system: System, days: list[str], found: Parsed) -> None:
    """The days' lowest and highest numbers, by the places of templates. Needs the messages in the lake."""
    parts = []
    tables = [each for each in found.numbers if len(each)]
    if tables:
        messages = lake.rows(MESSAGES, ["message_id", "template_id"], system=system.name)
        templates = {row["message_id"]: row["template_id"] for row in messages}
        rows = of_templates(pa.concat_tables(tables), {number: text for number, (text, _) in found.messages.items()}, templates)
        for ds, of_day in rows.groupby("ds"):
            table = pa.Table.from_pandas(of_day, preserve_index=False)
            parts.append(write_part(lake.root, NUMBERS, table, system=system.name, ds=str(ds)))
    commit_parts(lake, NUMBERS, parts, system=system.name, ds=days)


def quarantine_lines(lake: Lake, system: System, ds: str, run_id: str, lines: list[dict[str, Any]]) -> None:
    """Set some lines aside that do not match the header, for the operator to look at; an earlier run's are replaced."""
    origin = {"system": system.name, "ds": ds, "stage": "parse", "reason": "the line does not match the header pattern", "run_id": run_id}
    ordered = sorted(lines, key=lambda row: (row["file"], row["line_no"]))
    rows = [{key: row[key] for key in ("file", "line_no", "text")} for row in ordered]
    aside = [origin | {"row": json.dumps(row, ensure_ascii=False)} for row in rows]
    lake.put(QUARANTINE, aside, system=system.name, ds=ds, stage="parse")


def add_templates(lake: Lake, system: System, messages: Mapping[int, tuple[str, str]]) -> dict[str, int]:
    """Mine the messages (id → text and first night) that were never seen before.

    Templates go in before the messages that refer to them. Returns run_n_templates_new, how many templates they founded, and
    n_beyond_cap, how many messages went to a catch-all of wildcards because the system has too many.
    """
    known = {row["message_id"] for row in lake.rows(MESSAGES, ["message_id"], system=system.name)}
    new = {number: found for number, found in messages.items() if number not in known}
    if not new:
        return {"run_n_templates_new": 0, "n_beyond_cap": 0}
    templates = lake.rows(TEMPLATES, system=system.name)
    texts = pd.DataFrame({"message_id": list(new), "message": [message for message, _ in new.values()]}).sort_values("message")
    fed = within_cap(texts["message"], system.templates.messages - len(known))
    distinct = pd.DataFrame({"message_id": range(fed.nunique()), "message": fed.unique()})
    found = mine_messages(lake, distinct, pd.DataFrame(templates, columns=TEMPLATES.schema.names), system)
    mined = texts.assign(fed=fed).merge(found.drop(columns="message_id").rename(columns={"message": "fed"}), on="fed")
    mined["first_ds"] = [new[number][1] for number in mined["message_id"]]
    before = {row["template_id"]: row for row in templates}
    rows = []
    for (name, widened, first_message, n_tokens, ordinal), of_it in mined.groupby(
        ["template_id", "widened", "first_message", "token_count", "ordinal"], sort=True
    ):
        row = {"system": system.name, "template_id": name, "text": widened, "widened": widened, "first_message": first_message}
        row |= {"token_count": int(n_tokens), "ordinal": int(ordinal), "first_ds": of_it["first_ds"].min()}
        if name not in before or before[name]["widened"] != widened:
            rows.append(row)
    founded = sum(row["template_id"] not in before for row in rows)
    if founded == len(rows):
        lake.put(TEMPLATES, rows)
    else:
        lake.upsert(TEMPLATES, rows, update=["widened"])
    assigned = mined.assign(system=system.name)[list(MESSAGES.schema.names)]
    lake.put_arrow(MESSAGES, pa.Table.from_pandas(assigned, preserve_index=False))
    return {"run_n_templates_new": founded, "n_beyond_cap": int((fed != texts["message"]).sum())}


def within_cap(messages: pd.Series[str], room: int) -> pd.Series[str]:
    """The messages, those behind the first `room` ones made wildcards alone, one for each word."""
    beyond = messages.iloc[max(0, room) :].map(lambda message: " ".join(WILDCARD for _ in message.split()))
    return pd.concat([messages.iloc[: max(0, room)], beyond])


def mine_messages(lake: Lake, new: pd.DataFrame, known: pd.DataFrame, system: System) -> pd.DataFrame:
    """Give each new message its template, in this process where they are few. Args and result as those of `mine_templates`."""
    if not lake.here(len(new), FEW_MESSAGES) and (spark := lake.spark) is not None:
        before = spark.createDataFrame(known, TEMPLATES.schema) if len(known) else spark.createDataFrame([], TEMPLATES.schema)
        found = mine_templates(spark.createDataFrame(new, "message_id long, message string"), before, system.name, system.templates)
        return cast("pd.DataFrame", found.toPandas())
    mine_group = mine(system.name, system.templates)
    n_tokens = new["message"].map(lambda message: len(message.split()))
    groups = [mine_group((n,), group, known[known["token_count"] == n]) for n, group in new.groupby(n_tokens)]
    return pd.concat(groups, ignore_index=True)


def write_sessions(lake: Lake, system: System, nights: list[str]) -> dict[str, int]:
    """The nights' sessions and patterns, from the counts of their events and those of the look-back days.

    Returns n_sessions, n_patterns, n_templates, n_long_sessions.
    """
    messages = lake.rows(MESSAGES, ["message_id", "template_id"], system=system.name)
    assignment = Assignment.of((row["message_id"], row["template_id"]) for row in messages)
    sessions: list[Part] = []
    rows: list[Part] = []
    found: dict[str, Pattern] = {}
    n_long = 0
    for ds in nights:
        parts = parts_of(lake, COUNTS_TABLE, system=system.name, ds=[*look_back(system, ds), ds])
        n = sum(part.n_rows for part in parts)
        edges = np.linspace(0, BUCKETS, 2 + n // COUNTS_PER_TASK).astype(int).tolist()
        tasks = list(itertools.pairwise(edges)) if n else []
        work = partial(sessions_of_night, root=lake.root, system=system, ds=ds, parts=parts, assignment=assignment)
        done = run_tasks(lake, tasks, work, COUNT_BYTES * n)
        sessions += [part for part, _, _ in done if part is not None]
        n_long += sum(n for _, _, n in done)
        patterns = merged(each for _, each, _ in done)
        found = merged([found, patterns])
        if patterns:
            table = patterns_table(patterns, system.session.kind == "id")
            rows.append(write_part(lake.root, PATTERNS, table, system=system.name, ds=ds))
    commit_parts(lake, SESSIONS, sessions, system=system.name, ds=nights)
    commit_parts(lake, PATTERNS, rows, system=system.name, ds=nights)
    return {
        "n_sessions": sum(each.n_sessions for each in found.values()),
        "n_patterns": len(found),
        "n_templates": len({name for each in found.values() for name, _ in each.events}),
        "n_long_sessions": n_long,
    }


def sessions_of_night(
    buckets: tuple[int, int], root: str, system: System, ds: str, parts: list[Part], assignment: Assignment
) -> tuple[Part | None, dict[str, Pattern], int]:
    """One task: the sessions of some buckets, written beside those of the others, their patterns, and how many sessions are long."""
    columns = ["session_id", "message_id", "n", "first_at", "last_at"]
    tables = []
    for part in parts:
        rows = read_part(root, COUNTS_TABLE, part.path, columns, ("bucket", *buckets))
        tables.append(rows.append_column("own", pa.array(np.full(len(rows), dict(part.partition)["ds"] == ds))))
    sessions, patterns = group_sessions(pa.concat_tables(tables), assignment, settle_bounds(system, ds))
    written = write_part(root, SESSIONS, sessions, system=system.name, ds=ds) if len(sessions) else None
    return written, patterns, int((sessions.column("n_events").to_numpy() > LONG_SESSION).sum())


def settle_bounds(system: System, ds: str) -> tuple[int, int] | None:
    """See `settled`: `settle_minutes` before the night's first and last midnight in the system's time zone, as microseconds since 1970."""
    if not system.settle_minutes or system.timestamp is None:
        return None
    zone, settle = ZoneInfo(system.timestamp.timezone), timedelta(minutes=system.settle_minutes)
    midnight = datetime.fromisoformat(ds).replace(tzinfo=zone)
    begin, end = ((at.astimezone(UTC) - settle - EPOCH) // MICROSECOND for at in (midnight, midnight + timedelta(days=1)))
    return begin, end


def patterns_table(patterns: Mapping[str, Pattern], counted: bool) -> pa.Table:
    """Patterns as the columns of silver.patterns but the partition's. Args: counted, whether counts tell something."""
    rows = [
        {
            "pattern_id": name,
            "question_id": question_id(pattern.events, counted),
            "events": [{"template_id": template, "count": count} for template, count in pattern.events],
            "n_sessions": pattern.n_sessions,
            "example_session_id": pattern.example_session_id,
        }
        for name, pattern in sorted(patterns.items())
    ]
    return pa.Table.from_pylist(rows, schema_of(PATTERNS))
