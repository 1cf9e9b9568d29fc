"""Services around a program under recording: upstreams that can be taken down and brought back."""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator


class Service:
    """A line-speaking TCP server that can be taken down, with all its conversations, and brought back."""

    def __init__(self, address: tuple[str, int], handler: Callable[[Talk], None]) -> None:
        self.address, self.handler = address, handler
        self._server: socketserver.ThreadingTCPServer | None = None
        self._talks: set[Talk] = set()

    def up(self) -> None:
        """Listen."""
        service = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                talk = Talk(self.request, self.client_address[1])
                service._talks.add(talk)
                with contextlib.suppress(OSError, EOFError):
                    service.handler(talk)
                service._talks.discard(talk)
                talk.close()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(self.address, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for talk in list(self._talks):
            talk.close()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """While this lasts, the service is down."""
        self.down()
        try:
            yield
        finally:
            self.up()


class Talk:
    """One conversation in lines."""

    def __init__(self, connection: object, peer: int) -> None:
        self.connection, self.peer = connection, peer
        self._stream = connection.makefile("rwb")  # type: ignore[attr-defined]

    def hear(self) -> str:
        """The next line. Raises EOFError when there is none."""
        line = self._stream.readline()
        if not line:
            raise EOFError
        return str(line.decode("utf-8", "replace").rstrip("\r\n"))

    def say(self, text: str, end: str = "\r\n") -> None:
        """A line."""
        self._stream.write(f"{text}{end}".encode())
        self._stream.flush()

    def hear_netstring(self) -> str:
        """A text with its length before it. Raises EOFError when there is none."""
        length = b""
        while not length.endswith(b":"):
            digit = self._stream.read(1)
            if not digit:
                raise EOFError
            length += digit
        return str(self._stream.read(int(length[:-1]) + 1)[:-1].decode())

    def say_netstring(self, text: str) -> None:
        """A text with its length before it."""
        self.say(f"{len(text)}:{text}", end=",")

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        self.connection = context.wrap_socket(self.connection, server_side=True)  # type: ignore[arg-type]
        self._stream = self.connection.makefile("rwb")

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError, ValueError):
            self.connection.shutdown(2)  # type: ignore[attr-defined]
        with contextlib.suppress(OSError, ValueError):
            self.connection.close()  # type: ignore[attr-defined]
