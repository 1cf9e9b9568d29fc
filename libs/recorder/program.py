"""A program under recording: its process, its lines with their moments, its clients, and what all programs have in common."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from recorder.clock import Clock
from recorder.ledger import Gate, Ledger

EVERYWHERE = ("unshare", "setpriv", "prlimit", "mount", "hostname", "pgrep")
EVERYWHERE_IN = ("util-linux", "mount", "hostname", "procps")
DEVICE = Path("/dev/log")  # of syslog; a program under recording has one of its own in its place
SYSLOG_HEAD = re.compile(r"^<\d+>(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?")


class MissedError(Exception):
    """A client did not get what it came for."""


TROUBLE = (OSError, EOFError, MissedError)


def demand(holds: bool, what: str) -> None:
    """Raise MissedError if a client's expectation does not hold."""
    if not holds:
        raise MissedError(what)


@dataclass
class Stage:
    """Shared state of a program, its ordinary load and its faults."""

    work: Path
    clock: Clock
    ledger: Ledger
    gate: Gate = field(default_factory=Gate)


class Program(ABC):
    """A program that writes its log to its standard output or error, to syslog, or to files (named pipes).

    Each line is stamped as it arrives. `stamp` is the published time's format (strftime, and `{ms}`); it takes the place of
    `own_time` where the program writes a time itself. `introduces` finds session and conversation (the client's port, or another
    name that the client knows) in a line.
    """

    name: str
    packages: tuple[str, ...]
    needs: tuple[str, ...]
    address: tuple[str, int]
    host = "mail"
    stamp = ""
    own_time = re.compile("")
    introduces: tuple[re.Pattern[str], ...] = ()
    names_addresses = False  # its lines name a client's address, but not always the port: each conversation has an address of its own
    uses_syslog = False
    pipes: tuple[str, ...] = ()  # log files of the scratch folder that are read as they are written
    binds: tuple[tuple[str, str], ...] = ()  # files of the scratch folder that the program alone sees in the place of others

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.lines: list[tuple[float, str]] = []
        self._command: list[str] = []
        self._made_device = False
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @classmethod
    def missing(cls) -> list[str]:
        """Return the commands that this machine lacks."""
        return [need for need in (*cls.needs, *EVERYWHERE) if shutil.which(need) is None]

    @abstractmethod
    def prepare(self) -> list[str]:
        """Write configuration and data; return the command that runs the program in the foreground."""

    @property
    def version(self) -> str:
        """The program's name and the version of its package."""
        return f"{self.name} {run('dpkg-query', '-W', '-f', '${Version}', self.packages[0])}"

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the program to end."""
        self.signal(signal.SIGTERM)
        process.wait(timeout=30)

    def conversations(self, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield (session id, conversation) for each line that introduces one: ids and ports, nothing else of the line is read."""
        for line in lines:
            for pattern in self.introduces:
                if found := pattern.search(line):
                    yield found["session"], found["conversation"]

    def stamped(self, lines: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
        """Yield the lines as they are published: (real moment, text with the recorded moment in the program's own style)."""
        for real, text in lines:
            moment = self.stage.clock.at(real)
            yield real, self.line(moment, self.own_time.sub("", text, count=1))

    def line(self, moment: datetime, text: str) -> str:
        """Return one published line."""
        return moment.strftime(self.stamp).replace("{ms}", f"{moment.microsecond // 1000:03d}") + text

    def start(self) -> None:
        """Prepare the program, run it and wait until it listens."""
        work = self.stage.work
        for pipe in self.pipes:
            os.mkfifo(work / pipe)
            (work / pipe).chmod(0o666)
            stream = os.fdopen(os.open(work / pipe, os.O_RDWR), "rb")
            threading.Thread(target=self._follow, args=(stream,), daemon=True).start()
        if self.uses_syslog:
            self._made_device = not DEVICE.exists()
            DEVICE.touch()
            box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            box.bind(str(work / "devlog"))
            (work / "devlog").chmod(0o666)
            threading.Thread(target=self._listen, args=(box,), daemon=True).start()
        self._command = self.prepare()
        self.launch()

    def _follow(self, stream: BinaryIO) -> None:
        for raw in stream:
            self._note(raw)

    def _listen(self, box: socket.socket) -> None:
        while True:
            self._note(SYSLOG_HEAD.sub("", box.recv(65536).decode("utf-8", "replace")).encode())

    def launch(self) -> None:
        """Run the program and wait until it listens."""
        spaces = ["--uts", *(["--mount"] if self.uses_syslog or self.binds else [])]
        script = f"set -e; hostname {self.host}; "
        if self.uses_syslog:
            script += f"mount --bind {self.stage.work}/devlog {DEVICE}; "
        for own, other in self.binds:
            script += f"mount --bind {self.stage.work}/{own} {other}; "
        self._process = subprocess.Popen(
            ["unshare", *spaces, "sh", "-c", script + 'exec "$@"', "sh", *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self.await_ready()

    def await_ready(self) -> None:
        """Return when the program takes clients."""
        wait_for_port(self.address)

    @property
    def pid(self) -> int:
        """The program's first process."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the program's first process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def crash(self) -> None:
        """Kill the program without warning, with all its processes."""
        assert self._process is not None and self._reader is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)
        self._reader.join(timeout=30)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            self._note(raw)

    def _note(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            self.lines.append((time.time(), text.replace(str(self.stage.work), "/srv")))

    @contextmanager
    def visit(self, rng: random.Random, kind: str | None = None) -> Iterator[tuple[str, int]]:
        """A conversation from an address of its own, which names it.

        With a kind of fault it is meant to be broken: its client demands to notice it, or the act fails. Without one, trouble that the
        client did not expect is written down as well, and goes on.
        """
        if self.names_addresses:
            source, name = (self.stage.ledger.address(), 0), 0
        else:
            source, name = (f"127.0.1.{rng.randint(1, 9)}", self.stage.ledger.port()), 1
        with self.known_as(str(source[name]), kind):
            yield source

    @contextmanager
    def known_as(self, conversation: str, kind: str | None = None) -> Iterator[None]:
        """A conversation of this name; see `visit`."""
        self.stage.ledger.opened(conversation)
        try:
            yield
        except TROUBLE:
            self.stage.ledger.harm(conversation, kind or "side effect of another fault")
            if kind is None:
                raise
        else:
            if kind is not None and conversation not in self.stage.ledger.broken:
                raise AssertionError(f"nobody noticed: {kind}")
        finally:
            self.stage.ledger.closed(conversation)

    def pause(self, rng: random.Random, low: float, high: float) -> None:
        """Think for some recorded seconds."""
        self.stage.clock.pause(rng.uniform(low, high))

    def stop(self) -> None:
        """End the program and read its last lines."""
        if self._process is None or self._reader is None:
            return
        self.shut_down(self._process)
        self._process.wait(timeout=30)
        self._reader.join(timeout=30)
        if self._made_device:
            DEVICE.unlink()
        time.sleep(0.2)  # lines on their way through a pipe or syslog


def wait_for_port(address: tuple[str, int], patience: float = 20.0) -> None:
    """Return when somebody listens there. Raises TimeoutError."""
    deadline = time.time() + patience
    while time.time() < deadline:
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {address[0]}:{address[1]} after {patience:.0f} s; is the port taken?")


def run(*command: str | Path, check: bool = True) -> str:
    """Run a helper command; its output. Raises CalledProcessError."""
    done = subprocess.run([str(part) for part in command], check=check, capture_output=True, text=True)
    return done.stdout


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    crt, key = folder / f"{name}.crt", folder / f"{name}.key"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", f"/CN={name}.example.org",
        "-keyout", key, "-out", crt)  # fmt: skip
    return crt, key
