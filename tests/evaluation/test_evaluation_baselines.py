"""The baselines on sessions that one can judge by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_help import read
from nightlog.evaluation.baselines import BASELINES, View, upper, view
from nightlog.evaluation.corpus import BENCHMARKS
from nightlog.evaluation.protocols import split

TEXTS = ("block is read", "block is written", "write failed", "errors in invalidSet")
#               usual          usual          rare normal    failed, an anomaly
KNOWN = np.array([[2, 1, 0, 0], [1, 1, 0, 0], [40, 40, 0, 0], [2, 1, 1, 0]])
TEST = np.array([[2, 1, 0, 0], [2, 0, 0, 0], [2, 1, 2, 0], [1, 1, 0, 1], [90, 40, 0, 0]])
DATA = View(
    texts=TEXTS,
    known=KNOWN,
    n_known=np.array([500, 480, 2, 18]),
    n_normal=np.array([500, 480, 2, 0]),
    test=TEST,
    anomalous=np.array([0, 0, 9, 1, 0]),
    normal=np.array([900, 50, 0, 0, 1]),
    n_normal_target=1933,
    seed=0,
)


@pytest.mark.parametrize(
    ("name", "flagged"),
    [
        ("always_anomalous", [1, 1, 1, 1, 1]),
        ("severity_keywords", [0, 0, 1, 1, 0]),
        ("unseen_event", [0, 0, 1, 1, 0]),
        ("unseen_event_set", [0, 1, 1, 1, 0]),
        ("sequence_length", [0, 0, 1, 0, 1]),
        ("count_vector_nn", [0, 0, 1, 0, 1]),
    ],
)
def test_flags_by_hand(name: str, flagged: list[int]) -> None:
    assert BASELINES[name].score(DATA)[1].astype(int).tolist() == flagged


@pytest.mark.parametrize("name", ["isolation_forest", "pca"])
def test_what_is_far_from_the_known_is_suspicious(name: str) -> None:
    counts = np.array([[9, 3, 0, 0], [2, 9, 0, 0], [8, 3, 1, 0]])
    test = np.array([[9, 3, 0, 0], [9, 3, 30, 0]])
    data = replace(DATA, known=counts, n_known=np.array([500, 490, 10]), n_normal=np.array([500, 490, 0]), test=test)
    scores, flagged = BASELINES[name].score(data)
    assert scores[0] < scores[1]
    assert flagged.tolist() == [False, True]


def test_at_most_the_assumed_share_lies_above_the_frozen_threshold() -> None:
    scores, sessions = np.array([3.0, 1.0, 2.0, 9.0]), np.array([4, 50, 43, 3])
    assert upper(scores, sessions, 0.05) == 3.0
    assert upper(scores, sessions, 0.5) == 1.0


@pytest.mark.parametrize("name", BASELINES)
def test_labels_of_the_test_part_change_nothing_but_where_it_is_said(name: str) -> None:
    other = replace(DATA, anomalous=DATA.normal, normal=DATA.anomalous)
    (scores, flagged), (same, also) = BASELINES[name].score(DATA), BASELINES[name].score(other)
    assert np.array_equal(scores, same)
    assert np.array_equal(flagged, also) != ("test labels" in BASELINES[name].note)


@pytest.mark.parametrize("name", BASELINES)
def test_labels_of_the_adaptation_part_change_nothing_but_where_it_is_said(name: str) -> None:
    other = replace(DATA, n_normal=np.array([0, 480, 0, 18]))
    same = np.array_equal(BASELINES[name].score(DATA)[0], BASELINES[name].score(other)[0])
    assert same != ("normal" in BASELINES[name].note)


@pytest.mark.parametrize("target", BENCHMARKS)
def test_every_baseline_scores_every_session_of_a_target(folder: Path, target: str) -> None:
    part = split(read(folder, target), "deployment", 0)
    data = view(part, seed=1)
    assert data.n_known.sum() == len(part.adaptation) and (data.anomalous + data.normal).sum() == len(part.test)
    assert (data.n_normal <= data.n_known).all() and data.n_normal.sum() == (~part.corpus.anomalous[part.adaptation]).sum()
    for baseline in BASELINES.values():
        scores, flagged = baseline.score(data)
        assert scores.shape == flagged.shape == (len(data.test),) and np.isfinite(scores).all()
        again = baseline.score(data)
        assert np.array_equal(again[0], scores) and np.array_equal(again[1], flagged)
