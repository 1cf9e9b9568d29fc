"""Postfix under recording: an organisation's mail server, with the mail servers around it."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import smtplib
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from recorder.program import Program, Stage, certificate, run
from recorder.programs.postfix.world import Postmaster, lookup_table, policy
from recorder.sinks import Service, Talk

SERVER = ("127.0.0.1", 12525)
TABLES, POLICY = ("127.0.0.1", 12530), ("127.0.0.1", 12531)
PARTNER, PROVIDER, BANK = ("127.0.0.1", 12601), ("127.0.0.1", 12602), ("127.0.0.1", 12603)
ROUTES = {"example.com": PARTNER, "example.net": PROVIDER, "bank.example": BANK}
MAIL_UID = 5000
ID = r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10}z[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]+"
CLIENT = re.compile(rf"\]: ({ID}): client=\S*\[([\d.]+)\]:(\d+)")
ITSELF = "127.0.0.1"
ANY_ID = re.compile(rf"\]: (?:warning: )?({ID}):")
CLOCK_TIME = re.compile(r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d\b")
SYSLOG = re.compile(r"\w{3} +\d+ [\d:]+ \S+ (postfix.*)")

MAIN = """
compatibility_level = 3.6
queue_directory = {work}/spool
data_directory = {work}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
shlib_directory = /usr/lib/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout
myhostname = mail.example.org
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
virtual_alias_domains =
mynetworks = 127.0.2.0/24
notify_classes =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
enable_long_queue_ids = yes
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_client_port_logging = yes
smtpd_delay_open_until_valid_rcpt = no
smtpd_sender_restrictions = reject_non_fqdn_sender
smtpd_helo_required = yes
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = reject_invalid_helo_hostname, check_policy_service inet:{policy}
smtpd_policy_service_try_limit = 1
smtpd_policy_service_retry_delay = 1s
smtpd_policy_service_default_action = 451 4.3.5 Server configuration problem
smtpd_tls_security_level = may
smtpd_tls_cert_file = {work}/mail.crt
smtpd_tls_key_file = {work}/mail.key
smtpd_timeout = 20s
message_size_limit = 300000
virtual_mailbox_domains = example.org
virtual_mailbox_base = {work}/mail
virtual_mailbox_maps = hash:{work}/etc/users
virtual_alias_maps = socketmap:inet:{tables}:aliases
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
transport_maps = socketmap:inet:{tables}:routes
header_checks = regexp:{work}/etc/header_checks
smtp_tls_policy_maps = inline:{{ {{ [{bank}]:{bank_port} = fingerprint match={fingerprint} }} }}
smtp_tls_fingerprint_digest = sha256
smtp_tls_loglevel = 1
smtp_connect_timeout = 2s
smtp_data_done_timeout = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 6s
queue_run_delay = 2s
transport_retry_time = 2s
service_throttle_time = 1s
maximal_queue_lifetime = 30s
bounce_queue_lifetime = 30s
"""

MASTER = """
{port}    inet  n       -       n       -       -       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


class Postfix(Program):
    """A Postfix server for example.org; example.com, example.net and bank.example are played by the recorder."""

    name = "postfix"
    address = SERVER
    packages = ("postfix", "openssl")
    needs = ("/usr/sbin/postfix", "/usr/sbin/postmap", "openssl")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.routes = dict(ROUTES)
        self.postmaster = Postmaster()
        self.tables = Service(TABLES, lookup_table(self.find))
        self.policy = Service(POLICY, policy)
        self.partner = Service(PARTNER, self.postmaster.receive)
        self.provider = Service(PROVIDER, self.postmaster.receive)
        self.bank = Service(BANK, self.receive_for_bank)
        self._recipients: list[int] = []

    @property
    def version(self) -> str:
        """Return the version of the package."""
        return "Postfix " + run("dpkg-query", "-W", "-f", "${Version}", "postfix").strip()

    @property
    def mail(self) -> Path:
        """The small file system of the mailboxes."""
        return self.stage.work / "mail"

    @property
    def spool(self) -> Path:
        """The small file system of the queue."""
        return self.stage.work / "spool"

    def receive_for_bank(self, talk: Talk) -> None:
        """The bank wants TLS."""
        self.postmaster.receive(talk, with_tls=True)

    def find(self, table: str, key: str) -> str | None:
        """Routes by domain, mailing lists by address."""
        name, _, domain = key.rpartition("@")
        if table == "routes" and domain in self.routes:
            return "smtp:[{}]:{}".format(*self.routes[domain])
        if table == "aliases" and name.startswith("team"):
            first = int(name.removeprefix("team"))
            return ",".join(f"user{(first * 7 + n) % 60 + 1:02d}@example.org" for n in range(4 + first % 3))
        return None

    def prepare(self) -> list[str]:
        """A fresh instance with its own queue, mailboxes and tables."""
        work, etc = self.stage.work, self.stage.work / "etc"
        for folder in (etc, self.mail, self.spool, work / "data"):
            folder.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs", self.mail)
        run("mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", self.spool)
        shutil.chown(work / "data", "postfix")
        os.chown(self.mail, MAIL_UID, MAIL_UID)
        certificate(work, "mail")
        self.postmaster.use_certificate(*certificate(work, "bank"))
        fingerprint = run("openssl", "x509", "-in", work / "bank.crt", "-noout", "-fingerprint", "-sha256")
        (etc / "users").write_text("".join(f"user{n:02d}@example.org user{n:02d}/\n" for n in range(1, 61)))
        (etc / "header_checks").write_text("/^Subject: .*invoice\\.exe/ REJECT 5.7.1 attachment not accepted\n")
        main = MAIN.format(work=work, policy="{}:{}".format(*POLICY), tables="{}:{}".format(*TABLES), uid=MAIL_UID,
                           bank=BANK[0], bank_port=BANK[1], fingerprint=fingerprint.strip().partition("=")[2])  # fmt: skip
        (etc / "main.cf").write_text(main, encoding="utf-8")
        (etc / "master.cf").write_text(MASTER.format(port=SERVER[1]), encoding="utf-8")
        run("/usr/sbin/postmap", "-c", etc, f"hash:{etc}/users")
        for service in (self.tables, self.policy, self.partner, self.provider, self.bank):
            service.up()
        return ["/usr/sbin/postfix", "-c", str(etc), "start-fg"]

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the server, then the world around it."""
        run("/usr/sbin/postfix", "-c", self.stage.work / "etc", "stop", check=False)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
        for service in (self.tables, self.policy, self.partner, self.provider, self.bank):
            service.down()
        for mount in (self.mail, self.spool):
            run("umount", "-l", mount)

    def dial(self, rng: random.Random, inside: bool = True) -> tuple[smtplib.SMTP, int]:
        """A connection from inside or outside, greeted, and its port."""
        port = self.stage.ledger.port()
        host = f"127.0.2.{rng.randint(1, 20)}" if inside else f"127.0.3.{rng.randint(1, 250)}"
        client = smtplib.SMTP(*SERVER, local_hostname="localhost", timeout=20, source_address=(host, port))
        client.ehlo(f"host{rng.randint(1, 99)}.{'example.org' if inside else 'example.net'}")
        return client, port

    def send(
        self, rng: random.Random, sender: str, recipients: Sequence[str], inside: bool = True, subject: str = ""
    ) -> tuple[str, int, int]:
        """One mail in a conversation of its own: (queue id or "", last answer, client port)."""
        client, port = self.dial(rng, inside)
        try:
            if rng.random() < 0.3:
                client.starttls()
                client.ehlo(f"host{rng.randint(1, 99)}.example.org")
            return *submit(client, sender, recipients, letter(rng, sender, recipients, subject)), port
        finally:
            client.close()

    def outsider(self, rng: random.Random, domain: str) -> str:
        """A recipient elsewhere to whom no mail is under way."""
        if not self._recipients:
            self._recipients = rng.sample(range(1000, 10000), 9000)
        return f"user{self._recipients.pop()}@{domain}"

    def conversations(self, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The queue id beside the client's port, and beside itself, for it is told to the client."""
        for line in lines:
            if found := CLIENT.search(line):
                yield found[1], ITSELF if found[2] == ITSELF else found[3]
            if found := ANY_ID.search(line):
                yield found[1], found[1]

    def stamped(self, lines: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
        """`Mar  2 10:20:30 mail postfix/smtpd[pid]: text`."""

        def syslog(real: float) -> str:
            moment = self.stage.clock.at(real)
            return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}"

        year = time.localtime(self.stage.clock.started).tm_year

        def recorded(told: re.Match[str]) -> str:
            return syslog(time.mktime(time.strptime(f"{year} {told[0]}", "%Y %b %d %H:%M:%S")))

        for real, text in lines:
            if found := SYSLOG.fullmatch(text):
                yield real, f"{syslog(real)} mail {CLOCK_TIME.sub(recorded, found[1])}"


def letter(rng: random.Random, sender: str, recipients: Sequence[str], subject: str = "") -> bytes:
    """A mail of ordinary size."""
    head = f"From: <{sender}>\r\nTo: <{recipients[0]}>\r\nSubject: {subject or 'note'} {rng.randint(1, 999)}\r\n"
    head += f"Message-Id: <{rng.getrandbits(48):012x}@{sender.rpartition('@')[2] or 'example.org'}>\r\n\r\n"
    return (head + "All work and no play.\r\n" * rng.choice((4, 20, 80, 300))).encode()


def submit(client: smtplib.SMTP, sender: str, recipients: Sequence[str], text: bytes) -> tuple[str, int]:
    """MAIL, RCPT, DATA: (queue id or "", last answer). Refused recipients are left out, as clients do."""
    code, answer = client.mail(sender)
    if code >= 400:
        return "", code
    codes = [client.rcpt(recipient)[0] for recipient in recipients]
    if min(codes) >= 400:
        return "", min(codes)
    code, answer = client.data(text)
    return (answer.decode().rpartition(" ")[2] if code == 250 else ""), code
