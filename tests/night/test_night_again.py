"""A night that is run again keeps the lines and events of files that have not changed, and never those of anything else."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import COUNTS_TABLE, EVENTS_TABLE, FILES, LABELS, LINES_TABLE, MESSAGES, READINGS, SESSIONS, TEMPLATES, TableSpec
from nightlog.lake.time_travel import restore
from nightlog.outcomes import Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.spec import Labels, Mask, System
from nights import content, small_system, snapshot

DS, BEFORE = "2026-03-04", "2026-03-03"
HOUR = 3600.0
SESSIONS_OF = (SESSIONS, ["session_id", "n_events"])


def log_of(*words: str, n: int = 30) -> bytes:
    """Lines of ten sessions; one line in ten has no header."""
    lines = [f"INFO s{k % 10} {words[k % len(words)]} {k}" if k % 10 else "no header" for k in range(n)]
    return "".join(f"{line}\n" for line in lines).encode()


class World:
    """A lake, and the files of one system, which are an hour old."""

    def __init__(self, root: Path):
        self.root, self.number, self.system = root, 0, small_system("shop")
        self.settings = Settings(data=root / "data", llm="off", device="cpu")
        self.lake = Lake(root / "lake")

    def put(self, name: str, data: bytes, age: float = HOUR) -> Path:
        path = self.root / "data" / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (time.time() - age,) * 2)
        return path

    def run(self, read_again: bool = False, system: System | None = None, fewer_lines: bool = False) -> tuple[bool, bool]:
        """Ingest and parse the night. Returns whether its lines, and whether its events were kept."""
        self.number += 1
        systems, options = [system or self.system], {"fewer_lines": fewer_lines, "read_again": read_again}
        night = Night(DS, f"run {self.number}", systems, self.lake, self.settings, lambda: datetime.now(UTC), **options)
        found = {outcome.stage: outcome for stage in (Stage.INGEST, Stage.PARSE) for outcome in night.run_stage(stage)}
        assert {each.outcome for each in found.values()} == {"done"}, found
        lines, events = (found[stage].counts for stage in (Stage.INGEST, Stage.PARSE))
        assert lines["run_n_lines_kept"] in (0, lines["n_lines"]) and events["run_n_events_kept"] in (0, events["n_events"])
        return lines["run_n_lines_kept"] > 0, events["run_n_events_kept"] > 0

    def counts(self) -> list[dict[str, int]]:
        """The counts of ingest and parse of the last run, except those of the run."""
        night = Night(DS, "look", [self.system], self.lake, self.settings, lambda: datetime.now(UTC))
        latest = [night.progress.latest["shop", stage].counts for stage in (Stage.INGEST, Stage.PARSE)]
        return [{name: n for name, n in each.items() if not name.startswith("run_")} for each in latest]


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.put(f"{DS}.log", log_of("request accepted", "sent bytes"))
    found.put(f"{DS}.log.1", log_of("disk full", "sent bytes", n=20) + "é\r\r".encode("latin-1") + b"x\n")
    return found


def slow_files(world: World) -> set[str]:
    """The files of the tables that are made from lines alone."""
    return {part.path for spec in (LINES_TABLE, EVENTS_TABLE, COUNTS_TABLE) for part in world.lake.parts(spec)}


def test_files_that_have_not_changed_are_not_read_again(world: World) -> None:
    assert world.run() == (False, False)
    tables, files, counts = snapshot(world.lake) | {FILES.name: content(world.lake, FILES)}, slow_files(world), world.counts()
    assert counts[0]["n_lines"] == 51 and counts[0]["n_replaced"] == 1 and counts[1]["n_unparsed"] > 0
    assert world.run() == (True, True)
    assert slow_files(world) == files and world.counts() == counts
    assert snapshot(world.lake) | {FILES.name: content(world.lake, FILES)} == tables
    # Asked for, all of it is read again, into the same rows.
    assert world.run(read_again=True) == (False, False)
    assert not slow_files(world) & files and snapshot(world.lake) == {k: v for k, v in tables.items() if k != FILES.name}
    assert world.counts() == counts and world.run() == (True, True)


def appended(world: World) -> None:
    world.put(f"{DS}.log", log_of("request accepted", "sent bytes", n=31))


def rewritten(world: World) -> None:
    """As many bytes, an hour old as before, but not to the second."""
    world.put(f"{DS}.log", log_of("request rejected", "sent bytes"), HOUR - 1)


def removed(world: World) -> None:
    (world.root / f"data/shop/{DS}.log.1").unlink()


def added(world: World) -> None:
    world.put(f"{DS}.log.2", log_of("sent bytes", n=3))


def renamed(world: World) -> None:
    (world.root / f"data/shop/{DS}.log.1").rename(world.root / f"data/shop/{DS}.log.2")


@pytest.mark.parametrize("change", [appended, rewritten, removed, added, renamed])
def test_a_delivery_that_has_changed_is_read(world: World, change: Callable[[World], None]) -> None:
    world.run()
    change(world)
    assert world.run(fewer_lines=True) == (False, False)
    other = World(world.root / "other")
    shutil.copytree(world.root / "data", other.root / "data")
    other.run()
    assert content(world.lake, LINES_TABLE) == content(other.lake, LINES_TABLE)
    assert world.run() == (True, True)


def test_a_file_that_changed_just_before_it_was_read_is_read_again(world: World) -> None:
    path = world.put(f"{DS}.log", log_of("request accepted"), age=0)
    status = path.stat()
    world.run()
    # Within the same tick of the clock it gets other bytes, as many as before.
    path.write_bytes(log_of("request rejected"))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert world.run() == (False, False)
    assert any("rejected" in row for row in content(world.lake, LINES_TABLE))


def test_copies_are_kept_as_copies(world: World) -> None:
    world.put(f"{DS}.log.gz", gzip.compress(log_of("request accepted", "sent bytes")))
    world.run()
    counts, rows = world.counts(), content(world.lake, FILES)
    assert counts[0]["n_files"] == 2 and world.run() == (True, True)
    assert world.counts() == counts and content(world.lake, FILES) == rows


def test_other_rules_read_or_parse_again(world: World) -> None:
    world.run()
    masked = world.system.model_copy(update={"masks": (Mask(name="WORD", pattern="accepted"),)})
    assert world.run(system=masked) == (True, False), "the lines are the same, and their messages are not"
    assert world.run(system=masked) == (True, True)
    assert world.run() == (True, False)


def lost_file(spec: TableSpec) -> Callable[[World], None]:
    def lose(world: World) -> None:
        (Path(world.lake.root) / spec.path / world.lake.parts(spec)[0].path).unlink()

    return lose


def put_back(spec: TableSpec) -> Callable[[World], None]:
    """The table as it was before the last run that wrote it."""

    def go_back(world: World) -> None:
        restore(world.lake, spec, world.lake.table(spec).version() - 1)

    return go_back


def expired(world: World) -> None:
    """The lines of the night are dropped by the upkeep, those of its files are not yet."""
    world.lake.replace(LINES_TABLE, [], system="shop", ds=DS)


def files_of_an_older_version(world: World) -> None:
    new = ("n_replaced", "n_cut", "n_returns", "rules", "run_lines", "run_listed_at")
    world.lake.replace(FILES, [row | dict.fromkeys(new) for row in world.lake.rows(FILES)], system="shop", ds=[DS])


def readings_of_an_older_version(world: World) -> None:
    new = ("run_parts", "run_messages", "run_tally")
    world.lake.replace(READINGS, [row | dict.fromkeys(new) for row in world.lake.rows(READINGS)], system="shop", ds=[DS])


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        pytest.param(lost_file(LINES_TABLE), (False, False), id="lines lost"),
        pytest.param(put_back(LINES_TABLE), (False, False), id="lines back"),
        pytest.param(put_back(FILES), (False, False), id="files back"),
        pytest.param(lost_file(EVENTS_TABLE), (True, False), id="events lost"),
        pytest.param(lost_file(COUNTS_TABLE), (True, False), id="counts lost"),
        pytest.param(put_back(EVENTS_TABLE), (True, False), id="events back"),
        pytest.param(put_back(COUNTS_TABLE), (True, False), id="counts back"),
        pytest.param(put_back(MESSAGES), (True, False), id="messages back"),
        pytest.param(put_back(READINGS), (True, False), id="readings back"),
        pytest.param(expired, (False, False), id="lines expired"),
        pytest.param(files_of_an_older_version, (False, False), id="older files"),
        pytest.param(readings_of_an_older_version, (True, False), id="older readings"),
    ],
)
def test_a_table_that_was_damaged_or_restored_is_made_again(world: World, damage: Callable[[World], None], kept: tuple[bool, bool]) -> None:
    """The night is run, its files change, and it is run again: each table has a version of before the change."""
    world.run()
    world.put(f"{DS}.log", log_of("request accepted", "sent bytes", "link down"))
    world.run()
    tables = snapshot(world.lake)
    damage(world)
    assert world.run() == kept
    assert snapshot(world.lake) == tables
    assert world.run() == (True, True)


def test_a_system_whose_labels_stand_in_its_lines_is_always_read(world: World) -> None:
    world.system = small_system("shop", labels=Labels(pattern="(?P<label>no) "))
    for _ in range(2):
        assert world.run() == (False, False)
        assert len(world.lake.rows(LABELS)) == 5


def test_templates_of_then_that_are_gone_are_mined_again(world: World) -> None:
    world.run()
    tables = snapshot(world.lake)
    for spec in (MESSAGES, TEMPLATES):
        shutil.rmtree(Path(world.lake.root) / spec.path)
    world.lake = Lake(world.lake.root)
    assert world.run() == (True, False)
    assert snapshot(world.lake) == tables


def test_an_earlier_day_that_came_late_changes_the_sessions_of_a_kept_night(world: World) -> None:
    """Session s9 begins on the day before, whose file comes after the night was run."""
    world.run()
    (alone,) = (row["n_events"] for row in world.lake.rows(*SESSIONS_OF) if row["session_id"] == "s9")
    world.put(f"{BEFORE}.log", b"INFO s9 request accepted\n")
    assert world.run() == (True, True)
    assert [row["n_events"] for row in world.lake.rows(*SESSIONS_OF) if row["session_id"] == "s9"] == [alone + 1]


def test_a_run_that_ends_between_ingest_and_parse_is_made_good(world: World) -> None:
    world.run()
    appended(world)
    night = Night(DS, "broken off", [world.system], world.lake, world.settings, lambda: datetime.now(UTC))
    list(night.run_stage(Stage.INGEST))
    assert world.run() == (True, False)
    assert world.run() == (True, True)
