"""The storage under the lake, a local folder or an object store: its files that are no tables, its errors."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.errors import ConfigError, LakeFull, LakeReadOnly, NightlogError, StoreRefused, TransientError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def file_system(place: str) -> tuple[FileSystem, str]:
    """Return Arrow's file system for an address or a local path, and the path in it. Raises ConfigError if HDFS needs a package."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    if place.startswith("hdfs://"):
        try:
            from nightlog.lake.hdfs import hdfs_file_system
        except ModuleNotFoundError as error:
            raise ConfigError(f"{place} needs the package {error.name}: pip install 'nightlog[hdfs]'") from error
        return hdfs_file_system(place)
    return FileSystem.from_uri(place) if "://" in place else (LocalFileSystem(), place)


def write_file(place: str, content: bytes) -> None:
    """Put a file in its place, whole or not at all. Raises OSError."""
    files, path = file_system(place)
    files.create_dir(path.rpartition("/")[0], recursive=True)
    # An object appears when its stream is closed; a file of a folder is written aside and renamed.
    aside = aside_of(path) if is_folder(place) else path
    with files.open_output_stream(aside, compression=None) as out:  # by default Arrow packs what is named .gz
        out.write(content)
    if aside != path:
        put_in_place(files, aside, path)


def is_folder(place: str) -> bool:
    """Return True for a local path or HDFS, whose files are seen while they are written; an object appears whole."""
    return "://" not in place or place.startswith(("file://", "hdfs://"))


def put_in_place(files: FileSystem, aside: str, path: str) -> None:
    """Let a whole file that was written aside be the file, in one step."""
    files.move(aside, path)


def aside_of(path: str) -> str:
    """Return the path at which a file is written until it is whole.

    >>> aside_of("/lake/models/1f.safetensors").split(".")[-1]
    'part'
    """
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{os.getpid()}.part"


def read_file(place: str) -> bytes:
    """A whole file. Raises OSError, FileNotFoundError where there is none."""
    files, path = file_system(place)
    with files.open_input_file(path) as opened:
        content: bytes = opened.read()
    return content


def half_written_files(folder: str) -> list[str]:
    """Return the files of a folder that a process which broke off has left aside; an object store has none. Raises OSError."""
    from pyarrow.fs import FileSelector

    if not is_folder(folder):
        return []
    files, path = file_system(folder)
    found = files.get_file_info(FileSelector(path, allow_not_found=True))
    return sorted(info.path for info in found if info.base_name.startswith(".") and info.base_name.endswith(".part"))


FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")
CLOSED = re.compile(r"Read-only file system|Permission denied")
# The words of delta-rs, of Arrow and of Hadoop for whatever an object store did.
STORE = re.compile(r"Generic \S+ error|AWS Error|org\.apache\.hadoop\.fs\.s3a|Bucket '[^']*' not found|Unable to recognise URL")
REFUSED = re.compile(
    r"NoSuchBucket|NO_SUCH_BUCKET|Bucket '[^']*' not found|AccessDenied|ACCESS_DENIED|InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|"
    r"SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|PermissionDenied|40[13] [A-Z]\w+|Unable to recognise URL"
)
UNREACHED = re.compile(r"Connection \w+|Could not \w+ \w+|\btimed? ?out\b|dns error|NETWORK_CONNECTION|[45]\d\d [A-Z]\w+", re.IGNORECASE)
ADVICE = "see docs/how-to/run-on-a-cluster.md"


@contextmanager
def clear_storage_errors(root: str) -> Iterator[None]:
    """Raise LakeFull, LakeReadOnly, StoreRefused or TransientError instead of a library's error about a disk or an object store.

    All other errors are raised as they are.
    """
    try:
        yield
    except Exception as error:
        found = storage_error(error, root)
        if found is None:
            raise
        raise found from error


def storage_error(error: BaseException, root: str) -> NightlogError | None:
    """Return the error of Nightlog for an error of a library; None if it is not about the lake's storage.

    Python, Arrow, delta-rs and the JVM raise different classes; the operating system's words are in all of them.

    >>> storage_error(OSError(30, "Read-only file system", "/lake/gold/nights"), "/lake")
    LakeReadOnly('the lake /lake cannot be written: Read-only file system; let this user write there, or name another lake (NIGHTLOG_LAKE)')
    >>> storage_error(PermissionError(13, "Permission denied", "/var/log/shop.log"), "/lake") is None
    True
    """
    if isinstance(error, NightlogError):
        return None
    message = str(error)
    if found := FULL.search(message):
        places = [(root, "the lake"), (tempfile.gettempdir(), "temporary files")]
        left = "; ".join(f"{place} ({what}): {free_space(place)}" for place, what in places)
        return LakeFull(
            f"{found[0]}: nothing was published of what was being written. {left}. Free space, then run the stage again: it goes on there"
        )
    if "://" in root and STORE.search(message):
        return store_error(message, f"the lake {root}")
    if (closed := CLOSED.search(message)) and root in message:
        return LakeReadOnly(
            f"the lake {root} cannot be written: {closed[0]}; let this user write there, or name another lake (NIGHTLOG_LAKE)"
        )
    return None


def store_error(message: str, place: str) -> NightlogError:
    """Return the error for an object store that refuses or does not answer; its message has only the code of the answer.

    Args: place, such as "the lake s3://bucket/lake".
    """
    if refused := REFUSED.search(message):
        return StoreRefused(f"the object store refuses {place}: {refused[0]}; correct its address or credentials (AWS_…), {ADVICE}")
    why = found[0] if (found := UNREACHED.search(message)) else "no answer"
    return TransientError(f"the object store of {place} cannot be reached: {why}; it is tried again, or {ADVICE}")


def free_space(place: str) -> str:
    """Return the free space on the disk of a folder, in words."""
    if "://" in place or not Path(place).exists():
        return "unknown"
    return f"{shutil.disk_usage(place).free / 2**20:,.0f} MiB left"
