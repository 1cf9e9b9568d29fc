"""Lines to compare, block by block: those of log files, or those of a night of the lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nightlog.errors import NotThere
from nightlog.ingest.splits import Piece, read_piece
from nightlog.lake.lake import Lake
from nightlog.lake.parts import read_part
from nightlog.lake.tables import LINES_TABLE

ROWS = 1 << 20  # of a block of the lake


@dataclass(frozen=True)
class Block:
    """Lines that follow each other in one file: its name, the texts, and the number of each line.

    A carriage return ends a line here, too: its parts have the same number.
    """

    file: str
    texts: pa.StringArray
    line_no: np.ndarray


def log_files(place: Path) -> list[Path]:
    """Return the file, or all files of a folder and the folders in it, by path. Raises NotThere if there is none."""
    if place.is_file():
        return [place]
    found = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not found:
        raise NotThere(f"{place}: {'no file in this folder' if place.is_dir() else 'no such file or folder'}")
    return found


def file_blocks(place: Path) -> Iterator[Block]:
    """Yield the lines of a log file, or of a folder of them. Raises NotThere, or FormatError for a file that cannot be read."""
    for path in log_files(place):
        name = path.name if path == place else str(path.relative_to(place))
        for lines in read_piece(Piece(str(path), name, "", 0, path.stat().st_size)):
            numbers = np.arange(lines.first, lines.first + len(lines.texts))
            yield split_returns(name, lines.texts, numbers) if lines.n_returns else Block(name, lines.texts, numbers)


def split_returns(file: str, texts: pa.StringArray, line_no: np.ndarray) -> Block:
    """Return the lines as a block, split at carriage returns.

    >>> split_returns("f", pa.array(["10 %\\r20 %", "done"]), np.array([7, 8])).line_no.tolist()
    [7, 7, 8]
    """
    parts = [text.split("\r") for text in texts.to_pylist()]
    return Block(file, pa.array([part for each in parts for part in each], pa.string()), np.repeat(line_no, [len(each) for each in parts]))


def night_blocks(lake: Lake, system: str, ds: str) -> Iterator[Block]:
    """Yield the lines of a system's night, as they were delivered, by file and line number."""
    parts = sorted(lake.parts(LINES_TABLE, system=system, ds=ds), key=lambda part: part.path)
    for part in parts:
        rows = read_part(lake.root, LINES_TABLE, part.path, ["file", "line_no", "text"])
        coded = rows.column("file").combine_chunks().dictionary_encode()
        file, numbers = np.asarray(coded.indices), rows.column("line_no").to_numpy()
        order = np.lexsort((numbers, file))
        rows, file, numbers = rows.take(order), file[order], numbers[order]
        starts = np.flatnonzero(np.diff(file, prepend=-1) != 0)
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(file)], strict=True):
            for at in range(start, end, ROWS):
                stop = min(end, at + ROWS)
                texts = rows.column("text").slice(at, stop - at).combine_chunks()
                yield split_returns(coded.dictionary[int(file[at])].as_py(), texts, numbers[at:stop])


def pick(blocks: Iterator[Block], rows: Sequence[int]) -> list[str]:
    """Return the texts of some lines, by their places in the order of all blocks. Args: rows: in rising order."""
    wanted, found, before = np.asarray(rows, dtype=np.int64), list[str](), 0
    for block in blocks:
        own = wanted[(wanted >= before) & (wanted < before + len(block.texts))] - before
        found += block.texts.take(pa.array(own, pa.int64())).to_pylist() if len(own) else []
        before += len(block.texts)
    return found
