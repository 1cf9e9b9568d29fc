"""One pass over the lines: header split, time, masks, session ids. Spark's own column expressions, no Python a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from nightlog.parsing.number_ranges import looked_at, numbers_in
from nightlog.parsing.records import join_records
from nightlog.parsing.structured import split_keys
from nightlog.parsing.timestamps import EPOCHS, names_zone
from nightlog.systems.spec import WHOLE_LINE, Mask, System

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

MATCHED, NEXT = "\u0001\u0002", "\u0002\u0001"
MAX_MESSAGE = 8192
# A stamp outside of these is an error, and pandas and Python could not hold it.
EARLIEST, LATEST = "1970-01-01", "2262-01-01"


def java(pattern: str) -> str:
    """A Python regular expression as Java reads it: named groups become numbered ones (Java's names allow no underscore).

    >>> java(r"(?P<log_level>\\w+)")
    '(\\\\w+)'
    """
    return re.sub(r"\(\?P<\w+>", "(", pattern)


def split_header(text: Column, system: System, wanted: list[str]) -> dict[str, Column]:
    """The wanted header fields of each record, and "matched"."""
    header = system.header
    if header.kind != "pattern":
        apart = {} if header.pattern == WHOLE_LINE else split_pattern(text, header.pattern, [n for n in wanted if n in header.groups])
        return split_keys(text, header, apart, wanted)
    return split_pattern(text, header.pattern, wanted)


def split_pattern(text: Column, pattern: str, wanted: list[str]) -> dict[str, Column]:
    """The wanted groups of the pattern that matches the whole text, and "matched".

    The expression runs once a line: it rewrites a matching line into its groups, with marks between them, `message` last so that
    nothing in it can be taken for a mark; a line that begins like a rewritten one is looked at twice.
    """
    fields = re.compile(pattern).groupindex
    names = [*(name for name in wanted if name != "message"), "message"]
    whole = f"(?s)^(?:{java(pattern)})$"
    rewritten = F.regexp_replace(
        F.replace(text, F.lit(NEXT), F.lit("\ufffd")), whole, MATCHED + NEXT.join(f"${fields[name]}" for name in names)
    )
    matched = rewritten.startswith(MATCHED) & (~text.startswith(MATCHED) | text.rlike(whole))
    parts = F.split(F.substr(rewritten, F.lit(len(MATCHED) + 1)), NEXT, len(names))
    return {"matched": matched} | {name: F.get(parts, F.lit(i)) for i, name in enumerate(names)}


def mask(message: Column, masks: tuple[Mask, ...]) -> Column:
    """The message with typed placeholders, e.g. `<IP>`, in the masks' order; blanks at its ends are dropped."""
    return F.trim(with_placeholders(message, masks))


def with_placeholders(message: Column, masks: tuple[Mask, ...]) -> Column:
    """As `mask`, with the blanks."""
    for each in masks:
        message = F.regexp_replace(message, java(each.pattern), each.placeholder)
    return message


def timestamp(system: System, fields: dict[str, Column], ds: Column) -> Column:
    """The line's time, UTC; null where it cannot be read. Systems without stamps take the delivery date."""
    stamp = system.timestamp
    if stamp is None:
        return F.to_timestamp(ds)
    known = fields | {"ds": ds, "ds_year": F.left(ds, F.lit(4))}
    pieces = [known[p] if i % 2 else F.lit(p) for i, p in enumerate(re.split(r"\{(\w+)\}", stamp.value)) if p]
    value = F.regexp_replace(F.concat(*pieces), " +", " ") if " " in stamp.value or len(pieces) > 1 else F.concat(*pieces)
    if stamp.format in EPOCHS:
        return F.timestamp_seconds(value.try_cast("double") / EPOCHS[stamp.format])
    read = F.try_to_timestamp(value, F.lit(stamp.format))
    return read if stamp.timezone == "UTC" or names_zone(stamp.format) else F.to_utc_timestamp(read, stamp.timezone)


def session_ids(system: System, fields: dict[str, Column], at: Column) -> Column:
    """The ids of a line's sessions, distinct: array<string>, empty where there is none."""
    session = system.session
    if session.kind == "id":
        assert session.pattern is not None
        group = F.lit(min(1, re.compile(session.pattern).groups))
        found = F.array_distinct(F.regexp_extract_all(fields[session.field], F.lit(java(session.pattern)), group))
    elif session.kind == "field":
        found = F.array(F.trim(fields[session.field]))
    else:
        width = session.window_minutes * 60
        start = F.timestamp_seconds(F.floor(F.unix_timestamp(at) / width) * width)
        found = F.array(F.date_format(start, "yyyy-MM-dd'T'HH:mm'Z'"))
    return F.filter(found, lambda session_id: session_id.isNotNull() & (session_id != ""))


def wanted_fields(system: System) -> set[str]:
    """The header fields that make an event."""
    wanted = {"message", *({"level"} & set(system.header.fields))}
    wanted |= {system.session.field} if system.session.kind != "window" else set()
    return wanted | (set(re.findall(r"\{(\w+)\}", system.timestamp.value)) - {"ds", "ds_year"} if system.timestamp else set())


def records_of(lines: DataFrame, system: System) -> DataFrame:
    """Lines (ds, file, line_no, text), or the records of several lines each that they are."""
    return lines if system.record is None else join_records(lines, java(system.record.start), system.record.lines)


def parse_lines(lines: DataFrame, system: System) -> DataFrame:
    """Lines as parsed: one row a line, or a record where these span lines.

    Args: lines (ds, file, line_no, text); the label is not in the text any more.
    Returns: (ds, file, line_no, blank boolean, matched boolean, at timestamp, level string, session_ids array<string>,
    message_id long, message string masked, numbers array<string>: see `numbers_in`); where not matched the last six mean nothing.
    """
    fields = split_header(F.col("text"), system, sorted(wanted_fields(system)))
    split = records_of(lines, system).select(
        "ds",
        "file",
        "line_no",
        (F.trim("text") == "").alias("blank"),
        *[value.alias(f"_{name}") for name, value in fields.items()],
    )
    found = {name: F.col(f"_{name}") for name in fields if name != "matched"}
    timed = split.withColumn("at", F.when(F.col("_matched"), timestamp(system, found, F.col("ds"))))
    timed = timed.withColumn("at", F.when(F.col("at").between(F.to_timestamp(F.lit(EARLIEST)), F.to_timestamp(F.lit(LATEST))), F.col("at")))
    masks = system.all_masks
    before = with_placeholders(F.left(found["message"], F.lit(MAX_MESSAGE)), masks[:-1])
    numbers = numbers_in(before, masks[-1]) if looked_at(masks) else F.lit(None).cast("array<string>")
    return timed.select(
        "ds",
        "file",
        "line_no",
        "blank",
        (F.col("_matched") & ~F.col("blank")).alias("matched"),
        "at",
        (found["level"] if "level" in found else F.lit(None).cast("string")).alias("level"),
        session_ids(system, found, F.col("at")).alias("session_ids"),
        mask(before, masks[-1:]).alias("message"),
        numbers.alias("numbers"),
    ).select("*", F.xxhash64("message").alias("message_id"))
