from __future__ import annotations

from dataclasses import replace

import numpy as np
from metaproto_help import system, unlabelled
from nightlog.detector.metaproto.drift import NEW, Drift, choose_drift, known_templates, label_by_drift
from nightlog.detector.patterns import Source


def test_source_templates_take_their_label_from_the_sessions_they_are_in() -> None:
    labels, confidence = known_templates(system("a"), Drift())
    assert labels[-2:].tolist() == [1, 1] and labels[0] == 0
    assert (confidence[labels == NEW] == 0).all() and (confidence[labels != NEW] > 0.5).all()


def test_a_system_like_a_source_gets_the_sources_labels() -> None:
    source = system("a")
    found = label_by_drift(unlabelled(system("a", seed=0)), [source], Drift(normal=30.0))
    known = found.patterns != NEW
    assert known.mean() > 0.9
    assert ((found.patterns == 1) == (source.anomalous > 0))[known].all()
    assert (found.confidence[~known] == 0).all() and (found.confidence[known] > 0).all()


def test_both_the_meaning_and_the_wording_have_to_match() -> None:
    source = system("a")
    other_words = replace(unlabelled(source), texts=tuple("entirely different wording" for _ in source.texts))
    other_meaning = replace(unlabelled(source), vectors=np.eye(len(source.texts), source.vectors.shape[1], dtype=np.float32))
    for target in (other_words, other_meaning):
        assert (label_by_drift(target, [source], Drift(cosine=0.95)).templates == NEW).all()


def test_without_sources_or_templates_all_is_new() -> None:
    target = unlabelled(system("a"))
    for found in (label_by_drift(target, [], Drift()), label_by_drift(target.take([]), [system("b", seed=9)], Drift())):
        assert (found.patterns == NEW).all() and not found.confidence.any()


def test_thresholds_that_label_held_out_sources_wrongly_are_not_taken() -> None:
    first = system("a")
    flipped = Source(**(vars(first) | {"name": "b", "anomalous": 1 - first.anomalous}))
    loose, strict = Drift(cosine=0.5, ratio=10, normal=30), Drift(cosine=1.1)
    assert choose_drift([first, flipped], [loose, strict]) == strict
    assert choose_drift([first, replace(first, name="c")], [strict, loose]) == loose
