"""What a run leaves behind: records, tables and a page that loads nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bench_help import KeywordJudge, encode
from nightlog.evaluation.bench import write_results
from nightlog.evaluation.markdown import results_markdown
from nightlog.evaluation.matrix import Matrix, Result, plan
from nightlog.evaluation.modes import llm_only
from nightlog.evaluation.page import results_page
from nightlog.evaluation.summary import Stat, line, overview
from tags import Tags

TARGETS = ["hdfs_blocks", "bgl_nodes", "openstack_vms"]


@pytest.fixture(scope="module")
def results(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    matrix = Matrix(folder, tmp_path_factory.mktemp("out"), encode, KeywordJudge(), modes={"llm_only": llm_only, "small_model": llm_only})
    return list(matrix.run(plan(TARGETS, ["llm_only", "small_model"], 2, ["deployment", "paper"])))


def test_the_page_is_whole_and_loads_nothing(results: list[Result]) -> None:
    page = results_page(results)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script", page)
    tags = Tags(page)
    assert not tags.open
    assert not {"src", "href"} & {name for _, attributes in tags.seen for name in attributes}
    assert "prefers-color-scheme: dark" in page
    for words in ("Precision and recall", "Reliability", "Questions to the LLM", "F1 of unseen patterns", "Paper protocol", *TARGETS):
        assert words in page
    charts = [attributes["aria-label"] for tag, attributes in tags.seen if tag == "svg"]
    assert len(charts) == 2 * 5 * len(TARGETS)
    assert sum(tag == "polyline" for tag, _ in tags.seen) > 0
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+", "", page.lower())


def test_tables_hold_every_mode_and_baseline(results: list[Result]) -> None:
    text = results_markdown(results)
    for words in (
        "## F1, deployment protocol",
        "## F1, paper protocol",
        "balanced on the target by its labels",
        "| llm_only |",
        "never occurred",
    ):
        assert words in text
    for name in ("baseline:count_vector_nn", "small_model+shuffled", "worst of 3", "Leakage audit", "cannot be called free of that memory"):
        assert name in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert all(width > 3 for width in widths)


def test_the_mean_needs_all_main_targets(results: list[Result]) -> None:
    records = [
        record for result in results for record in result.records if record["protocol"] == "deployment" and record["sessions"] == "all"
    ]
    found = line(records, "small_model")
    scores = [record["f1"] for record in records if record["mode"] == "small_model"]
    assert found.mean == pytest.approx(sum(scores) / len(scores)) and found.worst == min(scores)
    assert found.by_target["bgl_nodes"].n == 2 and line(records, "llm_only").by_target["bgl_nodes"].n == 1
    fewer = [record for record in records if record["target"] != "bgl_nodes"]
    assert line(fewer, "small_model").mean is None
    assert Stat.of([0.5, None, 1.0]) == Stat(0.75, pytest.approx(0.3535, abs=1e-3), 2) and Stat.of([None]) is None
    assert {row["mode"] for row in overview(records)} == {record["mode"] for record in records}


def test_what_is_written_can_be_read_and_is_the_same_again(results: list[Result], tmp_path: Path) -> None:
    write_results(results, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_results(results, tmp_path)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    records = json.loads(first["results.json"])
    assert isinstance(records, list) and len(records) == 2 * len(results)
    assert {row["target"] for row in json.loads(first["audit.json"])} == set(TARGETS)


def test_a_run_of_nothing_is_an_empty_page() -> None:
    assert "<main>" in results_page([]) and "# Benchmark" in results_markdown([])
    assert overview([]) == []
