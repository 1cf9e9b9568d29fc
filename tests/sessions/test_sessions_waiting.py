"""Sessions that wait for a later night, those that are judged again, and days that are read again: each id is accounted for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import NoInput
from nightlog.lake.lake import Lake
from nightlog.lake.tables import EVENTS_TABLE, LINES_TABLE, READINGS, SESSIONS, WAITING
from nightlog.parsing.parse import parse
from nightlog.parsing.readings import Readings
from nightlog.run.context import Context
from nightlog.run.stages import ingest
from nightlog.sessions.waiting import due_sessions, overdue
from nightlog.settings import Settings
from nightlog.systems.catalog import reading_hash
from nightlog.systems.spec import Header, Input, Mask, Session, System, Timestamp, Variant

FIRST, SECOND, THIRD = "2026-03-03", "2026-03-04", "2026-03-05"


def shop(timezone: str = "UTC", masks: tuple[Mask, ...] = (), **session: Any) -> System:
    """A system whose sessions are requests."""
    return System(
        name="shop",
        role="target",
        input=Input(path="shop-{ds}.log"),
        header=Header(pattern=r"(?P<time>\S+ \S+) (?P<message>.*)"),
        timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss", timezone=timezone),
        session=Session(kind="id", pattern=r"req=(\w+)", **session),
        masks=(Mask(name="REQ", pattern=r"req=\w+"), *masks),
    )


class World:
    """A lake, its files, and nights as far as silver.sessions."""

    def __init__(self, root: Path):
        self.lake = Lake(root / "lake")
        self.settings = Settings(lake=root / "lake", data=root, llm="off")
        self.root = root

    def write(self, ds: str, *lines: str) -> None:
        """Write the file of a day: lines as `HH:MM:SS message`, on that day unless they begin with another."""
        dated = [line if line[4:5] == "-" else f"{ds} {line}" for line in lines]
        (self.root / f"shop-{ds}.log").write_text("".join(f"{line}\n" for line in dated), encoding="utf-8")

    def run(self, ds: str, system: System) -> dict[str, int]:
        """Ingest and parse a night; returns its counts, checked."""
        context = Context(ds, f"run of {ds}", (system,), self.lake, self.settings, lambda: datetime(2026, 3, 9, tzinfo=UTC))
        counts = ingest(self.lake, context, system, None, None).counts  # type: ignore[arg-type]
        more, self.notes = parse(self.lake, system, ds, context.run_id)
        counts |= more
        assert counts["n_ids"] == counts["n_sessions"] + counts["n_waiting"] + counts["n_unchanged"] + counts["n_outside"]
        return counts

    def judged(self) -> dict[str, list[tuple[str, int]]]:
        """Session → the nights that judged it, each with its events."""
        found: dict[str, list[tuple[str, int]]] = {}
        for row in sorted(self.lake.rows(SESSIONS), key=lambda row: row["ds"]):
            found.setdefault(row["session_id"], []).append((row["ds"][-2:], row["n_events"]))
        return found

    def waits(self) -> list[tuple[str, str, str]]:
        """(session, since, until) of those that still wait."""
        rows = self.lake.rows(WAITING, state="waiting")
        return sorted((row["session_id"], row["ds"], row["until"]) for row in rows)

    def tables(self) -> list[list[str]]:
        """Return the content of the tables of a night."""
        return [
            sorted(str({key: value for key, value in row.items() if not key.startswith("run_")}) for row in self.lake.rows(spec))
            for spec in (EVENTS_TABLE, SESSIONS, WAITING, READINGS)
        ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_session_that_begins_just_before_midnight_waits_and_the_next_night_judges_it(world: World) -> None:
    world.write(FIRST, "08:00:00 start req=a", "23:55:00 start req=b", "23:58:00 start req=c")
    world.write(SECOND, "00:01:00 end req=b", "09:00:00 start req=d")
    first = world.run(FIRST, shop())
    assert (first["n_sessions"], first["n_waiting"], world.judged()) == (1, 2, {"a": [("03", 1)]})
    assert world.waits() == [("b", FIRST, THIRD), ("c", FIRST, THIRD)]
    second = world.run(SECOND, shop())
    assert (second["n_ids"], second["n_sessions"], second["n_judged_again"]) == (3, 3, 0)
    assert world.judged() == {"a": [("03", 1)], "b": [("04", 2)], "c": [("04", 1)], "d": [("04", 1)]}
    assert world.waits() == []
    before = world.tables()
    for ds in (FIRST, SECOND):
        world.run(ds, shop())
    assert world.tables() == before, "run again, the nights leave and take over the same sessions"


@pytest.mark.parametrize("last", [SECOND, THIRD, "2026-03-20"])
def test_what_waits_is_judged_by_the_first_later_night_with_or_without_input(world: World, last: str) -> None:
    world.write(FIRST, "23:55:00 start req=b", "08:00:00 start req=a")
    world.run(FIRST, shop())
    assert due_sessions(world.lake, shop(), last) == 1
    counts = world.run(last, shop())
    assert (counts["n_lines"], counts["n_ids"], counts["n_sessions"]) == (0, 1, 1)
    assert world.judged()["b"] == [(last[-2:], 1)]
    assert Readings(world.lake, shop()).stale() == {}, "no earlier day has changed"
    world.run(last, shop())
    assert world.judged()["b"] == [(last[-2:], 1)]
    assert due_sessions(world.lake, shop(), "2026-03-21") == 0
    with pytest.raises(NoInput):
        world.run("2026-03-21", shop())


def test_edits_of_the_system_s_file_lose_no_session_that_waits(world: World) -> None:
    world.write(FIRST, "23:51:00 start req=b", "08:00:00 start req=a")
    world.write(SECOND, "08:00:00 start req=d")
    world.run(FIRST, shop("Europe/Berlin"))
    world.run(SECOND, shop("UTC", settle_minutes=5, lookback_days=0))
    assert world.judged()["b"] == [("04", 1)]
    assert any("parsed again" in note and FIRST in note for note in world.notes), "the time zone is a reading rule"


def test_a_night_run_again_after_its_rules_changed_does_not_judge_what_a_later_one_has(world: World) -> None:
    world.write(FIRST, "23:55:00 start req=b", "08:00:00 start req=a")
    world.write(SECOND, "08:00:00 start req=d")
    world.run(FIRST, shop())
    world.run(SECOND, shop())
    counts = world.run(FIRST, shop(settle_minutes=0))
    assert (counts["n_sessions"], counts["n_waiting"], counts["n_unchanged"]) == (1, 0, 1)
    assert world.judged()["b"] == [("04", 1)]
    world.write(FIRST, "23:55:00 start req=b", "08:00:00 start req=a", "23:57:00 end req=b")
    counts = world.run(FIRST, shop(settle_minutes=0))
    assert (counts["n_sessions"], counts["n_unchanged"]) == (2, 0), "with a new event it is judged"
    assert world.judged()["b"] == [("03", 2), ("04", 1)]
    assert Readings(world.lake, shop()).stale() == {SECOND: [FIRST]}


def test_a_session_with_new_events_is_judged_again_and_one_without_is_not(world: World) -> None:
    world.write(FIRST, "12:00:00 start req=twice", "12:00:00 start req=once")
    world.write(SECOND, "23:55:00 end req=twice")
    world.write(THIRD, "08:00:00 start req=new")
    world.run(FIRST, shop())
    assert world.run(SECOND, shop())["n_judged_again"] == 1
    assert world.run(THIRD, shop())["n_judged_again"] == 0
    assert world.judged() == {"twice": [("03", 1), ("04", 2)], "once": [("03", 1)], "new": [("05", 1)]}


@pytest.mark.parametrize(
    "line",
    ["2027-03-03 08:00:00 clock ahead req=x", "2027-03-03 23:55:00 clock ahead req=x", "2026-03-02 23:55:00 of the day before req=x"],
)
def test_a_session_whose_times_are_far_from_the_night_is_judged_on_the_night_of_delivery(world: World, line: str) -> None:
    world.write(FIRST, line, "99:99:99 no time req=y")
    assert world.run(FIRST, shop())["n_waiting"] == 0
    assert world.judged() == {"x": [("03", 1)], "y": [("03", 1)]}


def test_a_delivery_of_several_days_has_no_next_night_and_judges_all(world: World) -> None:
    system = shop().model_copy(update={"input": Input(path="shop-all.log", delivered=FIRST)})
    lines = [f"{day} {at} start req=r{day[-2:]}{at[:2]}" for day in (FIRST, SECOND, THIRD) for at in ("08:00:00", "23:55:00")]
    (world.root / "shop-all.log").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    counts = world.run(FIRST, system)
    assert (counts["n_sessions"], counts["n_waiting"]) == (6, 0)


def test_a_night_that_is_late_does_not_judge_what_the_one_after_has_judged_with_its_events(world: World) -> None:
    world.write(FIRST, "23:55:00 start req=b")
    world.write(SECOND, "00:02:00 end req=b")
    world.write(THIRD, "08:00:00 start req=d")
    world.run(FIRST, shop())
    world.run(THIRD, shop())  # reads the second day as a look-back day, and takes over what waits
    assert world.judged()["b"] == [("05", 2)]
    assert any("since 2026-03-03" in note for note in world.notes)
    late = world.run(SECOND, shop())
    assert (late["n_sessions"], late["n_unchanged"]) == (0, 1)
    assert world.judged()["b"] == [("05", 2)]


def test_overdue_names_the_last_night_that_may_judge(world: World) -> None:
    world.write(FIRST, "23:55:00 start req=b")
    world.run(FIRST, shop())
    assert overdue(world.lake, ["shop", "other"], "2026-03-05") == {}
    assert overdue(world.lake, ["shop", "other"], "2026-03-06") == {"shop": THIRD}


def test_a_look_back_day_is_read_again_when_the_rules_have_changed_and_the_night_says_so(world: World) -> None:
    mask = Mask(name="TOKEN", pattern="(?<=token )[a-z]+")
    world.write(FIRST, "23:40:00 open req=o token aaa")
    world.write(SECOND, "00:05:00 open req=o token bbb")
    world.run(FIRST, shop())
    world.run(SECOND, shop(masks=(mask,)))
    assert world.notes == [f"{FIRST} was parsed again for this night: the system's reading rules have changed"]
    messages = {row["message_id"] for row in world.lake.rows(EVENTS_TABLE)}
    assert len(messages) == 1, "both days are read by the same masks"
    rows = {row["ds"]: row["rules"] for row in world.lake.rows(READINGS)}
    assert rows == dict.fromkeys((FIRST, SECOND), reading_hash(shop(masks=(mask,))))
    world.run(SECOND, shop(masks=(mask,)))
    assert world.notes == []


def test_a_look_back_day_whose_lines_are_gone_is_told(world: World) -> None:
    world.write(FIRST, "23:40:00 open req=o")
    world.write(SECOND, "00:05:00 close req=o")
    world.run(FIRST, shop())
    world.lake.table(LINES_TABLE).delete(f"ds = '{FIRST}'")
    (world.root / f"shop-{FIRST}.log").unlink()
    world.run(SECOND, shop("Europe/Berlin"))
    assert world.notes == [f"{FIRST} was parsed by other reading rules, and its lines are gone"]


def test_a_night_is_stale_when_the_day_before_has_other_events_now(world: World) -> None:
    world.write(FIRST, "12:00:00 start req=a")
    world.write(SECOND, "00:05:00 end req=o")
    for ds in (FIRST, SECOND, FIRST):
        world.run(ds, shop())
    assert Readings(world.lake, shop()).stale() == {}, "the same lines again change nothing"
    world.write(FIRST, "12:00:00 start req=a", "23:40:00 FATAL req=o")
    world.run(FIRST, shop())
    assert Readings(world.lake, shop()).stale() == {SECOND: [FIRST]}
    assert any(SECOND in note and "nightlog run" in note for note in world.notes)
    assert world.judged()["o"] == [("03", 1), ("04", 1)]
    world.run(SECOND, shop())
    assert Readings(world.lake, shop()).stale() == {}
    assert world.judged()["o"] == [("03", 1), ("04", 2)]


def test_lines_that_were_replaced_and_never_parsed_are_read_again(world: World) -> None:
    world.write(FIRST, "12:00:00 start req=a")
    world.write(SECOND, "00:05:00 end req=o")
    world.run(FIRST, shop())
    world.write(FIRST, "12:00:00 start req=a", "23:40:00 FATAL req=o")
    context = Context(FIRST, "broken off", (shop(),), world.lake, world.settings, lambda: datetime(2026, 3, 9, tzinfo=UTC))
    ingest(world.lake, context, shop(), None, None)  # type: ignore[arg-type]
    world.run(SECOND, shop())
    assert world.notes == [f"{FIRST} was parsed again for this night: its lines have been replaced"]
    assert world.judged()["o"] == [("04", 2)]


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (shop(settle_minutes=5), True),
        (shop(lookback_days=3), True),
        (shop().model_copy(update={"description": "the shop"}), True),
        (shop("Europe/Berlin"), False),
        (shop(masks=(Mask(name="X", pattern="x"),)), False),
        (shop().model_copy(update={"default_masks": False}), False),
        (shop().model_copy(update={"session": Session(kind="id", pattern="r=")}), False),
        (shop().model_copy(update={"header": Header()}), False),
        (shop().model_copy(update={"variants": (Variant(header=Header()),)}), False),
    ],
)
def test_the_hash_of_reading_rules_changes_with_what_reads_a_line_alone(changed: System, same: bool) -> None:
    assert (reading_hash(changed) == reading_hash(shop())) == same
