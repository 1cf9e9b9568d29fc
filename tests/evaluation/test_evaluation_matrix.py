"""The runner: what is run how often, what a rerun repeats, what a mode may and may not do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from bench_help import KeywordJudge, encode, sessions, write_system
from nightlog.errors import ConfigError, GateFailed
from nightlog.evaluation.case import Case, Judgement, Mode
from nightlog.evaluation.matrix import BASELINE, JOURNAL, Cell, Matrix, Result, plan
from nightlog.evaluation.modes import llm_only
from nightlog.evaluation.remember import RememberingJudge
from nightlog.evaluation.versions import code_version, imported

RUN: list[tuple[str, int]] = []


def familiar(case: Case) -> Judgement:
    """Learns from the sources which words are bad; the seed is noise."""
    RUN.append((case.target, case.seed))
    bad: dict[str, list[float]] = {}
    for source in case.sources:
        for events, share, n in zip(source.events, source.anomalous, source.sessions, strict=True):
            for word in {word for row, _ in events for word in source.texts[row].split()}:
                bad.setdefault(word, []).extend([float(share)] * int(n))
    chance = float(np.mean([share for shares in bad.values() for share in shares]))
    rate = {word: float(np.mean(shares)) for word, shares in bad.items()}
    words = [{word for row, _ in events for word in case.test.texts[row].split()} for events in case.test.events]
    probability = np.array([max(rate.get(word, chance) for word in own) for own in words])
    return Judgement(probability, probability > 2 * chance, asked=0, detail={"seed": float(case.seed)})


def questioner(case: Case) -> Judgement:
    """Asks the analyst about the most frequent patterns, one at a time."""
    probability = np.zeros(len(case.test.ids))
    if case.oracle is not None:
        for i in np.argsort(-case.test.sessions)[: case.answers]:
            probability[i] = float(case.oracle([case.test.questions[i]]))
    return Judgement(probability, probability > 0.5)


MODES: dict[str, Mode] = {"small_model": familiar, "fusionlog": questioner, "llm_only": llm_only}
QUICK = plan(["hdfs_blocks", "bgl_hours"], list(MODES), 2, ["deployment"])


@pytest.fixture
def matrix(folder: Path, tmp_path: Path) -> Callable[..., Matrix]:
    RUN.clear()

    def make(data: Path = folder, modes: dict[str, Mode] = MODES, judge: KeywordJudge | None = None) -> Matrix:
        return Matrix(data, tmp_path / "out", encode, judge, modes=modes)

    return make


def told(results: list[Result]) -> list[object]:
    return [(result.cell, result.records, result.curve, result.detail) for result in results]


def test_the_plan_runs_what_the_seed_cannot_change_once() -> None:
    cells = plan(["hdfs_blocks"], list(MODES), 3, ["deployment", "paper"], [0, 5])
    seeds = {(cell.name, cell.protocol): 0 for cell in cells}
    for cell in cells:
        seeds[cell.name, cell.protocol] += 1
    assert seeds["llm_only", "deployment"] == seeds[BASELINE + "pca", "deployment"] == seeds["small_model+shuffled", "deployment"] == 1
    assert seeds["small_model", "deployment"] == seeds["fusionlog", "deployment"] == seeds["fusionlog+5answers", "deployment"] == 3
    assert seeds[BASELINE + "isolation_forest", "deployment"] == 3
    assert all(n == 3 for (_, protocol), n in seeds.items() if protocol == "paper")
    assert ("small_model+5answers", "deployment") not in seeds and ("small_model+shuffled", "paper") not in seeds
    with pytest.raises(ConfigError, match="did you mean `bgl_hours`"):
        plan(["bgl_hour"], [], 1, ["deployment"])


def test_flat_records_have_what_is_promised(matrix: Callable[..., Matrix]) -> None:
    records = [record for result in matrix(judge=KeywordJudge()).run(QUICK) for record in result.records]
    keys = {"target", "mode", "protocol", "seed", "sessions", "f1", "precision", "recall", "average_precision", "false_alarms_per_1000"}
    keys |= {"n_sessions", "n_anomalous", "llm_items", "f1_low", "f1_high", "answers", "note"}
    assert all(record.keys() == keys for record in records)
    assert not any(isinstance(value, dict | list) for record in records for value in record.values())
    assert {record["sessions"] for record in records} == {"all", "unseen"}
    assert len({tuple(record[name] for name in ("target", "mode", "seed", "sessions")) for record in records}) == len(records)
    for everything, unseen in zip(records[::2], records[1::2], strict=True):
        assert 0 < unseen["n_sessions"] < everything["n_sessions"]
        assert unseen["n_anomalous"] <= everything["n_anomalous"]
    asked = {record["llm_items"] for record in records if record["mode"] == "llm_only"}
    assert all(n > 0 for n in asked)


def test_a_stopped_run_goes_on_where_it_ended(matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    whole = told(list(matrix().run(QUICK)))
    shutil.rmtree(tmp_path / "out")
    n_modes, RUN[:] = len(RUN), []
    started = matrix().run(QUICK)
    stopped_at = next(number for number, cell in enumerate(QUICK) if cell.mode == "small_model") + 1
    for _ in range(stopped_at):
        next(started)
    started.close()
    with (tmp_path / "out" / JOURNAL).open("ab") as journal:
        journal.write(b'\n{"key": "cut o')
    assert len(RUN) == 1
    assert told(list(matrix().run(QUICK))) == whole
    assert len(RUN) == n_modes
    assert told(list(matrix().run(QUICK))) == whole
    assert len(RUN) == n_modes


def test_other_data_is_run_again(matrix: Callable[..., Matrix], folder: Path, tmp_path: Path) -> None:
    cells = [Cell("hdfs_blocks", "small_model", "deployment", 0)]
    list(matrix().run(cells))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    write_system(other, "bgl_nodes", sessions("bgl_nodes")[:200])
    list(matrix(other).run(cells))
    assert len(RUN) == 2


def test_the_order_of_the_files_changes_no_score(matrix: Callable[..., Matrix], folder: Path, tmp_path: Path) -> None:
    cells = [cell for cell in QUICK if cell.target == "hdfs_blocks"]
    first = told(list(matrix().run(cells)))
    turned = tmp_path / "turned"
    shutil.copytree(folder, turned)
    for name in ("hdfs_blocks", "bgl_nodes", "openstack_vms"):
        write_system(turned, name, [row | {"events": row["events"][::-1]} for row in sessions(name)[::-1]])
    shutil.rmtree(tmp_path / "out")
    assert told(list(matrix(turned).run(cells))) == first


def test_lies_of_the_sources_leave_nothing(matrix: Callable[..., Matrix]) -> None:
    honest, control = matrix().run([Cell("hdfs_blocks", "small_model", "deployment", 0, control=c) for c in (False, True)])
    chance = honest.records[0]["n_anomalous"] / honest.records[0]["n_sessions"]
    assert honest.records[0]["average_precision"] > 0.8
    assert control.records[0]["average_precision"] < 2 * chance
    assert control.records[0]["mode"] == "small_model+shuffled" and "shuffled" in control.records[0]["note"]


def test_labels_of_the_target_reach_no_mode(matrix: Callable[..., Matrix], folder: Path, tmp_path: Path) -> None:
    cells = [Cell("hdfs_blocks", mode, "deployment", 0) for mode in ("small_model", "llm_only")]
    honest = list(matrix(judge=KeywordJudge()).run(cells))
    turned = tmp_path / "turned"
    shutil.copytree(folder, turned)
    write_system(turned, "hdfs_blocks", [row | {"label": 1 - row["label"]} for row in sessions("hdfs_blocks")])
    other = list(matrix(turned, judge=KeywordJudge()).run(cells))
    for one, two in zip(honest, other, strict=True):
        assert [(p, a, n) for p, a, n in one.curve] == [(p, n, a) for p, a, n in two.curve]
        assert one.records[0]["f1"] != two.records[0]["f1"]


def test_only_the_command_line_knows_the_room_of_labels() -> None:
    package = Path(str(files("nightlog")))
    outside = [path for path in package.rglob("*.py") if "evaluation" not in path.relative_to(package).parts]
    assert len(outside) > 20
    assert [path.name for path in outside if any(".evaluation" in name for name in imported(path.read_bytes()))] == ["models.py"]


def test_a_change_of_what_a_mode_imports_is_another_version() -> None:
    own = code_version("nightlog.evaluation.metrics")
    assert own == code_version("nightlog.evaluation.metrics") != code_version("nightlog.evaluation.curves")
    assert code_version("nightlog.evaluation.metrics", "json", "nightlog.lake.lake") == own


def test_answers_are_given_as_agreed_and_reported_apart(matrix: Callable[..., Matrix]) -> None:
    cells = plan(["bgl_nodes"], ["fusionlog"], 1, ["deployment"], [0, 40])
    results = {result.cell.name: result.records[0] for result in matrix().run(cells)}
    assert (results["fusionlog"]["answers"], results["fusionlog+40answers"]["answers"]) == (0, 40)
    assert results["fusionlog"]["f1"] == 0 < results["fusionlog+40answers"]["f1"]


def test_a_mode_that_asks_for_more_is_stopped(matrix: Callable[..., Matrix]) -> None:
    def greedy(case: Case) -> Judgement:
        return questioner(replace(case, answers=case.answers + 1))

    with pytest.raises(GateFailed, match="more answers"):
        list(matrix(modes={"fusionlog": greedy}).run([Cell("bgl_nodes", "fusionlog", "deployment", 0, answers=2)]))


@pytest.mark.parametrize(
    "said",
    [
        lambda n: Judgement(np.zeros(n - 1), np.zeros(n - 1, dtype=bool)),
        lambda n: Judgement(np.full(n, np.nan), np.zeros(n, dtype=bool)),
        lambda n: Judgement(np.full(n, 1.5), np.zeros(n, dtype=bool)),
        lambda n: Judgement(np.zeros(n), np.zeros(n)),
    ],
)
def test_what_is_no_judgement_of_the_test_patterns_is_refused(matrix: Callable[..., Matrix], said: Callable[[int], Judgement]) -> None:
    with pytest.raises(GateFailed, match="expected"):
        list(matrix(modes={"odd": lambda case: said(len(case.test.ids))}).run([Cell("hdfs_blocks", "odd", "deployment", 0)]))


def test_an_unknown_mode_is_named(matrix: Callable[..., Matrix]) -> None:
    with pytest.raises(ConfigError, match="did you mean `fusionlog`"):
        list(matrix().run([Cell("hdfs_blocks", "fusonlog", "deployment", 0)]))


def test_no_question_is_asked_twice_and_its_cost_is_told_each_time(folder: Path, tmp_path: Path) -> None:
    judge = KeywordJudge()
    for out in ("first", "second"):
        remembering = RememberingJudge(judge, tmp_path / "verdicts.jsonl")
        results = list(Matrix(folder, tmp_path / out, encode, remembering, modes=MODES).run(QUICK))
        asked = [result.records[0]["llm_items"] for result in results if result.cell.mode == "llm_only"]
        assert len(judge.asked) == len(set(judge.asked)) == sum(asked)


def test_the_journal_holds_flat_json(matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    results = list(matrix(judge=KeywordJudge()).run(QUICK))
    rows = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines() if line]
    assert len(rows) == len(results) == len({row["key"] for row in rows})
    assert told([Result.from_row(row) for row in rows]) == told(results)
