"""A few of the kills of `make faults`: a job of `ingest` or `parse` dies at a commit, is started again, and nothing is lost or doubled."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_stage_that_is_killed_at_a_commit_and_started_again_leaves_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    from kills import kill_once, make_world
    from processes import FORK
    from world import Logs, snapshot

    FORK.set_forkserver_preload(["light"])
    world = make_world(tmp_path, {"shop": Logs(20)}, ("ingest", "parse"))
    assert {name: rows.total() > 0 for name, rows in snapshot(Lake(world.before("again"))).items()}["silver.sessions"]
    found = []
    for stage, word, side in (
        ("ingest", "bronze/lines/", "before"),
        ("parse", "silver/templates", "after"),
        ("parse", "silver/counts/", "after"),
        ("parse", "silver/sessions/", "after"),
    ):
        number = next(line.split()[0] for line in world.stages[stage].commits if word in line)
        found.append(kill_once(world, stage, f"{stage}-{number}", f"{number}:{side}", "the same stage again"))
    assert [(each.outcome, each.wrong) for each in found if each is not None] == [("the same tables", "")] * 4
