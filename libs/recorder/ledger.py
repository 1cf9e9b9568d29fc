"""The recorder's own record: the conversations that it broke, and the fault of each."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

FIRST_PORT, LAST_PORT = 20000, 60000


@dataclass
class Ledger:
    """Each conversation comes from a client port of its own, which names it; a broken one is written down here.

    `broken` maps the conversation to the kind of fault. Nothing here is ever read from the logs.
    """

    rng: random.Random
    broken: dict[str, str] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ports: list[int] = field(default_factory=list)

    def port(self) -> int:
        """A client port that no earlier conversation of this recording had."""
        with self._lock:
            if not self._ports:
                self._ports = list(range(FIRST_PORT, LAST_PORT))
                self.rng.shuffle(self._ports)
            return self._ports.pop()

    def address(self) -> str:
        """Return a loopback address that no earlier conversation of this recording had."""
        port = self.port()
        return f"127.{port >> 8}.{port & 255}.{1 + port % 200}"

    def opened(self, conversation: str) -> None:
        """The conversation has begun."""
        with self._lock:
            self._open.add(conversation)

    def closed(self, conversation: str) -> None:
        """The conversation is over, as far as the client is concerned."""
        with self._lock:
            self._open.discard(conversation)

    def harm(self, conversation: str | int, kind: str) -> None:
        """Write down that an operation of this conversation was broken. The first kind stays."""
        with self._lock:
            self.broken.setdefault(str(conversation), kind)

    def harm_open(self, kind: str) -> None:
        """Write down that every conversation that is open now was broken."""
        with self._lock:
            for conversation in self._open:
                self.broken.setdefault(conversation, kind)


class Gate:
    """Lets ordinary sessions in, except while a fault that would hit all of them is being made.

    A fault that closes the gate brings its own victims, so that the recorder knows each of them.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._closed = False
        self._inside = 0

    @contextmanager
    def ordinary(self) -> Iterator[None]:
        """Come in when the gate is open."""
        with self._free:
            self._free.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._free:
                self._inside -= 1
                self._free.notify_all()

    @contextmanager
    def closed(self, patience: float = 0.0) -> Iterator[None]:
        """Keep new sessions out; wait at most `patience` real seconds for those inside to leave."""
        with self._free:
            self._free.wait_for(lambda: not self._closed)
            self._closed = True
            if patience:
                self._free.wait_for(lambda: not self._inside, timeout=patience)
        try:
            yield
        finally:
            with self._free:
                self._closed = False
                self._free.notify_all()
