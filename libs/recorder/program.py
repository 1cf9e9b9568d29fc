"""A program under recording: its process, its lines with their moments, and what the three have in common."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recorder.clock import Clock
from recorder.ledger import Gate, Ledger

EVERYWHERE = ("unshare", "setpriv", "prlimit", "mount", "hostname", "pgrep")
EVERYWHERE_IN = ("util-linux", "mount", "hostname", "procps")


@dataclass
class Stage:
    """What a program, its ordinary load and its faults share."""

    work: Path
    clock: Clock
    ledger: Ledger
    gate: Gate = field(default_factory=Gate)


class Program(ABC):
    """A program that writes its log to its standard output or error, where each line is stamped as it arrives."""

    name: str
    packages: tuple[str, ...]
    needs: tuple[str, ...]

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.lines: list[tuple[float, str]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @classmethod
    def missing(cls) -> list[str]:
        """The commands that this machine lacks."""
        return [need for need in (*cls.needs, *EVERYWHERE) if shutil.which(need) is None]

    @abstractmethod
    def prepare(self) -> list[str]:
        """Write configuration and data; return the command that runs the program in the foreground."""

    @abstractmethod
    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the program to end."""

    @abstractmethod
    def conversations(self, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
        """(session id, conversation) for what the lines say about who talked to whom: ids and ports, no other word."""

    @abstractmethod
    def stamped(self, lines: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
        """The lines as they are published: (real moment, text with the recorded moment in the program's own style)."""

    @property
    @abstractmethod
    def version(self) -> str:
        """What the program says of itself."""

    def start(self, address: tuple[str, int]) -> None:
        """Run the program and wait until it listens."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname mail; exec "$@"', "sh"]
        self._process = subprocess.Popen(
            [*named, *self.prepare()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        wait_for_port(address)

    @property
    def pid(self) -> int:
        """The program's first process."""
        assert self._process is not None
        return self._process.pid

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.lines.append((time.time(), text.replace(str(self.stage.work), "/srv")))

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
