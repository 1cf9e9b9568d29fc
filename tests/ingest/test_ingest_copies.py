"""A file that was delivered twice is read once, two hosts that log the same are read as two."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from ingest_help import make_system, put_file
from nightlog.ingest.ingest import find_delivery

DS = "2026-03-04"
TEXT = "".join(f"2026-03-04 10:00:{n:02d} INFO line {n}\n" for n in range(50)).encode()
MORE = TEXT + b"2026-03-04 11:00:00 INFO one more\n"
OTHER = TEXT.replace(b"line 49", b"line 50")
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def read_of(data: Path, path: str, timed: bool = True) -> tuple[list[str], dict[str, str]]:
    """Return the names of the files that are read, and copy → the file read instead."""
    delivery = find_delivery(make_system(path) if timed else make_system(path, timestamp=None), data, DS)
    return [file.name for file in delivery.files], {copy.name: kept.name for copy, kept in delivery.copies.items()}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("*/app-{ds}.log", ("host1/app-2026-03-04.log", "host2/app-2026-03-04.log")),
        ("*/app-{ds}.log*", ("host1/app-2026-03-04.log", "host2/app-2026-03-04.log.gz")),
        ("**/{ds}.log", ("2026-03-04.log", "a/b/2026-03-04.log")),
        ("*-{ds}.log", ("host1-2026-03-04.log", "host2-2026-03-04.log")),
        ("app-{ds}*.log", ("app-2026-03-04-host1.log", "app-2026-03-04-host2.log")),
        ("app-{ds}.log*", ("app-2026-03-04.log.host1", "app-2026-03-04.log.host2")),
        ("{ds}/*", ("2026-03-04/host1.log", "2026-03-04/host2.log.gz")),
        ("h[12]/{ds}.log", ("h1/2026-03-04.log", "h2/2026-03-04.log")),
    ],
)
@pytest.mark.parametrize("content", [TEXT, b"2026-03-04 10:00:00 INFO cron\n"])
def test_the_same_content_of_two_hosts_is_read_twice(tmp_path: Path, path: str, names: tuple[str, str], content: bytes) -> None:
    for name in names:
        put_file(tmp_path, name, gzip.compress(content) if name.endswith(".gz") else content)
    assert read_of(tmp_path, path) == (sorted(names), {})


@pytest.mark.parametrize("first", PACKERS)
@pytest.mark.parametrize("second", PACKERS)
@pytest.mark.parametrize("content", [TEXT, b"2026-03-04 10:00:00 INFO cron\n"])
def test_a_copy_of_the_same_host_is_read_once_however_it_is_packed(tmp_path: Path, first: str, second: str, content: bytes) -> None:
    put_file(tmp_path, f"host1/{DS}.log{first}", PACKERS[first](content))
    put_file(tmp_path, f"host1/{DS}.log.1{second}", PACKERS[second](content))
    put_file(tmp_path, f"host2/{DS}.log{first}", PACKERS[first](content))
    names, copies = read_of(tmp_path, "*/{ds}.log*")
    assert names == sorted([min(f"host1/{DS}.log{first}", f"host1/{DS}.log.1{second}"), f"host2/{DS}.log{first}"])
    assert len(copies) == 1


@pytest.mark.parametrize("ending", [".log.bak", ".txt", ".log~", ".log.orig", ".log.2.gz"])
def test_a_copy_under_another_ending_is_read_once(tmp_path: Path, ending: str) -> None:
    put_file(tmp_path, f"app-{DS}.log", TEXT)
    put_file(tmp_path, f"app-{DS}{ending}", gzip.compress(TEXT) if ending.endswith(".gz") else TEXT)
    assert read_of(tmp_path, "app-{ds}.*") == ([f"app-{DS}.log"], {f"app-{DS}{ending}": f"app-{DS}.log"})


@pytest.mark.parametrize("short", PACKERS)
@pytest.mark.parametrize("long", PACKERS)
def test_the_longer_of_two_deliveries_of_a_file_is_read(tmp_path: Path, short: str, long: str) -> None:
    put_file(tmp_path, f"a/{DS}.log{short}", PACKERS[short](TEXT))
    put_file(tmp_path, f"a/{DS}.log.1{long}", PACKERS[long](MORE))
    put_file(tmp_path, f"a/{DS}.log.2", TEXT[:-7])
    assert read_of(tmp_path, "*/{ds}.log*") == (
        [f"a/{DS}.log.1{long}"],
        dict.fromkeys((f"a/{DS}.log{short}", f"a/{DS}.log.2"), f"a/{DS}.log.1{long}"),
    )


def test_parts_of_a_log_that_only_look_alike_are_all_read(tmp_path: Path) -> None:
    big = TEXT * 2000
    for name, content in (("1", TEXT), ("2", OTHER), ("3", big + b"x\n"), ("4", big + b"y\n"), ("5", b""), ("6", b"")):
        put_file(tmp_path, f"app-{DS}.log.{name}", content)
    names, copies = read_of(tmp_path, "app-{ds}.log*")
    assert copies == {f"app-{DS}.log.1": f"app-{DS}.log.3"}, "the first part of another"
    assert names == [f"app-{DS}.log.{n}" for n in (2, 3, 4, 5, 6)]


def test_without_times_only_files_of_one_name_are_compared(tmp_path: Path) -> None:
    for name in (".log", ".log.1", ".log.1.gz"):
        put_file(tmp_path, f"app-{DS}{name}", gzip.compress(b"ok\n") if name.endswith("gz") else b"ok\n")
    names, copies = read_of(tmp_path, "app-{ds}.log*", timed=False)
    assert (names, copies) == ([f"app-{DS}.log", f"app-{DS}.log.1"], {f"app-{DS}.log.1.gz": f"app-{DS}.log.1"})


def test_a_link_to_a_file_that_is_found_by_itself_is_a_copy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put_file(data, f"host1/{DS}.log", TEXT)
    put_file(tmp_path, f"volume/{DS}.log", TEXT)
    (data / "another").symlink_to(data / "host1")
    (data / "host2").symlink_to(tmp_path / "volume")
    assert read_of(data, "*/{ds}.log") == ([f"host1/{DS}.log", f"host2/{DS}.log"], {f"another/{DS}.log": f"host1/{DS}.log"})


def test_a_damaged_copy_is_not_taken_for_a_copy(tmp_path: Path) -> None:
    put_file(tmp_path, f"{DS}.log", TEXT)
    put_file(tmp_path, f"{DS}.log.gz", gzip.compress(TEXT)[:-9])
    assert read_of(tmp_path, "{ds}.log*")[1] == {}
