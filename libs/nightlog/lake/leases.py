"""Leases: locks in an object store or in HDFS (`lease_stores.py`).

A lease is a small object that its holder writes again and again. If it stays unchanged for the lease's length, another process may take
it over. Each write is conditional: the store refuses it if the object is no longer the version that the writer has read. So of two writers
one fails. No clocks are compared: a waiting process measures on its own clock for how long the object has not changed.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event, RLock, Thread
from typing import Any, Protocol, TypeAlias

from nightlog.errors import LockLost, NightlogError, TransientError

log = logging.getLogger(__name__)

LEASE_S, POLL_S = 60.0, 1.0
# What a store knows a version of an object by.
Version: TypeAlias = Any


@dataclass(frozen=True)
class Content:
    """The content of a lock object. No two are equal: `token` is that of one holding, `number` counts its writes."""

    token: str
    holder: str
    lease_s: float
    number: int = 0
    is_free: bool = False


class Conflict(Exception):
    """The store refused a conditional write: the object has another version, or is there already."""


class LeaseStore(Protocol):
    """The lock objects of one lake. Its methods raise StoreRefused, or TransientError if the store does not answer."""

    address: str

    def read(self, name: str) -> tuple[Content, Version] | None:
        """Return the content of a lock object and its version; None if there is no such object."""

    def write(self, name: str, content: Content, version: Version | None) -> Version:
        """Replace the object if it has this version; None: if there is no such object. Returns the new version. Raises Conflict."""

    def check_conditions(self) -> None:
        """Check that the store refuses to write an object that has another version. Raises StoreRefused."""


class Lease:
    """A lock object that this process holds, renewed by a thread until `release`."""

    def __init__(self, store: LeaseStore, name: str, content: Content):
        self.store, self.name, self.content = store, name, content
        self.version: Version | None = None
        self.renewed_at = 0.0
        self.is_lost = False
        self.ended = Event()
        self.mutex = RLock()

    def take(self, version: Version | None) -> None:
        """Write the object that has this version, or create it, and begin to renew it. Raises Conflict."""
        self.version = version
        self.write(self.content)
        Thread(target=self.keep, name=f"lease of {self.name}", daemon=True).start()

    def write(self, content: Content) -> None:
        """Write the object with a new number.

        A request whose answer was lost may have been carried out. So if the store refuses a write, the token in the object decides.

        Raises: Conflict if the object is another holder's.
        """
        with self.mutex:
            began = clock_s()
            number = self.content.number + 1
            try:
                self.version = self.store.write(self.name, replace(content, number=number), self.version)
            except Conflict:
                found = self.store.read(self.name)
                if found is None or found[0].token != content.token:
                    raise
                number = max(number, found[0].number) + 1
                self.version = self.store.write(self.name, replace(content, number=number), found[1])
            self.content, self.renewed_at = replace(content, number=number), began

    def renew(self) -> None:
        """Renew the lease. Raises LockLost if another process has taken it over."""
        with self.mutex:
            if self.ended.is_set():
                return
            try:
                if not self.is_lost:
                    self.write(self.content)
                    return
            except Conflict:
                self.is_lost = True
            raise LockLost(
                f"{self.name}: another process has taken over the lock {self.store.address}/{self.name}.lock, because this one did not "
                f"renew it for {self.content.lease_s:g} s. Nothing more of this stage is written; run it again"
            )

    def check(self) -> None:
        """Raise LockLost if another process has taken over the lock.

        It asks the store if the last renewal is older than half of the lease; until then nobody can take over the lock.
        """
        if self.is_lost or clock_s() - self.renewed_at > self.content.lease_s / 2:
            self.renew()

    def keep(self) -> None:
        """Renew the lease three times in its length, until it is released or lost."""
        while not self.ended.wait(self.content.lease_s / 3):
            try:
                self.renew()
            except LockLost as error:
                log.error("%s", error)
                return
            except NightlogError as error:
                log.warning("the lock of %s could not be renewed; it is tried again: %s", self.name, error)

    def release(self) -> None:
        """Let others have the lock at once. If the store does not answer, they get it at the end of the lease."""
        with self.mutex:
            self.ended.set()
            if self.is_lost:
                return
            try:
                self.write(replace(self.content, is_free=True))
            except Conflict:
                self.is_lost = True
                log.warning("the lock of %s was taken over before it was released", self.name)
            except NightlogError as error:
                log.warning("the lock of %s was not released, so others wait for the end of its lease: %s", self.name, error)


def acquire(store: LeaseStore, name: str, wait_s: float, lease_s: float, owner: str) -> Lease:
    """Return the lease of this name as soon as nobody holds it. Raises TransientError, with the holder, after `wait_s` seconds."""
    holder = ", ".join(filter(None, (owner, f"process {os.getpid()} on {socket.gethostname()}")))
    lease = Lease(store, name, Content(uuid.uuid4().hex, holder, lease_s))
    deadline, seen, seen_at = clock_s() + wait_s, None, 0.0
    while True:
        content, version = store.read(name) or (None, None)
        if content is None or content.is_free or (version == seen and clock_s() - seen_at > content.lease_s):
            with suppress(Conflict):
                lease.take(version)
                if content is not None and not content.is_free:
                    log.warning("the lock of %s was taken over from %s, who did not renew it", name, content.holder)
                return lease
            continue  # somebody else was quicker
        if seen is None:
            log.info("waiting for the lock of %s: %s has it", name, content.holder)
        if version != seen:
            seen, seen_at = version, clock_s()
        if clock_s() > deadline:
            raise TransientError(
                f"another process has worked on {name} for {wait_s:.0f} s ({content.holder}; its lock is {store.address}/{name}.lock); "
                "this one tries again later"
            )
        time.sleep(min(POLL_S, content.lease_s / 4))


def is_held(store: LeaseStore, name: str) -> bool:
    """Return true if the lease was not released, even if it is no longer renewed."""
    found = store.read(name)
    return found is not None and not found[0].is_free


def clock_s() -> float:
    """Return seconds of this machine's clock, which on Linux runs on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
