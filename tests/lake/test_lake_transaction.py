"""Transactions: writes of several systems share one commit per table, with the same rows; their own reads see what waits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from nightlog.errors import CommitUnknown, SchemaMismatch, outcome_of
from nightlog.lake.delta import Write
from nightlog.lake.lake import Lake
from nightlog.lake.parts import schema_of, write_part
from nightlog.lake.tables import MESSAGES, NIGHTS, OUTCOMES, SCORES, TEMPLATES, TableSpec
from nightlog.lake.transaction import Transaction, commit_together
from nightlog.outcomes import Outcome, OutcomeKind, Stage
from nightlog.run.commit_window import CommitWindow
from nightlog.run.night import Night
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
    lake.replace(SCORES, scores(f"{system}-p"), system=system, ds=DS)
    lake.append(MESSAGES, messages(system, 1, 2))
    lake.replace(NIGHTS, [{"ds": DS, "system": system, "outcome": "done"}], ds=DS, system=system)


def transaction_of(lake: Lake, system: str) -> Transaction:
    transaction = Transaction(lake)
    write_all(transaction, system)
    return transaction


def shown(lake: Lake, spec: TableSpec) -> list[str]:
    return sorted(map(str, lake.rows(spec)))


def test_many_systems_share_a_commit_and_leave_what_each_would_have_left_alone(tmp_path: Path, tables: Lake) -> None:
    alone = Lake(tmp_path / "alone")
    for system in "abc":
        write_all(alone, system)
    write_all(tables, "a")
    tables.append(NIGHTS, [{"ds": "2026-03-03", "system": "b", "outcome": "done"}, {"ds": DS, "system": "z", "outcome": "gated"}])
    before = {spec: tables.table(spec).version() for spec in (SCORES, MESSAGES, NIGHTS)}

    assert commit_together(tables, [transaction_of(tables, system) for system in "abc"]) == {}

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


def test_what_waits_is_seen_by_its_transaction_and_by_nobody_else(tables: Lake) -> None:
    tables.append(MESSAGES, messages("a", 1))
    tables.replace(SCORES, scores("old"), system="a", ds=DS)
    waiting = Transaction(tables)
    waiting.append(MESSAGES, messages("a", 2))
    new = write_part(tables.root, SCORES, pa.Table.from_pylist(scores("new"), schema_of(SCORES)), system="a", ds=DS)
    waiting.replace(SCORES, [new], system="a", ds=DS)
    waiting.replace(SCORES, scores("other"), system="a", ds="2026-03-05")
    waiting.replace(NIGHTS, [{"outcome": "done"}], ds=DS, system="a")
    assert sorted(row["message_id"] for row in waiting.rows(MESSAGES, ["message_id"], system="a")) == [1, 2]
    assert waiting.rows(MESSAGES, system="b") == []
    assert waiting.parts(SCORES, system="a", ds=DS) == [new]
    assert sorted(row["pattern_id"] for row in waiting.rows(SCORES, system="a")) == ["new", "other"]
    assert [row["pattern_id"] for row in waiting.rows(SCORES, ds=DS)] == ["new"]
    assert waiting.nights(SCORES, "a") == {DS, "2026-03-05"}
    assert [(row["system"], row["outcome"]) for row in waiting.rows(NIGHTS)] == [("a", "done")]
    for other in (tables, Lake(tables.root), Transaction(tables)):
        assert [row["message_id"] for row in other.rows(MESSAGES)] == [1]
        assert [row["pattern_id"] for row in other.rows(SCORES)] == ["old"]
        assert other.nights(SCORES, "a") == {DS} and other.rows(NIGHTS) == []
    waiting.commit()
    assert sorted(row["pattern_id"] for row in Lake(tables.root).rows(SCORES)) == ["new", "other"]
    assert waiting.pending == [] and waiting.rows(SCORES) == tables.rows(SCORES)


def test_a_slice_that_is_replaced_twice_has_the_rows_of_the_second_write(tables: Lake) -> None:
    waiting = Transaction(tables)
    for outcome in ("done", "failed"):
        waiting.replace(NIGHTS, [{"outcome": outcome}], ds=DS, system="a")
    waiting.commit()
    assert [row["outcome"] for row in tables.rows(NIGHTS)] == ["failed"]


def test_a_merge_finds_what_waits_and_is_seen_before_it_is_committed(tables: Lake) -> None:
    row = {"system": "a", "template_id": "t", "text": "x", "widened": "x", "first_message": "x", "token_count": 1, "ordinal": 0}
    waiting = Transaction(tables)
    waiting.append(TEMPLATES, [row | {"first_ds": DS}])
    waiting.merge(TEMPLATES, [row | {"widened": "<*>", "text": "y", "first_ds": DS}, row | {"template_id": "u"}], update=["widened"])
    expected = {("t", "x", "<*>"), ("u", "x", "x")}
    for _ in range(2):
        assert {(each["template_id"], each["text"], each["widened"]) for each in waiting.rows(TEMPLATES)} == expected
        waiting.commit()
    assert {(each["template_id"], each["text"], each["widened"]) for each in tables.rows(TEMPLATES)} == expected


def test_merges_of_several_systems_share_a_commit(tables: Lake) -> None:
    tables.append(MESSAGES, messages("a", 1))
    writers = []
    for system in "abc":
        writers.append(Transaction(tables))
        writers[-1].merge(MESSAGES, [messages(system, 1)[0] | {"template_id": "new"}])
    version = tables.table(MESSAGES).version()
    assert commit_together(tables, writers) == {}
    assert tables.table(MESSAGES).version() == version + 1
    assert {(row["system"], row["template_id"]) for row in tables.rows(MESSAGES)} == {(system, "new") for system in "abc"}


def test_a_row_with_a_column_that_the_table_does_not_have_is_refused(tables: Lake) -> None:
    with pytest.raises(SchemaMismatch, match=r"gold\.nights has no column outcom; it has ds, system, outcome"):
        tables.append(NIGHTS, [{"ds": DS, "system": "a", "outcom": "done"}])
    with pytest.raises(SchemaMismatch, match="another type"):
        tables.append(NIGHTS, [{"ds": DS, "system": "a", "n_lines": "many"}])
    with pytest.raises(ValueError, match="name the slice"):
        tables.replace(NIGHTS, [])
    stray = write_part(tables.root, SCORES, pa.Table.from_pylist(scores("x"), schema_of(SCORES)), system="b", ds=DS)
    with pytest.raises(SchemaMismatch, match="outside the slice"):
        tables.replace(SCORES, [stray], system="a", ds=DS)
    assert not tables.exists(NIGHTS) and not tables.exists(SCORES)


def test_commits_of_another_writer_are_seen(tables: Lake) -> None:
    tables.append(MESSAGES, messages("a", 1))
    assert len(tables.rows(MESSAGES)) == 1
    Lake(tables.root).append(MESSAGES, messages("a", 2))
    assert len(tables.rows(MESSAGES)) == 2
    tables.append(MESSAGES, messages("a", 3))
    assert len(Lake(tables.root).rows(MESSAGES)) == 3


def test_writes_that_cannot_be_committed_are_the_outcome_of_their_system_alone(tables: Lake) -> None:
    night = Night(DS, "run", [], tables, Settings(llm="off"), lambda: datetime(2026, 3, 5, tzinfo=UTC))
    bad = Transaction(tables)
    bad.write(Write(MESSAGES, pa.table({"nothing": ["known"]})))
    done = {system: Outcome(system, Stage.PARSE, OutcomeKind.DONE, None, {}, 0.1) for system in "abc"}
    waiting = [(done["a"], transaction_of(tables, "a")), (done["b"], bad), (done["c"], transaction_of(tables, "c"))]

    with CommitWindow(tables, night.progress) as window:
        for outcome, transaction in waiting:
            window.add(outcome, transaction)
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

    assert commit_together(tables, [transaction_of(tables, system) for system in systems]) == {}

    assert caplog.text.count("reported as failed, but the commit is in the table's log") == 3
    wanted = ["a", *systems]
    assert sorted(row["system"] for row in tables.rows(MESSAGES)) == sorted(wanted * 2)
    assert sorted(row["pattern_id"] for row in tables.rows(SCORES)) == [f"{system}-p" for system in wanted]
    assert sorted(row["system"] for row in tables.rows(NIGHTS)) == wanted
    assert {spec: tables.table(spec).version() - version for spec, version in before.items()} == dict.fromkeys(before, 1)


def test_where_nobody_knows_whether_a_commit_was_made_it_is_not_made_again(tables: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(tables, "a")
    writers = [transaction_of(Lake(tables.root), system) for system in "bc"]
    torn = Path(tables.path(MESSAGES)) / "_delta_log" / f"{tables.table(MESSAGES).version() + 2:020}.json"

    def lost(*args: Any, **more: Any) -> None:
        write_deltalake(*args, **more)
        torn.write_text("{")
        raise OSError("the answer was lost")

    monkeypatch.setattr("deltalake.write_deltalake", lost)
    failed = commit_together(tables, writers)
    torn.unlink()
    assert {number: type(error) for number, error in failed.items()} == {0: CommitUnknown, 1: CommitUnknown}
    assert all(outcome_of(error)[0] == "transient" and "the answer was lost" in str(error) for error in failed.values())
    assert sorted(row["system"] for row in Lake(tables.root).rows(MESSAGES)) == ["a", "a", "b", "b", "c", "c"]
