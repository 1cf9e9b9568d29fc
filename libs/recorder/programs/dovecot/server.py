"""Dovecot under recording: the mailboxes of an organisation, read over IMAP."""

from __future__ import annotations

import base64
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from recorder.program import Program, Stage, certificate, run

SERVER = ("127.0.0.1", 12143)
MAIL_UID = 5000
N_USERS = 60
SESSION = re.compile(r"<([A-Za-z0-9+/]{16})>")

CONFIG = """
protocols = imap
listen = 127.0.0.1
base_dir = {work}/run
state_dir = {work}/state
log_path = /dev/stderr
log_timestamp =
auth_verbose = yes
auth_mechanisms = plain login
auth_failure_delay = 1 secs
auth_cache_size = 0
disable_plaintext_auth = no
ssl = yes
ssl_cert = <{work}/imap.crt
ssl_key = <{work}/imap.key
ssl_min_protocol = TLSv1.2
mail_location = maildir:~/Maildir
mail_plugins = notify mail_log quota
mail_max_lock_timeout = 2s
mail_max_userip_connections = 6
first_valid_uid = {uid}
first_valid_gid = {uid}
imap_idle_notify_interval = 20 s
login_greeting = ready
passdb {{
  driver = passwd-file
  args = {work}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={uid} home={work}/mail/%u
}}
namespace inbox {{
  inbox = yes
}}
protocol imap {{
  mail_plugins = notify mail_log quota imap_quota
}}
plugin {{
  mail_log_events = delete undelete expunge copy save mailbox_create mailbox_delete mailbox_rename
  mail_log_fields = uid box msgid size
  quota = maildir:User quota
  quota_rule = *:bytes=400K
  quota_rule2 = Trash:bytes=+100K
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
  service_count = 0
  process_min_avail = 1
  client_limit = 400
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap {{
  process_limit = 200
}}
"""


class Refused(Exception):
    """The server said no."""


# What a client notices when something is broken.
TROUBLE = (Refused, ConnectionError, TimeoutError, ssl.SSLError)


class Imap:
    """One IMAP conversation: a command, its tagged answer. The client port is chosen by the caller."""

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self.socket = socket.create_connection(SERVER, timeout=20, source_address=(host, port))
        self._buffer = b""
        self._n = 0
        self.line()

    def line(self) -> bytes:
        """The next line. Raises ConnectionResetError when the server hung up."""
        while b"\n" not in self._buffer:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionResetError("the server hung up")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def send(self, command: str) -> str:
        """Send a command without waiting; its tag."""
        self._n += 1
        self.socket.sendall(f"a{self._n} {command}\r\n".encode())
        return f"a{self._n}"

    def ask(self, command: str) -> list[bytes]:
        """A command and its answer's lines. Raises Refused at NO and BAD."""
        tag = self.send(command).encode()
        lines: list[bytes] = []
        while True:
            lines.append(self.line())
            if lines[-1].startswith(tag + b" "):
                break
            if lines[-1].startswith(b"* BYE") and command != "LOGOUT":
                raise ConnectionResetError(lines[-1].decode("utf-8", "replace"))
        if not lines[-1].startswith(tag + b" OK"):
            raise Refused(lines[-1].decode("utf-8", "replace"))
        return lines

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        self.ask("STARTTLS")
        self.socket = context.wrap_socket(self.socket)

    def append(self, folder: str, text: bytes) -> None:
        """Store a mail. Raises Refused."""
        self.send(f"APPEND {folder} {{{len(text)}+}}")
        self.socket.sendall(text + b"\r\n")
        while True:
            line = self.line()
            if line.startswith(f"a{self._n} ".encode()):
                if b" OK" not in line:
                    raise Refused(line.decode("utf-8", "replace"))
                return

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Dovecot(Program):
    """A Dovecot server with the mailboxes of user01 to user60."""

    name = "dovecot"
    address = SERVER
    packages = ("dovecot-imapd", "openssl")
    needs = ("/usr/sbin/dovecot", "openssl")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._idle = [f"user{n:02d}" for n in range(1, N_USERS + 1)]
        self._free = threading.Condition()

    @property
    def version(self) -> str:
        """Return the version that the server reports."""
        return "Dovecot " + run("/usr/sbin/dovecot", "--version").split()[0]

    @property
    def mail(self) -> Path:
        """The small file system of the mailboxes."""
        return self.stage.work / "mail"

    @property
    def users(self) -> Path:
        """The file of names and passwords."""
        return self.stage.work / "users"

    def prepare(self) -> list[str]:
        """A fresh instance with mailboxes in which some mail lies."""
        work, rng = self.stage.work, self.stage.ledger.rng
        self.mail.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", self.mail)
        os.chown(self.mail, MAIL_UID, MAIL_UID)
        certificate(work, "imap")
        names = [f"user{n:02d}" for n in range(1, N_USERS + 1)]
        self.users.write_text("".join(f"{name}:{{PLAIN}}secret of {name}::::::\n" for name in names))
        self.users.chmod(0o644)
        for name in names:
            for _ in range(rng.randint(4, 12)):
                self.deliver(rng, name)
        config = work / "dovecot.conf"
        config.write_text(CONFIG.format(work=work, uid=MAIL_UID, port=SERVER[1]), encoding="utf-8")
        return ["/usr/sbin/dovecot", "-F", "-c", str(config)]

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the server."""
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        run("umount", "-l", self.mail)

    def maildir(self, user: str) -> Path:
        """Return the folder of a user's mail."""
        return self.mail / user / "Maildir"

    def deliver(self, rng: random.Random, user: str, n_lines: int = 0) -> None:
        """The mail server puts new mail into a mailbox."""
        box = self.maildir(user)
        for folder in (box.parent, box, *(box / part for part in ("tmp", "new", "cur"))):
            if not folder.exists():
                folder.mkdir()
                os.chown(folder, MAIL_UID, MAIL_UID)
        text = letter(rng, n_lines)
        self.restore(box / "new" / f"{int(time.time())}.M{rng.getrandbits(40)}P7.mail,S={len(text)}", text)

    def restore(self, path: Path, text: bytes) -> None:
        """Put a mail's file in its place, complete from the first moment on."""
        draft = path.parents[1] / "tmp" / path.name
        draft.write_bytes(text)
        os.chown(draft, MAIL_UID, MAIL_UID)
        draft.rename(path)

    @contextmanager
    def person(self, rng: random.Random) -> Iterator[str]:
        """A user whom nobody else is being at the moment."""
        with self._free:
            self._free.wait_for(lambda: bool(self._idle))
            user = self._idle.pop(rng.randrange(len(self._idle)))
        try:
            yield user
        finally:
            with self._free:
                self._idle.append(user)
                self._free.notify()

    def dial(self, rng: random.Random, host: str = "") -> Imap:
        """A greeted connection from some desk."""
        return Imap(host or f"127.0.4.{rng.randint(1, 120)}", self.stage.ledger.port())

    def enter(self, client: Imap, user: str, folder: str = "INBOX") -> None:
        """Log in and select a folder."""
        client.ask(f'LOGIN {user} "secret of {user}"')
        client.ask(f"SELECT {folder}")

    @contextmanager
    def session(self, rng: random.Random, user: str) -> Iterator[Imap]:
        """A logged-in session, often in TLS, that ends by a logout."""
        client = self.dial(rng)
        try:
            if rng.random() < 0.4:
                client.encrypt(trusting())
            self.enter(client, user)
            yield client
            client.ask("LOGOUT")
        finally:
            client.close()

    def conversations(self, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The session id, in which Dovecot keeps the client's port: microseconds (6 bytes), port (2), address."""
        for session in {found for line in lines for found in SESSION.findall(line)}:
            yield session, str(int.from_bytes(base64.b64decode(session)[6:8], "little"))

    def stamped(self, lines: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
        """`2026-03-02T10:20:30.400Z imap(user01)<pid><session>: Info: text`."""
        for real, text in lines:
            moment = self.stage.clock.at(real)
            yield real, f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z {text.strip()}"


def letter(rng: random.Random, n_lines: int = 0) -> bytes:
    """A mail of ordinary size."""
    head = f"From: <user{rng.randint(1, 999)}@example.com>\r\nSubject: note {rng.randint(1, 999)}\r\n"
    head += f"Message-Id: <{rng.getrandbits(48):012x}@example.com>\r\n\r\n"
    return (head + "All work and no play.\r\n" * (n_lines or rng.choice((4, 20, 80, 300)))).encode()


def trusting() -> ssl.SSLContext:
    """A TLS client that asks no questions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
