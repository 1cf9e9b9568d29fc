"""The little of PostgreSQL's wire protocol that the recorder speaks, so that it can also break it."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
from dataclasses import dataclass


class ServerError(Exception):
    """The server answered with an error; `code` is its SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


@dataclass(frozen=True)
class Account:
    """The account and the database of a connection."""

    user: str
    password: str
    database: str = "store"


class Connection:
    """One session: connect, ask, end. The client port is chosen by the caller."""

    def __init__(self, server: tuple[str, int], client: tuple[str, int]) -> None:
        self.socket = socket.create_connection(server, timeout=20, source_address=client)
        self.client = client
        self.pid = self.secret = 0

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Ask for TLS before anything else."""
        self.socket.sendall(struct.pack("!ii", 8, 80877103))
        if self.socket.recv(1) != b"S":
            raise ConnectionError("the server refused TLS")
        self.socket = context.wrap_socket(self.socket)

    def log_in(self, account: Account, application: str) -> None:
        """Start up and authenticate by MD5. Raises ServerError."""
        pairs = {"user": account.user, "database": account.database, "application_name": application}
        body = struct.pack("!i", 196608) + b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items()) + b"\0"
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        while True:
            kind, payload = self._receive()
            if kind == b"R" and payload[:4] == b"\0\0\0\5":
                inner = hashlib.md5((account.password + account.user).encode()).hexdigest()
                self.send(b"p", b"md5" + hashlib.md5(inner.encode() + payload[4:8]).hexdigest().encode() + b"\0")
            elif kind == b"K":
                self.pid, self.secret = struct.unpack("!ii", payload)
            elif kind == b"Z":
                return

    def send(self, kind: bytes, payload: bytes) -> None:
        """One message to the server."""
        self.socket.sendall(kind + struct.pack("!i", len(payload) + 4) + payload)

    def begin(self, sql: str) -> None:
        """Send a query without waiting for its answer."""
        self.send(b"Q", sql.encode() + b"\0")

    def finish(self) -> list[list[str]]:
        """Rows of the query that was begun. Raises the first ServerError when the server is ready again."""
        rows: list[list[str]] = []
        failure: ServerError | None = None
        while True:
            try:
                kind, payload = self._receive()
            except ServerError as error:
                failure = failure or error
                if error.code in ("57P01", "57P02", "57P03", "25P03"):
                    raise
                continue
            if kind == b"D":
                rows.append(fields(payload))
            elif kind == b"G":
                return rows
            elif kind == b"Z":
                if failure is not None:
                    raise failure
                return rows

    def ask(self, sql: str) -> list[list[str]]:
        """A query and its rows. Raises ServerError."""
        self.begin(sql)
        return self.finish()

    def copy(self, sql: str, rows: list[str]) -> None:
        """COPY … FROM STDIN. Raises ServerError."""
        self.ask(sql)
        for row in rows:
            self.send(b"d", row.encode() + b"\n")
        self.send(b"c", b"")
        self.finish()

    def cancel(self, server: tuple[str, int], client: tuple[str, int]) -> None:
        """Ask the server, on a connection of its own, to cancel what this session is doing."""
        with socket.create_connection(server, timeout=20, source_address=client) as other:
            other.sendall(struct.pack("!iiii", 16, 80877102, self.pid, self.secret))
            other.recv(1)

    def close(self) -> None:
        """Say goodbye and hang up."""
        try:
            self.send(b"X", b"")
        except OSError:
            pass
        finally:
            self.socket.close()

    def _receive(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        payload = self._exactly(struct.unpack("!i", head[1:])[0] - 4)
        if head[:1] == b"E":
            parts = {part[:1]: part[1:].decode("utf-8", "replace") for part in payload.split(b"\0") if part}
            raise ServerError(parts.get(b"C", ""), parts.get(b"M", ""))
        return head[:1], payload

    def _exactly(self, n: int) -> bytes:
        got = b""
        while len(got) < n:
            piece = self.socket.recv(n - len(got))
            if not piece:
                raise ConnectionResetError("the server hung up")
            got += piece
        return got


def fields(payload: bytes) -> list[str]:
    """The text fields of a row message; NULL is empty."""
    (count,) = struct.unpack("!h", payload[:2])
    at, row = 2, []
    for _ in range(count):
        (size,) = struct.unpack("!i", payload[at : at + 4])
        at += 4
        row.append(payload[at : at + max(size, 0)].decode("utf-8", "replace"))
        at += max(size, 0)
    return row
