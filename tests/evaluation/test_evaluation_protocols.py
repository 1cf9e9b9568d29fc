"""Splits, what a mode sees of them, and the analyst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_help import read, sessions, write_system
from nightlog.errors import GateFailed
from nightlog.evaluation.corpus import Corpus
from nightlog.evaluation.protocols import Analyst, split


@pytest.fixture
def corpus(folder: Path) -> Corpus:
    return read(folder, "hdfs_blocks")


def test_deployment_takes_all_sessions_in_two_halves_whatever_the_seed(corpus: Corpus) -> None:
    first, second = split(corpus, "deployment", 0), split(corpus, "deployment", 7)
    assert np.array_equal(first.test, second.test)
    assert sorted([*first.adaptation, *first.test]) == list(range(len(corpus.session_ids)))
    assert 0.4 < len(first.test) / len(corpus.session_ids) < 0.6


def test_a_session_stays_in_its_half_when_others_come_or_go(corpus: Corpus, tmp_path: Path) -> None:
    write_system(tmp_path, "hdfs_blocks", sessions("hdfs_blocks")[50:])
    fewer = read(tmp_path, "hdfs_blocks")
    halves = [{found.session_ids[s] for s in split(found, "deployment", 0).test} for found in (corpus, fewer)]
    assert halves[1] == halves[0] & set(fewer.session_ids)


def test_the_paper_protocol_balances_the_classes_by_the_seed(corpus: Corpus) -> None:
    parts = [split(corpus, "paper", seed) for seed in (0, 0, 1)]
    for part in parts:
        chosen = np.concatenate([part.adaptation, part.test])
        assert len(set(chosen)) == len(chosen)
        assert corpus.anomalous[chosen].sum() * 2 == len(chosen) == 2 * corpus.anomalous.sum()
    assert np.array_equal(parts[0].test, parts[1].test) and not np.array_equal(parts[0].test, parts[2].test)


def test_patterns_and_truth_of_a_part_count_its_sessions(corpus: Corpus) -> None:
    whole = split(corpus, "deployment", 0)
    patterns = whole.patterns(whole.test)
    anomalous, normal = whole.truth(corpus.pattern, whole.test)
    assert np.array_equal(anomalous + normal, patterns.sessions) and patterns.sessions.min() > 0
    assert anomalous.sum() == corpus.anomalous[whole.test].sum()
    assert patterns.texts == corpus.patterns.texts and patterns.ids == tuple(sorted(patterns.ids))


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    write_system(tmp_path, "hdfs_blocks", [{"session_id": "only", "label": 1, "events": [1]}])
    with pytest.raises(GateFailed, match="cannot be split"):
        split(read(tmp_path, "hdfs_blocks"), "deployment", 0)


def test_the_analyst_answers_for_the_majority_and_no_more_than_agreed(tmp_path: Path) -> None:
    rows = [{"session_id": f"{n}", "label": int(n < 3), "events": [0]} for n in range(8)]
    rows += [{"session_id": f"x{n}", "label": int(n < 5), "events": [3]} for n in range(8)]
    write_system(tmp_path, "hdfs_blocks", rows)
    corpus = read(tmp_path, "hdfs_blocks")
    target = split(corpus, "deployment", 0)
    question = {
        corpus.patterns.texts[events[0][0]]: name for name, events in zip(corpus.patterns.questions, corpus.patterns.events, strict=True)
    }
    written, error = question["block <*> is written"], question["write error on <*>"]
    ask = Analyst(target, 3)
    assert (ask([written]), ask([error]), ask([written, error, error])) == (False, True, False)  # 3 of 8, 5 of 8, 8 of 16
    with pytest.raises(GateFailed, match="more answers"):
        ask([written])
    with pytest.raises(GateFailed, match="does not have"):
        Analyst(target, 1)(["nonsense"])
