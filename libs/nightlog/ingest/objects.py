"""Log files in an object store or in HDFS: listed, measured, and read where they lie, by any machine that has the store's credentials.

A path of such a file is its address as a `Path`, which has lost a slash: `s3:/bucket/logs/shop.log`.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from nightlog.errors import ConfigError, TransientError
from nightlog.lake.storage import file_system, store_error

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")
BUFFER = 1 << 20  # bytes of one request


def object_store(path: Path) -> str | None:
    """Return the address of a file or folder that is in an object store or in HDFS, else None.

    >>> object_store(Path("s3://bucket/logs")), object_store(Path("/var/log"))
    ('s3://bucket/logs', None)
    """
    found = ADDRESS.fullmatch(os.fspath(path))
    return f"{found[1].lower()}://{found[2]}" if found is not None and found[1].lower() != "file" else None


def store_folder(address: str) -> Path:
    """Return a data folder in a store as a path. Raises ConfigError if it is missing, StoreRefused or TransientError if the store is."""
    from pyarrow.fs import FileType

    with clear_store_errors(f"the data folder {address}"):
        files, root = file_system(address.rstrip("/"))
        if files.get_file_info(root).type == FileType.NotFound:
            raise ConfigError(f"the data folder {address} does not exist, or holds nothing: correct NIGHTLOG_DATA (--data)")
    return Path(address)


def stored_files(folder: Path, fixed: str) -> list[str]:
    """Return the names, relative to a data folder in a store, of all files below `fixed`, which has no wildcard and may be empty.

    Raises StoreRefused or TransientError.
    """
    from pyarrow.fs import FileSelector, FileType

    address = object_store(folder)
    assert address is not None, f"{folder} is not in a store"
    with clear_store_errors(f"the data folder {address}"):
        files, root = file_system(address)
        selector = FileSelector("/".join(filter(None, [root, fixed])), allow_not_found=True, recursive=True)
        return sorted(found.path[len(root) + 1 :] for found in files.get_file_info(selector) if found.type == FileType.File)


def statuses(paths: Sequence[Path]) -> list[tuple[int, datetime | None]]:
    """Return bytes and time of change (UTC) of log files of one data folder; a store is asked for all of them at the same time.

    Raises OSError, or StoreRefused or TransientError for files in a store.
    """
    addresses = [address for path in paths if (address := object_store(path)) is not None]
    if not addresses:
        found = [path.stat() for path in paths]
        return [(status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)) for status in found]
    with clear_store_errors(f"the log file {addresses[0]}"):
        files, _ = file_system(addresses[0])
        infos = files.get_file_info([file_system(address)[1] for address in addresses])
    if gone := [address for address, info in zip(addresses, infos, strict=True) if info.size is None]:
        raise TransientError(f"the log file {gone[0]} was removed after it was found; run the night again once the delivery is whole")
    return [(info.size, info.mtime) for info in infos]


def open_log(path: Path) -> IO[bytes]:
    """Open a log file for reading, at any place of it. Raises OSError, or StoreRefused or TransientError for one in a store."""
    address = object_store(path)
    return path.open("rb") if address is None else cast(IO[bytes], io.BufferedReader(StoredFile(address), BUFFER))


class StoredFile(io.RawIOBase):
    """The bytes of a file in a store. Every method raises StoreRefused or TransientError if the store does not give them."""

    def __init__(self, address: str):
        self.address = address
        with clear_store_errors(f"the log file {address}"):
            files, path = file_system(address)
            self.file = files.open_input_file(path)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; return how many, 0 at the end."""
        with clear_store_errors(f"the log file {self.address}"):
            data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte; return its number."""
        with clear_store_errors(f"the log file {self.address}"):
            self.file.seek(offset, whence)
            return self.tell()

    def tell(self) -> int:
        """Return the number of the next byte."""
        return int(self.file.tell())

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self.file.close()
        super().close()


@contextmanager
def clear_store_errors(place: str) -> Iterator[None]:
    """Raise StoreRefused or TransientError instead of an error of Arrow or of the client of HDFS.

    Args: place: the file or folder, for the message.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise store_error(str(error), place) from error
