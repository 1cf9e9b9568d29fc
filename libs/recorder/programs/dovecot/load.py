"""The load of an organisation's mailboxes on an ordinary day."""

from __future__ import annotations

import random
import re
from contextlib import suppress

from recorder.harm import reset_on_close
from recorder.plan import Act
from recorder.programs.dovecot.server import Dovecot, Imap, Refused, letter

FULL, CROWDED = 30, 20  # messages in a mailbox


def count(client: Imap, folder: str = "INBOX") -> int:
    """Return the number of messages there."""
    (status,) = (line for line in client.ask(f"STATUS {folder} (MESSAGES)") if b"STATUS" in line and line[:1] == b"*")
    found = re.search(rb"MESSAGES (\d+)", status)
    return int(found[1]) if found else 0


def tidy(client: Imap, keep: int) -> None:
    """Delete the oldest messages of the selected folder."""
    surplus = count(client) - keep
    if surplus > 0:
        client.ask(f"STORE 1:{surplus} +FLAGS.SILENT (\\Deleted)")
        client.ask("EXPUNGE")


def be_refused(box: Dovecot, client: Imap, command: str) -> None:
    """A login that is to fail. If it fails for another reason than its password, it was caught in an outage."""
    try:
        client.ask(command)
    except Refused as refusal:
        if "AUTHENTICATIONFAILED" not in str(refusal):
            box.stage.ledger.harm(client.port, "caught in an outage")


def look(box: Dovecot, rng: random.Random) -> None:
    """A telephone looks for new mail."""
    with box.person(rng) as user:
        for _ in range(rng.choice((0, 0, 1))):
            box.deliver(rng, user)
        with box.session(rng, user) as client:
            client.ask("UID FETCH 1:* (FLAGS)")


def read(box: Dovecot, rng: random.Random) -> None:
    """Somebody reads, answers, and throws away."""
    with box.person(rng) as user:
        for _ in range(rng.randint(1, 3)):
            box.deliver(rng, user)
        with box.session(rng, user) as client:
            last = count(client)
            client.ask(f"FETCH {max(1, last - 3)}:{last} (FLAGS ENVELOPE BODY.PEEK[])")
            box.pause(rng, 5, 120)
            client.ask(f"STORE {last} +FLAGS (\\Seen)")
            if rng.random() < 0.5:
                with suppress(Refused):
                    client.ask("CREATE Sent")
                client.append("Sent", letter(rng, 10))
            if rng.random() < 0.5:
                client.ask(f"STORE {last} +FLAGS (\\Deleted)")
                if rng.random() < 0.2:
                    client.ask(f"STORE {last} -FLAGS (\\Deleted)")
                client.ask("EXPUNGE")
            tidy(client, FULL)


def file_away(box: Dovecot, rng: random.Random) -> None:
    """Messages go into a folder; the folder is emptied when it is full."""
    folder = rng.choice(("Work", "Private", "Travel"))
    with box.person(rng) as user, box.session(rng, user) as client:
        with suppress(Refused):
            client.ask(f"CREATE {folder}")
        last = min(count(client), rng.choice((1, 2, 3, 12)))
        if last:
            with suppress(Refused):  # a copy may meet the quota; then nothing is thrown away
                client.ask(f"COPY 1:{last} {folder}")
                client.ask(f"STORE 1:{last} +FLAGS.SILENT (\\Deleted)")
                client.ask("EXPUNGE")
        client.ask(f"SELECT {folder}")
        surplus = count(client, folder) - CROWDED // 2
        if surplus > 0:
            client.ask(f"STORE 1:{surplus} +FLAGS.SILENT (\\Deleted)")
            client.ask("EXPUNGE")


def rearrange(box: Dovecot, rng: random.Random) -> None:
    """A folder is made, renamed, and given up."""
    name = f"Project{rng.randint(1, 500)}"
    with box.person(rng) as user, box.session(rng, user) as client:
        client.ask(f"CREATE {name}")
        box.pause(rng, 5, 60)
        if rng.random() < 0.6:
            client.ask(f"RENAME {name} {name}-old")
            name = f"{name}-old"
        client.append(name, letter(rng, 5))
        client.ask(f"DELETE {name}")


def idle(box: Dovecot, rng: random.Random) -> None:
    """A desk waits for mail; at the end it logs out, is switched off, or loses the network."""
    with box.person(rng) as user:
        client = box.dial(rng)
        box.enter(client, user)
        client.send("IDLE")
        client.line()
        for _ in range(rng.randint(0, 3)):
            box.pause(rng, 20, 300)
            box.deliver(rng, user)
        end = rng.random()
        if end < 0.6:
            client.socket.sendall(b"DONE\r\n")
            tidy(client, FULL)
            client.ask("LOGOUT")
        elif end < 0.8:
            reset_on_close(client.socket)
        client.close()


def search(box: Dovecot, rng: random.Random) -> None:
    """Somebody looks for an old mail and leaves without a word."""
    with box.person(rng) as user:
        client = box.dial(rng)
        box.enter(client, user)
        client.ask(f"SEARCH TEXT {rng.choice(('work', 'play', 'note'))}")
        if rng.random() < 0.5:
            client.ask("CLOSE")
        client.close()


def mistype_password(box: Dovecot, rng: random.Random) -> None:
    """A password goes wrong once or twice; then it is right, or somebody gives up."""
    with box.person(rng) as user:
        client = box.dial(rng)
        for _ in range(rng.choice((1, 1, 2))):
            be_refused(box, client, f'LOGIN {user} "oops"')
        if rng.random() < 0.7:
            box.enter(client, user)
            client.ask("LOGOUT")
        client.close()


def former_colleague(box: Dovecot, rng: random.Random) -> None:
    """A forgotten device asks for a mailbox that has long been gone."""
    client = box.dial(rng)
    be_refused(box, client, f"LOGIN user{rng.randint(90, 93)} secret")
    client.close()


def probe(box: Dovecot, rng: random.Random) -> None:
    """A monitor greets and goes, sometimes after having asked for TLS, sometimes without a word."""
    client = box.dial(rng)
    kind = rng.random()
    if kind < 0.5:
        client.ask("LOGOUT")
    elif kind < 0.7:
        client.ask("STARTTLS")
    client.close()


def fill_quota(box: Dovecot, rng: random.Random) -> None:
    """Somebody stores pictures until the quota says no, and makes room."""
    with box.person(rng) as user, box.session(rng, user) as client:
        with suppress(Refused):
            for _ in range(16):
                client.append("INBOX", letter(rng, 1800))
        client.ask("NOOP")
        tidy(client, 4)


def restore_mail(box: Dovecot, rng: random.Random) -> None:
    """A deleted mail is brought back from last night's copy, under its old name."""
    with box.person(rng) as user:
        box.deliver(rng, user)
        current = box.maildir(user) / "cur"
        with box.session(rng, user) as client:
            last = count(client)
            newest = max(current.iterdir(), key=lambda path: path.stat().st_ctime_ns)
            copy = newest.read_bytes()
            client.ask(f"STORE {last} +FLAGS (\\Deleted)")
            client.ask("EXPUNGE")
        box.restore(newest, copy)
        with box.session(rng, user) as client:
            client.ask("UID FETCH 1:* (FLAGS)")


def stammer(box: Dovecot, rng: random.Random) -> None:
    """A home-made script that knows no IMAP."""
    with box.person(rng) as user:
        client = box.dial(rng)
        box.enter(client, user)
        with suppress(OSError):
            for _ in range(30):
                with suppress(Refused):
                    client.ask("GIVE ME ALL MAIL")
        client.close()


ORDINARY: dict[Act[Dovecot], float] = {
    look: 26, read: 30, file_away: 9, rearrange: 4, idle: 12, search: 5, mistype_password: 4, former_colleague: 2,
    probe: 4, fill_quota: 0.7, restore_mail: 1, stammer: 0.7,
}  # fmt: skip
