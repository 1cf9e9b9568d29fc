"""What is too much of something has a bound, a note, and stops nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nightlog.ingest.splits import MAX_LINE
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, LINES_TABLE, MESSAGES, SESSIONS, TEMPLATES
from nightlog.outcomes import Stage
from nightlog.settings import Settings
from nightlog.systems.spec import Templates
from nights import add_toy_model, rows_of, run_night, small_system

DS = "2026-03-04"
Write = Callable[[str, str, bytes], Path]


@pytest.mark.slow
def test_too_much_of_anything_is_bounded_and_noted(tmp_path: Path, write_log: Write) -> None:
    """No Spark session: a night of this size needs none."""
    lake = Lake(tmp_path / "lake")
    add_toy_model(lake)
    letters = "".join(chr(97 + n) for n in range(26))
    write_log("busy", f"{DS}.log", b"INFO s1 tick\n" * 200_000 + b"ERROR s2 stop\n")
    write_log("long", f"{DS}.log", b"INFO s1 before\nINFO s2 " + b"x " * (2 * MAX_LINE) + b"\nINFO s3 after\n")
    names = [f"INFO s{n % 7} job {a}{b}z done\n".encode() for n, (a, b) in enumerate((a, b) for a in letters for b in letters)]
    write_log("many", f"{DS}.log", b"".join(names))
    for n in range(300):
        write_log("tiny", f"{DS}.log.{n:03d}", b"INFO s%d one line\n" % n)
    systems = [small_system(name) for name in ("busy", "long", "tiny")]
    systems.append(small_system("many", templates=Templates(messages=100, values=2000)))

    found = run_night(lake, Settings(data=tmp_path / "data", llm="off", device="cpu"), systems, DS, "first")

    assert {outcome.outcome for outcome in found.values()} == {"done"}
    assert len(found) == 4 * len(Stage)
    sessions = {row["session_id"]: row["n_events"] for row in rows_of(lake, SESSIONS, system="busy")}
    assert sessions == {"s1": 200_000, "s2": 1}
    shown = {row["session_id"]: len(row["lines"]) for row in rows_of(lake, ANOMALIES, system="busy")}
    assert shown == {"s1": 50, "s2": 1}

    assert "1 lines were longer than 1,048,576 bytes" in (found["long", Stage.INGEST].detail or "")
    assert [len(row["text"]) for row in rows_of(lake, LINES_TABLE, system="long")] == [14, MAX_LINE, 13]

    assert f"{26 * 26 - 100} records have messages beyond templates.messages = 100" in (found["many", Stage.PARSE].detail or "")
    assert len(rows_of(lake, MESSAGES, system="many")) == 100 + 1
    assert "<*> <*> <*>" in {row["text"] for row in rows_of(lake, TEMPLATES, system="many")}

    assert found["tiny", Stage.INGEST].counts["n_files"] == len(rows_of(lake, LINES_TABLE, system="tiny")) == 300
    assert len(lake.table(LINES_TABLE).file_uris([("system", "=", "tiny")])) == 1
