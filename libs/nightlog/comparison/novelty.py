"""Rank the lines of a run by what a good run lacks: new words, new pairs of words, severe wording, and new lines around them.

Pure: codes of masked messages in, scores out (see `nightlog.comparison.lines`). Nothing is learned from labels. The constants were chosen
on one half of the labelled build logs of `tests/bench/breakages.py`; docs/how-to/compare.md has both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nightlog.history.severity import wording_severity

WORD = re.compile(r"<[A-Z_]+>|[^\W\d_]+")
AROUND = 5  # lines before and after that count for a line, the nearer the more
OF_AROUND = 0.75  # the share of the lines around, the line itself among them, in a line's score
NO_WORDS = 0.5  # novelty of a new message that has no word, as a row of dashes
GAP = 2  # known lines between new ones that belong to one passage


@dataclass(frozen=True)
class Novelty:
    """Scores of the lines of a run: `score` in [0, 1], (n,) float64; `is_new`, (n,) bool: the good run lacks the line's message."""

    score: np.ndarray
    is_new: np.ndarray


@dataclass(frozen=True)
class Passage:
    """New lines that stand together: rows [first, end), the row with the greatest score, and how many passages have the same such line."""

    first: int
    end: int
    top: int
    n_new: int
    n_alike: int


def novelty(codes: np.ndarray, good: np.ndarray, messages: Sequence[str], files: np.ndarray) -> Novelty:
    """Compare the lines of a run with those of a good run.

    A new message scores by the share of its words, and of its pairs of words, that no message of the good run has, times (1 + severity of
    its wording) / 2. The score of a line is a mean of its own and that of the lines around it in its file.

    Args: codes, good: the codes of the lines of the run and of the good run, (n,) and (m,) int64; messages: by their codes; files: (n,) a
    number per line that changes with the file.
    """
    seen = np.zeros(len(messages), dtype=bool)
    seen[good] = True
    new = np.zeros(len(messages), dtype=bool)
    new[codes] = True
    of_message = np.zeros(len(messages))
    chosen, known = (np.flatnonzero(each).tolist() for each in (new & ~seen, seen))
    of_message[chosen] = novelty_of([messages[code] for code in chosen], [messages[code] for code in known])
    own = of_message[codes]
    return Novelty((1 - OF_AROUND) * own + OF_AROUND * around(own, files), ~seen[codes])


def novelty_of(new: Sequence[str], good: Sequence[str]) -> np.ndarray:
    """Return the novelty of each new message, (n,) in [0, 1].

    >>> novelty_of(["user <NUM> logged off", "sun sets", "fatal: sun sets"], ["user <NUM> logged in"]).round(2).tolist()
    [0.16, 0.5, 0.9]
    """
    words, pairs = set[str](), set[tuple[str, str]]()
    for message in good:
        found = WORD.findall(message)
        words.update(found)
        pairs.update(pairs_of(found))
    scores = np.full(len(new), NO_WORDS)
    for number, message in enumerate(new):
        if found := WORD.findall(message):
            own, between = set(found), set(pairs_of(found))
            scores[number] = (len(own - words) / len(own) + len(between - pairs) / len(between)) / 2
        scores[number] *= (1 + wording_severity(message)) / 2
    return scores


def pairs_of(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return each two neighbours of a message, its beginning and its end among them."""
    return list(pairwise(["", *words, ""]))


def around(own: np.ndarray, files: np.ndarray) -> np.ndarray:
    """Return the mean of the lines around each line, by triangular weights, within its file. Beyond the ends of a file is nothing new."""
    weights = np.concatenate([np.arange(1, AROUND + 2), np.arange(AROUND, 0, -1)]) / (AROUND + 1) ** 2
    ends = np.flatnonzero(np.diff(files, append=-1 if len(files) else []))
    found, start = np.zeros(len(own)), 0
    for end in (ends + 1).tolist():
        found[start:end] = np.convolve(np.pad(own[start:end], AROUND), weights, "valid")
        start = end
    return found


def passages(found: Novelty, codes: np.ndarray, files: np.ndarray) -> list[Passage]:
    """Return the passages with new lines, the most novel first; those that share their most novel message are one.

    At most GAP known lines stand between two new lines of a passage.
    """
    rows = np.flatnonzero(found.is_new)
    if not len(rows):
        return []
    starts = np.flatnonzero((np.diff(rows, prepend=-GAP - 2) > GAP + 1) | (np.diff(files[rows], prepend=-1) != 0))
    ends = np.append(starts[1:], len(rows))
    of_passage = np.repeat(np.arange(len(starts)), ends - starts)
    best = rows[np.lexsort((-found.score[rows], of_passage))[starts]]
    by_message: dict[int, list[int]] = {}
    for number in np.argsort(-found.score[best], kind="stable").tolist():
        by_message.setdefault(int(codes[best[number]]), []).append(number)
    found_passages = []
    for first, *others in by_message.values():
        start, end = int(rows[starts[first]]), int(rows[ends[first] - 1]) + 1
        found_passages.append(Passage(start, end, int(best[first]), int(ends[first] - starts[first]), 1 + len(others)))
    return found_passages
