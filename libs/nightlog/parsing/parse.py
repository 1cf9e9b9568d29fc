"""Stage parse: bronze.lines → silver.messages, templates, events, counts, sessions, patterns."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.lake import Lake
from nightlog.lake.lookup import message_templates
from nightlog.lake.parts import write_part
from nightlog.lake.tables import (
    COUNTS_TABLE,
    EVENTS_TABLE,
    LINES_TABLE,
    MESSAGES,
    NUMBERS,
    QUARANTINE,
    TEMPLATE_COUNTS,
    TEMPLATES,
    QuarantineRow,
    TemplateRow,
)
from nightlog.parsing.events import Parsed, joined, parse_part, part_tasks
from nightlog.parsing.kept import kept_tally, note_parsed, templates_hash
from nightlog.parsing.messages import MessageCap, Messages, catch_all_ids
from nightlog.parsing.number_ranges import of_templates
from nightlog.parsing.readings import GONE, LINES, RULES, Readings
from nightlog.sessions.waiting import WaitingList
from nightlog.sessions.write import earlier_days, write_sessions
from nightlog.systems.spec import System
from nightlog.templates.miner import MessageGroup, mine_group

# Bytes of a usual line, and bytes of text that take as long as to mine a message.
LINE_BYTES, MESSAGE_BYTES = 128, 51200
TOTALS = pa.schema(
    [("template_id", pa.string()), ("n", pa.int64()), ("last_at", pa.timestamp("us", "UTC")), ("level", pa.string())],
)


def parse(lake: Lake, system: System, ds: str, run_id: str, read_again: bool = False) -> tuple[dict[str, int], list[str]]:
    """Parse the night, and before it the earlier days that it looks at, if they were never parsed or would be parsed differently today.

    A night that was parsed before keeps its events, if nothing that they depend on has changed (see `kept`).

    Args: read_again: parse the night even then.

    Returns:
        Counts: n_blank, n_unparsed, n_untimed, n_astray (with a time far from the night), n_events, n_without_session,
        run_n_templates_new, run_n_events_kept, n_beyond_cap, and those of `write_sessions`; and what an operator should know.
    """
    readings, waiting = Readings(lake, system), WaitingList(lake, system.name)
    days = earlier_days(system, ds, waiting.due(ds, readings.earlier_days(ds)))
    outdated = readings.outdated(days)
    founded = 0
    if again := [day for day, why in outdated.items() if why != GONE]:
        founded = write_events(lake, system, again, run_id, readings)["run_n_templates_new"]
    kept = None if read_again else kept_tally(lake, system, ds, readings)
    if kept is None:
        counts = write_events(lake, system, [ds], run_id, readings) | {"run_n_events_kept": 0}
    else:
        counts = kept | {"run_n_templates_new": 0, "run_n_events_kept": kept["n_events"]}
    of_sessions, notes = write_nights(lake, system, [ds], run_id, readings, waiting)
    read_before = [f"{day} was parsed again for this night: {why}" for day, why in outdated.items() if why in (RULES, LINES)]
    gone = [f"{day} was parsed by other reading rules, and its lines are gone" for day, why in outdated.items() if why == GONE]
    stale = [
        f"{night} was judged with other lines of this day: nightlog run --ds {night} --system {system.name}"
        for night, changed in readings.stale().items()
        if ds in changed
    ]
    counts["run_n_templates_new"] += founded
    return counts | of_sessions, [*read_before, *gone, *notes, *stale]


def parse_nights(lake: Lake, system: System, nights: list[str], run_id: str) -> tuple[dict[str, int], list[str]]:
    """Parse some nights in one go, each table in one commit. Returns what `parse` returns, over all of them."""
    readings, waiting = Readings(lake, system), WaitingList(lake, system.name)
    counts = write_events(lake, system, nights, run_id, readings)
    of_sessions, notes = write_nights(lake, system, nights, run_id, readings, waiting)
    return counts | of_sessions, notes


def write_nights(
    lake: Lake, system: System, nights: list[str], run_id: str, readings: Readings, waiting: WaitingList
) -> tuple[dict[str, int], list[str]]:
    """Write the sessions of nights whose events are there, the list of what waits, and the readings. Returns as `write_sessions`."""
    found = write_sessions(lake, system, nights, readings, waiting)
    waiting.write()
    readings.write(run_id)  # last: a run that breaks off before it is made good by the next
    return found


def write_events(lake: Lake, system: System, days: list[str], run_id: str, readings: Readings) -> dict[str, int]:
    """The days' lines as events, counts and messages; lines that do not match are counted, a few of them shown.

    Messages and their templates go in before the events that refer to them, so that a run that breaks off is made good by the next.
    """
    parts = lake.parts(LINES_TABLE, system=system.name, ds=days)
    n_bytes = LINE_BYTES * sum(part.n_rows for part in parts)
    tasks = part_tasks(lake.root, parts, system)
    cap = MessageCap.of(lake, system)
    work = partial(parse_part, root=lake.root, system=system, cap=cap)
    found: Parsed = lake.runner.run_joined(tasks, work, partial(joined, cap=cap), n_bytes)
    founded = add_templates(lake, system, found.messages, set(cap.known.tolist()))
    templates = message_templates(lake, system.name)
    counts = found.tally | {"n_beyond_cap": commit_events(lake, system, days, found, templates)}
    for day in days:
        quarantine_lines(lake, system, day, run_id, [row for row in found.unmatched if row["ds"] == day])
    readings.parsed(days)
    if len(days) == 1:
        ids = (number for each in found.totals for number in each.column("message_id").to_pylist())
        note_parsed(lake, system, days[0], readings, counts, templates_hash(templates, ids))
    return counts | {"run_n_templates_new": founded}


def commit_events(lake: Lake, system: System, days: list[str], found: Parsed, templates: Mapping[int, str]) -> int:
    """Commit the part files that workers have written of the days. Args: templates: message id → template id.

    Returns the number of records that share a template of wildcards, because the system has too many messages or templates.
    """
    beyond = catch_all_ids(system, found.messages, templates)
    write_totals(lake, system, days, found, templates)
    write_numbers(lake, system, days, found, templates, beyond)
    lake.replace(COUNTS_TABLE, found.counts, system=system.name, ds=days)
    lake.replace(EVENTS_TABLE, found.events, system=system.name, ds=days)
    n_beyond: int = sum(pc.sum(each.filter(pc.is_in(each.column("message_id"), beyond)).column("n")).as_py() or 0 for each in found.totals)
    return n_beyond


def write_totals(lake: Lake, system: System, days: list[str], found: Parsed, templates: Mapping[int, str]) -> None:
    """Write how often each template was logged on each day, when last, and its usual level. Args: templates: message id → template id."""
    parts = []
    if found.totals:
        rows = pa.concat_tables(found.totals).to_pandas()
        rows["template_id"] = rows["message_id"].map(templates)
        for ds, of_day in rows.groupby("ds"):
            per_level = of_day.groupby(["template_id", "level"], as_index=False)["n"].sum()
            ranked = per_level.sort_values(["n", "level"], ascending=[False, True])
            usual = ranked.drop_duplicates("template_id").set_index("template_id")["level"]
            total = of_day.groupby("template_id", as_index=False).agg(n=("n", "sum"), last_at=("last_at", "max"))
            total["level"] = total["template_id"].map(usual).astype(object)
            table = pa.Table.from_pandas(total, schema=TOTALS, preserve_index=False)
            parts.append(write_part(lake.root, TEMPLATE_COUNTS, table, system=system.name, ds=str(ds)))
    lake.replace(TEMPLATE_COUNTS, parts, system=system.name, ds=days)


def write_numbers(lake: Lake, system: System, days: list[str], found: Parsed, templates: Mapping[int, str], without: pa.Int64Array) -> None:
    """Write the days' lowest and highest numbers, by the places of templates.

    Args: templates: message id → template id; without: messages that have no places in common.
    """
    parts = []
    tables = [each.filter(pc.invert(pc.is_in(each.column("message_id"), without))) for each in found.numbers]
    tables = [each for each in tables if len(each)]
    if tables:
        rows = of_templates(pa.concat_tables(tables), {number: text for number, (text, _) in found.messages.items()}, templates)
        for ds, of_day in rows.groupby("ds"):
            table = pa.Table.from_pandas(of_day, preserve_index=False)
            parts.append(write_part(lake.root, NUMBERS, table, system=system.name, ds=str(ds)))
    lake.replace(NUMBERS, parts, system=system.name, ds=days)


def quarantine_lines(lake: Lake, system: System, ds: str, run_id: str, lines: list[dict[str, Any]]) -> None:
    """Set some lines aside that do not match the header, for the operator to look at; an earlier run's are replaced."""
    origin: QuarantineRow = {"system": system.name, "ds": ds, "stage": "parse", "run_id": run_id}
    origin |= {"reason": "the line does not match the header pattern"}
    ordered = sorted(lines, key=lambda row: (row["file"], row["line_no"]))
    rows = [{key: row[key] for key in ("file", "line_no", "text")} for row in ordered]
    aside: list[QuarantineRow] = [origin | {"row": json.dumps(row, ensure_ascii=False)} for row in rows]
    lake.replace(QUARANTINE, aside, system=system.name, ds=ds, stage="parse")


def add_templates(lake: Lake, system: System, messages: Messages, known: Collection[int]) -> int:
    """Mine the messages that were never seen before. Returns how many templates they founded.

    Templates go in before the messages that refer to them. Args: known: ids of the system's messages so far.
    """
    new = {number: found for number, found in messages.items() if number not in known}
    if not new:
        return 0
    templates = lake.rows(TEMPLATES, system=system.name)
    texts = pd.DataFrame({"message_id": list(new), "message": [message for message, _ in new.values()]}).sort_values("message")
    distinct = pd.DataFrame({"message_id": range(texts["message"].nunique()), "message": texts["message"].unique()})
    found = mine_messages(lake, distinct, pd.DataFrame(templates, columns=TEMPLATES.names), system)
    mined = texts.merge(found.drop(columns="message_id"), on="message")
    mined["first_ds"] = [new[number][1] for number in mined["message_id"]]
    before = {row["template_id"]: row for row in templates}
    rows: list[TemplateRow] = []
    for (name, widened, first_message, n_tokens, ordinal), of_it in mined.groupby(
        ["template_id", "widened", "first_message", "token_count", "ordinal"], sort=True
    ):
        row: TemplateRow = {"system": system.name, "template_id": name, "text": widened, "widened": widened, "first_message": first_message}
        row |= {"token_count": int(n_tokens), "ordinal": int(ordinal), "first_ds": of_it["first_ds"].min()}
        if name not in before or before[name]["widened"] != widened:
            rows.append(row)
    founded = sum(row["template_id"] not in before for row in rows)
    if founded == len(rows):
        lake.append(TEMPLATES, rows)
    else:
        lake.merge(TEMPLATES, rows, update=["widened"])
    assigned = mined.assign(system=system.name)[list(MESSAGES.names)]
    lake.append(MESSAGES, pa.Table.from_pandas(assigned, preserve_index=False))
    return founded


def mine_messages(lake: Lake, new: pd.DataFrame, known: pd.DataFrame, system: System) -> pd.DataFrame:
    """Give each new message its template, a task per token count.

    Args: new (message_id, message), distinct and never seen before; known: rows of silver.templates. Returns: as `mine_group`.
    """
    n_tokens = new["message"].map(lambda message: len(message.split()))
    groups = [MessageGroup(int(n), group, known[known["token_count"] == n]) for n, group in new.groupby(n_tokens)]
    work = partial(mine_group, system=system.name, config=system.templates)
    return pd.concat(lake.runner.run(groups, work, MESSAGE_BYTES * len(new)), ignore_index=True)
