"""Faults of the mail server, each one caused for real."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence

from recorder.harm import filled, owned_by_root, owner_of, reset_on_close
from recorder.plan import Act
from recorder.program import certificate
from recorder.programs.postfix.load import stranger, user
from recorder.programs.postfix.server import ITSELF, SERVER, Postfix


def harm(mail: Postfix, rng: random.Random, kind: str, recipient: str, *, incoming: bool = False) -> str:
    """A mail that meets the trouble; written down by its queue id, or by its port if it got none."""
    queue_id, code, port = mail.send(rng, stranger(rng) if incoming else user(rng), [recipient], not incoming)
    if not queue_id and code in (250, 550, 554):
        raise RuntimeError(f"{kind}: the fault did not bite, answer {code}")
    mail.stage.ledger.harm(queue_id or port, kind)
    return queue_id


def treat(mail: Postfix, rng: random.Random, kind: str, treatment: Sequence[str], domain: str = "example.com") -> str:
    """A mail to a server elsewhere that breaks it as given."""
    recipient = mail.outsider(rng, domain)
    mail.postmaster.treatment[recipient] = list(treatment)
    harm(mail, rng, kind, recipient)
    return recipient


def await_delivery(mail: Postfix, recipients: Sequence[str], patience: float = 9.0) -> None:
    """Return when these mails have arrived, so that no other mail suffers from what held them up."""
    deadline = time.time() + patience
    while time.time() < deadline and not mail.postmaster.accepted.issuperset(recipients):
        time.sleep(0.1)


def upstream_refused(mail: Postfix, rng: random.Random) -> None:
    """A provider's server is down for a while; mail waits."""
    with mail.stage.gate.closed(patience=0.5):
        waiting = [mail.outsider(rng, "example.net") for _ in range(rng.randint(2, 4))]
        with mail.provider.outage():
            for recipient in waiting:
                harm(mail, rng, "upstream refused connections", recipient)
            time.sleep(0.7)
        await_delivery(mail, waiting)


def upstream_vanished(mail: Postfix, rng: random.Random) -> None:
    """The other server hangs up in the middle of the mail, twice."""
    treat(mail, rng, "upstream hung up in transfer", ["drop"] * rng.randint(2, 3))


def upstream_stalled(mail: Postfix, rng: random.Random) -> None:
    """The other server never says whether it took the mail."""
    treat(mail, rng, "upstream timed out", ["stall:3"])


def upstream_away(mail: Postfix, rng: random.Random) -> None:
    """A recipient's server puts the mail off until its time is up."""
    treat(mail, rng, "expired in the queue", ["451 4.3.0 Error: queue too busy!"])


def certificate_changed(mail: Postfix, rng: random.Random) -> None:
    """The bank shows another certificate than agreed; mail to it waits."""
    work = mail.stage.work
    with mail.stage.gate.closed(patience=0.5):
        if not (work / "other.crt").exists():
            certificate(work, "other")
        mail.postmaster.use_certificate(work / "other.crt", work / "other.key")
        waiting = [mail.outsider(rng, "bank.example") for _ in range(rng.randint(1, 3))]
        for recipient in waiting:
            harm(mail, rng, "certificate not trusted", recipient)
        time.sleep(0.5)
        mail.postmaster.use_certificate(work / "bank.crt", work / "bank.key")
        await_delivery(mail, waiting)


def mailboxes_full(mail: Postfix, rng: random.Random) -> None:
    """The file system of the mailboxes is full; mail waits until there is room."""
    with mail.stage.gate.closed(patience=0.5), filled(mail.mail):
        for _ in range(rng.randint(2, 4)):
            harm(mail, rng, "mailbox disk full", user(rng), incoming=True)
        time.sleep(0.7)


def mailbox_locked_out(mail: Postfix, rng: random.Random) -> None:
    """A clumsy restore left a mailbox to the wrong owner."""
    person = user(rng)
    box = mail.mail / person.partition("@")[0]
    if not box.exists():
        mail.send(rng, stranger(rng), [person], inside=False)
        time.sleep(0.5)
    with mail.stage.gate.closed(patience=0.5), owned_by_root(box):
        for _ in range(rng.randint(1, 3)):
            harm(mail, rng, "mailbox not writable", person, incoming=True)
        time.sleep(0.7)


def policy_down(mail: Postfix, rng: random.Random) -> None:
    """The policy service is down; mail is turned away for now."""
    with mail.stage.gate.closed(patience=0.5), mail.policy.outage():
        for _ in range(rng.randint(2, 5)):
            harm(mail, rng, "policy service down", user(rng), incoming=True)


def tables_down(mail: Postfix, rng: random.Random) -> None:
    """The server of lists and routes is down; nobody knows where mail belongs."""
    with mail.stage.gate.closed(patience=1.5), mail.tables.outage():
        for _ in range(rng.randint(2, 4)):
            harm(mail, rng, "lookup service down", user(rng), incoming=True)


def sender_vanished(mail: Postfix, rng: random.Random) -> None:
    """The sending machine is gone before its mail is complete."""
    client, port = mail.dial(rng, inside=False)
    client.mail(stranger(rng))
    client.rcpt(user(rng))
    client.docmd("DATA")
    client.send(f"Subject: note\r\nMessage-Id: <{rng.getrandbits(48):012x}@example.net>\r\n\r\nAll wo".encode())
    time.sleep(0.05)
    mail.stage.ledger.harm(port, "client vanished in transfer")
    assert client.sock is not None
    if rng.random() < 0.5:
        reset_on_close(client.sock)
    client.close()


def mail_loop(mail: Postfix, rng: random.Random) -> None:
    """A wrong route sends a domain's mail back to this very server."""
    with mail.stage.gate.closed(patience=0.5):
        mail.routes["example.com"] = SERVER
        mail.stage.ledger.harm(ITSELF, "mail loop")
        try:
            for _ in range(rng.randint(1, 3)):
                harm(mail, rng, "mail loop", mail.outsider(rng, "example.com"))
            time.sleep(0.7)
        finally:
            mail.routes["example.com"] = mail.partner.address


def agent_killed(mail: Postfix, rng: random.Random) -> None:
    """The process that delivers a mail is killed at it."""
    recipient = treat(mail, rng, "delivery agent killed", ["stall:1"])
    for _ in range(50):
        time.sleep(0.02)
        if mail.postmaster.arrivals[recipient]:
            break
    pid = owner_of(mail.postmaster.arrivals[recipient][0], mail.partner.address[1])
    os.kill(pid, signal.SIGKILL)


def queue_file_corrupted(mail: Postfix, rng: random.Random) -> None:
    """A mail that waits in the queue rots on the disk."""
    recipient = mail.outsider(rng, "example.com")
    mail.postmaster.treatment[recipient] = ["451 4.3.0 Error: queue too busy"] * 3
    queue_id = harm(mail, rng, "queue file corrupted", recipient)
    for _ in range(50):
        time.sleep(0.02)
        for path in (mail.spool / "deferred").glob(f"*/{queue_id}"):
            with path.open("r+b") as file:
                file.seek(120)
                file.write(rng.randbytes(400))
            return
    raise RuntimeError("the mail did not come to wait in the queue")


def queue_full(mail: Postfix, rng: random.Random) -> None:
    """The queue's file system fills up while mail comes in."""
    with mail.stage.gate.closed(patience=0.5):
        clients = [mail.dial(rng, inside=False) for _ in range(rng.randint(1, 3))]
        for client, _ in clients:
            client.mail(stranger(rng))
            client.rcpt(user(rng))
        with filled(mail.spool):
            for client, port in clients:
                code, _ = client.data(b"Subject: note\r\n\r\n" + b"All work and no play.\r\n" * 900)
                if code < 400:
                    raise RuntimeError("the queue took a mail though it is full")
                mail.stage.ledger.harm(port, "queue disk full")
                client.close()


def account_hijacked(mail: Postfix, rng: random.Random) -> None:
    """Somebody sends through a colleague's machine to a list of guessed addresses."""
    sender = user(rng)
    for _ in range(rng.randint(1, 3)):
        people = [mail.outsider(rng, rng.choice(("example.com", "example.net"))) for _ in range(rng.randint(15, 40))]
        for nobody in rng.sample(people, len(people) * 4 // 5):
            mail.postmaster.treatment[nobody] = ["550 5.1.1 User unknown in virtual mailbox table"]
        queue_id, _, port = mail.send(rng, sender, people)
        mail.stage.ledger.harm(queue_id or port, "hijacked account")
        mail.pause(rng, 30, 200)


FAULTS: dict[Act[Postfix], tuple[int, ...]] = {
    upstream_refused: (1, 2, 1), upstream_vanished: (4, 3, 4), upstream_stalled: (2, 2, 3), upstream_away: (1, 2, 1),
    certificate_changed: (0, 2, 1), mailboxes_full: (1, 0, 1), mailbox_locked_out: (2, 1, 1), policy_down: (1, 1, 1),
    tables_down: (0, 1, 1), sender_vanished: (5, 4, 5), mail_loop: (0, 0, 2), agent_killed: (2, 3, 2),
    queue_file_corrupted: (1, 2, 1), queue_full: (0, 1, 1), account_hijacked: (1, 0, 1),
}  # fmt: skip
