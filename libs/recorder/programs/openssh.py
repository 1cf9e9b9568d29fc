"""OpenSSH: the gateway of a data centre; a session is a client's connection."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from recorder.harm import moved_away, owners_of
from recorder.plan import Act, Entry
from recorder.program import MissedError, Program, demand, run

USERS = [f"op{n:02d}" for n in range(1, 13)]
UID = 7100
EXPIRED, LOCKED, SHELLLESS = "op13", "op14", "op15"  # accounts with a mistake
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {work}/host
PidFile none
LogLevel VERBOSE
UsePAM no
StrictModes yes
AuthorizedKeysFile /srv/%u
PasswordAuthentication yes
KbdInteractiveAuthentication no
LoginGraceTime 2
MaxAuthTries 3
MaxStartups 60
UseDNS no
PrintMotd no
PrintLastLog no
"""


class OpenSsh(Program):
    """A gateway for twelve operators and the jobs that run under their names."""

    name = "openssh"
    packages = ("openssh-server", "openssh-client", "openssl")
    needs = ("/usr/sbin/sshd", "ssh", "ssh-keygen", "openssl")
    address = ("127.0.0.1", 12022)
    host = "gate"
    stamp = "%b %e %H:%M:%S gate "
    names_addresses = True
    uses_syslog = True
    binds = (("passwd", "/etc/passwd"), ("shadow", "/etc/shadow"), ("keys", "/srv"))
    introduces = (re.compile(r"Connection from (?P<session>(?P<conversation>[\d.]+) port \d+) on "),)

    def prepare(self) -> list[str]:
        """Make keys and accounts; only this program sees them as accounts of the machine."""
        work = self.stage.work
        Path("/run/sshd").mkdir(exist_ok=True)
        (work / "keys").mkdir()
        for key in ("host", "id", "stranger", "spare1", "spare2", "spare3"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", work / key)
        passwd = Path("/etc/passwd").read_text(encoding="utf-8")
        shadow = ["root:*:19000:0:99999:7:::", "sshd:!:19000::::::"]
        for n, user in enumerate((*USERS, EXPIRED, LOCKED, SHELLLESS)):
            home = work / "home" / user
            home.mkdir(parents=True)
            run("chown", f"{UID + n}:{UID + n}", home)
            shell = "/bin/rbash-old" if user == SHELLLESS else "/bin/sh"
            passwd += f"{user}:x:{UID + n}:{UID + n}::{home}:{shell}\n"
            hashed = run("openssl", "passwd", "-1", "-salt", "salt", f"secret of {user}").strip()
            shadow.append(f"{user}:{'!' if user == LOCKED else hashed}:19000:0:99999:7::{'19500' if user == EXPIRED else ''}:")
            (work / "keys" / user).write_text((work / "id.pub").read_text(encoding="ascii"), encoding="ascii")
        (work / "passwd").write_text(passwd, encoding="utf-8")
        (work / "shadow").write_text("\n".join(shadow) + "\n", encoding="ascii")
        (work / "askpass").write_text('#!/bin/sh\necho "$SECRET"\n', encoding="ascii")
        (work / "askpass").chmod(0o755)
        known = " ".join((work / "host.pub").read_text(encoding="ascii").split()[:2])
        (work / "known").write_text(f"[127.0.0.1]:{self.address[1]} {known}\n", encoding="ascii")
        other = " ".join((work / "stranger.pub").read_text(encoding="ascii").split()[:2])
        (work / "wrong").write_text(f"[127.0.0.1]:{self.address[1]} {other}\n", encoding="ascii")
        (work / "sshd_config").write_text(CONFIG.format(work=work, port=self.address[1]), encoding="ascii")
        return ["/usr/sbin/sshd", "-D", "-f", str(work / "sshd_config")]

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """End it with all its connections."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def ssh(
        self, source: tuple[str, int], user: str, *options: str, key: str = "id", secret: str = "", known: str = "known", command: str = ""
    ) -> subprocess.Popen[str]:
        """Start a client that runs a command (default: a word is echoed)."""
        work = self.stage.work
        words = ["ssh", "-F", "none", "-p", str(self.address[1]), "-b", source[0], "-o", f"UserKnownHostsFile={work}/{known}", "-o",
                 "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "NumberOfPasswordPrompts=1",
                 "-o", "KexAlgorithms=curve25519-sha256"]  # fmt: skip
        if secret:
            words += ["-o", "PubkeyAuthentication=no"]
        else:
            words += ["-i", f"{work}/{key}", "-o", "PasswordAuthentication=no"]
        environment = {"PATH": "/usr/bin:/bin", "SSH_ASKPASS": f"{work}/askpass", "SSH_ASKPASS_REQUIRE": "force", "SECRET": secret}
        return subprocess.Popen(
            [*words, *options, f"{user}@127.0.0.1", command or f"echo word {source[0]}"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def raw(self, source: tuple[str, int]) -> socket.socket:
        """A connection without a client's program."""
        return socket.create_connection(self.address, timeout=6, source_address=source)

    def log_in(self, source: tuple[str, int], user: str, *options: str, key: str = "id", secret: str = "", known: str = "known") -> None:
        """Log in and hear a word. Raises MissedError."""
        client = self.ssh(source, user, *options, key=key, secret=secret, known=known)
        try:
            said, _ = client.communicate(timeout=10)
        except subprocess.TimeoutExpired as error:
            client.kill()
            raise MissedError("no answer") from error
        demand(said == f"word {source[0]}\n", "the word")


def run_job(gate: OpenSsh, rng: random.Random) -> None:
    """A job runs a command by its key."""
    with gate.visit(rng) as source:
        gate.log_in(source, rng.choice(USERS))


def by_password(gate: OpenSsh, rng: random.Random) -> None:
    """An operator logs in by password."""
    user = rng.choice(USERS)
    with gate.visit(rng) as source:
        gate.log_in(source, user, secret=f"secret of {user}")


def mistype(gate: OpenSsh, rng: random.Random) -> None:
    """An operator mistypes the password once."""
    user = rng.choice(USERS)
    with gate.visit(rng) as source, suppress(MissedError):
        gate.log_in(source, user, secret="oops")
    gate.pause(rng, 5, 20)
    with gate.visit(rng) as source:
        gate.log_in(source, user, secret=f"secret of {user}")


def several_keys(gate: OpenSsh, rng: random.Random) -> None:
    """A laptop offers another key before the right one."""
    with gate.visit(rng) as source:
        gate.log_in(source, rng.choice(USERS), "-i", f"{gate.stage.work}/stranger")


def several_sessions(gate: OpenSsh, rng: random.Random) -> None:
    """An operator runs several commands over one connection."""
    user = rng.choice(USERS)
    control = gate.stage.work / f"control{rng.getrandbits(40):x}"
    with gate.visit(rng) as source:
        master = gate.ssh(source, user, "-o", "ControlMaster=yes", "-o", f"ControlPath={control}", command="sleep 0.8")
        for _ in range(60):
            if control.exists():
                break
            time.sleep(0.05)
        for _ in range(rng.randint(1, 3)):
            gate.log_in(source, user, "-o", "ControlMaster=no", "-o", f"ControlPath={control}")
        master.communicate(timeout=10)


def monitor(gate: OpenSsh, rng: random.Random) -> None:
    """The monitoring looks if somebody answers."""
    with gate.visit(rng) as source, gate.raw(source) as client:
        demand(client.recv(99).startswith(b"SSH-2.0"), "a greeting")


def guess_passwords(gate: OpenSsh, rng: random.Random) -> None:
    """An intruder tries names and passwords."""
    for _ in range(rng.randint(2, 4)):
        with gate.visit(rng) as source, suppress(MissedError):
            gate.stage.ledger.harm(source[0], "password guessing")
            gate.log_in(source, rng.choice(("root", "admin", "oracle", "test", "ubuntu", *USERS[:2])), secret=f"summer{rng.randint(1, 99)}")


def account_fault(user: str, kind: str) -> Act[OpenSsh]:
    """Return a fault: somebody whose account has a mistake wants to log in."""

    def act(gate: OpenSsh, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 2)):
            with gate.visit(rng, kind) as source:
                if rng.random() < 0.5:
                    gate.log_in(source, user, secret=f"secret of {user}")
                else:
                    gate.log_in(source, user)
            gate.pause(rng, 5, 60)

    act.__name__ = kind.replace(" ", "_")
    return act


def keys_lost(gate: OpenSsh, rng: random.Random) -> None:
    """The file with somebody's keys is gone; the jobs of that name cannot log in."""
    user = rng.choice(USERS)
    with gate.stage.gate.closed(patience=1), moved_away(gate.stage.work / "keys" / user):
        for _ in range(rng.randint(1, 3)):
            with gate.visit(rng, "keys missing") as source:
                gate.log_in(source, user)


def keys_unsafe(gate: OpenSsh, rng: random.Random) -> None:
    """The file with somebody's keys may be written by anybody; it is not used."""
    user = rng.choice(USERS)
    keys = gate.stage.work / "keys" / user
    with gate.stage.gate.closed(patience=1):
        keys.chmod(0o666)
        for _ in range(rng.randint(1, 3)):
            with gate.visit(rng, "keys with wrong rights") as source:
                gate.log_in(source, user)
        keys.chmod(0o644)


def keys_garbled(gate: OpenSsh, rng: random.Random) -> None:
    """The file with somebody's keys is damaged."""
    user = rng.choice(USERS)
    keys = gate.stage.work / "keys" / user
    with gate.stage.gate.closed(patience=1):
        text = keys.read_text(encoding="ascii")
        keys.write_text(text[:40] + "#" + text[48:], encoding="ascii")
        for _ in range(rng.randint(1, 2)):
            with gate.visit(rng, "keys corrupted") as source:
                gate.log_in(source, user)
        keys.write_text(text, encoding="ascii")


def too_many_keys(gate: OpenSsh, rng: random.Random) -> None:
    """A laptop offers one wrong key after the other until the server ends it."""
    work = gate.stage.work
    with gate.visit(rng, "too many keys offered") as source:
        gate.log_in(source, rng.choice(USERS), "-i", f"{work}/spare1", "-i", f"{work}/spare2", "-i", f"{work}/spare3", key="stranger")


def host_changed(gate: OpenSsh, rng: random.Random) -> None:
    """A job knows another key of this server and refuses to go on."""
    for _ in range(rng.randint(1, 3)):
        with gate.visit(rng, "host key not accepted") as source:
            gate.log_in(source, rng.choice(USERS), known="wrong")
        gate.pause(rng, 5, 60)


def old_client(gate: OpenSsh, rng: random.Random) -> None:
    """An old device speaks only algorithms that the server has given up."""
    for _ in range(rng.randint(1, 2)):
        with gate.visit(rng, "no common algorithm") as source:
            options = rng.choice((["-o", "Ciphers=aes128-cbc"], ["-o", "MACs=hmac-md5", "-o", "Ciphers=aes128-ctr"]))
            gate.log_in(source, rng.choice(USERS), *options)


def garbage(gate: OpenSsh, rng: random.Random) -> None:
    """Somebody speaks another protocol to this port."""
    for _ in range(rng.randint(1, 2)):
        hello = rng.choice((b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"))
        with gate.visit(rng, "another protocol") as source, gate.raw(source) as client:
            client.sendall(hello)
            client.recv(99)
            demand(len(client.recv(99)) > 99, "an answer")


def hung(gate: OpenSsh, rng: random.Random) -> None:
    """A client hangs before its login until the server gives up."""
    with gate.visit(rng, "client hung before its login") as source, gate.raw(source) as client:
        client.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        while client.recv(4096):
            pass
        demand(False, "a login")


def cut_off(gate: OpenSsh, rng: random.Random) -> None:
    """A job's client is killed before its command is done."""
    for _ in range(rng.randint(1, 2)):
        with gate.visit(rng, "client vanished") as source:
            client = gate.ssh(source, rng.choice(USERS), command="echo begun; sleep 2")
            assert client.stdout is not None
            began = client.stdout.readline()
            client.kill()
            client.communicate()
            demand(not began, "the end of the command")


def server_process_killed(gate: OpenSsh, rng: random.Random) -> None:
    """The process that serves a job is killed."""
    for _ in range(rng.randint(1, 2)):
        with gate.visit(rng, "server's process killed") as source:
            client = gate.ssh(source, rng.choice(USERS), command="echo begun; sleep 2; echo done")
            assert client.stdout is not None
            client.stdout.readline()
            for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
                local, remote = row.split()[1:3]
                if local.endswith(f":{gate.address[1]:04X}") and remote.startswith(as_in_proc(source[0])):
                    for pid in owners_of(gate.address[1], int(remote[-4:], 16)):
                        os.kill(pid, signal.SIGKILL)
            said, _ = client.communicate(timeout=10)
            demand("done" in said, "the end of the command")


def as_in_proc(address: str) -> str:
    """Return an address as /proc/net/tcp writes it.

    >>> as_in_proc("127.0.0.1")
    '0100007F'
    """
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))


ENTRY = Entry(
    OpenSsh,
    {run_job: 60, by_password: 22, mistype: 3, several_keys: 6, several_sessions: 6, monitor: 5},
    {
        guess_passwords: (1, 1, 0), account_fault(EXPIRED, "account expired"): (1, 1, 1),
        account_fault(LOCKED, "account locked"): (1, 1, 1),
        account_fault(SHELLLESS, "shell missing"): (1, 0, 1), keys_lost: (1, 1, 1), keys_unsafe: (0, 1, 1), keys_garbled: (1, 0, 1),
        too_many_keys: (1, 1, 2), host_changed: (1, 1, 1), old_client: (1, 1, 1), garbage: (1, 1, 0), hung: (1, 2, 1),
        cut_off: (1, 1, 2), server_process_killed: (1, 1, 1),
    },
    per_day=500,
    speed=700,
    held_out=True,
)  # fmt: skip
