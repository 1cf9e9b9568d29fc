"""VACUUM keeps every file that a version of the replay days needs, whatever Delta itself remembers; and earlier versions come back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from nightlog.errors import ConfigError
from nightlog.lake.delta import Write
from nightlog.lake.lake import Lake
from nightlog.lake.maintain import vacuum
from nightlog.lake.schema import rows_table
from nightlog.lake.tables import ANSWERS, SESSIONS, TableSpec
from nightlog.lake.time_travel import restore, versions

DAY = 86400
SLICE = {"system": "app", "ds": "2026-03-04"}


@pytest.fixture
def bare(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def age(lake: Lake, spec: TableSpec, version: int, days: float) -> None:
    """Make a commit look as if it had been made so many days ago."""
    log = Path(lake.path(spec), "_delta_log", f"{version:020}.json")
    at = int((time.time() - days * DAY) * 1000)
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "remove" in action:
            action["remove"]["deletionTimestamp"] = at
        if "commitInfo" in action:
            action["commitInfo"]["timestamp"] = at
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))
    os.utime(log, (at / 1000,) * 2)


def sessions(lake: Lake, version: int | None = None) -> list[str]:
    return [
        row["session_id"] for row in DeltaTable(lake.path(SESSIONS), version=version).to_pyarrow_table(columns=["session_id"]).to_pylist()
    ]


def by_parts(lake: Lake, rows: list[dict[str, Any]]) -> None:
    lake.replace(SESSIONS, [{name: value for name, value in row.items() if name not in SLICE} for row in rows], **SLICE)


def by_delta_rs(lake: Lake, rows: list[dict[str, Any]]) -> None:
    lake.write(Write(SESSIONS, rows_table(SESSIONS, [SLICE | row for row in rows]), SLICE))


@pytest.mark.parametrize("write", [by_parts, by_delta_rs])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_vacuum_keeps_what_a_version_of_the_replay_days_needs(bare: Lake, write: Callable[..., None], checkpoint: bool) -> None:
    """The file of three weeks ago is too old. That of 13 days ago is not, also where a checkpoint has been made since."""
    for number in range(3):
        write(bare, [{"session_id": f"s{number}"}])
    first = 0 if bare.table(SESSIONS).version() == 2 else 1
    for number, days in enumerate((40, 20, 13)):
        age(bare, SESSIONS, first + number, days)
    for path in Path(bare.path(SESSIONS)).rglob("*.parquet"):
        os.utime(path, (time.time() - 50 * DAY,) * 2)
    if checkpoint:
        bare.table(SESSIONS).create_checkpoint()

    assert vacuum(bare, SESSIONS, 14) == 1
    assert vacuum(bare, SESSIONS, 14) == 0, "what is gone is not removed again"
    assert sessions(bare) == ["s2"] and sessions(bare, first + 1) == ["s1"]
    with pytest.raises(Exception, match=r"No such file|not found|Object at location"):
        sessions(bare, first)


def test_a_table_of_an_earlier_nightlog_is_told_to_remember(bare: Lake) -> None:
    by_delta_rs(bare, [{"session_id": "s"}])
    bare.table(SESSIONS).alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 7 days"})
    vacuum(bare, SESSIONS, 14)
    assert bare.table(SESSIONS).metadata().configuration["delta.deletedFileRetentionDuration"] == "interval 29 days"


def test_a_table_goes_back_to_how_it_was_at_a_time_or_version(bare: Lake) -> None:
    for number in range(3):
        by_delta_rs(bare, [{"session_id": f"s{number}"}])
        age(bare, SESSIONS, number, 3 - number)
    now = datetime.now(UTC)
    newest = versions(bare, SESSIONS)[0]
    assert (newest.version, newest.operation) == (2, "WRITE")
    assert restore(bare, SESSIONS, now - timedelta(days=1, hours=12)) == 1
    assert sessions(bare) == ["s1"]
    assert restore(bare, SESSIONS, 2) == 2 and sessions(bare) == ["s2"], "what was restored can be undone"
    by_delta_rs(bare, [{"session_id": "s9"}])
    assert sessions(bare) == ["s9"], "and written to"


def test_what_cannot_be_restored_is_told(bare: Lake) -> None:
    with pytest.raises(ConfigError, match=r"no table ops\.answers"):
        restore(bare, ANSWERS, 0)
    by_delta_rs(bare, [{"session_id": "s"}])
    with pytest.raises(ConfigError, match="versions up to 0, and not 7"):
        restore(bare, SESSIONS, 7)
    with pytest.raises(ConfigError, match="no version that early"):
        restore(bare, SESSIONS, datetime(2020, 1, 1, tzinfo=UTC))
    by_delta_rs(bare, [{"session_id": "s2"}])
    for path in Path(bare.path(SESSIONS)).rglob("*.parquet"):
        if str(path) not in " ".join(bare.table(SESSIONS).file_uris()):
            path.unlink()
    with pytest.raises(ConfigError, match="files are gone"):
        restore(bare, SESSIONS, 0)
    assert sessions(bare) == ["s2"]
