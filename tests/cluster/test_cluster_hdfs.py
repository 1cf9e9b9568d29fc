"""A lake in HDFS takes what a folder takes, and its files appear whole."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hadoop import JARS, Hadoop, hadoop
from lock_scenarios import SCENARIOS
from nightlog.doctor.tables import folder, models, tables
from nightlog.errors import ConfigError, TransientError
from nightlog.ingest.discover import data_folder, find_files, log_files
from nightlog.ingest.splits import ends_in, numbered, plan, read_piece, to_count
from nightlog.lake.lake import Lake
from nightlog.lake.storage import file_system, half_written_files, read_file, write_file
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import Input
from nights import snapshot
from pyarrow.fs import copy_files
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


def test_log_files_are_read_there_as_from_a_folder(hdfs: Hadoop, tmp_path: Path) -> None:
    text = "".join(f"{number} ünïcode line\n" for number in range(20_000)).encode()
    (tmp_path / "plain.log").write_bytes(text)
    (tmp_path / "packed.log.gz").write_bytes(gzip.compress(text[:5000]))
    (tmp_path / "frames.log.zst").write_bytes(pa.compress(text, "zstd", asbytes=True))
    with zipfile.ZipFile(tmp_path / "members.log.zip", "w") as archive:
        archive.writestr("one", text[:3000])
        archive.writestr("two", text[:4000])
    copy_files(str(tmp_path), "/logs/shop", destination_filesystem=file_system(hdfs.address)[0])
    there = data_folder(Path(f"{hdfs.address}/logs"))
    system = load_catalog()["dovecot"].model_copy(update={"input": Input(path="shop/*.log*", delivered=date.fromisoformat(DS))})
    local = log_files(system, tmp_path.parent, DS, sorted(tmp_path.iterdir()))
    remote = log_files(system, there, DS, find_files(system, there, DS))
    assert [(file.name.rpartition("/")[2], file.size) for file in remote] == [(file.path.name, file.size) for file in local]
    assert all(abs((datetime.now(UTC) - file.modified_at).total_seconds()) < 60 for file in remote if file.modified_at)

    def lines(paths: list[Path]) -> list[tuple[str, int, list[str]]]:
        tasks = plan([(path, path.name, DS) for path in paths], piece=50_000)
        open_ended = to_count(tasks)
        ends = {(piece.path, piece.start): ends_in(piece) for piece in open_ended}
        found = [(piece, each) for task in numbered(tasks, ends) for piece in task for each in read_piece(piece, 20_000)]
        return [(piece.file, each.first, each.texts.to_pylist()) for piece, each in found]

    here = lines([file.path for file in local])
    assert lines([file.path for file in remote]) == here
    assert sum(len(texts) for name, _, texts in here if name == "plain.log") == 20_000
    with pytest.raises(ConfigError, match="does not exist"):
        data_folder(Path(f"{hdfs.address}/elsewhere"))
    with pytest.raises(TransientError, match="was removed after it was found"):
        plan([(there / "shop/gone.log", "gone.log", DS)])


def test_a_night_in_hdfs_is_that_of_a_folder(hdfs: Hadoop, sample_lake: Lake, tmp_path: Path) -> None:
    root = f"{hdfs.address}/lakes/nightlog"
    remote = run_sample_night(root, tmp_path)
    assert snapshot(remote) == snapshot(sample_lake)
    assert b"dovecot" in read_file(f"{root}/reports/{DS}/index.html")
    found = [*folder(remote), *models(remote), *tables(remote, 14)]
    assert {finding.state for finding in found} == {"ok"}, found
