"""The list of sessions that wait for a later night: stored in silver.waiting, one slice per night that left them.

A night leaves a session to a later one if the session begins in the night's last minutes. The first later run of the system takes over all
that wait, whatever the system's file says by then. A night that is run again leaves and takes over the same sessions again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from nightlog.lake.parts import read_part, write_part
from nightlog.lake.tables import WAITING
from nightlog.parsing.timestamps import EPOCH, MICROSECOND
from nightlog.sessions.group import SESSIONS, same_rows

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake
    from nightlog.systems.spec import System

# A session waits for the next night, or for the one after it, if the next one does not come.
LONGEST_WAIT_DAYS = 2
STATES = WAITING_STATE, JUDGED_STATE = ("waiting", "judged")
ENTRIES = pa.schema([*SESSIONS, ("until", pa.string()), ("judged_ds", pa.string())])
NONE_DUE = pa.schema([("session_id", pa.string()), ("since", pa.string())]).empty_table()


def settle_window(system: System, ds: str) -> tuple[int, int] | None:
    """Return the night's last `settle_minutes` in the system's time zone, as microseconds since 1970 [from, below).

    None if no session of the system waits: see `System.settle_minutes`.
    """
    if not system.settle_minutes or system.timestamp is None:
        return None
    midnight = datetime.fromisoformat(ds).replace(tzinfo=ZoneInfo(system.timestamp.timezone)) + timedelta(days=1)
    end = (midnight - EPOCH) // MICROSECOND
    return end - timedelta(minutes=system.settle_minutes) // MICROSECOND, end


def days_between(first: str, last: str) -> list[str]:
    """Return the days from `first` on and before `last`.

    >>> days_between("2026-02-27", "2026-03-01")
    ['2026-02-27', '2026-02-28']
    """
    start = date.fromisoformat(first)
    return [(start + timedelta(days=n)).isoformat() for n in range((date.fromisoformat(last) - start).days)]


class WaitingList:
    """One system's slices of silver.waiting, changed in memory until `write`."""

    def __init__(self, lake: Lake, system: str):
        self.lake = lake
        self.system = system
        self.parts = lake.parts(WAITING, system=system)
        self.open_days = {dict(part.partition)["ds"] for part in self.parts if dict(part.partition)["state"] == WAITING_STATE}
        self.slices: dict[str, pa.Table] = {}
        self.changed: set[str] = set()

    def entries(self, ds: str) -> pa.Table:
        """Return the sessions that the night has left to later ones, judged since or not: ENTRIES, in the order of session ids."""
        if ds not in self.slices:
            parts = [part.path for part in self.parts if dict(part.partition)["ds"] == ds]
            tables = [read_part(self.lake.root, WAITING, path, ENTRIES.names).cast(ENTRIES) for path in parts]
            self.slices[ds] = pa.concat_tables([ENTRIES.empty_table(), *tables]).sort_by("session_id").combine_chunks()
        return self.slices[ds]

    def due(self, ds: str, days: Iterable[str] = ()) -> pa.Table:
        """Return the sessions (session_id, since) that a night takes over: those that wait, and those that it took over in an earlier run.

        Args:
            days: the earlier days that the night looked at in an earlier run.
        """
        tables = [NONE_DUE]
        for since in sorted(self.open_days | set(days)):
            if since < ds and len(entries := self.entries(since)):
                ids = entries.filter(is_taken_by(entries, ds)).column("session_id")
                tables.append(pa.table({"session_id": ids, "since": pa.array([since] * len(ids), pa.string())}))
        return pa.concat_tables(tables)

    def take(self, ds: str, due: pa.Table) -> None:
        """Note that the night judges what is due."""
        for since in due.column("since").unique().to_pylist():
            entries = self.entries(since)
            judged = pc.if_else(is_taken_by(entries, ds), ds, entries.column("judged_ds"))
            self.put(since, entries.set_column(entries.schema.get_field_index("judged_ds"), "judged_ds", judged))

    def leave(self, ds: str, waiting: pa.Table, unchanged: pa.Table) -> list[str]:
        """Replace what the night leaves to later ones. A session that a later night took over, and that has the same events, stays judged.

        Args:
            waiting: SESSIONS.
            unchanged: UNCHANGED; those that a later night has judged are listed as left to it.

        Returns:
            The later nights that have judged sessions which are not left to them any more, or have other events now.
        """
        before = self.entries(ds)
        later = unchanged.filter(pc.greater(unchanged.column("judged_ds"), ds))
        place = pc.index_in(waiting.column("session_id"), before.column("session_id").combine_chunks())
        judged = pc.if_else(pa.array(same_rows(waiting, before)), before.column("judged_ds").take(place), pa.scalar(None, pa.string()))
        rows = pa.concat_tables([waiting.append_column("judged_ds", judged), later]).sort_by("session_id").combine_chunks()
        until = (date.fromisoformat(ds) + timedelta(days=LONGEST_WAIT_DAYS)).isoformat()
        untils = pa.array([until] * len(rows), pa.string())
        self.put(ds, rows.append_column("until", untils).select(ENTRIES.names).cast(ENTRIES))
        kept = rows.filter(pc.is_valid(rows.column("judged_ds"))).column("session_id").combine_chunks()
        lost = pc.invert(pc.is_in(before.column("session_id"), kept))
        stale: list[str] = before.column("judged_ds").filter(lost).drop_null().unique().to_pylist()
        return stale

    def taken_after(self, ds: str, days: Iterable[str]) -> dict[str, pa.Array]:
        """Return night → ids of the sessions that nights after `ds` took over from any of the days."""
        found: dict[str, list[pa.Array]] = {}
        for day in days:
            entries = self.entries(day)
            for night in entries.column("judged_ds").drop_null().unique().to_pylist():
                if night > ds:
                    ids = entries.filter(pc.fill_null(pc.equal(entries.column("judged_ds"), night), False)).column("session_id")
                    found.setdefault(night, []).append(ids.combine_chunks())
        return {night: pa.concat_arrays(ids) for night, ids in found.items()}

    def put(self, ds: str, entries: pa.Table) -> None:
        """Replace a slice in memory."""
        if entries.equals(self.entries(ds)):
            return
        self.slices[ds] = entries
        self.changed.add(ds)
        is_open = pc.any(pc.is_null(entries.column("judged_ds"))).as_py()
        self.open_days = self.open_days | {ds} if is_open else self.open_days - {ds}

    def write(self) -> None:
        """Commit the slices that have changed, in one commit."""
        if not self.changed:
            return
        parts = []
        for ds in sorted(self.changed):
            waits = pc.is_null(self.entries(ds).column("judged_ds"))
            for state, mask in ((WAITING_STATE, waits), (JUDGED_STATE, pc.invert(waits))):
                if len(rows := self.entries(ds).filter(mask)):
                    parts.append(write_part(self.lake.root, WAITING, rows, system=self.system, ds=ds, state=state))
        self.lake.replace(WAITING, parts, system=self.system, ds=sorted(self.changed))


def is_taken_by(entries: pa.Table, ds: str) -> pa.ChunkedArray:
    """Return a mask of the entries that wait, or that the night took over."""
    judged = entries.column("judged_ds")
    return pc.or_(pc.is_null(judged), pc.fill_null(pc.equal(judged, ds), False))


def due_sessions(lake: Lake, system: System, ds: str) -> int:
    """Return the number of sessions that the night takes over from earlier ones, if it is run; an earlier run of it may have done so.

    A night without input goes on if there are any: nobody else may come for them.
    """
    from nightlog.parsing.readings import Readings

    return len(WaitingList(lake, system.name).due(ds, Readings(lake, system).earlier_days(ds)))


def overdue(lake: Lake, systems: Iterable[str], before: str) -> dict[str, str]:
    """System → the night that has to judge its overdue sessions: they still wait though their last night was before a day."""
    nights = {}
    for name in systems:
        entries = WaitingList(lake, name)
        untils = [until for ds in sorted(entries.open_days) for until in open_untils(entries.entries(ds)) if until < before]
        if untils:
            nights[name] = max(untils)
    return nights


def open_untils(entries: pa.Table) -> list[str]:
    """Return the nights that judge, at the latest, what still waits."""
    found: list[str] = entries.filter(pc.is_null(entries.column("judged_ds"))).column("until").unique().to_pylist()
    return found
