"""Clicks and seconds from a night's message to the line that explains a fault: `python tests/bench/clicks.py [--lake DIR] [--ds DAY]`.

Runs the demo's three nights, or reads a lake that has them; takes the five faults of the night with the most sessions found; and follows,
in Chromium and over HTTP, two links of the night's message: that of the finding, and that of the night's page. A line **explains** a fault
if it stands out on the page and its text says what was injected (`EXPLAINS`). Truth and expressions are read here alone.

Seconds are those of a person by the keystroke-level model (a click 2.65 s: decide, point, press; a screen scrolled 1.55 s: decide, press;
reading 4 words/s, of titles until the line, and of the line), plus those that the page took to load.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from html import unescape
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parents[1]))

from nightlog.handoff.message import night_message
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, FINDINGS
from nightlog.pages.model import anchor
from nightlog.pages.page import write_pages
from nightlog.settings import Webhook
from nightlog.systems.catalog import load_catalog
from sample_night import DS, run_demo_nights

SYSTEM, N_FAULTS = "dovecot", 5
TRUTH = Path(__file__).parents[2] / "libs" / "nightlog" / "sample" / "truth" / "dovecot_faults.csv"
EXPLAINS = {
    "process killed": "killed with signal",
    "client vanished in transfer": "read\\(.*\\) failed|Connection (closed|reset).*APPEND",
    "password guessing": "unknown user|password mismatch|auth failed",
    "mailbox not accessible": "Permission denied",
    "mail damaged on the disk": "Broken physical size|Cached message size|Corrupted.*record",
    "mailbox locked": "Timeout.*lock",
    "cache or id list corrupted": "Broken file|Corrupted|Deleting corrupted cache",
    "index corrupted": "Corrupted|Lost log",
    "disk full": "No space left",
    "out of memory": "Out of memory",
    "index removed in use": "inconsistent|deleted",
    "TLS handshake failed": "SSL_accept",
    "too many sessions": "Maximum number of connections",
    "account list lost": "No such file|passwd",
    "authentication service died": "auth process",
}
CLICK_S, SCREEN_S, WORDS_PER_S = 2.65, 1.55, 4.0
WIDTH, HEIGHT, MOST_SCREENS = 1280, 800, 40

# Opens the link, then scrolls by screens until a line that stands out and explains is in view.
DRIVER = """<!doctype html><meta charset="utf-8"><iframe id="page" width="WIDTH" height="HEIGHT"></iframe><pre id="seen"></pre><script>
const frame = document.getElementById("page"), began = performance.now(), wanted = new RegExp(EXPRESSION), PLACE = ANCHOR;
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  void page.body.offsetHeight;
  const loaded = performance.now() - began;
  const finding = page.getElementById(PLACE) || page.querySelector(`a[href$="#${PLACE}"]`);
  const item = finding.closest(".item");
  const marked = () => [...item.querySelectorAll(".marked")].filter((each) => wanted.test(each.textContent) && each.checkVisibility())
    .find((each) => each.getBoundingClientRect().top >= 0 && each.getBoundingClientRect().bottom <= view.innerHeight);
  let screens = 0, line = marked();
  while (!line && screens < MOST) {
    view.scrollBy(0, 0.9 * view.innerHeight);
    screens += 1;
    line = marked();
  }
  const words = (each) => each.textContent.trim().split(/\\s+/).length;
  const read = line ? [...page.querySelectorAll(".incident h3, details[open] > summary")]
    .filter((each) => each.compareDocumentPosition(line) & Node.DOCUMENT_POSITION_FOLLOWING) : [];
  const text = line ? line.textContent.trim() : null, n_words = line ? read.reduce((sum, each) => sum + words(each), words(line)) : 0;
  document.getElementById("seen").textContent = JSON.stringify({ loaded, screens, text, words: n_words });
};
frame.src = URL;
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    """Files over HTTP, without a line for each request and without an icon."""

    def do_GET(self) -> None:
        """Answer a request."""
        if self.path == "/favicon.ico":
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class Way(NamedTuple):
    """The way to a line: clicks, screens scrolled, words read, seconds of the page, and the line; None if it was not found."""

    clicks: int
    screens: int
    words: int
    loaded_s: float
    line: str | None

    @property
    def seconds(self) -> float:
        """The seconds of a person, see the module."""
        return CLICK_S * self.clicks + SCREEN_S * self.screens + self.words / WORDS_PER_S + self.loaded_s


def faults_of_night(lake: Lake, ds: str) -> list[tuple[str, int, str]]:
    """Return (fault, sessions found, id of its first finding), those with the most sessions first."""
    with TRUTH.open(encoding="utf-8", newline="") as file:
        truth = {row["session_id"]: row["fault"] for row in csv.DictReader(file)}
    finding_of = {row["pattern_id"]: row for row in lake.rows(FINDINGS, ds=ds, system=SYSTEM)}
    found: dict[str, Counter[str]] = {}
    for row in lake.rows(ANOMALIES, ["session_id", "pattern_id"], ds=ds, system=SYSTEM):
        if row["session_id"] in truth:
            found.setdefault(truth[row["session_id"]], Counter())[finding_of[row["pattern_id"]]["finding_id"]] += 1
    ranked = sorted(found.items(), key=lambda each: (-each[1].total(), each[0]))
    return [(fault, counts.total(), counts.most_common(1)[0][0]) for fault, counts in ranked[:N_FAULTS]]


def follow(chromium: str, folder: Path, address: str, url: str, fault: str, finding: str) -> Way:
    """Follow one link, a click, and return the way to the line of the finding that explains the fault."""
    texts = {"EXPRESSION": EXPLAINS[fault], "URL": url, "ANCHOR": anchor(finding)}
    values = {name: json.dumps(text) for name, text in texts.items()} | {"MOST": MOST_SCREENS, "WIDTH": WIDTH, "HEIGHT": HEIGHT}
    page = re.sub(r"\b(EXPRESSION|URL|ANCHOR|MOST|WIDTH|HEIGHT)\b", lambda name: str(values[name[1]]), DRIVER)
    (folder / "driver.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [chromium, *flags, "--dump-dom", f"{address}/driver.html"], capture_output=True, text=True, check=True, timeout=120
    )
    seen = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.S)
    if seen is None:
        raise SystemExit(f"{url} did not load:\n{done.stderr}")
    found: dict[str, Any] = json.loads(unescape(seen[1]))
    return Way(1, found["screens"], found["words"], found["loaded"] / 1000, found["text"])


def main() -> None:
    """Print a row per fault and link, and the median."""
    parser = argparse.ArgumentParser(description=str(__doc__).split(":")[0])
    parser.add_argument("--lake", type=Path, help="a lake with the demo's nights; default: a temporary one")
    parser.add_argument("--ds", default=DS)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium on this machine")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lake = Lake(options.lake.resolve()) if options.lake else run_demo_nights(folder / "lake")
        write_pages(lake, options.ds)
        (folder / "reports").symlink_to(Path(lake.root, "reports"))
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=place))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        measure(lake, options.ds, chromium, folder, address)
        server.shutdown()


def measure(lake: Lake, ds: str, chromium: str, folder: Path, address: str) -> None:
    """Print what `main` prints."""
    message, _ = night_message(lake, ds, Webhook(SecretStr(address), pages_url=f"{address}/reports"), load_catalog())
    url_of = {each.finding_id: each.url for each in message.findings}
    print("| fault | sessions | link | clicks | screens | words | page, s | person, s | line |\n|---|--:|---|--:|--:|--:|--:|--:|---|")
    seconds = []
    for fault, n_sessions, finding in faults_of_night(lake, ds):
        for name, url in (("finding", url_of.get(finding)), ("night", message.url)):
            if url is None:
                print(f"| {fault} | {n_sessions} | {name} | the finding is not in the message |")
                continue
            way = follow(chromium, folder, address, url, fault, finding)
            numbers = f"{way.clicks} | {way.screens} | {way.words} | {way.loaded_s:.2f} | {way.seconds:.1f}"
            print(f"| {fault} | {n_sessions} | {name} | {numbers} | {(way.line or 'NOT FOUND')[:100]} |")
            seconds.append(way.seconds)
    print(f"\n{len(seconds)} ways, median {sorted(seconds)[len(seconds) // 2]:.1f} s, longest {max(seconds):.1f} s")


if __name__ == "__main__":
    main()
