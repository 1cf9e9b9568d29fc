"""The Delta tables under one root: opened once, checked when they are read, and grown when they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.errors import SchemaMismatch
from nightlog.lake.schema import add_missing_columns, missing_columns
from nightlog.lake.storage_errors import clear_storage_errors
from nightlog.lake.tables import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Checkpoints forget removed files after this time (Delta's default is a week), and VACUUM takes forgotten files for leftovers. It is longer
# than any `replay_days`, and just below the 30 days after which Delta's log ends.
PROPERTIES = {"delta.deletedFileRetentionDuration": "interval 29 days"}


def lake_root(given: Path | str) -> str:
    """Return the root of a lake: a URI (a Path has lost one of its slashes), or a folder's full path.

    >>> lake_root(Path("s3://logs/lake")), lake_root(Path("file:///srv/lake/"))
    ('s3://logs/lake', 'file:///srv/lake')
    """
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*?)/*$", str(given))
    if found is None:
        return str(Path(given).resolve())
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}"


class DeltaTables:
    """The tables under a root: a folder or the URI of an object store."""

    def __init__(self, root: Path | str):
        self.root = lake_root(root)
        self.opened: dict[str, DeltaTable] = {}

    def path(self, spec: TableSpec) -> str:
        """Return the folder or the URI of a table."""
        return f"{self.root}/{spec.path}"

    def exists(self, spec: TableSpec) -> bool:
        """Return true if the table is there."""
        from deltalake import DeltaTable

        with clear_storage_errors(self.root):
            return spec.name in self.opened or DeltaTable.is_deltatable(self.path(spec))

    def table(self, spec: TableSpec) -> DeltaTable:
        """Return the table at its latest version.

        It is opened once; afterwards only new commits are read, so that a night of many systems does not read a log again for each of them.
        """
        from deltalake import DeltaTable

        with clear_storage_errors(self.root):
            if spec.name not in self.opened:
                self.opened[spec.name] = DeltaTable(self.path(spec))
            else:
                self.opened[spec.name].update_incremental()
        return self.opened[spec.name]

    def readable(self, spec: TableSpec) -> DeltaTable:
        """Return the table, to be read in the columns of its spec. Raises SchemaMismatch if a column or the protocol is another one."""
        table = self.table(spec)
        protocol = table.protocol()
        if protocol.min_reader_version > 1:
            raise SchemaMismatch(
                f"{spec.name} at {self.path(spec)} has Delta's reader version {protocol.min_reader_version}, expected 1: another program "
                "has changed it; restore the version before (nightlog restore) or rebuild it, see docs/how-to/recover.md"
            )
        missing_columns(spec, table)
        return table

    def writable(self, spec: TableSpec) -> DeltaTable | None:
        """Return the table with all columns of its spec, to be written. None if it is not there yet. Raises SchemaMismatch."""
        if not self.exists(spec):
            return None
        add_missing_columns(self.table(spec), spec)
        return self.table(spec)
