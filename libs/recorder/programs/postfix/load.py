"""The load of a mail server on an ordinary day, other people's errors included."""

from __future__ import annotations

import random
from collections.abc import Sequence

from recorder.plan import Act
from recorder.programs.postfix.server import Postfix, letter, submit


def user(rng: random.Random) -> str:
    """Somebody of the house."""
    return f"user{rng.randint(1, 60):02d}@example.org"


def stranger(rng: random.Random) -> str:
    """Somebody from elsewhere."""
    return f"user{rng.randint(1000, 9999)}@{rng.choice(('example.com', 'example.net'))}"


def expect(code: int, *wanted: int) -> None:
    """Raises RuntimeError at another answer than the ones meant."""
    if code not in wanted:
        raise RuntimeError(f"the mail server answered {code}, not {wanted}")


def send(
    mail: Postfix, rng: random.Random, sender: str, people: Sequence[str], *, answer: int = 250,
    inside: bool = True, subject: str = "",
) -> None:  # fmt: skip
    """One mail that is to get this answer. If it is put off instead, it was caught in the after-pains of an outage."""
    _, code, port = mail.send(rng, sender, people, inside, subject)
    if 400 <= code < 500:
        mail.stage.ledger.harm(port, "caught in an outage")
    else:
        expect(code, answer)


def receive(mail: Postfix, rng: random.Random) -> None:
    """Mail from outside for one or two people of the house."""
    people = [user(rng) for _ in range(rng.choice((1, 1, 1, 2)))]
    send(mail, rng, stranger(rng), people, inside=False)


def receive_several(mail: Postfix, rng: random.Random) -> None:
    """Another server delivers several mails in one conversation."""
    client, _ = mail.dial(rng, inside=False)
    for _ in range(rng.randint(2, 4)):
        sender, person = stranger(rng), user(rng)
        expect(submit(client, sender, [person], letter(rng, sender, [person]))[1], 250)
        mail.pause(rng, 1, 10)
    client.quit()


def write_inside(mail: Postfix, rng: random.Random) -> None:
    """Colleagues write to each other or to a team's list."""
    whom = f"team{rng.randint(1, 9)}@example.org" if rng.random() < 0.3 else user(rng)
    send(mail, rng, user(rng), [whom])


def write_outside(mail: Postfix, rng: random.Random, *treatment: str) -> None:
    """Mail to somebody elsewhere, whose server treats it as given: accepts, or answers first otherwise."""
    domain = rng.choices(("example.com", "example.net", "bank.example"), (6, 4, 0 if treatment else 2))[0]
    recipient = mail.outsider(rng, domain)
    mail.postmaster.treatment[recipient] = list(treatment)
    send(mail, rng, user(rng), [recipient])


def meet_greylisting(mail: Postfix, rng: random.Random) -> None:
    """A server that takes mail only at the second attempt."""
    write_outside(mail, rng, "450 4.2.0 Greylisted, please try again")


def meet_busy_server(mail: Postfix, rng: random.Random) -> None:
    """A server that has no time, a full mailbox, or second thoughts, and takes the mail later."""
    answer = rng.choice(("451 4.3.0 Error: queue too busy", "452 4.2.2 Mailbox full", ".451 4.7.1 Error: try later"))
    write_outside(mail, rng, *[answer] * rng.randint(1, 2))


def mistype_address(mail: Postfix, rng: random.Random) -> None:
    """The recipient does not exist there; the sender gets the mail back."""
    write_outside(mail, rng, "550 5.1.1 User unknown in virtual mailbox table")


def meet_spam_filter(mail: Postfix, rng: random.Random) -> None:
    """The other side does not like the content."""
    write_outside(mail, rng, ".554 5.7.1 Error: message content rejected")


def ask_for_nobody(mail: Postfix, rng: random.Random) -> None:
    """Mail from outside for somebody who is not here."""
    recipient = f"user{rng.randint(61, 99)}@example.org"
    send(mail, rng, stranger(rng), [recipient], inside=False, answer=550)


def try_relay(mail: Postfix, rng: random.Random) -> None:
    """The usual noise: an outsider tries to send mail through this server."""
    send(mail, rng, stranger(rng), [stranger(rng)], inside=False, answer=554)


def send_program(mail: Postfix, rng: random.Random) -> None:
    """Mail with a forbidden attachment, which is refused as it should be."""
    send(mail, rng, stranger(rng), [user(rng)], inside=False, subject="invoice.exe", answer=550)


def greet_badly(mail: Postfix, rng: random.Random) -> None:
    """A client that does not know its own name."""
    client, _ = mail.dial(rng, inside=False)
    client.ehlo("-_-")
    client.mail(stranger(rng))
    expect(client.rcpt(user(rng))[0], 501)
    client.close()


def send_too_much(mail: Postfix, rng: random.Random) -> None:
    """A mail above the limit, seen only while it is sent."""
    client, _ = mail.dial(rng)
    sender, person = user(rng), user(rng)
    expect(submit(client, sender, [person], letter(rng, sender, [person]) + b"x" * 70 * 6000)[1], 552, 250)
    client.close()


def change_mind(mail: Postfix, rng: random.Random) -> None:
    """A client begins, resets, and sends after all; or just looks whether the server answers."""
    client, _ = mail.dial(rng)
    if rng.random() < 0.5:
        sender, person = user(rng), user(rng)
        client.mail(sender)
        client.rset()
        mail.pause(rng, 1, 20)
        expect(submit(client, sender, [person], letter(rng, sender, [person]))[1], 250)
    client.quit()


def send_newsletter(mail: Postfix, rng: random.Random) -> None:
    """One mail for many, nearly all of whom still exist."""
    people = [mail.outsider(rng, rng.choice(("example.com", "example.net"))) for _ in range(rng.randint(15, 40))]
    for gone in rng.sample(people, rng.randint(0, 2)):
        mail.postmaster.treatment[gone] = ["550 5.1.1 User unknown in virtual mailbox table"]
    send(mail, rng, "news@example.org", people)


ORDINARY: dict[Act[Postfix], float] = {
    receive: 34, receive_several: 5, write_inside: 18, write_outside: 22, meet_greylisting: 4, meet_busy_server: 2.5,
    mistype_address: 2, meet_spam_filter: 1, ask_for_nobody: 4, try_relay: 2, send_program: 1.5, greet_badly: 1,
    send_too_much: 1, change_mind: 2, send_newsletter: 0.6,
}  # fmt: skip
