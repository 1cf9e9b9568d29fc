"""The files of a night: found by the path, none left out in silence; damaged ones are named."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ingest_help import PACKERS, make_system, put_file, zipped
from nightlog.errors import ConfigError, FormatError
from nightlog.ingest.discover import data_folder, find_days, find_files, log_files, present_systems, relative
from nightlog.ingest.splits import plan, read_piece
from nightlog.onboarding.sample import read_sample
from nightlog.run.entry import chosen_systems
from nightlog.settings import Settings
from nightlog.systems.spec import Input

DS = "2026-03-04"


def found(data: Path, path: str, ds: str = DS) -> list[str]:
    return [relative(each, data) for each in find_files(make_system(path), data, ds)]


def days(data: Path, path: str) -> list[str]:
    return find_days(make_system(path), data)


def test_the_files_of_a_night_are_those_that_carry_its_day(tmp_path: Path) -> None:
    for name in ("app/b-2026-03-04.log", "app/a-2026-03-04.log.gz", "app/a-2026-03-05.log", "other/a-2026-03-04.log"):
        put_file(tmp_path, name, "x\n")
    assert found(tmp_path, "app/*-{ds}.log*") == ["app/a-2026-03-04.log.gz", "app/b-2026-03-04.log"]
    assert found(tmp_path, "app/*-{ds}.log") == ["app/b-2026-03-04.log"]
    assert found(tmp_path, "*/a-{ds}.log") == ["other/a-2026-03-04.log"]
    assert found(tmp_path, "app/*-{ds}.log*", "2026-03-06") == []
    assert days(tmp_path, "app/*-{ds}.log*") == ["2026-03-04", "2026-03-05"]


def test_a_day_may_be_a_folder_and_stand_twice_in_the_path(tmp_path: Path) -> None:
    for name in ("2026-03-04/host1/app.log", "2026-03-04/host2/app.log", "2026-03-05/host1/app.log", "2026-03-05/app-2026-03-05.log"):
        put_file(tmp_path, name, "x\n")
    assert found(tmp_path, "{ds}/*/app.log") == ["2026-03-04/host1/app.log", "2026-03-04/host2/app.log"]
    assert days(tmp_path, "{ds}/*/app.log") == ["2026-03-04", "2026-03-05"]
    assert found(tmp_path, "{ds}/app-{ds}.log", "2026-03-05") == ["2026-03-05/app-2026-03-05.log"]
    assert days(tmp_path, "{ds}/app-{ds}.log") == ["2026-03-05"]


def test_folders_are_no_log_files(tmp_path: Path) -> None:
    (tmp_path / "app" / "2026-03-04.log").mkdir(parents=True)
    put_file(tmp_path, "app/2026-03-04.log.1", "x\n")
    assert found(tmp_path, "app/{ds}.log*") == ["app/2026-03-04.log.1"]


def test_links_to_folders_are_followed_and_lead_back_nowhere(tmp_path: Path) -> None:
    data, volume = tmp_path / "data", tmp_path / "volume"
    for name in ("data/host1/2026-03-04.log", "volume/2026-03-04.log", "volume/deep/2026-03-04.log"):
        put_file(tmp_path, name, "x\n")
    (data / "host2").symlink_to(volume)
    (volume / "up").symlink_to(data)
    (data / "host1" / "self").symlink_to(".")
    (data / "host3").mkdir()
    (data / "host3" / "2026-03-04.log").symlink_to(volume / "2026-03-04.log")
    expected = ["host1/2026-03-04.log", "host2/2026-03-04.log", "host2/deep/2026-03-04.log", "host3/2026-03-04.log"]
    assert found(data, "**/{ds}.log") == expected
    assert found(data, "*/{ds}.log") == [name for name in expected if "deep" not in name]


@pytest.mark.parametrize(
    ("link", "pattern", "is_told"),
    [
        ("host1/2026-03-04.log", "*/{ds}.log", True),
        ("host1/2026-03-04.log", "**/{ds}.log", True),
        ("host2", "*/{ds}.log", True),
        ("host2", "**/{ds}.log", True),
        ("web2.example.com", "**/{ds}.log", True),
        ("host2", "host2/{ds}.log", True),
        ("latest.log", "**/{ds}.log", False),  # a file of another name
        ("host1/2026-03-03.log", "*/{ds}.log", False),  # another night's
        ("other/host2", "*/{ds}.log", False),
    ],
)
def test_a_broken_link_that_may_hide_files_of_the_night_is_named(tmp_path: Path, link: str, pattern: str, is_told: bool) -> None:
    put_file(tmp_path, "host0/2026-03-04.log", "x\n")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to("/nonexistent/volume")
    if is_told:
        with pytest.raises(FormatError, match=re.escape(f"{tmp_path}/{link} is a broken link to /nonexistent/volume")):
            found(tmp_path, pattern)
    else:
        assert found(tmp_path, pattern) == (["host0/2026-03-04.log"] if "*" in pattern else [])


def test_what_the_user_of_the_job_may_not_read_is_named(tmp_path: Path, as_nobody: Callable[[Callable[[], Any]], Any]) -> None:
    data = tmp_path / "data"
    for name in ("host1/2026-03-04.log", "host2/deep/2026-03-04.log", "host3/2026-03-04.log", "lost+found/x"):
        put_file(data, name, "x\n")
    cases = {"host2": "**/{ds}.log", "host2/deep": "**/{ds}.log", "host3/2026-03-04.log": "*/{ds}.log", "host3": "*/{ds}.log"}
    (data / "lost+found").chmod(0)
    for closed, pattern in cases.items():
        mode = (data / closed).stat().st_mode
        (data / closed).chmod(0)
        error = as_nobody(lambda pattern=pattern: found(data, pattern))
        assert isinstance(error, FormatError), closed
        assert f"{data / closed}" in str(error) and "cannot be read: Permission denied" in str(error)
        (data / closed).chmod(mode)
    assert len(as_nobody(lambda: found(data, "**/{ds}.log"))) == 3


def test_a_data_folder_that_cannot_serve_is_refused_in_words(tmp_path: Path, as_nobody: Callable[[Callable[[], Any]], Any]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    file = put_file(tmp_path, "file", "x\n")
    for given in (data, Path(f"file://{data}")):
        assert data_folder(given) == data
    for given, word in ((tmp_path / "gone", "does not exist"), (file, "is not a folder"), (file / "below", "is not a folder")):
        with pytest.raises(ConfigError, match=word):
            data_folder(given)
    data.chmod(0)
    assert "cannot be read: Permission denied" in str(as_nobody(lambda: data_folder(data)))


def test_a_name_that_is_not_utf8_is_read_under_a_name_that_is(tmp_path: Path) -> None:
    (tmp_path / "h\udcff").mkdir()
    put_file(tmp_path, "h\udcff/2026-03-04.log", "x\n")
    assert found(tmp_path, "*/{ds}.log") == ["h\\xff/2026-03-04.log"]
    assert days(tmp_path, "*/{ds}.log") == [DS]


def test_a_day_in_the_name_of_the_data_folder_is_not_a_night(tmp_path: Path) -> None:
    data = tmp_path / "delivery-2020-01-01"
    put_file(data, "2026-03-04.log", "x\n")
    put_file(data, "delivery-2026-03-05.log", "x\n")
    assert days(data, "{ds}.log") == ["2026-03-04"]
    assert days(data, "delivery-{ds}.log") == ["2026-03-05"]


def test_a_night_is_found_below_any_folder(tmp_path: Path) -> None:
    for name in ("2026-03-04.log", "a/2026-03-05.log", "a/b/2026-03-06.log"):
        put_file(tmp_path, name, "x\n")
    assert days(tmp_path, "**/{ds}.log") == ["2026-03-04", "2026-03-05", "2026-03-06"]


def test_delivered_files_belong_to_their_one_night(tmp_path: Path) -> None:
    put_file(tmp_path, "dump/one.log", "x\n")
    put_file(tmp_path, "dump/two.log", "x\n")
    system = make_system(input=Input(path="dump/*.log", delivered=date(2026, 3, 4)))
    assert [path.name for path in find_files(system, tmp_path, DS)] == ["one.log", "two.log"]
    assert find_files(system, tmp_path, "2026-03-05") == []
    assert find_days(system, tmp_path) == [DS]
    assert find_days(system, tmp_path / "dump") == []


def test_names_in_the_lake_do_not_depend_on_where_the_data_folder_lies(tmp_path: Path) -> None:
    assert relative(tmp_path / "app" / "a b.log", tmp_path) == "app/a b.log"
    assert relative(Path("/elsewhere/a.log"), tmp_path) == "/elsewhere/a.log"


CONTENT = random.Random(1).randbytes(50_000) + b"line\n" * 10_000


def read(path: Path, data: Path) -> int:
    """How many lines a file has, read as a night reads it."""
    return sum(len(lines.texts) for task in plan([(path, relative(path, data), DS)]) for piece in task for lines in read_piece(piece))


@pytest.mark.parametrize("kind", PACKERS)
def test_a_whole_file_is_read_to_its_end(tmp_path: Path, kind: str) -> None:
    two = zipped(b"one", b"two\n") if kind == "zip" else PACKERS[kind](b"one\n") + PACKERS[kind](b"two\n")
    assert read(put_file(tmp_path, f"two.{kind}", two), tmp_path) == 2
    assert read(put_file(tmp_path, f"whole.{kind}", PACKERS[kind](CONTENT)), tmp_path) == CONTENT.count(b"\n")
    assert read(put_file(tmp_path, f"nothing.{kind}", PACKERS[kind](b"")), tmp_path) == 0


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named_with_its_byte_and_what_to_do(tmp_path: Path, kind: str, share: float) -> None:
    packed = PACKERS[kind](CONTENT)
    path = put_file(tmp_path, f"app/cut.{kind}", packed[: int(share * len(packed))])
    with pytest.raises(FormatError) as caught:
        read(path, tmp_path)
    found = re.fullmatch(rf"app/cut\.{kind}: not readable after byte ([\d,]+) of ([\d,]+): .*deliver it again.*", str(caught.value))
    assert found is not None
    assert 0 < int(found[1].replace(",", "")) <= int(found[2].replace(",", "")) == path.stat().st_size


@pytest.mark.parametrize("kind", PACKERS)
def test_altered_bytes_and_plain_text_under_a_packed_name_are_damage(tmp_path: Path, kind: str) -> None:
    packed = bytearray(PACKERS[kind](CONTENT))
    packed[len(packed) // 2] ^= 0xFF
    altered = [] if kind == "zst" else [("altered", bytes(packed))]  # these frames of Zstandard have no checksum
    for name, content in (*altered, ("plain", b"never packed\n")):
        with pytest.raises(FormatError):
            read(put_file(tmp_path, f"{name}.{kind}", content), tmp_path)


def test_members_of_a_zip_are_read_in_the_order_of_their_names_and_their_open_lines_end(tmp_path: Path) -> None:
    path = put_file(tmp_path, "app.zip", zipped(b"one\ntwo", b"three\n", b"four"))
    (piece,) = plan([(path, "app.zip", DS)])[0]
    assert [text for lines in read_piece(piece) for text in lines.texts.to_pylist()] == ["one", "two", "three", "four"]


def test_an_encrypted_zip_is_refused_in_words_by_a_night_and_by_a_trial(tmp_path: Path) -> None:
    path = put_file(tmp_path, "app.zip", zipped(b"one\n", flags=1))
    words = "app.zip: not readable .*its member folder/a.log is encrypted, and logs are read without a password"
    with pytest.raises(FormatError, match=words):
        read(path, tmp_path)
    with pytest.raises(FormatError, match=words):
        read_sample([path], 100)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_trial_reads_what_a_night_reads(tmp_path: Path, kind: str) -> None:
    text = b"".join(b"line %d\n" % n for n in range(5000))
    packed = PACKERS[kind](text)
    sample = read_sample([put_file(tmp_path, f"app.log.{kind}", packed)], 10_000)
    assert (sample.n_lines, sample.estimated, sample.lines[-1]) == (5000, False, "line 4999")
    with pytest.raises(FormatError, match=f"cut.log.{kind}: not readable as {kind}"):
        read_sample([put_file(tmp_path, f"cut.log.{kind}", packed[:-9])], 10_000)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("app.log-{ds_nodash}*", "app.log-20260304.gz"),
        ("{year}/{month}/{day}/app-{hour}.log", "2026/03/04/app-05.log"),
        ("app_{ds}_{hour}.log.zst", "app_2026-03-04_23.log.zst"),
        ("{year}/*/{ds}.log", "2026/web1/2026-03-04.log"),
    ],
)
def test_placeholders_of_a_path_find_the_files_of_their_day_alone(tmp_path: Path, path: str, name: str) -> None:
    others = [name.replace("03", "02"), name.replace("04", "05"), name.replace("2026", "2025"), name.replace("2026", "26")]
    for each in (name, *others):
        put_file(tmp_path, each, "x\n")
    assert found(tmp_path, path) == [name]
    assert DS in days(tmp_path, path) and "2026-02-04" in days(tmp_path, path)
    assert days(tmp_path, path) == sorted({DS, "2026-02-04", "2026-03-05", "2025-03-04"})


def test_an_hour_is_no_host(tmp_path: Path) -> None:
    system = make_system("*/app-{ds_nodash}-{hour}.log*")
    paths = [put_file(tmp_path, f"web1/app-20260304-{hour:02d}.log.gz", b"x") for hour in range(3)]
    assert {file.host for file in log_files(system, tmp_path, DS, paths)} == {"web1"}


def test_systems_without_files_of_any_day_are_left_out_unless_they_had_input_before(tmp_path: Path) -> None:
    here, gone, never = (make_system(f"{name}/app-{{ds}}.log").model_copy(update={"name": name}) for name in ("here", "gone", "never"))
    put_file(tmp_path, "here/app-2025-01-01.log", "x\n")
    rows = [{"system": "gone", "outcome": "gated"}, {"system": "never", "outcome": "no_input"}]
    assert present_systems([here, gone, never], tmp_path, rows) == [here, gone]
    assert present_systems([here, gone, never], tmp_path, []) == [here]
    assert present_systems([gone, never], tmp_path, []) == [gone, never], "without any file, a night says which ones it looked for"


def test_a_night_of_the_sample_has_the_systems_of_the_sample_alone(tmp_path: Path) -> None:
    settings = Settings(lake=tmp_path / "lake")
    assert [system.name for system in chosen_systems(settings, "")] == ["dovecot"]
    assert [system.name for system in chosen_systems(settings, "hdfs")] == ["hdfs"]
    put_file(tmp_path, "data/hdfs/hdfs-2008-11-09.log.gz", b"x")
    assert [system.name for system in chosen_systems(settings.model_copy(update={"data": tmp_path / "data"}), "")] == ["hdfs"]
