"""PostgreSQL under recording: a small shop's database."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from recorder.program import Program, certificate, run
from recorder.programs.postgres.wire import Account, Connection, ServerError

BIN = Path("/usr/lib/postgresql/15/bin")
SERVER = ("127.0.0.1", 15432)
SHOP, REPORTS, IMPORTS, DEVELOPER, OPERATOR = (
    Account(user, f"secret of {user}") for user in ("shop", "reports", "imports", "dev01", "postgres")
)
LOG_IN_RECEIVED = re.compile(r"\[\d+\] ([0-9a-f]+\.[0-9a-f]+) \S+ LOG:  connection received: host=\S+ port=(\d+)")
CLOCK_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
PREFIX = re.compile(r"(\[\d+\] )([0-9a-f]+\.([0-9a-f]+)) (\S+@\S+ .*)")

CONFIG = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{work}'
max_connections = 26
shared_buffers = 16MB
work_mem = 64kB
password_encryption = md5
ssl = on
ssl_cert_file = '{crt}'
ssl_key_file = '{key}'
ssl_min_protocol_version = 'TLSv1.2'
logging_collector = off
log_line_prefix = '[%p] %q%c %u@%d '
log_connections = on
log_disconnections = on
log_statement = mod
log_min_duration_statement = 8ms
log_lock_waits = on
log_temp_files = 0
log_checkpoints = on
deadlock_timeout = 60ms
checkpoint_timeout = 30s
checkpoint_completion_target = 0.5
max_wal_size = 64MB
autovacuum_naptime = 4s
log_autovacuum_min_duration = -1
fsync = off
jit = off
lc_messages = 'C'
"""

SCHEMA = """
CREATE TABLE customers (id serial PRIMARY KEY, email text UNIQUE NOT NULL, city text);
CREATE TABLE products (id int PRIMARY KEY, name text, price numeric, stock int CHECK (stock >= 0));
CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, product int REFERENCES products, n int);
CREATE TABLE payments (id serial PRIMARY KEY, order_id int, amount numeric, method text);
CREATE TABLE carts (customer int PRIMARY KEY, note text, changed int DEFAULT 0);
CREATE TABLE uploads (id serial PRIMARY KEY, content text) TABLESPACE media;
CREATE TABLE readings (day int, hour int, value int);
INSERT INTO customers (email, city) SELECT 'user' || n || '@example.org', 'city' || n % 40 FROM generate_series(1, 3000) n;
INSERT INTO products SELECT n, 'product ' || n, n % 90 + 9.5, 100000 FROM generate_series(1, 400) n;
INSERT INTO orders (customer, product, n) SELECT n % 3000 + 1, n % 400 + 1, n % 5 + 1 FROM generate_series(1, 30000) n;
INSERT INTO payments (order_id, amount, method) SELECT n, n % 300, 'card' FROM generate_series(1, 30000) n;
INSERT INTO carts (customer, note) SELECT n, 'empty' FROM generate_series(1, 3000) n;
ALTER TABLE uploads ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER ROLE shop SET statement_timeout = '500ms';
ALTER ROLE shop SET idle_in_transaction_session_timeout = '900ms';
ALTER ROLE shop SET lock_timeout = '350ms';
"""


class Postgres(Program):
    """A PostgreSQL server with accounts for a shop, its reports, its imports, a developer and an operator."""

    name = "postgres"
    address = SERVER
    packages = ("postgresql-15", "openssl")
    needs = (str(BIN / "postgres"), "openssl")

    @property
    def version(self) -> str:
        """The server's version."""
        return run(BIN / "postgres", "--version").strip()

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.stage.work / "postgresql"

    @property
    def media(self) -> Path:
        """The small file system of the uploads."""
        return self.stage.work / "media"

    def as_postgres(self, *command: str | Path) -> list[str]:
        """The command, run as the server's own user."""
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *map(str, command)]

    def prepare(self) -> list[str]:
        """A fresh cluster with the shop's tables."""
        work = self.stage.work
        work.chmod(0o755)
        self.data.mkdir()
        self.media.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", self.media)
        crt, key = certificate(work, "db")
        for path in (self.data, self.media, crt, key):
            shutil.chown(path, "postgres", "postgres")
        shutil.chown(work, "postgres", "postgres")
        key.chmod(0o600)
        run(*self.as_postgres(BIN / "initdb", "-D", self.data, "-k", "-A", "trust", "--locale=C", "-E", "UTF8", "-N"))
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.write(CONFIG.format(work=work, crt=crt, key=key, port=SERVER[1]))
        single = self.as_postgres(BIN / "postgres", "--single", "-D", self.data)
        roles = [f"CREATE ROLE {a.user} LOGIN PASSWORD '{a.password}'" for a in (SHOP, REPORTS, IMPORTS, DEVELOPER)]
        roles += [f"ALTER ROLE postgres PASSWORD '{OPERATOR.password}'", "CREATE DATABASE store"]
        roles += [f"CREATE TABLESPACE media LOCATION '{self.media}'"]
        statements = " ".join(SCHEMA.split("\n")).split(";")
        invoices = [
            f"CREATE TABLE invoices_{n} AS SELECT n AS id, repeat('line ', 20) AS text FROM generate_series(1, 800) n;"
            f"CREATE UNIQUE INDEX invoices_{n}_id ON invoices_{n} (id)"
            for n in range(1, 61)
        ]
        grants = ["GRANT ALL ON ALL TABLES IN SCHEMA public TO shop, reports, imports, dev01",
                  "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO shop, reports, imports, dev01",
                  "GRANT CREATE ON SCHEMA public TO dev01, imports"]  # fmt: skip
        self._single(single, "postgres", roles)
        self._single(single, "store", [*statements, *";".join(invoices).split(";"), *grants])
        rules = "hostnossl all all 127.0.0.0/8 md5\nhostssl all all 127.0.0.0/8 md5\n"
        (self.data / "pg_hba.conf").write_text("local all all peer\n" + rules, encoding="utf-8")
        return self.as_postgres(BIN / "postgres", "-D", self.data)

    def _single(self, command: list[str], database: str, statements: Sequence[str]) -> None:
        text = "\n".join(s.strip() for s in statements if s.strip()) + "\n"
        subprocess.run([*command, database], input=text.encode(), check=True, capture_output=True)

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """A fast shutdown."""
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        run("umount", "-l", self.media)

    def dial(self, rng: random.Random) -> Connection:
        """A connection from one of the application's hosts, not yet logged in."""
        connection = Connection(SERVER, (f"127.0.1.{rng.randint(1, 6)}", self.stage.ledger.port()))
        self.stage.ledger.opened(str(connection.client[1]))
        return connection

    def hang_up(self, connection: Connection) -> None:
        """End a conversation in good order."""
        connection.close()
        self.stage.ledger.closed(str(connection.client[1]))

    @contextmanager
    def session(self, rng: random.Random, account: Account, application: str, tls: bool = False) -> Iterator[Connection]:
        """A logged-in session; it says goodbye at the end, come what may."""
        connection = self.dial(rng)
        try:
            if tls:
                connection.encrypt(trusting())
            connection.log_in(account, application)
            yield connection
        finally:
            self.hang_up(connection)

    def operate(self, rng: random.Random, *statements: str) -> list[list[str]]:
        """Run an operator's statements. Returns the rows of the last one."""
        with self.session(rng, OPERATOR, "psql") as psql:
            return [psql.ask(statement) for statement in statements][-1]

    def kill(self, connection: Connection) -> None:
        """End the backend that serves this connection, without warning."""
        os.kill(connection.pid, signal.SIGKILL)

    def await_recovery(self, rng: random.Random) -> None:
        """Return when the server lets sessions in again; until then an operator tries in vain."""
        for _ in range(200):
            time.sleep(0.05)
            connection = self.dial(rng)
            try:
                connection.log_in(OPERATOR, "psql")
            except (ServerError, ConnectionError):
                self.stage.ledger.harm(connection.client[1], "server in recovery")
            else:
                return
            finally:
                self.hang_up(connection)

    def conversations(self, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The server's session id beside the client's port."""
        for line in lines:
            if found := LOG_IN_RECEIVED.search(line):
                yield found[1], found[2]

    def stamped(self, lines: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
        """`2026-03-02 10:20:30.400 UTC [pid] session user@database LEVEL:  text`; continuation lines stay bare.

        A session id is the second of its start and its process: the second becomes the recorded one, and so do other times.
        """

        def recorded(real: re.Match[str]) -> str:
            second = datetime.strptime(real[0], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp()
            return f"{self.stage.clock.at(second):%Y-%m-%d %H:%M:%S} UTC"

        renamed: dict[str, str] = {}
        for real, text in lines:
            if not text.startswith("["):
                yield real, text
                continue
            moment = self.stage.clock.at(real)
            if found := PREFIX.fullmatch(text):
                name = renamed.setdefault(found[2], f"{int(moment.timestamp()):x}.{found[3]}")
                prefix, rest = f"{found[1]}{name} ", found[4]
            else:
                prefix, rest = "", CLOCK_TIME.sub(recorded, text)
            yield real, f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC {prefix}{rest}"


def trusting() -> ssl.SSLContext:
    """A TLS client that asks no questions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
