"""A whole run: flat records, the page, and the command as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from bench_help import encode, made_up, write_all
from nightlog.errors import ConfigError, GateFailed
from nightlog.evaluation import run
from nightlog.evaluation.case import Case, Judgement, case_of, outcome_of
from nightlog.evaluation.judged import Verdicts
from nightlog.evaluation.labelled import Labelled
from nightlog.evaluation.report import results_markdown, summary
from nightlog.evaluation.run import Evaluation, Options, Record, code_version, merged, mode_names

HEAD = {"target", "family", "mode", "protocol", "seed", "split", "held_out", "scorable", "sessions"}
MEASURES = {"f1", "f1_low", "f1_high", "precision", "recall", "average_precision", "ap_low", "ap_high", "false_alarms_per_1000"}
TAIL = {"code", "n_sessions", "n_anomalous", "n_patterns", "alarms_clean", "llm_items", "answers", "threshold", "seconds", "note"}


def words_of_sources(case: Case) -> Judgement:
    """Learns from the sources which words are bad, and asks the oracle about the largest patterns."""
    rate: dict[str, list[float]] = {}
    for source in case.sources:
        for events, share, n in zip(source.events, source.anomalous, source.sessions, strict=True):
            for word in {source.texts[row].split(" ", 1)[1] for row, _ in events}:
                rate.setdefault(word, []).extend([float(share)] * int(n))
    mean = {word: float(np.mean(shares)) for word, shares in rate.items()}
    probability = np.array([max(mean.get(case.test.texts[row].split(" ", 1)[1], 0) for row, _ in events) for events in case.test.events])
    for i in np.argsort(-case.adaptation.sessions)[: case.answers]:
        assert case.oracle is not None
        case.oracle([case.adaptation.questions[i]])
    return Judgement(probability, probability > 0.2)


def perfect(system: Labelled) -> Verdicts:
    bad = system.share > 0.5
    return Verdicts(np.where(bad, 0.95, 0.05), np.where(bad, 0.95, 0.05), [None] * len(bad), (len(bad), 0))


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Record], Evaluation]:
    monkeypatch.setattr(run, "source_modes", lambda: {"metaproto": words_of_sources})
    systems = [made_up(name, seed) for seed, name in enumerate(("one", "two", "three"))]
    options = Options.of("", "", "both", 2, "0,10", "5", quick=False)
    evaluation = Evaluation(options, systems, systems, perfect, encode)
    return [record for found in evaluation.records() for record in found], evaluation


def test_records_are_flat_and_complete(records: tuple[list[Record], Evaluation]) -> None:
    found, evaluation = records
    assert all(record.keys() == HEAD | MEASURES | TAIL for record in found)
    assert not any(isinstance(value, dict | list) for record in found for value in record.values())
    key = ("target", "mode", "protocol", "seed", "sessions")
    assert len({tuple(record[name] for name in key) for record in found}) == len(found)
    modes = {record["mode"] for record in found if record["protocol"] == "deployment"}
    assert modes >= {"history", "history+10answers", "generallog", "generallog+5questions", "generallog+stop_rule", "generallog+10answers"}
    assert modes >= {"fusionlog", "llm_only", "llm_two_rounds", "metaproto", "metaproto+10answers", "metaproto+shuffled", "baseline:pca"}
    assert modes >= {"ablation:without_tree", "ablation:equal_weights", "ablation:learned_weights", "ablation:form_of_other_families"}
    assert modes >= {"ablation:threshold_of_other_families", "ablation:tonight_in_reference", "cold_start:100sessions"}
    assert set(evaluation.audits) == {"one", "two", "three"}
    json.dumps(found)


def test_measures_are_those_of_the_modes(records: tuple[list[Record], Evaluation]) -> None:
    def one(mode: str, protocol: str = "deployment", seed: int = 0) -> Record:
        return next(
            r
            for r in records[0]
            if (r["mode"], r["protocol"], r["seed"], r["target"], r["sessions"]) == (mode, protocol, seed, "one", "all")
        )

    history, taught = one("history"), one("metaproto")
    assert history["f1"] > 0.9 and history["f1_low"] <= history["f1"] <= history["f1_high"]
    assert history["ap_low"] <= history["average_precision"] <= history["ap_high"] and history["alarms_clean"] == 0
    assert one("generallog")["f1"] == 1.0 and one("generallog")["llm_items"] == 8
    assert one("ablation:without_tree")["f1"] is None and one("ablation:without_tree")["average_precision"] > 0.5
    assert taught["average_precision"] > one("metaproto+shuffled")["average_precision"] + 0.2
    paper = one("history", "paper", 1)
    assert paper["n_anomalous"] / paper["n_sessions"] > 0.4 > history["n_anomalous"] / history["n_sessions"]
    assert {r["seed"] for r in records[0] if r["mode"] == "history" and r["protocol"] == "deployment"} == {0}
    assert {r["seed"] for r in records[0] if r["mode"] == "metaproto"} == {0, 1}


def test_the_page_begins_with_what_a_user_may_expect(records: tuple[list[Record], Evaluation]) -> None:
    evaluation = records[1]
    found = [each | {"scorable": each["target"] != "three", "held_out": each["target"] == "two"} for each in records[0]]
    text = results_markdown(found, [each.row() for each in evaluation.audits.values()])
    first = text.splitlines()[:10]
    assert any(line.startswith("- **Without an LLM") for line in first) and any("With 10 answers" in line for line in first)
    assert any("With an LLM" in line for line in first) and any("three** is left out of all means" in line for line in first)
    for words in ("## Summary", "Choices that were made", "Leakage audit", "Negative control", "Cold start", "Paper protocol"):
        assert words in text
    assert "balanced on the target by its labels" in text and "nan" not in text.lower().split()
    fewer = results_markdown([each for each in found if not each["mode"].startswith("cold_start")], [])
    assert "Left out of this run: `cold_start`." in fewer and "Left out of this run" not in text
    widths = [{line.count("|") for line in block.splitlines()} for block in text.split("\n\n") if block.startswith("| ")]
    assert widths and all(len(each) == 1 for each in widths)
    means = {row["mode"]: row for row in summary(found) if row["protocol"] == "deployment"}
    own = [
        r["f1"] for r in found if (r["mode"], r["protocol"], r["sessions"]) == ("history", "deployment", "all") and r["target"] != "three"
    ]
    assert means["history"]["f1"] == pytest.approx(np.mean(own), abs=1e-4) and means["history"]["systems"] == 2


def test_records_of_other_modes_and_targets_are_kept() -> None:
    def record(target: str, mode: str, f1: float) -> Record:
        return {"target": target, "mode": mode, "protocol": "deployment", "f1": f1}

    earlier = [record("a", "gru", 0.1), record("a", "history", 0.2), record("b", "history", 0.3)]
    assert merged(earlier, [record("a", "history", 0.9)]) == [record("a", "history", 0.9), earlier[0], earlier[2]]
    assert merged([], earlier) == earlier


def test_labels_of_the_target_reach_no_learned_mode() -> None:
    systems = [made_up(name, seed) for seed, name in enumerate(("one", "two"))]
    turned = replace(systems[0], counts=systems[0].counts[:, :, ::-1])
    sources = [systems[1].source(encode)]
    one, other = (outcome_of(words_of_sources, case_of(each, sources, encode, 0), each, "") for each in (systems[0], turned))
    assert one.score.tolist() == other.score.tolist() and one.flagged is not None and other.flagged is not None
    assert one.flagged.tolist() == other.flagged.tolist()


@pytest.mark.parametrize(
    ("score", "flagged"),
    [
        (np.zeros(7), np.zeros(7, dtype=bool)),
        (np.full(8, np.nan), np.zeros(8, dtype=bool)),
        (np.full(8, 1.5), np.zeros(8, dtype=bool)),
        (np.zeros(8), np.zeros(8)),
    ],
)
def test_a_mode_must_return_a_probability_and_a_flag_for_each_pattern(score: np.ndarray, flagged: np.ndarray) -> None:
    system = made_up("one")
    with pytest.raises(GateFailed, match="expected 8 probabilities"):
        outcome_of(lambda case: Judgement(score, flagged), case_of(system, [], encode, 0), system, "")


def test_options_of_the_command_line() -> None:
    options = Options.of("a, b", "history,gru", "both", 3, "20,10,20", "40", quick=False)
    assert (options.targets, options.modes, options.seeds) == (("a", "b"), ("history", "gru"), 3)
    assert (options.protocols, options.answers, options.questions) == (("deployment", "paper"), (0, 10, 20), (40,))
    quick = Options.of("", "", "both", 5, "0", "", quick=True)
    assert (quick.seeds, quick.protocols) == (1, ("deployment",)) and "gru" in quick.left_out
    assert "gru" in Options.of("", "gru", "both", 5, "0", "", quick=True).modes
    assert not Options.of("", "", "deployment", 5, "0", "", quick=False).left_out


@pytest.mark.parametrize(
    ("modes", "protocol", "answers", "message"),
    [("histroy", "both", "0", "did you mean `history`"), ("", "papers", "0", "`papers`"), ("", "both", "0,-1", "--answers")],
)
def test_wrong_options_are_named(modes: str, protocol: str, answers: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options.of("", modes, protocol, 1, answers, "", quick=False)


def imported(source: str) -> Sequence[str]:
    return [line for line in source.splitlines() if "import" in line and "nightlog.evaluation" in line]


def test_only_the_command_line_imports_the_evaluation() -> None:
    package = Path(str(files("nightlog")))
    outside = [path for path in package.rglob("*.py") if "evaluation" not in path.relative_to(package).parts]
    assert len(outside) > 20
    assert [path.name for path in outside if imported(path.read_text(encoding="utf-8"))] == ["evaluate.py"]
    assert {"history", "gru", "metaproto", "baseline", "ablation"} <= set(mode_names())


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_"))}
    program = [sys.executable, "-c", "import sys; from nightlog.cli import main; sys.exit(main())", "evaluate"]
    return subprocess.run([*program, *arguments], capture_output=True, text=True, env=clean | {"COLUMNS": "160"} | environment, check=False)


def test_a_system_needs_its_nights() -> None:
    done = command("--system", "hdfs")
    assert done.returncode == 2 and "--system and --ds together" in " ".join(done.stderr.split())


def test_the_command_writes_records_tables_and_the_audit(tmp_path: Path) -> None:
    write_all(tmp_path / "data" / "sessions")
    where = ("--out", str(tmp_path / "out"), "--data", str(tmp_path / "data" / "raw"))
    done = command("--quick", "--targets", "hdfs_blocks,openstack_vms", "--modes", "history,baseline,llm_only", *where, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "for lack of an LLM's verdicts: the modes with an LLM on hdfs_blocks, openstack_vms" in " ".join(done.stderr.split())
    assert {"history", "history+20answers", "baseline:pca"} <= {row["mode"] for row in json.loads(done.stdout)}
    assert "left out of this run: gru" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "results.md", "audit.json"}
    records = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {record["target"] for record in records} == {"hdfs_blocks", "openstack_vms"}
    assert {row["target"] for row in json.loads((tmp_path / "out" / "audit.json").read_text())} == {"hdfs_blocks", "openstack_vms"}
    # records of other modes stay; on screen is which of them were made by other code
    assert {record["code"] for record in records} == {code_version()} and "of other code" not in done.stderr
    older = [record | {"code": "0.0.9 abc"} if record["mode"] == "history" else record for record in records]
    (tmp_path / "out" / "results.json").write_text(json.dumps(older))
    done = command("--quick", "--targets", "hdfs_blocks", "--modes", "baseline", *where, "--format", "json")
    assert "of other code (0.0.9 abc), kept from an earlier run: history;" in " ".join(done.stderr.split())
