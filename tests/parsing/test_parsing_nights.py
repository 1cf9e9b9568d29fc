"""Ingest and parse on a lake: run again, in another order, from other files, with labels that must not be seen."""

from __future__ import annotations

import gzip
import json
import lzma
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from nightlog.errors import NoInput
from nightlog.ingest.ingest import ingest, look_back
from nightlog.lake.lake import Lake
from nightlog.lake.tables import (
    COUNTS_TABLE,
    EVENTS_TABLE,
    FILES,
    LABELS,
    LINES_TABLE,
    MESSAGES,
    NUMBERS,
    PATTERNS,
    QUARANTINE,
    READINGS,
    SESSIONS,
    TEMPLATE_COUNTS,
    TEMPLATES,
    WAITING,
    TableSpec,
)
from nightlog.parsing.parse import parse
from nightlog.systems.spec import Input, Labels, Session
from parsing_help import make_system, put_file
from pyspark.sql import SparkSession

FIRST, SECOND = "2026-03-03", "2026-03-04"
TAG = "DISKROT"
SYSTEM = make_system(
    role="source", input=Input(path="app/{ds}*"), labels=Labels(pattern=r"(?P<label>\S+) "), session=Session(kind="id", pattern=r"req-\w+")
)
TABLES = (
    LINES_TABLE,
    LABELS,
    FILES,
    MESSAGES,
    TEMPLATES,
    EVENTS_TABLE,
    COUNTS_TABLE,
    TEMPLATE_COUNTS,
    NUMBERS,
    SESSIONS,
    WAITING,
    READINGS,
    PATTERNS,
    QUARANTINE,
)

pytestmark = pytest.mark.slow


def happenings(ds: str) -> list[str]:
    """A day's lines, each with its label; the day's own messages, a session over midnight, and lines of every odd kind."""
    lines = []
    for n in range(12):
        at = f"{ds} 10:{n:02d}:00"
        lines += [f"- {at} INFO open req-{n} from 10.0.0.{n}", f"- {at} INFO read {n * 7} rows for req-{n}"]
        lines += [f"- {at} INFO read {n} rows for req-{n}"] * (n % 3)
        lines += [f"{TAG} {at} ERROR cannot reach disk sd{n} for req-{n}"] if n % 5 == 0 else [f"- {at} INFO close req-{n}"]
    lines += [
        f"- {ds} 11:00:00 INFO moved req-a1 after req-b2",
        f"- {ds} 11:00:01 INFO heartbeat",
        f"- {ds} 99:00:00 INFO open req-c3 late",
    ]
    if ds == FIRST:
        lines += [f"- {ds} 23:59:59 INFO open req-midnight from 10.0.0.9", f"- {ds} 12:00:00 INFO synced db/users fully for req-d4"]
    else:
        lines += [f"- {ds} 00:00:01 INFO close req-midnight", f"- {ds} 12:00:00 INFO synced db/orders fully for req-d4"]
        lines += [f"- {ds} 13:00:00 INFO only tonight req-e5"]
    return [*lines, "", "no header at all", f"{TAG} neither has this"]


def deliver_whole(data: Path) -> None:
    """One plain file a day."""
    for ds in (FIRST, SECOND):
        put_file(data, f"app/{ds}.log", "".join(line + "\n" for line in happenings(ds)))


def deliver_split(data: Path) -> None:
    """The same lines in another order in three files a day, each packed in another way."""
    for ds in (FIRST, SECOND):
        lines = random.Random(ds).sample(happenings(ds), len(happenings(ds)))
        parts = ["".join(line + "\n" for line in lines[start::3]).encode() for start in range(3)]
        put_file(data, f"app/{ds}.b.log", parts[0])
        put_file(data, f"app/{ds}.c.log.gz", gzip.compress(parts[1]))
        put_file(data, f"app/{ds}.a.log.xz", lzma.compress(parts[2]))


def content(lake: Lake, spec: TableSpec, leave_out: tuple[str, ...] = ()) -> list[str]:
    rows = [{key: value for key, value in row.items() if not key.startswith("run_") and key not in leave_out} for row in lake.rows(spec)]
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)


def contents(lake: Lake) -> dict[str, list[str]]:
    return {spec.name: content(lake, spec) for spec in TABLES}


def run(lake: Lake, data: Path, ds: str, run_id: str) -> dict[str, int]:
    counts, detail = ingest(lake, SYSTEM, ds, data)
    assert detail is None
    return counts | parse(lake, SYSTEM, ds, run_id)[0]


@dataclass
class Forward:
    """A lake after both nights in order, and after the first was run once more."""

    lake: Lake
    counts: dict[str, dict[str, int]]
    after_first: dict[str, list[str]]
    before: dict[str, list[str]]
    after: dict[str, list[str]]


@pytest.fixture(scope="module")
def forward(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forward]:
    root = tmp_path_factory.mktemp("forward")
    deliver_whole(root / "data")
    lake = Lake(root / "lake", spark)
    counts = {FIRST: run(lake, root / "data", FIRST, "one")}
    after_first = contents(lake)
    counts[SECOND] = run(lake, root / "data", SECOND, "two")
    before = contents(lake)
    counts["again"] = run(lake, root / "data", FIRST, "three")
    yield Forward(lake, counts, after_first, before, contents(lake))


def sessions_of(lake: Lake, ds: str) -> dict[str, dict[str, Any]]:
    return {row["session_id"]: row for row in lake.rows(SESSIONS, ds=ds)}


def text_of(lake: Lake, pattern_id: str, ds: str) -> dict[str, int]:
    """A pattern with the texts of its templates."""
    texts = {row["template_id"]: row["text"] for row in lake.rows(TEMPLATES)}
    (pattern,) = (row for row in lake.rows(PATTERNS, ds=ds) if row["pattern_id"] == pattern_id)
    return {texts[event["template_id"]]: event["count"] for event in pattern["events"]}


def test_every_line_is_kept_and_every_kind_is_counted(forward: Forward) -> None:
    lines = happenings(FIRST)
    raw = sorted(forward.lake.rows(LINES_TABLE, ds=FIRST), key=lambda row: row["line_no"])
    assert [row["line_no"] for row in raw] == list(range(1, len(lines) + 1))
    assert [row["text"] for row in raw[:2]] == [line.removeprefix("- ") for line in lines[:2]]
    counts = forward.counts[FIRST]
    assert (counts["n_files"], counts["n_lines"], counts["n_replaced"]) == (1, len(lines), 0)
    assert (counts["n_blank"], counts["n_unparsed"], counts["n_untimed"], counts["n_without_session"]) == (1, 2, 1, 1)
    assert counts["n_events"] == len(lines) - 3 + 1
    assert counts["n_sessions"] == len(sessions_of(forward.lake, FIRST)) == 12 + 4
    assert counts["n_patterns"] == len(forward.lake.rows(PATTERNS, ds=FIRST))
    assert counts["run_n_templates_new"] == counts["n_templates"] + 2, "the heartbeat is in no session, what begins at midnight in none yet"


def test_lines_that_do_not_match_are_kept_and_shown_with_their_place(forward: Forward) -> None:
    rows = forward.lake.rows(QUARANTINE, ds=FIRST)
    n = len(happenings(FIRST))
    shown = [json.loads(row["row"]) for row in rows]
    assert sorted((row["file"], row["line_no"]) for row in shown) == [(f"app/{FIRST}.log", n - 1), (f"app/{FIRST}.log", n)]
    assert {row["text"] for row in shown} == {"header at all", "neither has this"}
    assert {row["stage"] for row in rows} == {"parse"}


def test_the_numbers_of_a_template_are_kept_as_a_range_with_their_lines(forward: Forward) -> None:
    texts = {row["template_id"]: row["text"] for row in forward.lake.rows(TEMPLATES)}
    (found,) = (
        row
        for row in forward.lake.rows(NUMBERS, ds=FIRST)
        if (texts[row["template_id"]], row["word"]) == ("read <NUM> rows for req<NUM>", 2)
    )
    read = {number: int(line.split()[5]) for number, line in enumerate(happenings(FIRST), 1) if " read " in line}
    assert (found["n"], found["low"], found["high"]) == (len(read), 0, 77)
    assert (read[found["low_line"]], read[found["high_line"]]) == (0, 77)
    assert found["high_file"] == f"app/{FIRST}.log"


def test_a_session_over_midnight_is_whole_on_the_second_night_and_waits_for_it(forward: Forward) -> None:
    morning = sessions_of(forward.lake, SECOND)["req-midnight"]
    assert "req-midnight" not in sessions_of(forward.lake, FIRST)
    assert text_of(forward.lake, morning["pattern_id"], SECOND) == {"open req-midnight from <IP>": 1, "close req-midnight": 1}
    assert (morning["n_events"], morning["started_at"].replace(tzinfo=None)) == (2, datetime(2026, 3, 3, 23, 59, 59))
    assert "req-e5" not in sessions_of(forward.lake, FIRST)


def test_a_line_with_two_ids_is_an_event_of_both_sessions(forward: Forward) -> None:
    found = sessions_of(forward.lake, FIRST)
    assert found["req-a1"]["pattern_id"] == found["req-b2"]["pattern_id"]
    assert found["req-a1"]["n_events"] == found["req-b2"]["n_events"] == 1


def test_a_night_run_again_after_another_changes_no_row(forward: Forward) -> None:
    for name, rows in forward.before.items():
        assert forward.after[name] == rows, name
        assert rows
    assert forward.counts["again"] | {"run_n_templates_new": 0} == forward.counts["again"]
    assert forward.counts["again"]["n_sessions"] == forward.counts[FIRST]["n_sessions"]


def test_what_the_first_night_gave_is_the_same_after_the_second(forward: Forward) -> None:
    for spec in (LINES_TABLE, LABELS, EVENTS_TABLE, MESSAGES, NUMBERS, SESSIONS, PATTERNS):
        assert set(forward.after_first[spec.name]) <= set(forward.before[spec.name]), spec.name
    assert len(forward.before[MESSAGES.name]) > len(forward.after_first[MESSAGES.name])


def test_a_template_widens_under_its_old_id_and_keeps_its_first_text(forward: Forward) -> None:
    templates = {row["text"]: row for row in forward.lake.rows(TEMPLATES)}
    synced = templates["synced db/users fully for req-d<NUM>"]
    assert synced["widened"] == "synced <*> fully for req-d<NUM>"
    assert synced["first_ds"] == FIRST
    assert templates["only tonight req-e<NUM>"]["first_ds"] == SECOND
    assert sessions_of(forward.lake, FIRST)["req-d4"]["pattern_id"] != sessions_of(forward.lake, SECOND)["req-d4"]["pattern_id"]
    assert text_of(forward.lake, sessions_of(forward.lake, SECOND)["req-d4"]["pattern_id"], SECOND) == {
        "synced db/users fully for req-d<NUM>": 2
    }


def test_other_files_permuted_lines_and_the_nights_in_reverse_give_the_same(
    forward: Forward, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("reverse")
    deliver_split(root / "data")
    lake = Lake(root / "lake", spark)
    second = run(lake, root / "data", SECOND, "one")
    first = run(lake, root / "data", FIRST, "two")
    for spec in (MESSAGES, TEMPLATES, SESSIONS, WAITING, PATTERNS):
        assert content(lake, spec) == forward.before[spec.name], spec.name
    places = ("run_id", "file", "line_no")
    for spec in (LINES_TABLE, LABELS, EVENTS_TABLE):
        assert content(lake, spec, places) == content(forward.lake, spec, places), spec.name
    places = ("low_file", "low_line", "high_file", "high_line")
    assert content(lake, NUMBERS, places) == content(forward.lake, NUMBERS, places)
    for counts, ds in ((first, FIRST), (second, SECOND)):
        expected = {
            name: n for name, n in forward.counts[ds].items() if not name.startswith(("n_files", "n_hosts", "n_judged_again", "run_"))
        }
        assert {name: counts[name] for name in expected} == expected
        assert counts["n_files"] == 3
    assert forward.counts[SECOND]["n_judged_again"] == 12 + 4, "all but the new one and the one that waited"
    assert second["n_judged_again"] == 0, "in reverse the first night had judged nothing yet"


def test_a_label_in_a_line_is_in_bronze_labels_and_nowhere_else(forward: Forward) -> None:
    labelled = forward.lake.rows(LABELS, ds=FIRST)
    tagged = {row["line_no"] for row in labelled if row["label"] == 1}
    assert tagged == {number for number, line in enumerate(happenings(FIRST), 1) if line.startswith((TAG, "no "))}
    assert {row["tag"] for row in labelled} == {"-", TAG, "no"}

    root = Path(forward.lake.root)
    files = [path for path in root.rglob("*") if path.is_file() and LABELS.path not in path.as_posix()]
    assert {path.relative_to(root).parts[:2] for path in files} == {tuple(spec.path.split("/")) for spec in TABLES if spec != LABELS}
    for path in files:
        seen = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_bytes().decode(errors="replace")
        assert TAG not in seen, path


def test_look_back_is_as_long_as_the_system_says() -> None:
    assert look_back(SYSTEM, "2026-03-01") == ["2026-02-28"]
    assert look_back(make_system(session=Session(kind="id", pattern="x", lookback_days=0)), "2026-03-01") == []
    assert look_back(make_system(session=Session(kind="id", pattern="x", lookback_days=3)), "2024-03-02") == [
        "2024-02-28",
        "2024-02-29",
        "2024-03-01",
    ]


def test_a_night_without_files_is_told_with_the_path_that_was_looked_for(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(NoInput, match=f"app/{SECOND}"):
        ingest(Lake(tmp_path / "lake", spark), SYSTEM, SECOND, tmp_path)
    assert not (tmp_path / "lake").exists()
