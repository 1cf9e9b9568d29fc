"""The places of the wanted values in structured records, so that they are read by shape like other lines.

Records that differ only in digits, or in ids in their values, have their values at the same places. One of them is decoded; its
wanted values make a flat line (see `structured.flat_system`), which is parsed, and each place in it is a place in all of these records.
This holds for wanted values that stand in the record as they are in the flat line. Other records, such as those with escapes in a wanted
value, are flattened by `structured.flatten`. `json_shapes` and `logfmt_shapes` find the places in records of their form.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nightlog.parsing.structured import SEPARATOR, message_part, wanted_fields
from nightlog.systems.spec import WHOLE_LINE, Header, System

Span = tuple[int, int]
Shaped = Callable[[np.ndarray], np.ndarray]


class Unlike(Exception):
    """The values may stand elsewhere, or be others, in records that have the same shape."""


@dataclass
class Places:
    """The places in the records of one shape, by characters of one of them.

    `values`: key → where its value stands; `strings`: where strings without escapes stand that are values; `nonzero`: where no zero may
    stand, or the record is no JSON or its number is written otherwise.
    """

    values: dict[str, Span] = field(default_factory=dict)
    strings: list[Span] = field(default_factory=list)
    nonzero: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class FlatRecord:
    """The flat line of a record; `pieces`: (where a value begins in the flat line, where it ends, where it begins in the record)."""

    text: str
    pieces: tuple[tuple[int, int, int], ...]
    places: Places

    def of(self, record: str) -> str:
        """Return the flat line of another text of this shape."""
        flat = self.text
        for begin, end, source in self.pieces:
            flat = flat[:begin] + record[source : source + end - begin] + flat[end:]
        return flat

    def owners(self, owners: Sequence[int]) -> list[int]:
        """Return for each character of the flat line what is known of it in the record, -1 for those that the record lacks."""
        found = [-1] * len(self.text)
        for begin, end, source in self.pieces:
            found[begin:end] = owners[source : source + end - begin]
        return found

    def source(self, begin: int, end: int) -> Span:
        """Return where a piece of the flat line stands in the record. Raises Unlike if it is not one piece of it."""
        if begin == end:
            return 0, 0
        for first, last, source in self.pieces:
            if first <= begin and end <= last:
                return begin - first + source, end - first + source
        raise Unlike


def is_direct(header: Header) -> bool:
    """Return whether records of a header are JSON objects or logfmt alone, nothing before or behind them."""
    return header.kind in ("json", "logfmt") and header.pattern == WHOLE_LINE


class Records(ABC):
    """The wanted keys of a system's structured records. `shaped` makes digits of bytes alike, as in the texts of shapes."""

    def __init__(self, system: System, shaped: Shaped):
        self.keys = system.header.keys
        self.message_keys = system.header.message_keys
        self.names = sorted(wanted_fields(system) - {"message"})
        self.shaped = shaped
        self.unlike: set[str] = set()  # keys of a shape that may be a wanted key or another one

    @property
    def wanted(self) -> list[str]:
        """The keys of all wanted values."""
        return list(dict.fromkeys([*self.message_keys, *(str(self.keys[name]) for name in self.names)]))

    def add_unlike(self, key: str) -> None:
        """Note the shape of a wanted key that has digits."""
        if re.search("[0-9]", key):
            self.unlike.add(self.shaped(np.frombuffer(key.encode(), np.uint8)).tobytes().decode())

    @abstractmethod
    def flat(self, text: str) -> FlatRecord | None:
        """Return the flat line of a record of a shape; None if it does not hold for all records of the shape."""

    def joined(self, text: str, places: Places) -> FlatRecord:
        """Return the flat line of a record whose values stand at some places."""
        words: list[str] = []
        pieces: list[tuple[int, int, int]] = []
        n = 0

        def add(word: str, source: int | None = None) -> None:
            nonlocal n
            words.append(word)
            if source is not None and word:
                pieces.append((n, n + len(word), source))
            n += len(word)

        def add_value(key: str) -> None:
            if key in places.values:
                begin, end = places.values[key]
                add(text[begin:end], begin)

        for name in self.names:
            add(SEPARATOR)
            add_value(str(self.keys[name]))
        add(SEPARATOR)
        is_first = True
        for number, key in enumerate(self.message_keys):
            if key in places.values:
                add(("" if is_first else " ") + message_part(number, key))
                add_value(key)
                is_first = False
        return FlatRecord("".join(words), tuple(pieces), places)
