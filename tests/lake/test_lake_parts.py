"""Part files by row groups: only those whose time may be wanted are read, and columns that an older file lacks are null."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nightlog.lake.parts import groups_between, open_part, read_group
from nightlog.lake.tables import EVENTS_TABLE

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
MINUTE = 60_000_000


@pytest.fixture
def events(tmp_path: Path) -> str:
    """A part of four row groups of two events each, a minute apart; an event of the third has no time."""
    times = [NOON + timedelta(minutes=n) if n != 5 else None for n in range(8)]
    rows = pa.table({"session_id": list("aabbccdd"), "at": pa.array(times, pa.timestamp("us", "UTC")), "file": ["x.log"] * 8})
    path = Path(tmp_path, EVENTS_TABLE.path, "part.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(rows, path, row_group_size=2)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("first", "last", "groups"), [(0, 7, [0, 1, 2, 3]), (3, 3, [1, 2]), (-9, -1, [2]), (7, 99, [2, 3]), (1, 2, [0, 1, 2])]
)
def test_row_groups_of_other_times_are_passed_over_unless_an_event_has_no_time(
    events: str, first: int, last: int, groups: list[int]
) -> None:
    with open_part(events, EVENTS_TABLE, "part.parquet") as file:
        assert groups_between(file, "at", NOON_US + first * MINUTE, NOON_US + last * MINUTE) == groups


def test_a_row_group_has_its_columns_and_null_for_those_that_the_file_lacks(events: str) -> None:
    with open_part(events, EVENTS_TABLE, "part.parquet", ["file", "level"]) as file:
        rows = read_group(file, EVENTS_TABLE, 1, ["level", "session_id", "file"], ["file", "level"])
    assert pa.types.is_dictionary(rows.schema.field("level").type) and pa.types.is_dictionary(rows.schema.field("file").type)
    assert rows.to_pylist() == [{"level": None, "session_id": "b", "file": "x.log"}] * 2
