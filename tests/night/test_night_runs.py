"""Two runs of one night never mix: the later one has it alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.locks import is_free, locked
from nightlog.lake.query import run_outcomes
from nightlog.lake.tables import NIGHTS, OUTCOMES, SCORES
from nightlog.outcomes import Stage
from nightlog.pages.model import system_outcome
from nightlog.run.night import Night
from nightlog.settings import Settings
from nights import add_toy_model, content, small_system

DS = "2026-03-04"


def test_the_later_run_of_a_night_has_it_alone(tmp_path: Path, write_log: Callable[[str, str, bytes], Path]) -> None:
    lake = Lake(tmp_path / "lake")
    add_toy_model(lake)
    write_log("shop", f"{DS}.log", b"INFO s1 request accepted\n")

    def run(name: str) -> Night:
        settings = Settings(lake=tmp_path / "lake", data=tmp_path / "data", llm="off")
        return Night(DS, name, [small_system("shop")], lake, settings, lambda: datetime.now(UTC))

    first, second = run("first"), run("second")
    assert [outcome.outcome for outcome in first.run_stage(Stage.INGEST)] == ["done"]
    assert [outcome.outcome for outcome in second.run_stage(Stage.INGEST)] == ["done"]
    before = lake.rows(OUTCOMES)
    (left,) = first.run_stage(Stage.PARSE)
    assert (left.outcome, left.detail) == ("failed", "run second began this night after this run did, so this run leaves the night to it")
    assert lake.rows(OUTCOMES) == before
    # The later run goes on, and a stage by hand belongs to no run.
    for name in ("second", "by hand"):
        night = run(name)
        assert night.progress.overtaken_by(night.context.systems[0]) is None
    # Begun again, the first one is the later.
    assert [outcome.outcome for outcome in first.run_stage(Stage.INGEST)] == ["done"]
    assert [outcome.outcome for outcome in second.run_stage(Stage.PARSE)] == ["failed"]


def test_a_clock_that_was_ahead_for_one_run_does_not_block_the_next(tmp_path: Path, write_log: Callable[[str, str, bytes], Path]) -> None:
    lake, settings = Lake(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off", device="cpu")
    add_toy_model(lake)

    def run(name: str, ahead: timedelta) -> list[str]:
        night = Night(DS, name, [small_system("shop")], lake, settings, lambda: datetime.now(UTC) + ahead)
        return [outcome.outcome for stage in Stage for outcome in night.run_stage(stage)]

    write_log("shop", f"{DS}.log", b"INFO s1 request accepted\n")
    assert set(run("ahead", timedelta(days=1))) == {"done"}
    write_log("shop", f"{DS}.log", b"INFO s1 request accepted\nINFO s2 request accepted\n")
    outcomes = run("right", timedelta(0))
    assert outcomes == ["done"] * len(Stage)
    assert [row["n_sessions"] for row in lake.rows(NIGHTS)] == [2]
    assert run_outcomes(lake, DS, "right")[0][1] == "done"
    found, _, _ = system_outcome(lake.rows(OUTCOMES, ds=DS))
    assert found.outcome == "done"
    # Read in the order of time, the rows are in the order of the runs.
    runs = [row["run_id"] for row in sorted(lake.rows(OUTCOMES), key=lambda row: row["at"])]
    assert runs == ["ahead"] * len(Stage) + ["right"] * len(Stage)


def test_who_waits_for_another_has_committed_and_holds_nothing(tmp_path: Path, write_log: Callable[[str, str, bytes], Path]) -> None:
    for name in ("mail", "shop"):
        write_log(name, f"{DS}.log", b"INFO s1 request accepted\n")
    root, settings = str(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off")
    night = Night(DS, "run", [small_system("mail"), small_system("shop")], Lake(root), settings, lambda: datetime.now(UTC))
    outcomes = night.run_stage(Stage.INGEST)
    with ThreadPoolExecutor(1) as pool:
        with locked(root, "shop", wait_s=0):
            assert next(outcomes).system == "mail"
            later = pool.submit(next, outcomes)
            assert [row["system"] for row in Lake(root).rows(OUTCOMES)] == ["mail"]
            assert is_free(root, "mail") and not is_free(root, "shop") and not later.done()
        assert later.result(timeout=30).outcome == "done"
    assert sorted(row["system"] for row in Lake(root).rows(OUTCOMES)) == ["mail", "shop"]


def test_a_past_night_is_run_again_by_the_model_that_judged_it(tmp_path: Path, write_log: Callable[[str, str, bytes], Path]) -> None:
    write_log("shop", f"{DS}.log", b"INFO s1 request accepted\nERROR s2 disk gone\n")
    lake, settings, systems = Lake(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off", device="cpu"), [small_system("shop")]
    then = add_toy_model(lake)

    def run(name: str, as_run: bool) -> list[str]:
        night = Night(DS, name, systems, lake, settings, lambda: datetime.now(UTC), as_run)
        assert {outcome.outcome for stage in Stage for outcome in night.run_stage(stage)} == {"done"}
        (row,) = lake.rows(NIGHTS)
        return [row["versions"]["model"], *content(lake, SCORES)]

    with pytest.raises(ConfigError, match="shop 2026-03-04: not published"):
        run("unknown", True)
    first = run("first", False)
    now = add_toy_model(lake, seed=2)
    today = run("today", False)
    assert (first[0], today[0]) == (then, now) and first[1:] != today[1:]
    add_toy_model(lake, seed=3)
    assert run("as run", True) == today, "the model of the night as it was last published"


def test_a_night_of_another_model_is_routed_and_scored_again(tmp_path: Path, write_log: Callable[[str, str, bytes], Path]) -> None:
    write_log("shop", f"{DS}.log", b"INFO s1 request accepted\nERROR s2 disk gone\n")
    lake, settings, systems = Lake(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off", device="cpu"), [small_system("shop")]
    add_toy_model(lake)

    def night(name: str) -> Night:
        return Night(DS, name, systems, lake, settings, lambda: datetime.now(UTC))

    first = night("first")
    assert {outcome.outcome for stage in Stage for outcome in first.run_stage(stage)} == {"done"}
    assert night("same").stages_from(Stage.PUBLISH) == Stage.PUBLISH.onwards
    now = add_toy_model(lake, seed=2)
    # By itself the stage refuses, and says which one to run before it.
    (refused,) = night("alone").run_stage(Stage.PUBLISH)
    assert refused.outcome == "failed" and "clear task `route`" in (refused.detail or "")
    again = night("again")
    stages = again.stages_from(Stage.PUBLISH)
    assert stages == Stage.ROUTE.onwards
    assert {outcome.outcome for stage in stages for outcome in again.run_stage(stage)} == {"done"}
    assert {row["model"] for row in lake.rows(SCORES)} == {now} == {lake.rows(NIGHTS)[0]["versions"]["model"]}


def test_a_run_uses_the_model_that_served_when_it_began(tmp_path: Path, write_log: Callable[[str, str, bytes], Path]) -> None:
    write_log("shop", f"{DS}.log", b"INFO s1 request accepted\n")
    lake, settings, systems = Lake(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off", device="cpu"), [small_system("shop")]
    then = add_toy_model(lake)
    for stage in Stage:  # each stage is a process of its own, under the same run id
        if stage == Stage.DETECT:
            add_toy_model(lake, seed=2)
        night = Night(DS, "run", systems, lake, settings, lambda: datetime.now(UTC))
        assert [outcome.outcome for outcome in night.run_stage(stage)] == ["done"]
    assert {row["model"] for row in lake.rows(SCORES)} == {then} == {lake.rows(NIGHTS)[0]["versions"]["model"]}
    assert all(dict(row["versions"])["model"] == then for row in lake.rows(OUTCOMES))
