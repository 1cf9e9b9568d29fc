"""Planted leaks stop the run; shuffled labels teach nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_help import TEMPLATES, read, sessions, write_all, write_system
from nightlog.detector.patterns import Source
from nightlog.errors import GateFailed
from nightlog.evaluation.audit import Audit, audit, shuffled
from nightlog.evaluation.case import Case
from nightlog.evaluation.corpus import Corpus
from nightlog.evaluation.protocols import Split, split


def case_of(target: Split, *sources: Corpus) -> Case:
    return Case(
        target=target.corpus.bench.name,
        seed=0,
        system=target.corpus.bench.spec(),
        sources=tuple(corpus.source() for corpus in sources),
        adaptation=target.patterns(target.adaptation),
        test=target.patterns(target.test),
        judge=None,
    )


def checked(target: Split, *sources: Corpus) -> Audit:
    return audit(case_of(target, *sources), target, sources)


def test_a_sound_case_passes_and_is_counted(folder: Path) -> None:
    target = split(read(folder, "hdfs_blocks"), "deployment", 0)
    found = checked(target, read(folder, "bgl_nodes"), read(folder, "openstack_vms"))
    assert (found.adaptation_sessions + found.test_sessions, found.source_sessions) == (300, 600)
    assert found.templates_in_sources == 0
    assert 0 < found.test_patterns_in_adaptation < found.test_patterns


def test_a_source_cut_from_the_same_lines_stops_the_run(folder: Path) -> None:
    target = split(read(folder, "bgl_hours"), "deployment", 0)
    for source in ("bgl_nodes", "bgl_hours"):
        with pytest.raises(GateFailed, match=f"{source} is cut from the same lines"):
            checked(target, read(folder, source))


def test_target_sessions_copied_into_a_source_stop_the_run(tmp_path: Path) -> None:
    write_all(tmp_path)
    target = read(tmp_path, "hdfs_blocks")
    number = {text: event for event, text in enumerate(["instance <*> boots", *TEMPLATES["hdfs"]])}
    theirs = [(event, text) for text, event in number.items()]
    one = next(row for row in sessions("hdfs_blocks") if len(row["events"]) > 2)
    copied = {"session_id": "renamed", "label": 0, "events": [number[TEMPLATES["hdfs"][event]] for event in one["events"]]}
    plain = [{"session_id": f"{n}", "label": n % 2, "events": [0] * n} for n in range(1, 9)]
    write_system(tmp_path, "openstack_vms", [*plain, copied], theirs)
    with pytest.raises(GateFailed, match="copied into it"):
        checked(split(target, "deployment", 0), read(tmp_path, "openstack_vms"))
    write_system(tmp_path, "openstack_vms", plain, theirs)
    assert checked(split(target, "deployment", 0), read(tmp_path, "openstack_vms")).source_sessions == 8


def test_a_session_in_both_parts_stops_the_run(folder: Path) -> None:
    target = split(read(folder, "hdfs_blocks"), "deployment", 0)
    overlapping = replace(target, adaptation=np.append(target.adaptation, target.test[3]))
    with pytest.raises(GateFailed, match=r"1 sessions, such as hdfs_blocks-\d+, are in the adaptation part and in the test part"):
        checked(overlapping, read(folder, "bgl_nodes"))


def test_labels_in_what_the_mode_sees_stop_the_run(folder: Path) -> None:
    target, source = split(read(folder, "hdfs_blocks"), "deployment", 0), read(folder, "bgl_nodes")
    case = case_of(target, source)
    labelled = Source(**vars(case.test), anomalous=np.zeros(len(case.test.ids)))
    with pytest.raises(GateFailed, match="carries labels"):
        audit(replace(case, test=labelled), target, (source,))
    with pytest.raises(GateFailed, match="sessions"):
        audit(replace(case, test=case.test.take(range(5))), target, (source,))


def test_shuffled_labels_keep_their_number_and_lose_their_place(folder: Path) -> None:
    source = read(folder, "hdfs_blocks").source()
    lied = shuffled(source, 3)
    assert (lied.anomalous * lied.sessions).sum() == pytest.approx((source.anomalous * source.sessions).sum())
    assert lied.ids == source.ids and not np.array_equal(lied.anomalous, source.anomalous)
    assert np.array_equal(lied.anomalous, shuffled(source, 3).anomalous)
    bad = np.array([any("error" in source.texts[row] or "lost" in source.texts[row] for row, _ in events) for events in source.events])

    def share(of: Source, where: np.ndarray) -> float:
        return float(np.average(of.anomalous[where], weights=of.sessions[where]))

    assert share(source, bad) > 0.99
    assert share(lied, bad) == pytest.approx(share(lied, ~bad), abs=0.15)
