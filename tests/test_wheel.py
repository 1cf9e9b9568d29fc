"""The wheel, in environments that know nothing of the repository: the reading side alone, and with the extra `jobs` a night."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LINES_TABLE
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / ".uv" / "bin" / "uv"
Command = Callable[..., subprocess.CompletedProcess[str]]
needs_uv = pytest.mark.skipif(not UV.exists(), reason="`make setup` has not put uv into .uv")


def uv(*arguments: object, cwd: Path, **env: str) -> str:
    done = subprocess.run([UV, *map(str, arguments)], cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(requirements: Iterable[str]) -> set[str]:
    return {Requirement(line).name for line in requirements if line.strip() and not line.lstrip().startswith(("#", "-e"))}


@needs_uv
@pytest.mark.parametrize("path", ["requirements.txt", "dags/requirements.txt"])
def test_requirements_are_exported_from_the_lock(path: str, tmp_path: Path) -> None:
    """The file's own head names the command that writes it."""
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "dags").mkdir()
    shown = (ROOT / path).read_text(encoding="utf-8")
    command = shlex.split(shown.splitlines()[1].lstrip("# "))
    assert command[:2] == ["uv", "export"]
    uv(*command[1:], cwd=tmp_path, UV_OFFLINE="1")
    assert (tmp_path / path).read_text(encoding="utf-8") == shown, "run `make lock`"


@needs_uv
def test_the_lock_is_that_of_the_project_and_names_no_other_index(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    uv("lock", "--check", "--python", sys.executable, cwd=tmp_path, UV_OFFLINE="1")
    hosts = re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text(encoding="utf-8"))
    assert set(hosts) == {"pypi.org", "files.pythonhosted.org"}


def test_nothing_that_only_tests_call_is_installed_to_run_nights() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    for path in ("requirements.txt", "dags/requirements.txt"):
        installed = names((ROOT / path).read_text(encoding="utf-8").splitlines())
        assert len(installed) > 50
        assert installed & names(groups["dev"]) == set()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Command]:
    """Make an environment of the locked packages and the wheel, with an extra; returns its `nightlog`, run in an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--out-dir", folder, ROOT, cwd=folder)  # through an sdist: nothing of an earlier build
    (wheel,) = folder.glob("*.whl")

    @cache
    def make(extra: str) -> Command:
        place = folder / f"with{extra}"
        locked = ("sync", "--quiet", "--frozen", "--no-dev", "--no-install-project", "--python", sys.executable)
        uv(*locked, *(("--extra", extra) if extra else ()), cwd=ROOT, UV_PROJECT_ENVIRONMENT=str(place))
        uv("pip", "install", "--quiet", "--no-deps", "--python", place, wheel, cwd=folder)
        uv("pip", "check", "--quiet", "--python", place, cwd=folder)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_", "PYTHON", "VIRTUAL_ENV"))}

        def nightlog(*words: object, **settings: str) -> subprocess.CompletedProcess[str]:
            command = [place / "bin" / "nightlog", *map(str, words)]
            return subprocess.run(command, cwd=folder, env=kept | settings, capture_output=True, text=True, check=False)

        return nightlog

    return make


@needs_uv
@pytest.mark.slow
def test_the_reading_side_reads_a_lake_and_says_what_it_lacks(installed: Callable[[str], Command], sample_lake: Lake) -> None:
    nightlog = installed("")
    lake = str(sample_lake.root)
    commands = [["nights"], ["anomalies"], ["report"], ["query", "select count(*) from v_anomalies"], ["signals"]]
    commands += [["compare", "--baseline", "2026-03-04"], ["compare", ROOT / "LICENSE", "--baseline", ROOT / "README.md"]]
    for words in commands:
        done = nightlog(*words, NIGHTLOG_LAKE=lake)
        assert done.returncode == 0, (words, done.stderr)
    pattern = re.search(r"nightlog show (\w+) --system dovecot", nightlog("anomalies", NIGHTLOG_LAKE=lake, COLUMNS="200").stdout)
    assert pattern is not None
    assert nightlog("show", pattern[1], "--system", "dovecot", NIGHTLOG_LAKE=lake).returncode == 0
    assert "pip install 'nightlog[jobs]'" in nightlog("doctor", NIGHTLOG_LAKE=lake, COLUMNS="300").stdout
    refused = nightlog("run", "--ds", "2026-03-04", NIGHTLOG_LAKE=lake)
    assert refused.returncode == 30
    assert "pip install 'nightlog[jobs]'" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


@needs_uv
@pytest.mark.slow
def test_a_night_by_the_wheel_alone(installed: Callable[[str], Command], tmp_path: Path) -> None:
    nightlog = installed("jobs")
    done = nightlog("run", "--ds", "2026-03-04", "--systems", "dovecot", NIGHTLOG_LAKE=str(tmp_path), NIGHTLOG_LLM="recorded")
    assert done.returncode == 0, done.stdout + done.stderr
    found = nightlog("anomalies", "--format", "json", NIGHTLOG_LAKE=str(tmp_path))
    assert found.returncode == 0 and "dovecot" in found.stdout


@needs_uv
@pytest.mark.slow
def test_a_stage_is_submitted_to_spark_from_the_wheel(installed: Callable[[str], Command], tmp_path: Path) -> None:
    nightlog = installed("jobs")
    lake, events = tmp_path / "lake", tmp_path / "events"
    night = ("ingest", "--ds", "2026-03-04", "--systems", "dovecot")
    refused = nightlog("spark-submit", *night, NIGHTLOG_LAKE=str(lake))
    assert refused.returncode == 30
    assert "run `nightlog jars`" in " ".join(refused.stderr.split())
    resolved = nightlog("jars")
    assert resolved.returncode == 0 and "delta-spark" in resolved.stdout, resolved.stderr
    events.mkdir()
    logged = (
        "--conf",
        "spark.eventLog.enabled=true",
        "--conf",
        "spark.eventLog.compress=false",
        "--conf",
        f"spark.eventLog.dir={events.as_uri()}",
    )
    done = nightlog("spark-submit", *logged, *night, NIGHTLOG_LAKE=str(lake), NIGHTLOG_LOCAL_MIB="0", NIGHTLOG_DRIVER_MEMORY="1g")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dovecot ingest done" in done.stdout
    assert Lake(lake).rows(LINES_TABLE, columns=["system"])
    assert any(b"SparkListenerTaskEnd" in path.read_bytes() for path in events.rglob("events_*"))
    nothing = nightlog("spark-submit", "ingest", "--ds", "yesterday", NIGHTLOG_LAKE=str(lake))
    assert nothing.returncode == 2  # of the job, through spark-submit
