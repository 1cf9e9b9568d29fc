"""The wheel, in environments that know nothing of the repository: the reading side alone, and with the extra `jobs` a night."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / ".uv" / "bin" / "uv"
Command = Callable[..., subprocess.CompletedProcess[str]]
needs_uv = pytest.mark.skipif(not UV.exists(), reason="`make setup` has not put uv into .uv")


def asked_for() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(each) for each in (*project["dependencies"], *project["optional-dependencies"]["jobs"])]


def test_requirements_pin_what_the_package_asks_for() -> None:
    head = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n\n")[0]
    pinned = dict(line.split("==") for line in head.splitlines() if "==" in line)
    wanted = {each.name: each.specifier for each in asked_for()}
    assert pinned.keys() == wanted.keys()
    assert {name: version for name, version in pinned.items() if version not in wanted[name]} == {}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Command]:
    """Make an environment from the wheel with an extra; returns its `nightlog`, run in an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")

    def uv(*arguments: object) -> None:
        done = subprocess.run([UV, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    uv("build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")

    def make(extra: str) -> Command:
        place = folder / f"with{extra.strip('[]')}"
        uv("venv", "--quiet", "--python", "3.11", place)
        uv("pip", "install", "--quiet", "--python", place / "bin" / "python", "--constraint", ROOT / "requirements.txt", f"{wheel}{extra}")
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
    for words in (["nights"], ["anomalies"], ["report"], ["query", "select count(*) from v_anomalies"], ["signals"]):
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
    nightlog = installed("[jobs]")
    done = nightlog("run", "--ds", "2026-03-04", "--systems", "dovecot", NIGHTLOG_LAKE=str(tmp_path), NIGHTLOG_LLM="recorded")
    assert done.returncode == 0, done.stdout + done.stderr
    found = nightlog("anomalies", "--format", "json", NIGHTLOG_LAKE=str(tmp_path))
    assert found.returncode == 0 and "dovecot" in found.stdout
