"""The lake and its tables: reachable, writable, closed to strangers; columns as this version writes them, a protocol that it reads."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.doctor.finding import Finding, error, ok, warning
from nightlog.errors import NightlogError, SchemaMismatch
from nightlog.lake.lake import Lake
from nightlog.lake.maintain import leftovers
from nightlog.lake.schema import missing_columns
from nightlog.lake.tables import ALL_TABLES, TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

AREA = "lake"
READER, WRITER = 1, 2  # Delta's protocol that every reader of the lake can follow
MANY_FILES, MANY_LEFTOVERS = 2000, 100
RECOVER = "see docs/how-to/recover.md"


def folder(lake: Lake) -> Iterator[Finding]:
    """Can the lake be reached, read and written, and by whom? What is behind a URL is only looked at."""
    root = lake.root
    if "://" in root:
        yield from remote(root)
        return
    place = Path(root)
    if not place.exists():
        above = next(each for each in place.absolute().parents if each.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield warning(AREA, "there is no lake yet", root, "the first night begins one (nightlog run), or name it: NIGHTLOG_LAKE")
        else:
            yield error(AREA, f"there is no lake, and {above} cannot be written", root, "name a folder of yours: NIGHTLOG_LAKE")
        return
    if not place.is_dir():
        yield error(AREA, "not a folder", root, "name the folder of the tables: NIGHTLOG_LAKE")
        return
    yield writable(place)
    yield closed(place)


def remote(root: str) -> Iterator[Finding]:
    """Can an object store be reached?"""
    from pyarrow.fs import FileSystem, FileType

    try:
        files, inside = FileSystem.from_uri(root)
        there = files.get_file_info(inside).type == FileType.Directory
    except Exception as trouble:
        yield error(AREA, f"cannot be reached: {short(trouble)}", root, "see the credentials and the address of the object store")
        return
    yield (
        ok(AREA, "can be reached", root)
        if there
        else warning(AREA, "there is no lake yet", root, "the first night begins one: nightlog run")
    )


def writable(place: Path) -> Finding:
    """Can a file be made and removed in the lake?"""
    probe = place / f".doctor-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as trouble:
        return error(AREA, f"cannot be written: {trouble.strerror}", str(place), "give it to the user that runs the nights, or make room")
    return ok(AREA, "can be read and written", str(place))


def closed(place: Path) -> Finding:
    """May strangers read the log lines in the lake?"""
    mode = stat.S_IMODE(place.stat().st_mode)
    if mode & stat.S_IWOTH:
        return error(AREA, f"anybody may write into it (mode {mode:o})", str(place), f"chmod 750 {place}")
    if mode & stat.S_IROTH:
        return warning(AREA, f"anybody may read the log lines in it (mode {mode:o})", str(place), f"chmod 750 {place}")
    return ok(AREA, f"closed to strangers (mode {mode:o})", str(place))


def tables(lake: Lake, replay_days: int, specs: Iterable[TableSpec] = ALL_TABLES) -> Iterator[Finding]:
    """Each table that is there: what is wrong with it, or that it is well."""
    n, troubled = 0, 0
    for spec in specs:
        if not lake.exists(spec):
            continue
        n += 1
        found = list(table(lake, spec, replay_days))
        troubled += bool(found)
        yield from found
    if n:
        yield ok(AREA, f"{n - troubled} of {n} tables are as this version writes them", lake.root)


def table(lake: Lake, spec: TableSpec, replay_days: int) -> Iterator[Finding]:
    """Yield what is wrong with one table."""
    where = lake.path(spec)
    try:
        opened = lake.table(spec)
        protocol = opened.protocol()
        opened.schema()
    except Exception as trouble:
        yield error(AREA, f"{spec.name} cannot be read: {short(trouble)}", where, f"restore it; {RECOVER}")
        return
    if protocol.min_reader_version > READER or protocol.min_writer_version > WRITER:
        told = f"{spec.name} has protocol {protocol.min_reader_version}/{protocol.min_writer_version}, expected {READER}/{WRITER}"
        yield error(AREA, told, where, f"another program has changed it: restore the version before, or rebuild it; {RECOVER}")
        return
    yield from columns(spec, opened, where)
    try:
        files = opened.file_uris()
        gone = [] if "://" in where else [path for path in files if not Path(path.removeprefix("file://")).exists()]
        left = leftovers(lake, spec, replay_days)
    except Exception as trouble:
        yield error(AREA, f"{spec.name} cannot be listed: {short(trouble)}", where, f"restore it; {RECOVER}")
        return
    if gone:
        yield error(AREA, f"{spec.name} lacks {len(gone)} of its {len(files)} files, e.g. {gone[0]}", where, f"restore them; {RECOVER}")
    if len(left) > MANY_LEFTOVERS:
        yield warning(AREA, f"{spec.name}: {len(left):,} files that no version needs", where, "run `nightlog maintain`, weekly by Airflow")
    if len(files) > MANY_FILES and "ds" not in spec.partition:
        yield warning(AREA, f"{spec.name} is made of {len(files):,} files", where, "run `nightlog maintain`, weekly by Airflow")


def columns(spec: TableSpec, opened: DeltaTable, where: str) -> Iterator[Finding]:
    """Report a table whose columns are not those of its spec; columns that it lacks are added by the next write."""
    try:
        missing_columns(spec, opened)
    except SchemaMismatch as mismatch:
        yield error(AREA, str(mismatch), where, f"restore the version before, or rebuild it; {RECOVER}")
    if strange := [field.name for field in opened.schema().fields if field.name not in spec.names]:
        yield warning(AREA, f"{spec.name} has columns that nobody knows: {', '.join(strange)}", where, "see who writes into the lake")


def short(trouble: Exception) -> str:
    """An error in a line."""
    told = str(trouble) if isinstance(trouble, NightlogError) else f"{type(trouble).__name__}: {trouble}"
    return " ".join(told.split())[:300]
