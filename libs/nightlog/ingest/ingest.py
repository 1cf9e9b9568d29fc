"""Stage ingest: raw files of the day → bronze.lines and bronze.files, and labels that stand in the lines → bronze.labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from nightlog.errors import ConfigError, FormatError, NoInput
from nightlog.ingest.copies import find_copies
from nightlog.ingest.discover import LogFile, find_files, log_files
from nightlog.ingest.splits import MAX_LINE, PIECE, Lines, Piece, ends_in, numbered, plan, read_piece, to_count
from nightlog.ingest.unchanged import lines_hash, unchanged_files
from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, names_hash, write_part
from nightlog.lake.tables import FILES, LABELS, LINES_TABLE, NIGHTS, FileRow
from nightlog.outcomes import is_published
from nightlog.quality.outliers import is_due
from nightlog.quality.rules import check_lines
from nightlog.systems.paths import glob_of
from nightlog.systems.spec import Labels, System

if TYPE_CHECKING:
    import pyarrow as pa

# Carriage returns inside of lines are noted if there are more than these per line.
MANY_RETURNS = 0.01
SUMMED = ("n_bytes", "n_lines", "n_replaced", "n_cut", "n_returns")


@dataclass(frozen=True)
class Delivery:
    """The log files of one night that are read, and copy → the file that is read instead."""

    files: tuple[LogFile, ...]
    copies: Mapping[LogFile, LogFile]

    @property
    def note(self) -> list[str]:
        """The copies in words."""
        if not self.copies:
            return []
        named = ", ".join(f"{copy.name} is {kept.name} again" for copy, kept in list(self.copies.items())[:3])
        n = len(self.copies)
        words = "1 file was delivered twice and is" if n == 1 else f"{n:,} files were delivered twice and are"
        return [f"{words} read once: {named}"]


def look_back(system: System, ds: str) -> list[str]:
    """Return the days before the night on which its sessions may have begun, earliest first."""
    day = date.fromisoformat(ds)
    return [(day - timedelta(days=n)).isoformat() for n in range(system.session.lookback_days, 0, -1)]


def find_delivery(system: System, data: Path, ds: str) -> Delivery:
    """Return what was delivered for a night, empty if nothing was. Raises FormatError if some of it cannot be reached."""
    return compared(system, log_files(system, data, ds, find_files(system, data, ds)))


def compared(system: System, files: Sequence[LogFile]) -> Delivery:
    """Return the files of a night as a delivery: what they hold tells which of them are copies."""
    copies = find_copies(files, system.timestamp is not None)
    return Delivery(tuple(file for file in files if file not in copies), copies)


def as_recorded(files: Sequence[LogFile], rows: Sequence[FileRow]) -> Delivery:
    """Return the files of a night as a delivery, with the copies that bronze.files names."""
    by_name = {file.name: file for file in files}
    copies = {by_name[row["file"]]: by_name[row["copy_of"]] for row in rows if row["copy_of"] is not None}
    return Delivery(tuple(file for file in files if file not in copies), copies)


def ingest(
    lake: Lake,
    system: System,
    ds: str,
    data: Path,
    run_id: str | None = None,
    fewer_lines: bool = False,
    read_again: bool = False,
) -> tuple[dict[str, int], str | None]:
    """Put the night's lines into the lake, and those of look-back days that the lake lacks but the data folder has.

    So a night's sessions are the same in whatever order nights are run. Files that have not changed since an earlier run read them are not
    read: their lines stay (see `unchanged`). Returns counts (n_files, n_hosts, n_bytes, n_lines, n_replaced, n_returns, and
    run_n_lines_kept, those that were not read) of the night itself, and what an operator should know. If it raises, nothing is written.

    Args: fewer_lines: replace a published night by fewer lines. read_again: read the files even if they have not changed. Raises NoInput if
    the night has no file, FormatError if one of its files cannot be read to its end, or if they have fewer lines than were published.
    """
    listed_at = datetime.now(UTC)  # by a real clock, as the files' times of change
    files = log_files(system, data, ds, find_files(system, data, ds))
    if not files:
        raise no_input(lake, system, ds)
    rows = None if read_again else unchanged_files(lake, system, ds, files)
    delivery = compared(system, files) if rows is None else as_recorded(files, rows)
    notes = delivery.note
    earlier: dict[str, Delivery] = {}
    present = lake.nights(LINES_TABLE, system.name)
    try:
        for day in look_back(system, ds):
            if day not in present and (found := find_delivery(system, data, day)).files:
                earlier[day] = found
        if earlier:
            ingest_days(lake, system, earlier, run_id, listed_at=listed_at)
    except (FormatError, ConfigError) as error:
        notes.append(f"sessions that began before the night are judged on the night alone: {error}")
    least_lines = 0 if fewer_lines else published_lines(lake, system).get(ds, 0)
    if rows is None:
        counts = ingest_days(lake, system, {ds: delivery}, run_id, least_lines, listed_at) | {"run_n_lines_kept": 0}
    else:
        counts = counts_of(rows)
        counts["run_n_lines_kept"] = counts["n_lines"]
        refuse_fewer(system, [ds], counts, least_lines)
    if not counts["n_lines"]:
        notes.append("the night's files have no lines")
    if n_cut := counts.pop("n_cut"):
        notes.append(f"{n_cut:,} lines were longer than {MAX_LINE:,} bytes and are kept without their ends")
    if (n_returns := counts["n_returns"]) > MANY_RETURNS * counts["n_lines"]:
        notes.append(f"carriage returns stand inside of lines ({n_returns:,}); if they end lines, convert the file (tr '\\r' '\\n')")
    return counts, "; ".join(notes) or None


def published_lines(lake: Lake, system: System) -> dict[str, int]:
    """Return night → lines, of the published nights of a system."""
    rows = lake.rows(NIGHTS, ["ds", "outcome", "n_lines"], system=system.name)
    return {row["ds"]: row["n_lines"] or 0 for row in rows if is_published(row["outcome"])}


def no_input(lake: Lake, system: System, ds: str) -> NoInput:
    """Return the error of a night without files: is it missing, or was none to be expected?"""
    path = glob_of(system.input.path, ds)
    delivered = system.input.delivered
    if delivered is not None and delivered.isoformat() != ds:
        return NoInput(f"no file: those of {path} belong to {delivered}")
    nights = lake.nights(LINES_TABLE, system.name) | {day for day, n_lines in published_lines(lake, system).items() if n_lines}
    before = sorted(day for day in nights if day < ds)
    why = f"no file matches {path} under the data folder"
    if not before:
        return NoInput(f"{why}, and none ever has")
    if not is_due(before, ds):
        return NoInput(f"{why}; none was due: the last one is of {before[-1]}")
    return NoInput(
        f"{why}, though {len(before):,} earlier nights had some, the last one {before[-1]}: see why they were not delivered, then run the "
        "night again",
        {"n_nights_before": len(before)},
    )


def ingest_days(
    lake: Lake,
    system: System,
    deliveries: Mapping[str, Delivery],
    run_id: str | None = None,
    least_lines: int = 0,
    listed_at: datetime | None = None,
) -> dict[str, int]:
    """Put the files of some days into their slices of bronze.lines, in one commit.

    Returns n_files, n_hosts, n_bytes, n_lines, n_replaced, n_cut, n_returns. Raises FormatError if there are fewer than `least_lines`, and
    GateFailed if the lines that were written are not those that were read.

    Args: listed_at: a time before the files were found; without it they are read again by the next run.
    """
    every = [(file.path, file.name, ds) for ds, delivery in deliveries.items() for file in delivery.files]
    n_bytes = sum(file.size for delivery in deliveries.values() for file in delivery.files)
    tasks = plan(every)
    open_ended = to_count(tasks)
    ends = dict(zip([(piece.path, piece.start) for piece in open_ended], lake.runner.run(open_ended, ends_in, n_bytes), strict=True))
    work = partial(write_lines, root=lake.root, system=system)
    written = lake.runner.run(numbered(tasks, ends), work, n_bytes)
    days = list(deliveries)
    rows = [row for ds, delivery in deliveries.items() for row in file_rows(system, ds, delivery, written)]
    counts = counts_of(rows)
    refuse_fewer(system, days, counts, least_lines)
    parts = [part for each in written for part in each.parts]
    names = {ds: names_hash(part for part in parts if part.lies_in({"ds": ds})) for ds in days}
    for row in rows:
        row |= {"rules": lines_hash(system), "run_id": run_id, "run_lines": names[row["ds"]], "run_listed_at": listed_at}
    if system.labels is not None and system.labels.pattern is not None:
        put_labels(lake, system, days, [tags for each in written for tags in each.tags])
    lake.replace(LINES_TABLE, parts, system=system.name, ds=days)
    for ds in days:
        check_lines(lake, system.name, ds, counts_of([row for row in rows if row["ds"] == ds])["n_lines"])
    lake.replace(FILES, rows, system=system.name, ds=days)  # last: lines that fail the gate are read again by the next run
    return counts


def counts_of(rows: Sequence[FileRow]) -> dict[str, int]:
    """Return the counts of some rows of bronze.files: n_files, n_hosts, n_bytes, n_lines, n_replaced, n_cut, n_returns."""
    read = [row for row in rows if row["copy_of"] is None]
    counts = {"n_files": len(read), "n_hosts": len({row["host"] for row in read if row["n_lines"]})}
    return counts | {name: sum(row[name] or 0 for row in read) for name in SUMMED}  # type: ignore[literal-required, misc]


def refuse_fewer(system: System, days: Sequence[str], counts: Mapping[str, int], least_lines: int) -> None:
    """Raise FormatError if the days have fewer lines than `least_lines`."""
    if counts["n_lines"] < least_lines:
        raise FormatError(
            f"{system.name} {', '.join(days)}: {counts['n_lines']:,} lines in {counts['n_files']:,} files, expected at least the "
            f"{least_lines:,} lines that are published: deliver what is missing, or replace the night by fewer lines: nightlog run "
            "--fewer-lines"
        )


def file_rows(system: System, ds: str, delivery: Delivery, written: Sequence[Written]) -> list[FileRow]:
    """Return the rows of bronze.files for one night, without the columns of the run."""
    rows: list[FileRow] = []
    for file, kept in {**dict.fromkeys(delivery.files), **delivery.copies}.items():
        row: FileRow = {
            "system": system.name,
            "ds": ds,
            "file": file.name,
            "host": file.host,
            "size": file.size,
            "modified_at": file.modified_at,
            "copy_of": kept.name if kept is not None else None,
        }
        if kept is None:
            read = [each.files[ds, file.name] for each in written if (ds, file.name) in each.files]
            for name in SUMMED:
                row[name] = sum(getattr(each, name) for each in read)  # type: ignore[literal-required]
            row["content"] = xxhash.xxh3_128_hexdigest("".join(each.content for each in read))
        rows.append(row)
    return rows


@dataclass
class FileRead:
    """Lines that a task has read of a file, their bytes and a hash of them; counts as those of bronze.files."""

    n_lines: int = 0
    n_bytes: int = 0
    n_replaced: int = 0
    n_cut: int = 0
    n_returns: int = 0
    content: str = ""


@dataclass
class Written:
    """Part files that a task has written, labels that stood in its lines, and the files that it has read, by night and name."""

    parts: list[Part] = field(default_factory=list)
    tags: list[pa.Table] = field(default_factory=list)
    files: dict[tuple[str, str], FileRead] = field(default_factory=dict)


def write_lines(pieces: Sequence[Piece], root: str, system: System) -> Written:
    """One task: the lines of some pieces as part files of bronze.lines; a label at the start of a line is cut off, so that nothing
    after this stage can see it."""
    import pyarrow as pa

    done = Written()
    for ds in dict.fromkeys(piece.ds for piece in pieces):
        waiting: list[pa.Table] = []
        n_waiting = 0
        for piece in (piece for piece in pieces if piece.ds == ds):
            read, content = done.files.setdefault((ds, piece.file), FileRead()), xxhash.xxh3_128()
            for lines in read_piece(piece):
                read.n_lines += len(lines.texts)
                read.n_bytes += len(lines.data)
                content.update(lines.data.data)
                read.n_replaced += int(lines.replaced.sum())
                read.n_cut += lines.n_cut
                read.n_returns += lines.n_returns
                rows = table_of(lines, piece.file)
                if system.labels is not None and system.labels.pattern is not None:
                    rows, tags = without_labels(rows, system.labels)
                    done.tags.append(tags.append_column("ds", pa.array([ds] * len(tags), pa.string())))
                waiting.append(rows)
                n_waiting += len(lines.data)
                if n_waiting >= PIECE:
                    done.parts.append(write_part(root, LINES_TABLE, pa.concat_tables(waiting), system=system.name, ds=ds))
                    waiting, n_waiting = [], 0
            read.content += content.hexdigest()
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
