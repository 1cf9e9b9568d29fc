"""Raw lines of anomalous sessions: the wanted records of bronze.lines, and the lines that continue them.

Each part of bronze.lines is read by a task, which returns the wanted records alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightlog.lake.parts import Part, open_part, read_group
from nightlog.lake.tables import LINES_TABLE
from nightlog.systems.spec import LONGEST_RECORD

# Of a record over several lines, so many lines after the first: the next ones, and of the rest those that are not indented (causes).
CONTINUATION_LINES, NEXT_LINES = 20, 10
TEXT_ROWS = 1 << 16  # decoded at a time
PLACE = ["ds", "file", "line_no"]
TEXTS = pa.schema([("ds", pa.string()), ("file", pa.string()), ("line_no", pa.int64()), ("shown_no", pa.int64()), ("text", pa.string())])
Places = Mapping[tuple[str, str], np.ndarray]  # (ds, file) → numbers of first lines, in order


class OpenRecord(NamedTuple):
    """A record that may go on in the next part of its file: its first line, the number of the next line, and the lines shown so far."""

    ds: str
    file: str
    line_no: int
    next_no: int
    n_shown: int


class PartTexts(NamedTuple):
    """The wanted records of a part of bronze.lines. `rows`: TEXTS; `line_no` is the first line of the record that line `shown_no` is in.

    `first_lines`: the lines before the first record of the part, TEXTS with their own numbers; `last`: the last record, if it is open.
    """

    rows: pa.Table
    first_lines: pa.Table = TEXTS.empty_table()
    last: OpenRecord | None = None


def texts_of_part(part: Part, root: str, places: Places, record_start: str | None) -> PartTexts:
    """One task: the wanted records of a part of bronze.lines.

    Args: record_start: the expression that begins a record, if records span lines.
    """
    ds = dict(part.partition)["ds"]
    with open_part(root, LINES_TABLE, part.path, ["file"]) as file:
        groups = [read_group(file, LINES_TABLE, group, ["file", "line_no"], ["file"]) for group in range(file.num_row_groups)]
        wanted = [wanted_rows(ds, rows, places) for rows in groups]
        names = {name for rows in groups for chunk in rows.column("file").chunks for name in chunk.dictionary.to_pylist()}
        if record_start is not None and any((ds, name) in places for name in names):
            return records_of_part(ds, *ordered_lines(file, groups, wanted), re.compile(record_start))
        found = [TEXTS.empty_table()]
        for number, (group, rows) in enumerate(zip(groups, wanted, strict=True)):
            if len(rows):
                where = group.take(rows)
                text = pa.chunked_array(taken_texts(file, number, rows), pa.string())
                found.append(texts_table(ds, where.column("file"), where.column("line_no"), where.column("line_no"), text))
    return PartTexts(pa.concat_tables(found))


def wanted_rows(ds: str, rows: pa.Table, places: Places) -> np.ndarray:
    """Return the numbers of the rows (file, line_no) with a wanted place. The files are coded by a dictionary."""
    coded = rows.column("file").unify_dictionaries().combine_chunks()
    codes, numbers = coded.indices.to_numpy(zero_copy_only=False), rows.column("line_no").to_numpy()
    keep = np.zeros(len(rows), dtype=bool)
    for code, file in enumerate(coded.dictionary.to_pylist()):
        if (lines := places.get((ds, file))) is not None:
            own = slice(*np.searchsorted(lines, [numbers.min(), numbers.max() + 1]))
            keep |= (codes == code) & np.isin(numbers, lines[own])
    return np.flatnonzero(keep)


def taken_texts(file: pq.ParquetFile, group: int, rows: np.ndarray) -> Iterator[pa.Array]:
    """Yield the texts of some rows of a row group, in their order; no more than TEXT_ROWS texts are held at a time."""
    start = 0
    for batch in file.iter_batches(TEXT_ROWS, [group], ["text"], use_threads=False):
        first, last = np.searchsorted(rows, [start, start + len(batch)])
        if last > first:
            yield batch.column(0).take(pa.array(rows[first:last] - start)).cast(pa.string())
        start += len(batch)
        if last == len(rows):
            return


def ordered_lines(file: pq.ParquetFile, groups: Sequence[pa.Table], wanted: Sequence[np.ndarray]) -> tuple[pa.Table, np.ndarray]:
    """Return all lines (file, line_no, text) of a part in the order of files and lines, and the wanted rows of this table."""
    where = pa.concat_tables(groups).unify_dictionaries().combine_chunks()
    keep = np.concatenate([np.isin(np.arange(len(group)), rows) for group, rows in zip(groups, wanted, strict=True)])
    coded = where.column("file").combine_chunks()
    order = np.lexsort((where.column("line_no").to_numpy(), coded.indices.to_numpy(zero_copy_only=False)))
    where = where.set_column(0, "file", coded.cast(pa.string()))
    text = file.read(["text"], use_threads=False).column("text").cast(pa.string())
    return where.append_column("text", text).take(order).combine_chunks(), np.flatnonzero(keep[order])


def records_of_part(ds: str, lines: pa.Table, first_rows: np.ndarray, start: re.Pattern[str]) -> PartTexts:
    """As `texts_of_part`, if records span lines. Args: lines (file, line_no, text) in order; first_rows: rows of the wanted records."""
    file, numbers, text = (lines.column(name).combine_chunks() for name in ("file", "line_no", "text"))
    heads, shown = list[int](), list[int]()
    last = None
    for first in first_rows.tolist():
        end = record_end(file, numbers, text, first, start)
        rows = [first, *shown_continuation(range(first + 1, end), text)]
        heads += [first] * len(rows)
        shown += rows
        if end == len(lines):
            last = OpenRecord(ds, file[first].as_py(), numbers[first].as_py(), numbers[end - 1].as_py() + 1, len(rows))
    found = texts_table(
        ds,
        file.take(pa.array(shown, pa.int64())),
        numbers.take(pa.array(heads, pa.int64())),
        numbers.take(pa.array(shown, pa.int64())),
        text.take(pa.array(shown, pa.int64())),
    )
    before = record_end(file, numbers, text, 0, start) if len(lines) and not start.match(text[0].as_py() or "") else 0
    rows = [0, *shown_continuation(range(1, before), text)] if before else []
    first_lines = texts_table(ds, *(column.take(pa.array(rows, pa.int64())) for column in (file, numbers, numbers, text)))
    return PartTexts(found, first_lines, last)


def record_end(file: pa.Array, numbers: pa.Array, text: pa.Array, first: int, start: re.Pattern[str]) -> int:
    """Return the row behind the last line of the record that begins at row `first`."""
    end = first + 1
    while (
        end < min(len(text), first + LONGEST_RECORD)
        and file[end] == file[first]
        and numbers[end].as_py() - numbers[first].as_py() == end - first
        and not start.match(text[end].as_py() or "")
    ):
        end += 1
    return end


def shown_continuation(rows: Sequence[int], text: Sequence[Any]) -> list[int]:
    """Return the rows of a record's lines after the first that are shown: the next ones, and of the rest those that are not indented.

    >>> shown_continuation(range(14), pa.array([*"ABCDEFGHIJ", "  at", "Caused by", "", "  at"]))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    """
    texts = [(row, str(text[row])) for row in rows]
    full = [(row, each) for row, each in texts if each.strip()]
    kept = [row for number, (row, each) in enumerate(full) if number < NEXT_LINES or not each[0].isspace()]
    return kept[:CONTINUATION_LINES]


def texts_table(ds: str, file: Any, line_no: Any, shown_no: Any, text: Any) -> pa.Table:
    """Return columns as TEXTS."""
    columns = [pa.array([ds] * len(file), pa.string()), file, line_no, shown_no, text]
    return pa.table(columns, names=TEXTS.names).cast(TEXTS)


def whole_records(parts: Sequence[PartTexts]) -> pa.Table:
    """Return the records of all parts, TEXTS, each open one with the lines that continue it in the next part."""
    tables = [each.rows for each in parts]
    first_lines = {(rows[0]["ds"], rows[0]["file"], rows[0]["line_no"]): rows for part in parts if (rows := part.first_lines.to_pylist())}
    for each in parts:
        if (last := each.last) is not None and (rows := first_lines.get((last.ds, last.file, last.next_no))):
            more = [row | {"line_no": last.line_no} for row in rows[: max(0, CONTINUATION_LINES + 1 - last.n_shown)]]
            tables.append(pa.Table.from_pylist(more, TEXTS))
    return pa.concat_tables(tables) if tables else TEXTS.empty_table()
