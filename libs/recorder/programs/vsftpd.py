"""vsftpd: an exchange of files by FTP between a company and its suppliers; a session is a client's connection."""

from __future__ import annotations

import ftplib
import io
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recorder.harm import filled, moved_away, owned_by_root, owner_of, reset_on_close
from recorder.plan import Entry
from recorder.program import TROUBLE, MissedError, Program, demand, run

USERS = [f"supplier{n:02d}" for n in range(1, 21)]
UID = 7000
CONFIG = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=NO
local_enable=YES
write_enable=YES
chroot_local_user=YES
vsftpd_log_file={work}/log
no_log_lock=YES
xferlog_enable=YES
log_ftp_protocol=YES
pam_service_name=vsftpd
secure_chroot_dir={work}/empty
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
accept_timeout=1
connect_timeout=1
data_connection_timeout=2
idle_session_timeout=3
max_login_fails=3
delay_failed_login=0
local_umask=022
"""


class Vsftpd(Program):
    """An FTP server for twenty suppliers, each with a folder for orders and one for invoices."""

    name = "vsftpd"
    packages = ("vsftpd", "openssl")
    needs = ("vsftpd", "openssl")
    address = ("127.0.0.1", 12021)
    host = "ftp"
    stamp = "%a %b %e %H:%M:%S %Y "
    own_time = re.compile(r"^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4} ")
    names_addresses = True
    pipes = ("log",)
    binds = (("passwd", "/etc/passwd"), ("shadow", "/etc/shadow"), ("pam", "/etc/pam.d/vsftpd"))
    introduces = (re.compile(r'CONNECT: Client "(?P<session>(?P<conversation>[\d.]+))"'),)

    def prepare(self) -> list[str]:
        """Make the suppliers and their files; only this program sees them as users of the machine."""
        work = self.stage.work
        (work / "empty").mkdir()
        (work / "pam").write_text("auth required pam_unix.so\naccount required pam_unix.so\n", encoding="ascii")
        homes = work / "home"
        homes.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", homes)
        passwd = Path("/etc/passwd").read_text(encoding="utf-8")
        shadow = ["root:*:19000:0:99999:7:::"]
        for n, user in enumerate(USERS):
            home = homes / user
            for folder in (home / "orders", home / "invoices"):
                folder.mkdir(parents=True)
                run("chown", f"{UID + n}:{UID + n}", folder)
            for k in range(6):
                (home / "orders" / f"order-{k}.csv").write_bytes(b"x" * (300 + 311 * k))
            passwd += f"{user}:x:{UID + n}:{UID + n}::{home}:/bin/sh\n"
            hashed = run("openssl", "passwd", "-1", "-salt", "salt", f"secret of {user}").strip()
            shadow.append(f"{user}:{hashed}:19000:0:99999:7:::")
        (work / "passwd").write_text(passwd, encoding="utf-8")
        (work / "shadow").write_text("\n".join(shadow) + "\n", encoding="ascii")
        (work / "vsftpd.conf").write_text(CONFIG.format(work=work, port=self.address[1]), encoding="ascii")
        return ["vsftpd", str(work / "vsftpd.conf")]

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """End it with all its connections, and its small file system."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        run("umount", "-l", self.stage.work / "home")

    def home(self, user: str) -> Path:
        """A supplier's folder."""
        return self.stage.work / "home" / user

    @contextmanager
    def client(self, rng: random.Random, user: str, kind: str | None = None) -> Iterator[Ftp]:
        """A supplier's program, which says goodbye at the end."""
        with self.visit(rng, kind) as source:
            ftp = Ftp(source, 5, user)
            try:
                yield ftp
                ftp.quit()
            except ftplib.Error as error:
                raise MissedError(str(error)) from error
            finally:
                ftp.close()


class Ftp(ftplib.FTP):
    """A client with an address of its own."""

    def __init__(self, source: tuple[str, int], wait: float, account: str = "") -> None:
        super().__init__(timeout=wait, source_address=source)
        self.account = account

    def enter(self, server: Vsftpd) -> None:
        """Connect and log in."""
        self.connect(*server.address)
        self.login(self.account, f"secret of {self.account}")

    def ask_size(self, name: str) -> int:
        """Return a file's size; 0 if there is none."""
        try:
            return self.size(name) or 0
        except ftplib.error_perm:
            return 0

    def fetch(self, name: str) -> int:
        """Download a file; return its size."""
        got = bytearray()
        self.retrbinary(f"RETR {name}", got.extend)
        return len(got)

    def send_invoice(self, rng: random.Random, size: int) -> None:
        """Upload under a temporary name, check the size, rename."""
        name = f"invoices/{rng.randint(10**5, 10**6)}"
        self.storbinary(f"STOR {name}.part", io.BytesIO(b"x" * size))
        demand(self.size(f"{name}.part") == size, "the whole file")
        self.rename(f"{name}.part", f"{name}.xml")
        self.delete(f"{name}.xml")


def fetch_orders(ftp: Vsftpd, rng: random.Random) -> None:
    """A supplier looks for orders and takes one or two."""
    user = rng.choice(USERS)
    with ftp.client(rng, user) as client:
        client.enter(ftp)
        client.nlst("orders")
        for _ in range(rng.randint(1, 2)):
            demand(client.fetch(f"orders/order-{rng.randrange(6)}.csv") >= 300, "an order")
            ftp.pause(rng, 2, 30)


def send_invoices(ftp: Vsftpd, rng: random.Random) -> None:
    """A supplier sends an invoice."""
    with ftp.client(rng, rng.choice(USERS)) as client:
        client.enter(ftp)
        client.send_invoice(rng, rng.randint(500, 40_000))


def look(ftp: Vsftpd, rng: random.Random) -> None:
    """A supplier's program looks for a file that is not there yet; this is how it waits."""
    with ftp.client(rng, rng.choice(USERS)) as client:
        client.enter(ftp)
        client.ask_size(f"orders/order-{rng.randint(10, 99)}.csv")


def mistype(ftp: Vsftpd, rng: random.Random) -> None:
    """Somebody mistypes a password once."""
    user = rng.choice(USERS)
    with ftp.visit(rng) as source:
        client = Ftp(source, 5)
        client.connect(*ftp.address)
        with suppress(ftplib.error_perm):
            client.login(user, "oops")
        client.login(user, f"secret of {user}")
        client.nlst("orders")
        client.quit()


def fall_asleep(ftp: Vsftpd, rng: random.Random) -> None:
    """Somebody leaves a program open after work until the server ends it."""
    user = rng.choice(USERS)
    with ftp.visit(rng) as source:
        client = Ftp(source, 8)
        client.connect(*ftp.address)
        client.login(user, f"secret of {user}")
        client.nlst("orders")
        with suppress(ftplib.Error, *TROUBLE):
            client.getline()
        client.close()


def monitor(ftp: Vsftpd, rng: random.Random) -> None:
    """The monitoring hears the greeting and leaves."""
    with ftp.visit(rng) as source, socket.create_connection(ftp.address, timeout=5, source_address=source) as client:
        demand(client.recv(99).startswith(b"220"), "a greeting")


def disk_full(ftp: Vsftpd, rng: random.Random) -> None:
    """No room for invoices."""
    with ftp.stage.gate.closed(patience=0.5), filled(ftp.stage.work / "home"):
        for _ in range(rng.randint(1, 3)):
            with ftp.client(rng, rng.choice(USERS), "disk full") as client:
                client.enter(ftp)
                client.send_invoice(rng, rng.randint(9000, 40_000))
            ftp.pause(rng, 5, 60)


def not_writable(ftp: Vsftpd, rng: random.Random) -> None:
    """A restore has left a supplier's folder to root."""
    user = rng.choice(USERS)
    with ftp.stage.gate.closed(patience=0.5), owned_by_root(ftp.home(user) / "invoices"):
        for _ in range(rng.randint(1, 3)):
            with ftp.client(rng, user, "folder not writable") as client:
                client.enter(ftp)
                client.send_invoice(rng, 900)


def unsafe_home(ftp: Vsftpd, rng: random.Random) -> None:
    """A supplier's own folder was given wrong rights; the server refuses to work in it."""
    user = rng.choice(USERS)
    home = ftp.home(user)
    with ftp.stage.gate.closed(patience=0.5):
        home.chmod(0o777)
        os.chown(home, UID + USERS.index(user), -1)
        for _ in range(rng.randint(1, 3)):
            with ftp.client(rng, user, "home with wrong rights") as client:
                client.enter(ftp)
                client.nlst("orders")
        home.chmod(0o755)
        os.chown(home, 0, -1)


def orders_lost(ftp: Vsftpd, rng: random.Random) -> None:
    """The orders of a supplier are gone: the list is empty."""
    user = rng.choice(USERS)
    with ftp.stage.gate.closed(patience=0.5), moved_away(ftp.home(user) / "orders"):
        for _ in range(rng.randint(1, 3)):
            with ftp.client(rng, user, "orders missing") as client:
                client.enter(ftp)
                with suppress(ftplib.error_perm):
                    client.nlst("orders")
                demand(client.fetch("orders/order-1.csv") >= 300, "an order")


def account_expired(ftp: Vsftpd, rng: random.Random) -> None:
    """An account has run out; its password is right, but does not count."""
    user = rng.choice(USERS)
    shadow = ftp.stage.work / "shadow"
    with ftp.stage.gate.closed(patience=0.5):
        text = shadow.read_text(encoding="ascii")
        rows = [row[:-1] + "19500:" if row.startswith(f"{user}:") else row for row in text.splitlines()]
        shadow.write_text("\n".join(rows) + "\n", encoding="ascii")
        for _ in range(rng.randint(1, 3)):
            with ftp.client(rng, user, "account expired") as client:
                client.enter(ftp)
                client.nlst("orders")
        shadow.write_text(text, encoding="ascii")


def guess_passwords(ftp: Vsftpd, rng: random.Random) -> None:
    """An intruder tries names and passwords until the server hangs up."""
    for _ in range(rng.randint(1, 3)):
        with ftp.visit(rng) as source:
            ftp.stage.ledger.harm(source[0], "password guessing")
            client = Ftp(source, 5)
            client.connect(*ftp.address)
            for n in range(3):
                with suppress(ftplib.Error, *TROUBLE):
                    client.login(rng.choice(("admin", "root", "ftp", "test", *USERS)), f"summer{n}")
            client.close()


def begin_upload(client: Ftp, rng: random.Random) -> socket.socket:
    """Begin to upload; return the connection for data."""
    return client.transfercmd(f"STOR invoices/{rng.randint(10**5, 10**6)}.part")


def cut_off(ftp: Vsftpd, rng: random.Random) -> None:
    """A supplier loses the network in the middle of an invoice."""
    for _ in range(rng.randint(1, 2)):
        with suppress(MissedError, OSError, EOFError), ftp.client(rng, rng.choice(USERS)) as client:
            client.enter(ftp)
            assert client.sock is not None
            ftp.stage.ledger.harm(client.sock.getsockname()[0], "client vanished in transfer")
            data = begin_upload(client, rng)
            data.sendall(b"x" * 5000)
            reset_on_close(data)
            assert client.file is not None
            client.file.close()
            reset_on_close(client.sock)


def cut_short(ftp: Vsftpd, rng: random.Random) -> None:
    """A supplier's program breaks off a file: the server finds nothing wrong, the size is not right, the file is left."""
    for _ in range(rng.randint(1, 2)):
        with ftp.client(rng, rng.choice(USERS), "file cut short") as client:
            client.enter(ftp)
            client.voidcmd("TYPE I")
            name = f"invoices/{rng.randint(10**5, 10**6)}.part"
            data = client.transfercmd(f"STOR {name}")
            data.sendall(b"x" * rng.randint(100, 2000))
            data.close()
            client.voidresp()
            demand(client.size(name) == 9000, "the whole file")


def data_blocked(ftp: Vsftpd, rng: random.Random) -> None:
    """A firewall lets no data connections through; the server waits in vain."""
    for _ in range(rng.randint(1, 2)):
        with ftp.client(rng, rng.choice(USERS), "data connection blocked") as client:
            client.enter(ftp)
            client.makepasv()
            client.sendcmd("NLST orders")


def hung(ftp: Vsftpd, rng: random.Random) -> None:
    """A supplier's machine hangs in the middle of a file; the server gives up."""
    with ftp.client(rng, rng.choice(USERS), "client hung in transfer") as client:
        client.enter(ftp)
        data = begin_upload(client, rng)
        data.sendall(b"x" * 5000)
        try:
            client.voidresp()
        finally:
            data.close()


def process_killed(ftp: Vsftpd, rng: random.Random) -> None:
    """The process that serves a supplier is killed in the middle of a file."""
    with ftp.client(rng, rng.choice(USERS), "process killed") as client:
        client.enter(ftp)
        assert client.sock is not None
        data = begin_upload(client, rng)
        data.sendall(b"x" * 5000)
        time.sleep(0.1)
        os.kill(owner_of(ftp.address[1], client.sock.getsockname()[1]), signal.SIGKILL)
        data.close()
        client.voidresp()


def crash(ftp: Vsftpd, rng: random.Random) -> None:
    """The whole server is killed while suppliers are at work."""
    with ftp.stage.gate.closed(patience=0.5):
        sources = []
        for _ in range(rng.randint(2, 3)):
            user = rng.choice(USERS)
            with ftp.visit(rng) as source:
                client = Ftp(source, 5)
                client.connect(*ftp.address)
                client.login(user, f"secret of {user}")
                begin_upload(client, rng).sendall(b"x" * 5000)
                ftp.stage.ledger.harm(source[0], "server crash")
                sources.append(client)
        ftp.crash()
        for client in sources:
            client.close()
        ftp.launch()


ENTRY = Entry(
    Vsftpd,
    {fetch_orders: 50, send_invoices: 30, look: 9, mistype: 3, fall_asleep: 2, monitor: 4},
    {
        disk_full: (1, 0, 1), not_writable: (1, 1, 0), unsafe_home: (0, 1, 1), orders_lost: (1, 1, 1), account_expired: (1, 1, 1),
        guess_passwords: (1, 1, 1), cut_off: (1, 1, 2), cut_short: (2, 2, 2), data_blocked: (1, 1, 1), hung: (1, 2, 1),
        process_killed: (2, 2, 1), crash: (0, 1, 1),
    },
    per_day=480,
    speed=800,
)  # fmt: skip
