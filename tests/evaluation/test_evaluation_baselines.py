"""The baselines on sessions whose right flags are plain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_help import read
from nightlog.evaluation.baselines import BASELINES, SEEDED, View, baselines, upper
from nightlog.evaluation.corpus import BENCHMARKS, read_public
from nightlog.evaluation.labelled import Labelled
from nightlog.evaluation.metrics import Scored, measure
from nightlog.evaluation.simulate import Subject

TEXTS = ("block is read", "block is written", "write failed", "reset by peer")
COUNTS = np.array(
    [
        [2, 1, 0, 0],  # usual
        [1, 1, 0, 0],  # usual
        [32, 32, 0, 0],  # rare and normal
        [2, 1, 1, 0],  # failed, an anomaly of the adaptation part
        [2, 0, 0, 0],  # only in the test part, from here on
        [2, 1, 2, 0],
        [1, 1, 0, 1],
        [64, 32, 0, 0],
    ],
    dtype=float,
)
DATA = View(
    texts=TEXTS,
    levels=("INFO", "INFO", "ERROR", "INFO"),
    counts=COUNTS,
    n_known=np.array([500, 480, 2, 18, 0, 0, 0, 0]),
    n_normal=np.array([500, 480, 2, 0, 0, 0, 0, 0]),
    anomalous=np.array([0, 0, 0, 0, 0, 9, 1, 0]),
    normal=np.array([900, 0, 0, 0, 50, 0, 0, 1]),
)


@pytest.mark.parametrize(
    ("name", "flagged"),
    [
        ("always_anomalous", [1, 1, 1, 1]),
        ("severity_words", [0, 1, 1, 0]),
        ("level_error", [0, 1, 0, 0]),
        ("unseen_event", [0, 1, 1, 0]),
        ("unseen_event_set", [1, 1, 1, 0]),
        ("sequence_length", [0, 1, 0, 1]),
        ("labels_of_patterns", [0, 1, 1, 0]),
    ],
)
def test_flags_of_the_test_part(name: str, flagged: list[int]) -> None:
    assert BASELINES[name][0](DATA)[1][4:].astype(int).tolist() == flagged


@pytest.mark.parametrize("name", ["isolation_forest", "pca"])
def test_a_pattern_far_from_the_known_ones_is_suspicious(name: str) -> None:
    counts = np.array([[8, 3, 0, 0], [2, 8, 0, 0], [8, 3, 1, 0], [8, 3, 32, 0]], dtype=float)
    n_known, none = np.array([500, 490, 10, 0]), np.zeros(4, dtype=int)
    data = replace(DATA, counts=counts, n_known=n_known, n_normal=n_known, anomalous=none, normal=none + 1)
    scores, flagged = BASELINES[name][0](data)
    assert scores[0] < scores[3]
    assert flagged[[0, 3]].tolist() == [False, True]


def test_at_most_the_assumed_share_lies_above_the_frozen_threshold() -> None:
    scores, sessions = np.array([3.0, 1.0, 2.0, 9.0]), np.array([4, 50, 43, 3])
    assert upper(scores, sessions, 0.05) == 3.0
    assert upper(scores, sessions, 0.5) == 1.0


@pytest.mark.parametrize("name", BASELINES)
def test_labels_of_the_test_part_change_flags_only_if_the_note_says_so(name: str) -> None:
    other = replace(DATA, anomalous=DATA.normal, normal=DATA.anomalous)
    score, note = BASELINES[name]
    (_, flagged), (_, also) = score(DATA), score(other)
    assert np.array_equal(flagged, also) != ("test labels" in note)


@pytest.mark.parametrize("name", BASELINES)
def test_labels_of_the_adaptation_part_change_scores_only_if_the_note_says_so(name: str) -> None:
    score, note = BASELINES[name]
    other = replace(DATA, n_normal=np.array([0, 480, 0, 18, 0, 0, 0, 0]))
    assert np.array_equal(score(DATA)[0], score(other)[0]) != ("normal" in note)


@pytest.mark.parametrize("target", BENCHMARKS)
def test_every_baseline_scores_every_pattern_the_same_again(folder: Path, target: str) -> None:
    subject = Subject.of(read(folder, target))
    found = dict(baselines(subject, 0))
    assert set(found) > {f"baseline:{name}" for name in BASELINES} | {"baseline:bern"}
    assert set(dict(baselines(subject, 1))) == {f"baseline:{name}" for name in SEEDED}
    again = dict(baselines(subject, 0))
    for name, outcome in found.items():
        assert outcome.flagged is not None and again[name].flagged is not None
        assert outcome.score.shape == outcome.flagged.shape == (len(subject.system.patterns),) and np.isfinite(outcome.score).all()
        assert np.array_equal(again[name].score, outcome.score) and np.array_equal(again[name].flagged, outcome.flagged)


READ: dict[str, Labelled] = {}


def measured(shared: Path, name: str, baseline: str) -> dict[str, float | int | None]:
    if name not in READ:
        READ[name] = read_public(shared / "data" / "sessions", BENCHMARKS[name])
    system = READ[name]
    score, flagged = BASELINES[baseline][0](View.of(Subject.of(system), 0))
    return measure(Scored(score, flagged, system.anomalous, system.normal))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "baseline", "recall"),
    [
        ("hdfs_blocks", "unseen_event", 0.036),
        ("hdfs_blocks", "unseen_event_set", 0.698),
        ("bgl_nodes", "unseen_event", 1.0),
        ("openstack_vms", "unseen_event", 0.988),
    ],
)
def test_baselines_come_near_to_their_known_recall(shared: Path, name: str, baseline: str, recall: float) -> None:
    assert measured(shared, name, baseline)["recall"] == pytest.approx(recall, abs=0.05)


@pytest.mark.shared
def test_nearest_neighbour_comes_near_to_the_published_figure(shared: Path) -> None:
    assert measured(shared, "hdfs_blocks", "count_vector_nn")["f1"] == pytest.approx(0.971, abs=0.02)
