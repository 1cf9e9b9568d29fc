"""Locks of a lake in an object store: one process at a time, and none that was stopped or killed keeps the others out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from lock_scenarios import SCENARIOS
from nightlog.doctor.tables import folder
from nightlog.errors import StoreRefused
from nightlog.lake.lake import Lake
from nightlog.lake.lease_stores import lease_store
from nightlog.lake.locks import is_free, locked
from nightlog.lake.tables import ANOMALIES, LINES_TABLE, OUTCOMES
from nightlog.outcomes import Stage
from nightlog.settings import Settings
from nights import snapshot
from sample_night import DS

BIN = Path(sys.executable).parent


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_locks(endpoint: dict[str, str], scenario: Callable[[str], None]) -> None:
    scenario(f"s3://lakes/{scenario.__name__}")


class Unconditional(BaseHTTPRequestHandler):
    """An S3 server that ignores conditions, as old ones do."""

    objects: ClassVar[dict[str, bytes]] = {}

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), ("ETag", '"1"'), ("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)

    def do_GET(self) -> None:
        self.answer(200 if self.path in self.objects else 404, self.objects.get(self.path, b""))

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("refusal", ["ignored", "disabled"])
def test_a_store_without_conditional_writes_is_refused(endpoint: dict[str, str], monkeypatch: pytest.MonkeyPatch, refusal: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Unconditional)
    Thread(target=server.serve_forever, daemon=True).start()
    if refusal == "ignored":
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    else:
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    try:
        with pytest.raises(StoreRefused, match="has no conditional writes"), locked(f"s3://lakes/{refusal}", "shop"):
            raise AssertionError
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_doctor_checks_the_conditional_writes_of_a_lake(endpoint: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake("s3://lakes/doctor")
    assert [each.state for each in folder(lake)] == ["warning"], "no lake yet: nothing is written there"
    with locked(lake.root, "shop"):
        pass
    assert [each.state for each in folder(lake)] == ["ok", "ok"]
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    lease_store.cache_clear()
    assert [each.state for each in folder(lake)] == ["ok", "error"]


# Nights


@pytest.fixture(scope="module")
def logs(endpoint: dict[str, str]) -> str:
    """The logs of the sample's system in the store."""
    from nightlog.lake.storage import write_file

    folder = Settings().sample_logs
    for path in sorted(folder.rglob("dovecot-*.gz")):
        write_file(f"s3://lakes/logs/{path.relative_to(folder)}", path.read_bytes())
    return "s3://lakes/logs"


def start_night(root: str, data: str) -> subprocess.Popen[str]:
    """Start `nightlog run` for the sample's last night."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLOG_")}
    env |= {"NIGHTLOG_LAKE": root, "NIGHTLOG_DATA": data, "NIGHTLOG_LLM": "recorded", "NIGHTLOG_LOCK_LEASE_S": "3"}
    command = [str(BIN / "nightlog"), "run", "--ds", DS, "--systems", "dovecot"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_lock(root: str) -> None:
    """Wait until the first stage holds the lock of its system."""
    deadline = time.monotonic() + 60
    while is_free(root, "dovecot"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(logs: str) -> dict[str, list[str]]:
    """The tables of a night that nobody disturbs; lake and logs are in the store."""
    process = start_night("s3://lakes/alone", logs)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    lake = Lake("s3://lakes/alone")
    assert lake.rows(ANOMALIES) != [] != lake.rows(LINES_TABLE)
    return snapshot(lake)


@pytest.mark.cluster
def test_of_two_runs_of_a_night_at_once_the_later_has_it_alone(logs: str, alone: dict[str, list[str]]) -> None:
    root = "s3://lakes/two"
    runs = [start_night(root, logs) for _ in range(2)]
    outputs = [run.communicate()[0] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes in ([0, 30], [0, 0]), outputs
    assert codes == [0, 0] or sum("so this run leaves the night to it" in output for output in outputs) == 1, outputs
    assert snapshot(Lake(root)) == alone


@pytest.mark.cluster
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_that_is_killed_or_stopped_does_not_hold_up_the_next(logs: str, alone: dict[str, list[str]], sent: signal.Signals) -> None:
    root = f"s3://lakes/{sent.name.lower()}"
    first = start_night(root, logs)
    wait_for_lock(root)
    first.send_signal(sent)
    second = start_night(root, logs)
    output = second.communicate()[0]
    assert second.returncode == 0, output
    lake = Lake(root)
    assert snapshot(lake) == alone
    outcomes = lake.rows(OUTCOMES)
    assert len(outcomes) == len(Stage) and {row["outcome"] for row in outcomes} == {"done"}
    first.send_signal(signal.SIGCONT)
    output = first.communicate()[0]
    if sent == signal.SIGSTOP:
        assert first.returncode == 20 and "another process has taken over the lock" in output, output
    assert snapshot(lake) == alone
    assert sorted(map(str, lake.rows(OUTCOMES))) == sorted(map(str, outcomes)), "what came too late is not recorded"
