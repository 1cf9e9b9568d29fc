"""Reading the labelled systems: what a pattern is, what order cannot change, and files that are not what they claim to be."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
from bench_help import TEMPLATES, Row, read, sessions, write_all, write_system
from nightlog.detector.patterns import template_set_id
from nightlog.errors import ConfigError, FormatError
from nightlog.evaluation.corpus import BENCHMARKS, Corpus, sessions_folder, sources_of

FEW: list[Row] = [
    {"session_id": "c", "label": 0, "events": [0, 1, 0, 0]},
    {"session_id": "a", "label": 1, "events": [1, 0, 0]},
    {"session_id": "b", "label": 0, "events": [0, 0, 0, 1]},
    {"session_id": "d", "label": 1, "events": [3] * 7},
]


def test_patterns_are_multisets_with_counts_in_powers_of_two(tmp_path: Path) -> None:
    write_system(tmp_path, "hdfs_blocks", FEW)
    corpus = read(tmp_path, "hdfs_blocks")
    assert corpus.session_ids == ("a", "b", "c", "d")
    assert corpus.anomalous.tolist() == [True, False, False, True]
    by_text = [{(corpus.patterns.texts[row], count) for row, count in corpus.patterns.events[number]} for number in corpus.pattern.tolist()]
    written, used, bad = (TEMPLATES["hdfs"][number] for number in (0, 1, 3))
    assert by_text == [{(written, 2), (used, 1)}] * 3 + [{(bad, 4)}]
    assert len(corpus.patterns.texts) == 3  # templates that no session has are not the system's
    assert sorted(corpus.counts[corpus.vector].sum(axis=1).tolist()) == [3, 4, 4, 7]
    source = corpus.source()
    shares = dict(zip(source.events, source.anomalous.round(3).tolist(), strict=True))
    assert sorted(shares.values()) == [0.333, 1.0]
    assert sorted(source.sessions.tolist()) == [1, 3]


def test_a_question_is_a_pattern_where_counts_tell_something_else_a_set_of_templates(tmp_path: Path) -> None:
    for name in ("hdfs_blocks", "bgl_nodes"):
        rows = [{"session_id": str(n), "label": 0, "events": [0] * n + [1]} for n in (1, 2, 4, 8)]
        write_system(tmp_path, name, rows)
    counted, uncounted = read(tmp_path, "hdfs_blocks").patterns, read(tmp_path, "bgl_nodes").patterns
    assert counted.counted and counted.questions == counted.ids and len(set(counted.ids)) == 4
    assert not uncounted.counted and len(uncounted.ids) == 4
    assert set(uncounted.questions) == {template_set_id(uncounted.texts)}


def same(one: Corpus, other: Corpus) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("anomalous", "vector", "counts", "pattern_of"))
    fields = ("texts", "ids", "events", "questions")
    patterns = all(getattr(one.patterns, name) == getattr(other.patterns, name) for name in fields)
    numbers = all(np.array_equal(getattr(one.patterns, name), getattr(other.patterns, name)) for name in ("vectors", "sessions"))
    return arrays and patterns and numbers and one.session_ids == other.session_ids


def test_order_and_event_ids_have_no_influence(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "other"
    first.mkdir()
    second.mkdir()
    rows = sessions("hdfs_blocks")
    write_system(first, "hdfs_blocks", rows)
    number = random.Random(1)
    renamed = dict(zip(range(5), number.sample(range(100, 200), 5), strict=True))
    moved = [row | {"events": number.sample([renamed[e] for e in row["events"]], len(row["events"]))} for row in rows]
    templates = [(renamed[event], text) for event, text in enumerate(TEMPLATES["hdfs"])]
    write_system(second, "hdfs_blocks", number.sample(moved, len(moved)), number.sample(templates, len(templates)))
    assert same(read(first, "hdfs_blocks"), read(second, "hdfs_blocks"))
    write_system(second, "hdfs_blocks", moved[1:], templates)
    assert not same(read(first, "hdfs_blocks"), read(second, "hdfs_blocks"))


def test_two_ids_of_one_text_are_one_template(tmp_path: Path) -> None:
    rows = [{"session_id": "a", "label": 0, "events": [1, 2]}, {"session_id": "b", "label": 0, "events": [1, 1]}]
    write_system(tmp_path, "hdfs_blocks", rows, [(1, "block read"), (2, "block read")])
    corpus = read(tmp_path, "hdfs_blocks")
    assert corpus.patterns.texts == ("block read",)
    assert corpus.counts.tolist() == [[2]] and corpus.patterns.sessions.tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no session in it"),
        ([FEW[0], FEW[0]], "session c occurs twice"),
        ([FEW[0], {"session_id": "x", "label": 0, "events": []}], r"jsonl\.gz:2: .*no events"),
        ([{"session_id": "x", "label": 0, "events": [77]}], r"jsonl\.gz:1: .*\[77\]"),
        ([{"session_id": "x", "label": "Normal", "events": [1]}], "neither 0 nor 1"),
        ([{"label": 0, "events": [1]}], "session_id"),
    ],
)
def test_a_file_that_is_no_set_of_sessions_is_named_with_its_line(tmp_path: Path, rows: list[Row], message: str) -> None:
    write_system(tmp_path, "hdfs_blocks", rows)
    with pytest.raises(FormatError, match=message):
        read(tmp_path, "hdfs_blocks")


def test_a_broken_archive_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hdfs_templates\.csv: no such file"):
        read(tmp_path, "hdfs_blocks")
    write_system(tmp_path, "hdfs_blocks", FEW)
    (tmp_path / "hdfs_blocks.sessions.jsonl.gz").write_bytes(b"no archive")
    with pytest.raises(FormatError, match="not a gzip file"):
        read(tmp_path, "hdfs_blocks")
    (tmp_path / "hdfs_blocks.sessions.jsonl.gz").unlink()
    with pytest.raises(ConfigError, match="no such file"):
        read(tmp_path, "hdfs_blocks")


def test_sessions_are_looked_for_in_and_beside_the_folder_of_logs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NIGHTLOG_DATA"):
        sessions_folder(tmp_path / "raw")
    found = write_all(tmp_path / "sessions")
    assert sessions_folder(tmp_path) == sessions_folder(tmp_path / "raw") == found


def test_no_target_has_a_source_of_its_own_lines() -> None:
    for target, bench in BENCHMARKS.items():
        assert len(sources_of(target)) == 2
        assert bench.family not in {BENCHMARKS[source].family for source in sources_of(target)}


def test_what_a_mode_may_see_has_no_labels(tmp_path: Path) -> None:
    corpus = read(write_all(tmp_path), "bgl_hours")
    assert not any("anomal" in field.name or "label" in field.name for field in dataclasses.fields(corpus.patterns))
    assert (corpus.bench.spec().name, corpus.bench.spec().role, corpus.bench.spec().session.kind) == ("bgl_hours", "target", "window")
