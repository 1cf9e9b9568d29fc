"""dnsmasq: the name server of an office, in front of two upstream servers; a session is a lookup."""

from __future__ import annotations

import random
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from recorder.harm import moved_away, spoilt
from recorder.plan import Act, Entry
from recorder.program import Program, Stage, demand

TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
UPSTREAM = ("127.0.0.1", 15301)
SITES = [f"{word}{n}.example.{end}" for n in range(1, 40) for word in ("www", "api", "cdn") for end in ("com", "net")]
HOSTS = [f"{kind}-{n:02d}.office.lan" for kind in ("printer", "desk", "nas", "build") for n in range(1, 13)]


def encode(name: str) -> bytes:
    """Return a domain name as it is sent."""
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def decode(packet: bytes, at: int) -> str:
    """Return the domain name of the question that begins at this place."""
    parts = []
    while packet[at]:
        parts.append(packet[at + 1 : at + 1 + packet[at]].decode("latin-1"))
        at += packet[at] + 1
    return ".".join(parts)


def record(kind: str, data: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    """Return one resource record of the answer."""
    return owner + struct.pack("!HHIH", TYPES[kind], 1, 30, len(data)) + data


class Upstream:
    """The internet's name servers in one: answers by name, and trouble on demand.

    `trouble` maps a name to a function that gets (name, type) and returns (response code, records), or None to stay silent.
    """

    def __init__(self) -> None:
        self.trouble: dict[str, Callable[[str, int], tuple[int, list[bytes]] | None]] = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(UPSTREAM)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            packet, peer = self.socket.recvfrom(4096)
            threading.Thread(target=self._answer, args=(packet, peer), daemon=True).start()

    def _answer(self, packet: bytes, peer: tuple[str, int]) -> None:
        name = decode(packet, 12).lower()
        kind = struct.unpack("!H", packet[12 + len(name) + 2 : 12 + len(name) + 4])[0]
        answer = self.trouble.get(name, ordinary_answer)(name, kind)
        if answer is not None:
            code, records = answer
            head = packet[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
            self.socket.sendto(head + packet[12 : 12 + len(name) + 6] + b"".join(records), peer)


def ordinary_answer(name: str, kind: int) -> tuple[int, list[bytes]]:
    """Answer as a healthy server does."""
    seed = random.Random(name)
    address = bytes([198, 18, 7, seed.randint(1, 254)])
    if kind == TYPES["PTR"]:
        return (NOERROR, [record("PTR", encode("host.example.net"))]) if seed.random() < 0.6 else (NXDOMAIN, [])
    if not name.endswith((".example.com", ".example.net")) or name.startswith("ww."):
        return NXDOMAIN, []
    if kind == TYPES["MX"]:
        return NOERROR, [record("MX", struct.pack("!H", 10) + encode("mx." + name))]
    if kind == TYPES["TXT"]:
        return NOERROR, [record("TXT", b"\x0dv=spf1 mx ~all"[:14])]
    if kind == TYPES["AAAA"]:
        return NOERROR, ([record("AAAA", b"\x20\x01\x0d\xb8" + bytes(11) + address[3:])] if seed.random() < 0.4 else [])
    if kind != TYPES["A"]:
        return NOERROR, []
    if name.startswith("cdn"):
        edge = encode("edge." + name)
        return NOERROR, [record("CNAME", edge), record("A", address, owner=edge)]
    return NOERROR, [record("A", address)] * 1 + ([record("A", address[:3] + b"\x09")] if seed.random() < 0.3 else [])


class Dnsmasq(Program):
    """A dnsmasq with the office's hosts, a block list and one upstream server."""

    name = "dnsmasq"
    packages = ("dnsmasq-base",)
    needs = ("dnsmasq",)
    address = ("127.0.0.1", 15300)
    host = "gw"
    stamp = "%b %e %H:%M:%S gw "
    introduces = (re.compile(r"dnsmasq\[\d+\]: (?P<session>\d+) [\d.]+/(?P<conversation>\d+) query\["),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.upstream = Upstream()

    def prepare(self) -> list[str]:
        """Write the hosts and the configuration."""
        work = self.stage.work
        lines = [f"10.1.{n // 250}.{n % 250 + 1} {name}" for n, name in enumerate(HOSTS)]
        (work / "hosts").write_text("\n".join(lines) + "\n", encoding="ascii")
        (work / "dnsmasq.conf").write_text(
            f"port={self.address[1]}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\npid-file=\n"
            f"addn-hosts={work}/hosts\nserver={UPSTREAM[0]}#{UPSTREAM[1]}\ncache-size=150\nlog-queries=extra\nlog-facility=-\n"
            "address=/ads.example.com/0.0.0.0\nlocal=/lan/\nstop-dns-rebind\ndns-forward-max=12\nmax-cache-ttl=2\nneg-ttl=1\n"
        )
        return ["dnsmasq", "--keep-in-foreground", f"--conf-file={work}/dnsmasq.conf"]

    def reread_hosts(self) -> None:
        """Let it read its hosts now."""
        self.signal(signal.SIGHUP)
        time.sleep(0.1)

    def lookup(self, source: tuple[str, int], name: str, kind: str = "A", tries: int = 3, wait: float = 0.4) -> tuple[int, int]:
        """Ask and ask again. Returns (response code, number of answers). Raises TimeoutError."""
        packet = struct.pack("!HHHHHH", source[1], 0x0100, 1, 0, 0, 0) + encode(name) + struct.pack("!HH", TYPES[kind], 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(source)
            client.settimeout(wait)
            for _ in range(tries):
                client.sendto(packet, self.address)
                with suppress(TimeoutError):
                    answer = client.recv(4096)
                    flags, _, n = struct.unpack("!HHH", answer[2:8])
                    return flags & 15, n
        raise TimeoutError(f"no answer for {name}")


def resolve(dns: Dnsmasq, rng: random.Random) -> None:
    """Somebody opens a site."""
    name = SITES[min(int(rng.expovariate(0.03)), len(SITES) - 1)]
    with dns.visit(rng) as source:
        code, n = dns.lookup(source, name)
        demand(code == NOERROR and n > 0, "an address")
    if rng.random() < 0.3:
        with dns.visit(rng) as source:
            demand(dns.lookup(source, name, "AAAA")[0] == NOERROR, "an answer")


def find_host(dns: Dnsmasq, rng: random.Random) -> None:
    """A machine of the office is looked for, by name or by address."""
    with dns.visit(rng) as source:
        if rng.random() < 0.8:
            demand(dns.lookup(source, rng.choice(HOSTS)) == (NOERROR, 1), "the machine")
        else:
            demand(dns.lookup(source, f"{rng.randint(1, 40)}.0.1.10.in-addr.arpa", "PTR") == (NOERROR, 1), "the name")


def reverse(dns: Dnsmasq, rng: random.Random) -> None:
    """A log analyser wants names for addresses; many have none."""
    with dns.visit(rng) as source:
        dns.lookup(source, f"{rng.randint(1, 250)}.7.18.198.in-addr.arpa", "PTR")


def mail_route(dns: Dnsmasq, rng: random.Random) -> None:
    """A mail server looks for another one, and for its policy."""
    for kind in ("MX", "TXT")[: rng.randint(1, 2)]:
        with dns.visit(rng) as source:
            demand(dns.lookup(source, rng.choice(SITES), kind) == (NOERROR, 1), "an answer")


def mistype(dns: Dnsmasq, rng: random.Random) -> None:
    """A name that does not exist, abroad or at home."""
    name = rng.choice((f"ww.{rng.choice(SITES)}", f"desk-{rng.randint(20, 90)}.office.lan", f"wpad{rng.randint(1, 9)}.example.org"))
    with dns.visit(rng) as source:
        demand(dns.lookup(source, name)[0] == NXDOMAIN, "a no")


def advert(dns: Dnsmasq, rng: random.Random) -> None:
    """An advertisement, which is blocked."""
    with dns.visit(rng) as source:
        demand(dns.lookup(source, f"t{rng.randint(1, 30)}.ads.example.com") == (NOERROR, 1), "nothing, as an address")


def fresh(rng: random.Random) -> str:
    """Return a site's name that is not cached."""
    return f"www{rng.randint(1000, 10**6)}.example.{rng.choice(('com', 'net'))}"


@contextmanager
def misbehaving(dns: Dnsmasq, name: str, how: Callable[[str, int], tuple[int, list[bytes]] | None]) -> Iterator[None]:
    """While this lasts, the upstream treats this name so."""
    dns.upstream.trouble[name] = how
    try:
        yield
    finally:
        del dns.upstream.trouble[name]


def upstream_fault(kind: str, how: Callable[[str, int], tuple[int, list[bytes]] | None], low: int, high: int) -> Act[Dnsmasq]:
    """Return a fault: several lookups whose names the upstream treats in this way; each client wants an address."""

    def act(dns: Dnsmasq, rng: random.Random) -> None:
        for _ in range(rng.randint(low, high)):
            name = fresh(rng)
            with misbehaving(dns, name, how), dns.visit(rng, kind) as source:
                code, n = dns.lookup(source, name, tries=2)
                demand(code == NOERROR and n > (name.startswith("cdn")), "an address")
            dns.pause(rng, 5, 60)

    act.__name__ = kind.replace(" ", "_")
    return act


def too_late(name: str, kind: int) -> tuple[int, list[bytes]]:
    """Answer when the client has gone."""
    time.sleep(1.2)
    return ordinary_answer(name, kind)


def broken_chain(name: str, kind: int) -> tuple[int, list[bytes]]:
    """Answer an alias whose target is missing."""
    return NOERROR, [record("CNAME", encode("gone." + name))]


def private(name: str, kind: int) -> tuple[int, list[bytes]]:
    """Answer with an address inside the office, as an attacker does."""
    return NOERROR, [record("A", b"\x0a\x01\x00\x07")]


def alias_lost(dns: Dnsmasq, rng: random.Random) -> None:
    """An alias leads nowhere: the answer has no address."""
    for _ in range(rng.randint(1, 3)):
        name = "cdn" + fresh(rng)
        with misbehaving(dns, name, broken_chain), dns.visit(rng, "alias without target") as source:
            demand(dns.lookup(source, name, tries=2)[1] > 1, "an address")
        dns.pause(rng, 5, 60)


def hosts_lost(dns: Dnsmasq, rng: random.Random) -> None:
    """The file of the office's machines is gone when it is read again."""
    with dns.stage.gate.closed(patience=0.5):
        with moved_away(dns.stage.work / "hosts"):
            dns.reread_hosts()
            miss_hosts(dns, rng, "host file lost")
        dns.reread_hosts()


def hosts_garbled(dns: Dnsmasq, rng: random.Random) -> None:
    """The file of the office's machines is damaged when it is read again."""
    path = dns.stage.work / "hosts"
    size = path.stat().st_size
    with dns.stage.gate.closed(patience=0.5):
        with spoilt(path, bytes(rng.randrange(33, 120) for _ in range(size)), 0):
            dns.reread_hosts()
            miss_hosts(dns, rng, "host file corrupted")
        dns.reread_hosts()


def miss_hosts(dns: Dnsmasq, rng: random.Random, kind: str) -> None:
    """Look for machines of the office in vain."""
    for _ in range(rng.randint(2, 4)):
        with dns.visit(rng, kind) as source:
            demand(dns.lookup(source, rng.choice(HOSTS)) == (NOERROR, 1), "the machine")
        dns.pause(rng, 5, 60)


def too_many(dns: Dnsmasq, rng: random.Random) -> None:
    """A crawler's lookups, whose answers come late, take every place; others are refused."""
    with dns.stage.gate.closed(patience=0.5):
        names = [fresh(rng) for _ in range(14)]
        crawler = (f"127.0.1.{rng.randint(1, 9)}", dns.stage.ledger.port())
        for name in names:
            dns.upstream.trouble[name] = too_late
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.bind(crawler)
            for n, name in enumerate(names):
                flood.sendto(struct.pack("!HHHHHH", n, 0x0100, 1, 0, 0, 0) + encode(name) + struct.pack("!HH", 1, 1), dns.address)
                time.sleep(0.005)
            for _ in range(rng.randint(2, 4)):
                with dns.visit(rng, "lookups over the limit") as source:
                    demand(dns.lookup(source, fresh(rng), tries=1)[0] == NOERROR, "an answer")
        time.sleep(1.5)
        for name in names:
            del dns.upstream.trouble[name]


def tunnel(dns: Dnsmasq, rng: random.Random) -> None:
    """Malware carries data out of the office in names; the intruder gets its answers."""
    for n in range(rng.randint(3, 6)):
        name = f"{n}.{rng.getrandbits(200):x}.{rng.getrandbits(128):x}.t.example.net"
        with dns.visit(rng) as source:
            dns.stage.ledger.harm(source[1], "data carried out in names")
            dns.lookup(source, name, "TXT")
        dns.pause(rng, 1, 9)


ENTRY = Entry(
    Dnsmasq,
    {resolve: 55, find_host: 22, reverse: 6, mail_route: 6, mistype: 7, advert: 8},
    {
        upstream_fault("upstream refused", lambda *_: (REFUSED, []), 1, 3): (1, 1, 2),
        upstream_fault("upstream failed", lambda *_: (SERVFAIL, []), 1, 3): (1, 2, 1),
        upstream_fault("upstream silent", lambda *_: None, 1, 2): (1, 1, 1),
        upstream_fault("answer too late", too_late, 1, 2): (1, 0, 1),
        upstream_fault("empty answer", lambda *_: (NOERROR, []), 1, 3): (1, 2, 1),
        upstream_fault("foreign name points inside", private, 1, 2): (1, 0, 1),
        alias_lost: (2, 1, 1),
        hosts_lost: (1, 0, 1),
        hosts_garbled: (0, 1, 1),
        too_many: (0, 1, 0),
        tunnel: (1, 1, 0),
    },
    per_day=700,
    speed=900,
)
