"""Records that Spark takes apart (JSON, logfmt, journald's export, records over lines), put on one line each and parsed by shape.

Spark's expressions find the values; masks, time stamps and ids, which cost the most, are looked at once for each shape, as in `events`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from nightlog.ingest.splits import PIECE
from nightlog.lake.parts import Part
from nightlog.parsing.events import SHOWN_UNPARSED, Parsed, joined, parse_table, write_event_parts
from nightlog.parsing.lines import records_of, split_header, wanted_fields
from nightlog.parsing.shapes import by_shape
from nightlog.systems.spec import Header, System

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Before each value of a record, so that none is blank; in a value it is replaced, in the message, which comes last, it may stand.
BEFORE = "\x1f"
TOLD = "told string, numbers binary"


def flat_system(system: System) -> System | None:
    """The system whose lines are the flat records of this one; None where these cannot be parsed by shape either."""
    pattern = "".join(f"{BEFORE}(?P<{name}>[^{BEFORE}]*)" for name in sorted(wanted_fields(system) - {"message"}))
    flat = system.model_copy(update={"header": Header(pattern=f"{pattern}{BEFORE}(?P<message>.*)"), "record": None})
    return flat if by_shape(flat) else None


def flat_records(lines: DataFrame, system: System) -> DataFrame:
    """Lines (ds, file, line_no, text) as records (ds, file, line_no, matched, text): flat where they match, else as they are."""
    records = records_of(lines, system)
    fields = split_header(F.col("text"), system, sorted(wanted_fields(system)))
    split = records.select("ds", "file", "line_no", "text", *[value.alias(f"_{name}") for name, value in fields.items()])
    matched = F.col("_matched") & (F.trim("text") != "")
    values = [
        F.replace(F.coalesce(f"_{name}", F.lit("")), F.lit(BEFORE), F.lit("\ufffd"))
        for name in sorted(set(fields) - {"matched", "message"})
    ]
    flat = F.concat_ws(BEFORE, F.lit(""), *values, F.col("_message"))
    return split.select("ds", "file", "line_no", matched.alias("matched"), F.when(matched, flat).otherwise(F.col("text")).alias("text"))


def parse_records(lines: DataFrame, system: System, flat: System, root: str) -> Parsed:
    """Parse the records of some nights, and write their events and counts, uncommitted."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in in_pieces(batches):
            for ds in rows.column("ds").unique().to_pylist():
                yield packed(parse_night(rows.filter(pc.equal(rows.column("ds"), ds)), flat, ds, root))

    rows = flat_records(lines, system).mapInArrow(work, TOLD).collect()
    return joined([unpacked(row["told"], bytes(row["numbers"])) for row in rows])


def in_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together until they are as large as a piece of a file."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.nbytes for each in waiting) >= PIECE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def parse_night(rows: pa.Table, flat: System, ds: str, root: str) -> Parsed:
    """Flat records of one night as events; those that did not match are counted, a few of them shown."""
    matched = rows.filter(rows.column("matched")).sort_by([("file", "ascending"), ("line_no", "ascending")])
    events, parsed = parse_table(matched.select(["file", "line_no", "text"]), flat, ds)
    others = rows.filter(pc.invert(rows.column("matched")))
    blank = pc.equal(pc.utf8_trim(others.column("text"), " "), "")
    n_blank = int(pc.sum(blank).as_py() or 0)
    parsed.tally |= {"n_blank": n_blank, "n_unparsed": len(others) - n_blank}
    shown = others.filter(pc.invert(blank)).sort_by([("file", "ascending"), ("line_no", "ascending")]).slice(0, SHOWN_UNPARSED)
    parsed.unmatched = [row | {"ds": ds} for row in shown.select(["file", "line_no", "text"]).to_pylist()]
    write_event_parts(parsed, events, root, flat.name, ds)
    return parsed


def packed(parsed: Parsed) -> pa.RecordBatch:
    """What a worker tells the driver of its records, as a row of TOLD."""
    told = asdict(replace(parsed, numbers=[]))
    sink = pa.BufferOutputStream()
    if parsed.numbers:
        whole = pa.concat_tables(parsed.numbers)
        with pa.ipc.new_stream(sink, whole.schema) as out:
            out.write_table(whole)
    return pa.RecordBatch.from_pydict({"told": [json.dumps(told)], "numbers": [sink.getvalue().to_pybytes()]})


def unpacked(told: str, numbers: bytes) -> Parsed:
    """The reverse of `packed`."""
    found = json.loads(told)
    events, counts = (
        [Part(**each | {"partition": tuple((name, value) for name, value in each["partition"])}) for each in found[name]]
        for name in ("events", "counts")
    )
    messages = {int(number): (message, ds) for number, (message, ds) in found["messages"].items()}
    tables = [pa.ipc.open_stream(numbers).read_all()] if numbers else []
    return Parsed(events, counts, found["tally"], messages, found["unmatched"], tables)
