"""Shapes of lines: a line with its digits made alike. Lines of one shape are parsed once.

Header, masks and session ids are regular expressions that hardly ever tell one digit from another. So where all digits that the
expressions do not tell apart become one digit, lines that become equal are matched at the same places: one line of a shape says
where the groups, ids and stamps of all of them are, and what their masked message is. Eleven million lines of HDFS have a few
thousand shapes. Lines of which this is not true (digits that survive masking) are parsed one by one. Ids of letters and digits, such as
UUIDs, are made alike as well if no expression can tell them apart (see `line_shapes`).
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from nightlog.parsing.digits import change_runs, digits_alike, runs_of
from nightlog.parsing.flat_records import FlatRecord, Records, Unlike, is_direct
from nightlog.parsing.json_shapes import JsonRecords
from nightlog.parsing.logfmt_shapes import LogfmtRecords
from nightlog.parsing.number_ranges import HOLDER, MOST_NUMBERS, Number, looked_at, number_of
from nightlog.parsing.pieces import BLOCK, pieces
from nightlog.parsing.structured import flat_system
from nightlog.parsing.visibility import MARK, Sight
from nightlog.systems.spec import DAY_FIELDS, System

MAX_MESSAGE = 8192  # characters of a message that are masked and mined
DIGIT = re.compile("[0-9]")
RECORDS: dict[str, type[Records]] = {"json": JsonRecords, "logfmt": LogfmtRecords}
Span = tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """The parse of all lines of a shape: places are offsets in bytes from the line's start.

    `exact` says whether it holds for every line of the shape; where not, the other fields hold for the one line that was parsed. It does
    not hold for lines with a zero at one of the places `nonzero`. `numbers`: see `LineParser.numbers`; None if they are not known yet.
    """

    blank: bool
    matched: bool
    exact: bool
    message: str = ""
    level: str | None = None
    ids: tuple[Span, ...] = ()
    stamp: tuple[Span | str, ...] = ()
    nonzero: tuple[int, ...] = ()
    numbers: tuple[Number, ...] | None = None


INEXACT = Shape(blank=False, matched=False, exact=False)


class Text:
    """Lines in one buffer of bytes. `starts` has one place more than there are lines."""

    def __init__(self, texts: pa.ChunkedArray | pa.Array):
        chunks = [each for each in texts.chunks if len(each)] if isinstance(texts, pa.ChunkedArray) else [texts]
        whole = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.array([], texts.type)
        _, offsets, data = whole.buffers()
        self.n = len(whole)
        self.starts = np.frombuffer(offsets, np.int32)[whole.offset : whole.offset + self.n + 1].astype(np.int64)
        self.data = np.frombuffer(data, np.uint8)[: self.starts[-1]] if data is not None else np.zeros(0, dtype=np.uint8)

    def line(self, number: int) -> str:
        return self.data[self.starts[number] : self.starts[number + 1]].tobytes().decode()

    def take(self, rows: np.ndarray, first: np.ndarray, last: np.ndarray) -> pa.StringArray:
        """Return some bytes of some lines as strings; the places are counted from the line's start."""
        return pieces(self.data, self.starts[rows] + first, last - first)


class LineParser:
    """The expressions of a system, compiled, and which digits they tell apart."""

    def __init__(self, system: System):
        spec, system = system, flat_system(system)
        self.header = re.compile(system.header.pattern, re.DOTALL | re.ASCII)
        self.masks = [(re.compile(each.pattern, re.ASCII), each.placeholder) for each in system.all_masks]
        self.numbered = looked_at(system.all_masks)
        self.session = system.session
        self.ids = re.compile(system.session.pattern, re.ASCII) if system.session.pattern is not None else None
        # the value of a stamp: literals (even places) and header groups (odd places)
        self.pieces = re.split(r"\{(\w+)\}", system.timestamp.value) if system.timestamp else []
        self.fields = system.header.fields
        self.has_end = "message_end" in self.fields
        patterns = [self.header, *[mask for mask, _ in self.masks], *([self.ids] if self.ids else [])]
        alike, self.kept = digits_alike(patterns)
        self.runs = runs_of(alike)
        self.records = RECORDS[spec.header.kind](spec, self.shaped) if is_direct(spec.header) else None
        self.last_flat: tuple[str, FlatRecord | None] | None = None

    def shaped(self, data: np.ndarray) -> np.ndarray:
        """Return bytes of text with the digits that no expression tells apart made one."""
        shaped = np.empty_like(data)
        for begin in range(0, len(data), BLOCK):
            change_runs(data[begin : begin + BLOCK], self.runs, shaped[begin : begin + BLOCK])
            block = data[begin : begin + BLOCK + 1]
            for digit, after in self.kept:
                for byte in after:
                    places = np.flatnonzero(block[1:] == byte)
                    shaped[begin + places[block[places] == digit]] = digit
        return shaped

    def parse(self, text: str) -> Shape:
        """Return the shape of one line: its own, or that of all lines with this text. A record must hold for all of its shape."""
        if self.records is None:
            place = bytes_of(text)
            return self.parse_flat(text, lambda begin, end: (place(begin), place(end)))
        flat, place = self.flat(text), bytes_of(text)
        if flat is None:
            return INEXACT
        try:
            shape = self.parse_flat(flat.text, lambda begin, end: byte_span(place, flat.source(begin, end)))
            numbers = self.numbers(text)
        except Unlike:
            return INEXACT
        return replace(shape, nonzero=tuple(place(each) for each in flat.places.nonzero), numbers=numbers)

    def flat(self, text: str) -> FlatRecord | None:
        """Return the flat line of a record; it is kept until another text is asked for."""
        if self.last_flat is None or self.last_flat[0] != text:
            assert self.records is not None
            self.last_flat = text, self.records.flat(text)
        return self.last_flat[1]

    def parse_flat(self, text: str, span: Callable[[int, int], Span]) -> Shape:
        """Return the shape of a line. Args: span: the bytes of a line at places of the text."""
        blank = not text.strip(" ")
        found = self.header.fullmatch(text)
        if found is None or blank:
            return Shape(blank, False, True)
        masked = self.message_of(found)
        for mask, name in self.masks:
            masked = mask.sub(name, masked)
        masked = masked.strip(" ")
        level = (found["level"] or "") if "level" in self.fields else None
        exact = not DIGIT.search(masked) and not (level and DIGIT.search(level))
        ids = tuple(span(start, end) for start, end in self.id_spans(text, found))
        stamp: list[Span | str] = []
        for number, piece in enumerate(self.pieces):
            if number % 2 == 0 or piece in DAY_FIELDS:
                stamp.append(piece)
            else:
                start, end = found.span(piece)
                stamp.append(span(max(start, 0), max(end, 0)))
        return Shape(blank, True, exact, masked, level, ids, tuple(stamp))

    def message_of(self, found: re.Match[str]) -> str:
        """Return the message of a line that matches the header: the group, and what `message_end` appends to it."""
        message = found["message"] or ""
        return (f"{message} {found['message_end'] or ''}" if self.has_end else message)[:MAX_MESSAGE]

    def numbers(self, text: str) -> tuple[Number, ...]:
        """Return where the numbers stand that the mask NUM takes out of a line, or of all lines of a shape; none where it says <NUM>
        itself. Raises Unlike if a number of a structured record is not one piece of it.
        """
        flat, place = self.flat(text) if self.records else None, bytes_of(text)
        if self.records and flat is None:
            return ()
        text = flat.text if flat else text
        found = self.header.fullmatch(text) if self.numbered else None
        if found is None:
            return ()
        message, moves = self.message_of(found), list[list[Span]]()
        for mask, name in self.masks[:-1]:
            if hits := [each.span() for each in mask.finditer(message)]:
                moves.append(moved(hits, len(name)))
                message = mask.sub(name, message)
        if HOLDER in message:
            return ()
        spans = [each.span() for each in itertools.islice(self.masks[-1][0].finditer(message), MOST_NUMBERS)]
        for each in reversed(moves):
            spans = [(back(start, each), back(end - 1, each) + 1) for start, end in spans]
        begin, own = found.start("message"), len(found["message"] or "")
        spans = [(begin + start, begin + end) for start, end in spans if end <= own]
        return tuple(number_of(text[start:end], place(flat.source(start, end)[1] if flat else end)) for start, end in spans)

    @cached_property
    def sights(self) -> tuple[Sight, Sight | None, list[Sight]]:
        """Return the sights of the header, the session ids and the masks."""
        ids = Sight(self.ids) if self.ids is not None and self.session.kind == "id" else None
        return Sight(self.header, whole=True), ids, [Sight(mask) for mask, _ in self.masks]

    def visible_ids(self, text: str, marked: str, owners: Sequence[int]) -> set[int]:
        """Return the ids of a line on whose characters its parse may depend; without any it holds for all lines of the marked text.

        Args: marked: the text with marks (see `visibility`) for the characters of ids; owners: the number of the id of each character, -1
        if it is part of none.
        """
        if self.records is not None:
            flat = self.flat(text)
            if flat is None:
                return set()
            inside = {place for begin, end in flat.places.strings for place in range(begin, end)}
            if outside := {owners[mark.start()] for mark in MARK.finditer(marked) if mark.start() not in inside}:
                return outside
            text, marked, owners = flat.text, flat.of(marked), flat.owners(owners)
        header, ids, masks = self.sights
        if seen := owners_at(header.spans(marked), marked, owners):
            return seen
        found = self.header.fullmatch(text)
        if found is None:
            return set()
        if ids is not None:
            begin, end = found.span(self.session.field)
            spans = [(begin + first, begin + last) for first, last in ids.spans(marked[max(0, begin) : max(0, end)])]
            if seen := owners_at(spans, marked, owners):
                return seen
        message, groups = self.message_of(found), [found.span(name) for name in ("message", "message_end") if name in self.fields]
        owners_left = [each for begin, end in groups for each in (*owners[begin:end], -1)][: len(message)]
        left = " ".join(marked[begin:end] for begin, end in groups)[: len(message)]
        for (mask, name), sight in zip(self.masks, masks, strict=True):
            if seen := owners_at(sight.spans(left), left, owners_left):
                return seen
            for begin, end in reversed([each.span() for each in mask.finditer(message)]):
                left = left[:begin] + name + left[end:]
                owners_left[begin:end] = [-1] * len(name)
            message = mask.sub(name, message)
        seen = owners_at([(0, len(left))], left, owners_left)
        return seen | owners_at([found.span("level")], marked, owners) if "level" in self.fields else seen

    def id_spans(self, text: str, found: re.Match[str]) -> Iterator[Span]:
        """Yield where the session ids stand in a line, empty ones left out; the same id may stand there twice."""
        if self.session.kind == "window":
            return
        begin, end = found.span(self.session.field)
        if begin < 0:
            return
        if self.ids is None:
            field = text[begin:end]
            begin, end = begin + len(field) - len(field.lstrip(" ")), end - len(field) + len(field.rstrip(" "))
            if begin < end:
                yield begin, end
            return
        group = min(1, self.ids.groups)
        for each in self.ids.finditer(text[begin:end]):
            first, last = each.span(group)
            if first < last:
                yield begin + first, begin + last


def owners_at(spans: Iterable[Span], marked: str, owners: Sequence[int]) -> set[int]:
    """Return the ids whose marks stand somewhere in the spans of a marked text."""
    return {owners[mark.start()] for begin, end in spans for mark in MARK.finditer(marked, max(0, begin), max(0, end))}


def moved(hits: Sequence[Span], length: int) -> list[Span]:
    """Return where the text behind each replaced piece begins now, and how much further on it began before. Args: length, of what
    replaced it.
    """
    places, shift = [], 0
    for start, end in hits:
        places.append((start - shift + length, shift + end - start - length))
        shift += end - start - length
    return places


def back(place: int, moves: Sequence[Span]) -> int:
    """Return where a place behind or before replaced pieces was before they were replaced.

    >>> back(6, moved([(0, 9)], 4)), back(1, moved([(3, 9)], 4))
    (11, 1)
    """
    number = bisect.bisect_right(moves, place, key=itemgetter(0))
    return place + (moves[number - 1][1] if number else 0)


def byte_span(place: Callable[[int], int], span: Span) -> Span:
    """Return a span of characters as one of bytes."""
    return place(span[0]), place(span[1])


def bytes_of(text: str) -> Any:
    """Return what turns a place in a text into one in its UTF-8 bytes."""
    return int if text.isascii() else (lambda place: len(text[:place].encode()))
