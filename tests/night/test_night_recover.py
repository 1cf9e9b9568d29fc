"""What docs/how-to/recover.md promises: silver from bronze, gold from silver, a table as it was yesterday, a lake that was moved."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, ANOMALIES, NIGHTS, VERDICTS
from nightlog.outcomes import EXIT_NOT_THERE, EXIT_USAGE, Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nights import add_toy_model, content, run_night, small_system, snapshot

FIRST, SECOND = "2026-03-03", "2026-03-04"
Write = Callable[[str, str, bytes], Path]


def again(lake: Lake, settings: Settings, ds: str, first: Stage) -> None:
    """What `nightlog run --from STAGE` does."""
    night = Night(ds, f"again-{ds}-{first}", [small_system("app")], lake, settings, lambda: datetime.now(UTC))
    for stage in list(Stage)[list(Stage).index(first) :]:
        assert [outcome.outcome for outcome in night.run_stage(stage)] == ["done"]


@pytest.mark.slow
def test_a_lake_is_put_together_again(tmp_path: Path, write_log: Write) -> None:
    """The log files are gone, and the LLM's verdicts stay."""
    write_log("app", f"{FIRST}.log", b"".join(b"INFO s%d request %d served\n" % (n % 5, n) for n in range(40)) + b"ERROR s9 disk gone\n")
    write_log(
        "app", f"{SECOND}.log", b"".join(b"INFO s%d request %d served\n" % (n % 7, n) for n in range(40)) + b"WARN s3 disk /a/b back\n"
    )
    said = [{"template": "disk gone", "count": 1}]
    verdicts = tmp_path / "verdicts.jsonl"
    verdicts.write_text(json.dumps({"system": "app", "events": said, "label": "anomalous", "confidence": 0.9, "reason": "lost"}) + "\n")
    lake = Lake(tmp_path / "lake")
    add_toy_model(lake)
    settings = Settings(data=tmp_path / "data", llm="recorded", llm_recorded=verdicts, device="cpu")
    for ds in (FIRST, SECOND):
        run_night(lake, settings, [small_system("app")], ds, f"first-{ds}")
    before, bill = snapshot(lake), content(lake, VERDICTS)
    assert any("lost" in row for row in before[ANOMALIES.name])
    shutil.rmtree(tmp_path / "data" / "app")

    # gold from silver
    for spec in (ANOMALIES, NIGHTS):
        shutil.rmtree(lake.path(spec))
    lake = Lake(lake.root)
    for ds in (FIRST, SECOND):
        again(lake, settings, ds, Stage.PUBLISH)
    assert snapshot(lake) == before

    # silver from bronze
    for spec in ALL_TABLES:
        if spec.name.startswith("silver.") and spec != VERDICTS and lake.exists(spec):
            shutil.rmtree(lake.path(spec))
    lake = Lake(lake.root)
    assert snapshot(lake) != before
    for ds in (FIRST, SECOND):
        again(lake, settings, ds, Stage.PARSE)
    assert snapshot(lake) == before
    assert content(lake, VERDICTS) == bill

    # a table as it was: a wrong run is undone, by the command
    def restore(*arguments: str) -> str:
        program = [str(Path(sys.executable).with_name("nightlog")), "restore", "gold.anomalies", "--lake", lake.root, *arguments]
        return subprocess.run(program, capture_output=True, text=True, check=True).stdout

    listed = json.loads(restore("--format", "json"))
    lake.table(ANOMALIES).delete()
    assert not lake.rows(ANOMALIES)
    assert f"version {listed[0]['version']}" in restore("--to", str(listed[0]["version"]))
    assert snapshot(lake) == before

    # the lake elsewhere: the same rows, and the night runs there
    moved = Lake(tmp_path / "elsewhere" / "lake of 2026")
    shutil.copytree(lake.root, moved.root)
    shutil.rmtree(lake.root)
    assert snapshot(moved) == before
    again(moved, settings, SECOND, Stage.ROUTE)
    assert snapshot(moved) == before
    assert Path(moved.root, "reports", SECOND, "app.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "--ds", SECOND, "--from", "prase"), EXIT_USAGE, "no such stage; expected one of ingest, parse"),
        (("restore", "gold.anomaly"), EXIT_NOT_THERE, "did you mean `gold.anomalies`"),
        (("restore", "gold.anomalies"), EXIT_NOT_THERE, "no table gold.anomalies in the lake"),
        (("restore", "gold.anomalies", "--to", "yesterday"), EXIT_USAGE, "neither a version nor a time"),
    ],
)
def test_a_wrong_argument_is_reported(arguments: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("nightlog"))
    done = subprocess.run([program, *arguments, "--lake", str(tmp_path / "lake")], capture_output=True, text=True, check=False)
    assert done.returncode == code and message in done.stderr
