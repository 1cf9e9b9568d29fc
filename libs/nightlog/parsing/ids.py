"""Find ids of letters and digits in the bytes of lines: UUIDs, hashes, request ids.

An id is a run of at least `SHORTEST` letters and digits that has both, or a UUID. All ids of one form become equal if a mark is put in
place of each character (see `visibility.MARKS`). A hash of hexadecimal digits keeps the kinds of its first characters, up to the first
letter behind digits or digit behind letters: this is as far as the mask HEX looks before it takes the whole run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nightlog.parsing.pieces import BLOCK, windows

SHORTEST = 6
DIGIT, HEX_LOWER, HEX_UPPER, LOWER, UPPER = 1, 2, 4, 8, 16
# Bytes that UTF-8 lacks, one for each of `visibility.MARKS`, in their order.
MARK_BYTES = bytes(range(0xF8, 0xFF))
ANY_LOWER_HEX, LOWER_HEX, ANY_UPPER_HEX, UPPER_HEX, ANY_LOWER, ANY_UPPER, ANY = MARK_BYTES
UUID_LENGTH, UUID_HYPHENS = 36, (8, 13, 18, 23)


def table_of_kinds() -> np.ndarray:
    """Return the kind of each byte, 0 for those that are neither letters nor digits."""
    table = np.zeros(256, dtype=np.uint8)
    for kind, characters in (
        (DIGIT, b"0123456789"),
        (HEX_LOWER, b"abcdef"),
        (HEX_UPPER, b"ABCDEF"),
        (LOWER, b"ghijklmnopqrstuvwxyz"),
        (UPPER, b"GHIJKLMNOPQRSTUVWXYZ"),
    ):
        table[list(characters)] = kind
    return table


def table_of_forms() -> np.ndarray:
    """Return the mark of an id, by the kinds of its characters together."""
    table = np.full(32, ANY, dtype=np.uint8)
    for kinds in range(32):
        if not kinds & (HEX_UPPER | UPPER):
            table[kinds] = ANY_LOWER if kinds & LOWER else ANY_LOWER_HEX
        elif not kinds & (HEX_LOWER | LOWER):
            table[kinds] = ANY_UPPER if kinds & UPPER else ANY_UPPER_HEX
    return table


KINDS, FORMS = table_of_kinds(), table_of_forms()
NO_HEX = 0x80
HEX_KINDS = np.where((KINDS > 0) & (KINDS < LOWER), KINDS, np.uint8(NO_HEX)).tobytes()
# 1 for digits, 2 for letters: beside each other they add up to 3.
CLASSES = np.minimum(KINDS, 2)


@dataclass(frozen=True)
class Ids:
    """Ids in a buffer of bytes, in their order: arrays of one place each.

    `line`: the number of the line; `first`, `last`: the bytes [first, last); `form`: the mark of most characters; `lead`: the number of
    first characters of a hash that keep their kind, -1 for a UUID.
    """

    line: np.ndarray
    first: np.ndarray
    last: np.ndarray
    form: np.ndarray
    lead: np.ndarray

    def where(self, chosen: np.ndarray) -> Ids:
        """Return some of the ids. Args: chosen: their places, or a mask."""
        return Ids(self.line[chosen], self.first[chosen], self.last[chosen], self.form[chosen], self.lead[chosen])

    def at(self, line: np.ndarray, by: np.ndarray | int) -> Ids:
        """Return the ids in another buffer, in which they are in these lines and begin so many bytes later."""
        return Ids(line, self.first + by, self.last + by, self.form, self.lead)


def find_ids(data: np.ndarray, starts: np.ndarray, uuids_alone: bool = False) -> Ids:
    """Return the ids of lines, or of these the UUIDs alone.

    Args: data: bytes of all lines; starts: where each line begins, and where the last one ends.
    """
    found = []
    for line, begin, end, lines in blocks(starts, 4 * BLOCK if uuids_alone else BLOCK):  # UUIDs need less memory per byte
        ids = find_in_block(data[begin:end], lines - begin, uuids_alone)
        if len(ids.line):
            found.append(ids.at(ids.line + line, begin))
    names = Ids.__dataclass_fields__
    return Ids(*(np.concatenate([np.zeros(0, dtype=np.int64), *(getattr(each, name) for each in found)]) for name in names))


def blocks(starts: np.ndarray, n_bytes: int = BLOCK) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield about `n_bytes` of whole lines at a time: the number of the first line, where they begin and end, and where each begins."""
    line, n = 0, len(starts) - 1
    while line < n:
        after = min(n, max(line + 1, int(np.searchsorted(starts, starts[line] + n_bytes))))
        yield line, int(starts[line]), int(starts[after]), starts[line:after]
        line = after


def find_in_block(data: np.ndarray, starts: np.ndarray, uuids_alone: bool) -> Ids:
    """Return the ids of some lines. Args: starts: where each line begins."""
    uuids, line, form = find_uuids(data, starts)
    if uuids_alone:
        return Ids(line, uuids, uuids + UUID_LENGTH, form, np.full(len(uuids), -1))
    classes = CLASSES[data]
    windows(classes, UUID_LENGTH)[uuids] = np.zeros((), dtype=f"V{UUID_LENGTH}")
    others = find_mixed(data, classes, starts)
    first = np.concatenate([uuids, others.first])
    whole = Ids(
        np.searchsorted(starts, first, side="right") - 1,
        first,
        np.concatenate([uuids + UUID_LENGTH, others.last]),
        np.concatenate([form, others.form]),
        np.concatenate([np.full(len(uuids), -1), others.lead]),
    )
    return whole.where(np.argsort(first, kind="stable")) if len(uuids) and len(others.first) else whole


def find_uuids(data: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the UUIDs of some lines begin that have no letter or digit beside them, their lines, and their marks."""
    hyphens = np.flatnonzero(data == ord("-"))
    apart = np.diff(hyphens) == UUID_HYPHENS[1] - UUID_HYPHENS[0]
    at = hyphens[:-3][apart[:-2] & apart[1:-1] & apart[2:]] - UUID_HYPHENS[0] if len(hyphens) > 3 else hyphens[:0]
    at = at[(at >= 0) & (at + UUID_LENGTH <= len(data))]
    line = np.searchsorted(starts, at, side="right") - 1
    ends = np.append(starts[1:], len(data))[line]
    fits = at + UUID_LENGTH <= ends
    fits &= (at == starts[line]) | (KINDS[data[at - 1]] == 0)
    fits &= (at + UUID_LENGTH == ends) | (KINDS[data[np.minimum(at + UUID_LENGTH, len(data) - 1)]] == 0)
    at, line = at[fits], line[fits]
    kinds = np.frombuffer(windows(data, UUID_LENGTH)[at].tobytes().translate(HEX_KINDS), np.uint8).reshape(-1, UUID_LENGTH).copy()
    kinds[:, UUID_HYPHENS] = 0
    fours = kinds.view(np.uint32)
    together = np.bitwise_or.reduce(fours.T.copy(), axis=0).view(np.uint8).reshape(-1, 4)
    together = np.bitwise_or.reduce(together.T.copy(), axis=0)
    is_uuid = together < NO_HEX
    return at[is_uuid], line[is_uuid], FORMS[together[is_uuid]]


def find_mixed(data: np.ndarray, classes: np.ndarray, starts: np.ndarray) -> Ids:
    """Return runs of letters and digits that have both; `line` is not known yet. Args: classes: CLASSES of the bytes, 0 in UUIDs."""
    mixed = classes[1:] + classes[:-1] == 3
    mixed[starts[(starts > 0) & (starts < len(data))] - 1] = False
    beside = np.flatnonzero(mixed)
    if not len(beside):
        nothing = np.zeros(0, dtype=np.int64)
        return Ids(nothing, nothing, nothing, nothing.astype(np.uint8), nothing)
    parts = classes != 0
    edge = ~parts
    edge[starts[starts < len(data)]] = True
    edges = np.append(np.flatnonzero(edge), len(data))
    number = np.unique(np.searchsorted(edges, beside, side="right"))  # of the edge behind each run
    first, last = edges[number - 1], edges[number]
    first = first + (classes[first] == 0)
    is_long = last - first >= SHORTEST
    first, last = first[is_long], last[is_long]
    pairs = np.stack([first, last], axis=1).ravel()
    kinds = np.append(KINDS[data], np.uint8(0))
    form = FORMS[np.bitwise_or.reduceat(kinds, pairs)[::2]] if len(first) else np.zeros(0, dtype=np.uint8)
    lead = np.zeros(len(first), dtype=np.int64)
    is_hash = np.isin(form, (ANY_LOWER_HEX, ANY_UPPER_HEX))
    lead[is_hash] = lead_of(kinds, first[is_hash])
    return Ids(first, first, last, form, lead)


def lead_of(kinds: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the number of characters of each hash up to and with the first that is of another kind than those before it."""
    lead = np.ones(len(first), dtype=np.int64)
    starts_with_digit = kinds[first] == DIGIT
    left = np.arange(len(first))
    while len(left):
        left = left[(kinds[first[left] + lead[left]] == DIGIT) == starts_with_digit[left]]
        lead[left] += 1
    return lead + 1


def put_marks(data: np.ndarray, ids: Ids) -> None:
    """Put the marks of ids in the places of their characters, in a buffer of bytes that is changed."""
    is_uuid = ids.lead < 0
    for form in np.unique(ids.form[is_uuid]).tolist():
        marked = np.full(UUID_LENGTH, form, dtype=np.uint8)
        marked[list(UUID_HYPHENS)] = ord("-")
        windows(data, UUID_LENGTH)[ids.first[is_uuid & (ids.form == form)]] = marked.view(f"V{UUID_LENGTH}")[0]
    others = ids.where(~is_uuid) if is_uuid.any() else ids
    for begin in range(0, len(others.first), BLOCK >> 4):
        put_other_marks(data, others.where(np.arange(begin, min(len(others.first), begin + (BLOCK >> 4)))))


def put_other_marks(data: np.ndarray, ids: Ids) -> None:
    """Put the marks of ids that are no UUIDs in the places of their characters."""
    for place in range(int(ids.lead.max(initial=0))):
        longer = ids.lead > place
        at = ids.first[longer] + place
        letters = KINDS[data[at]] != DIGIT
        data[at[letters]] = ids.form[longer][letters] + 1  # the mark of the letters alone follows that of both
    begin = ids.first + ids.lead
    lengths = ids.last - begin
    ends = np.cumsum(lengths)
    data[np.repeat(begin - (ends - lengths), lengths) + np.arange(ends[-1])] = np.repeat(ids.form, lengths)
