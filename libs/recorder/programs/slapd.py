"""slapd (OpenLDAP): the directory of a company; a session is a client's connection."""

from __future__ import annotations

import random
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from recorder.harm import filled, reset_on_close
from recorder.plan import Act, Entry
from recorder.program import MissedError, Program, Stage, certificate, demand, run, wait_for_port
from recorder.sinks import Service, Talk

BASE = "dc=example,dc=org"
APP, HR, ROOT = f"cn=app,{BASE}", f"cn=hr,{BASE}", f"cn=admin,{BASE}"
PARTNERS = "ou=partners,dc=example,dc=net"
N_PEOPLE = 240
CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload back_ldap
pidfile {work}/slapd.pid
threads 16
TLSCertificateFile {work}/ldap.crt
TLSCertificateKeyFile {work}/ldap.key
TLSProtocolMin 3.3
idletimeout 60
sizelimit 25
database config
rootpw config
database ldap
suffix "{partners}"
uri ldap://127.0.0.1:15391
network-timeout 1
timeout 1
database mdb
suffix "{base}"
rootdn "{root}"
rootpw root
directory {work}/db
maxsize 33554432
index objectClass,uid,ou eq
limits dn.exact="{app}" size.unchecked=30
access to attrs=userPassword by dn.exact="{hr}" write by self write by anonymous auth
access to * by dn.exact="{hr}" write by users read by anonymous auth
"""


class LdapError(MissedError):
    """The server answered with an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"result code {code}")
        self.code = code


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return one element of the encoding."""
    body = b"".join(parts)
    size = len(body)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + body


def text(value: str, tag: int = 4) -> bytes:
    """Return a string."""
    return tlv(tag, value.encode())


def number(value: int, tag: int = 2) -> bytes:
    """Return a small integer."""
    return tlv(tag, value.to_bytes(2, "big"))


def read_element(stream: socket.socket) -> tuple[int, bytes]:
    """Return (tag, content) of the next element. Raises EOFError."""

    def exactly(n: int) -> bytes:
        got = b""
        while len(got) < n:
            piece = stream.recv(n - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got

    tag, size = exactly(2)
    if size > 128:
        size = int.from_bytes(exactly(size - 128), "big")
    return tag, exactly(size)


def split(content: bytes) -> list[tuple[int, bytes]]:
    """Return the elements of a content."""
    found = []
    while content:
        size, at = content[1], 2
        if size > 128:
            at = 2 + size - 128
            size = int.from_bytes(content[2:at], "big")
        found.append((content[0], content[at : at + size]))
        content = content[at + size :]
    return found


class Ldap:
    """One connection: each operation returns when its result has come. Raises LdapError for a code that is not expected."""

    def __init__(self, server: tuple[str, int], source: tuple[str, int], wait: float = 3.0) -> None:
        self.socket: socket.socket = socket.create_connection(server, timeout=wait, source_address=source)
        self.n = 0

    def send(self, operation: bytes) -> None:
        """Send an operation."""
        self.n += 1
        self.socket.sendall(tlv(0x30, number(self.n), operation))

    def result(self, *fine: int) -> int:
        """Return how many entries came before the result. Raises LdapError."""
        entries = 0
        while True:
            _, content = read_element(self.socket)
            tag, body = split(content)[1]
            if tag == 0x64:
                entries += 1
            elif tag != 0x73:
                code = split(body)[0][1][-1]
                if code not in (fine or (0,)):
                    raise LdapError(code)
                return entries

    def bind(self, dn: str, password: str, *fine: int) -> None:
        """Log in."""
        self.send(tlv(0x60, number(3), text(dn), text(password, 0x80)))
        self.result(*fine)

    def begin_search(self, attribute: str, value: str, base: str = BASE) -> None:
        """Send a search for entries whose attribute has this value."""
        clause = tlv(0xA3, text(attribute), text(value)) if value != "*" else text(attribute, 0x87)
        scope = tlv(0x0A, b"\2"), tlv(0x0A, b"\0")
        self.send(tlv(0x63, text(base), *scope, number(0), number(0), tlv(1, b"\0"), clause, tlv(0x30, text("cn"), text("mail"))))

    def search(self, attribute: str, value: str, *fine: int, base: str = BASE) -> int:
        """Return how many entries have this value."""
        self.begin_search(attribute, value, base)
        return self.result(*fine)

    def modify(self, dn: str, attribute: str, value: str, *fine: int) -> None:
        """Replace an attribute's value."""
        change = tlv(0x30, tlv(0x0A, b"\2"), tlv(0x30, text(attribute), tlv(0x31, text(value))))
        self.send(tlv(0x66, text(dn), tlv(0x30, change)))
        self.result(*fine)

    def compare(self, dn: str, attribute: str, value: str) -> None:
        """Ask if an attribute has a value; both answers are fine."""
        self.send(tlv(0x6E, text(dn), tlv(0x30, text(attribute), text(value))))
        self.result(5, 6)

    def add(self, dn: str, attributes: dict[str, str], *fine: int) -> None:
        """Add an entry."""
        rows = [tlv(0x30, text(name), tlv(0x31, text(value))) for name, value in attributes.items()]
        self.send(tlv(0x68, text(dn), tlv(0x30, *rows)))
        self.result(*fine)

    def delete(self, dn: str, *fine: int) -> None:
        """Remove an entry."""
        self.send(text(dn, 0x4A))
        self.result(*fine)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        self.send(tlv(0x77, text("1.3.6.1.4.1.1466.20037", 0x80)))
        self.result()
        self.socket = context.wrap_socket(self.socket)

    def unbind(self) -> None:
        """Say goodbye."""
        with suppress(OSError):
            self.send(b"\x42\x00")
        self.socket.close()


def person(n: int) -> dict[str, str]:
    """Return the attributes of somebody."""
    return {"objectClass": "inetOrgPerson", "cn": f"Person {n}", "sn": f"P{n}", "uid": f"u{n:04d}", "ou": f"team{n % 24:02d}",
            "mail": f"u{n:04d}@example.org", "title": f"title{n % 7}", "userPassword": f"pw{n}"}  # fmt: skip


def dn_of(n: int) -> str:
    """Return the name of somebody's entry."""
    return f"uid=u{n:04d},ou=people,{BASE}"


class Slapd(Program):
    """A directory with 240 people in 24 teams, and a proxy to the partners' directory."""

    name = "slapd"
    packages = ("slapd", "openssl")
    needs = ("slapd", "slapadd", "openssl")
    address = ("127.0.0.1", 15389)
    host = "ldap"
    stamp = "%b %e %H:%M:%S ldap slapd[431]: "
    own_time = re.compile(r"^[0-9a-f]+\.[0-9a-f]+ (0x[0-9a-f]+ )?")
    introduces = (re.compile(r"conn=(?P<session>\d+) fd=\d+ ACCEPT from IP=[\d.]+:(?P<conversation>\d+) "),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.delay = 0.0
        self.partners = Service(("127.0.0.1", 15391), self.answer_as_partner)

    def answer_as_partner(self, talk: Talk) -> None:
        """Answer a bind, and any search with one entry."""
        connection = talk.connection
        assert isinstance(connection, socket.socket)
        while True:
            _, content = read_element(connection)
            (_, n), (tag, _) = split(content)[:2]
            done = tlv(0x0A, b"\0") + text("") + text("")
            if tag == 0x60:
                connection.sendall(tlv(0x30, tlv(2, n), tlv(0x61, done)))
            elif tag == 0x63:
                time.sleep(self.delay)
                row = tlv(0x30, text("cn"), tlv(0x31, text("Partner")))
                connection.sendall(tlv(0x30, tlv(2, n), tlv(0x64, text(f"cn=Partner,{PARTNERS}"), tlv(0x30, row))))
                connection.sendall(tlv(0x30, tlv(2, n), tlv(0x65, done)))

    def prepare(self) -> list[str]:
        """Fill the directory."""
        work = self.stage.work
        (work / "db").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", work / "db")
        certificate(work, "ldap")
        conf = work / "slapd.conf"
        conf.write_text(CONFIG.format(work=work, base=BASE, root=ROOT, app=APP, hr=HR, partners=PARTNERS), encoding="utf-8")
        entries = {BASE: {"objectClass": "dcObject\nobjectClass: organization", "o": "Example", "dc": "example"},
                   f"ou=people,{BASE}": {"objectClass": "organizationalUnit", "ou": "people"}}  # fmt: skip
        for dn, name in ((APP, "app"), (HR, "hr")):
            entries[dn] = {"objectClass": "person", "cn": name, "sn": name, "userPassword": f"secret of {name}"}
        entries |= {dn_of(n): person(n) for n in range(N_PEOPLE)}
        ldif = "\n".join(f"dn: {dn}\n" + "".join(f"{k}: {v}\n" for k, v in rows.items()) for dn, rows in entries.items())
        (work / "all.ldif").write_text(ldif, encoding="utf-8")
        run("slapadd", "-f", conf, "-b", BASE, "-l", work / "all.ldif")
        self.partners.up()
        return [shutil.which("slapd") or "slapd", "-d", "stats", "-f", str(conf), "-h", f"ldap://127.0.0.1:{self.address[1]}"]

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """End it and its small file system."""
        super().shut_down(process)
        self.partners.down()
        run("umount", "-l", self.stage.work / "db")

    @contextmanager
    def session(self, rng: random.Random, dn: str = APP, password: str = "secret of app", kind: str | None = None) -> Iterator[Ldap]:
        """A connection that is logged in, and says goodbye at the end."""
        with self.visit(rng, kind) as source:
            ldap = Ldap(self.address, source)
            try:
                if rng.random() < 0.3:
                    ldap.start_tls(trusting())
                ldap.bind(dn, password)
                yield ldap
            finally:
                ldap.unbind()

    def configure(self, rng: random.Random, attribute: str, *values: str) -> None:
        """Change a setting of the main database while it runs."""
        with self.session(rng, "cn=config", "config") as ldap:
            rows = tlv(0x31, *map(text, values))
            change = tlv(0x30, tlv(0x0A, b"\2"), tlv(0x30, text(attribute), rows))
            ldap.send(tlv(0x66, text("olcDatabase={2}mdb,cn=config"), tlv(0x30, change)))
            ldap.result()


def trusting() -> ssl.SSLContext:
    """Return a TLS client that asks no questions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def log_in(slapd: Slapd, rng: random.Random) -> None:
    """An application looks somebody up and checks the password; some are mistyped once."""
    n = rng.randrange(N_PEOPLE)
    with slapd.session(rng) as app:
        demand(app.search("uid", f"u{n:04d}") == 1, "the person")
    with slapd.visit(rng) as source:
        own = Ldap(slapd.address, source)
        if rng.random() < 0.15:
            own.bind(dn_of(n), "oops", 49)
            slapd.pause(rng, 4, 20)
        own.bind(dn_of(n), f"pw{n}")
        if rng.random() < 0.3:
            own.compare(dn_of(n), "title", f"title{rng.randint(0, 6)}")
        own.unbind()


def address_book(slapd: Slapd, rng: random.Random) -> None:
    """A mail program completes addresses; a search too wide is cut off by the limit."""
    n = rng.randrange(N_PEOPLE)
    with slapd.session(rng, dn_of(n), f"pw{n}") as mail:
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.15:
                mail.search("objectClass", "inetOrgPerson", 0, 4)
            elif rng.random() < 0.5:
                demand(mail.search("ou", f"team{rng.randrange(24):02d}") >= 8, "the team")
            else:
                demand(mail.search("uid", f"u{rng.randrange(N_PEOPLE):04d}") == 1, "the person")
            slapd.pause(rng, 5, 60)


def change_password(slapd: Slapd, rng: random.Random) -> None:
    """Somebody changes a password or a title, or tries what only HR may."""
    n = rng.randrange(N_PEOPLE)
    with slapd.session(rng, dn_of(n), f"pw{n}") as own:
        if rng.random() < 0.2:
            own.modify(dn_of(n), "title", "boss", 50)
        own.modify(dn_of(n), "userPassword", f"pw{n}")


def staff_changes(slapd: Slapd, rng: random.Random) -> None:
    """HR adds somebody, who is sometimes there already, and removes somebody else."""
    with slapd.session(rng, HR, "secret of hr") as hr:
        for _ in range(rng.randint(1, 3)):
            n = rng.randint(1000, 9999)
            if rng.random() < 0.15:
                hr.add(dn_of(rng.randrange(N_PEOPLE)), person(n), 68, 64)
                slapd.pause(rng, 5, 60)
            hr.add(dn_of(n), person(n), 0, 68)
            hr.modify(dn_of(n), "title", f"title{rng.randint(0, 6)}")
            slapd.pause(rng, 5, 60)
            hr.delete(dn_of(n), 0, 32)


def ask_partner(slapd: Slapd, rng: random.Random) -> None:
    """The application asks the partners' directory."""
    with slapd.session(rng) as app:
        for _ in range(rng.randint(1, 2)):
            demand(app.search("cn", "Partner", base=PARTNERS) == 1, "the partner")


def monitor(slapd: Slapd, rng: random.Random) -> None:
    """The monitoring connects, and hangs up without a word."""
    with slapd.visit(rng) as source:
        socket.create_connection(slapd.address, source_address=source).close()


def gone_idle(slapd: Slapd, rng: random.Random) -> None:
    """A laptop closes its lid after its work is done."""
    with slapd.visit(rng) as source:
        ldap = Ldap(slapd.address, source)
        ldap.bind(APP, "secret of app")
        demand(ldap.search("uid", f"u{rng.randrange(N_PEOPLE):04d}") == 1, "the person")
        ldap.socket.close()


def guess_passwords(slapd: Slapd, rng: random.Random) -> None:
    """An intruder tries many passwords of a few people, on one connection or on many."""
    people = rng.sample(range(N_PEOPLE), rng.randint(2, 4))
    for n in people:
        with slapd.visit(rng) as source:
            slapd.stage.ledger.harm(source[1], "password guessing")
            ldap = Ldap(slapd.address, source)
            for guess in range(rng.randint(3, 7)):
                ldap.bind(dn_of(n), f"summer{guess}", 49)
            ldap.unbind()


def harvest(slapd: Slapd, rng: random.Random) -> None:
    """A stolen account reads the whole directory, person by person."""
    n = rng.randrange(N_PEOPLE)
    with slapd.session(rng, dn_of(n), f"pw{n}") as thief:
        slapd.stage.ledger.harm(thief.socket.getsockname()[1], "directory harvested")
        for k in range(rng.randint(30, 60)):
            thief.search("uid", f"u{k:04d}")


def disk_full(slapd: Slapd, rng: random.Random) -> None:
    """The file system has no room left; changes fail."""
    with slapd.stage.gate.closed(patience=0.5), filled(slapd.stage.work / "db"):
        for _ in range(rng.randint(2, 3)):
            n = rng.randint(1000, 9999)
            with slapd.session(rng, HR, "secret of hr", kind="disk full") as hr:
                for k in range(60):
                    hr.add(dn_of(n + k), person(n + k) | {"description": "x" * 20000})
            slapd.pause(rng, 5, 60)


def read_only(slapd: Slapd, rng: random.Random) -> None:
    """The database is left read-only after maintenance."""
    with slapd.stage.gate.closed(patience=0.5):
        slapd.configure(rng, "olcReadOnly", "TRUE")
        for _ in range(rng.randint(2, 4)):
            n = rng.randrange(N_PEOPLE)
            with slapd.session(rng, dn_of(n), f"pw{n}", kind="read-only after maintenance") as own:
                own.modify(dn_of(n), "userPassword", f"pw{n}")
        slapd.configure(rng, "olcReadOnly", "FALSE")


def rights_lost(slapd: Slapd, rng: random.Random) -> None:
    """A new access rule hides everybody: searches succeed and find nobody."""
    hidden = f'to * by dn.exact="{HR}" write by anonymous auth'
    usual = (f'{{0}}to attrs=userPassword by dn.exact="{HR}" write by self write by anonymous auth',
             f'{{1}}to * by dn.exact="{HR}" write by users read by anonymous auth')  # fmt: skip
    with slapd.stage.gate.closed(patience=0.5):
        slapd.configure(rng, "olcAccess", usual[0], "{1}" + hidden)
        for _ in range(rng.randint(2, 4)):
            with slapd.session(rng, kind="access rule hides entries") as app:
                demand(app.search("uid", f"u{rng.randrange(N_PEOPLE):04d}", 0, 32) == 1, "the person")
        slapd.configure(rng, "olcAccess", *usual)


def team_lost(slapd: Slapd, rng: random.Random) -> None:
    """A bad import has moved a team elsewhere; its list comes back empty."""
    team = rng.randrange(24)
    with slapd.stage.gate.closed(patience=0.5):
        with slapd.session(rng, HR, "secret of hr") as hr:
            for n in range(team, N_PEOPLE, 24):
                hr.modify(dn_of(n), "ou", "unknown")
        for _ in range(rng.randint(2, 3)):
            n = rng.randrange(N_PEOPLE)
            with slapd.session(rng, dn_of(n), f"pw{n}", kind="team emptied by an import") as mail:
                demand(mail.search("ou", f"team{team:02d}") >= 8, "the team")
        with slapd.session(rng, HR, "secret of hr") as hr:
            for n in range(team, N_PEOPLE, 24):
                hr.modify(dn_of(n), "ou", f"team{team:02d}")


def partner_down(slapd: Slapd, rng: random.Random) -> None:
    """The partners' directory refuses connections."""
    with slapd.stage.gate.closed(patience=0.5), slapd.partners.outage():
        for _ in range(rng.randint(1, 3)):
            with slapd.session(rng, kind="upstream refused connections") as app:
                demand(app.search("cn", "Partner", base=PARTNERS) == 1, "the partner")
            slapd.pause(rng, 5, 60)
    wait_for_port(("127.0.0.1", 15391))


def partner_slow(slapd: Slapd, rng: random.Random) -> None:
    """The partners' directory answers too late; the client gives up and abandons its search."""
    with slapd.stage.gate.closed(patience=0.5):
        slapd.delay = 0.8
        for _ in range(rng.randint(1, 2)):
            with slapd.session(rng, kind="upstream too slow") as app:
                app.begin_search("cn", "Partner", PARTNERS)
                app.socket.settimeout(0.3)
                try:
                    app.result()
                except TimeoutError:
                    app.send(number(app.n, 0x50))
                    raise
        slapd.delay = 0.0
        time.sleep(0.8)


def unindexed(slapd: Slapd, rng: random.Random) -> None:
    """A new release of an application searches by an attribute without an index, which is refused."""
    for _ in range(rng.randint(1, 3)):
        with slapd.session(rng, kind="search over the limit") as app:
            app.search("title", f"title{rng.randint(0, 6)}")
        slapd.pause(rng, 5, 60)


def certificate_refused(slapd: Slapd, rng: random.Random) -> None:
    """A device does not accept the certificate."""
    for _ in range(rng.randint(1, 2)):
        context = trusting()
        context.verify_mode = ssl.CERT_REQUIRED
        with slapd.visit(rng, "TLS handshake failed") as source:
            ldap = Ldap(slapd.address, source)
            try:
                ldap.start_tls(context)
            finally:
                ldap.socket.close()


def secret_rotated(slapd: Slapd, rng: random.Random) -> None:
    """A service still has its old password; it goes on without a login and is not allowed to search."""
    for _ in range(rng.randint(1, 3)):
        with slapd.visit(rng, "service with an old password") as source:
            ldap = Ldap(slapd.address, source)
            ldap.bind(APP, "secret of last year", 49)
            try:
                demand(ldap.search("uid", f"u{rng.randrange(N_PEOPLE):04d}", 0, 32) == 1, "the person")
            finally:
                ldap.unbind()
        slapd.pause(rng, 5, 60)


def cut_off(slapd: Slapd, rng: random.Random) -> None:
    """HR's machine loses its network in the middle of a change: the new entry is never completed."""
    n = rng.randint(1000, 9999)
    with slapd.visit(rng) as source:
        ldap = Ldap(slapd.address, source)
        ldap.bind(HR, "secret of hr")
        slapd.stage.ledger.harm(source[1], "client vanished in a change")
        ldap.add(dn_of(n), person(n), 0, 68)
        reset_on_close(ldap.socket)
    with slapd.session(rng, HR, "secret of hr") as hr:
        hr.delete(dn_of(n), 0, 32)


FAULTS: dict[Act[Slapd], tuple[int, ...]] = {
    guess_passwords: (1, 1, 0), harvest: (1, 0, 1), disk_full: (0, 1, 1), read_only: (1, 0, 1), rights_lost: (1, 1, 1),
    team_lost: (1, 1, 1), partner_down: (1, 1, 1), partner_slow: (1, 1, 2), unindexed: (1, 1, 1), certificate_refused: (1, 1, 1),
    secret_rotated: (1, 1, 1), cut_off: (1, 2, 2),
}  # fmt: skip
ENTRY = Entry(
    Slapd,
    {log_in: 40, address_book: 22, change_password: 7, staff_changes: 7, ask_partner: 10, monitor: 4, gone_idle: 4},
    FAULTS,
    per_day=450,
    speed=900,
)
