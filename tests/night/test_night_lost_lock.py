"""A run whose lock of a system was taken over writes nothing more of it. The store of the locks is obstore's own, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.errors import LockLost, StoreRefused
from nightlog.lake.lake import Lake
from nightlog.lake.lease_stores import ObjectLeases
from nightlog.lake.leases import Content, Lease, acquire
from nightlog.lake.tables import NIGHTS, OUTCOMES
from nightlog.lake.transaction import Transaction
from nightlog.outcomes import Outcome, OutcomeKind, Stage
from nightlog.run.commit_window import CommitWindow
from nightlog.run.night import Night
from nightlog.settings import Settings
from nights import small_system
from obstore.store import MemoryStore

DS = "2026-03-04"


def lost_lease() -> Lease:
    """A lease that another process has taken over."""
    store = ObjectLeases("memory:///locks", MemoryStore())
    store.check_conditions()
    lease = acquire(store, "shop", 0.0, 0.3, "run first")
    with lease.mutex:
        store.write("shop", Content("other", "run second", 60.0), lease.version)
    deadline = time.monotonic() + 30
    while not lease.is_lost:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return lease


def test_the_outcome_of_a_system_whose_lock_was_lost_is_that_of_the_other_process(
    tmp_path: Path, write_log: Callable[[str, str, bytes], Path]
) -> None:
    write_log("shop", f"{DS}.log", b"INFO s1 request accepted\n")
    lake, settings = Lake(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off")
    systems = [small_system("shop"), small_system("mail")]
    night = Night(DS, "first", systems, lake, settings, lambda: datetime.now(UTC))
    with CommitWindow(lake, night.progress) as window:
        for system in ("shop", "mail"):
            transaction = Transaction(lake)
            transaction.replace(NIGHTS, [{"ds": DS, "system": system, "outcome": "done"}], ds=DS, system=system)
            transaction.lock = lost_lease() if system == "shop" else None
            window.add(Outcome(system, Stage.INGEST, OutcomeKind.DONE, None, {}, 0.0), transaction)
        outcomes = {each.system: each for each in window.commit()}
    assert (outcomes["shop"].outcome, outcomes["mail"].outcome) == ("transient", "done")
    assert "another process has taken over the lock memory:///locks/shop.lock" in (outcomes["shop"].detail or "")
    assert [row["system"] for row in lake.rows(NIGHTS)] == ["mail"] == [row["system"] for row in lake.rows(OUTCOMES)]
    # The other process ingests the night; this run leaves all later stages to it, also the note that it is not published.
    other = Night(DS, "second", systems[:1], lake, settings, lambda: datetime.now(UTC))
    assert [each.outcome for each in other.run_stage(Stage.INGEST)] == ["done"]
    before = lake.rows(OUTCOMES, system="shop")
    for stage in (Stage.PARSE, Stage.PUBLISH):
        assert [each.outcome for each in night.run_stage(stage) if each.system == "shop"] == ["transient"]
    assert lake.rows(OUTCOMES, system="shop") == before
    assert [row["system"] for row in lake.rows(NIGHTS)] == ["mail"]


def test_what_is_written_at_once_is_not_written_either(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with pytest.raises(LockLost):
        lake.under(lost_lease()).append(NIGHTS, [{"ds": DS, "system": "shop", "outcome": "done"}])
    lake.append(NIGHTS, [{"ds": DS, "system": "mail", "outcome": "done"}])
    assert [row["system"] for row in lake.rows(NIGHTS)] == ["mail"]


def test_something_else_in_the_place_of_a_lock_is_not_taken_for_one() -> None:
    store = ObjectLeases("memory:///locks", MemoryStore())
    store.store.put("shop.lock", b"mine")
    with pytest.raises(StoreRefused, match="is no lock that this version wrote"):
        acquire(store, "shop", 0.0, 60.0, "")
