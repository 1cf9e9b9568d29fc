"""stunnel: TLS for programs that have none; a session is a tunnelled connection."""

from __future__ import annotations

import random
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from recorder.harm import reset_on_close
from recorder.plan import Act, Entry
from recorder.program import Program, Stage, certificate, demand, run
from recorder.sinks import Service, Talk

MAIL, STAFF, BANK = ("127.0.0.1", 15995), ("127.0.0.1", 15996), ("127.0.0.1", 15997)
BACKENDS = (("127.0.0.1", 15110), ("127.0.0.1", 15111))
BANK_SERVER = ("127.0.0.1", 15112)
CONFIG = """
foreground = quiet
pid =
syslog = no
output = /dev/stderr
debug = info
socket = l:TCP_NODELAY=1
sslVersionMin = TLSv1.2
TIMEOUTclose = 0
[mail]
accept = {mail[0]}:{mail[1]}
connect = 127.0.0.1:15110
connect = 127.0.0.1:15111
failover = prio
cert = {work}/server.pem
TIMEOUTidle = 2
TIMEOUTbusy = 2
[staff]
accept = {staff[0]}:{staff[1]}
connect = 127.0.0.1:15110
cert = {work}/server.pem
CAfile = {work}/ca.crt
verifyChain = yes
TIMEOUTidle = 2
TIMEOUTbusy = 2
[bank]
client = yes
accept = {bank[0]}:{bank[1]}
connect = 127.0.0.1:15112
CAfile = {work}/ca.crt
verifyChain = yes
TIMEOUTidle = 2
TIMEOUTbusy = 2
"""
AUTHORITY = """
[ca]
default_ca = d
[d]
database = {work}/index.txt
serial = {work}/serial
new_certs_dir = {work}
certificate = {work}/ca.crt
private_key = {work}/ca.key
default_md = sha256
policy = p
[p]
commonName = supplied
"""


class Stunnel(Program):
    """Tunnels to a mail server (with a spare), for staff with certificates, and to a bank whose certificate is checked."""

    name = "stunnel"
    packages = ("stunnel4", "openssl")
    needs = ("stunnel4", "openssl")
    address = MAIL
    host = "edge"
    stamp = "%Y.%m.%d %H:%M:%S "
    own_time = re.compile(r"^\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d ")
    introduces = (re.compile(r"LOG\d\[(?P<session>\d+)\]: Service \[\w+\] accepted connection from [\d.]+:(?P<conversation>\d+)"),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.mood = "well"
        self.backends = [Service(address, self.serve) for address in BACKENDS]
        self.bank = Service(BANK_SERVER, self.serve_as_bank)
        self.bank_certificate = "bank"

    def issue(self, name: str, start: str = "20250101000000Z", end: str = "20350101000000Z") -> None:
        """Let the authority sign a certificate of this name for a time."""
        work = self.stage.work
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", work / f"{name}.key",
            "-out", work / f"{name}.csr")  # fmt: skip
        run("openssl", "ca", "-batch", "-notext", "-config", work / "ca.cnf", "-in", work / f"{name}.csr", "-out",
            work / f"{name}.crt", "-startdate", start, "-enddate", end)  # fmt: skip

    def prepare(self) -> list[str]:
        """Make certificates: good ones, one that has expired, and one of a stranger."""
        work = self.stage.work
        certificate(work, "ca")
        certificate(work, "stranger")
        (work / "index.txt").touch()
        (work / "serial").write_text("1000\n", encoding="ascii")
        (work / "ca.cnf").write_text(AUTHORITY.format(work=work), encoding="ascii")
        for name in ("server", "alice", "bank"):
            self.issue(name)
        self.issue("bob", "20200101000000Z", "20210101000000Z")
        self.issue("oldbank", "20200101000000Z", "20210101000000Z")
        (work / "server.pem").write_text(
            (work / "server.key").read_text(encoding="ascii") + (work / "server.crt").read_text(encoding="ascii"), encoding="ascii"
        )
        (work / "stunnel.conf").write_text(CONFIG.format(work=work, mail=MAIL, staff=STAFF, bank=BANK), encoding="ascii")
        for service in (*self.backends, self.bank):
            service.up()
        return ["stunnel4", str(work / "stunnel.conf")]

    def shut_down(self, process: object) -> None:
        """End it and its backends."""
        super().shut_down(process)  # type: ignore[arg-type]
        for service in (*self.backends, self.bank):
            service.down()

    def serve(self, talk: Talk) -> None:
        """A mail server in five lines."""
        if self.mood == "mute":
            time.sleep(3)
            return
        talk.say("+OK ready")
        while True:
            line = talk.hear()
            if self.mood == "hangs up":
                assert isinstance(talk.connection, socket.socket)
                talk._stream.close()
                reset_on_close(talk.connection)
                return
            if self.mood == "slow":
                time.sleep(0.8)
            if line == "LIST":
                for n in range(len(line) + talk.peer % 40):
                    talk.say(f"{n} {n * 97}")
            talk.say("+OK")
            if line == "QUIT":
                return

    def serve_as_bank(self, talk: Talk) -> None:
        """A bank's interface, in TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        work = self.stage.work
        context.load_cert_chain(work / f"{self.bank_certificate}.crt", work / f"{self.bank_certificate}.key")
        with suppress(ssl.SSLError):
            talk.secure(context)
            self.serve(talk)

    @contextmanager
    def tunnel(
        self, rng: random.Random, kind: str | None = None, service: tuple[str, int] = MAIL, who: str = "", wait: float = 6.0
    ) -> Iterator[Line]:
        """A connection through one of the tunnels."""
        with self.visit(rng, kind) as source:
            raw = socket.create_connection(service, timeout=wait, source_address=source)
            try:
                if service != BANK:
                    context = trusting()
                    if who:
                        context.load_cert_chain(self.stage.work / f"{who}.crt", self.stage.work / f"{who}.key")
                    raw = context.wrap_socket(raw)
                yield Line(raw)
            finally:
                raw.close()


class Line:
    """A conversation in lines."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = connection.makefile("rb")

    def greet(self) -> None:
        """Hear the greeting."""
        demand(self.stream.readline().startswith(b"+OK"), "a greeting")

    def ask(self, text: str) -> None:
        """Ask and hear the answer to its end."""
        self.connection.sendall(f"{text}\r\n".encode())
        while not (line := self.stream.readline()).startswith(b"+OK"):
            demand(bool(line), "an answer")


def trusting() -> ssl.SSLContext:
    """Return a TLS client that asks no questions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fetch(stunnel: Stunnel, rng: random.Random, line: Line) -> None:
    """Read mail and leave."""
    line.greet()
    line.ask(f"USER u{rng.randint(1, 300)}")
    for _ in range(rng.randint(1, 3)):
        line.ask("LIST")
        stunnel.pause(rng, 2, 30)
    line.ask("QUIT")


def read_mail(stunnel: Stunnel, rng: random.Random) -> None:
    """Somebody reads mail; some programs hang up without the goodbye of TLS."""
    with stunnel.tunnel(rng) as line:
        fetch(stunnel, rng, line)
        if rng.random() < 0.6:
            with suppress(OSError):
                line.connection.unwrap()  # type: ignore[attr-defined]


def read_as_staff(stunnel: Stunnel, rng: random.Random) -> None:
    """Somebody of the staff, with a certificate."""
    with stunnel.tunnel(rng, service=STAFF, who="alice") as line:
        fetch(stunnel, rng, line)


def pay(stunnel: Stunnel, rng: random.Random) -> None:
    """A program of ours talks to the bank."""
    with stunnel.tunnel(rng, service=BANK) as line:
        fetch(stunnel, rng, line)


def spare(stunnel: Stunnel, rng: random.Random) -> None:
    """The first mail server restarts; the spare one answers, and no client notices. This is no fault, but has the place to itself."""
    with stunnel.stage.gate.closed(patience=0.6), stunnel.backends[0].outage():
        for _ in range(rng.randint(2, 4)):
            with stunnel.tunnel(rng) as line:
                fetch(stunnel, rng, line)


def leave_early(stunnel: Stunnel, rng: random.Random) -> None:
    """Somebody's program only checks that the server answers."""
    with stunnel.tunnel(rng) as line:
        line.greet()


def monitor(stunnel: Stunnel, rng: random.Random) -> None:
    """The monitoring connects and hangs up."""
    with stunnel.visit(rng) as source:
        socket.create_connection(MAIL, source_address=source).close()


def victims(stunnel: Stunnel, rng: random.Random, kind: str, service: tuple[str, int] = MAIL, wait: float = 6.0, n: int = 3) -> None:
    """Clients that come one after the other and do not get their mail."""
    for _ in range(rng.randint(1, n)):
        with stunnel.tunnel(rng, kind, service, "alice" if service == STAFF else "", wait) as line:
            fetch(stunnel, rng, line)
        stunnel.pause(rng, 5, 60)


def all_down(stunnel: Stunnel, rng: random.Random) -> None:
    """Both mail servers refuse connections."""
    with stunnel.stage.gate.closed(patience=0.6), stunnel.backends[0].outage(), stunnel.backends[1].outage():
        victims(stunnel, rng, "upstream refused connections", rng.choice((MAIL, STAFF)))


def bank_down(stunnel: Stunnel, rng: random.Random) -> None:
    """The bank refuses connections."""
    with stunnel.stage.gate.closed(patience=0.6), stunnel.bank.outage():
        victims(stunnel, rng, "bank refused connections", BANK)


def in_mood(mood: str, kind: str, wait: float) -> Act[Stunnel]:
    """Return a fault: the mail servers behave so for some clients."""

    def act(stunnel: Stunnel, rng: random.Random) -> None:
        with stunnel.stage.gate.closed(patience=0.6):
            stunnel.mood = mood
            victims(stunnel, rng, kind, rng.choice((MAIL, STAFF, BANK)), wait, n=2)
            stunnel.mood = "well"

    act.__name__ = kind.replace(" ", "_")
    return act


def bank_expired(stunnel: Stunnel, rng: random.Random) -> None:
    """The bank's certificate has expired."""
    with stunnel.stage.gate.closed(patience=0.6):
        stunnel.bank_certificate = "oldbank"
        victims(stunnel, rng, "server certificate expired", BANK)
        stunnel.bank_certificate = "bank"


def bank_replaced(stunnel: Stunnel, rng: random.Random) -> None:
    """Somebody else answers for the bank, with a certificate of his own."""
    with stunnel.stage.gate.closed(patience=0.6):
        stunnel.bank_certificate = "stranger"
        victims(stunnel, rng, "server certificate not trusted", BANK, n=2)
        stunnel.bank_certificate = "bank"


def with_certificate(who: str, kind: str) -> Act[Stunnel]:
    """Return a fault: somebody of the staff comes with this certificate."""

    def act(stunnel: Stunnel, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 3)):
            with stunnel.tunnel(rng, kind, STAFF, who) as line:
                fetch(stunnel, rng, line)
            stunnel.pause(rng, 5, 60)

    act.__name__ = kind.replace(" ", "_")
    return act


def certificate_refused(stunnel: Stunnel, rng: random.Random) -> None:
    """A client does not accept the server's certificate, or speaks only an old TLS."""
    for _ in range(rng.randint(1, 2)):
        with stunnel.visit(rng, "TLS handshake failed") as source:
            raw = socket.create_connection(MAIL, timeout=5, source_address=source)
            context = trusting()
            if rng.random() < 0.5:
                context.verify_mode = ssl.CERT_REQUIRED
            else:
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
                context.set_ciphers("ALL:@SECLEVEL=0")
            try:
                context.wrap_socket(raw)
            finally:
                raw.close()


def plain(stunnel: Stunnel, rng: random.Random) -> None:
    """A program was set up without TLS; or a scanner tries what answers here."""
    with stunnel.visit(rng, "plain text to a TLS port") as source:
        raw = socket.create_connection(MAIL, timeout=5, source_address=source)
        raw.sendall(rng.choice((b"GET / HTTP/1.0\r\n\r\n", b"USER u7\r\n", b"\x16\x03\x01\x00\x05hello")))
        try:
            demand(raw.recv(99).startswith(b"+OK"), "a greeting")
        finally:
            raw.close()


def hung(stunnel: Stunnel, rng: random.Random) -> None:
    """A client hangs before its handshake; the server gives up on it."""
    with stunnel.visit(rng, "client hung before the handshake") as source:
        raw = socket.create_connection(MAIL, timeout=5, source_address=source)
        try:
            demand(raw.recv(99).startswith(b"+OK"), "a greeting")
        finally:
            raw.close()


def cut_off(stunnel: Stunnel, rng: random.Random) -> None:
    """A client loses its network in the middle of its mail."""
    for _ in range(rng.randint(1, 2)):
        with stunnel.tunnel(rng) as line:
            stunnel.stage.ledger.harm(line.connection.getsockname()[1], "client vanished in transfer")
            line.greet()
            line.ask("USER u7")
            line.connection.sendall(b"LIST\r\n")
            line.stream.close()
            reset_on_close(line.connection)


ENTRY = Entry(
    Stunnel,
    {read_mail: 50, read_as_staff: 18, pay: 14, leave_early: 5, monitor: 3},
    {
        spare: (2, 2, 2), all_down: (1, 1, 1), bank_down: (1, 0, 1), in_mood("hangs up", "upstream hung up", 6): (2, 1, 2),
        in_mood("mute", "upstream silent", 6): (1, 1, 1), in_mood("slow", "client gave up on a slow upstream", 0.5): (2, 1, 1),
        bank_expired: (0, 1, 1), bank_replaced: (1, 0, 1), with_certificate("bob", "client certificate expired"): (1, 1, 1),
        with_certificate("stranger", "client certificate not trusted"): (1, 0, 1),
        with_certificate("", "client without certificate"): (0, 1, 1),
        certificate_refused: (1, 1, 1), plain: (1, 2, 1), hung: (2, 1, 2), cut_off: (2, 2, 1),
    },
    per_day=560,
    speed=900,
)  # fmt: skip
