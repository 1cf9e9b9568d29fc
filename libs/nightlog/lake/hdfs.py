"""HDFS as a file system of Arrow.

Arrow's own needs Hadoop's `libhdfs.so` and a JVM in each process. `hdfs-native` (extra `hdfs`) speaks the protocol of HDFS itself; delta-rs
has the same client built in. Both read `HADOOP_CONF_DIR` for the name nodes of a name service, and `HADOOP_USER_NAME`.
"""

from __future__ import annotations

import atexit
import gc
import time
from typing import Any

from hdfs_native.fsspec import HdfsFileSystem
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

SCHEME = "hdfs://"
END_S = 0.5


class Hdfs(HdfsFileSystem):  # type: ignore[misc]
    """The client, with times of change as Arrow expects them, and a move that replaces a file as in a folder."""

    def _convert_file_status(self, file_status: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._convert_file_status(file_status)
        return found | {"mtime": file_status.modification_time / 1000}

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        super().mv(path1, path2, overwrite=True)


def hdfs_file_system(address: str) -> tuple[FileSystem, str]:
    """Return the file system of an address, `hdfs://HOST:PORT/folder` or `hdfs://NAMESERVICE/folder`, and the path in it.

    Nothing is connected yet. Raises RuntimeError for a name service that HADOOP_CONF_DIR does not define.
    """
    authority, _, path = address.removeprefix(SCHEME).partition("/")
    return PyFileSystem(FSSpecHandler(Hdfs(authority))), f"/{path}"


@atexit.register
def wait_for_threads() -> None:
    """Let Arrow's threads close their files before Python ends.

    They call Python for each file of this client. A thread that does so after the interpreter has begun to end aborts the process, although
    its work is done. This was seen once, on a machine with more load than cores.
    """
    gc.collect()
    time.sleep(END_S)
