"""Print what people see when no LLM judges: nights with the LLM off, refused, out of budget and too slow, on screen and on the page.

python tests/faults/without_llm.py            the sample's Dovecot, and HDFS where NIGHTLOG_SHARED names the shared data
"""

from __future__ import annotations

import argparse
import contextlib
import html
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "without-llm"
NIGHTLOG = Path(sys.executable).with_name("nightlog")
PAGE_LINES = 14


@dataclass(frozen=True)
class World:
    """Nights of one system; the last one is run once for each scene, on a copy of the lake that the others left."""

    system: str
    nights: tuple[str, ...]
    settings: dict[str, str]


def endpoint(seconds: float) -> ThreadingHTTPServer:
    """Start an LLM's endpoint that refuses the key, or, with `seconds` above 0, answers nothing for so long."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(seconds)
            body = b'{"error": {"message": "Incorrect API key", "type": "invalid_request_error", "code": "invalid_api_key"}}'
            with contextlib.suppress(OSError):  # the client did not wait
                self.send_response(401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def nightlog(world: World, lake: Path, settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in an environment that has no other settings of Nightlog."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_"))}
    environment = {**kept, "NIGHTLOG_LAKE": str(lake), "COLUMNS": "150", "NO_COLOR": "1", **world.settings, **settings}
    return subprocess.run([NIGHTLOG, *arguments], env=environment, text=True, capture_output=True, check=False)


def page_text(path: Path) -> list[str]:
    """Return the visible text of a page, a line for each block."""
    body = re.sub(r"(?s)<(style|script|svg|head)\b.*?</\1>", " ", path.read_text(encoding="utf-8"))
    blocks = re.sub(r"(?i)</?(p|div|h\d|li|tr|section|header|table|nav|main|ul|details|summary)\b[^>]*>", "\n", body)
    lines = (" ".join(html.unescape(re.sub(r"<[^>]+>", " ", line)).split()) for line in blocks.splitlines())
    return [line for line in lines if line]


@contextlib.contextmanager
def scenes(recorded: dict[str, str]) -> Iterator[dict[str, dict[str, str]]]:
    """Yield the settings of each scene. Args: recorded: those with which the LLM answers."""
    refusing, slow = endpoint(0), endpoint(30)
    key = {"NIGHTLOG_LLM": "openai", "OPENAI_API_KEY": "sk-test-key-000000"}
    impatient = {"NIGHTLOG_LLM_TIMEOUT_S": "2", "NIGHTLOG_LLM_MINUTES_PER_NIGHT": "0.2"}
    try:
        yield {
            "answered": recorded,
            "off": {"NIGHTLOG_LLM": "off"},
            "refused": key | {"OPENAI_BASE_URL": f"http://127.0.0.1:{refusing.server_port}/v1"},
            "out of budget": key | {"OPENAI_BASE_URL": f"http://127.0.0.1:{slow.server_port}/v1", "NIGHTLOG_LLM_CALLS_PER_NIGHT": "0"},
            "too slow": key | {"OPENAI_BASE_URL": f"http://127.0.0.1:{slow.server_port}/v1"} | impatient,
        }
    finally:
        refusing.shutdown()
        slow.shutdown()


def show(world: World, recorded: dict[str, str]) -> None:
    """Run the world's nights, the last one in each scene, and print screen, exit code and the page's first lines."""
    before = OUT / world.system / "before"
    for ds in world.nights[:-1]:
        ran = nightlog(world, before, recorded, "run", "--ds", ds, "--systems", world.system)
        if ran.returncode:
            sys.exit(f"{world.system} {ds} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    last = world.nights[-1]
    with scenes(recorded) as by_name:
        for name, settings in by_name.items():
            lake = OUT / world.system / name.replace(" ", "-")
            shutil.copytree(before, lake) if before.exists() else None
            ran = nightlog(world, lake, settings, "run", "--ds", last, "--systems", world.system)
            print(f"\n## {world.system} {last}, LLM {name}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}".rstrip())
            shown = nightlog(world, lake, settings, "anomalies", "--ds", last)
            print(f"\nanomalies: exit {shown.returncode}\n" + "\n".join((shown.stderr + shown.stdout).strip().splitlines()[:6]))
            pages = sorted(lake.glob(f"reports/**/{last}*/index.html")) or sorted(lake.glob(f"reports/**/*{last}*.html"))
            print("\npage:\n  " + "\n  ".join(page_text(pages[0])[:PAGE_LINES]) if pages else "no page")


@contextlib.contextmanager
def recorded_server(shared: Path) -> Iterator[dict[str, str]]:
    """Start the server that answers with the shared recordings."""
    command = [sys.executable, str(shared / "llm" / "serve.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        try:
            yield {"NIGHTLOG_LLM": "openai", "OPENAI_BASE_URL": address, "OPENAI_API_KEY": "sk-test-key-000000"}
        finally:
            running.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", default="dovecot,hdfs")
    chosen = parser.parse_args().systems.split(",")
    shutil.rmtree(OUT, ignore_errors=True)
    if "dovecot" in chosen:
        show(World("dovecot", ("2026-03-02", "2026-03-03", "2026-03-04"), {}), {"NIGHTLOG_LLM": "recorded"})
    shared = os.environ.get("NIGHTLOG_SHARED")
    if "hdfs" in chosen and shared is None:
        print("\nHDFS is left out: NIGHTLOG_SHARED names no folder of shared data")
    elif "hdfs" in chosen:
        with recorded_server(Path(shared or "")) as recorded:
            data = {"NIGHTLOG_DATA": str(Path(shared or "") / "data" / "raw")}
            show(World("hdfs", ("2008-11-09", "2008-11-10", "2008-11-11"), data), recorded)


if __name__ == "__main__":
    main()
