"""Pieces of log files: planned by their bytes, read once, cut into lines by arithmetic on whole buffers.

A plain file is cut into pieces of `PIECE` bytes; a line belongs to the piece in which it begins. A compressed file is one piece, and
small files share a task. Lines end with a line feed; one carriage return before it is dropped. In a file whose lines end with carriage
returns alone, these end lines; it is one piece. A byte order mark at the start of a file is dropped. What is appended to a file after it
was planned is left for the next run, except the end of the line that was open.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from nightlog.errors import FormatError, TransientError
from nightlog.ingest.archives import BROKEN, is_packed, unpacked
from nightlog.ingest.objects import open_log, statuses

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 64 << 20
CHUNK = 1 << 20
# Bytes that are read and cut into lines together: memory for so many is used again and again, more would come from the system each time.
BLOCK = 4 << 20
# Longer lines are cut: nobody reads them, and one of them must not fill a worker's memory.
MAX_LINE = 1 << 20
FEED = ord("\n")
UTF16 = (b"\xff\xfe", b"\xfe\xff")
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Piece:
    """Bytes [start, end) of a file of a night, or a whole compressed one; `first` is the number of its first line."""

    path: str
    file: str
    ds: str
    start: int
    end: int
    first: int = 1


@dataclass(frozen=True)
class Lines:
    """Some lines that follow each other: texts (valid UTF-8), the number of the first, which had bytes that are not UTF-8, how many were
    cut, and how many carriage returns stand inside of them."""

    texts: pa.StringArray
    first: int
    replaced: np.ndarray
    n_cut: int
    n_returns: int = 0

    @property
    def data(self) -> np.ndarray:
        """The bytes of the texts, one after the other."""
        _, offsets, data = self.texts.buffers()
        places = np.frombuffer(offsets, np.int32)[self.texts.offset : self.texts.offset + len(self.texts) + 1]
        return np.frombuffer(data, np.uint8)[places[0] : places[-1]] if data is not None and len(places) else np.zeros(0, np.uint8)


def plan(files: Sequence[tuple[Path, str, str]], piece: int = PIECE) -> list[list[Piece]]:
    """Tasks of about `piece` bytes each, in the order of the files (path, name in the lake, night); numbers of lines are still to come."""
    tasks: list[list[Piece]] = []
    room = 0
    for (path, file, ds), (size, _) in zip(files, statuses([path for path, _, _ in files]), strict=True):
        whole = is_packed(path) or (size > piece and ends_with_returns(start_of(path)))
        step = max(size, 1) if whole else piece
        for start in range(0, size, step):
            end = min(size, start + step)
            if end - start > room:
                tasks.append([])
                room = piece
            tasks[-1].append(Piece(str(path), file, ds, start, end))
            room -= end - start
    return tasks


def start_of(path: Path) -> bytes:
    """Return the first bytes of a plain file."""
    with open_log(path) as file:
        return file.read(CHUNK)


def ends_with_returns(start: bytes) -> bool:
    """Return True if carriage returns alone end the lines of a file that begins like this.

    >>> ends_with_returns(b"one\\rtwo\\r"), ends_with_returns(b"one\\r\\ntwo\\r\\n"), ends_with_returns(b"10 %\\r100 %\\ndone\\n")
    (True, False, False)
    """
    n_alone = start.count(b"\r") - start.count(b"\r\n")
    return n_alone > 0 and n_alone >= start.count(b"\n")


def with_feeds(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield blocks of bytes in which a line feed stands for each line end, be it a carriage return, a line feed, or both."""
    after_return = False
    for block in blocks:
        data = block.removeprefix(b"\n") if after_return else block
        after_return = block.endswith(b"\r")
        if data := data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"):
            yield data


def ends_in(piece: Piece) -> int:
    """Return how many line ends lie in a piece of a plain file."""
    n = 0
    with open_log(Path(piece.path)) as file:
        file.seek(piece.start)
        left = piece.end - piece.start
        while left and (data := file.read(min(CHUNK, left))):
            n += int(np.count_nonzero(np.frombuffer(data, np.uint8) == FEED))
            left -= len(data)
    return n


def to_count(tasks: Sequence[Sequence[Piece]]) -> list[Piece]:
    """The pieces whose line ends must be known before the pieces behind them can be numbered."""
    pieces = [piece for task in tasks for piece in task]
    return [piece for piece, after in itertools.pairwise(pieces) if piece.path == after.path]


def numbered(tasks: Sequence[Sequence[Piece]], ends: dict[tuple[str, int], int]) -> list[list[Piece]]:
    """The tasks with the number of each piece's first line. Args: ends: (path, start) → line ends in that piece.

    A line that is open at the start of a piece belongs to the piece before, so what begins in a piece has its number by the ends
    before it, plus one for the open line.
    """
    seen: dict[str, int] = {}
    placed: list[list[Piece]] = []
    for task in tasks:
        placed.append([])
        for piece in task:
            before = seen.get(piece.path, 0)
            placed[-1].append(replace(piece, first=before + 1))
            seen[piece.path] = before + ends.get((piece.path, piece.start), 0)
    return placed


def read_piece(piece: Piece, limit: int = BLOCK) -> Iterator[Lines]:
    """The lines of a piece, at most about `limit` bytes at once. Raises FormatError where a compressed file cannot be read to its end."""
    path = Path(piece.path)
    if not is_packed(path):
        with open_log(path) as file:
            start = b"" if piece.start else file.read(CHUNK)
            refuse_utf16(start[:2], piece)
            if ends_with_returns(start):
                file.seek(len(BOM) if start.startswith(BOM) else 0)
                yield from whole_lines(with_feeds(exact_blocks(file, piece, limit)), 1, limit)
            else:
                yield from whole_lines(plain_blocks(file, piece, limit), piece.first + int(starts_inside(file, piece)), limit)
        return
    with open_log(path) as raw:
        if not piece.end:
            return
        try:
            content = unpacked(path, raw)
            first = content.read(CHUNK)
            refuse_utf16(first[:2], piece)
            text = first.removeprefix(BOM)
            blocks = itertools.chain([text] if text else [], iter(lambda: content.read(CHUNK), b""))
            yield from whole_lines(with_feeds(blocks) if ends_with_returns(first) else blocks, 1, limit)
        except BROKEN as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise FormatError(
                f"{piece.file}: not readable after byte {raw.tell():,} of {piece.end:,}: {error}; "
                "nothing of the file was published: deliver it again and run the night again"
            ) from error


def refuse_utf16(start: bytes, piece: Piece) -> None:
    """Raise FormatError for a file that says of itself that it is UTF-16: half of its bytes would be NULs. Args: start, two bytes."""
    if start in UTF16:
        raise FormatError(
            f"{piece.file}: is UTF-16, expected UTF-8; deliver it converted (iconv -f UTF-16 -t UTF-8) and run the night again"
        )


def starts_inside(file: IO[bytes], piece: Piece) -> bool:
    """Return True if a piece of a plain file begins inside of a line, which then belongs to the piece before."""
    if not piece.start:
        return False
    file.seek(piece.start - 1)
    return file.read(1) != b"\n"


def plain_blocks(file: IO[bytes], piece: Piece, limit: int) -> Iterator[bytes]:
    """The bytes of the lines that begin in a piece: without the line that is open at its start, with the end of its last one."""
    at = piece.start
    if starts_inside(file, piece):
        file.seek(at)
        while True:
            line = file.readline(CHUNK)
            at += len(line)
            if not line or line.endswith(b"\n") or at >= piece.end:
                break
        if at >= piece.end:
            return
    file.seek(at)
    if not at and file.read(len(BOM)) != BOM:
        file.seek(0)
    last = b"\n"
    for data in exact_blocks(file, piece, limit):
        last = data[-1:]
        yield data
    while last != b"\n" and (data := file.readline(CHUNK)):
        last = data[-1:]
        yield data


def exact_blocks(file: IO[bytes], piece: Piece, limit: int) -> Iterator[bytes]:
    """Yield the bytes from where a file stands to the end of a piece. Raises TransientError if the file has become shorter."""
    at = file.tell()
    while at < piece.end and (data := file.read(min(limit, piece.end - at))):
        at += len(data)
        yield data
    if at < piece.end:
        raise TransientError(
            f"{piece.file}: {piece.end:,} bytes when the night began, {at:,} when it was read: it was cut or replaced meanwhile; "
            "run the night again once the file is whole"
        )


def whole_lines(blocks: Iterator[bytes], first: int, limit: int) -> Iterator[Lines]:
    """Blocks of bytes as lines. What is open at the end of a block is carried over, no more than MAX_LINE bytes of it and a mark."""
    held: list[bytes | memoryview] = []
    n_held = carried = 0
    for data in blocks:
        end = data.rfind(b"\n") + 1
        if not end:
            # A line without an end: only so much of it is kept that it is seen to be too long.
            if carried <= MAX_LINE:
                held.append(memoryview(data)[: MAX_LINE + 1 - carried])
                n_held += len(held[-1])
            carried += len(data)
            continue
        start = 0
        if carried > MAX_LINE:
            start = data.index(b"\n")
        held.append(memoryview(data)[start:end] if start or end < len(data) else data)
        n_held += end - start
        rest = data[end:]
        carried = len(rest)
        if n_held >= limit:
            lines = split_lines(b"".join(held), first)
            yield lines
            first += len(lines.texts)
            held, n_held = [], 0
        if rest:
            kept = memoryview(rest)[: MAX_LINE + 1]
            held.append(kept)
            n_held += len(kept)
    if n_held:
        yield split_lines(b"".join(held), first)


def split_lines(data: bytes, first: int) -> Lines:
    """Bytes as numbered lines; bytes that are not UTF-8 become U+FFFD."""
    import pyarrow as pa
    import pyarrow.compute as pc

    n_returns = 0
    if b"\r" in data:
        if b"\r\n" in data:
            data = data.replace(b"\r\n", b"\n")
        if data.endswith(b"\r"):
            data = data[:-1] + b"\n"
        n_returns = data.count(b"\r")
    if data and not data.endswith(b"\n"):
        data += b"\n"
    starts = np.append(0, np.flatnonzero(np.frombuffer(data, np.uint8) == FEED) + 1).astype(np.int32)
    whole = pa.BinaryArray.from_buffers(pa.binary(), len(starts) - 1, [None, pa.py_buffer(starts), pa.py_buffer(data)])
    kept = pc.binary_slice(whole, 0, -1)
    texts = pa.StringArray.from_buffers(len(kept), *kept.buffers()[1:])
    lengths, replaced = np.diff(starts) - 1, np.zeros(len(kept), dtype=bool)
    n_cut = int((lengths > MAX_LINE).sum())
    if not n_cut and is_utf8(texts):
        return Lines(texts, first, replaced, 0, n_returns)
    odd = np.unique(np.searchsorted(starts, np.flatnonzero(np.frombuffer(data, np.uint8) >= 0x80), side="right") - 1)
    fixed: dict[int, str] = {}
    for number in np.union1d(odd, np.flatnonzero(lengths > MAX_LINE)).tolist():
        raw = kept[number].as_py()
        if len(raw) > MAX_LINE:
            raw = cut(raw)
        text = raw.decode(errors="replace")
        replaced[number] = text.encode() != raw
        if replaced[number] or len(raw) < lengths[number]:
            fixed[number] = text
    if fixed:
        texts = replace_some(texts, fixed)
    return Lines(texts, first, replaced, n_cut, n_returns)


def is_utf8(texts: pa.StringArray) -> bool:
    """Return whether all texts are valid UTF-8."""
    import pyarrow as pa

    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def cut(line: bytes) -> bytes:
    """The first MAX_LINE bytes of a line, or a few less, so that no letter is cut in two."""
    end = MAX_LINE
    while end > MAX_LINE - 4 and line[end] & 0xC0 == 0x80:
        end -= 1
    return line[:end]


def replace_some(texts: pa.StringArray, fixed: dict[int, str]) -> pa.StringArray:
    """The texts with some of them exchanged."""
    import pyarrow as pa

    parts, done = [], 0
    for number, text in fixed.items():
        parts += [texts.slice(done, number - done), pa.array([text], pa.string())]
        done = number + 1
    return pa.concat_arrays([*parts, texts.slice(done)])
