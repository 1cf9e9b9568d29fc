"""Reading the labelled systems: patterns, parts, files of a user's own, and files that are not what they claim to be."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from bench_help import TEMPLATES, Row, encode, made_up, read, sessions, write_all, write_system
from nightlog.errors import ConfigError, FormatError
from nightlog.evaluation.corpus import BENCHMARKS, Places, labelled_systems, sessions_folder
from nightlog.evaluation.labelled import ADAPTATION, TEST, Labelled, labelled_system

FEW: list[Row] = [
    {"session_id": "c", "label": 0, "events": [0, 1, 0, 0]},
    {"session_id": "a", "label": 1, "events": [1, 0, 0]},
    {"session_id": "b", "label": 0, "events": [0, 0, 0, 1]},
    {"session_id": "d", "label": 1, "events": [3] * 7},
]


def patterns(system: Labelled) -> dict[frozenset[tuple[str, int]], list[int]]:
    """Pattern → normal and anomalous sessions."""
    events = [frozenset((e["template_id"], e["count"]) for e in each) for each in system.patterns.column("events").to_pylist()]
    return dict(zip(events, system.counts.sum(axis=1).tolist(), strict=True))


def test_patterns_are_multisets_with_counts_in_powers_of_two(tmp_path: Path) -> None:
    write_system(tmp_path, "hdfs_blocks", FEW)
    written, used, bad = (TEMPLATES["hdfs"][number] for number in (0, 1, 3))
    system = read(tmp_path, "hdfs_blocks")
    assert patterns(system) == {frozenset({(written, 2), (used, 1)}): [2, 1], frozenset({(bad, 4)}): [0, 1]}
    assert set(system.templates.text) == {written, used, bad}  # templates that no session has are not the system's
    source = system.source(encode)
    assert sorted(source.anomalous.round(3).tolist()) == [0.333, 1.0] and sorted(source.sessions.tolist()) == [1, 3]


def test_a_question_is_a_pattern_if_counts_are_used_else_a_set_of_templates(tmp_path: Path) -> None:
    for name in ("hdfs_blocks", "bgl_nodes"):
        rows = [{"session_id": str(n), "label": 0, "events": [0] * n + [1]} for n in (1, 2, 4, 8)]
        write_system(tmp_path, name, rows)
    assert len(read(tmp_path, "hdfs_blocks").patterns) == 4
    assert len(read(tmp_path, "bgl_nodes").patterns) == 1


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
    one, other = read(first, "hdfs_blocks"), read(second, "hdfs_blocks")
    assert one.patterns == other.patterns and np.array_equal(one.counts, other.counts)
    write_system(second, "hdfs_blocks", moved[1:], templates)
    assert read(second, "hdfs_blocks").counts.sum() == one.counts.sum() - 1


def test_a_session_stays_in_its_part_when_others_come_or_go(tmp_path: Path) -> None:
    rows = sessions("hdfs_blocks")
    write_system(tmp_path, "hdfs_blocks", rows)
    whole = read(tmp_path, "hdfs_blocks").counts.sum(axis=(0, 2))
    assert 0.4 < whole[TEST] / whole.sum() < 0.6
    halves = [0, 0]
    for part in (rows[:100], rows[100:]):
        write_system(tmp_path, "hdfs_blocks", part)
        halves = [a + b for a, b in zip(halves, read(tmp_path, "hdfs_blocks").counts.sum(axis=(0, 2)).tolist(), strict=True)]
    assert halves == whole.tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no session in it"),
        ([FEW[0], FEW[0]], "session c occurs twice"),
        ([FEW[0], {"session_id": "x", "label": 0, "events": []}], r"jsonl\.gz:2: .*no events"),
        ([{"session_id": "x", "label": 0, "events": [77]}], r"jsonl\.gz:1: .*\[77\]"),
        ([{"session_id": "x", "label": 0, "events": {"a": 0}}], "whole numbers"),
        ([{"session_id": "x", "label": "Normal", "events": [1]}], "neither 0 nor 1"),
        ([{"label": 0, "events": [1]}], "session_id"),
        ([FEW[0] | {"time": 3}, FEW[1]], "all sessions a `time`"),
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
    with pytest.raises(FormatError, match="not a text file"):
        read(tmp_path, "hdfs_blocks")


def test_sessions_are_in_or_beside_the_folder_of_logs_or_in_the_shared_folder(tmp_path: Path) -> None:
    assert sessions_folder(tmp_path / "raw", None) is None
    found = write_all(tmp_path / "sessions")
    assert sessions_folder(tmp_path, None) == sessions_folder(tmp_path / "raw", None) == found
    elsewhere = write_all(tmp_path / "shared" / "data" / "sessions")
    assert sessions_folder(tmp_path / "a" / "b", tmp_path / "shared") == elsewhere


def test_a_users_file_needs_no_templates_and_is_split_by_time(tmp_path: Path) -> None:
    rows = [{"session_id": f"s{n}", "label": int(n % 5 == 0), "time": f"2026-03-{1 + n:02d}T00:00:00Z"} for n in range(30)]
    rows = [row | {"events": {"started": 1, "failed <*>": 3} if row["label"] else ["started", "ended"]} for row in rows]
    path = tmp_path / "My-Shop.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, reversed(rows))).encode()))
    (system,) = labelled_systems(Places(), (str(path),))
    assert (system.name, system.split, system.spec is not None) == ("my-shop", "time", True)
    assert patterns(system) == {frozenset({("started", 1), ("failed <*>", 2)}): [0, 6], frozenset({("started", 1), ("ended", 1)}): [24, 0]}
    assert system.counts.sum(axis=(0, 2)).tolist() == [20, 10]
    assert system.anomalous.sum() == 2  # of the last ten days the 21st and the 26th


def test_levels_come_from_the_templates_beside_a_users_file(tmp_path: Path) -> None:
    (tmp_path / "mine_templates.csv").write_text("event_id,template,level\n1,it runs,INFO\n2,it broke,ERROR\n")
    rows = [{"session_id": str(n), "label": n % 2, "events": [1 + n % 2]} for n in range(20)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (system,) = labelled_systems(Places(), (str(tmp_path / "mine.jsonl"),))
    assert system.templates.level == {"it runs": "INFO", "it broke": "ERROR"}


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean `dovecot`.*a system with nights in the lake"):
        list(labelled_systems(Places(), ("dovecto",)))


def test_the_recorded_systems_have_levels_and_are_split_by_day() -> None:
    (system,) = labelled_systems(Places(), ("dovecot",))
    assert system.counts.sum() == 4632 and system.split == "time"
    assert {"Info", "Error"} <= set(system.templates.level.values())
    assert 0.2 < system.counts[:, TEST].sum() / system.counts.sum() < 0.5


def test_parts_and_labels_of_a_made_up_system() -> None:
    system = made_up("one")
    assert system.counts.sum() == 3000 and len(system.patterns) == 8
    assert system.reference().n_sessions == system.counts[:, ADAPTATION].sum()
    assert system.clean().anomalous.sum() == 0
    short = system.shortened(100)
    assert short.counts[:, ADAPTATION].sum() == 100 and short.normal.tolist() == system.normal.tolist()
    assert system.shortened(10**6).counts.tolist() == system.counts.tolist()


def test_balanced_classes_have_as_many_normal_as_anomalous_sessions() -> None:
    system = made_up("one")
    normal, anomalous = system.balanced(0).counts.sum(axis=(0, 1))
    assert normal == anomalous == system.counts[:, :, 1].sum()
    assert system.balanced(0).counts.tolist() == system.balanced(0).counts.tolist() != system.balanced(1).counts.tolist()


def test_a_system_whose_patterns_say_nothing_is_not_scorable() -> None:
    random = np.random.default_rng(0)
    pattern, label = random.choice(2, 900), random.random(900) < 0.03
    hopeless = labelled_system("h", [[("a", 1)], [("b", 1)]], pattern, random.random(900) < 0.5, label)
    assert not hopeless.is_scorable and made_up("one").is_scorable


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "n_sessions", "n_anomalous", "n_patterns"),
    [
        ("hdfs_blocks", 575_059, 16_838, 404),
        ("bgl_nodes", 68_134, 4_677, 450),
        ("openstack_vms", 5_596, 651, 126),
        ("bgl_hours", 981, 170, 486),
    ],
)
def test_the_public_sets_have_their_known_size(shared: Path, name: str, n_sessions: int, n_anomalous: int, n_patterns: int) -> None:
    system = read(shared / "data" / "sessions", name)
    assert (system.counts.sum(), system.counts[:, :, 1].sum(), len(system.patterns)) == (n_sessions, n_anomalous, n_patterns)
    assert system.family == BENCHMARKS[name].family
