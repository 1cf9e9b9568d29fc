"""`make airflow`: the real Airflow on this machine, started and ended by dags/airflow.sh."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "dags" / "airflow.sh"
UNIT = ROOT / "conf" / "systemd" / "nightlog-airflow.service"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(home: Path, port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "NIGHTLOG_"))}
    return {**kept, "NIGHTLOG_AIRFLOW_HOME": str(home), "NIGHTLOG_AIRFLOW_PORT": str(port), "NIGHTLOG_LAKE": str(home / "lake")}


def group(pid: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def listening(pids: list[int]) -> set[str]:
    """Addresses on which these processes listen, as in /proc/net/tcp."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
            except FileNotFoundError:
                continue
            sockets |= set(re.findall(r"socket:\[(\d+)\]", target))
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and row[9] in sockets}


def test_airflow_runs_on_this_machine_alone_and_ends_as_a_whole(tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen([SCRIPT], env=environment(tmp_path, port), stdout=subprocess.PIPE, text=True, process_group=0) as running:
        try:
            assert running.stdout is not None
            greeting = running.stdout.readline()
            assert f"http://127.0.0.1:{port}" in greeting, greeting
            password = re.search(r"admin / (\S+)", greeting)
            assert password is not None and password[1] in "".join(path.read_text() for path in tmp_path.glob("simple_auth*"))
            schedules = running.stdout.readline()
            assert "off" in schedules
            deadline = time.monotonic() + 90
            while not all(part in health(port) for part in ("scheduler", "dag_processor", "triggerer")):
                assert time.monotonic() < deadline, health(port)
                time.sleep(1)
            assert listening(group(running.pid)) == {f"0100007F:{port:04X}"}
            second = subprocess.run([SCRIPT], env=environment(tmp_path, port), capture_output=True, text=True, check=False)
            assert second.returncode == 1 and f"port {port} is in use" in second.stderr
            listed = subprocess.run(
                [SCRIPT, "dags", "list", "--columns", "dag_id,is_paused", "--output", "plain"],
                env=environment(tmp_path, port),
                capture_output=True,
                text=True,
                check=True,
            )
            assert re.search(r"nightlog_nightly +True", listed.stdout)
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
    deadline = time.monotonic() + 30
    while group(running.pid) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert group(running.pid) == []


def health(port: int) -> list[str]:
    """The parts that Airflow calls healthy."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=10) as answer:
            return re.findall(r'"(\w+)":\{"status":"healthy"', answer.read().decode())
    except urllib.error.URLError:
        return []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_service_unit_is_valid(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    named = {name: Path(found[1]) for name in ("ExecStart", "EnvironmentFile") if (found := re.search(rf"(?m)^{name}=(\S+)", text))}
    assert named["ExecStart"].relative_to("/opt/nightlog") == SCRIPT.relative_to(ROOT)
    checked = tmp_path / UNIT.name  # the unit with paths that exist here
    checked.write_text(text.replace("/opt/nightlog", str(ROOT)).replace("file://", "file:"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", checked], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and UNIT.name not in done.stderr, done.stderr
    env = (UNIT.parent / "nightlog.env").read_text(encoding="utf-8")
    assert {"NIGHTLOG_LAKE", "NIGHTLOG_DATA", "NIGHTLOG_SYSTEMS"} <= set(re.findall(r"(?m)^(\w+)=", env))
