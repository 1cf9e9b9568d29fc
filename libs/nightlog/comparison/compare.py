"""Compare a run with a good one, line by line: files, folders, or nights of the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightlog.comparison.blocks import Block, pick
from nightlog.comparison.lines import Coder
from nightlog.comparison.novelty import Novelty, Passage, novelty, passages
from nightlog.systems.spec import DEFAULT_MASKS, Mask

# A source of lines that can be read more than once.
Source = Callable[[], Iterator[Block]]
HEAD, TAIL = 10, 2  # lines of a long passage that are shown


@dataclass(frozen=True)
class Run:
    """The lines of a run, by file and line.

    Each (n,) int64: codes of their messages, number of the file in `names`, number in the file, and place in the order of the blocks.
    """

    codes: np.ndarray
    files: np.ndarray
    line_no: np.ndarray
    place: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A line as it is shown: its place, its text, its score, and if the good run lacks its message."""

    file: str
    line_no: int
    text: str
    score: float
    is_new: bool


@dataclass(frozen=True)
class Shown:
    """A passage to show: `lines` with those around it; None stands for lines that are left out."""

    passage: Passage
    lines: tuple[Line | None, ...]


def read_run(blocks: Iterator[Block], coder: Coder) -> Run:
    """Read a run once."""
    codes, files, numbers, names = list[np.ndarray](), list[np.ndarray](), list[np.ndarray](), dict[str, int]()
    for block in blocks:
        codes.append(coder.code(block.texts))
        files.append(np.full(len(block.texts), names.setdefault(block.file, len(names)), dtype=np.int64))
        numbers.append(np.asarray(block.line_no, dtype=np.int64))
    none = [np.zeros(0, dtype=np.int64)]
    whole = [np.concatenate(each or none) for each in (codes, files, numbers)]
    place = np.lexsort((whole[2], whole[1]))  # the parts of a large file lie in the lake in any order
    return Run(whole[0][place], whole[1][place], whole[2][place], place, tuple(names))


class Comparison:
    """A run against a good run. The texts of its lines are read again when they are shown."""

    def __init__(self, run: Source, good: Source, masks: Sequence[Mask] = DEFAULT_MASKS):
        coder = Coder(masks)
        good_codes = read_run(good(), coder).codes
        self.source, self.run = run, read_run(run(), coder)
        self.found: Novelty = novelty(self.run.codes, good_codes, coder.messages, self.run.files)
        self.n_good = len(good_codes)

    def rows(self) -> list[dict[str, Any]]:
        """Return each new line, the most novel first: file, line_no, score, text, and how many lines of the run have its message."""
        new = np.flatnonzero(self.found.is_new)
        texts = self.texts(new)
        n_same = np.bincount(self.run.codes)[self.run.codes[new]] if len(new) else new
        order = np.argsort(-self.found.score[new], kind="stable").tolist()
        lines = [self.line(int(row), text) for row, text in zip(new, texts, strict=True)]
        return [
            {"file": line.file, "line_no": line.line_no, "score": round(line.score, 4), "text": line.text, "n_same": int(n_same[number])}
            for number in order
            for line in [lines[number]]
        ]

    def passages(self, limit: int, context: int) -> tuple[list[Shown], int]:
        """Return the most novel passages, at most `limit`, with some lines of context, and how many there are in all."""
        found = passages(self.found, self.run.codes, self.run.files)
        wanted = [self.shown_rows(each, context) for each in found[:limit]]
        rows = sorted({row for each in wanted for row in each if row is not None})
        text_of = dict(zip(rows, self.texts(np.array(rows, dtype=np.int64)), strict=True))
        shown = [
            Shown(passage, tuple(None if row is None else self.line(row, text_of[row]) for row in own))
            for passage, own in zip(found, wanted, strict=False)
        ]
        return shown, len(found)

    def texts(self, rows: np.ndarray) -> list[str]:
        """Read the texts of rows, (n,) int64."""
        places = self.run.place[rows]
        order = np.argsort(places)
        text_of = dict(zip(places[order].tolist(), pick(self.source(), places[order].tolist()), strict=True))
        return [text_of[place] for place in places.tolist()]

    def shown_rows(self, passage: Passage, context: int) -> list[int | None]:
        """Return the rows of a passage and those around it in its file; None stands for those left out of a long passage."""
        same = np.flatnonzero(self.run.files[max(0, passage.first - context) : passage.end + context] == self.run.files[passage.first])
        rows = (same + max(0, passage.first - context)).tolist()
        head, tail = passage.first + HEAD, passage.end - TAIL
        if tail - head < 2:
            return list(rows)
        kept = {row for row in rows if row < head or row >= tail or row == passage.top}
        return [row if row in kept else None for row in rows if row in kept or row - 1 in kept]

    def line(self, row: int, text: str) -> Line:
        """Return a line by its row."""
        run = self.run
        return Line(run.names[run.files[row]], int(run.line_no[row]), text, float(self.found.score[row]), bool(self.found.is_new[row]))
