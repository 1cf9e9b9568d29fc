"""FreeRADIUS: who may enter the network of a university; a session is a request."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from recorder.plan import Act, Entry
from recorder.program import Program, Stage, demand, run

SECRET = b"secret of the switches"
ACCOUNTING = ("127.0.0.1", 18121)
PARTNERS = {"partner": 18130, "college": 18131}  # the second one is broken at times
ACCEPT, REJECT, ACCOUNTED = 2, 3, 5
N_PEOPLE = 300
NETWORK = '\tTunnel-Private-Group-Id = "staff"\n'
EXPIRED, BLOCKED, NOWHERE = 901, 902, 903
BROKEN = {EXPIRED: (', Expiration := "01 Jan 2020"', NETWORK), BLOCKED: (", Auth-Type := Reject", NETWORK), NOWHERE: ("", "")}
CONFIG = """
prefix = /usr
logdir = {work}
raddbdir = {work}
libdir = /usr/lib/freeradius
run_dir = {work}
name = freeradius
max_request_time = 4
cleanup_delay = 1
max_requests = 512
hostname_lookups = no
log {{
  destination = stdout
  auth = yes
}}
security {{
  max_attributes = 40
  reject_delay = 0
  status_server = yes
}}
proxy_requests = yes
{realms}
client switches {{
  ipaddr = 127.0.0.0/8
  secret = "{secret}"
}}
thread pool {{
  start_servers = 3
  max_servers = 8
  min_spare_servers = 1
  max_spare_servers = 4
  max_requests_per_server = 0
}}
modules {{
  pap {{
  }}
  chap {{
  }}
  files {{
    usersfile = {work}/users
  }}
  realm suffix {{
    format = suffix
    delimiter = "@"
  }}
  expiration {{
  }}
  logintime {{
  }}
  detail {{
    filename = {work}/acct/detail
  }}
}}
instantiate {{
  expiration
  logintime
}}
server default {{
  listen {{
    type = auth
    ipaddr = 127.0.0.1
    port = {port}
  }}
  listen {{
    type = acct
    ipaddr = 127.0.0.1
    port = 18121
  }}
  authorize {{
    chap
    suffix
    files
    expiration
    logintime
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
    Auth-Type CHAP {{
      chap
    }}
  }}
  preacct {{
    suffix
  }}
  accounting {{
    detail
  }}
}}
"""

REALM = """
home_server {name} {{
  type = auth
  ipaddr = 127.0.0.1
  port = {port}
  src_ipaddr = 127.0.0.1
  secret = partner
  response_window = 1.2
  zombie_period = 1
  revive_interval = 10
  status_check = none
}}
home_server_pool {name}s {{
  type = fail-over
  home_server = {name}
}}
realm {name}.example {{
  auth_pool = {name}s
}}
"""


def attribute(number: int, value: bytes) -> bytes:
    """Return one attribute as it is sent."""
    return bytes([number, 2 + len(value)]) + value


def hidden(password: str, secret: bytes, authenticator: bytes) -> bytes:
    """Return a password as it is sent."""
    plain = password.encode()
    plain += b"\0" * (-len(plain) % 16 or (16 if not plain else 0))
    out, last = b"", authenticator
    for at in range(0, len(plain), 16):
        key = hashlib.md5(secret + last).digest()
        last = bytes(a ^ b for a, b in zip(plain[at : at + 16], key, strict=True))
        out += last
    return out


class Partner:
    """The RADIUS server of a partner, for its own people; `mood` says how it behaves."""

    def __init__(self, port: int) -> None:
        self.mood = "well"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """Accept everybody."""
        while True:
            packet, peer = self.socket.recvfrom(4096)
            states, at = b"", 20
            while at < len(packet):
                if packet[at] == 33:
                    states += packet[at : at + packet[at + 1]]
                at += packet[at + 1]
            if self.mood == "silent":
                continue
            if self.mood == "slow":
                time.sleep(0.9)
            attributes = (b"" if self.mood == "forgets the network" else attribute(81, b"guests")) + states
            code = REJECT if self.mood == "rejects" else ACCEPT
            head = struct.pack("!BBH", code, packet[1], 20 + len(attributes))
            proof = hashlib.md5(head + packet[4:20] + attributes + b"partner").digest()
            self.socket.sendto(head + proof + attributes, peer)


class Freeradius(Program):
    """A RADIUS server for switches and access points, with accounting and a partner's realm."""

    name = "freeradius"
    packages = ("freeradius",)
    needs = ("freeradius",)
    address = ("127.0.0.1", 18120)
    host = "radius"
    stamp = "%Y-%m-%dT%H:%M:%S.{ms}Z radius freeradius: "
    introduces = (re.compile(r"\((?P<session>\d+)\) Received Acc\S+ Id \d+ from [\d.]+:(?P<conversation>\d+) "),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.partners = {name: Partner(port) for name, port in PARTNERS.items()}

    def prepare(self) -> list[str]:
        """Write people, devices and configuration."""
        work = self.stage.work
        (work / "acct").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "tmpfs", work / "acct")
        self.write_people()
        realms = "".join(REALM.format(name=name, port=port) for name, port in PARTNERS.items())
        (work / "radiusd.conf").write_text(
            CONFIG.format(work=work, realms=realms, port=self.address[1], secret=SECRET.decode()), encoding="ascii"
        )
        return ["freeradius", "-f", "-x", "-l", "stdout", "-d", str(work)]

    def write_people(self) -> None:
        """Write the file of people and devices; the people of BROKEN have entries with a mistake."""
        rows = []
        for n in range(N_PEOPLE):
            group = ("students", "staff")[n % 2]
            rows.append(f'u{n:04d} Cleartext-Password := "pw{n}"\n\tTunnel-Private-Group-Id = "{group}"\n')
        for n, (more, reply) in BROKEN.items():
            rows.append(f'u{n:04d} Cleartext-Password := "pw{n}"{more}\n{reply}')
        for n in range(60):
            rows.append(f'0200000000{n:02x} Cleartext-Password := "0200000000{n:02x}"\n\tTunnel-Private-Group-Id = "devices"\n')
        (self.stage.work / "users").write_text("\n".join(rows), encoding="ascii")

    def await_ready(self) -> None:
        """Return when it answers."""
        for _ in range(100):
            time.sleep(0.1)
            with suppress(OSError):
                self.log_in(("127.0.1.1", self.stage.ledger.port()), "020000000000", "020000000000", wait=0.3, tries=1)
                return
        raise TimeoutError("no answer")

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """End it and its small file system."""
        super().shut_down(process)
        run("umount", "-l", self.stage.work / "acct")

    def exchange(
        self, source: tuple[str, int], server: tuple[str, int], packet: bytes, secret: bytes, wait: float, tries: int
    ) -> tuple[int, bytes]:
        """Send a packet until a valid answer comes; return (code, attributes). Raises TimeoutError."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(source)
            client.settimeout(wait)
            for _ in range(tries):
                client.sendto(packet, server)
                with suppress(TimeoutError):
                    answer = client.recv(4096)
                    proof = hashlib.md5(answer[:4] + packet[4:20] + answer[20:] + secret).digest()
                    if proof == answer[4:20]:
                        return answer[0], answer[20:]
        raise TimeoutError("no valid answer")

    def log_in(
        self,
        source: tuple[str, int],
        user: str,
        password: str = "",
        chap: bool = False,
        secret: bytes = SECRET,
        wait: float = 2.5,
        tries: int = 2,
    ) -> tuple[int, bytes]:
        """Ask if somebody may enter."""
        authenticator = os.urandom(16)
        if chap:
            proof = b"\7" + hashlib.md5(b"\7" + password.encode() + authenticator).digest()
            key = attribute(3, proof)
        else:
            key = attribute(2, hidden(password, secret, authenticator))
        body = attribute(1, user.encode()) + key + attribute(5, struct.pack("!I", source[1] % 48)) + attribute(32, b"switch-7")
        packet = struct.pack("!BBH", 1, source[1] % 256, 20 + len(body)) + authenticator + body
        return self.exchange(source, self.address, packet, secret, wait, tries)

    def account(self, source: tuple[str, int], user: str, status: int) -> None:
        """Report that a visit begins (1), ends (2) or goes on (3)."""
        body = attribute(1, user.encode()) + attribute(40, struct.pack("!I", status)) + attribute(44, f"{source[1]:08X}".encode())
        if status > 1:
            body += attribute(46, struct.pack("!I", source[1] % 9000)) + attribute(42, struct.pack("!I", source[1] * 97))
        head = struct.pack("!BBH", 4, source[1] % 256, 20 + len(body))
        packet = head + hashlib.md5(head + b"\0" * 16 + body + SECRET).digest() + body
        demand(self.exchange(source, ACCOUNTING, packet, SECRET, 1.0, 2)[0] == ACCOUNTED, "an acknowledgement")


def has_network(attributes: bytes) -> bool:
    """Tell if the answer assigns a network."""
    return b"students" in attributes or b"staff" in attributes or b"devices" in attributes or b"guests" in attributes


def somebody(rng: random.Random) -> tuple[str, str]:
    """Return a name and its password."""
    n = rng.randrange(N_PEOPLE)
    return f"u{n:04d}", f"pw{n}"


def enter(radius: Freeradius, rng: random.Random) -> None:
    """Somebody enters the network; the visit is reported."""
    user, password = somebody(rng)
    with radius.visit(rng) as source:
        code, attributes = radius.log_in(source, user, password, chap=rng.random() < 0.3)
        demand(code == ACCEPT and has_network(attributes), "a network")
    if rng.random() < 0.5:
        with radius.visit(rng) as source:
            radius.account(source, user, 1)


def leave(radius: Freeradius, rng: random.Random) -> None:
    """A visit goes on or ends."""
    with radius.visit(rng) as source:
        radius.account(source, somebody(rng)[0], rng.choice((2, 3)))


def plug_in(radius: Freeradius, rng: random.Random) -> None:
    """A device is known by its address; one that is not known may not enter, which is daily life."""
    device = f"0200000000{rng.randrange(64):02x}"
    with radius.visit(rng) as source:
        radius.log_in(source, device, device)


def mistype(radius: Freeradius, rng: random.Random) -> None:
    """Somebody mistypes a password, then enters."""
    user, password = somebody(rng)
    with radius.visit(rng) as source:
        demand(radius.log_in(source, user, "oops")[0] == REJECT, "a no")
    radius.pause(rng, 5, 30)
    with radius.visit(rng) as source:
        demand(radius.log_in(source, user, password)[0] == ACCEPT, "a yes")


def visit_from_partner(radius: Freeradius, rng: random.Random) -> None:
    """Somebody of the partner enters; the partner is asked."""
    with radius.visit(rng) as source:
        code, attributes = radius.log_in(source, f"guest{rng.randint(1, 99)}@partner.example", "x")
        demand(code == ACCEPT and has_network(attributes), "a network")


def partner_fault(mood: str, kind: str, wait: float, tries: int) -> Act[Freeradius]:
    """Return a fault: the partner's server behaves so."""

    def act(radius: Freeradius, rng: random.Random) -> None:
        radius.partners["college"].mood = mood
        for _ in range(rng.randint(1, 2)):
            with radius.visit(rng, kind) as source:
                code, attributes = radius.log_in(source, f"guest{rng.randint(1, 99)}@college.example", "x", wait=wait, tries=tries)
                demand(code == ACCEPT and has_network(attributes), "a network")
        radius.partners["college"].mood = "well"
        time.sleep(1.3)

    act.__name__ = kind.replace(" ", "_")
    return act


def person_fault(n: int, kind: str) -> Act[Freeradius]:
    """Return a fault: somebody whose entry has a mistake wants to enter."""

    def act(radius: Freeradius, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 3)):
            with radius.visit(rng, kind) as source:
                code, attributes = radius.log_in(source, f"u{n:04d}", f"pw{n}", chap=rng.random() < 0.3)
                demand(code == ACCEPT and has_network(attributes), "a network")
            radius.pause(rng, 5, 60)

    act.__name__ = kind.replace(" ", "_")
    return act


def clear(folder: Path) -> None:
    """Remove the accounts, as the nightly job does."""
    for path in folder.iterdir():
        path.unlink(missing_ok=True)


def not_writable(radius: Freeradius, rng: random.Random) -> None:
    """The folder of the accounts is gone after a clean-up and something else has its name."""
    acct = radius.stage.work / "acct"
    with radius.stage.gate.closed(patience=0.6):
        clear(acct)
        (acct / "detail").mkdir()
        for _ in range(rng.randint(1, 3)):
            with radius.visit(rng, "accounts not writable") as source:
                radius.account(source, somebody(rng)[0], rng.choice((1, 2, 3)))
        (acct / "detail").rmdir()


def wrong_secret(radius: Freeradius, rng: random.Random) -> None:
    """A new switch was given a wrong secret; it cannot read the answers."""
    for _ in range(rng.randint(1, 3)):
        user, password = somebody(rng)
        with radius.visit(rng, "switch with a wrong secret") as source:
            radius.log_in(source, user, password, secret=b"secret of last year", wait=0.3, tries=1)
        radius.pause(rng, 5, 60)


def no_password(radius: Freeradius, rng: random.Random) -> None:
    """A switch's new software sends no password at all."""
    for _ in range(rng.randint(1, 3)):
        with radius.visit(rng, "request without a password") as source:
            body = attribute(1, somebody(rng)[0].encode()) + attribute(5, struct.pack("!I", 7))
            packet = struct.pack("!BBH", 1, source[1] % 256, 20 + len(body)) + os.urandom(16) + body
            demand(radius.exchange(source, radius.address, packet, SECRET, 1.0, 1)[0] == ACCEPT, "a yes")


def guess_names(radius: Freeradius, rng: random.Random) -> None:
    """An intruder tries names that nobody here has."""
    for name in rng.sample(("root", "admin", "test", "oracle", "guest", "administrator", "cisco"), rng.randint(2, 4)):
        with radius.visit(rng) as source:
            radius.stage.ledger.harm(source[1], "names guessed")
            radius.log_in(source, name, f"{name}{rng.randint(1, 99)}")


def double_sent(radius: Freeradius, rng: random.Random) -> None:
    """The network loses the answers: a switch asks again and again and gives up."""
    radius.partners["college"].mood = "slow"
    with radius.visit(rng, "answers lost on the way") as source:
        radius.log_in(source, f"guest{rng.randint(1, 99)}@college.example", "x", wait=0.15, tries=4)
    radius.partners["college"].mood = "well"
    time.sleep(1.3)


ENTRY = Entry(
    Freeradius,
    {enter: 44, leave: 20, plug_in: 18, mistype: 3, visit_from_partner: 14},
    {
        partner_fault("silent", "partner silent", 3.0, 1): (1, 1, 1), partner_fault("slow", "partner too slow", 0.5, 1): (1, 1, 2),
        partner_fault("forgets the network", "partner's answer without a network", 3.0, 1): (1, 1, 1),
        partner_fault("rejects", "partner rejects its own people", 3.0, 1): (1, 1, 1),
        person_fault(EXPIRED, "account expired"): (1, 1, 1), person_fault(BLOCKED, "account blocked by mistake"): (1, 1, 1),
        person_fault(NOWHERE, "answer without a network"): (1, 2, 1),
        not_writable: (1, 1, 1), wrong_secret: (1, 1, 1), no_password: (1, 1, 1),
        guess_names: (1, 0, 1), double_sent: (2, 1, 2),
    },
    per_day=480,
    speed=800,
)  # fmt: skip
