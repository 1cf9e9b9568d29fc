"""The stores of leases: what writes a lock object only if it has the version that the writer has read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from nightlog.errors import StoreRefused
from nightlog.lake.leases import LEASE_S, Conflict, Content, LeaseStore
from nightlog.lake.storage import ADVICE, file_system, store_error

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore, RetryConfig

# The object that `check_conditions` writes, and a version that no object has.
PROBE = "conditions"
NO_VERSION: UpdateVersion = {"e_tag": '"00000000000000000000000000000000"', "version": "1"}
HOLDER_LENGTH = 120  # of 255 bytes that HDFS has for a name


@lru_cache
def lease_store(address: str) -> LeaseStore:
    """Return the store of the lock objects at this address, once it is checked that it observes conditions."""
    opened: LeaseStore
    if address.startswith("hdfs://"):
        files, folder = file_system(address)
        opened = HdfsLeases(address, files.handler.fs.client, folder)
    else:
        from obstore.store import from_url

        retry: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=LEASE_S / 4)}
        opened = ObjectLeases(address, from_url(address, retry_config=retry))
    opened.check_conditions()
    return opened


def no_lock(address: str, name: str) -> StoreRefused:
    """Return the error for a file or folder that has the name of a lock object, but is none."""
    return StoreRefused(f"{address}/{name}.lock is no lock that this version wrote; remove it when no program writes to the lake")


class ObjectLeases:
    """Lock objects in S3, Google Cloud Storage or Azure. See LeaseStore."""

    def __init__(self, address: str, store: ObjectStore):
        self.address, self.store = address, store

    def read(self, name: str) -> tuple[Content, UpdateVersion] | None:
        """Return the content of a lock object and its version."""
        import obstore

        with self.store_errors():
            try:
                found = obstore.get(self.store, f"{name}.lock")
                content = bytes(found.bytes())
            except FileNotFoundError:
                return None
        try:
            return Content(**json.loads(content)), version_of(found.meta.get("e_tag"), found.meta.get("version"))
        except (ValueError, TypeError):
            raise no_lock(self.address, name) from None

    def write(self, name: str, content: Content, version: UpdateVersion | None) -> UpdateVersion:
        """Replace the object if it has this version, or create it. Raises Conflict."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self.store_errors():
            try:
                written = obstore.put(self.store, f"{name}.lock", json.dumps(asdict(content)).encode(), mode=version or "create")
            except (AlreadyExistsError, PreconditionError):
                raise Conflict(name) from None
        return version_of(written["e_tag"], written["version"])

    def check_conditions(self) -> None:
        """Check that the store neither creates an object twice nor replaces a version that is not there.

        Some servers ignore the headers of conditional writes. Raises StoreRefused then.
        """
        content = Content("", "", 0.0)
        with suppress(Conflict):
            self.write(PROBE, content, None)
        for version in (None, NO_VERSION):
            try:
                self.write(PROBE, content, version)
            except Conflict:
                continue
            raise self.no_conditions()

    def no_conditions(self) -> StoreRefused:
        """Return the error for a store without conditional writes."""
        return StoreRefused(
            f"the object store of {self.address} has no conditional writes (If-None-Match, If-Match), so two programs could write to the "
            f"lake at the same time; keep the lake in a store that has them, {ADVICE}"
        )

    @contextmanager
    def store_errors(self) -> Iterator[None]:
        """Raise errors of Nightlog instead of the library's."""
        from obstore.exceptions import BaseError

        try:
            yield
        except NotImplementedError:
            raise self.no_conditions() from None
        except (BaseError, OSError) as error:
            raise store_error(str(error), f"the locks {self.address}") from error


def version_of(e_tag: str | None, version: str | None) -> UpdateVersion:
    """Return the version of an object as a condition: S3 and Azure compare ETags, Google's store compares generations."""
    found: UpdateVersion = {}
    if e_tag is not None:
        found["e_tag"] = e_tag
    if version is not None:
        found["version"] = version
    return found


class HdfsLeases:
    """Lock objects in HDFS. See LeaseStore.

    A lock object is a folder with one empty file, whose name is the content and the version. The name node renames it in one step, if it
    still has the name that was read. No name occurs twice, so nobody takes a later file for the one that was read.
    """

    def __init__(self, address: str, client: Any, folder: str):
        self.address, self.client, self.folder = address, client, folder

    def read(self, name: str) -> tuple[Content, str] | None:
        """Return the content of a lock object and its version."""
        with self.store_errors():
            try:
                found = [status.path.rpartition("/")[2] for status in self.client.list_status(f"{self.folder}/{name}.lock")]
            except FileNotFoundError:
                return None
        try:
            (version,) = found
            return content_of(version), version
        except ValueError:
            raise no_lock(self.address, name) from None

    def write(self, name: str, content: Content, version: str | None) -> str:
        """Rename the object if it has this version, or create it. Raises Conflict."""
        place, new = f"{self.folder}/{name}.lock", name_of(content)
        with self.store_errors():
            try:
                if version is None:
                    self.create(f"{self.folder}/{content.token}.part", place, new)
                else:
                    self.client.rename(f"{place}/{version}", f"{place}/{new}")
            except (FileNotFoundError, FileExistsError):
                raise Conflict(name) from None
        return new

    def create(self, aside: str, place: str, name: str) -> None:
        """Create a folder with a file of this name, in one step. Raises FileExistsError if the folder is there."""
        self.client.mkdirs(aside, create_parent=True)
        try:
            self.client.create(f"{aside}/{name}").close()
            self.client.rename(aside, place)
        except FileExistsError:
            self.client.delete(aside, True)
            raise

    def check_conditions(self) -> None:
        """Check that the folder of the locks can be made."""
        with self.store_errors():
            self.client.mkdirs(self.folder, create_parent=True)

    @contextmanager
    def store_errors(self) -> Iterator[None]:
        """Raise errors of Nightlog instead of the library's."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise store_error(str(error), f"the locks {self.address}") from error


def name_of(content: Content) -> str:
    """Return a content as the name of a file.

    >>> name_of(Content("1f", "run a:b", 60.0, 3))
    '3~1f~60~held~run%20a%3Ab'
    """
    state = "free" if content.is_free else "held"
    return f"{content.number}~{content.token}~{content.lease_s:g}~{state}~{quote(content.holder, safe='')[:HOLDER_LENGTH]}"


def content_of(name: str) -> Content:
    """Return the content that the name of a file stands for. Raises ValueError.

    >>> content_of("3~1f~60~held~run%20a%3Ab")
    Content(token='1f', holder='run a:b', lease_s=60.0, number=3, is_free=False)
    """
    number, token, lease_s, state, holder = name.split("~", 4)
    return Content(token, unquote(holder), float(lease_s), int(number), state == "free")
