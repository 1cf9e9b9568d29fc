"""Mosquitto: the MQTT broker of an energy supplier; a session is a client id, new for each start of a device or an app."""

from __future__ import annotations

import random
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from recorder.harm import reset_on_close
from recorder.plan import Entry
from recorder.program import TROUBLE, Program, demand, run

CONFIG = """
listener {port} 127.0.0.1
allow_anonymous false
password_file {work}/passwords
acl_file {work}/acl
log_dest stderr
log_type all
max_queued_messages 12
max_inflight_messages 4
message_size_limit 4000
persistence true
persistence_location {work}/
autosave_interval 30
"""
RIGHTS = """
user meter
topic write meters/#
topic read commands/#
user gateway
topic readwrite meters/#
topic readwrite sites/#
user app
topic read meters/#
topic read sites/#
topic write commands/#
user admin
topic readwrite #
"""
USERS = ("meter", "gateway", "app", "admin")
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 5, 6, 7, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14


def text(value: str | bytes) -> bytes:
    """Return a string with its length."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


class Mqtt:
    """One MQTT 3.1.1 connection."""

    def __init__(self, server: tuple[str, int], source: tuple[str, int], client_id: str) -> None:
        self.socket = socket.create_connection(server, timeout=2.5, source_address=source)
        self.client_id, self.n = client_id, 0
        self.messages: list[bytes] = []

    def send(self, kind: int, body: bytes = b"", flags: int = 0) -> None:
        """Send a packet."""
        size, head = len(body), bytearray([kind << 4 | flags])
        while True:
            size, low = divmod(size, 128)
            head.append(low | (128 if size else 0))
            if not size:
                break
        self.socket.sendall(bytes(head) + body)

    def packet(self) -> tuple[int, bytes]:
        """Return the next packet (kind with flags, body). Raises EOFError."""

        def exactly(n: int) -> bytes:
            got = b""
            while len(got) < n:
                piece = self.socket.recv(n - len(got))
                if not piece:
                    raise EOFError
                got += piece
            return got

        (first,) = exactly(1)
        size, shift = 0, 0
        while True:
            (byte,) = exactly(1)
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, exactly(size)

    def await_kind(self, kind: int) -> bytes:
        """Return the body of the next packet of this kind; messages that arrive before it are taken and acknowledged."""
        while True:
            first, body = self.packet()
            if first >> 4 == PUBLISH:
                self.take(first, body)
            if first >> 4 == kind:
                return body

    def take(self, first: int, body: bytes) -> None:
        """Keep a message and acknowledge it."""
        self.messages.append(body)
        at = 2 + struct.unpack("!H", body[:2])[0]
        if first & 2:
            self.send(PUBACK, body[at : at + 2])

    def log_in(self, user: str, password: str, keep_alive: int = 60, clean: bool = True, will: str = "") -> None:
        """Connect. Raises MissedError when the broker refuses."""
        flags = 0xC0 | (2 if clean else 0) | (0x2C if will else 0)
        body = text("MQTT") + bytes([4, flags]) + struct.pack("!H", keep_alive) + text(self.client_id)
        if will:
            body += text(will) + text("lost")
        self.send(CONNECT, body + text(user) + text(password))
        demand(self.await_kind(CONNACK)[1] == 0, "a login")

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        """Publish and wait for what the level of service promises."""
        self.n += 1
        number = struct.pack("!H", self.n)
        self.send(PUBLISH, text(topic) + (number if qos else b"") + payload, qos << 1 | retain)
        if qos == 1:
            self.await_kind(PUBACK)
        if qos == 2:
            self.await_kind(PUBREC)
            self.send(PUBREL, number, 2)
            self.await_kind(PUBCOMP)

    def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe. Raises MissedError when it is refused."""
        self.n += 1
        self.send(SUBSCRIBE, struct.pack("!H", self.n) + text(topic) + bytes([qos]), 2)
        demand(self.await_kind(SUBACK)[-1] < 128, "a subscription")

    def listen(self, seconds: float, enough: int = 10**9) -> int:
        """Take the messages of some real seconds, or enough of them; return how many have come in all."""
        until = time.time() + seconds
        wait = self.socket.gettimeout()
        with suppress(TimeoutError):
            while len(self.messages) < enough and (left := until - time.time()) > 0:
                self.socket.settimeout(left)
                first, body = self.packet()
                if first >> 4 == PUBLISH:
                    self.take(first, body)
        self.socket.settimeout(wait)
        return len(self.messages)

    def leave(self) -> None:
        """Disconnect in good order."""
        with suppress(OSError):
            self.send(DISCONNECT)
        self.socket.close()


class Mosquitto(Program):
    """A broker with password and rights files."""

    name = "mosquitto"
    packages = ("mosquitto",)
    needs = ("mosquitto", "mosquitto_passwd")
    address = ("127.0.0.1", 11883)
    host = "mqtt"
    stamp = "%Y-%m-%dT%H:%M:%S: "
    own_time = re.compile(r"^\d+: ")
    introduces = (re.compile(r" as (?P<session>(?P<conversation>[a-z]+-\d{3}-[0-9a-f]{6}))\b"),
                  re.compile(r"CONNACK to (?P<session>(?P<conversation>[a-z]+-\d{3}-[0-9a-f]{6}))\b"))  # fmt: skip

    def prepare(self) -> list[str]:
        """Write users, rights and configuration."""
        work = self.stage.work
        (work / "passwords").write_text("".join(f"{user}:secret of {user}\n" for user in USERS), encoding="ascii")
        run("mosquitto_passwd", "-U", work / "passwords")
        (work / "acl").write_text(RIGHTS, encoding="ascii")
        (work / "mosquitto.conf").write_text(CONFIG.format(work=work, port=self.address[1]), encoding="ascii")
        for path in (work, *work.iterdir()):
            run("chown", "mosquitto", path)
        return ["mosquitto", "-c", str(work / "mosquitto.conf")]

    def await_ready(self) -> None:
        """Return when the broker listens, and see that each site's last state is kept."""
        super().await_ready()
        with self.device(random.Random(0), "gateway") as gateway:
            for site in range(20):
                gateway.publish(f"sites/{site}/state", b"ok", qos=1, retain=True)

    @contextmanager
    def device(self, rng: random.Random, role: str, kind: str | None = None, **login: object) -> Iterator[Mqtt]:
        """A client that logs in, and disconnects at the end."""
        client_id = f"{role}-{rng.randrange(200):03d}-{random.getrandbits(24):06x}"
        with self.known_as(client_id, kind):
            mqtt = self.dial(rng, client_id)
            try:
                mqtt.log_in(role, f"secret of {role}", **login)  # type: ignore[arg-type]
                yield mqtt
            finally:
                mqtt.leave()

    def dial(self, rng: random.Random, client_id: str) -> Mqtt:
        """A connection that is not logged in yet."""
        return Mqtt(self.address, (f"127.0.1.{rng.randint(1, 9)}", self.stage.ledger.port()), client_id)


def reading(rng: random.Random) -> bytes:
    """Return a meter's message."""
    return b'{"kwh": %d, "v": %d}' % (rng.randint(100, 99999), rng.randint(220, 240))


def report(broker: Mosquitto, rng: random.Random) -> None:
    """A meter sends its readings."""
    with broker.device(rng, "meter") as meter:
        qos = rng.choice((0, 1, 1, 2))
        for _ in range(rng.randint(1, 4)):
            meter.publish(f"meters/{rng.randrange(200)}/power", reading(rng), qos)
            broker.pause(rng, 5, 60)


def relay(broker: Mosquitto, rng: random.Random) -> None:
    """A site's gateway passes on readings and keeps its connection alive."""
    site = rng.randrange(20)
    with broker.device(rng, "gateway", will=f"sites/{site}/lost") as gateway:
        gateway.publish(f"sites/{site}/state", b"ok", qos=1, retain=True)
        for _ in range(rng.randint(1, 5)):
            gateway.publish(f"meters/{rng.randrange(200)}/power", reading(rng), 1)
            broker.pause(rng, 10, 60)
        if rng.random() < 0.5:
            gateway.send(PINGREQ)
            gateway.await_kind(PINGRESP)


def watch(broker: Mosquitto, rng: random.Random) -> None:
    """Somebody looks at a site: its last state comes at once, and readings while they are watched."""
    with broker.device(rng, "app") as app:
        app.subscribe(f"sites/{rng.randrange(20)}/state")
        demand(app.listen(2, enough=1) == 1, "the site's state")
        if rng.random() < 0.5:
            app.subscribe(f"meters/{rng.randrange(200)}/power")
            app.listen(rng.uniform(0.05, 0.3))


def command(broker: Mosquitto, rng: random.Random) -> None:
    """An app switches a meter, which listens for a while."""
    topic = f"commands/{rng.randrange(200)}"
    with broker.device(rng, "meter") as meter:
        meter.subscribe(topic)
        with broker.device(rng, "app") as app:
            app.publish(topic, b"on", qos=2)
        demand(meter.listen(2, enough=1) == 1, "the command")


def mistype(broker: Mosquitto, rng: random.Random) -> None:
    """An installer mistypes a password, then logs in."""
    client_id = f"app-{rng.randrange(200):03d}-{random.getrandbits(24):06x}"
    with broker.known_as(client_id):
        mqtt = broker.dial(rng, client_id)
        with suppress(*TROUBLE):
            mqtt.log_in("app", "oops")
        mqtt.socket.close()
    watch(broker, rng)


def lose_radio(broker: Mosquitto, rng: random.Random) -> None:
    """A meter in a cellar loses its radio after its readings; it is daily life."""
    client_id = f"meter-{rng.randrange(200):03d}-{random.getrandbits(24):06x}"
    with broker.known_as(client_id):
        meter = broker.dial(rng, client_id)
        meter.log_in("meter", "secret of meter")
        for _ in range(rng.randint(1, 3)):
            meter.publish(f"meters/{rng.randrange(200)}/power", reading(rng), 1)
        if rng.random() < 0.5:
            reset_on_close(meter.socket)
        else:
            meter.socket.close()


def fall_asleep(broker: Mosquitto, rng: random.Random) -> None:
    """A battery meter sleeps after its reading and is dropped when its time is over."""
    client_id = f"meter-{rng.randrange(200):03d}-{random.getrandbits(24):06x}"
    with broker.known_as(client_id):
        meter = broker.dial(rng, client_id)
        meter.log_in("meter", "secret of meter", keep_alive=1)
        meter.publish(f"meters/{rng.randrange(200)}/power", reading(rng), 1)
        with suppress(*TROUBLE):
            meter.packet()
        meter.socket.close()


def come_back(broker: Mosquitto, rng: random.Random) -> None:
    """An app changes its network and takes its session over."""
    with broker.device(rng, "app") as app:
        app.subscribe(f"meters/{rng.randrange(200)}/power")
        again = broker.dial(rng, app.client_id)
        again.log_in("app", "secret of app")
        again.subscribe(f"meters/{rng.randrange(200)}/power")
        again.leave()


def rights_lost(broker: Mosquitto, rng: random.Random) -> None:
    """A new file of rights forgets the meters: their messages are acknowledged and thrown away."""
    with broker.stage.gate.closed(patience=0.5):
        (broker.stage.work / "acl").write_text(RIGHTS.replace("topic write meters/#\n", ""), encoding="ascii")
        broker.signal(signal.SIGHUP)
        time.sleep(0.1)
        for _ in range(rng.randint(2, 4)):
            undelivered(broker, rng, "rights revoked", reading(rng))
            broker.pause(rng, 5, 60)
        (broker.stage.work / "acl").write_text(RIGHTS, encoding="ascii")
        broker.signal(signal.SIGHUP)
        time.sleep(0.1)


def undelivered(broker: Mosquitto, rng: random.Random, kind: str, payload: bytes) -> None:
    """A meter's message that its reader does not get."""
    topic = f"meters/{rng.randint(300, 9999)}/power"
    with broker.device(rng, "app") as app:
        app.subscribe(topic)
        with broker.device(rng, "meter", kind=kind) as meter:
            meter.publish(topic, payload, 1)
            demand(app.listen(0.5, enough=1) > 0, "delivery")


def handshake_unfinished(broker: Mosquitto, rng: random.Random) -> None:
    """A firmware forgets the second half of the exactly-once handshake; its messages are never delivered."""
    for _ in range(rng.randint(1, 3)):
        topic = f"meters/{rng.randint(300, 9999)}/power"
        with broker.device(rng, "app") as app:
            app.subscribe(topic)
            with broker.device(rng, "meter", kind="handshake left unfinished") as meter:
                for n in range(rng.randint(1, 3)):
                    meter.send(PUBLISH, text(topic) + struct.pack("!H", n + 1) + reading(rng), 4)
                    meter.await_kind(PUBREC)
                demand(app.listen(0.5, enough=1) > 0, "delivery")


def oversize(broker: Mosquitto, rng: random.Random) -> None:
    """A firmware sends its whole memory, which is acknowledged and thrown away."""
    undelivered(broker, rng, "message over the limit", b"x" * 9000)


def malformed(broker: Mosquitto, rng: random.Random) -> None:
    """A damaged firmware sends garbage after its first reading."""
    with broker.device(rng, "meter", kind="garbage from a device") as meter:
        meter.publish(f"meters/{rng.randrange(200)}/power", reading(rng), 1)
        meter.send(rng.choice((PUBLISH, SUBSCRIBE)), rng.randbytes(rng.randint(1, 3)), flags=rng.choice((6, 2)))
        meter.send(15, b"\0")
        meter.packet()


def slow_reader(broker: Mosquitto, rng: random.Random) -> None:
    """An app takes its messages but never acknowledges them; the broker drops what does not fit its queue."""
    topic = f"meters/{rng.randint(300, 9999)}/power"
    n = rng.randint(24, 40)
    with broker.device(rng, "app", kind="messages dropped") as app:
        app.subscribe(topic)
        app.take = lambda first, body: app.messages.append(body)  # type: ignore[method-assign]
        with broker.device(rng, "gateway") as gateway:
            for _ in range(n):
                gateway.publish(topic, reading(rng), 1)
        demand(app.listen(0.3) == n, "every message")


def states_wiped(broker: Mosquitto, rng: random.Random) -> None:
    """A clean-up script has wiped the sites' kept states; apps wait for them in vain."""
    with broker.stage.gate.closed(patience=0.5):
        with broker.device(rng, "admin") as admin:
            for site in range(20):
                admin.publish(f"sites/{site}/state", b"", retain=True, qos=1)
        for _ in range(rng.randint(2, 4)):
            with broker.device(rng, "app", kind="kept state wiped") as app:
                app.subscribe(f"sites/{rng.randrange(20)}/state")
                demand(app.listen(0.5, enough=1) == 1, "the site's state")
        with broker.device(rng, "gateway") as gateway:
            for site in range(20):
                gateway.publish(f"sites/{site}/state", b"ok", qos=1, retain=True)


def crash(broker: Mosquitto, rng: random.Random) -> None:
    """The broker is killed while devices are at work; none of them gets to its end."""
    with broker.stage.gate.closed(patience=0.5):
        with ExitStack() as stack:
            for role in ("meter", "gateway", "app")[: rng.randint(2, 3)]:
                mqtt = stack.enter_context(broker.device(rng, role, kind="broker crash"))
                if role == "app":
                    mqtt.subscribe("meters/7/power")
                else:
                    mqtt.publish("meters/7/power", reading(rng), 1)
            time.sleep(0.05)
            broker.stage.ledger.harm_open("broker crash")
            broker.crash()
        broker.launch()


def clones(broker: Mosquitto, rng: random.Random) -> None:
    """Two devices have one identity and throw each other out, again and again."""
    with broker.device(rng, "gateway", kind="two devices with one identity") as gateway:
        for _ in range(rng.randint(3, 6)):
            other = broker.dial(rng, gateway.client_id)
            other.log_in("gateway", "secret of gateway")
            other.publish("meters/7/power", reading(rng), 1)
            broker.pause(rng, 5, 30)
        gateway.publish("meters/7/power", reading(rng), 1)


def hung(broker: Mosquitto, rng: random.Random) -> None:
    """A meter hangs after its login and never sends its reading."""
    with broker.device(rng, "meter", kind="device hung after login", keep_alive=1) as meter:
        meter.packet()


ENTRY = Entry(
    Mosquitto,
    {report: 40, relay: 16, watch: 14, command: 8, mistype: 2, lose_radio: 3, fall_asleep: 2, come_back: 2},
    {
        rights_lost: (1, 0, 1),
        handshake_unfinished: (1, 2, 1),
        oversize: (2, 2, 3),
        malformed: (2, 3, 2),
        slow_reader: (2, 3, 2),
        states_wiped: (1, 1, 1),
        crash: (0, 1, 1),
        clones: (2, 1, 2),
        hung: (4, 3, 4),
    },
    per_day=430,
    speed=900,
)
