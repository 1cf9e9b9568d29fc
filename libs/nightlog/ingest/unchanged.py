"""A night whose files have not changed since they were read keeps its lines when it is run again: no file is read.

The rows of bronze.files decide. Names, hosts, sizes and times of change must be the same, the files must have been read by the same rules,
and bronze.lines must hold the parts that were written then. In doubt the files are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from nightlog.lake.parts import are_there, names_hash
from nightlog.lake.tables import FILES, LINES_TABLE, FileRow

if TYPE_CHECKING:
    from nightlog.ingest.discover import LogFile
    from nightlog.lake.lake import Lake
    from nightlog.systems.spec import System

# Raise it when the same files are read into other lines, or are other copies.
LINES_VERSION = 1
# The coarsest time of change that a file system or a store has. A file that changed so shortly before it was listed may have changed once
# more at the same time.
TICK = timedelta(seconds=2)
# Columns that rows of older versions of Nightlog lack.
NEEDED = ("n_lines", "n_bytes", "n_replaced", "n_cut", "n_returns")


def lines_hash(system: System) -> str:
    """Return 16 hex digits that change when files of the system would be read into other lines."""
    labels = system.labels.pattern if system.labels is not None else None
    rules = [LINES_VERSION, labels, system.timestamp is not None]
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()[:16]


def unchanged_files(lake: Lake, system: System, ds: str, files: Sequence[LogFile]) -> list[FileRow] | None:
    """Return the rows of bronze.files of a night if its lines are still those of its files, None if they have to be read.

    A system whose labels stand in its lines is always read: bronze.labels is filled from them.

    Args: files: those of the night as they are now.
    """
    if system.labels is not None and system.labels.pattern is not None:
        return None
    rows = {row["file"]: row for row in lake.rows(FILES, system=system.name, ds=ds)}
    if len(rows) != len(files) or not all(file.name in rows and is_unchanged(file, rows[file.name]) for file in files):
        return None
    parts = lake.parts(LINES_TABLE, system=system.name, ds=ds)
    written = {(lines_hash(system), names_hash(parts))}
    if {(row["rules"], row["run_lines"]) for row in rows.values()} != written:
        return None
    n_lines = sum(row["n_lines"] or 0 for row in rows.values())
    if n_lines != sum(part.n_rows for part in parts) or not are_there(lake.root, LINES_TABLE, parts):
        return None
    return list(rows.values())


def is_unchanged(file: LogFile, row: FileRow) -> bool:
    """Return True if a file is the one of a row of bronze.files, and cannot have changed since."""
    changed, listed = row["modified_at"], row["run_listed_at"]
    if (file.host, file.size, file.modified_at) != (row["host"], row["size"], changed) or changed is None or listed is None:
        return False
    was_read = row["copy_of"] is not None or all(row[name] is not None for name in NEEDED)  # type: ignore[literal-required]
    return was_read and changed < listed - TICK
