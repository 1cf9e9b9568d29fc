"""Faults of the shop's database, each one caused for real."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from recorder.harm import filled, moved_away, reset_on_close, spoilt, starve
from recorder.plan import Act
from recorder.programs.postgres.load import order
from recorder.programs.postgres.server import IMPORTS, REPORTS, SHOP, Postgres, trusting
from recorder.programs.postgres.wire import Account, Connection, ServerError

TROUBLE = (ServerError, ConnectionError, TimeoutError)


@contextmanager
def victim(db: Postgres, rng: random.Random, account: Account, application: str, kind: str) -> Iterator[Connection]:
    """A session that is to be broken: it is written down as broken when its client meets the trouble."""
    connection = db.dial(rng)
    try:
        connection.log_in(account, application)
        yield connection
    except TROUBLE:
        db.stage.ledger.harm(connection.client[1], kind)
    finally:
        with suppress(OSError):
            db.hang_up(connection)


def turned_away(db: Postgres, rng: random.Random, account: Account, kind: str) -> None:
    """A session that is not let in."""
    connection = db.dial(rng)
    try:
        connection.log_in(account, "")
    except TROUBLE:
        db.stage.ledger.harm(connection.client[1], kind)
    finally:
        db.hang_up(connection)


def backend_terminated(db: Postgres, rng: random.Random) -> None:
    """An operator ends a checkout that was at work."""
    with victim(db, rng, SHOP, "web", "backend terminated") as web:
        if rng.random() < 0.5:
            order(db, rng, web)
        web.ask("BEGIN")
        web.ask(f"UPDATE carts SET note = 'paid' WHERE customer = {rng.randint(1, 3000)}")
        db.operate(rng, f"SELECT pg_terminate_backend({web.pid})")
        web.ask("COMMIT")


def backend_killed(db: Postgres, rng: random.Random) -> None:
    """A backend is killed; the server throws everybody out and recovers, and turns newcomers away meanwhile."""
    with ExitStack() as stack:
        stack.enter_context(db.stage.gate.closed())
        bystanders = [stack.enter_context(victim(db, rng, SHOP, "web", "server crash")) for _ in range(rng.randint(2, 4))]
        for web in bystanders:
            order(db, rng, web)
        bystanders[0].begin("SELECT pg_sleep(2)")
        time.sleep(0.05)
        db.stage.ledger.harm_open("server crash")
        db.kill(bystanders[0])
        for _ in range(rng.randint(2, 4)):
            turned_away(db, rng, SHOP, "server in recovery")
        db.await_recovery(rng)


def deadlock(db: Postgres, rng: random.Random) -> None:
    """Two carts, two sessions, opposite order; the server breaks one of them, the other one goes on."""
    low, high = sorted(rng.sample(range(1, 3000), 2))
    touch = "UPDATE carts SET changed = changed + 1 WHERE customer = {}"
    with victim(db, rng, SHOP, "sync", "deadlock") as one, victim(db, rng, SHOP, "sync", "deadlock") as two:
        for session, cart in ((one, low), (two, high)):
            session.ask("BEGIN")
            session.ask(touch.format(cart))
        one.begin(touch.format(high))
        time.sleep(0.02)
        two.begin(touch.format(low))
        for session in (one, two):
            try:
                session.finish()
                session.ask("COMMIT")
            except ServerError:
                db.stage.ledger.harm(session.client[1], "deadlock")
                session.ask("ROLLBACK")


def stuck_transaction(db: Postgres, rng: random.Random) -> None:
    """A session forgets its transaction; others wait for its row in vain, at last the server ends it."""
    product = rng.randint(1, 400)
    with victim(db, rng, SHOP, "web", "stuck transaction") as stuck:
        stuck.ask("BEGIN")
        stuck.ask(f"UPDATE products SET price = price + 1 WHERE id = {product}")

        def wait(seed: int) -> None:
            with victim(db, random.Random(seed), SHOP, "web", "lock timeout") as web:
                order(db, random.Random(seed), web, product)

        waiting = [threading.Thread(target=wait, args=(rng.getrandbits(32),)) for _ in range(rng.randint(1, 3))]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
        time.sleep(1.0)
        stuck.ask("COMMIT")


def slow_statement(db: Postgres, rng: random.Random) -> None:
    """The shop runs into a plan gone bad: a statement takes longer than it may."""
    with victim(db, rng, SHOP, "web", "statement timeout") as web:
        if rng.random() < 0.5:
            order(db, rng, web)
        web.ask("SELECT count(*) FROM orders a, orders b, products p WHERE a.n < b.n")


def disk_full(db: Postgres, rng: random.Random) -> None:
    """The file system of the uploads fills up; pictures cannot be kept."""
    with db.stage.gate.closed(patience=0.5), filled(db.media):
        for _ in range(rng.randint(2, 4)):
            with victim(db, rng, SHOP, "media", "disk full") as media:
                media.ask(f"INSERT INTO uploads (content) SELECT repeat('7', {rng.randint(200000, 900000)})")
            db.pause(rng, 10, 60)


def file_of(db: Postgres, rng: random.Random, relation: str) -> Path:
    """The file in which a table or index lies."""
    ((path,),) = db.operate(rng, f"SELECT pg_relation_filepath('{relation}')")
    return db.data / path


def cold_table(db: Postgres, rng: random.Random) -> int:
    """A table that nobody has read since the server began, so that its pages come from the disk."""
    cold: list[int] = db.__dict__.setdefault("cold_tables", list(range(21, 61)))
    return cold.pop(rng.randrange(len(cold)))


def page_corrupted(db: Postgres, rng: random.Random) -> None:
    """A page of a table has rotted on the disk; it is later put back from a copy."""
    table = cold_table(db, rng)
    with spoilt(file_of(db, rng, f"invoices_{table}"), rng.randbytes(512), 2048):
        read_broken(db, rng, table, "page corrupted")


def index_corrupted(db: Postgres, rng: random.Random) -> None:
    """The root of an index has turned to zeros; it is later put back from a copy."""
    table = cold_table(db, rng)
    with spoilt(file_of(db, rng, f"invoices_{table}_id"), b"\0" * 8192 * 3, 8192):
        read_broken(db, rng, table, "index corrupted")


def file_missing(db: Postgres, rng: random.Random) -> None:
    """A table's file is gone; it is later put back."""
    table = cold_table(db, rng)
    path = file_of(db, rng, f"invoices_{table}")
    with moved_away(path):
        read_broken(db, rng, table, "file missing")


def read_broken(db: Postgres, rng: random.Random, table: int, kind: str) -> None:
    """Sessions that need a table which cannot be read."""
    for _ in range(rng.randint(1, 3)):
        with victim(db, rng, REPORTS, "archive", kind) as reader:
            if kind != "index corrupted":
                reader.ask(f"SELECT count(text) FROM invoices_{table}")
            reader.ask("SET enable_seqscan = off")
            reader.ask(f"UPDATE invoices_{table} SET text = text || '.' WHERE id = {rng.randint(1, 99)}")
        db.pause(rng, 10, 60)


def connections_exhausted(db: Postgres, rng: random.Random) -> None:
    """An application leaks its sessions until nobody else gets one; an operator ends them."""
    with db.stage.gate.closed(patience=0.5), ExitStack() as stack:
        leaked: list[Connection] = []
        refused = 0
        while refused < 3 and len(leaked) < 40:
            connection = db.dial(rng)
            stack.callback(db.hang_up, connection)
            try:
                connection.log_in(SHOP, "web")
                leaked.append(connection)
            except TROUBLE:
                refused += 1
                db.stage.ledger.harm(connection.client[1], "connections exhausted")
        for connection in leaked:
            db.stage.ledger.harm(connection.client[1], "leaked session ended")
        db.operate(rng, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'shop'")


def password_guessing(db: Postgres, rng: random.Random) -> None:
    """Somebody tries names and passwords."""
    for name in rng.sample(("admin", "root", "test", "oracle", "backup", "sa", "deploy", "guest"), rng.randint(3, 6)):
        turned_away(db, rng, Account(name, str(rng.random()), "postgres"), "password guessing")


def import_cut_off(db: Postgres, rng: random.Random) -> None:
    """The importing machine vanishes in the middle of its file."""
    connection = db.dial(rng)
    connection.log_in(IMPORTS, "import")
    connection.ask("BEGIN")
    connection.ask("COPY readings FROM STDIN")
    for _ in range(rng.randint(20, 300)):
        connection.send(b"d", b"1\t2\t3\n")
    db.stage.ledger.harm(connection.client[1], "client vanished in transfer")
    if rng.random() < 0.5:
        reset_on_close(connection.socket)
    else:
        connection.socket.close()
    db.stage.ledger.closed(str(connection.client[1]))


def tls_broken(db: Postgres, rng: random.Random) -> None:
    """An application was updated to a TLS set-up that the server does not accept."""
    for _ in range(rng.randint(1, 3)):
        connection = db.dial(rng)
        context = trusting()
        if rng.random() < 0.5:
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
        else:
            context.verify_mode = ssl.CERT_REQUIRED
        try:
            connection.encrypt(context)
        except (ssl.SSLError, ConnectionError):
            db.stage.ledger.harm(connection.client[1], "TLS handshake failed")
        finally:
            connection.socket.close()
            db.stage.ledger.closed(str(connection.client[1]))


def out_of_memory(db: Postgres, rng: random.Random) -> None:
    """A backend gets no more memory from the operating system."""
    with victim(db, rng, REPORTS, "report", "out of memory") as reader:
        reader.ask("SET work_mem = '1GB'")
        starve(reader.pid, spare=2**20)
        reader.ask("SELECT array_agg(repeat(city, 200)) FROM customers, generate_series(1, 20)")


def failover_read_only(db: Postgres, rng: random.Random) -> None:
    """After a botched switch-over the database takes no writes for a while."""
    with db.stage.gate.closed():
        db.operate(rng, "ALTER DATABASE store SET default_transaction_read_only = on")
        for _ in range(rng.randint(2, 5)):
            with victim(db, rng, SHOP, "web", "read-only after switch-over") as web:
                order(db, rng, web)
        db.operate(rng, "SET default_transaction_read_only = off", "ALTER DATABASE store RESET ALL")


def bad_migration(db: Postgres, rng: random.Random) -> None:
    """A column was renamed before the shop's new release was out."""
    with db.stage.gate.closed(patience=0.5):
        db.operate(rng, "ALTER TABLE payments RENAME COLUMN method TO kind")
        for _ in range(rng.randint(2, 5)):
            with victim(db, rng, SHOP, "web", "column renamed too early") as web:
                order(db, rng, web)
        db.operate(rng, "ALTER TABLE payments RENAME COLUMN kind TO method")


def rights_lost(db: Postgres, rng: random.Random) -> None:
    """A clean-up of rights took one too many."""
    with db.stage.gate.closed(patience=0.5):
        db.operate(rng, "REVOKE ALL ON payments FROM shop")
        for _ in range(rng.randint(2, 4)):
            with victim(db, rng, SHOP, "web", "rights revoked") as web:
                order(db, rng, web)
        db.operate(rng, "GRANT ALL ON payments TO shop")


FAULTS: dict[Act[Postgres], tuple[int, ...]] = {
    backend_terminated: (4, 3, 4), backend_killed: (0, 1, 1), deadlock: (5, 4, 5), stuck_transaction: (2, 2, 1),
    slow_statement: (3, 4, 2), disk_full: (0, 1, 1), page_corrupted: (1, 0, 2), index_corrupted: (1, 1, 0),
    file_missing: (0, 1, 1), connections_exhausted: (0, 0, 1), password_guessing: (1, 1, 1), import_cut_off: (3, 3, 2),
    tls_broken: (1, 1, 2), out_of_memory: (0, 1, 0), failover_read_only: (0, 1, 0), bad_migration: (1, 0, 0),
    rights_lost: (0, 1, 1),
}  # fmt: skip
