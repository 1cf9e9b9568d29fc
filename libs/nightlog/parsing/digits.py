"""The digits that no expression tells apart: in lines of one shape they are made one (see `nightlog.parsing.shapes`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from re import _constants as sre  # type: ignore[attr-defined]  # Python's own parser of expressions has no public name
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np

DIGITS = range(0x30, 0x3A)


def digits_alike(patterns: Sequence[re.Pattern[str]]) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Return which digits may be exchanged without any pattern noticing.

    Returns: a table of 256 bytes that maps each digit to the least one that is like it, and digits that stay as they are before
    certain bytes: the 0 of `0x` differs from other digits, but only before an x. If a pattern refers back to what it has matched, each
    digit stays as it is.
    """
    apart: list[frozenset[int]] = []
    before: list[tuple[int, frozenset[int]]] = []
    for pattern in patterns:
        for kind, found in distinctions(sre_parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE | re.ASCII)):
            if kind is None:
                apart.append(found)
            else:
                before.append((kind, found))
    classes: dict[tuple[bool, ...], list[int]] = {}
    named = {digit for digit, _ in before}
    for digit in DIGITS:
        classes.setdefault(tuple(digit in each for each in apart), []).append(digit)
    table = np.arange(256, dtype=np.uint8)
    for members in classes.values():
        like = next((digit for digit in members if digit not in named), None)
        for digit in members:
            # A digit that matters before some bytes must not be what another digit is changed to.
            table[digit] = digit if like is None else like
    return table, [(digit, np.array(sorted(after), dtype=np.uint8)) for digit, after in before]


def runs_of(table: np.ndarray) -> list[tuple[int, int, int]]:
    """Return which bytes a table changes: runs of neighbours that become one byte, each as (its first byte, their number, that byte)."""
    runs: list[tuple[int, int, int]] = []
    for byte in np.flatnonzero(table != np.arange(256)).tolist():
        first, n, other = runs[-1] if runs else (-1, 0, -1)
        if runs and byte == first + n and table[byte] == other:
            runs[-1] = (first, n + 1, other)
        else:
            runs.append((byte, 1, int(table[byte])))
    return runs


def change_runs(data: np.ndarray, runs: Sequence[tuple[int, int, int]], out: np.ndarray) -> None:
    """Write bytes with runs of neighbours (see `runs_of`) changed: by arithmetic, which is several times faster than a table."""
    if not runs:
        out[...] = data
    changed = data
    for first, n, other in runs:
        in_run = (data - np.uint8(first) < n).view(np.uint8)
        np.negative(in_run, out=in_run)  # all bits, or none
        in_run &= data ^ np.uint8(other)
        changed = np.bitwise_xor(changed, in_run, out=out)


def distinctions(tree: Any) -> Iterator[tuple[int | None, frozenset[int]]]:
    """The sets of digits that an expression tells from others: (None, digits), or (a digit, the bytes before which alone it matters)."""
    nodes = list(tree)
    for number, (kind, value) in enumerate(nodes):
        if kind in (sre.LITERAL, sre.NOT_LITERAL):
            if value in DIGITS:
                after = following(nodes[number + 1 :]) if kind is sre.LITERAL else None
                yield (None, frozenset([value])) if after is None else (value, after)
        elif kind is sre.IN:
            members = frozenset(digit for digit in DIGITS if any(holds(item, digit) for item in value))
            if 0 < len(members) < len(DIGITS):
                yield None, members
        elif kind in (sre.GROUPREF, sre.GROUPREF_EXISTS, sre.GROUPREF_IGNORE):
            yield from ((None, frozenset([digit])) for digit in DIGITS)
        elif isinstance(value, (tuple, list)):
            for part in value if kind is not sre.BRANCH else value[1]:
                if isinstance(part, sre_parser.SubPattern):
                    yield from distinctions(part)
        elif isinstance(value, sre_parser.SubPattern):
            yield from distinctions(value)


def following(nodes: list[Any]) -> frozenset[int] | None:
    """Return the bytes one of which must come next, letters in both cases; None if letters alone do not decide that."""
    if not nodes:
        return None
    kind, value = nodes[0]
    items = [(kind, value)] if kind is sre.LITERAL else value if kind is sre.IN else []
    letters = [item for each, item in items if each is sre.LITERAL]
    if not letters or len(letters) != len(items) or any(letter in DIGITS or letter > 0x7F for letter in letters):
        return None
    return frozenset(ord(case) for letter in letters for case in (chr(letter).lower(), chr(letter).upper()))


def holds(item: tuple[Any, Any], digit: int) -> bool:
    """Return whether a part of a set of letters holds a digit."""
    kind, value = item
    if kind is sre.LITERAL:
        return bool(value == digit)
    if kind is sre.RANGE:
        return bool(value[0] <= digit <= value[1])
    return kind is sre.CATEGORY and value in (sre.CATEGORY_DIGIT, sre.CATEGORY_WORD, sre.CATEGORY_NOT_SPACE)
