"""A lake in HDFS takes what a folder takes, and its files appear whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hadoop import JARS, Hadoop, hadoop
from lock_scenarios import SCENARIOS
from nightlog.doctor.tables import folder, models, tables
from nightlog.lake.lake import Lake
from nightlog.lake.storage import file_system, half_written_files, read_file, write_file
from nights import snapshot
from sample_night import DS, run_sample_night

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hadoop]:
    if not JARS.is_dir():
        pytest.skip("no Hadoop: `make cluster-test` puts it into build/hadoop")
    with hadoop(tmp_path_factory.mktemp("hadoop"), with_yarn=False) as cluster:
        yield cluster


def test_a_file_is_replaced_whole_and_what_broke_off_is_found(hdfs: Hadoop) -> None:
    place = f"{hdfs.address}/files/a.bin"
    for content in (b"first", b"second"):
        write_file(place, content)
        assert read_file(place) == content
    with pytest.raises(FileNotFoundError):
        read_file(f"{hdfs.address}/files/none")
    files, path = file_system(place)
    info = files.get_file_info(path)
    assert info.size == len(b"second")
    assert abs((datetime.now(UTC) - info.mtime).total_seconds()) < 60
    write_file(f"{hdfs.address}/files/.b.bin.77.part", b"half")
    assert half_written_files(f"{hdfs.address}/files") == ["/files/.b.bin.77.part"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_locks(hdfs: Hadoop, scenario: Callable[[str], None]) -> None:
    scenario(f"{hdfs.address}/lakes/{scenario.__name__}")


def test_a_night_in_hdfs_is_that_of_a_folder(hdfs: Hadoop, sample_lake: Lake, tmp_path: Path) -> None:
    root = f"{hdfs.address}/lakes/nightlog"
    remote = run_sample_night(root, tmp_path)
    assert snapshot(remote) == snapshot(sample_lake)
    assert b"dovecot" in read_file(f"{root}/reports/{DS}/index.html")
    found = [*folder(remote), *models(remote), *tables(remote, 14)]
    assert {finding.state for finding in found} == {"ok"}, found
