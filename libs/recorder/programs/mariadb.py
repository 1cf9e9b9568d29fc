"""MariaDB: the database of a ticket office, seen by its audit plugin; a session is a client's connection."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from recorder.harm import filled, moved_away, reset_on_close
from recorder.plan import Act, Entry
from recorder.program import MissedError, Program, Stage, demand, run

TICKETS, BATCH, REPORTS, ROOT = "tickets", "batch", "reports", "root"
CONFIG = """
[mysqld]
datadir = {work}/data
socket = {work}/socket
pid_file = {work}/pid
tmpdir = {work}/tmp
tmp_memory_table_size = 16384
port = {port}
bind_address = 127.0.0.1
user = mysql
skip_name_resolve
skip_log_bin
log_warnings = 9
innodb_buffer_pool_size = 32M
innodb_log_file_size = 16M
innodb_lock_wait_timeout = 1
innodb_flush_log_at_trx_commit = 0
key_buffer_size = 1M
aria_pagecache_buffer_size = 1M
performance_schema = OFF
max_connections = 80
wait_timeout = 3
plugin_load_add = server_audit
server_audit_logging = ON
server_audit_output_type = syslog
server_audit_events = CONNECT,QUERY
"""
SCHEMA = """
CREATE DATABASE office;
USE office;
CREATE TABLE shows (id INT PRIMARY KEY, title VARCHAR(60), free INT);
CREATE TABLE bookings (id INT AUTO_INCREMENT PRIMARY KEY, show_id INT, seat INT, customer INT, UNIQUE (show_id, seat));
CREATE TABLE receipts (booking INT PRIMARY KEY, made TIMESTAMP);
CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(60), visits INT);
CREATE TABLE posters (id INT AUTO_INCREMENT PRIMARY KEY, picture LONGBLOB);
INSERT INTO shows SELECT seq, CONCAT('show ', seq), 100000 FROM seq_1_to_200;
INSERT INTO customers SELECT seq, CONCAT('name ', seq), 0 FROM seq_1_to_2000;
CREATE USER tickets@'127.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('secret of tickets');
CREATE USER reports@'127.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('secret of reports');
CREATE USER batch@'127.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('secret of batch') WITH MAX_USER_CONNECTIONS 5;
CREATE USER former@'127.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('secret of former') ACCOUNT LOCK;
CREATE USER root@'127.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('secret of root');
GRANT ALL ON *.* TO root@'127.%' WITH GRANT OPTION;
CREATE DEFINER = root@'127.%' {trigger};
GRANT SELECT, INSERT, UPDATE, DELETE ON office.* TO tickets@'127.%', batch@'127.%';
GRANT SELECT, CREATE TEMPORARY TABLES ON office.* TO reports@'127.%';
SET GLOBAL wait_timeout = 3;
"""
TRIGGER = "TRIGGER receipt AFTER INSERT ON bookings FOR EACH ROW INSERT INTO receipts VALUES (NEW.id, NOW())"
N_ARCHIVES = 40


class SqlError(MissedError):
    """The server answered with an error; `code` is MariaDB's number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


class Connection:
    """One client's connection; `id` is what the server calls it."""

    def __init__(self, server: tuple[str, int], source: tuple[str, int]) -> None:
        self.socket = socket.create_connection(server, timeout=8, source_address=source)
        greeting = self.packet()
        end = greeting.index(b"\0", 1)
        self.id = struct.unpack("<I", greeting[end + 1 : end + 5])[0]
        self.salt = greeting[end + 5 : end + 13] + greeting[end + 32 : end + 44]

    def packet(self) -> bytes:
        """Return the next packet. Raises EOFError and SqlError."""

        def exactly(n: int) -> bytes:
            got = b""
            while len(got) < n:
                piece = self.socket.recv(n - len(got))
                if not piece:
                    raise EOFError
                got += piece
            return got

        head = exactly(4)
        self.n = head[3]
        body = exactly(head[0] | head[1] << 8 | head[2] << 16)
        if body[:1] == b"\xff":
            raise SqlError(struct.unpack("<H", body[1:3])[0], body[3:].decode("utf-8", "replace"))
        return body

    def send(self, body: bytes, number: int = 0) -> None:
        """Send a packet."""
        self.socket.sendall(struct.pack("<I", len(body))[:3] + bytes([number]) + body)

    def log_in(self, user: str, password: str = "") -> None:
        """Authenticate and choose the database. Raises SqlError."""
        one = hashlib.sha1((password or f"secret of {user}").encode()).digest()
        two = hashlib.sha1(self.salt + hashlib.sha1(one).digest()).digest()
        proof = bytes(a ^ b for a, b in zip(one, two, strict=True))
        head = struct.pack("<IIB", 0x0008A209 | 0x8, 1 << 24, 33) + bytes(23)
        self.send(head + user.encode() + b"\0" + bytes([20]) + proof + b"office\0mysql_native_password\0", 1)
        self.packet()

    def begin(self, sql: str) -> None:
        """Send a statement."""
        self.send(b"\3" + sql.encode())

    def finish(self) -> list[bytes]:
        """Return the rows of the statement. Raises SqlError."""
        first = self.packet()
        if first[:1] == b"\0":
            return []
        while self.packet()[:1] != b"\xfe":
            pass
        rows = []
        while not ((row := self.packet())[:1] == b"\xfe" and len(row) < 9):
            rows.append(row)
        return rows

    def ask(self, sql: str) -> list[bytes]:
        """Send a statement and return its rows."""
        self.begin(sql)
        return self.finish()

    def close(self) -> None:
        """Say goodbye."""
        with suppress(OSError):
            self.send(b"\1")
        self.socket.close()


class MariaDb(Program):
    """A MariaDB server with the audit plugin, which writes to syslog."""

    name = "mariadb"
    packages = ("mariadb-server",)
    needs = ("mariadbd", "mariadb-install-db")
    address = ("127.0.0.1", 13306)
    host = "db"
    stamp = "%b %e %H:%M:%S db "
    own_time = re.compile(r"^(?:\d{4}-\d\d-\d\d +\d+:\d\d:\d\d )?(?=\d+ \[)")
    uses_syslog = True
    introduces = (re.compile(r"auditing: +[^,]*,[^,]*,[^,]*,(?P<session>(?P<conversation>\d+)),\d+,(?:FAILED_)?CONNECT,"),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.cold = list(range(1, N_ARCHIVES + 1))

    def stamped(self, lines: list[tuple[float, str]]) -> Iterator[tuple[float, str]]:  # type: ignore[override]
        """Name the program in the lines of its own error log, and leave out what it writes before it listens."""
        begun = False
        for real, text in lines:
            begun = begun or "ready for connections" in text
            if begun and (text.startswith("mysql-server_auditing") or re.match(r"\d{4}-\d\d-\d\d +\d+:\d\d:\d\d \d+ \[", text)):
                named = text if text.startswith("mysql") else "mariadbd: " + re.sub(r"^\S+ +\S+ ", "", text)
                yield real, self.line(self.stage.clock.at(real), named)

    def prepare(self) -> list[str]:
        """Make a fresh database."""
        work = self.stage.work
        (work / "data").mkdir()
        (work / "tmp").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", work / "tmp")
        for folder in (work, work / "data", work / "tmp"):
            run("chown", "mysql:mysql", folder)
        (work / "my.cnf").write_text(CONFIG.format(work=work, port=self.address[1]), encoding="ascii")
        quick = "--auth-root-authentication-method=normal"
        run("mariadb-install-db", f"--defaults-file={work}/my.cnf", "--user=mysql", "--skip-test-db", quick)
        archives = "".join(
            f"CREATE TABLE archive_{n} (id INT PRIMARY KEY, note VARCHAR(99)) ENGINE=MyISAM;\n"
            f"INSERT INTO archive_{n} SELECT seq, REPEAT('note ', 10) FROM seq_1_to_500;\n"
            for n in range(1, N_ARCHIVES + 1)
        )
        (work / "init.sql").write_text(SCHEMA.format(work=work, trigger=TRIGGER) + archives, encoding="ascii")
        return ["mariadbd", f"--defaults-file={work}/my.cnf", f"--init-file={work}/init.sql"]

    def await_ready(self) -> None:
        """Return when the office's accounts may log in."""
        for _ in range(200):
            time.sleep(0.2)
            with suppress(OSError, EOFError, MissedError):
                connection = Connection(self.address, ("127.0.1.1", self.stage.ledger.port()))
                connection.log_in(ROOT)
                connection.close()
                return
        raise TimeoutError("no login")

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """End it and its small file system."""
        super().shut_down(process)
        run("umount", "-l", self.stage.work / "tmp")

    @contextmanager
    def session(self, rng: random.Random, user: str = TICKETS, kind: str | None = None, password: str = "") -> Iterator[Connection]:
        """A connection, which says goodbye at the end; to be logged in by its user, except where it is to be broken."""
        connection = Connection(self.address, (f"127.0.1.{rng.randint(1, 9)}", self.stage.ledger.port()))
        try:
            with self.known_as(str(connection.id), kind):
                if kind is None:
                    connection.log_in(user, password)
                yield connection
        finally:
            connection.close()

    def operate(self, rng: random.Random, *statements: str) -> None:
        """Let an operator run statements."""
        with self.session(rng, ROOT) as root:
            for statement in statements:
                root.ask(statement)


def expect(code: int, connection: Connection, sql: str) -> None:
    """Run a statement that fails in this way in daily life."""
    try:
        connection.ask(sql)
    except SqlError as error:
        if error.code != code:
            raise


def book(db: MariaDb, rng: random.Random, client: Connection, patience: int = 0) -> None:
    """Book a seat in one transaction and show the receipt."""
    show, seat = rng.randint(1, 200), rng.randint(1, 10**7)
    client.ask("BEGIN")
    client.ask(f"SELECT free FROM shows WHERE id = {show}")
    client.ask(f"UPDATE shows SET free = free - 1 WHERE id = {show}")
    client.ask(f"INSERT INTO bookings (show_id, seat, customer) VALUES ({show}, {seat}, {rng.randint(1, 2000)})")
    client.ask("COMMIT")
    db.pause(rng, 1, 9)
    receipt = "SELECT made FROM receipts WHERE booking = LAST_INSERT_ID()"
    while not (found := client.ask(receipt)) and patience:
        patience -= 1
        db.pause(rng, 5, 30)
    demand(bool(found), "a receipt")


def sell(db: MariaDb, rng: random.Random) -> None:
    """Somebody buys tickets; a seat may be taken already."""
    with db.session(rng) as client:
        for _ in range(rng.randint(1, 2)):
            client.ask(f"SELECT title, free FROM shows WHERE id = {rng.randint(1, 200)}")
            book(db, rng, client)
            if rng.random() < 0.1:
                client.ask("BEGIN")
                book_again(client, rng)


def book_again(client: Connection, rng: random.Random) -> None:
    """Try a seat that is taken, and give up."""
    show, seat = rng.randint(1, 200), rng.randint(1, 10**7)
    client.ask(f"INSERT INTO bookings (show_id, seat, customer) VALUES ({show}, {seat}, 1)")
    expect(1062, client, f"INSERT INTO bookings (show_id, seat, customer) VALUES ({show}, {seat}, 2)")
    client.ask("ROLLBACK")


def browse(db: MariaDb, rng: random.Random) -> None:
    """Somebody looks at shows."""
    with db.session(rng) as client:
        for _ in range(rng.randint(1, 4)):
            client.ask(f"SELECT title, free FROM shows WHERE id = {rng.randint(1, 200)}")
            db.pause(rng, 2, 30)


def visit(db: MariaDb, rng: random.Random) -> None:
    """A customer comes to the door."""
    with db.session(rng, BATCH) as client:
        client.ask(f"UPDATE customers SET visits = visits + 1 WHERE id = {rng.randint(1, 2000)}")


def keep_poster(db: MariaDb, rng: random.Random) -> None:
    """A poster is kept, an old one goes."""
    with db.session(rng) as client:
        client.ask(f"INSERT INTO posters (picture) VALUES (REPEAT('x', {rng.randint(1000, 9000)}))")
        client.ask("DELETE FROM posters ORDER BY id LIMIT 1")


def report(db: MariaDb, rng: random.Random) -> None:
    """Somebody counts, and may mistype."""
    with db.session(rng, REPORTS) as client:
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.25:
                expect(
                    *rng.choice(((1064, client, "SELEC 1"), (1146, client, "SELECT * FROM shwos"), (1054, client, "SELECT fre FROM shows")))
                )
            else:
                client.ask(f"SELECT show_id, COUNT(*) FROM bookings WHERE show_id < {rng.randint(5, 200)} GROUP BY show_id")
            db.pause(rng, 5, 60)


def read_archive(db: MariaDb, rng: random.Random) -> None:
    """Somebody reads an old year; those above 8 are left for the faults."""
    with db.session(rng, REPORTS) as client:
        client.ask(f"SELECT COUNT(note) FROM archive_{rng.randint(1, 8)}")


def mistype(db: MariaDb, rng: random.Random) -> None:
    """Somebody mistypes a password once."""
    with suppress(SqlError):
        connection = Connection(db.address, (f"127.0.1.{rng.randint(1, 9)}", db.stage.ledger.port()))
        try:
            connection.log_in(REPORTS, "oops")
        finally:
            connection.close()
    report(db, rng)


def close_lid(db: MariaDb, rng: random.Random) -> None:
    """Somebody closes the lid over an idle session."""
    with db.session(rng, REPORTS) as client:
        client.ask("SELECT COUNT(*) FROM shows")
        db.pause(rng, 60, 300)
        reset_on_close(client.socket)


def victims(db: MariaDb, rng: random.Random, kind: str, work: Callable[[Connection], object], user: str = TICKETS, most: int = 3) -> None:
    """Let clients come one after the other and do something that is to fail."""
    for _ in range(rng.randint(1, most)):
        with db.session(rng, user, kind) as client:
            client.log_in(user)
            work(client)
        db.pause(rng, 5, 60)


def deadlock(db: MariaDb, rng: random.Random) -> None:
    """Two sessions want two rows in opposite order; one of them is broken."""
    low, high = sorted(rng.sample(range(1, 2000), 2))
    touch = "UPDATE customers SET visits = visits + 1 WHERE id = {}"
    with db.session(rng) as one, db.session(rng) as two:
        for client, row in ((one, low), (two, high)):
            client.ask("BEGIN")
            client.ask(touch.format(row))
        one.begin(touch.format(high))
        time.sleep(0.05)
        two.begin(touch.format(low))
        for client in (two, one):
            try:
                client.finish()
                client.ask("COMMIT")
            except SqlError:
                db.stage.ledger.harm(client.id, "deadlock")
                client.ask("ROLLBACK")


def row_blocked(db: MariaDb, rng: random.Random) -> None:
    """A batch forgets its transaction; others wait for its row in vain."""
    row = rng.randint(1, 200)
    with db.session(rng, BATCH) as batch:
        batch.ask("BEGIN")
        batch.ask(f"UPDATE shows SET free = free WHERE id = {row}")
        db.stage.ledger.harm(batch.id, "transaction left open")
        with db.session(rng, TICKETS, "lock wait timeout") as client:
            client.log_in(TICKETS)
            client.ask("BEGIN")
            client.ask(f"UPDATE shows SET free = free - 1 WHERE id = {row}")


def left_open(db: MariaDb, rng: random.Random) -> None:
    """A checkout hangs in its transaction until the server ends it."""
    with db.session(rng, TICKETS, "transaction left open") as client:
        client.log_in(TICKETS)
        client.ask("BEGIN")
        client.ask(f"SELECT free FROM shows WHERE id = {rng.randint(1, 200)}")
        client.packet()


def killed(db: MariaDb, rng: random.Random) -> None:
    """An operator ends the wrong connection."""
    with db.session(rng, TICKETS, "connection killed") as client:
        client.log_in(TICKETS)
        client.ask("BEGIN")
        client.ask(f"UPDATE shows SET free = free - 1 WHERE id = {rng.randint(1, 200)}")
        db.operate(rng, f"KILL {client.id}")
        client.ask("COMMIT")


def too_slow(db: MariaDb, rng: random.Random) -> None:
    """A report has lost its index and takes longer than it may."""

    def count(client: Connection) -> None:
        client.ask("SET max_statement_time = 0.2")
        client.ask("SELECT COUNT(*) FROM customers a, customers b, shows c WHERE a.visits <= b.visits")

    victims(db, rng, "statement timeout", count, REPORTS, 2)


def disk_full(db: MariaDb, rng: random.Random) -> None:
    """No room for the temporary tables of reports."""
    with db.stage.gate.closed(patience=0.5), filled(db.stage.work / "tmp"):
        victims(db, rng, "disk full", lambda client: client.ask("SELECT SQL_BUFFER_RESULT id, name, visits FROM customers"), REPORTS)


def archive_broken(suffix: str, rotten: bool, kind: str) -> Act[MariaDb]:
    """Return a fault: a file of an old year is damaged or gone."""

    def act(db: MariaDb, rng: random.Random) -> None:
        n = db.cold.pop()
        db.operate(rng, f"FLUSH TABLE archive_{n}")
        path = db.stage.work / "data" / "office" / f"archive_{n}.{suffix}"
        if rotten:
            with path.open("r+b") as file:
                file.write(rng.randbytes(200))
            read_in_vain(db, rng, kind, n)
        else:
            with moved_away(path):
                read_in_vain(db, rng, kind, n)

    act.__name__ = kind.replace(" ", "_")
    return act


def read_in_vain(db: MariaDb, rng: random.Random, kind: str, n: int) -> None:
    """Let sessions read an old year that cannot be read."""
    victims(db, rng, kind, lambda client: client.ask(f"SELECT COUNT(note) FROM archive_{n}"), REPORTS, 2)


def read_only(db: MariaDb, rng: random.Random) -> None:
    """After maintenance the server takes no writes."""
    with db.stage.gate.closed(patience=0.5):
        db.operate(rng, "SET GLOBAL read_only = ON")
        victims(db, rng, "read-only after maintenance", lambda client: book(db, rng, client))
        db.operate(rng, "SET GLOBAL read_only = OFF")


def rights_lost(db: MariaDb, rng: random.Random) -> None:
    """A clean-up of rights took one too many."""
    with db.stage.gate.closed(patience=0.5):
        db.operate(rng, "REVOKE INSERT ON office.* FROM tickets@'127.%'")
        victims(db, rng, "rights revoked", lambda client: book(db, rng, client))
        db.operate(rng, "GRANT INSERT ON office.* TO tickets@'127.%'")


def trigger_lost(db: MariaDb, rng: random.Random) -> None:
    """An update lost the trigger that writes receipts; the shop looks again and again."""
    with db.stage.gate.closed(patience=0.5):
        db.operate(rng, "DROP TRIGGER receipt")
        victims(db, rng, "receipts missing", lambda client: book(db, rng, client, patience=3))
        db.operate(rng, f"CREATE {TRIGGER}")


def column_renamed(db: MariaDb, rng: random.Random) -> None:
    """A column was renamed before the shop's new release was out."""
    with db.stage.gate.closed(patience=0.5):
        db.operate(rng, "ALTER TABLE bookings RENAME COLUMN customer TO client")
        victims(db, rng, "column renamed too early", lambda client: book(db, rng, client))
        db.operate(rng, "ALTER TABLE bookings RENAME COLUMN client TO customer")


def guess_passwords(db: MariaDb, rng: random.Random) -> None:
    """An intruder tries names and passwords."""
    for _ in range(rng.randint(2, 4)):
        with db.session(rng, kind="password guessing") as client:
            client.log_in(rng.choice(("root", "admin", "mysql", "test", TICKETS)), f"summer{rng.randint(1, 99)}")


def account_locked(db: MariaDb, rng: random.Random) -> None:
    """A program still uses an account that is locked."""
    for _ in range(rng.randint(1, 2)):
        with db.session(rng, kind="account locked") as client:
            client.log_in("former")


def too_many(db: MariaDb, rng: random.Random) -> None:
    """A batch opens more connections than it may."""
    with db.stage.gate.closed(patience=0.8):
        held = []
        for _ in range(5):
            connection = Connection(db.address, ("127.0.1.9", db.stage.ledger.port()))
            with suppress(SqlError):
                connection.log_in(BATCH)
            held.append(connection)
        for _ in range(rng.randint(1, 3)):
            with db.session(rng, kind="connections over the limit") as client:
                client.log_in(BATCH)
        for connection in held:
            connection.close()


def cut_off(db: MariaDb, rng: random.Random) -> None:
    """A shop's machine loses its network in the middle of a booking."""
    for _ in range(rng.randint(1, 2)):
        with db.session(rng) as client:
            db.stage.ledger.harm(client.id, "client vanished in a transaction")
            client.ask("BEGIN")
            client.ask(f"UPDATE shows SET free = free - 1 WHERE id = {rng.randint(1, 200)}")
            reset_on_close(client.socket)


ENTRY = Entry(
    MariaDb,
    {sell: 34, browse: 22, visit: 14, keep_poster: 6, report: 10, read_archive: 6, mistype: 2, close_lid: 2},
    {
        deadlock: (2, 1, 2), row_blocked: (1, 1, 1), left_open: (1, 1, 1), killed: (1, 2, 1), too_slow: (1, 1, 1), disk_full: (0, 1, 1),
        archive_broken("MYI", True, "index corrupted"): (1, 1, 0), archive_broken("MYD", False, "file missing"): (1, 0, 1),
        read_only: (0, 1, 0), rights_lost: (1, 0, 1), trigger_lost: (1, 1, 1), column_renamed: (0, 1, 0), guess_passwords: (1, 0, 1),
        account_locked: (0, 1, 1), too_many: (1, 0, 1), cut_off: (2, 1, 2),
    },
    per_day=560,
    speed=800,
    held_out=True,
)  # fmt: skip
