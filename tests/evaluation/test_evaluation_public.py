"""Session sets are built from files in the formats of the published distributions."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from nightlog.errors import ConfigError, FormatError
from nightlog.evaluation.corpus import BENCHMARKS, Places, labelled_systems, read_public
from nightlog.evaluation.public import build_sets

HDFS = """\
081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block {block} terminating
081109 203807 222 INFO dfs.DataNode$PacketResponder: PacketResponder 0 for block {block} terminating
08111{day} 204005 35 INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blockMap updated: 10.0.0.2:50010 is added to {block} size 99
"""
BAD = "08111{day} 204105 35 WARN dfs.FSDataset: Unexpected error trying to delete block {block}. BlockInfo not found in volumeMap.\n"
BGL = "{tag} {epoch} 2005.06.03 {node} 2005-06-03-15.42.50.363779 {node} RAS KERNEL {level} {message}\n"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "loghub"
    (folder / "preprocessed").mkdir(parents=True)
    blocks = [f"blk_-16089996879198624{number:02d}" for number in range(30)]
    bad = set(blocks[::6])
    log = "".join(HDFS.format(block=each, day=number % 2) for number, each in enumerate(blocks))
    log += "".join(BAD.format(block=each, day=number % 2) * 3 for number, each in enumerate(blocks) if each in bad)
    (folder / "HDFS.log").write_text(log)
    rows = [f"{each},{'Anomaly' if each in bad else 'Normal'}" for each in blocks]
    (folder / "preprocessed" / "anomaly_label.csv").write_text("\n".join(["BlockId,Label", *rows]) + "\n")
    lines = []
    for day in range(3):
        for node in range(6):
            at = 1117838570 + 86_400 * day
            fields = {"tag": "-", "epoch": at, "node": f"R02-M1-N0-C:J{node:02d}-U11", "level": "INFO"}
            lines += [BGL.format(**fields, message="instruction cache parity error corrected")] * (node + 1)
            if (day, node) == (2, 5):
                alert = {"tag": "KERNDTLB", "level": "FATAL", "message": "data TLB error interrupt"}
                lines.append(BGL.format(**(fields | alert)))
    (folder / "BGL.log.gz").write_bytes(gzip.compress("".join(lines).encode()))
    return folder


def test_blocks_have_their_events_times_levels_and_labels(published: Path, tmp_path: Path) -> None:
    assert build_sets(published, tmp_path / "sets") == (["hdfs_blocks", "bgl_nodes"], [])
    system = read_public(tmp_path / "sets", BENCHMARKS["hdfs_blocks"])
    assert system.counts.sum(axis=(0, 1)).tolist() == [25, 5] and system.split == "time"
    assert system.counts.sum(axis=(0, 2)).tolist() == [20, 10]
    found = {frozenset((e["template_id"][:24], e["count"]) for e in each) for each in system.patterns.column("events").to_pylist()}
    usual = {("PacketResponder <NUM> for", 2), ("BLOCK* NameSystem.addStor", 1)}
    cut = [frozenset((text[:24], n) for text, n in each) for each in (usual, {*usual, ("Unexpected error trying t", 2)})]
    assert found == set(cut)
    assert sorted(set(system.templates.level.values())) == ["info", "warning"]
    assert system.share.tolist() in ([0.0, 1.0], [1.0, 0.0])


def test_a_nodes_day_is_anomalous_by_its_alerts_and_labels_are_no_part_of_it(published: Path, tmp_path: Path) -> None:
    build_sets(published, tmp_path / "sets")
    system = read_public(tmp_path / "sets", BENCHMARKS["bgl_nodes"])
    assert system.counts.sum(axis=(0, 1)).tolist() == [17, 1]
    assert system.anomalous.sum() == 1, "the third day is the test part"
    assert not any("KERNDTLB" in text or text.startswith("-") for text in system.templates.text)


def test_sets_are_built_once_and_serve_the_evaluation(published: Path, tmp_path: Path) -> None:
    build_sets(published, tmp_path / "sets")
    first = (tmp_path / "sets" / "hdfs_blocks.sessions.jsonl.gz").stat().st_mtime_ns
    build_sets(published, tmp_path / "sets")
    assert (tmp_path / "sets" / "hdfs_blocks.sessions.jsonl.gz").stat().st_mtime_ns == first
    systems = labelled_systems(Places(tmp_path / "sets"), ("hdfs_blocks", "bgl_nodes"))
    assert [each.family for each in systems] == ["hdfs", "bgl"]


def test_missing_files_are_named_with_their_publisher(published: Path, tmp_path: Path) -> None:
    (published / "BGL.log.gz").unlink()
    built, missing = build_sets(published, tmp_path / "sets")
    assert built == ["hdfs_blocks"] and len(missing) == 1
    assert "bgl_nodes needs BGL.log" in missing[0] and "loghub" in missing[0]
    with pytest.raises(ConfigError, match=r"anomaly_label\.csv"):
        build_sets(tmp_path / "empty", tmp_path / "sets")


def test_wrong_labels_are_named(published: Path, tmp_path: Path) -> None:
    (published / "preprocessed" / "anomaly_label.csv").write_text("BlockId,Label\nblk_1,maybe\n")
    with pytest.raises(FormatError, match="Normal or Anomaly"):
        build_sets(published, tmp_path / "sets")
