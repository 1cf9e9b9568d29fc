"""The tutorial, as one types it: its blocks in their order, in one shell, and what it says one will see."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.query import query
from nightlog.lake.tables import ANOMALIES, HANDOFFS, NIGHTS
from pyarrow import parquet
from sample_night import DS, EARLIER, run_demo_nights

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.M | re.S)
MARK = "--- block "


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "libs").symlink_to(ROOT / "libs")
    lake = run_demo_nights(tmp_path / "build" / "demo" / "lake")  # what `make demo` leaves
    asked = [row["run_llm_failed"] for row in lake.rows(NIGHTS, ["run_llm_failed"])]
    assert asked == [0, 0, 0], "each question of the demo has a recorded answer"
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    typed = [text for kind, text in blocks if kind == "sh"]
    assert typed[0] == "make demo\n" and len(typed) > 8
    script = "set -e\n" + "".join(f"echo '{MARK}{number}'\n{text}" for number, text in enumerate(typed) if number)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_"))}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment | {"COLUMNS": "130"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    seen = done.stdout.split(MARK)
    number = -1
    for kind, text in blocks:
        if kind == "sh":
            number += 1
            continue
        for line in text.splitlines():
            assert line in seen[number], f"after `{typed[number].strip()}` one does not see: {line}"
    assert (tmp_path / "build" / "tutorial" / "mailbox.toml").is_file()
    assert (tmp_path / "build" / "demo" / "lake" / "reports" / "2026-03-04" / "index.html").is_file()


@pytest.mark.slow
def test_every_query_in_the_docs_has_an_answer(sample_lake: Lake) -> None:
    found = 0
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for _, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            for sql in re.findall(r'^nightlog query "([^"]+)"', text, re.M):
                assert query(sample_lake, sql).column_names, f"{page.name}: {sql}"
                found += 1
    assert found > 9


@pytest.mark.slow
def test_a_whole_night_hands_off_what_it_published(sample_lake: Lake) -> None:
    beside = Path(sample_lake.root).parent
    exported = parquet.read_table(beside / "exports" / DS / "anomalies.parquet")
    assert exported.num_rows == len(sample_lake.rows(ANOMALIES)) > 50
    assert all(exported["lines"].to_pylist()) and 'nightlog_night_sessions{system="dovecot"} 1610' in (beside / "nightlog.prom").read_text()
    assert [(row["kind"], row["outcome"]) for row in sample_lake.rows(HANDOFFS)] == [("export", "done"), ("metrics", "done")]


def test_the_tutorial_names_the_night_of_the_sample() -> None:
    """The demo's day, as the Makefile has it: what one reads in the tutorial is what `make demo` runs."""
    (day,) = re.findall(r"^DEMO_DS := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    (before,) = re.findall(r"^DEMO_EARLIER := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert (*before.split(), day) == (*EARLIER, DS)
    days = set(re.findall(r"--ds (\S+)", (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")))
    assert days == {day}
