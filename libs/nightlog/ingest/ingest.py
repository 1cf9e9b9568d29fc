"""Stage ingest: raw files of the day → bronze.lines, and labels that stand in the lines → bronze.labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nightlog.errors import FormatError, NoInput
from nightlog.ingest.discover import copies, find_files, relative
from nightlog.ingest.splits import MAX_LINE, PIECE, Lines, Piece, ends_in, numbered, plan, read_piece, to_count
from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, write_part
from nightlog.lake.tables import LABELS, LINES_TABLE
from nightlog.systems.spec import Labels, System

if TYPE_CHECKING:
    import pyarrow as pa


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
    notes = []
    if system.timestamp is not None and (twice := copies(files)):
        # Without time stamps equal files may well be what two hosts said.
        files = [path for path in files if path not in twice]
        told = ", ".join(f"{relative(path, data)} is {relative(first, data)} again" for path, first in list(twice.items())[:3])
        notes.append(f"{len(twice):,} files were delivered twice and are read once: {told}")
    if earlier:
        try:
            ingest_days(lake, system, earlier, data)
        except FormatError as error:
            notes.append(f"sessions that began before the night are judged on the night alone: {error}")
    counts = ingest_days(lake, system, {ds: files}, data)
    if n_cut := counts.pop("n_cut"):
        notes.append(f"{n_cut:,} lines were longer than {MAX_LINE:,} bytes and are kept without their ends")
    return counts, "; ".join(notes) or None


def ingest_days(lake: Lake, system: System, files: Mapping[str, list[Path]], data: Path) -> dict[str, int]:
    """The files of some days into their slices of bronze.lines, in one commit. Returns n_files, n_lines, n_replaced, n_cut."""
    every = [(path, relative(path, data), ds) for ds, found in files.items() for path in found]
    n_bytes = sum(path.stat().st_size for path, _, _ in every)
    tasks = plan(every)
    open_ended = to_count(tasks)
    ends = dict(zip([(piece.path, piece.start) for piece in open_ended], lake.runner.run(open_ended, ends_in, n_bytes), strict=True))
    work = partial(write_lines, root=lake.root, system=system)
    written = lake.runner.run(numbered(tasks, ends), work, n_bytes)
    days = list(files)
    tags = [rows for each in written for rows in each.tags]
    if system.labels is not None and system.labels.pattern is not None:
        put_labels(lake, system, days, tags)
    lake.replace(LINES_TABLE, [part for each in written for part in each.parts], system=system.name, ds=days)
    counts = {name: sum(getattr(each, name) for each in written) for name in ("n_lines", "n_replaced", "n_cut")}
    return {"n_files": len(every)} | counts


@dataclass
class Written:
    """What a task has written and counted; `tags` are the labels that stood in its lines."""

    parts: list[Part] = field(default_factory=list)
    tags: list[pa.Table] = field(default_factory=list)
    n_lines: int = 0
    n_replaced: int = 0
    n_cut: int = 0


def write_lines(pieces: Sequence[Piece], root: str, system: System) -> Written:
    """One task: the lines of some pieces as part files of bronze.lines; a label at the start of a line is cut off, so that nothing
    after this stage can see it."""
    import pyarrow as pa

    done = Written()
    for ds in dict.fromkeys(piece.ds for piece in pieces):
        waiting: list[pa.Table] = []
        n_waiting = 0
        for piece in pieces:
            for lines in read_piece(piece) if piece.ds == ds else ():
                done.n_lines += len(lines.texts)
                done.n_replaced += int(lines.replaced.sum())
                done.n_cut += lines.n_cut
                rows = table_of(lines, piece.file)
                if system.labels is not None and system.labels.pattern is not None:
                    rows, tags = without_labels(rows, system.labels)
                    done.tags.append(tags.append_column("ds", pa.array([ds] * len(tags), pa.string())))
                waiting.append(rows)
                n_waiting += rows.nbytes
                if n_waiting >= PIECE:
                    done.parts.append(write_part(root, LINES_TABLE, pa.concat_tables(waiting), system=system.name, ds=ds))
                    waiting, n_waiting = [], 0
        if waiting:
            done.parts.append(write_part(root, LINES_TABLE, pa.concat_tables(waiting), system=system.name, ds=ds))
    return done


def table_of(lines: Lines, file: str) -> pa.Table:
    """Lines as rows (file, line_no, text)."""
    import pyarrow as pa

    n = len(lines.texts)
    files = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([file], pa.string()))
    return pa.table({"file": files, "line_no": np.arange(lines.first, lines.first + n, dtype=np.int64), "text": lines.texts})


def without_labels(rows: pa.Table, labels: Labels) -> tuple[pa.Table, pa.Table]:
    """The rows without the labels at the starts of their texts, and the labels as rows (file, line_no, label, tag)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    assert labels.pattern is not None
    rest, found, tags = cut_off(rows.column("text"), labels.pattern)
    labelled = rows.select(["file", "line_no"]).append_column("tag", tags).filter(found)
    marks = pc.invert(pc.is_in(labelled.column("tag"), pa.array(labels.normal, pa.string()))).cast(pa.int32())
    return rows.set_column(2, "text", rest), labelled.append_column("label", marks)


def cut_off(texts: pa.ChunkedArray, pattern: str) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The texts without what the pattern finds at their starts, whether it does, and its group `label`, null where it does not.

    Whole columns at once; patterns with what Arrow's regular expressions lack (looking ahead or back) line by line.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = rf"(?s)\A(?:{pattern})"
    try:
        groups = pc.extract_regex(texts, whole)
        return pc.replace_substring_regex(texts, whole, "", max_replacements=1), pc.is_valid(groups), pc.struct_field(groups, "label")
    except pa.ArrowInvalid:
        start = re.compile(pattern, re.DOTALL | re.ASCII)
    plain = texts.to_pylist()
    found = [start.match(text) for text in plain]
    rest = [text[match.end() :] if match else text for text, match in zip(plain, found, strict=True)]
    tags = pa.array([match["label"] if match else None for match in found], pa.string())
    return pa.array(rest, pa.string()), pa.array([match is not None for match in found]), tags


def put_labels(lake: Lake, system: System, days: list[str], tags: Sequence[pa.Table]) -> None:
    """Write the labels of some days, in one commit."""
    import pyarrow as pa

    if not tags:
        lake.replace(LABELS, [], system=system.name, ds=days)
        return
    rows = pa.concat_tables([each.set_column(0, "file", each.column("file").cast(pa.string())) for each in tags])
    n = len(rows)
    whole = rows.append_column("system", pa.array([system.name] * n, pa.string())).append_column("session_id", pa.nulls(n, pa.string()))
    lake.replace(LABELS, whole, system=system.name, ds=days)
