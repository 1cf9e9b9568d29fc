"""The world around the mail server: other mail servers, a lookup table and a policy service."""

from __future__ import annotations

import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from recorder.sinks import Talk


class Postmaster:
    """The replies of the other mail servers by recipient; a recipient that is not named is accepted.

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
