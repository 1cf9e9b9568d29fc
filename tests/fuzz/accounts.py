"""Random nights of random systems, and the accounts that must hold after each of them.

`simulate` draws a world from a seed: systems in several time zones, days around a change of the clock or of the year, sessions that begin
just before midnight, clocks that are wrong, files that come late, change or are missing. Nights are run in any order, some twice, while the
system's file is edited. Everything is done in this process, without Spark.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from nightlog.errors import NoInput
from nightlog.ingest.ingest import look_back
from nightlog.lake.lake import Lake
from nightlog.lake.tables import (
    COUNTS_TABLE,
    EVENTS_TABLE,
    LINES_TABLE,
    MESSAGES,
    PATTERNS,
    READINGS,
    SESSIONS,
    WAITING,
    TableSpec,
)
from nightlog.parsing.parse import parse
from nightlog.parsing.readings import Readings
from nightlog.run.context import Context
from nightlog.run.stages import ingest
from nightlog.settings import read_settings
from nightlog.systems.spec import Header, Input, Mask, Session, System, Timestamp

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
FIRST_DAYS = ("2026-03-27", "2026-10-23", "2026-03-06", "2026-12-29", "2026-06-10")
WORDS = ("open", "read", "write", "retry", "close")
SILVER = (EVENTS_TABLE, COUNTS_TABLE, MESSAGES, SESSIONS, WAITING, READINGS, PATTERNS)
Event = tuple[str, str, int, int, str]


class Violation(AssertionError):
    """An account that does not hold."""


@dataclass
class Figures:
    """How much a simulation has tried."""

    nights: int = 0
    sessions: int = 0
    judged_again: int = 0
    waited: int = 0
    read_again: int = 0


@dataclass
class World:
    """One system: its file, its lines by day, its lake, and the events on which each session of each night was judged."""

    rng: random.Random
    root: Path
    system: System
    days: list[str]
    files: dict[str, list[str]] = field(default_factory=dict)
    judged: dict[str, dict[str, frozenset[Event]]] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        self.lake = Lake(self.root / "lake")
        (self.root / "data").mkdir(parents=True)

    def write(self, ds: str) -> None:
        """Write the file of a day, or remove it if the day has no lines."""
        path = self.root / "data" / f"{ds}.log"
        if lines := self.files.get(ds):
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)

    def run(self, ds: str, run_id: str) -> bool:
        """Ingest and parse a night as its stages do. Returns whether it went on to the end."""
        settings = read_settings().model_copy(update={"lake": self.root / "lake", "data": self.root / "data"})
        context = Context(ds, run_id, [self.system], self.lake, settings, lambda: datetime(2027, 1, 5, tzinfo=UTC))
        try:
            counts = ingest(self.lake, context, self.system, None, None).counts  # type: ignore[arg-type]
        except NoInput:
            return False
        more, notes = parse(self.lake, self.system, ds, run_id)
        self.figures.nights += 1
        self.figures.sessions += more["n_sessions"]
        self.figures.judged_again += more["n_judged_again"]
        self.figures.waited += more["n_waiting"]
        self.figures.read_again += sum("parsed again" in note for note in notes)
        self.check(ds, counts | more)
        return True

    def check(self, ds: str, counts: dict[str, int]) -> None:
        """Check all accounts after a night. Raises Violation."""
        events = self.events()
        lines = {(row["file"], row["line_no"]) for row in self.lake.rows(EVENTS_TABLE, ["file", "line_no"], ds=ds)}
        read = len(lines) + counts["n_blank"] + counts["n_unparsed"] + counts.get("n_continuation", 0)
        require(read == len(self.lake.rows(LINES_TABLE, ["line_no"], ds=ds)), f"{ds}: lines read {read}")
        listed = len(self.lake.rows(WAITING, ds=ds))
        parts = (counts["n_sessions"], counts["n_waiting"], counts["n_unchanged"], counts["n_outside"])
        require(counts["n_ids"] == sum(parts), f"{ds}: {counts['n_ids']} ids are {parts}")
        require(counts["n_waiting"] <= listed <= counts["n_waiting"] + counts["n_unchanged"], f"{ds}: {listed} entries for {parts}")
        sessions = {row["session_id"]: row for row in self.lake.rows(SESSIONS, ds=ds)}
        require(len(sessions) == counts["n_sessions"], f"{ds}: {len(sessions)} rows for {parts}")
        entries = self.lake.rows(WAITING)
        for entry in entries:
            require(entry["judged_ds"] is not None or entry["ds"] >= ds, f"{entry['session_id']} of {entry['ds']} still waits after {ds}")
            require((entry["state"] == "judged") == (entry["judged_ds"] is not None), str(entry))
        taken = {entry["session_id"]: entry["ds"] for entry in entries if entry["judged_ds"] == ds}
        for session, since in taken.items():
            left = set(events.get(session, {}).get(since, ()))
            elsewhere = any(left <= found.get(session, frozenset()) for found in self.judged.values())
            require(session in sessions or elsewhere, f"{session} of {since} was taken over by {ds} and is judged on no night")
        self.judged[ds] = {}
        for session, row in sessions.items():
            days = set(look_back(self.system, ds)) | (
                {day for day in self.used(ds) if day >= taken[session]} if session in taken else set()
            )
            found = frozenset(event for day in {*days, ds} for event in events.get(session, {}).get(day, ()))
            require(len(found) == row["n_events"], f"{session} on {ds}: {row['n_events']} events, expected {len(found)}")
            require(any(event[0] == ds for event in found) or session in taken, f"{session} has no event of {ds} and did not wait")
            self.judged[ds][session] = found
        self.check_all(events, entries)

    def check_all(self, events: dict[str, dict[str, list[Event]]], entries: list[dict[str, Any]]) -> None:
        """Check that each session with events of a night that was run is judged or waits, and no two nights judged the same events."""
        listed = {(entry["ds"], entry["session_id"]) for entry in entries}
        for session, by_day in events.items():
            for day in by_day:
                if day in self.judged:
                    require(session in self.judged[day] or (day, session) in listed, f"{session} of {day} is judged on no night, nor waits")
            nights = {ds: found[session] for ds, found in sorted(self.judged.items()) if session in found}
            require(len(nights) == len(set(nights.values())), f"{session} was judged twice on the same events: {nights}")

    def used(self, ds: str) -> list[str]:
        """Return the earlier days that a night was made with."""
        return Readings(self.lake, self.system).earlier_days(ds)

    def events(self) -> dict[str, dict[str, list[Event]]]:
        """Return session → day → events of the lake."""
        found: dict[str, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
        for row in self.lake.rows(EVENTS_TABLE):
            if row["session_id"] is not None:
                event = (row["ds"], row["file"], row["line_no"], row["message_id"], str(row["at"]))
                found[row["session_id"]][row["ds"]].append(event)
        return found

    def tables(self, specs: tuple[TableSpec, ...] = SILVER) -> dict[str, list[str]]:
        """Return the content of tables, without what only describes the run."""
        return {spec.name: content(self.lake.rows(spec)) for spec in specs}


def require(holds: bool, message: str) -> None:
    """Raise Violation with the message unless the condition holds."""
    if not holds:
        raise Violation(message)


def content(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as sorted text, without the columns of the run."""
    kept = [{key: value for key, value in row.items() if not key.startswith("run_")} for row in rows]
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in kept)


def draw_system(rng: random.Random) -> System:
    """Draw a system: time zone, look-back, settle minutes."""
    session = Session(
        kind="id", pattern=r"req-(\w+)", lookback_days=rng.choice([0, 1, 1, 1, 2, 3]), settle_minutes=rng.choice([0, 5, 10, 10, 60])
    )
    return System(
        name="app",
        role="target",
        input=Input(path="{ds}.log"),
        header=Header(pattern=r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<message>.*)"),
        timestamp=Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss", timezone=rng.choice(ZONES)),
        session=session,
        masks=(Mask(name="REQ", pattern=r"req-\w+"),),
    )


def draw_lines(rng: random.Random, system: System, days: list[str]) -> dict[str, list[str]]:
    """Draw sessions over some days as lines by the day of their file."""
    assert system.timestamp is not None
    zone = ZoneInfo(system.timestamp.timezone)
    files: dict[str, list[str]] = {day: [] for day in days}
    for number in range(rng.randint(3, 8) * len(days)):
        day = date.fromisoformat(rng.choice(days))
        minute = rng.choice([rng.randint(0, 24 * 60 - 1), 24 * 60 - rng.randint(1, 12), rng.randint(0, 3), 24 * 60 - rng.randint(1, 70)])
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
        own_file = rng.random() < 0.1  # all of its lines are in the file of the first one's day
        for step in range(rng.choice([1, 1, 2, 3, 4])):
            local = at.replace(tzinfo=zone)  # a wall clock time, also one that the clock change skips
            stamp = f"{local:%Y-%m-%d %H:%M:%S}"
            if rng.random() < 0.05:
                stamp = rng.choice([f"{local.year + 1}-{local:%m-%d %H:%M:%S}", f"{local:%Y-%m-%d} 99:00:00"])
            into = day.isoformat() if own_file else at.date().isoformat()
            ids = f"req-s{number}" + (f" and req-s{rng.randrange(number + 1)}" if rng.random() < 0.1 else "")
            if into in files:
                files[into].append(f"{stamp} {WORDS[step]} {rng.choice(['disk', 'net', 'db'])} {rng.randint(0, 99)} for {ids}")
            at += rng.choice(
                [timedelta(seconds=rng.randint(0, 90)), timedelta(minutes=rng.randint(1, 20)), timedelta(hours=rng.randint(5, 40))]
            )
    for day, lines in files.items():
        lines.extend(rng.choices(["", "no header", f"{day} 12:00:00 heartbeat"], k=rng.randint(0, 3)))
        rng.shuffle(lines)
    return files


def edited(rng: random.Random, system: System) -> System:
    """Return a system whose file was edited: settle minutes, look-back, time zone, or a mask."""
    assert system.timestamp is not None
    what = rng.choice(["settle", "look-back", "zone", "mask"])
    if what == "zone":
        return system.model_copy(update={"timestamp": system.timestamp.model_copy(update={"timezone": rng.choice(ZONES)})})
    if what == "mask":
        more = () if len(system.masks) > 1 else (Mask(name="PART", pattern="disk|net"),)
        return system.model_copy(update={"masks": (*system.masks[:1], *more)})
    change: dict[str, int] = {"settle_minutes": rng.choice([0, 5, 10, 60])} if what == "settle" else {"lookback_days": rng.randint(0, 3)}
    return system.model_copy(update={"session": system.session.model_copy(update=change)})


def simulate(seed: int, n_steps: int = 12) -> Figures:
    """Run random nights of a random world and check all accounts. Raises Violation."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        first = date.fromisoformat(rng.choice(FIRST_DAYS))
        days = [(first + timedelta(days=n)).isoformat() for n in range(5)]
        world = World(rng, Path(folder), draw_system(rng), days)
        world.files = draw_lines(rng, world.system, days)
        late = {day: [] for day in days}
        for day in days:
            if rng.random() < 0.15:
                world.files[day], late[day] = [], world.files[day]  # no delivery, for now
            elif rng.random() < 0.2:
                cut = len(world.files[day]) // 2
                world.files[day], late[day] = world.files[day][:cut], world.files[day][cut:]
            world.write(day)
        for step in range(n_steps):
            ds = days[min(step * len(days) // n_steps, len(days) - 1)] if rng.random() < 0.7 else rng.choice(days)
            if rng.random() < 0.2:
                world.system = edited(rng, world.system)
            if late[ds] and rng.random() < 0.5:
                world.files[ds], late[ds] = world.files[ds] + late[ds], []
                world.write(ds)
            done = world.run(ds, f"run-{step}")
            if done and rng.random() < 0.3:
                before = world.tables()
                world.run(ds, f"run-{step}-again")
                require(world.tables() == before, f"{ds}: run again at once, its tables differ")
        after = (first + timedelta(days=len(days))).isoformat()
        if world.run(after, "last"):
            waits = [entry for entry in world.lake.rows(WAITING) if entry["judged_ds"] is None and entry["ds"] < after]
            require(not waits, f"{len(waits)} sessions still wait")
        return world.figures


def in_order(seed: int) -> Figures:
    """Run the same nights in order, and in another order with the stale ones again: the tables are the same. Raises Violation."""
    rng = random.Random(seed)
    first = date.fromisoformat(rng.choice(FIRST_DAYS))
    days = [(first + timedelta(days=n)).isoformat() for n in range(5)]
    system = draw_system(rng)
    files = draw_lines(rng, system, days)
    order = draw_order(rng, days)
    figures = Figures()
    found = []
    for nights in (days, order):
        with tempfile.TemporaryDirectory() as folder:
            world = World(rng, Path(folder), system, days, dict(files), figures=figures)
            for day in days:
                world.write(day)
            for number, ds in enumerate(nights):
                world.run(ds, f"run-{number}")
            for number in range(2 * len(days)):
                if not (stale := Readings(world.lake, system).stale()):
                    break
                world.run(min(stale), f"again-{number}")
            found.append(world.tables((EVENTS_TABLE, SESSIONS, WAITING, PATTERNS)))
    for name, rows in found[0].items():
        require(rows == found[1][name], f"{name} differs if nights are run in the order {order}")
    return figures


def draw_order(rng: random.Random, days: list[str]) -> list[str]:
    """Draw an order in which the sessions that a night leaves are taken over by the next one, and by no later night that is run before it.

    The next night may be run first: then it is run once more at the end, because it is stale, and no later night may come in between.
    """
    while True:
        order = rng.sample(days, len(days))
        place = {day: number for number, day in enumerate(order)}
        for day, after in itertools.pairwise(days):
            until = place[after] if place[after] > place[day] else len(days)
            between = [each for each in days if each > after and place[day] < place[each] < until]
            if between:
                break
        else:
            return order
