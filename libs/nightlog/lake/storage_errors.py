"""Errors of a full or read-only disk, or of an object store, as errors of Nightlog, whichever library met them first."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightlog.errors import LakeFull, LakeReadOnly, NightlogError, StoreRefused, TransientError

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
    said = str(error)
    if found := FULL.search(said):
        places = [(root, "the lake"), (tempfile.gettempdir(), "temporary files")]
        left = "; ".join(f"{place} ({what}): {room(place)}" for place, what in places)
        return LakeFull(
            f"{found[0]}: nothing was published of what was being written. {left}. Free space, then run the stage again: it goes on there"
        )
    if "://" in root and STORE.search(said):
        return store_error(said, root)
    if (closed := CLOSED.search(said)) and root in said:
        return LakeReadOnly(
            f"the lake {root} cannot be written: {closed[0]}; let this user write there, or name another lake (NIGHTLOG_LAKE)"
        )
    return None


def store_error(said: str, root: str) -> NightlogError:
    """Return the error for an object store that refuses or does not answer; its message has only the code of the answer."""
    if refused := REFUSED.search(said):
        return StoreRefused(f"the object store refuses the lake {root}: {refused[0]}; correct its address or credentials (AWS_…), {ADVICE}")
    why = found[0] if (found := UNREACHED.search(said)) else "no answer"
    return TransientError(f"the object store of the lake {root} cannot be reached: {why}; it is tried again, or {ADVICE}")


def room(place: str) -> str:
    """Return the free space on the disk of a folder, in words."""
    if "://" in place or not Path(place).exists():
        return "unknown"
    return f"{shutil.disk_usage(place).free / 2**20:,.0f} MiB left"
