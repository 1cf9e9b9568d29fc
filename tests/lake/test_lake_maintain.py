"""Upkeep: what is too old goes, everything else stays as it was and can be read as it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.maintain import Retention, expired_nights, last_runs, maintain
from nightlog.lake.tables import (
    ALL_TABLES,
    ANOMALIES,
    ANSWERS,
    INCIDENTS,
    LABELS,
    LINES_TABLE,
    LLM_CALLS,
    MODELS,
    NIGHTS,
    OUTCOMES,
    PSEUDO_LABELS,
    QUARANTINE,
    SESSIONS,
    TEMPLATES,
    VERDICTS,
    TableSpec,
)
from nightlog.outcomes import EXIT_PERMANENT
from nightlog.run.upkeep import run_maintenance
from nightlog.settings import Settings

NOW = datetime(2026, 3, 10, 16, tzinfo=UTC)
OLD, MIDDLE, NEW, LATE = "2025-12-01", "2026-01-20", "2026-03-09", "2008-11-09"
KEEP = Retention(bronze=30, silver=60, gold=365, replay=14)
PER_NIGHT: dict[TableSpec, dict[str, Any]] = {
    LINES_TABLE: {"file": "f", "line_no": 1, "text": "it's"},
    LABELS: {"file": "f", "line_no": 1, "label": 1},
    SESSIONS: {"session_id": "s", "n_events": 3},
    ANOMALIES: {"session_id": "s", "evidence": [{"template": "t", "count": 1}], "lines": [{"file": "f", "line_no": 1, "text": "x"}]},
    NIGHTS: {"outcome": "done"},
    QUARANTINE: {"stage": "parse", "row": "{}"},
    VERDICTS: {"question_id": "q", "label": "normal", "asked_at": NOW},
    LLM_CALLS: {"calls": 1, "at": NOW},
}


def days(n: int) -> date:
    return NOW.date() - timedelta(days=n)


def test_a_night_is_as_old_as_its_day_or_its_last_run() -> None:
    nights = [("a", str(days(n))) for n in (0, 29, 30, 31, 99)] + [("b", str(days(99))), ("src", str(days(99)))]
    found = expired_nights([*nights, *nights], {("a", str(days(99))): days(3), ("b", str(days(99))): days(60)}, NOW.date(), 30, {"src"})
    assert found == {"a": [str(days(31))], "b": [str(days(99))]}
    assert expired_nights(nights, {}, NOW.date(), 30)["a"] == [str(days(99)), str(days(31))]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bronze": 13}, "NIGHTLOG_BRONZE_DAYS"),
        ({"silver": 5}, "silver_days is 5, less than the 14"),
        ({"gold": 1}, "gold_days is 1"),
        ({"replay": 6}, "at least 7"),
    ],
)
def test_what_replay_promises_cannot_be_dropped(given: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        Retention(**{"bronze": 30, "silver": 60, "gold": 365, "replay": 14} | given)
    assert caught.value.exit_code == EXIT_PERMANENT


def test_what_people_and_models_know_is_kept_for_ever() -> None:
    assert [spec.name for spec in (VERDICTS, ANSWERS, MODELS, PSEUDO_LABELS, TEMPLATES, LLM_CALLS, OUTCOMES) if KEEP.days(spec)] == []
    kept = {spec.name: KEEP.days(spec) for spec in ALL_TABLES if "ds" in spec.names and KEEP.days(spec) is not None}
    assert {name.split(".")[0]: n for name, n in kept.items()} == {"bronze": 30, "silver": 60, "gold": 365, "ops": 30}
    by_day = {spec.name for spec in ALL_TABLES if "ds" in spec.partition}
    assert by_day <= kept.keys(), "every table with a slice a day has a retention"


def test_a_night_that_was_run_again_keeps_the_days_that_it_looks_back_to(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for run, at in (("late", days(1)), ("early", days(200))):
        row = {"run_id": run, "system": "app", "ds": LATE, "at": datetime.combine(at, datetime.min.time(), UTC)}
        lake.append(OUTCOMES, [row, row | {"system": "b"}])
    found = last_runs(lake, {"app": 2, "other": 5})
    looked_back = {("app", "2008-11-07"): days(1), ("app", "2008-11-08"): days(1)}
    of_all = {("", ds): days(1) for ds in ("2008-11-07", "2008-11-08", LATE)}
    assert found == {**looked_back, **of_all, ("app", LATE): days(1), ("b", LATE): days(1)}


def rows(lake: Lake, spec: TableSpec, version: int | None = None) -> list[str]:
    table = DeltaTable(lake.path(spec), version=version).to_pyarrow_table().to_pylist()
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in table)


def fill(lake: Lake) -> None:
    """Three nights of a system, two of a source; an ancient night that was backfilled yesterday."""
    for system, nights in (("app", (OLD, MIDDLE, NEW, LATE)), ("src", (OLD, NEW))):
        for ds in nights:
            for spec, row in PER_NIGHT.items():
                lake.append(spec, [row | {"system": system, "ds": ds}])
            lake.append(TEMPLATES, [{"system": system, "template_id": ds, "text": f"text {ds}"}])
    ran = {LATE: days(1), NEW: days(1)}
    for ds in (OLD, MIDDLE, NEW, LATE):
        at = datetime.combine(ran.get(ds, date.fromisoformat(ds)), datetime.min.time(), UTC)
        lake.append(OUTCOMES, [{"run_id": "r", "system": "app", "ds": ds, "stage": "ingest", "outcome": "done", "at": at}])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake without Spark: upkeep needs none."""
    return Lake(tmp_path / "lake")


@pytest.fixture
def orphans(lake: Lake) -> Iterator[tuple[Path, Path]]:
    """Two files that a writer left behind when it broke off: one of last month, one of today."""
    fill(lake)
    place = Path(lake.path(SESSIONS)) / "system=app" / f"ds={NEW}"
    old, young = place / "old.parquet", place / "young.parquet"
    for path in (old, young):
        path.write_bytes(b"half a file")
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    yield old, young


@pytest.mark.slow
def test_old_nights_go_the_rest_stays_and_can_be_read_as_it_was(lake: Lake, orphans: tuple[Path, Path]) -> None:
    specs = [*PER_NIGHT, TEMPLATES, OUTCOMES]
    before = {spec: rows(lake, spec) for spec in specs}
    versions = {spec: lake.table(spec).version() for spec in specs}
    told: list[str] = []

    assert maintain(lake, KEEP, {"src"}, {"app": 1}, NOW, told.append, dry_run=True)["n_dropped"] == 0
    assert f"bronze.lines: would drop app: 2 nights from {OLD} to {MIDDLE}" in told
    assert versions == {spec: lake.table(spec).version() for spec in specs}

    done = maintain(lake, KEEP, {"src"}, {"app": 1}, NOW, told.append)
    gone = {LINES_TABLE: (OLD, MIDDLE), LABELS: (OLD, MIDDLE), QUARANTINE: (OLD, MIDDLE), SESSIONS: (OLD,)}
    for spec in specs:
        lost = [row for row in before[spec] if json.loads(row)["system"] == "app" and json.loads(row).get("ds") in gone.get(spec, ())]
        assert len(lost) == len(gone.get(spec, ())), spec.name
        assert rows(lake, spec) == sorted(set(before[spec]) - set(lost)), spec.name
        assert rows(lake, spec, versions[spec]) == before[spec], f"{spec.name} as it was"
    assert done["n_dropped"] == 7 and done["n_compacted"] > 6 and done["n_removed"] == 1
    assert [path.exists() for path in orphans] == [False, True]
    assert len(lake.table(TEMPLATES).file_uris()) == 2, "one file a system"
    assert len(lake.rows(TEMPLATES, system="app")) == 4 and len(lake.rows(SESSIONS, system="app")) == 3

    assert maintain(lake, KEEP, {"src"}, {"app": 1}, NOW, told.append) == {"n_dropped": 0, "n_compacted": 0, "n_removed": 0}
    lake.replace(SESSIONS, [PER_NIGHT[SESSIONS] | {"system": "app", "ds": OLD}], system="app", ds=OLD)
    assert lake.nights(SESSIONS, "app") == {OLD, MIDDLE, NEW, LATE}, "what was dropped can be made again"


def test_a_run_takes_its_days_from_the_settings(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    fill(lake)
    told: list[str] = []
    run_maintenance(Settings(lake=tmp_path / "lake", bronze_days=36500), "", told.append, dry_run=True)
    assert "bronze.lines: would drop nothing" in told
    told.clear()
    run_maintenance(Settings(lake=tmp_path / "lake", silver_days=14, bronze_days=14), "src", told.append, dry_run=True)
    assert any(line.startswith("bronze.lines: would drop src: ") for line in told)
    assert not any("app" in line for line in told)
    with pytest.raises(ConfigError, match="gold_days"):
        run_maintenance(Settings(lake=tmp_path / "lake", gold_days=7), "", told.append, dry_run=True)


def test_incidents_of_all_systems_go_with_the_gold_nights_unless_one_system_is_maintained(lake: Lake) -> None:
    short = Retention(bronze=30, silver=60, gold=60, replay=14)
    fill(lake)
    lake.append(INCIDENTS, [{"ds": ds, "incident_id": "i"} for ds in (OLD, MIDDLE, NEW, LATE)])
    lines: list[str] = []
    maintain(lake, short, (), {}, NOW, lines.append, systems=["app"])
    assert len(lake.rows(INCIDENTS)) == 4
    maintain(lake, short, (), {}, NOW, lines.append)
    assert {row["ds"] for row in lake.rows(INCIDENTS)} == {MIDDLE, NEW, LATE}, "an ancient night that was run yesterday stays"
    assert any(line.startswith(f"gold.incidents: dropped all systems: 1 nights from {OLD}") for line in lines)
