"""Planted leaks stop the run; shuffled labels teach nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_help import encode, made_up, read
from nightlog.detector.patterns import Source
from nightlog.errors import GateFailed
from nightlog.evaluation.audit import audit, shuffled
from nightlog.evaluation.case import Analyst, case_of


def test_a_sound_target_passes_and_is_counted(folder: Path) -> None:
    found = audit(read(folder, "hdfs_blocks"), [read(folder, name) for name in ("bgl_nodes", "openstack_vms")])
    assert (found.adaptation_sessions + found.test_sessions, found.source_sessions) == (300, 600)
    assert found.templates_in_sources == found.patterns_in_sources == 0
    assert 0 < found.test_patterns_in_adaptation < found.test_patterns
    assert found.row()["sources"] == "bgl_nodes, openstack_vms"


def test_a_source_cut_from_the_same_lines_stops_the_run(folder: Path) -> None:
    for source in ("bgl_nodes", "bgl_hours"):
        with pytest.raises(GateFailed, match=f"{source} is cut from the same lines"):
            audit(read(folder, "bgl_hours"), [read(folder, source)])


def test_target_sessions_copied_into_a_source_stop_the_run(folder: Path) -> None:
    target = read(folder, "hdfs_blocks")
    with pytest.raises(GateFailed, match="copied into the source other"):
        audit(target, [replace(target, name="other", family="other")])


def test_a_held_out_source_and_an_empty_part_stop_the_run(folder: Path) -> None:
    target, source = read(folder, "hdfs_blocks"), read(folder, "bgl_nodes")
    with pytest.raises(GateFailed, match="held out"):
        audit(target, [replace(source, held_out=True)])
    with pytest.raises(GateFailed, match="no sessions"):
        audit(replace(target, counts=target.counts * np.array([[1], [0]])), [source])


def test_a_case_holds_no_label_of_the_target() -> None:
    system = made_up("one")
    turned = replace(system, counts=system.counts[:, :, ::-1])
    one, other = (case_of(each, [], encode, 0) for each in (system, turned))
    for part in ("adaptation", "test"):
        assert not isinstance(getattr(one, part), Source)
        assert getattr(one, part).ids == getattr(other, part).ids
        assert getattr(one, part).sessions.tolist() == getattr(other, part).sessions.tolist()


def test_the_analyst_answers_for_the_majority_and_at_most_as_often_as_agreed() -> None:
    system = made_up("one")
    questions = system.patterns.column("question_id").to_pylist()
    analyst = Analyst(system, 3)
    bad, good = questions[int(np.argmax(system.share))], questions[int(np.argmin(system.share))]
    assert (analyst([bad]), analyst([good]), analyst([bad, good])) == (True, False, False)
    with pytest.raises(GateFailed, match="more answers"):
        analyst([bad])
    with pytest.raises(GateFailed, match="does not have"):
        Analyst(system, 1)(["nonsense"])


def test_shuffled_labels_keep_their_number_and_lose_their_place(folder: Path) -> None:
    source = read(folder, "hdfs_blocks").source(encode)
    lied = shuffled(source, 3)
    assert (lied.anomalous * lied.sessions).sum() == pytest.approx((source.anomalous * source.sessions).sum())
    assert lied.ids == source.ids and not np.array_equal(lied.anomalous, source.anomalous)
    assert np.array_equal(lied.anomalous, shuffled(source, 3).anomalous)
    bad = np.array([any("error" in source.texts[row] or "lost" in source.texts[row] for row, _ in events) for events in source.events])

    def share(of: Source, where: np.ndarray) -> float:
        return float(np.average(of.anomalous[where], weights=of.sessions[where]))

    assert share(source, bad) > 0.99
    assert share(lied, bad) == pytest.approx(share(lied, ~bad), abs=0.15)
