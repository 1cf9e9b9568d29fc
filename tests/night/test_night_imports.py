"""Heavy libraries are imported only by what uses them: each costs a process up to seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

HEAVY = {"torch", "pyspark", "great_expectations", "sklearn", "scipy", "openai", "sentence_transformers", "duckdb", "pandas", "drain3"}
COMMAND = "import sys; from nightlog.cli import main\nsys.argv = ['nightlog', *sys.argv[1:]]\ntry: main()\nexcept SystemExit: pass"
# A night of the sample up to publishing, in one process.
NIGHT = """
import sys
from pathlib import Path
from nightlog.outcomes import Stage
from nightlog.run.context import utc_now
from nightlog.run.entry import chosen_systems
from nightlog.run.night import Night
from nightlog.lake.lake import Lake
from nightlog.settings import settings_from

settings = settings_from(lake=Path(sys.argv[1]), data=None, master=None, profile=None)
night = Night("2026-03-04", "run", chosen_systems(settings, "dovecot"), Lake(settings.lake), settings, utc_now)
for stage in Stage.REPORT.before:
    for outcome in night.run_stage(stage):
        print(stage, outcome.outcome, file=sys.stderr)
"""


def imported(script: str, *arguments: str) -> tuple[set[str], str]:
    """The heavy libraries that a process imports which runs a script, and what it wrote to its standard error."""
    listing = f"{script}\nimport sys; print('IMPORTED', *(name for name in {sorted(HEAVY)} if name in sys.modules))"
    environment = os.environ | {"NIGHTLOG_LLM": "off", "NIGHTLOG_CONFIG": "/dev/null"}
    for name in ("NIGHTLOG_DATA", "NIGHTLOG_SYSTEMS"):
        environment.pop(name, None)
    with NamedTemporaryFile("w", suffix=".py") as program:  # in `python -c`, Spark takes itself for a doctest and ends the process
        program.write(listing)
        program.flush()
        command = [sys.executable, program.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("IMPORTED")]
    assert lines, done.stderr
    return set(lines[-1].split()[1:]), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["anomalies", "--help"]])
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    assert imported(COMMAND, *arguments)[0] == set()


def test_a_query_imports_what_reads_tables_alone(tmp_path: Path) -> None:
    found, _ = imported(COMMAND, "query", "select 1 as n", "--lake", str(tmp_path))
    assert "duckdb" in found and found <= {"duckdb", "pandas"}, "pyarrow imports pandas by itself"


def test_a_small_night_without_an_llm_imports_what_parses_and_the_gate(tmp_path: Path) -> None:
    found, log = imported(NIGHT, str(tmp_path / "lake"))
    assert "publish incomplete" in log, "it got to the end, and nobody judged the rest"
    assert {"drain3", "great_expectations"} <= found
    assert not found & {"torch", "sklearn", "openai", "sentence_transformers", "duckdb"}
