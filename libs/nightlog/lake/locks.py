"""Locks of a lake, one per system: two processes never work on one system at the same time.

In a folder it is the operating system's file lock. In an object store and in HDFS it is a lease (`leases.py`).
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from nightlog.errors import TransientError
from nightlog.lake.lease_stores import lease_store
from nightlog.lake.leases import LEASE_S, acquire, is_held

log = logging.getLogger(__name__)

WAIT_S, POLL_S = 3600.0, 0.2
FOLDER = ".locks"
# Schemes of the stores that can write under a condition.
STORES = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "hdfs")


class Lock(Protocol):
    """A lock that this process holds."""

    def check(self) -> None:
        """Raise LockLost if another process has taken over the lock. It is called before each commit."""


class FileLock:
    """The lock of a file, or of a store without locks: nobody can take it over."""

    def check(self) -> None:
        """Return at once."""


@contextmanager
def locked(root: str, name: str, wait_s: float = WAIT_S, lease_s: float = LEASE_S, owner: str = "") -> Iterator[Lock]:
    """Hold the lock of this name in the lake until the block ends; a second process waits.

    Args:
        lease_s: in a store, seconds without renewal after which another process may take over the lock.
        owner: in a store, what a waiting process reports about the holder besides its host and process.

    Raises: TransientError after `wait_s` seconds, or if the store does not answer; StoreRefused if it has no conditional writes.
    """
    if (folder := local_folder(root)) is not None:
        with file_locked(folder / FOLDER / f"{name}.lock", name, wait_s):
            yield FileLock()
    elif not has_leases(root):
        log.warning("%s: this kind of store has no locks; start only one program at a time that writes to it", root)
        yield FileLock()
    else:
        lease = acquire(lease_store(f"{root}/{FOLDER}"), name, wait_s, lease_s, owner)
        try:
            yield lease
        finally:
            lease.release()


def is_free(root: str, name: str) -> bool:
    """Return true if nobody holds the lock of this name at this moment. A lease that is no longer renewed counts as held."""
    if has_leases(root):
        return not is_held(lease_store(f"{root}/{FOLDER}"), name)
    try:
        with locked(root, name, 0.0):
            return True
    except TransientError:
        return False


def local_folder(root: str) -> Path | None:
    """Return the folder of a lake on a disk of this machine; None for any other store.

    >>> local_folder("file:///srv/lake"), local_folder("s3://bucket/lake")
    (PosixPath('/srv/lake'), None)
    """
    path = root.removeprefix("file://")
    return None if "://" in path else Path(path)


def has_leases(root: str) -> bool:
    """Return true if the lake is in a store whose locks are leases.

    >>> has_leases("s3://bucket/lake"), has_leases("/srv/lake")
    (True, False)
    """
    return "://" in root and root.partition("://")[0] in STORES


def check_leases(root: str) -> None:
    """Check that the lake's store can have leases. Raises StoreRefused if not, TransientError if it does not answer."""
    lease_store(f"{root}/{FOLDER}").check_conditions()


@contextmanager
def file_locked(path: Path, name: str, wait_s: float) -> Iterator[None]:
    """Hold the operating system's lock of a file. It ends when the process ends, however it ends: there is no stale lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with path.open("a", encoding="utf-8") as file:
        while not try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"another process has worked on {name} for {wait_s:.0f} s (its lock is {path}); this one tries again later"
                )
            time.sleep(POLL_S)
        yield


def try_lock(number: int) -> bool:
    """Try to lock an open file for this process. Returns true if it holds the lock."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
