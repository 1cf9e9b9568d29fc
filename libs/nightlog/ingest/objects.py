"""Log files in an object store: those of a night are copied to this machine, read, and removed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.errors import ConfigError
from nightlog.ingest.discover import WILD, data_folder
from nightlog.lake.storage import file_system, storage_error, store_error
from nightlog.systems.paths import expression_of, glob_of
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")


def object_store(data: Path) -> str | None:
    """Return the address of a data folder that is in an object store, else None.

    >>> object_store(Path("s3://bucket/logs")), object_store(Path("/var/log"))
    ('s3://bucket/logs', None)
    """
    found = ADDRESS.fullmatch(os.fspath(data))
    return f"{found[1].lower()}://{found[2]}" if found is not None and found[1].lower() != "file" else None


@contextmanager
def night_folder(data: Path, system: System, days: Sequence[str], master: str = "local[*]") -> Iterator[Path]:
    """Yield a local folder that holds the system's files of these days under their names: the data folder, or copies of the objects.

    Raises ConfigError if the folder is missing, or if a cluster is to read copies on this machine; StoreRefused or TransientError if the
    store refuses or does not answer; LakeFull if the copies have no room.
    """
    address = object_store(data)
    if address is None:
        yield data_folder(data)
        return
    if not master.startswith("local"):
        raise ConfigError(f"{address}: log files in an object store are copied to this machine, which {master} cannot read; use local[*]")
    delivered = system.input.delivered
    wanted = [day for day in days if delivered is None or delivered.isoformat() == day]
    with tempfile.TemporaryDirectory(prefix="nightlog-objects-") as folder:
        try:
            if is_missing(address):
                raise ConfigError(f"the data folder {address} does not exist, or holds nothing: correct NIGHTLOG_DATA (--data)")
            for day in wanted:
                copy_day(address, system, day, Path(folder))
        except OSError as error:
            raise storage_error(error, folder) or store_error(str(error), f"the data folder {address}") from error
        yield Path(folder)


def is_missing(address: str) -> bool:
    """Return whether nothing lies at an address. Raises OSError."""
    from pyarrow.fs import FileType

    files, root = file_system(address)
    return bool(files.get_file_info(root.rstrip("/")).type == FileType.NotFound)


def copy_day(address: str, system: System, day: str, folder: Path) -> None:
    """Copy the objects of a day, with their times of change. Raises OSError."""
    files, root = file_system(address)
    pattern = re.compile(expression_of(system.input.path, day))
    for found in objects(address, glob_of(system.input.path, day)):
        name = found.path[len(root.rstrip("/")) + 1 :]
        target = folder / name
        if pattern.fullmatch(name) is None or not target.resolve().is_relative_to(folder.resolve()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.open_input_stream(found.path) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        if found.mtime is not None:
            os.utime(target, (found.mtime.timestamp(), found.mtime.timestamp()))


def objects(address: str, glob: str) -> list[FileInfo]:
    """Return the objects below the part of a glob that has no wildcard. Raises OSError, not for a folder without any."""
    from pyarrow.fs import FileSelector, FileType

    files, root = file_system(address)
    fixed = WILD.split(glob)[0].rpartition("/")[0]
    selector = FileSelector("/".join(filter(None, [root.rstrip("/"), fixed])), allow_not_found=True, recursive=True)
    return [found for found in files.get_file_info(selector) if found.type == FileType.File]
