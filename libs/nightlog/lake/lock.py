"""One at a time: who works on a system holds its lock."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightlog.errors import TransientError

WAIT_S, POLL_S = 3600.0, 0.2


@contextmanager
def locked(root: str, name: str, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock of this name in the lake until the block ends; whoever comes second waits.

    The operating system lets go of it when the process ends, however it ends: there is no stale lock. In an object store there are no
    such locks; there Airflow runs one task of a kind at a time. Raises TransientError after `wait_s` seconds.
    """
    if "://" in root:
        yield
        return
    path = Path(root) / ".locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with path.open("a", encoding="utf-8") as file:
        while not taken(file.fileno()):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"another process has worked on {name} for {wait_s:.0f} s (its lock is {path}); this one tries again later"
                )
            time.sleep(POLL_S)
        yield


def free(root: str, name: str) -> bool:
    """Return true if nobody holds the lock of this name at this moment."""
    try:
        with locked(root, name, 0.0):
            return True
    except TransientError:
        return False


def taken(number: int) -> bool:
    """Try to lock an open file for this process. Returns true if it holds the lock."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
