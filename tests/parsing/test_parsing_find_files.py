"""Which files are a night's, where a packed file is damaged, and how lines are numbered over splits. No Spark."""

from __future__ import annotations

import gzip
import lzma
import random
from datetime import date
from pathlib import Path

import pytest
from nightlog.errors import FormatError
from nightlog.parsing.files import check_whole, damage, find_days, find_files, offsets, relative
from nightlog.systems.spec import Input
from parsing_help import make_system, put_file

DS = "2026-03-04"


def found(data: Path, path: str, ds: str = DS) -> list[str]:
    return [relative(each, data) for each in find_files(make_system(input=Input(path=path)), data, ds)]


def days(data: Path, path: str) -> list[str]:
    return find_days(make_system(input=Input(path=path)), data)


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


PACKERS = {"gz": lambda content: gzip.compress(content, mtime=0), "xz": lzma.compress}
CONTENT = random.Random(1).randbytes(50_000) + b"line\n" * 10_000


@pytest.mark.parametrize("kind", PACKERS)
def test_a_whole_file_has_no_damage(tmp_path: Path, kind: str) -> None:
    assert damage(put_file(tmp_path, f"whole.{kind}", PACKERS[kind](CONTENT))) is None
    assert damage(put_file(tmp_path, f"two.{kind}", PACKERS[kind](b"one\n") + PACKERS[kind](b"two\n"))) is None
    assert damage(put_file(tmp_path, f"nothing.{kind}", PACKERS[kind](b""))) is None


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named_with_its_byte_and_what_to_do(tmp_path: Path, kind: str, share: float) -> None:
    packed = PACKERS[kind](CONTENT)
    path = put_file(tmp_path, f"app/cut.{kind}", packed[: int(share * len(packed))])
    where = damage(path)
    assert where is not None and 0 < where[0] <= path.stat().st_size
    with pytest.raises(FormatError) as caught:
        check_whole([put_file(tmp_path, "plain.log", "x\n"), path], tmp_path)
    message = str(caught.value)
    assert message.startswith(f"app/cut.{kind}: ")
    assert f"byte {where[0]:,} of {path.stat().st_size:,}" in message
    assert "deliver it again" in message


@pytest.mark.parametrize("kind", PACKERS)
def test_altered_bytes_and_plain_text_under_a_packed_name_are_damage(tmp_path: Path, kind: str) -> None:
    packed = bytearray(PACKERS[kind](CONTENT))
    packed[len(packed) // 2] ^= 0xFF
    assert damage(put_file(tmp_path, f"altered.{kind}", bytes(packed))) is not None
    assert damage(put_file(tmp_path, f"plain.{kind}", b"never packed\n")) is not None


def numbers(splits: list[dict[str, int | str]], names: dict[str, str]) -> dict[str, list[int]]:
    """The line numbers that `offsets` gives to every line of every split."""
    shifts = {(uri, split): (file, shift) for uri, split, file, shift in offsets(splits, names)}
    lines: dict[str, list[int]] = {}
    for each in sorted(splits, key=lambda s: (s["uri"], s["split"])):
        file, shift = shifts[str(each["uri"]), int(each["split"])]
        lines.setdefault(file, []).extend(range(int(each["first"]) + shift, int(each["first"]) + int(each["n"]) + shift))
    return lines


def test_lines_are_numbered_through_splits_whatever_partition_read_which() -> None:
    """Ordinals carry the partition in their upper bits, and partitions hold splits in any order."""
    splits: list[dict[str, int | str]] = [
        {"uri": "file:///d/a.log", "split": 200, "first": 0, "n": 5},
        {"uri": "file:///d/b.log", "split": 0, "first": 5, "n": 3},
        {"uri": "file:///d/a.log", "split": 0, "first": 1 << 33, "n": 7},
        {"uri": "file:///d/a.log", "split": 100, "first": 2 << 33, "n": 1},
    ]
    names = {"/d/a.log": "a.log", "/d/b.log": "b.log"}
    expected = {"a.log": list(range(1, 14)), "b.log": [1, 2, 3]}
    assert numbers(splits, names) == expected
    for seed in range(5):
        assert numbers(random.Random(seed).sample(splits, len(splits)), names) == expected


def test_a_file_is_known_again_under_the_name_that_a_uri_gives_it() -> None:
    splits = [{"uri": "file:///d/caf%C3%A9%20100%25%20a+b.log", "split": 0, "first": 0, "n": 2}]
    assert [row[2] for row in offsets(splits, {"/d/café 100% a+b.log": "café"})] == ["café"]
    assert offsets([], {}) == []
