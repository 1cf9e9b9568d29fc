"""Writes of several systems that wait for each other: one commit a table, the same rows, and reads that see what waits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from nightlog.errors import CommitUnknown, outcome_of
from nightlog.lake.lake import Lake
from nightlog.lake.parts import commit_parts, parts_of, replace_rows, schema_of, write_part
from nightlog.lake.tables import MESSAGES, NIGHTS, OUTCOMES, SCORES, TEMPLATES, TableSpec
from nightlog.lake.transaction import Rows, Write, commit
from nightlog.outcomes import OutcomeKind, Stage
from nightlog.run.commit_window import CommitWindow
from nightlog.run.night import Night
from nightlog.run.stages import Outcome
from nightlog.settings import Settings

DS = "2026-03-04"


@pytest.fixture
def tables(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def scores(*names: str) -> list[dict[str, Any]]:
    return [{"pattern_id": name, "probability": 0.5, "weights": [], "model": "m"} for name in names]


def messages(system: str, *numbers: int) -> list[dict[str, Any]]:
    return [{"system": system, "message_id": n, "message": f"m{n}", "template_id": "t", "first_ds": DS} for n in numbers]


def write_all(lake: Lake, system: str) -> None:
    replace_rows(lake, SCORES, scores(f"{system}-p"), system=system, ds=DS)
    lake.put(MESSAGES, messages(system, 1, 2))
    lake.put(NIGHTS, [{"ds": DS, "system": system, "outcome": "done"}], ds=DS, system=system)


def shared_neighbours(lake: Lake, systems: list[str]) -> list[Write]:
    found: list[Write] = []
    for system in systems:
        with lake.gathering() as writes:
            write_all(lake, system)
        found += writes
    return found


def shown(lake: Lake, spec: TableSpec) -> list[str]:
    return sorted(map(str, lake.rows(spec)))


def test_many_systems_share_a_commit_and_leave_what_each_would_have_left_alone(tmp_path: Path, tables: Lake) -> None:
    alone = Lake(tmp_path / "alone")
    for system in "abc":
        write_all(alone, system)
    write_all(tables, "a")
    tables.put(NIGHTS, [{"ds": "2026-03-03", "system": "b", "outcome": "done"}, {"ds": DS, "system": "z", "outcome": "gated"}])
    before = {spec: tables.table(spec).version() for spec in (SCORES, MESSAGES, NIGHTS)}

    assert commit(tables, [shared_neighbours(tables, [system]) for system in "abc"]) == {}

    assert shown(tables, SCORES) == shown(alone, SCORES)
    assert shown(Lake(tables.root), SCORES) == shown(alone, SCORES)
    assert len(tables.rows(MESSAGES, system="b")) == 2
    nights = {(row["ds"], row["system"], row["outcome"]) for row in tables.rows(NIGHTS)}
    assert nights == {(DS, system, "done") for system in "abc"} | {("2026-03-03", "b", "done"), (DS, "z", "gated")}
    assert {spec.name: tables.table(spec).version() - version for spec, version in before.items()} == {
        "silver.scores": 1,
        "silver.messages": 1,
        "gold.nights": 1,
    }


def test_what_waits_is_seen_by_the_writer_and_by_nobody_else(tables: Lake) -> None:
    tables.put(MESSAGES, messages("a", 1))
    replace_rows(tables, SCORES, scores("old"), system="a", ds=DS)
    with tables.gathering():
        tables.put(MESSAGES, messages("a", 2))
        new = write_part(tables.root, SCORES, pa.Table.from_pylist(scores("new"), schema_of(SCORES)), system="a", ds=DS)
        commit_parts(tables, SCORES, [new], system="a", ds=DS)
        assert sorted(row["message_id"] for row in tables.rows(MESSAGES, ["message_id"], system="a")) == [1, 2]
        assert tables.rows(MESSAGES, system="b") == []
        assert parts_of(tables, SCORES, system="a", ds=DS) == [new]
        other = Lake(tables.root)
        assert [row["message_id"] for row in other.rows(MESSAGES)] == [1]
        assert [row["pattern_id"] for row in other.rows(SCORES)] == ["old"]
        # A reader that cannot see what waits is served by committing it.
        assert tables.nights(SCORES, "a") == {DS}
        assert [row["pattern_id"] for row in other.rows(SCORES)] == ["new"]


def test_a_merge_finds_what_waits(tables: Lake) -> None:
    row = {"system": "a", "template_id": "t", "text": "x", "widened": "x", "first_message": "x", "token_count": 1, "ordinal": 0}
    with tables.gathering() as writes:
        tables.put(TEMPLATES, [row | {"first_ds": DS}])
        tables.upsert(TEMPLATES, [row | {"widened": "<*>", "first_ds": DS}], update=["widened"])
        assert writes == []
    assert [each["widened"] for each in tables.rows(TEMPLATES)] == ["<*>"]


def test_commits_of_another_writer_are_seen(tables: Lake) -> None:
    tables.put(MESSAGES, messages("a", 1))
    assert len(tables.rows(MESSAGES)) == 1
    Lake(tables.root).put(MESSAGES, messages("a", 2))
    assert len(tables.rows(MESSAGES)) == 2
    tables.put(MESSAGES, messages("a", 3))
    assert len(Lake(tables.root).rows(MESSAGES)) == 3


def test_writes_that_cannot_be_committed_are_the_outcome_of_their_system_alone(tables: Lake) -> None:
    night = Night(DS, "run", [], tables, Settings(llm="off"), lambda: datetime(2026, 3, 5, tzinfo=UTC))
    bad: list[Write] = [Rows(MESSAGES, pa.table({"nothing": ["known"]}), {})]
    done = {system: Outcome(system, Stage.PARSE, OutcomeKind.DONE, None, {}, 0.1) for system in "abc"}
    waiting = [(done["a"], shared_neighbours(tables, ["a"])), (done["b"], bad), (done["c"], shared_neighbours(tables, ["c"]))]

    with CommitWindow(tables, night.progress) as window:
        for outcome, writes in waiting:
            window.add(outcome, writes)
        outcomes = {each.system: each.outcome for each in window.commit()}

    assert outcomes == {"a": "done", "b": "failed", "c": "done"}
    assert {row["system"]: row["outcome"] for row in tables.rows(OUTCOMES)} == outcomes
    assert {row["system"] for row in tables.rows(SCORES)} == {"a", "c"}
    assert {row["system"] for row in tables.rows(MESSAGES)} == {"a", "c"}
    assert len(tables.rows(MESSAGES, system="a")) == 2


def no_checkpoint(lake: Lake, spec: TableSpec) -> None:
    """Stand in the way of the checkpoint that the table's next commit writes, so that delta-rs reports the commit as failed."""
    lake.table(spec).alter.set_table_properties({"delta.checkpointInterval": "1"}, raise_if_not_exists=False)
    log = Path(lake.path(spec)) / "_delta_log"
    for version in range(lake.table(spec).version() + 1, lake.table(spec).version() + 9):
        (log / f"{version:020}.checkpoint.parquet" / "in the way").mkdir(parents=True)


@pytest.mark.parametrize("systems", [["b"], ["b", "c", "d"]])
def test_a_commit_that_is_made_and_reported_as_failed_is_not_made_again(
    tables: Lake, systems: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_all(tables, "a")
    before = {spec: tables.table(spec).version() + 1 for spec in (SCORES, MESSAGES, NIGHTS)}
    for spec in before:
        no_checkpoint(tables, spec)

    assert commit(tables, [shared_neighbours(tables, [system]) for system in systems]) == {}

    assert caplog.text.count("reported as failed, but the commit is in the table's log") == 3
    wanted = ["a", *systems]
    assert sorted(row["system"] for row in tables.rows(MESSAGES)) == sorted(wanted * 2)
    assert sorted(row["pattern_id"] for row in tables.rows(SCORES)) == [f"{system}-p" for system in wanted]
    assert sorted(row["system"] for row in tables.rows(NIGHTS)) == wanted
    assert {spec: tables.table(spec).version() - version for spec, version in before.items()} == dict.fromkeys(before, 1)


def test_where_nobody_knows_whether_a_commit_was_made_it_is_not_made_again(tables: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(tables, "a")
    writers = [shared_neighbours(Lake(tables.root), [system]) for system in "bc"]
    torn = Path(tables.path(MESSAGES)) / "_delta_log" / f"{tables.table(MESSAGES).version() + 2:020}.json"

    def lost(*args: Any, **more: Any) -> None:
        write_deltalake(*args, **more)
        torn.write_text("{")
        raise OSError("the answer was lost")

    monkeypatch.setattr("deltalake.write_deltalake", lost)
    failed = commit(tables, writers)
    torn.unlink()
    assert {number: type(error) for number, error in failed.items()} == {0: CommitUnknown, 1: CommitUnknown}
    assert all(outcome_of(error)[0] == "transient" and "the answer was lost" in str(error) for error in failed.values())
    assert sorted(row["system"] for row in Lake(tables.root).rows(MESSAGES)) == ["a", "a", "b", "b", "c", "c"]
