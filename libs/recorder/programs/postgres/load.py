"""The load of a shop's database on an ordinary day, its small errors included."""

from __future__ import annotations

import random
import threading

from recorder.harm import reset_on_close
from recorder.plan import Act
from recorder.programs.postgres.server import DEVELOPER, IMPORTS, OPERATOR, REPORTS, SERVER, SHOP, Postgres
from recorder.programs.postgres.wire import Account, Connection, ServerError


def order(db: Postgres, rng: random.Random, web: Connection, product: int | None = None) -> None:
    """One checkout in one transaction."""
    customer, n = rng.randint(1, 3000), rng.randint(1, 4)
    web.ask("BEGIN")
    product = product or rng.randint(1, 400)
    web.ask(f"SELECT stock FROM products WHERE id = {product}")
    insert = f"INSERT INTO orders (customer, product, n) VALUES ({customer}, {product}, {n}) RETURNING id"
    ((number,),) = web.ask(insert)
    db.pause(rng, 0, 4)
    web.ask(f"UPDATE products SET stock = stock - {n} WHERE id = {product}")
    method = rng.choice(("card", "invoice", "voucher"))
    web.ask(f"INSERT INTO payments (order_id, amount, method) VALUES ({number}, {rng.randint(5, 400)}, '{method}')")
    web.ask("COMMIT")


def checkout(db: Postgres, rng: random.Random) -> None:
    """A customer orders once or more, and sometimes thinks better of it."""
    with db.session(rng, SHOP, "web", tls=rng.random() < 0.3) as web:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            db.pause(rng, 1, 20)
            order(db, rng, web)
        if rng.random() < 0.15:
            web.ask("BEGIN")
            web.ask(f"DELETE FROM carts WHERE customer = {rng.randint(1, 3000)}")
            web.ask("ROLLBACK")


def browse(db: Postgres, rng: random.Random) -> None:
    """A customer looks around and fills a cart."""
    with db.session(rng, SHOP, "web") as web:
        for _ in range(rng.randint(1, 4)):
            web.ask(f"SELECT name, price FROM products WHERE id = {rng.randint(1, 400)}")
            db.pause(rng, 2, 30)
        if rng.random() < 0.5:
            note = rng.choice(("gift", "express", "none"))
            web.ask(f"UPDATE carts SET note = '{note}', changed = changed + 1 WHERE customer = {rng.randint(1, 3000)}")


def signup(db: Postgres, rng: random.Random) -> None:
    """A new customer; an address that is taken is asked for again."""
    with db.session(rng, SHOP, "web", tls=True) as web:
        taken = rng.random() < 0.3
        address = f"user{rng.randint(1, 3000) if taken else rng.randint(10**4, 10**9)}@example.org"
        try:
            web.ask(f"INSERT INTO customers (email, city) VALUES ('{address}', 'city{rng.randint(1, 40)}')")
        except ServerError as error:
            if error.code != "23505":
                raise
            db.pause(rng, 5, 40)
            web.ask(f"INSERT INTO customers (email, city) VALUES ('user{rng.randint(10**4, 10**9)}@example.org', NULL)")


def sold_out(db: Postgres, rng: random.Random) -> None:
    """Somebody wants more than there is; the shop rolls back and tells so."""
    with db.session(rng, SHOP, "web") as web:
        web.ask("BEGIN")
        try:
            web.ask(f"UPDATE products SET stock = stock - 999999 WHERE id = {rng.randint(1, 400)}")
        except ServerError as error:
            if error.code != "23514":
                raise
        web.ask("ROLLBACK")
        if rng.random() < 0.5:
            order(db, rng, web)


def report(db: Postgres, rng: random.Random) -> None:
    """Sorting and counting, larger than memory; now and then a reader cancels."""
    with db.session(rng, REPORTS, "report", tls=rng.random() < 0.5) as reader:
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.2:
                impatient = threading.Timer(0.05, reader.cancel, (SERVER, ("127.0.1.7", db.stage.ledger.port())))
                impatient.start()
                try:
                    reader.ask("SELECT count(*) FROM orders a, orders b WHERE a.n < b.n")
                except ServerError as error:
                    if error.code != "57014":
                        raise
                impatient.join()
            elif rng.random() < 0.6:
                reader.ask(f"SELECT customer, product FROM orders ORDER BY n, customer, product LIMIT {rng.randint(5, 90)}")
            else:
                reader.ask("SELECT city, sum(n) FROM orders o JOIN customers c ON c.id = o.customer GROUP BY city")
            db.pause(rng, 5, 120)


def load_file(db: Postgres, rng: random.Random) -> None:
    """A file of meter readings; some files come with a spoilt line and are sent again without it."""
    with db.session(rng, IMPORTS, "import") as loader:
        rows = [f"{rng.randint(1, 366)}\t{rng.randint(0, 23)}\t{rng.randint(0, 999)}" for _ in range(rng.randint(50, 900))]
        if rng.random() < 0.25:
            try:
                loader.copy("COPY readings FROM STDIN", [*rows, "n/a\t0\t0"])
            except ServerError as error:
                if error.code != "22P02":
                    raise
        loader.copy("COPY readings FROM STDIN", rows)
        if rng.random() < 0.3:
            loader.ask(f"DELETE FROM readings WHERE day = {rng.randint(1, 366)}")


def store_upload(db: Postgres, rng: random.Random) -> None:
    """A picture is kept, an old one goes."""
    with db.session(rng, SHOP, "media") as media:
        media.ask(f"INSERT INTO uploads (content) SELECT repeat('{rng.randint(0, 9)}', {rng.randint(2000, 60000)})")
        media.ask("DELETE FROM uploads WHERE id < (SELECT max(id) - 60 FROM uploads)")


def develop(db: Postgres, rng: random.Random) -> None:
    """A developer at a prompt, who mistypes, forgets a rollback, and makes scratch tables."""
    slips = (
        "SELEC 1",
        "SELECT nam FROM products",
        "SELECT * FROM product",
        "SELECT 1 / 0",
        "SELECT max(text) FROM orders",
    )
    with db.session(rng, DEVELOPER, "psql", tls=True) as psql:
        for _ in range(rng.randint(1, 4)):
            try:
                if rng.random() < 0.4:
                    psql.ask(rng.choice(slips))
                elif rng.random() < 0.3:
                    table = f"scratch_{rng.randint(1, 10**6)}"
                    psql.ask(f"CREATE TEMP TABLE {table} AS SELECT id, price FROM products")
                    psql.ask(f"CREATE INDEX ON {table} (price)")
                elif rng.random() < 0.3:
                    psql.ask("BEGIN")
                    psql.ask("SELECT 1 FROM nowhere")
                else:
                    psql.ask("EXPLAIN SELECT * FROM orders WHERE product = 7")
            except ServerError:
                if rng.random() < 0.5:
                    psql.ask("ROLLBACK")
            db.pause(rng, 10, 200)


def mistype_password(db: Postgres, rng: random.Random) -> None:
    """A person's password goes wrong once, then right."""
    account = rng.choice((DEVELOPER, REPORTS))
    try:
        with db.session(rng, Account(account.user, "oops"), "psql"):
            pass
    except ServerError as error:
        if error.code != "28P01":
            raise
    db.pause(rng, 5, 30)
    with db.session(rng, account, "psql") as psql:
        psql.ask("SELECT now()")


def lose_laptop(db: Postgres, rng: random.Random) -> None:
    """Somebody closes the lid with a session open but idle."""
    connection = db.dial(rng)
    connection.log_in(DEVELOPER, "psql")
    connection.ask(f"SELECT * FROM customers WHERE id = {rng.randint(1, 3000)}")
    db.pause(rng, 60, 600)
    reset_on_close(connection.socket)
    db.stage.ledger.closed(str(connection.client[1]))


def probe(db: Postgres, rng: random.Random) -> None:
    """The load balancer looks whether the port answers."""
    db.hang_up(db.dial(rng))


def wait_for_lock(db: Postgres, rng: random.Random) -> None:
    """A price change holds a row for a moment; a checkout waits for it, not too long."""
    product = rng.randint(1, 400)
    with db.session(rng, OPERATOR, "pricing") as pricing, db.session(rng, SHOP, "web") as web:
        pricing.ask("BEGIN")
        pricing.ask(f"UPDATE products SET price = price * 1.01 WHERE id = {product}")
        commit = threading.Timer(rng.uniform(0.1, 0.25), pricing.begin, ("COMMIT",))
        commit.start()
        try:
            order(db, rng, web, product)
        finally:
            commit.join()
        pricing.finish()


def collide(db: Postgres, rng: random.Random) -> None:
    """Two serializable transactions touch one cart; the second one tries again."""
    change = f"UPDATE carts SET changed = changed + 1 WHERE customer = {rng.randint(1, 3000)}"
    with db.session(rng, SHOP, "sync") as first, db.session(rng, SHOP, "sync") as second:
        for session in (first, second):
            session.ask("BEGIN ISOLATION LEVEL REPEATABLE READ")
            session.ask("SELECT count(*) FROM carts WHERE customer = 1")
        first.ask(change)
        first.ask("COMMIT")
        try:
            second.ask(change)
        except ServerError as error:
            if error.code != "40001":
                raise
            second.ask("ROLLBACK")
            second.ask(change)
        else:
            second.ask("COMMIT")


def read_invoice(db: Postgres, rng: random.Random, table: int = 0) -> None:
    """An old invoice is looked up. The tables above 20 are left for the faults."""
    with db.session(rng, REPORTS, "archive") as reader:
        number = table or rng.randint(1, 20)
        reader.ask(f"SELECT count(text) FROM invoices_{number}")
        reader.ask(f"UPDATE invoices_{number} SET text = text || '.' WHERE id = {rng.randint(1, 99)}")


ORDINARY: dict[Act[Postgres], float] = {
    checkout: 34, browse: 18, signup: 9, sold_out: 4, report: 7, load_file: 5, store_upload: 5, develop: 5,
    mistype_password: 1.2, lose_laptop: 1.5, probe: 4, wait_for_lock: 2, collide: 2, read_invoice: 5,
}  # fmt: skip
