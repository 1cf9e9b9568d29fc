"""Ways to break things for real; what can be mended is mended at the end."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recorder.program import run


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """While this lasts, the file system has no room."""
    filler = folder / "core.dump"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    """While this lasts, the file is not where it belongs."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


def owners_of(port: int, remote_port: int) -> list[int]:
    """Return the processes that share the TCP connection from one port to the other."""
    found: list[int] = []
    for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        parts = row.split()
        if parts[1].endswith(f":{port:04X}") and parts[2].endswith(f":{remote_port:04X}"):
            for link in Path("/proc").glob("[0-9]*/fd/*"):
                with suppress(OSError):
                    if link.readlink().name == f"socket:[{parts[9]}]":
                        found.append(int(link.parts[2]))
    return found


def owner_of(port: int, remote_port: int) -> int:
    """The process whose TCP connection goes from one port to the other. Raises LookupError."""
    for pid in owners_of(port, remote_port):
        return pid
    raise LookupError(f"no process has a connection from port {port} to port {remote_port}")


def starve(pid: int, spare: int) -> None:
    """Let a process have no more memory than it has now, and `spare` bytes. Raises CalledProcessError."""
    facts = dict(row.split(":", 1) for row in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    uid, gid = facts["Uid"].split()[0], facts["Gid"].split()[0]
    limit = int(facts["VmSize"].split()[0]) * 1024 + spare
    as_owner = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    run(*as_owner, "prlimit", "--pid", str(pid), f"--as={limit}")


@contextmanager
def owned_by_root(path: Path) -> Iterator[None]:
    """While this lasts, a folder has the wrong owner."""
    owner = path.stat()
    os.chown(path, 0, 0)
    path.chmod(0o700)
    try:
        yield
    finally:
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(owner.st_mode & 0o777)


@contextmanager
def spoilt(path: Path, rot: bytes, offset: int) -> Iterator[None]:
    """While this lasts, a part of the file is overwritten."""
    sound = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(rot)
    try:
        yield
    finally:
        path.write_bytes(sound)


def rot(path: Path, rng: random.Random, offset: int) -> None:
    """Overwrite a part of a file by noise."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(rng.randbytes(160))


def reset_on_close(connection: socket.socket) -> None:
    """Close the way a machine does that loses its network: by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
