"""Counts that are sent to the tasks by ranges of sessions give what tasks give that read them from the parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from nightlog.lake import runner
from nightlog.lake.lake import Lake
from nightlog.lake.parts import write_part
from nightlog.lake.tables import COUNTS_TABLE, PATTERNS, READINGS, SESSIONS, WAITING
from nightlog.parsing.events import BUCKETS
from nightlog.parsing.parse import parse
from nightlog.run.context import Context
from nightlog.run.stages import ingest
from nightlog.sessions import write
from nightlog.sessions.write import split_part
from nightlog.settings import Settings
from nightlog.systems.spec import Header, Input, Session, System, Timestamp
from nights import NOW, comparable_rows
from pyspark.sql import SparkSession

DAYS = ("2026-03-03", "2026-03-04", "2026-03-05")
SYSTEM = System(
    name="shop",
    role="target",
    input=Input(path="shop-{ds}.log"),
    header=Header(pattern=r"(?P<time>\S+ \S+) (?P<message>.*)"),
    timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"),
    session=Session(kind="id", pattern=r"req-\d+", lookback_days=1),
)


def write_files(folder: Path) -> None:
    """Write three days of 40 requests each; every third goes on over midnight."""
    for number, ds in enumerate(DAYS):
        lines = []
        for request in range(40):
            own = request + 40 * number
            lines += [f"{ds} 12:{request:02d}:00 begin req-{own}", f"{ds} 12:{request:02d}:01 step {'ab'[request % 2]} of req-{own}"]
            if request % 3 == 0 and number:
                lines.append(f"{ds} 00:00:{request:02d} end req-{own - 40}")
        lines.append(f"{ds} 23:59:00 begin req-{900 + number}")
        (folder / f"shop-{ds}.log").write_text("".join(f"{line}\n" for line in lines))


def parsed(lake: Lake, data: Path) -> Lake:
    """Run the three nights as far as sessions."""
    settings = Settings(lake=Path(lake.root), data=data, llm="off")
    for ds in DAYS:
        ingest(lake, Context(ds, ds, (SYSTEM,), lake, settings, lambda: NOW), SYSTEM, None, None)  # type: ignore[arg-type]
        parse(lake, SYSTEM, ds, ds)
    return lake


@pytest.mark.parametrize("way", ["other processes", "Spark"])
def test_sessions_are_the_same_if_counts_are_read_or_sent(
    way: str, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path)
    read = parsed(Lake(tmp_path / "read"), tmp_path)
    for name, value in {"COUNTS_PER_TASK": 20, "MOST_READERS": 2}.items():
        monkeypatch.setattr(write, name, value)
    monkeypatch.setattr(runner, "ONE_PROCESS_BYTES", 0)
    sent = parsed(Lake(tmp_path / "sent", spark, 0) if way == "Spark" else Lake(tmp_path / "sent"), tmp_path)
    assert len(sent.parts(SESSIONS, system="shop", ds=DAYS[1])) > write.MOST_READERS
    for spec in (SESSIONS, PATTERNS, WAITING, READINGS):
        rows = comparable_rows(read, spec)
        assert rows == comparable_rows(sent, spec)
        assert rows
    if way != "Spark":  # the session is that of other tests
        sent.close()


def test_a_part_is_split_into_ranges_without_loss(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 10_000
    rows = pa.table(
        {
            "session_id": [f"s{each}" for each in rng.integers(0, 3000, n).tolist()],
            "message_id": rng.integers(0, 50, n),
            "n": rng.integers(1, 9, n),
            "first_at": pa.array(rng.integers(0, 1 << 50, n)).cast(pa.timestamp("us", tz="UTC")),
            "last_at": pa.nulls(n, pa.timestamp("us", tz="UTC")),
            "bucket": pa.array(rng.integers(0, BUCKETS, n), pa.int32()),
        }
    )
    part = write_part(str(tmp_path), COUNTS_TABLE, rows, system="shop", ds=DAYS[0])
    edges = np.linspace(0, BUCKETS, 8).astype(int)
    found = [(number, pa.ipc.open_stream(raw).read_all()) for number, (_, raw) in split_part(part, str(tmp_path), edges)]
    for number, some in found:
        buckets = some.column("bucket").to_numpy()
        assert ((buckets >= edges[number]) & (buckets < edges[number + 1])).all()
    key = [(name, "ascending") for name in ("bucket", "session_id", "message_id", "n", "first_at")]
    whole = pa.concat_tables([some for _, some in found]).select(rows.column_names).sort_by(key)
    assert whole.equals(rows.sort_by(key))
