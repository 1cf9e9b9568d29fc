"""Locks and disks: one process at a time, and clear words where nothing can be written."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from nightlog.errors import LakeFull, LakeReadOnly, StoreRefused, TransientError
from nightlog.lake.locks import locked
from nightlog.lake.storage import clear_storage_errors

HOLDER = """
import sys, time
from nightlog.lake.locks import locked
with locked(sys.argv[1], "shop"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_whoever_comes_second_waits_and_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(TransientError, match="another process has worked on shop"), locked(str(tmp_path), "shop", wait_s=0.3):
        raise AssertionError
    with locked(str(tmp_path), "mail", wait_s=0):
        pass
    holder.kill()
    started = time.monotonic()
    with locked(str(tmp_path), "shop", wait_s=10):
        assert time.monotonic() - started < 5
    holder.wait()


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("Generic LocalFileSystem error: Unable to copy data to file: No space left on device (os error 28)", LakeFull, "Free space"),
        ("[Errno 122] Disk quota exceeded", LakeFull, "Disk quota exceeded"),
        ("Unable to open file {root}/gold/nights/x.parquet#1: Read-only file system (os error 30)", LakeReadOnly, "NIGHTLOG_LAKE"),
        ("[Errno 13] Permission denied: '{root}/models'", LakeReadOnly, "let this user write there"),
    ],
)
def test_a_full_or_closed_disk_is_told_in_our_words(tmp_path: Path, said: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as told, clear_storage_errors(str(tmp_path)):
        raise OSError(said.format(root=tmp_path))
    assert str(tmp_path) in str(told.value)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            "Generic S3 error\n Error performing GET in 2.8s, after 10 retries - HTTP error\n Connection refused (os error 111)",
            TransientError,
            "refused",
        ),
        ("Generic S3 error\n Server returned non-2xx status code\n 503 Service Unavailable\n <Secret>", TransientError, "503 Service"),
        ("Generic S3 error\n 404 Not Found\n <Error><Code>NoSuchBucket</Code><RequestId>x</RequestId>", StoreRefused, "NoSuchBucket"),
        ("Generic GCS error\n 403 Forbidden\n <Error>", StoreRefused, "403 Forbidden"),
        ("When testing for existence of bucket 'b': AWS Error NETWORK_CONNECTION during HeadBucket", TransientError, "NETWORK_CONNECTION"),
        ("When reading 'b': AWS Error ACCESS_DENIED during HeadObject operation", StoreRefused, "ACCESS_DENIED"),
    ],
)
def test_an_object_store_that_refuses_or_is_silent_is_told_in_our_words(said: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"s3://b/lake.*{words}") as told, clear_storage_errors("s3://b/lake"):
        raise OSError(said)
    assert "\n" not in str(told.value) and "<" not in str(told.value)


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), clear_storage_errors(str(tmp_path)):
        raise PermissionError(13, "Permission denied", "/var/log/shop.log")
