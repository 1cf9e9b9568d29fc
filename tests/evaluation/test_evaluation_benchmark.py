"""The benchmark on the labelled systems: their known figures, and the command as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from bench_help import write_all
from nightlog.errors import ConfigError
from nightlog.evaluation.baselines import BASELINES, view
from nightlog.evaluation.bench import Wanted, run_benchmark
from nightlog.evaluation.case import Case
from nightlog.evaluation.corpus import BENCHMARKS, MAIN, Corpus, read_corpus, sessions_folder
from nightlog.evaluation.metrics import Scored, measure
from nightlog.evaluation.modes import MODES, llm_only
from nightlog.evaluation.protocols import split
from nightlog.llm.judge import make_judge
from nightlog.settings import Settings

PROGRAM = Path(sys.executable).with_name("nightlog")
READ: dict[str, Corpus] = {}


def blank(texts: Sequence[str]) -> np.ndarray:
    return np.zeros((len(texts), 1), dtype=np.float32)


def real(shared: Path, name: str) -> Corpus:
    if name not in READ:
        READ[name] = read_corpus(sessions_folder(shared / "data" / "raw"), BENCHMARKS[name], blank)
    return READ[name]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "n_sessions", "n_anomalous", "n_patterns", "n_questions"),
    [
        ("hdfs_blocks", 575_059, 16_838, 404, 404),
        ("bgl_nodes", 68_134, 4_677, 1_573, 450),
        ("openstack_vms", 5_596, 651, 126, 126),
        ("bgl_hours", 981, 170, 790, 486),
    ],
)
def test_the_labelled_systems_have_their_known_size(
    shared: Path, name: str, n_sessions: int, n_anomalous: int, n_patterns: int, n_questions: int
) -> None:
    corpus = real(shared, name)
    assert (len(corpus.session_ids), int(corpus.anomalous.sum())) == (n_sessions, n_anomalous)
    assert (len(corpus.patterns.ids), len(set(corpus.patterns.questions))) == (n_patterns, n_questions)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "baseline", "recall", "false_alarms"),
    [
        ("hdfs_blocks", "unseen_event", 0.036, 0.0),
        ("hdfs_blocks", "unseen_event_set", 0.698, 0.0),
        ("bgl_nodes", "unseen_event", 1.0, 0.0),
        ("bgl_hours", "unseen_event", 0.994, 0.02),
        ("openstack_vms", "unseen_event", 0.988, 0.0),
    ],
)
def test_baselines_come_near_to_what_is_known_of_them(shared: Path, name: str, baseline: str, recall: float, false_alarms: float) -> None:
    data = view(split(real(shared, name), "deployment", 0), 0)
    scores, flagged = BASELINES[baseline].score(data)
    assert measure(Scored(scores, flagged, data.anomalous, data.normal))["recall"] == pytest.approx(recall, abs=0.05)
    assert data.normal[flagged].sum() / data.normal.sum() == pytest.approx(false_alarms, abs=0.01)


@pytest.mark.shared
def test_nearest_neighbour_comes_near_to_the_published_figure(shared: Path) -> None:
    data = view(split(real(shared, "hdfs_blocks"), "deployment", 0), 0)
    scores, flagged = BASELINES["count_vector_nn"].score(data)
    assert measure(Scored(scores, flagged, data.anomalous, data.normal))["f1"] == pytest.approx(0.971, abs=0.02)


@pytest.fixture(scope="module")
def server(shared: Path) -> Iterator[str]:
    program = [sys.executable, str(shared / "llm" / "serve.py"), "--port", "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.mark.shared
@pytest.mark.parametrize(("name", "f1"), [("hdfs_blocks", 0.9045), ("bgl_nodes", 0.8615), ("openstack_vms", 0.9977)])
def test_the_llm_alone_scores_what_its_verdicts_are_worth(
    shared: Path, server: str, monkeypatch: pytest.MonkeyPatch, name: str, f1: float
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    monkeypatch.setenv("OPENAI_API_KEY", "recorded")
    corpus = real(shared, name)
    target = split(corpus, "deployment", 0)
    everything = np.concatenate([target.adaptation, target.test])
    judge = make_judge(Settings())
    said = llm_only(Case(name, 0, corpus.bench.spec(), (), target.patterns(target.adaptation), target.patterns(everything), judge))
    found = measure(Scored(said.probability, said.flagged, *target.truth(corpus.pattern, everything)))
    assert found["f1"] == pytest.approx(f1, abs=0.0005)


def test_words_of_the_command_line() -> None:
    wanted = Wanted.of("hdfs_blocks, bgl_hours", "llm_only", "both", 3, "5,1,5", quick=False)
    assert wanted == Wanted(("hdfs_blocks", "bgl_hours"), ("llm_only",), ("deployment", "paper"), 3, (0, 1, 5))
    everything = Wanted.of("", "", "deployment", 5, "0", quick=False)
    assert (everything.targets, everything.modes, everything.answers) == (tuple(BENCHMARKS), tuple(MODES), (0,))
    quick = Wanted.of("", "", "both", 5, "0", quick=True)
    assert (quick.targets, quick.protocols, quick.seeds) == (MAIN, ("deployment",), 1)
    assert Wanted.of("bgl_hours", "", "both", 5, "0", quick=True).targets == ("bgl_hours",)


@pytest.mark.parametrize(("modes", "protocol", "answers"), [("llm", "both", "0"), ("", "papers", "0"), ("", "both", "0,-1")])
def test_wrong_words_are_named(modes: str, protocol: str, answers: str) -> None:
    with pytest.raises(ConfigError, match=f"`{modes or protocol}`" if (modes or protocol) != "both" else answers):
        Wanted.of("", modes, protocol, 1, answers, quick=False)


def test_nothing_is_left_of_a_run_without_data(tmp_path: Path) -> None:
    cells = Wanted(("hdfs_blocks",), ("llm_only",)).cells()
    with pytest.raises(ConfigError, match="sessions"):
        list(run_benchmark(Settings(data=tmp_path / "raw", llm="off"), cells, tmp_path / "out", blank))
    assert not (tmp_path / "out").exists()


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_"))}
    full = [str(PROGRAM), "evaluate", *arguments]
    return subprocess.run(full, capture_output=True, text=True, env=clean | {"COLUMNS": "160"} | environment, check=False)


def test_a_system_needs_its_nights() -> None:
    done = command("--system", "hdfs")
    assert done.returncode == 30 and "--system and --ds together" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_the_command_leaves_records_tables_and_a_page(tmp_path: Path) -> None:
    write_all(tmp_path / "data" / "sessions")
    where = ("--out", str(tmp_path / "out"), "--data", str(tmp_path / "data" / "raw"))
    done = command("--targets", "hdfs_blocks", "--modes", "llm_only", "--seeds", "2", *where, "--format", "json", NIGHTLOG_LLM="off")
    assert done.returncode == 0, done.stderr
    assert {row["mode"] for row in json.loads(done.stdout)} == {"llm_only", *(f"baseline:{name}" for name in BASELINES)}
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"results.json", "results.md", "index.html", "audit.json", "cells.jsonl"}
    first = (tmp_path / "out" / "results.json").read_text()
    again = command("--targets", "hdfs_blocks", "--modes", "llm_only", "--seeds", "2", *where, NIGHTLOG_LLM="off")
    assert again.returncode == 0 and "deployment protocol" in again.stdout and (tmp_path / "out" / "results.json").read_text() == first
