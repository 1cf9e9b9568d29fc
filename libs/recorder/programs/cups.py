"""CUPS: the print server of an office with six printers; a session is a print job."""

from __future__ import annotations

import http.client
import random
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from recorder.harm import moved_away
from recorder.plan import Act, Entry
from recorder.program import MissedError, Program, Stage, demand, run
from recorder.sinks import Service, Talk

PRINTERS = ("office", "floor1", "floor2", "plotter", "label", "copyshop")
DEVICE = ("127.0.0.1", 19100)
PRINT_JOB, CANCEL_JOB, GET_JOB, PAUSE, RESUME, RELEASE = 0x02, 0x08, 0x09, 0x10, 0x11, 0x0D
CANCELED, ABORTED, COMPLETED = 7, 8, 9
FILES = """
ErrorLog stderr
AccessLog {work}/access
PageLog {work}/pages
Printcap {work}/printcap
ServerRoot {work}/etc
CacheDir {work}/cache
StateDir {work}/state
RequestRoot {work}/spool
TempDir {work}/tmp
ServerBin {work}/bin
DataDir /usr/share/cups
SystemGroup root
User lp
Group lp
"""
DAEMON = """
LogLevel info
Listen 127.0.0.1:{port}
Browsing No
WebInterface No
MaxJobs 400
PreserveJobFiles No
MaxClients 60
ErrorPolicy abort-job
<Location />
  Allow all
</Location>
<Policy default>
  <Limit All>
    Order allow,deny
    Allow all
  </Limit>
</Policy>
"""
MODEL = """*PPD-Adobe: "4.3"
*FormatVersion: "4.3"
*FileVersion: "1.0"
*LanguageVersion: English
*LanguageEncoding: ISOLatin1
*PCFileName: "MODEL.PPD"
*Manufacturer: "Example"
*Product: "(Example)"
*PSVersion: "(3010.000) 0"
*ModelName: "Example 1"
*ShortNickName: "Example 1"
*NickName: "Example 1"
*ColorDevice: False
*DefaultColorSpace: Gray
*FileSystem: False
*cupsFilter: "text/plain 0 pages"
*cupsFilter: "application/vnd.cups-raw 0 -"
*OpenUI *PageSize/Page: PickOne
*DefaultPageSize: A4
*PageSize A4/A4: "<</PageSize[595 842]>>setpagedevice"
*CloseUI: *PageSize
*OpenUI *PageRegion/Page: PickOne
*DefaultPageRegion: A4
*PageRegion A4/A4: "<</PageSize[595 842]>>setpagedevice"
*CloseUI: *PageRegion
*DefaultImageableArea: A4
*ImageableArea A4/A4: "0 0 595 842"
*DefaultPaperDimension: A4
*PaperDimension A4/A4: "595 842"
"""
FILTER = """#!/bin/bash
# job user title copies options [file]
[ -n "$6" ] && exec < "$6"
read -r first
[ "${first#CRASH}" = "$first" ] || kill -SEGV $$
[ "${first#BAD}" = "$first" ] || { echo "ERROR: Unable to decode page 1." >&2; exit 1; }
echo "PAGED $first"
exec cat
"""
BACKEND = """#!/bin/bash
# Sends a job to the printer by TCP, waits until it has taken it, and says what the printer says.
[ $# -eq 0 ] && exit 0
[ -n "$6" ] && exec < "$6"
exec 3<>/dev/tcp/127.0.0.1/19100 || { echo "ERROR: The printer is not responding." >&2; exit 1; }
echo "INFO: Connected to printer." >&2
{ echo "$1 $PRINTER"; cat; printf '\\004\\n'; } >&3 2>/dev/null
while read -r -t 3 -u 3 answer; do
  case "$answer" in
    done) echo "INFO: Print file sent." >&2; exit 0 ;;
    paper) echo "STATE: +media-empty-warning" >&2; echo "WARNING: The printer is out of paper." >&2 ;;
    ready) echo "STATE: -media-empty-warning" >&2 ;;
    busy) echo "INFO: Printer busy, waiting." >&2 ;;
  esac
done
echo "ERROR: Unable to send data to printer." >&2
exit ${ON_ERROR:-1}
"""


def attribute(tag: int, name: str, value: bytes) -> bytes:
    """Return one attribute as it is sent."""
    return bytes([tag]) + struct.pack("!H", len(name)) + name.encode() + struct.pack("!H", len(value)) + value


class Cups(Program):
    """A print server whose printers are one service, which treats each printer as it is told."""

    name = "cups"
    packages = ("cups-daemon",)
    needs = ("cupsd", "bash")
    address = ("127.0.0.1", 16310)
    host = "print"
    own_time = re.compile(r"(?<=^[A-Z] )\[[^]]*\]")
    introduces = (re.compile(r"\[Job (?P<session>(?P<conversation>\d+))\]"),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.papers: dict[str, str] = {}
        self.mood: dict[str, Callable[[Talk], bool]] = {}
        self.device = Service(DEVICE, self.take)

    def prepare(self) -> list[str]:
        """Write printers, their driver and their backend."""
        work = self.stage.work
        for folder in ("etc/ppd", "cache", "state", "spool", "tmp", "bin/filter", "bin/backend"):
            (work / folder).mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", "size=2m,mode=770", "tmpfs", work / "spool")
        shutil.copytree("/usr/lib/cups/daemon", work / "bin" / "daemon")
        for name, script in (("filter/pages", FILTER), ("backend/wire", BACKEND)):
            path = work / "bin" / name
            path.write_text(script, encoding="ascii")
            path.chmod(0o755)
        etc = work / "etc"
        printers = [
            f"<Printer {name}>\nInfo {name}\nDeviceURI wire://{name}\nState Idle\nAccepting Yes\nShared No\n"
            f"JobSheets none none\nQuotaPeriod 0\nPageLimit 0\nKLimit 0\nOpPolicy default\nErrorPolicy abort-job\n</Printer>\n"
            for name in PRINTERS
        ]
        (etc / "printers.conf").write_text("".join(printers), encoding="ascii")
        for name in PRINTERS:
            (etc / "ppd" / f"{name}.ppd").write_text(MODEL, encoding="ascii")
        (etc / "cupsd.conf").write_text(DAEMON.format(port=self.address[1]), encoding="ascii")
        (etc / "cups-files.conf").write_text(FILES.format(work=work), encoding="ascii")
        run("chgrp", "-R", "lp", etc, work / "cache", work / "state", work / "spool", work / "tmp")
        run("chmod", "-R", "g+rwX", etc, work / "cache", work / "state", work / "tmp")
        self.device.up()
        return ["cupsd", "-f", "-c", str(etc / "cupsd.conf"), "-s", str(etc / "cups-files.conf")]

    def shut_down(self, process: subprocess.Popen[bytes]) -> None:
        """End it, the printers and the spool."""
        super().shut_down(process)
        self.device.down()
        run("umount", "-l", self.stage.work / "spool")

    def line(self, moment: datetime, text: str) -> str:
        """Put the recorded time where the program had its own."""
        return text[:2] + moment.strftime("[%d/%b/%Y:%H:%M:%S +0000]") + text[2:] if text[1:3] == "  " else text

    def take(self, talk: Talk) -> None:
        """Print what comes, unless this printer is in a mood; the paper is kept by the word in its first line."""
        printer = talk.hear().split(" ")[-1]
        mood = self.mood.get(printer)
        if mood is not None and not mood(talk):
            return
        first = talk.hear()
        size = 0
        while (row := talk.hear()) != "\4":
            size += len(row)
        self.papers[first.split(" ")[-1]] = f"{first.split(' ')[0]} {size}"
        time.sleep(0.03)
        talk.say("done", end="\n")

    def ask(self, rng: random.Random, operation: int, target: str, *more: bytes, data: bytes = b"") -> bytes:
        """Send one request of a user's program; return the answer. Raises MissedError when it is refused."""
        uri = attribute(0x45, "job-uri" if "/jobs/" in target else "printer-uri", f"ipp://localhost{target}".encode())
        body = struct.pack("!BBHI", 2, 0, operation, 1) + b"\x01" + attribute(0x47, "attributes-charset", b"utf-8")
        body += attribute(0x48, "attributes-natural-language", b"en") + uri
        user = f"user{rng.randint(1, 80):02d}" if operation == PRINT_JOB else "root"
        body += attribute(0x42, "requesting-user-name", user.encode()) + b"".join(more) + b"\x03" + data
        client = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            client.request("POST", target, body, {"Content-Type": "application/ipp"})
            answer = client.getresponse().read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            client.close()
        demand(len(answer) > 4 and struct.unpack("!H", answer[2:4])[0] < 0x100, f"a yes to operation {operation}")
        return answer

    def submit(self, rng: random.Random, printer: str, first: str, hold: bool = False, raw: bool = False) -> str:
        """Send a document whose first line is given; return the job's number."""
        rows = "".join(f"line {n} of a letter\n" for n in range(rng.randint(5, 60)))
        kind = b"application/vnd.cups-raw" if raw else b"text/plain"
        more = [attribute(0x42, "job-name", f"letter {rng.randint(1, 99)}".encode()), attribute(0x49, "document-format", kind)]
        if hold:
            more += [b"\x02" + attribute(0x44, "job-hold-until", b"indefinite")]
        answer = self.ask(rng, PRINT_JOB, f"/printers/{printer}", *more, data=f"{first}\n{rows}".encode())
        return str(struct.unpack("!i", answer.split(b"\x21\x00\x06job-id\x00\x04")[1][:4])[0])

    def state(self, rng: random.Random, job: str) -> int:
        """Return a job's state."""
        answer = self.ask(rng, GET_JOB, f"/jobs/{job}")
        return int(answer.split(b"\x23\x00\x09job-state\x00\x04")[1][3])

    def outcome(self, rng: random.Random, job: str, patience: float) -> int:
        """Return a job's state when it is over. Raises TimeoutError."""
        until = time.time() + patience
        while time.time() < until:
            if (state := self.state(rng, job)) >= CANCELED:
                return state
            time.sleep(0.12)
        raise TimeoutError(f"job {job} is not over")

    def install(self, printer: str, model: str) -> None:
        """Give a printer a driver's model and start the server again, so that it reads it."""
        self.crash()
        (self.stage.work / "etc" / "ppd" / f"{printer}.ppd").write_text(model, encoding="ascii")
        (self.stage.work / "cache" / f"{printer}.data").unlink(missing_ok=True)  # what it remembers of the old one
        self.launch()

    def print(self, rng: random.Random, kind: str | None = None, printer: str = "", first: str = "", patience: float = 8.0) -> None:
        """Print a letter and look at the paper. A job that is not over in time is cancelled by its owner."""
        printer = printer or rng.choice(PRINTERS)
        word = f"{first}{rng.getrandbits(40):x}"
        job = self.submit(rng, printer, word)
        with self.known_as(job, kind):
            try:
                demand(self.outcome(rng, job, patience) == COMPLETED, "a completed job")
            except TimeoutError:
                self.ask(rng, CANCEL_JOB, f"/jobs/{job}")
                raise
            demand(self.papers.pop(word, "").startswith("PAGED "), "paper")


def letter(cups: Cups, rng: random.Random) -> None:
    """Somebody prints a letter."""
    cups.print(rng)


def print_later(cups: Cups, rng: random.Random) -> None:
    """Somebody prints for later and then lets the job go."""
    word = f"{rng.getrandbits(40):x}"
    job = cups.submit(rng, rng.choice(PRINTERS), word, hold=True)
    with cups.known_as(job):
        cups.pause(rng, 30, 300)
        cups.ask(rng, RELEASE, f"/jobs/{job}")
        demand(cups.outcome(rng, job, 8) == COMPLETED and word in cups.papers, "paper")


def ready_made(cups: Cups, rng: random.Random) -> None:
    """The label program sends what its printer understands as it is."""
    word = f"{rng.getrandbits(40):x}"
    job = cups.submit(rng, "label", f"LABEL {word}", raw=True)
    with cups.known_as(job):
        demand(cups.outcome(rng, job, 8) == COMPLETED and word in cups.papers, "a label")


def unknown_format(cups: Cups, rng: random.Random) -> None:
    """A program sends a format that no driver takes, and is told so at once; no job is made."""
    with suppress(MissedError):
        more = attribute(0x49, "document-format", b"application/x-unknown")
        cups.ask(rng, PRINT_JOB, f"/printers/{rng.choice(PRINTERS)}", more, data=b"?")


def refill(talk: Talk) -> bool:
    """Run out of paper; somebody refills it."""
    talk.say("paper", end="\n")
    time.sleep(0.25)
    talk.say("ready", end="\n")
    return True


def busy(talk: Talk) -> bool:
    """Print something else before."""
    talk.say("busy", end="\n")
    time.sleep(0.2)
    return True


def wait_for_paper(cups: Cups, rng: random.Random) -> None:
    """A printer is out of paper or busy for a moment."""
    printer = rng.choice(PRINTERS)
    cups.mood[printer] = rng.choice((refill, busy))
    with suppress(KeyError):
        cups.print(rng, printer=printer)
        del cups.mood[printer]


def hang_up(talk: Talk) -> bool:
    """Close the connection in the middle of the job."""
    talk.hear()
    return False


def never(talk: Talk) -> bool:
    """Stay out of paper."""
    talk.say("paper", end="\n")
    time.sleep(2.5)
    return False


def silent(talk: Talk) -> bool:
    """Take the job and never answer."""
    time.sleep(4)
    return False


def moody(mood: Callable[[Talk], bool], kind: str, patience: float = 8.0) -> Act[Cups]:
    """Return a fault: a printer behaves so for a few jobs."""

    def act(cups: Cups, rng: random.Random) -> None:
        printer = rng.choice(PRINTERS[:4])
        with cups.stage.gate.closed(patience=0.8):
            cups.mood[printer] = mood
            for _ in range(rng.randint(1, 2)):
                cups.print(rng, kind, printer, patience=patience)
            cups.mood.pop(printer, None)

    act.__name__ = kind.replace(" ", "_")
    return act


def printers_off(cups: Cups, rng: random.Random) -> None:
    """The printers' network is down: they refuse connections."""
    with cups.stage.gate.closed(patience=0.8), cups.device.outage():
        for _ in range(rng.randint(1, 3)):
            cups.print(rng, "printer refused connections")


def broken_document(first: str, kind: str) -> Act[Cups]:
    """Return a fault: documents that the driver cannot take."""

    def act(cups: Cups, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 3)):
            cups.print(rng, kind, first=first)
            cups.pause(rng, 10, 60)

    act.__name__ = kind.replace(" ", "_")
    return act


def driver_lost(cups: Cups, rng: random.Random) -> None:
    """An update has removed the driver's program."""
    with cups.stage.gate.closed(patience=0.8), moved_away(cups.stage.work / "bin" / "filter" / "pages"):
        for _ in range(rng.randint(1, 3)):
            cups.print(rng, "driver missing")


def backend_unsafe(cups: Cups, rng: random.Random) -> None:
    """A wrong setting of rights: the backend may be changed by anybody, so that it is not run."""
    backend = cups.stage.work / "bin" / "backend" / "wire"
    with cups.stage.gate.closed(patience=0.8):
        backend.chmod(0o777)
        for _ in range(rng.randint(1, 2)):
            cups.print(rng, "backend with wrong rights")
        backend.chmod(0o755)


def paused(cups: Cups, rng: random.Random) -> None:
    """A printer was left paused; its jobs wait until their owners give up."""
    printer = rng.choice(PRINTERS[:4])
    with cups.stage.gate.closed(patience=0.8):
        cups.ask(rng, PAUSE, f"/printers/{printer}")
        for _ in range(rng.randint(1, 3)):
            cups.print(rng, "printer left paused", printer, patience=0.5)
        cups.ask(rng, RESUME, f"/printers/{printer}")


def backend_crashed(cups: Cups, rng: random.Random) -> None:
    """The process that talks to the printer crashes."""
    printer = rng.choice(PRINTERS[:4])

    def fatal(talk: Talk) -> bool:
        for pid in run("pgrep", "-P", str(cups.pid), check=False).split():
            run("kill", "-SEGV", pid, check=False)
        return False

    with cups.stage.gate.closed(patience=0.8):
        cups.mood[printer] = fatal
        cups.print(rng, "backend crashed", printer)
        cups.mood.pop(printer, None)


def bad_update(cups: Cups, rng: random.Random) -> None:
    """A driver's model file is replaced by one that leaves the driver out; letters are sent as they are."""
    printer = rng.choice(PRINTERS[:4])
    with cups.stage.gate.closed(patience=0.8):
        cups.install(printer, MODEL.replace('*cupsFilter: "text/plain 0 pages"', '*cupsFilter: "text/plain 0 -"'))
        for _ in range(rng.randint(2, 4)):
            cups.print(rng, "letters sent without the driver", printer)
        cups.install(printer, MODEL)


ENTRY = Entry(
    Cups,
    {letter: 70, print_later: 8, ready_made: 12, unknown_format: 2, wait_for_paper: 6},
    {
        moody(hang_up, "printer hung up"): (1, 1, 1), moody(never, "printer stayed without paper"): (1, 1, 1),
        moody(silent, "job given up after a long wait", 1.2): (2, 1, 1), printers_off: (1, 1, 1),
        broken_document("CRASH", "driver crashed"): (1, 1, 1), broken_document("BAD", "document damaged"): (1, 1, 1),
        driver_lost: (1, 0, 1), backend_unsafe: (0, 1, 0), paused: (1, 1, 1),
        backend_crashed: (1, 2, 2), bad_update: (1, 1, 1),
    },
    per_day=520,
    speed=1100,
)  # fmt: skip
