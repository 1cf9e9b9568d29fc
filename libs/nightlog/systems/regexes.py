"""Patterns of a system file: they compile, and none of them explodes on a line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

CANDIDATES = "a0 -/:.,_=[]()<>\"'A\t@x\x01"
CATEGORIES: dict[Any, Callable[[str], bool]] = {
    op.CATEGORY_DIGIT: str.isdigit,
    op.CATEGORY_NOT_DIGIT: lambda c: not c.isdigit(),
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    op.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    op.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}
REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT)
MANY = 8  # repeats that may be so many are tried as if they had no end
PUMPED = 26
PATIENCE_S = 0.05
ENDS = ("\x00", "!", "")


def fits(char: str, members: Any) -> bool:
    """Is a character in a class of the parsed pattern?"""
    negated, found = False, False
    for kind, value in members:
        if kind == op.NEGATE:
            negated = True
        elif kind == op.LITERAL:
            found = found or ord(char) == value
        elif kind == op.RANGE:
            found = found or value[0] <= ord(char) <= value[1]
        elif kind == op.CATEGORY:
            found = found or CATEGORIES[value](char)
    return found != negated


def example(tree: Any) -> str:
    """A text that a parsed pattern most likely matches: one turn of each repeat, the first of each choice."""
    found = []
    for kind, value in tree:
        if kind == op.LITERAL:
            found.append(chr(value))
        elif kind == op.NOT_LITERAL:
            found.append(next(c for c in CANDIDATES if ord(c) != value))
        elif kind == op.ANY:
            found.append("a")
        elif kind == op.IN:
            first = next((chr(v) for k, v in value if k == op.LITERAL), "a")
            found.append(next((c for c in CANDIDATES if fits(c, value)), first))
        elif kind in REPEATS or kind == op.POSSESSIVE_REPEAT:
            found.append(example(value[2]) * max(1, value[0]))
        elif kind == op.SUBPATTERN:
            found.append(example(value[3]))
        elif kind == op.ATOMIC_GROUP:
            found.append(example(value))
        elif kind == op.BRANCH:
            found.append(example(value[1][0]))
    return "".join(found)


def turns(tree: Any) -> list[str]:
    """Texts of one turn of a repeat: one for each of its choices, where it is a choice."""
    nodes = list(tree)
    if len(nodes) == 1 and nodes[0][0] == op.SUBPATTERN:
        return turns(nodes[0][1][3])
    if len(nodes) == 1 and nodes[0][0] == op.BRANCH:
        return [turn for branch in nodes[0][1][1] for turn in turns(branch)]
    return [example(nodes)]


def pumps(tree: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """(what stands before it, one turn of it) for each repeat that may go on and on."""
    for node in tree:
        kind, value = node
        if kind in REPEATS:
            if value[1] >= MANY:
                yield from ((before, turn) for turn in turns(value[2]))
            yield from pumps(value[2], before)
        elif kind == op.SUBPATTERN:
            yield from pumps(value[3], before)
        elif kind == op.BRANCH:
            for branch in value[1]:
                yield from pumps(branch, before)
        before += example([node])


def find_exploding_text(pattern: str) -> str | None:
    """A short text on which the pattern takes twice the time or more for every character, None where none is found.

    Tried are texts made from the pattern itself: each repeat turned up to PUMPED times, with an end that does not match.

    >>> find_exploding_text(r"(?P<message>(\\w+ ?)+)$") is None, find_exploding_text(r"(?P<time>[\\d:]+) (?P<message>.*)") is None
    (False, True)
    """
    compiled = re.compile(pattern)
    for before, turn in dict.fromkeys(pumps(_parser.parse(pattern))):
        for end in ENDS:
            for times in range(4, PUMPED):
                text = before + turn * times + end
                if is_slow(compiled, text) and is_slow(compiled, text):  # once may be the machine's fault
                    return text
    return None


def is_slow(compiled: re.Pattern[str], text: str) -> bool:
    """Does a search take longer than a short text is worth?"""
    started = time.process_time()
    compiled.search(text)
    return time.process_time() - started > PATIENCE_S


def check_pattern(pattern: str) -> str:
    """The pattern, if it is a regular expression that ends on every line. Raises ValueError."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if (text := find_exploding_text(pattern)) is not None:
        raise ValueError(
            f"never ends on a line such as {text!r}: a repeat inside of a repeat can match the same text in many ways; "
            "give each part its own separator, or repeat only once"
        )
    return pattern
