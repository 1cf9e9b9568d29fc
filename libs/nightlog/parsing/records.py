"""Join the lines of records that span lines, by whole columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.systems.spec import LONGEST_RECORD, Record

# A continuation line that looks like one: indented, a frame, a cause or the error of a stack trace, a closing bracket or tag.
THROWN = r"(?:[\w$]+\.)*[\w$]*(?:Exception|Error|Throwable)(?::|$)"
CONTINUES = rf"^(?:\s|at |Caused by|Traceback|\.\.\.|[\])}}>|]|</|#\d|---|===|{THROWN})"
ESCAPE, CHUNK = b"\x1b", 1 << 20
COLOUR = r"\x1b\[[0-9;]*[A-Za-z]"


@dataclass(frozen=True)
class Joined:
    """Records and the account of their lines.

    `rows`: (file, line_no of the first line, text), one row per record, in the order of the lines. `n_continuation`: lines after the first
    of a record that are not blank; `n_swallowed`: those of them that do not look like a continuation; `n_blank`: blank lines in records.
    """

    rows: pa.Table
    n_continuation: int = 0
    n_swallowed: int = 0
    n_blank: int = 0


def join_records(lines: pa.Table, record: Record, own: slice = slice(None), longest: int = LONGEST_RECORD) -> Joined:
    """Join each line that continues a record to the line that begins it.

    A record's text is its first `record.lines` lines that are not blank, joined by line feeds. Lines before the first start of a file, and
    those that follow a start by `longest` lines or more, are records of their own.

    Args:
        lines: (file, line_no, text) in the order of files and lines.
        own: the rows whose records are returned; the rows around them only complete these records.
    """
    n = len(lines)
    texts = flat_column(lines, "text")
    line_no = np.asarray(lines.column("line_no").combine_chunks())
    files = np.asarray(lines.column("file").cast(pa.string()).combine_chunks().dictionary_encode().indices)
    rows = np.arange(n)
    begins_file = np.ones(n, dtype=bool)
    begins_file[1:] = (files[1:] != files[:-1]) | (line_no[1:] != line_no[:-1] + 1)
    starts = matches_at_start(texts, record.start)
    last_start = np.maximum.accumulate(np.where(starts, rows, -1)) if n else rows
    file_start = np.maximum.accumulate(np.where(begins_file, rows, 0)) if n else rows
    claimed = (last_start >= file_start) & (rows - last_start < longest)
    first = np.where(claimed, last_start, rows)

    low, high, _ = own.indices(n)
    chosen = (first >= low) & (first < high)
    rows, first = rows[chosen], first[chosen]
    blank = np.asarray(pc.equal(pc.utf8_trim(texts, " "), "").fill_null(True))[rows]
    heads = np.flatnonzero(first == rows)
    record_of = np.cumsum(first == rows) - 1
    kept = np.flatnonzero(~blank)
    n_kept = np.bincount(record_of[kept], minlength=len(heads))
    rank = np.arange(len(kept)) - np.repeat(np.cumsum(n_kept) - n_kept, n_kept)
    kept = kept[rank < record.lines]
    offsets = np.concatenate([[0], np.cumsum(np.minimum(n_kept, record.lines))]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), texts.take(pa.array(rows[kept])))
    follows = np.flatnonzero((first != rows) & ~blank)
    alike = pc.match_substring_regex(texts.take(pa.array(rows[follows])), CONTINUES)
    places = lines.select(["file", "line_no"]).take(pa.array(rows[heads]))
    return Joined(
        places.append_column("text", pc.binary_join(lists, "\n")),
        n_continuation=len(follows),
        n_swallowed=len(follows) - int(pc.sum(alike).as_py() or 0),
        n_blank=int((blank & (first != rows)).sum()),
    )


def without_colours(lines: pa.Table) -> pa.Table:
    """Return lines (file, line_no, text) without the codes that colour them on a terminal."""
    texts = lines.column("text")
    plain = pa.chunked_array([without_codes(chunk) for chunk in texts.chunks], texts.type)
    return lines.set_column(lines.column_names.index("text"), "text", plain)


def without_codes(texts: pa.StringArray) -> pa.StringArray:
    """Return texts without the codes that colour them on a terminal. Most logs have none: all bytes are searched at once."""
    data = memoryview(texts.buffers()[2] or b"")
    has_codes = any(ESCAPE in bytes(data[begin : begin + CHUNK]) for begin in range(0, len(data), CHUNK))
    return pc.replace_substring_regex(texts, COLOUR, "") if has_codes else texts


def flat_column(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array."""
    column = table.column(name)
    return (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    )


def matches_at_start(texts: pa.StringArray, pattern: str) -> np.ndarray:
    """Return a mask of the texts whose start the pattern matches; patterns that RE2 does not know are matched line by line."""
    try:
        found = pc.match_substring_regex(texts, rf"\A(?:{pattern})")
        return np.asarray(found.fill_null(False))
    except pa.ArrowInvalid:
        compiled = re.compile(pattern, re.ASCII)
    return np.array([compiled.match(text) is not None for text in texts.to_pylist()], dtype=bool)
