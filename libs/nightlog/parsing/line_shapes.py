"""The shape of each line of a part.

Usually a part has few shapes, and only they are parsed. If lines have ids of letters and digits, most of them differ in their ids alone.
Then ids are replaced by marks (see `ids`), and one line of those that become equal is parsed, if no expression can tell their ids
apart. Ids that an expression can see keep their characters: lines that differ in them are different shapes. What is left is parsed line
by line.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from nightlog.parsing.ids import MARK_BYTES, Ids, blocks, find_ids, put_marks
from nightlog.parsing.number_ranges import Number
from nightlog.parsing.shapes import LineParser, Shape, Text
from nightlog.parsing.visibility import MARK, MARKS

# Shapes that a worker remembers from one part to the next, and how long they may be.
REMEMBERED, REMEMBERED_LENGTH = 50_000, 2_000
# Where hardly two lines have a shape in common, each would be looked at for its numbers, which takes as long as parsing it: beyond so many
# shapes of a part every so many-th is.
FULLY, EVERY = 4096, 25
# Ids are marked if this leaves at most this share of the shapes of so many lines of a part.
SAMPLE, HELPFUL = 2048, 0.7
UUIDS, ALL_IDS = "uuids", "all ids"
# To find out what expressions see of ids takes as long as to parse this number of lines.
LEAST_LINES = 4
# Bytes of lines whose shapes are found together. Memory for so many is used again and again; more would come from the system each time.
TOGETHER = 8 << 20
# Structured records are flattened if more than this share of them are shapes of their own.
MOST_RECORDS = 0.1
ZERO = ord("0")
# Bits of the number of an id in its line; a line that is remembered has fewer ids.
SHIFT = 12
# Ids that can be seen are found in the first rounds; lines with more of them are parsed line by line.
ROUNDS = 4


@dataclass
class ShapeCache:
    """The memory of a worker from one part to the next.

    `shapes`: by their text. `marked`: by their bytes with marks, the shape, or the numbers of the ids that can be seen. `numbers`: where
    the numbers of a shape stand.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    marked: dict[bytes, Shape | frozenset[int]] = field(default_factory=dict)
    numbers: dict[str, tuple[Number, ...]] = field(default_factory=dict)


@dataclass
class Found:
    """The shapes found so far, a text of each, and for each line its place in them, -1 if it is not known yet.

    `places`: what lines of a shape have in common (their text, or their bytes with marks) → its place.
    """

    of_line: np.ndarray
    shapes: list[Shape] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    places: dict[str | bytes, int] = field(default_factory=dict)

    def add(self, key: str | bytes, shape: Shape, text: str) -> int:
        """Return the place of a shape, which is added unless it is there."""
        place = self.places.setdefault(key, len(self.shapes))
        if place == len(self.shapes):
            self.shapes.append(shape)
            self.texts.append(text)
        return place


def shapes_of(text: Text, parser: LineParser, cache: ShapeCache) -> Found:
    """Return the shapes of the lines. Lines that no shape holds for have one of their own; structured records have none then."""
    found, kinds = Found(np.full(text.n, -1)), helpful_marks(text, parser)
    for line, begin, end, starts in blocks(text.starts, TOGETHER):
        block = Text(strings(np.append(starts, end) - begin, text.data[begin:end]))
        find_shapes(block, kinds, parser, cache, replace(found, of_line=found.of_line[line : line + block.n]))
    if parser.records is not None:
        leave_zeros(text, found)
    return found


def find_shapes(text: Text, kinds: str | None, parser: LineParser, cache: ShapeCache, found: Found) -> None:
    """Find the shapes of some lines. Args: kinds: the ids that are marked."""
    left, data = text, parser.shaped(text.data)
    if kinds is not None:
        find_marked(text, data, kinds == UUIDS, parser, cache, found)
        left = chosen_lines(text, found.of_line < 0)
        data = parser.shaped(left.data)
    find_unmarked(text, strings(left.starts, data), parser, cache, found)


def leave_zeros(text: Text, found: Found) -> None:
    """Take the shape from lines with a zero where it must not be, and drop shapes that no line has then."""
    for nth in range(max((len(shape.nonzero) for shape in found.shapes), default=0)):
        place = np.array([shape.nonzero[nth] if nth < len(shape.nonzero) else -1 for shape in found.shapes], dtype=np.int64)
        lines = np.flatnonzero(found.of_line >= 0)
        lines = lines[place[found.of_line[lines]] >= 0]
        is_zero = text.data[text.starts[lines] + place[found.of_line[lines]]] == ZERO
        found.of_line[lines[is_zero]] = -1
    has_shape = found.of_line >= 0
    used = np.unique(found.of_line[has_shape])
    if len(used) < len(found.shapes):
        found.of_line[has_shape] = np.searchsorted(used, found.of_line[has_shape])
        found.shapes, found.texts = ([each[number] for number in used.tolist()] for each in (found.shapes, found.texts))


def strings(starts: np.ndarray, data: np.ndarray, kind: pa.DataType = pa.string()) -> pa.Array:  # noqa: B008 (types are constants)
    """Return bytes as strings. Args: starts: where each begins, and where the last one ends."""
    return pa.Array.from_buffers(kind, len(starts) - 1, [None, pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(data)])


def helpful_marks(text: Text, parser: LineParser) -> str | None:
    """Return whose marks make far fewer shapes of a sample of lines: those of UUIDs or of all ids; None if neither do."""
    if text.n < SAMPLE:
        return None
    sample = Text(strings(text.starts, text.data).take(pa.array(np.linspace(0, text.n - 1, SAMPLE).astype(np.int64))))
    shaped = parser.shaped(sample.data)
    best, helpful = None, HELPFUL * n_shapes_with(strings(sample.starts, shaped))
    for kinds in (UUIDS, ALL_IDS):
        ids = find_ids(shaped, sample.starts, kinds == UUIDS)
        if len(ids.line) and (n := n_shapes_with(marked_strings(sample.starts, shaped.copy(), ids))) <= helpful:
            best, helpful = kinds, HELPFUL * n
    return best


def n_shapes_with(texts: pa.Array) -> int:
    """Return the number of different texts."""
    return len(texts.dictionary_encode().dictionary)


def marked_strings(starts: np.ndarray, data: np.ndarray, ids: Ids) -> pa.BinaryArray:
    """Return lines with marks instead of ids. Args: data: bytes of the lines, which are changed."""
    put_marks(data, ids)
    return strings(starts, data, pa.binary())


def find_marked(text: Text, shaped: np.ndarray, uuids_alone: bool, parser: LineParser, cache: ShapeCache, found: Found) -> None:
    """Find the shapes of the lines whose ids no expression tells apart. Lines without ids, or with visible ones, are left.

    Args: shaped: bytes of the lines with digits made alike, which are changed.
    """
    ids = find_ids(shaped, text.starts, uuids_alone)
    is_marked = np.ones(len(ids.line), dtype=bool)
    lines = np.arange(text.n)
    for number_of_round in range(ROUNDS):
        has_marks = np.bincount(ids.line[is_marked], minlength=text.n) > 0
        if not has_marks.any():
            return
        if number_of_round or not has_marks.all():
            lines = lines[has_marks]
            some = chosen_lines(text, has_marks)
            ids, is_marked = ids_of_lines(ids, has_marks, text, some), is_marked[has_marks[ids.line]]
            text, shaped = some, parser.shaped(some.data)
        coded = marked_strings(text.starts, shaped, ids.where(is_marked)).dictionary_encode()
        groups = Groups(np.asarray(coded.indices, dtype=np.int64), coded.dictionary.to_pylist())
        shape, visible = groups.shapes(text, ids, parser, cache, found)
        found.of_line[lines] = shape[groups.of_line]
        # Only lines of which some ids are seen go on, with these ids as they are.
        group = groups.of_line[ids.line]
        is_seen = np.isin(group << SHIFT | np.minimum(numbers_in_line(ids), (1 << SHIFT) - 1), visible)
        is_marked &= np.isin(group, np.unique(visible >> SHIFT)) & ~is_seen


def numbers_in_line(ids: Ids) -> np.ndarray:
    """Return the number of each id in its line, from 0."""
    begins = np.flatnonzero(np.diff(ids.line, prepend=-1))
    numbers: np.ndarray = np.arange(len(ids.line)) - np.repeat(begins, np.diff(begins, append=len(ids.line)))
    return numbers


def chosen_lines(text: Text, chosen: np.ndarray) -> Text:
    """Return some of the lines. Args: chosen: a mask of the lines."""
    return text if chosen.all() else Text(strings(text.starts, text.data).filter(pa.array(chosen)))


def ids_of_lines(ids: Ids, chosen: np.ndarray, text: Text, some: Text) -> Ids:
    """Return the ids of the chosen lines of a text as those of the text of these lines. Args: chosen: a mask of the lines."""
    kept = chosen[ids.line]
    before, place = ids.line[kept], np.cumsum(chosen) - 1
    return ids.where(kept).at(place[before], some.starts[place[before]] - text.starts[before])


@dataclass(frozen=True)
class Groups:
    """Lines that are equal with marks: the group of each line, and the bytes of each group with marks."""

    of_line: np.ndarray
    marked: list[bytes]

    def shapes(self, text: Text, ids: Ids, parser: LineParser, cache: ShapeCache, found: Found) -> tuple[np.ndarray, np.ndarray]:
        """Return the place of each group's shape, -1 if it has none, and which ids are seen: group << SHIFT | number of the id."""
        first = np.zeros(len(self.marked), dtype=np.int64)
        first[self.of_line[::-1]] = np.arange(len(self.of_line))[::-1]
        n_lines = np.bincount(self.of_line, minlength=len(first))
        begins, ends = (np.searchsorted(ids.line, first, side=side) for side in ("left", "right"))
        shape, visible = np.full(len(first), -1), []
        for number, marked in enumerate(self.marked):
            if (place := found.places.get(marked)) is not None:
                shape[number] = place
                continue
            outcome = cache.marked.get(marked)
            if outcome is None:
                if n_lines[number] < LEAST_LINES or len(marked) > REMEMBERED_LENGTH:
                    continue
                outcome = parse_marked(text, int(first[number]), marked, ids.where(np.arange(begins[number], ends[number])), parser)
                if len(cache.marked) >= REMEMBERED:
                    cache.marked.clear()
                cache.marked[marked] = outcome
            if isinstance(outcome, frozenset):
                visible += [number << SHIFT | each for each in outcome]
            elif outcome.exact:
                shape[number] = found.add(marked, outcome, shaped_line(text, int(first[number]), parser))
        return shape, np.array(visible, dtype=np.int64)


def parse_marked(text: Text, line: int, marked: bytes, ids: Ids, parser: LineParser) -> Shape | frozenset[int]:
    """Return the shape of all lines that become equal if their ids are marked, or the numbers of those ids that can be seen."""
    plain = shaped_line(text, line, parser)
    if MARK.search(plain) is not None:  # the line itself has such characters
        return frozenset(range(len(ids.line)))
    raw = text.data[text.starts[line] : text.starts[line + 1]]
    owners = np.full(len(raw), -1)
    for number, (first, last) in enumerate(zip(ids.first - text.starts[line], ids.last - text.starts[line], strict=True)):
        owners[first:last] = number
    for byte, mark in zip(MARK_BYTES, MARKS, strict=True):
        marked = marked.replace(bytes([byte]), mark.encode())
    owners = owners[(raw & 0xC0) != 0x80]  # one per character
    visible = parser.visible_ids(plain, marked.decode(), owners.tolist())
    return frozenset(visible) if visible else parser.parse(plain)


def shaped_line(text: Text, line: int, parser: LineParser) -> str:
    """Return a line with its digits made alike."""
    return parser.shaped(text.data[text.starts[line] : text.starts[line + 1]]).tobytes().decode()


def find_unmarked(text: Text, shaped: pa.StringArray, parser: LineParser, cache: ShapeCache, found: Found) -> None:
    """Find the shapes of all lines that have none yet. Lines that a shape does not hold for have one of their own.

    Args: shaped: these lines with digits made alike.
    """
    rows = np.flatnonzero(found.of_line < 0)
    coded = shaped.dictionary_encode()
    if parser.records is not None and len(coded.dictionary) > max(FULLY, MOST_RECORDS * len(rows)):
        return
    texts = coded.dictionary.to_pylist()
    place = np.full(len(texts), -1)
    for number, each in enumerate(texts):
        shape = cache.shapes.get(each)
        if shape is None:
            shape = parser.parse(each)
            if len(each) <= REMEMBERED_LENGTH:
                if len(cache.shapes) >= REMEMBERED:
                    cache.shapes.clear()
                cache.shapes[each] = shape
        if shape.exact:
            place[number] = found.add(each, shape, each)
    found.of_line[rows] = place[np.asarray(coded.indices, dtype=np.int64)]
    if parser.records is not None:
        return
    for row in rows[found.of_line[rows] < 0].tolist():
        line = text.line(row)
        place_of_it = found.places.get(line)
        found.of_line[row] = found.add(line, parser.parse(line), line) if place_of_it is None else place_of_it


def numbers_of(found: Found, parser: LineParser, known: dict[str, tuple[Number, ...]]) -> list[tuple[Number, ...]]:
    """Return where numbers stand in the lines of each shape; of shapes beyond so many only of some, spread over the part: see FULLY."""
    numbers: list[tuple[Number, ...]] = []
    for place, (shape, text) in enumerate(zip(found.shapes, found.texts, strict=True)):
        if place >= FULLY and place % EVERY:
            numbers.append(())
        elif shape.numbers is not None:
            numbers.append(shape.numbers)
        elif (before := known.get(text)) is not None:
            numbers.append(before)
        else:
            numbers.append(parser.numbers(text))
            if len(text) <= REMEMBERED_LENGTH and len(known) < REMEMBERED:
                known[text] = numbers[-1]
    return numbers
