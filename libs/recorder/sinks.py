"""The world around the mail server: other people's mail servers, a lookup table and a policy service."""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path


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


class Postmaster:
    """How the other mail servers treat each recipient; who is not named is welcome.

    A treatment is a list of steps, one an attempt; when they are used up, mail is accepted. A step is "accept", "drop"
    (vanish while the mail is being sent), "stall:SECONDS" before the last answer, or an SMTP answer to the recipient;
    with "." before it, to the whole mail.
    """

    def __init__(self) -> None:
        self.treatment: dict[str, list[str]] = {}
        self.arrivals: dict[str, list[int]] = defaultdict(list)
        self.accepted: set[str] = set()
        self.context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._n = 0

    def use_certificate(self, crt: Path, key: Path) -> None:
        """Offer TLS with this certificate from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, key)
        self.context = context

    def _step(self, recipient: str) -> str:
        with self._lock:
            steps = self.treatment.get(recipient, [])
            return (steps[0] if steps[0].endswith("!") else steps.pop(0)).removesuffix("!") if steps else "accept"

    def receive(self, talk: Talk, with_tls: bool = False) -> None:
        """One SMTP conversation."""
        talk.say("220 mx.example.net ESMTP")
        step, recipient = "accept", ""
        while True:
            verb, _, rest = talk.hear().partition(" ")
            verb = verb.upper()
            if verb == "EHLO":
                offers = ["mx.example.net", "PIPELINING", "SIZE 10240000", "8BITMIME"]
                offers += ["STARTTLS"] if with_tls and not isinstance(talk.connection, ssl.SSLSocket) else []
                for offer in offers[:-1]:
                    talk.say(f"250-{offer}")
                talk.say(f"250 {offers[-1]}")
            elif verb == "STARTTLS" and self.context is not None:
                talk.say("220 2.0.0 Ready")
                talk.secure(self.context)
            elif verb == "RCPT":
                recipient = rest.partition("<")[2].partition(">")[0]
                self.arrivals[recipient].append(talk.peer)
                step = self._step(recipient)
                talk.say(step if step[0] in "45" else "250 2.1.5 Ok")
            elif verb == "DATA":
                talk.say("354 End data with <CR><LF>.<CR><LF>")
                if step == "drop":
                    talk.hear()
                    return
                while talk.hear() != ".":
                    pass
                if step.startswith("stall:"):
                    time.sleep(float(step.partition(":")[2]))
                self._n += 1
                if not step.startswith("."):
                    self.accepted.add(recipient)
                talk.say(step[1:] if step.startswith(".") else f"250 2.0.0 Ok: queued as {self._n * 7919:09d}")
                step = "accept"
            elif verb == "QUIT":
                talk.say("221 2.0.0 Bye")
                return
            else:
                talk.say("250 2.0.0 Ok")


def lookup_table(find: Callable[[str, str], str | None]) -> Callable[[Talk], None]:
    """Postfix's socketmap protocol over a function of (table, key)."""

    def answer(talk: Talk) -> None:
        while True:
            table, _, key = talk.hear_netstring().partition(" ")
            found = find(table, key)
            talk.say_netstring("NOTFOUND " if found is None else f"OK {found}")

    return answer


def policy(talk: Talk) -> None:
    """Postfix's policy protocol: nothing against anybody."""
    while True:
        while talk.hear():
            pass
        talk.say("action=DUNNO", end="\n\n")
