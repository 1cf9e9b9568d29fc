"""Lines as they come out of files: the same from plain, gzip and xz, numbered from 1, whatever the bytes and the names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_help import PACKERS, make_system, put_file
from nightlog.errors import FormatError, TransientError
from nightlog.ingest.discover import relative
from nightlog.ingest.ingest import cut_off, ingest
from nightlog.ingest.splits import CHUNK, MAX_LINE, PIECE, ends_in, numbered, plan, read_piece, split_lines, to_count
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LABELS, LINES_TABLE
from nightlog.systems.spec import Labels

DS = "2026-03-04"
TEXT = "first\nsecond ü 漢 🙂\n\n  fourth \n".encode()
FILES = {
    "plain.log": TEXT,
    **{f"packed.log.{kind}": pack(TEXT) for kind, pack in PACKERS.items()},
    "twice.log.gz": gzip.compress(TEXT) + gzip.compress(TEXT),
    "other/packed.log.xz": lzma.compress(b"same name in another folder\n"),
    "crlf.log": b"one\r\ntwo\r\r\n\rthree\r\n\r\n",
    "no-end.log": b"one\ntwo",
    "empty.log": b"",
    "empty.log.gz": gzip.compress(b""),
    "zero-bytes.log.xz": b"",
    "blank.log": b"\n\n\n",
    "nul.log": b"a\0b\n\0\n",
    "marked.log": b"\xef\xbb\xbfone\r\ntwo \xef\xbb\xbf\r\n",
    "marked.log.gz": gzip.compress(b"\xef\xbb\xbfone\r\ntwo \xef\xbb\xbf\r\n"),
    "mark-alone.log": b"\xef\xbb\xbf",
    "returns.log": b"one\rtwo\r\rfour",
    "returns.log.bz2": bz2.compress(b"\xef\xbb\xbfone\rtwo\r\rfour\r"),
    "both.log": b"one\rtwo\rthree\r\nfour\n",
    "latin.log": "caf\xe9 \xfcber\n".encode("latin-1") + b"fine\n\xf0\x9f\x99 cut\n",
    "a name with blanks.log": b"blanks\n",
    "größe-日本.log.gz": gzip.compress(b"letters\n"),
    "100% a+b#c;d=e&f.log": b"marks\n",
    "a[1]{2}*?.log": b"pattern\n",
    "host:8080.log": b"colon\n",
    "_hidden.log": b"underscore\n",
    ".hidden.log.gz": gzip.compress(b"dot\n"),
    "_hidden.log.xz": lzma.compress(b"packed underscore\n"),
}
Lines = dict[str, list[tuple[int, str, bool]]]


def lines_of(data: Path, paths: Sequence[Path], piece: int = PIECE) -> Lines:
    """File → its (line_no, text, replaced), read in pieces of so many bytes."""
    tasks = plan([(path, relative(path, data), DS) for path in paths], piece)
    tasks = numbered(tasks, {(each.path, each.start): ends_in(each) for each in to_count(tasks)})
    found: Lines = defaultdict(list)
    for each in [piece for task in tasks for piece in task]:
        for lines in read_piece(each, piece):
            numbers = range(lines.first, lines.first + len(lines.texts))
            found[each.file] += zip(numbers, lines.texts.to_pylist(), map(bool, lines.replaced), strict=True)
    return found


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """All files, read at once."""
    data = tmp_path_factory.mktemp("files with [marks]")
    return lines_of(data, [put_file(data, name, content) for name, content in FILES.items()])


def test_plain_and_packed_files_give_the_same_lines(read: Lines) -> None:
    lines = [(1, "first", False), (2, "second ü 漢 🙂", False), (3, "", False), (4, "  fourth ", False)]
    assert read["plain.log"] == lines
    assert {kind: read[f"packed.log.{kind}"] == lines for kind in PACKERS} == dict.fromkeys(PACKERS, True)
    assert read["twice.log.gz"] == lines + [(number + 4, text, replaced) for number, text, replaced in lines]


def test_files_of_one_name_in_two_folders_stay_apart(read: Lines) -> None:
    assert read["other/packed.log.xz"] == [(1, "same name in another folder", False)]


def test_one_carriage_return_at_a_line_end_is_dropped_and_no_other(read: Lines) -> None:
    assert [text for _, text, _ in read["crlf.log"]] == ["one", "two\r", "\rthree", ""]


def test_a_last_line_without_an_end_is_a_line(read: Lines) -> None:
    assert read["no-end.log"] == [(1, "one", False), (2, "two", False)]


def test_empty_files_have_no_lines_and_blank_lines_are_lines(read: Lines) -> None:
    assert {"empty.log", "empty.log.gz", "zero-bytes.log.xz"} & set(read) == set()
    assert read["blank.log"] == [(1, "", False), (2, "", False), (3, "", False)]


def test_a_byte_order_mark_is_dropped_at_the_start_of_a_file_and_nowhere_else(read: Lines) -> None:
    assert read["marked.log"] == read["marked.log.gz"] == [(1, "one", False), (2, "two \ufeff", False)]
    assert "mark-alone.log" not in read


def test_carriage_returns_end_lines_in_files_that_end_lines_with_nothing_else(read: Lines) -> None:
    assert read["returns.log"] == read["returns.log.bz2"] == [(1, "one", False), (2, "two", False), (3, "", False), (4, "four", False)]
    assert [text for _, text, _ in read["both.log"]] == ["one", "two", "three", "four"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 4096])
def test_lines_that_carriage_returns_end_are_the_same_however_much_is_read_at_once(tmp_path: Path, limit: int) -> None:
    path = put_file(tmp_path, "returns.log", b"one\rtwo\r\nthree\r\rfive\r")
    ((piece,),) = plan([(path, path.name, DS)], limit)
    assert [text for lines in read_piece(piece, limit) for text in lines.texts.to_pylist()] == ["one", "two", "three", "", "five"]


def test_nul_bytes_stay(read: Lines) -> None:
    assert read["nul.log"] == [(1, "a\0b", False), (2, "\0", False)]


def test_bytes_that_are_not_utf8_are_replaced_and_marked(read: Lines) -> None:
    assert read["latin.log"] == [(1, "caf\ufffd \ufffdber", True), (2, "fine", False), (3, "\ufffd cut", True)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=5), st.sampled_from(["ü", "漢", "🙂", "\ue000", "plain"]).map(str.encode)), max_size=8))
def test_any_bytes_are_read_as_python_decodes_them(words: list[bytes]) -> None:
    data = b"".join(words).replace(b"\r", b"")
    lines = split_lines(data, 1)
    assert lines.texts.to_pylist() == [raw.decode(errors="replace") for raw in (data.removesuffix(b"\n").split(b"\n") if data else [])]
    is_valid = [raw.decode(errors="ignore").encode() == raw for raw in (data.removesuffix(b"\n").split(b"\n") if data else [])]
    assert lines.replaced.tolist() == [not each for each in is_valid]


@pytest.mark.parametrize("name", list(FILES)[-8:])
def test_any_name_is_read_and_kept(read: Lines, name: str) -> None:
    assert [number for number, _, _ in read[name]] == [1]


def test_no_file_is_added_or_lost(read: Lines) -> None:
    assert set(read) == {name for name in FILES if not name.startswith(("empty", "zero", "mark-alone"))}


@pytest.mark.parametrize("piece", [1, 2, 7, 16, 64, 4096])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_is_read_in_pieces_has_the_same_lines_in_order(tmp_path: Path, piece: int, pack: Callable[[bytes], bytes]) -> None:
    texts = [f"{i} {'ü' * (i * 7 % 23)}" for i in range(1, 80)] + ["", "", "last without an end"]
    path = put_file(tmp_path, "long.log" + (".gz" if pack is gzip.compress else ""), pack("\n".join(texts).encode()))
    assert lines_of(tmp_path, [path], piece)[path.name] == [(number, text, False) for number, text in enumerate(texts, 1)]


def test_small_files_share_a_task_and_a_large_one_has_several(tmp_path: Path) -> None:
    paths = [put_file(tmp_path, f"{n:02d}.log", b"line\n" * 10) for n in range(20)] + [put_file(tmp_path, "large.log", b"line\n" * 500)]
    tasks = plan([(path, path.name, DS) for path in paths], 1000)
    assert [len(task) for task in tasks[:2]] == [20, 1]
    assert sum(piece.path == str(paths[-1]) for task in tasks for piece in task) == 3


def test_a_line_that_is_too_long_is_cut_and_counted_and_no_other(tmp_path: Path) -> None:
    long = "é" * MAX_LINE
    content = f"before\n{long}\nbetween\n{long}".encode()
    for pack, name in ((bytes, "a.log"), (gzip.compress, "a.log.gz")):
        path = put_file(tmp_path, name, pack(content))
        found = lines_of(tmp_path, [path], CHUNK)[name]
        assert [number for number, _, _ in found] == [1, 2, 3, 4]
        assert [len(text.encode()) for _, text, _ in found] == [6, MAX_LINE, 7, MAX_LINE]
        assert not any(replaced for _, _, replaced in found)
        (piece,) = plan([(path, name, DS)])[0]
        assert sum(lines.n_cut for lines in read_piece(piece)) == 2


def read_all(path: Path, piece: int = PIECE) -> list[str]:
    """The lines of a file as it was planned."""
    return [text for each in plan([(path, path.name, DS)], piece)[0] for lines in read_piece(each) for text in lines.texts.to_pylist()]


def test_what_is_appended_while_a_file_is_read_waits_but_for_the_open_line(tmp_path: Path) -> None:
    path = put_file(tmp_path, "grows.log", b"one\ntwo\nthr")
    (planned,) = plan([(path, path.name, DS)])
    with path.open("ab") as more:
        more.write(b"ee\nfour\n")
    assert [text for lines in read_piece(planned[0]) for text in lines.texts.to_pylist()] == ["one", "two", "three"]
    assert read_all(path) == ["one", "two", "three", "four"]


def test_a_file_that_was_cut_or_replaced_while_it_was_read_is_tried_again(tmp_path: Path) -> None:
    path = put_file(tmp_path, "shrinks.log", b"one\ntwo\nthree\n")
    (planned,) = plan([(path, path.name, DS)])
    path.write_bytes(b"one\n")
    with pytest.raises(TransientError, match=r"shrinks\.log: 14 bytes when the night began, 4 when it was read"):
        list(read_piece(planned[0]))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_refused_with_what_to_do(tmp_path: Path, pack: Callable[[bytes], bytes], encoding: str) -> None:
    content = ("" if encoding == "utf-16" else "\ufeff") + "one\ntwo\n"
    path = put_file(tmp_path, "wide.log" + (".gz" if pack is gzip.compress else ""), pack(content.encode(encoding)))
    with pytest.raises(FormatError, match="is UTF-16, expected UTF-8"):
        read_all(path)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_truncated_file_stops_the_night_and_leaves_the_lake_as_it_was(lake: Lake, tmp_path: Path, kind: str) -> None:
    whole = "".join(f"{'BAD' if i % 7 == 0 else '-'} line {i} {i * 7919 % 104729:x}\n" for i in range(20_000)).encode()
    system = make_system(labels=Labels(pattern=r"(?P<label>\S+) "))
    put_file(tmp_path, "app/2026-03-04.log", "- first delivery\n")
    ingest(lake, system, "2026-03-04", tmp_path)
    before = {spec.name: (lake.rows(spec), lake.table(spec).version()) for spec in (LINES_TABLE, LABELS)}

    packed = PACKERS[kind](whole)
    put_file(tmp_path, f"app/2026-03-04.2.log.{kind}", packed[: len(packed) // 2])
    with pytest.raises(FormatError) as caught:
        ingest(lake, system, "2026-03-04", tmp_path)

    assert f"app/2026-03-04.2.log.{kind}: not readable after byte" in str(caught.value)
    assert {spec.name: (lake.rows(spec), lake.table(spec).version()) for spec in (LINES_TABLE, LABELS)} == before
    assert len(before["bronze.lines"][0]) == 1


def test_where_there_is_nothing_to_do_nothing_is_started(tmp_path: Path) -> None:
    from nightlog.lake.runner import LOCAL_BYTES

    def start() -> Any:
        raise AssertionError("Spark was started for nothing")

    assert Lake(tmp_path, start).runner.run([], str, LOCAL_BYTES + 1) == []


@pytest.mark.parametrize("pattern", [r"(?P<label>\S+) ", r"(?P<label>-|[A-Z]+) ", r"(?P<label>[^:]*):: *"])
def test_labels_are_cut_off_at_the_starts_of_lines_alone_and_alike_with_any_expression(pattern: str) -> None:
    texts = ["- a - b", "KERN c", "none", "", "- ", "é - x", "- two\nlines", " - late", "A:: b:: c", "::d"]
    whole = pa.chunked_array([texts[:3], texts[3:]], pa.string())
    looking_ahead = cut_off(whole, f"(?=.){pattern}")
    assert [each.to_pylist() for each in cut_off(whole, pattern)] == [each.to_pylist() for each in looking_ahead]
    rest, found, tags = (each.to_pylist() for each in looking_ahead)
    expected = [re.match(pattern, text) for text in texts]
    assert found == [match is not None for match in expected]
    assert tags == [match and match["label"] for match in expected]
    assert rest == [text[match.end() :] if match else text for text, match in zip(texts, expected, strict=True)]
