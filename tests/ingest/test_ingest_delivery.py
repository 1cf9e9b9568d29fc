"""What was delivered for a night is on record; a night never loses lines in silence."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import pytest
from ingest_help import make_system, put_file
from nightlog.errors import FormatError, NoInput, outcome_of
from nightlog.ingest.ingest import ingest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import FILES, LINES_TABLE, NIGHTS
from nightlog.systems.spec import Input

DS, BEFORE = "2026-03-04", "2026-03-03"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def lines(n: int, ds: str = DS) -> str:
    return "".join(f"{ds} 10:00:{number:02d} INFO req-{number} served\n" for number in range(n))


def publish(lake: Lake, ds: str, n_lines: int, outcome: str = "done") -> None:
    lake.replace(NIGHTS, [{"ds": ds, "system": "app", "outcome": outcome, "n_lines": n_lines}], system="app", ds=ds)


def test_each_file_of_a_night_is_on_record_with_host_lines_and_bytes(lake: Lake, tmp_path: Path) -> None:
    data, system = tmp_path / "data", make_system("*/{ds}.log*")
    put_file(data, f"web1/{DS}.log", lines(3))
    put_file(data, f"web1/{DS}.log.gz", gzip.compress(lines(2).encode()))
    put_file(data, f"web2/{DS}.log.gz", gzip.compress(lines(3).encode()))
    put_file(data, f"web3/{DS}.log", "")
    counts, detail = ingest(lake, system, DS, data, "run")
    assert counts == {
        "n_files": 3,
        "n_hosts": 2,
        "n_bytes": 2 * len(lines(3)) - 6,
        "n_lines": 6,
        "n_replaced": 0,
        "n_returns": 0,
        "run_n_lines_kept": 0,
    }
    assert f"1 file was delivered twice and is read once: web1/{DS}.log.gz is web1/{DS}.log again" in (detail or "")
    rows = {row["file"]: row for row in lake.rows(FILES)}
    assert {name: (row["host"], row["n_lines"], row["copy_of"]) for name, row in rows.items()} == {
        f"web1/{DS}.log": ("web1", 3, None),
        f"web1/{DS}.log.gz": ("web1", None, f"web1/{DS}.log"),
        f"web2/{DS}.log.gz": ("web2", 3, None),
        f"web3/{DS}.log": ("web3", 0, None),
    }
    assert rows[f"web1/{DS}.log"]["content"] == rows[f"web2/{DS}.log.gz"]["content"] != rows[f"web3/{DS}.log"]["content"]
    assert all(row["size"] == (data / name).stat().st_size and row["run_id"] == "run" for name, row in rows.items())
    # Delivered again, the record is replaced.
    put_file(data, f"web3/{DS}.log", lines(4))
    ingest(lake, system, DS, data)
    assert {row["file"]: row["n_lines"] for row in lake.rows(FILES)}[f"web3/{DS}.log"] == 4


def test_look_back_days_are_read_by_the_same_rules(lake: Lake, tmp_path: Path) -> None:
    data, system = tmp_path / "data", make_system("*/{ds}.log*")
    put_file(data, f"web1/{DS}.log", lines(3))
    for name, content in ((".log", lines(2, BEFORE).encode()), (".log.gz", gzip.compress(lines(2, BEFORE).encode()))):
        put_file(data, f"web1/{BEFORE}{name}", content)
    put_file(data, f"web2/{BEFORE}.log", lines(2, BEFORE))
    ingest(lake, system, DS, data)
    assert sorted((row["ds"], row["file"]) for row in lake.rows(LINES_TABLE) if row["line_no"] == 2) == [
        (BEFORE, f"web1/{BEFORE}.log"),
        (BEFORE, f"web2/{BEFORE}.log"),
        (DS, f"web1/{DS}.log"),
    ]


def test_a_look_back_day_that_cannot_be_read_is_said_and_stops_nothing(lake: Lake, tmp_path: Path) -> None:
    data = tmp_path / "data"
    put_file(data, f"web1/{DS}.log", lines(3))
    (data / f"web1/{BEFORE}.log").symlink_to("/nonexistent")
    counts, detail = ingest(lake, make_system("*/{ds}.log"), DS, data)
    assert counts["n_lines"] == 3
    assert "judged on the night alone" in (detail or "") and f"{BEFORE}.log is a broken link to /nonexistent" in (detail or "")


def test_a_published_night_is_replaced_by_fewer_lines_only_if_asked_for(lake: Lake, tmp_path: Path) -> None:
    data, system = tmp_path / "data", make_system("*/{ds}.log")
    for host in ("web1", "web2"):
        put_file(data, f"{host}/{DS}.log", lines(3))
    ingest(lake, system, DS, data)
    (data / f"web2/{DS}.log").unlink()
    # Not published yet: the delivery is what it is.
    assert ingest(lake, system, DS, data)[0]["n_lines"] == 3
    put_file(data, f"web2/{DS}.log", lines(3))
    ingest(lake, system, DS, data)
    publish(lake, DS, 6)
    versions = {spec.name: lake.table(spec).version() for spec in (LINES_TABLE, FILES)}
    (data / f"web2/{DS}.log").unlink()
    with pytest.raises(FormatError, match=r"3 lines in 1 files, expected at least the 6 lines .* nightlog run --fewer-lines"):
        ingest(lake, system, DS, data)
    assert versions == {spec.name: lake.table(spec).version() for spec in (LINES_TABLE, FILES)}
    assert ingest(lake, system, DS, data, fewer_lines=True)[0]["n_lines"] == 3
    assert len(lake.rows(LINES_TABLE)) == 3


@pytest.mark.parametrize(
    ("delivered", "published", "word", "n_before"),
    [
        ([], [], "none ever has", None),
        ([BEFORE], [], "though 1 earlier nights had some, the last one 2026-03-03", 1),
        ([], [BEFORE], "though 1 earlier nights", 1),
        (["2026-03-05"], [], "none ever has", None),  # a later night is no history
        (["2026-02-16", "2026-02-23", "2026-03-02"], [], "none was due: the last one is of 2026-03-02", None),
        (["2026-02-11", "2026-02-18", "2026-02-25"], [], "though 3 earlier nights", 3),
    ],
)
def test_a_night_without_files_says_whether_one_was_due(
    lake: Lake, tmp_path: Path, delivered: list[str], published: list[str], word: str, n_before: int | None
) -> None:
    data, system = tmp_path / "data", make_system("{ds}.log")
    data.mkdir()
    for ds in delivered:
        ingest(lake, system, ds, put_file(data, f"{ds}.log", lines(2, ds)).parent)
    for ds in published:
        publish(lake, ds, 2)
    with pytest.raises(NoInput, match=word) as caught:
        ingest(lake, system, DS, data)
    assert caught.value.counts == ({"n_nights_before": n_before} if n_before else {})
    assert outcome_of(caught.value)[0] == "no_input"


def test_a_delivery_for_one_night_is_not_missed_on_others(lake: Lake, tmp_path: Path) -> None:
    system = make_system(input=Input(path="dump.log", delivered=date(2026, 3, 3)))
    put_file(tmp_path, "dump.log", lines(2, BEFORE))
    ingest(lake, system, BEFORE, tmp_path)
    with pytest.raises(NoInput, match="belong to 2026-03-03") as caught:
        ingest(lake, system, DS, tmp_path)
    assert not caught.value.counts


def test_files_without_any_line_and_lines_with_carriage_returns_are_said(lake: Lake, tmp_path: Path) -> None:
    system = make_system("{ds}.log")
    put_file(tmp_path, f"{DS}.log", "")
    assert ingest(lake, system, DS, tmp_path)[1] == "the night's files have no lines"
    put_file(tmp_path, f"{DS}.log", lines(9) + "2026-03-04 11:00:00 INFO a\r2026-03-04 11:00:01 INFO b\n")
    assert "carriage returns stand inside of lines (1)" in (ingest(lake, system, DS, tmp_path)[1] or "")
    put_file(tmp_path, f"{DS}.log", lines(9).replace("\n", "\r\n"))
    assert ingest(lake, system, DS, tmp_path)[1] is None


def test_a_file_whose_name_is_not_utf8_is_read(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "h\udcff").mkdir()
    put_file(tmp_path, f"h\udcff/{DS}.log", lines(2))
    assert ingest(lake, make_system("*/{ds}.log"), DS, tmp_path)[0]["n_lines"] == 2
    assert {row["file"] for row in lake.rows(LINES_TABLE)} == {f"h\\xff/{DS}.log"}
