"""Numbers in messages: where they stand in the lines of a shape, and a night's lowest and highest for each place of a template.

Messages are masked before they are stored, so numbers are looked at while lines are parsed: those that the mask NUM takes out. Lines of a
shape have their digits at the same places, so that values are read from whole columns of bytes, eight digits at a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nightlog.systems.spec import Mask

NUM = "NUM"
HOLDER = f"<{NUM}>"
PLAIN = re.compile(r"([-+]?)([0-9]+)(?:\.([0-9]+))?")
# More digits name things, and a double could not hold them; numbers behind so many of a message are left out.
MOST_DIGITS = 15
MOST_NUMBERS = 16
WIDTH = 8
BYTES = np.uint64(8)


class Number(NamedTuple):
    """A number of a line: the place behind it in the line's bytes, its digits before and behind the point, and its sign.

    Without digits it is no plain number.
    """

    end: int
    whole: int
    part: int
    negative: bool


def looked_at(masks: Sequence[Mask]) -> bool:
    """Return whether numbers can be told from what is masked before: the mask NUM is the last."""
    return bool(masks) and masks[-1].placeholder == HOLDER


def number_of(text: str, end: int) -> Number:
    """Return what stands in a message and ends at a place of the line.

    >>> number_of("-12.50", 30), number_of("1.2.3", 30)
    (Number(end=30, whole=2, part=2, negative=True), Number(end=30, whole=0, part=0, negative=False))
    """
    found = PLAIN.fullmatch(text)
    if found is None or len(found[2]) + len(found[3] or "") > MOST_DIGITS:
        return Number(end, 0, 0, False)
    return Number(end, len(found[2]), len(found[3] or ""), found[1] == "-")


def digits(data: np.ndarray, ends: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The numbers, at most WIDTH digits each, whose digits end at places of a buffer of at least WIDTH bytes; no digits are 0."""
    begins = ends - WIDTH
    eight = np.ndarray((len(data) - WIDTH + 1,), dtype="<u8", buffer=data, strides=(1,))[np.maximum(begins, 0)]
    if len(early := np.flatnonzero((begins < 0) & (begins > -WIDTH))):
        eight[early] <<= BYTES * (-begins[early]).astype(np.uint64)
    drop = (BYTES * (WIDTH - n).astype(np.uint64)).astype(np.uint64)
    gone = drop == BYTES * BYTES  # a shift by all bits is none
    drop[gone] = 0
    found = (((eight >> drop) << drop) & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(2561) >> np.uint64(8)
    found = (found & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601) >> np.uint64(16)
    found = (found & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001) >> np.uint64(32)
    found[gone] = 0
    return np.asarray(found, dtype=np.float64)


def long_digits(data: np.ndarray, ends: np.ndarray, n: np.ndarray) -> np.ndarray:
    """As `digits`, at most two times as many."""
    found = digits(data, ends, np.minimum(n, WIDTH))
    if len(many := np.flatnonzero(n > WIDTH)):
        found[many] += 1e8 * digits(data, ends[many] - WIDTH, n[many] - WIDTH)
    return found


def values_at(data: np.ndarray, ends: np.ndarray, whole: np.ndarray, part: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """The numbers that end at places of a buffer, as a program that reads them one by one would. Args as those of `Number` and `digits`."""
    if not part.any():
        found = long_digits(data, ends, whole)
    else:
        ten = 10.0**part
        # Both are whole numbers of at most 15 digits, so that the division rounds once.
        found = (long_digits(data, ends - part - (part > 0), whole) * ten + long_digits(data, ends, part)) / ten
    return np.where(negative, -found, found)


def find_ranges(
    data: np.ndarray, starts: np.ndarray, numbers: Sequence[Sequence[Number]], of_row: np.ndarray, code: np.ndarray, n_codes: int
) -> dict[str, np.ndarray]:
    """The lowest and the highest number of each place of each message.

    Args: data, bytes of the lines; starts, where each matched line begins; numbers, those of each shape; of_row, the shape of each matched
    line; code, the number of each shape's message.
    Returns: columns code, nth (which number of the message, from 0), n, low, low_row, high, high_row (the first such line).
    """
    flat = np.array([(at, nth, *each) for at, stand in enumerate(numbers) for nth, each in enumerate(stand)], dtype=np.int64)
    names = ("code", "nth", "n", "low", "low_row", "high", "high_row")
    found: list[tuple[np.ndarray, ...]] = []
    data = data if len(data) >= WIDTH else np.append(data, np.zeros(WIDTH, dtype=np.uint8))
    for nth in range(1 + int(flat[:, 1].max()) if len(flat) else 0):
        shape, _, end, whole, part, negative = flat[flat[:, 1] == nth].T
        of_shape = np.zeros((4, len(numbers)), dtype=np.int64)
        of_shape[:, shape] = end, whole, part, negative
        rows = np.flatnonzero((of_shape[1] > 0)[of_row])
        if not len(rows):
            continue
        each = of_row[rows]
        end, whole, part, negative = (column[each] for column in of_shape)
        values = values_at(data, starts[rows] + end, whole, part, negative.astype(bool))
        codes = code[each]
        n = np.bincount(codes, minlength=n_codes)
        low, high = np.full(n_codes, np.inf), np.full(n_codes, -np.inf)
        np.minimum.at(low, codes, values)
        np.maximum.at(high, codes, values)
        seen = np.flatnonzero(n)
        first = [first_rows(rows, codes, values == bound[codes], n_codes)[seen] for bound in (low, high)]
        found.append((seen, np.full(len(seen), nth), n[seen], low[seen], first[0], high[seen], first[1]))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)] if found else [np.zeros(0)] * len(names)
    return dict(zip(names, columns, strict=True))


def first_rows(rows: np.ndarray, codes: np.ndarray, there: np.ndarray, n_codes: int) -> np.ndarray:
    """For each code the first of the rows for which something holds."""
    places = np.flatnonzero(there)[::-1]
    first = np.zeros(n_codes, dtype=np.int64)
    first[codes[places]] = rows[places]  # of several for one code the last stays
    return first


def joined_ranges(found: pa.Table) -> pa.Table:
    """Return ranges of several parts as one row per (ds, message_id, nth). Args: found: columns as those of `of_templates`."""
    key = ["ds", "message_id", "nth"]
    by_key = [(name, "ascending") for name in key]
    columns = found.sort_by(by_key).group_by(key, use_threads=False).aggregate([("n", "sum")]).rename_columns({"n_sum": "n"})
    for side, order in (("low", "ascending"), ("high", "descending")):
        names = [side, f"{side}_file", f"{side}_line"]
        ordered = found.sort_by([*by_key, (side, order), *((name, "ascending") for name in names[1:])])
        best = ordered.group_by(key, use_threads=False).aggregate([(name, "first") for name in names])
        for name in names:
            columns = columns.append_column(name, best.column(f"{name}_first"))
    return columns.select(found.column_names)


def places_in(message: str) -> list[tuple[int, int]]:
    """For each number of a masked message which word holds it, and which number of the word it is, both from 1.

    >>> places_in("sent <NUM> of <NUM>/<NUM> <IP>")
    [(2, 1), (4, 1), (4, 2)]
    """
    counts = [(word, token.count(HOLDER)) for word, token in enumerate(message.split(), 1)]
    return [(word, nth) for word, n in counts for nth in range(1, n + 1)]


def of_templates(found: pa.Table, messages: Mapping[int, str], templates: Mapping[int, str]) -> pd.DataFrame:
    """Minimum and maximum of each number, per template position.

    Args: found (ds, message_id, nth, n, low, low_file, low_line, high, high_file, high_line), parts of nights in any order; messages and
    templates by message id. Returns (ds, template_id, word, nth, …); of equal values the first file and line.
    """
    import pandas as pd

    rows = found.to_pandas()
    placed = {number: places_in(messages[number]) for number in rows["message_id"].unique().tolist()}
    places = [placed[number][nth] for number, nth in zip(rows["message_id"].tolist(), rows["nth"].tolist(), strict=True)]
    rows["template_id"] = [templates[number] for number in rows["message_id"].tolist()]
    rows["word"], rows["nth"] = zip(*places, strict=True)
    key = ["ds", "template_id", "word", "nth"]
    sums = rows.groupby(key)["n"].sum()
    sides = [
        rows.sort_values([name, f"{name}_file", f"{name}_line"], ascending=[name == "low", True, True])
        .drop_duplicates(key)
        .set_index(key)[[name, f"{name}_file", f"{name}_line"]]
        for name in ("low", "high")
    ]
    return pd.concat([sums, *sides], axis=1).sort_index().reset_index()
