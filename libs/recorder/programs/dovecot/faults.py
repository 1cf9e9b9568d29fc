"""Faults of the mailboxes, each one caused for real."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from recorder.harm import filled, moved_away, owned_by_root, owner_of, reset_on_close, rot, starve
from recorder.plan import Act
from recorder.program import run
from recorder.programs.dovecot.server import SERVER, TROUBLE, Dovecot, Imap, Refused, letter, trusting


def hurt(box: Dovecot, rng: random.Random, kind: str, act: Callable[[Imap], None], silent: bool = False) -> None:
    """A session that meets the trouble. Unless the server is to get over it in silence, its client must notice."""
    client = box.dial(rng)
    noticed = False
    try:
        act(client)
    except TROUBLE:
        noticed = True
    finally:
        client.close()
    if not noticed and not silent:
        raise RuntimeError(f"{kind}: the fault did not bite")
    box.stage.ledger.harm(client.port, kind)


def use(box: Dovecot, rng: random.Random, user: str, n_lines: int = 40) -> Callable[[Imap], None]:
    """Use a mailbox as anybody does."""

    def act(client: Imap) -> None:
        box.enter(client, user)
        client.ask("FETCH 1:* (FLAGS ENVELOPE)")
        client.append("INBOX", letter(rng, n_lines))
        client.ask("LOGOUT")

    return act


def warm(box: Dovecot, rng: random.Random, user: str) -> Path:
    """The mailbox has been used before, so that it has its index files. Returns its folder."""
    box.deliver(rng, user)
    with box.session(rng, user) as client:
        client.ask("FETCH 1:* (FLAGS ENVELOPE)")
    box.pause(rng, 20, 200)
    return box.maildir(user)


def index_corrupted(box: Dovecot, rng: random.Random) -> None:
    """A mailbox's transaction log has rotted; an operator removes the index later."""
    with box.person(rng) as user:
        folder = warm(box, rng, user)
        rot(folder / "dovecot.index.log", rng, 40)
        try:
            hurt(box, rng, "index corrupted", use(box, rng, user))
        finally:
            for path in folder.glob("dovecot.index*"):
                path.unlink()


def cache_corrupted(box: Dovecot, rng: random.Random) -> None:
    """A mailbox's cache or list of ids has rotted; the server notices and builds it anew."""
    with box.person(rng) as user:
        folder = warm(box, rng, user)
        name, offset = rng.choice((("dovecot.index.cache", 10), ("dovecot-uidlist", 0)))
        rot(folder / name, rng, offset)
        hurt(box, rng, "cache or id list corrupted", use(box, rng, user), silent=True)


def wrong_owner(box: Dovecot, rng: random.Random) -> None:
    """A clumsy restore left a mailbox, or the folder for incoming files, to the wrong owner."""
    with box.person(rng) as user:
        folder = warm(box, rng, user)
        with owned_by_root(rng.choice((folder, folder / "tmp"))):
            for _ in range(rng.randint(1, 3)):
                hurt(box, rng, "mailbox not accessible", use(box, rng, user))
                box.pause(rng, 20, 100)


def disk_full(box: Dovecot, rng: random.Random) -> None:
    """The mailboxes' file system is full."""
    with box.stage.gate.closed(patience=4.0):
        for _ in range(rng.randint(3, 5)):
            with box.person(rng) as user, filled(box.mail):
                hurt(box, rng, "disk full", use(box, rng, user, n_lines=3000))
            box.pause(rng, 10, 60)


def index_locked(box: Dovecot, rng: random.Random) -> None:
    """A hung backup holds the lock of an index."""
    with box.person(rng) as user:
        folder = warm(box, rng, user)
        with (folder / "dovecot.index.log").open("r+b") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            hurt(box, rng, "mailbox locked", use(box, rng, user))


def list_locked(box: Dovecot, rng: random.Random) -> None:
    """A lock file was left behind."""
    with box.person(rng) as user:
        lock = warm(box, rng, user) / "dovecot-uidlist.lock"
        lock.write_text("1:elsewhere", encoding="ascii")
        try:
            hurt(box, rng, "mailbox locked", use(box, rng, user))
        finally:
            lock.unlink(missing_ok=True)


def mail_damaged(box: Dovecot, rng: random.Random) -> None:
    """After a crash of the file system mails are shorter than they were, or run on with something else."""
    with box.person(rng) as user:
        folder = warm(box, rng, user)

        def act(client: Imap) -> None:
            for path in (folder / "cur").iterdir():
                if path.stat().st_size % 2:
                    os.truncate(path, path.stat().st_size // 2)
                else:
                    with path.open("ab") as file:
                        file.write(b"All play.\n" * 30)
            box.enter(client, user)
            client.ask("FETCH 1:* (BODY[])")

        try:
            hurt(box, rng, "mail damaged on the disk", act)
        finally:
            for path in (folder / "cur").iterdir():
                path.unlink()


def process_killed(box: Dovecot, rng: random.Random) -> None:
    """The process that serves a session is killed."""
    with box.person(rng) as user:

        def act(client: Imap) -> None:
            box.enter(client, user)
            if rng.random() < 0.5:
                client.append("INBOX", letter(rng))
            os.kill(owner_of(SERVER[1], client.port), signal.SIGKILL)
            client.ask("NOOP")

        hurt(box, rng, "process killed", act)


def out_of_memory(box: Dovecot, rng: random.Random) -> None:
    """The process that serves a session gets no more memory."""
    with box.person(rng) as user:

        def act(client: Imap) -> None:
            box.enter(client, user)
            starve(owner_of(SERVER[1], client.port), spare=0)
            client.ask("SEARCH TEXT " + " OR TEXT ".join(f"word{n} TEXT word{n}" for n in range(1500)))

        hurt(box, rng, "out of memory", act)


def upload_cut_off(box: Dovecot, rng: random.Random) -> None:
    """A client vanishes while it stores a mail."""
    with box.person(rng) as user:
        client = box.dial(rng)
        box.enter(client, user)
        client.send("APPEND INBOX {90000+}")
        client.socket.sendall(letter(rng, 300))
        time.sleep(0.05)
        box.stage.ledger.harm(client.port, "client vanished in transfer")
        if rng.random() < 0.5:
            reset_on_close(client.socket)
        client.close()


def download_cut_off(box: Dovecot, rng: random.Random) -> None:
    """A client vanishes while it fetches its mails."""
    with box.person(rng) as user:
        for _ in range(4):
            box.deliver(rng, user, n_lines=2000)
        client = box.dial(rng)
        box.enter(client, user)
        client.send("FETCH " + ",".join(["1:*"] * 30) + " (BODY.PEEK[])")
        for n in range(100):
            client.send(f"FETCH 1:* (BODY.PEEK[]<{n}.1000000>)")
        client.socket.recv(100)
        time.sleep(0.05)
        box.stage.ledger.harm(client.port, "client vanished in transfer")
        reset_on_close(client.socket)
        with box.session(rng, user) as clean:
            clean.ask("STORE 1:* +FLAGS.SILENT (\\Deleted)")
            clean.ask("EXPUNGE")


def password_guessing(box: Dovecot, rng: random.Random) -> None:
    """Somebody tries passwords, many in a conversation."""
    for _ in range(rng.randint(2, 4)):
        names = rng.choice((["admin", "root", "info", "test", "office"], [f"user{rng.randint(1, 60):02d}"] * 5))
        tries = names[: rng.randint(4, 5)]

        def act(client: Imap, tries: list[str] = tries) -> None:
            for name in tries:
                with suppress(Refused):
                    client.ask(f"LOGIN {name} guess{rng.randint(1, 99)}")

        hurt(box, rng, "password guessing", act, silent=True)


def accounts_lost(box: Dovecot, rng: random.Random) -> None:
    """The list of accounts is gone for a while; right passwords do not help."""
    with box.stage.gate.closed(patience=0.5), moved_away(box.users):
        time.sleep(1.1)  # the server looks at the file once a second
        for _ in range(rng.randint(2, 4)):
            with box.person(rng) as user:
                hurt(box, rng, "account list lost", use(box, rng, user))


def auth_killed(box: Dovecot, rng: random.Random) -> None:
    """The authentication service hangs, then dies, while somebody logs in."""
    with box.stage.gate.closed(patience=1.5), box.person(rng) as user:
        (pid,) = map(int, run("pgrep", "-P", str(box.pid), "-x", "auth").split())

        def act(client: Imap) -> None:
            os.kill(pid, signal.SIGSTOP)
            tag = client.send(f'LOGIN {user} "secret of {user}"')
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)
            while not (line := client.line()).startswith(tag.encode()):
                pass
            raise Refused(line.decode("utf-8", "replace"))

        hurt(box, rng, "authentication service died", act)
        time.sleep(1.2)


def too_many_sessions(box: Dovecot, rng: random.Random) -> None:
    """A client gone wild opens session after session; the ones above the limit are refused."""
    with box.person(rng) as user:
        host, clients = f"127.0.4.{rng.randint(121, 200)}", []
        for _ in range(rng.randint(8, 10)):
            client = box.dial(rng, host)
            clients.append(client)
            try:
                box.enter(client, user)
            except TROUBLE:
                box.stage.ledger.harm(client.port, "too many sessions")
        for client in clients:
            client.close()


def tls_broken(box: Dovecot, rng: random.Random) -> None:
    """Clients that do not accept the server's certificate, or speak no TLS that it accepts."""
    for _ in range(rng.randint(1, 3)):
        context = trusting()
        if rng.random() < 0.5:
            context.verify_mode = ssl.CERT_REQUIRED
        else:
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")

        def act(client: Imap, context: ssl.SSLContext = context) -> None:
            client.encrypt(context)

        hurt(box, rng, "TLS handshake failed", act)


def index_removed(box: Dovecot, rng: random.Random) -> None:
    """Somebody cleans up index files of a mailbox that is in use."""
    with box.person(rng) as user:
        folder = warm(box, rng, user)

        def act(client: Imap) -> None:
            box.enter(client, user)
            for path in folder.glob("dovecot*"):
                path.unlink()
            client.append("INBOX", letter(rng))
            client.ask("FETCH 1:* (FLAGS)")

        hurt(box, rng, "index removed in use", act)


FAULTS: dict[Act[Dovecot], tuple[int, ...]] = {
    index_corrupted: (3, 2, 3), cache_corrupted: (3, 4, 3), wrong_owner: (1, 2, 2), disk_full: (0, 1, 1),
    index_locked: (2, 0, 2), list_locked: (2, 3, 1), mail_damaged: (4, 3, 4), process_killed: (6, 5, 6),
    out_of_memory: (2, 3, 2), upload_cut_off: (5, 6, 4), download_cut_off: (4, 3, 4), password_guessing: (1, 2, 1),
    accounts_lost: (0, 0, 1), auth_killed: (0, 1, 1), too_many_sessions: (1, 0, 1), tls_broken: (1, 2, 1),
    index_removed: (2, 3, 1),
}  # fmt: skip
