"""The places of the wanted values in JSON records, so that they are read by shape like other lines.

Records that are equal but for digits, or for ids in their strings, have their values at the same places. One of them is decoded; its
wanted values make a flat line (see `structured.flat_system`), which is parsed, and each place in it is a place in all of these records.
This holds for wanted values that stand in the record as they are in the flat line. Records of which it may not be true (escapes in a wanted
value, fractions, nested values as a whole, unusual numbers) are decoded one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from nightlog.parsing.structured import SEPARATOR, json_path, message_part, wanted_fields
from nightlog.systems.spec import WHOLE_LINE, Header, System

Span = tuple[int, int]
TOKEN = re.compile(r'[ \t\n\r]*+(?:"((?:[^"\\]|\\.)*+)"|(-?[0-9][0-9.eE+-]*+)|(true|false|null)|([\[\]{},:]))')
MOST_DIGITS = 18
INTEGER = re.compile(r"-?[0-9]+")


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
    """Return whether records of a header are JSON objects alone, nothing before or behind them."""
    return header.kind == "json" and header.pattern == WHOLE_LINE


class JsonRecords:
    """The wanted keys of a system's JSON records. `shaped` makes digits of bytes alike, as in the texts of shapes."""

    def __init__(self, system: System, shaped: Callable[[np.ndarray], np.ndarray]):
        self.keys = system.header.keys
        self.message_keys = system.header.message_keys
        self.names = sorted(wanted_fields(system) - {"message"})
        self.tree: dict[str | int, Any] = {}
        self.unlike: set[str] = set()  # keys of a shape that may be a wanted key or another one
        wanted = [*self.message_keys, *(str(self.keys[name]) for name in self.names)]
        self.is_simple = all(self.add(key, shaped) for key in dict.fromkeys(wanted))

    def add(self, key: str, shaped: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Add a wanted key to the tree of steps. Returns False if one wanted value is a part of another."""
        path = json_path(key)
        steps = [str(path[0])] if len(path) == 1 else list(path)
        node = self.tree
        for number, step in enumerate(steps):
            if isinstance(step, str) and re.search("[0-9]", step):
                self.unlike.add(shaped(np.frombuffer(step.encode(), np.uint8)).tobytes().decode())
            is_last = number == len(steps) - 1
            if is_last:
                if step in node:
                    return False
                node[step] = key
            else:
                node = node.setdefault(step, {})
                if not isinstance(node, dict):
                    return False
        return True

    def flat(self, text: str) -> FlatRecord | None:
        """Return the flat line of a record of a shape; None if it does not hold for all records of the shape."""
        if not self.is_simple or "{" not in text or "\\u" in text:
            return None
        try:
            if not isinstance(orjson.loads(text), dict):
                return None
            places = self.places(text)
        except (ValueError, RecursionError, Unlike):
            return None
        if not places.values and "{}" in re.sub(r"\s", "", text):
            return None
        return self.joined(text, places)

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

    def places(self, text: str) -> Places:
        """Return where the values of a valid record stand. Raises Unlike if this may be different in other records of its shape."""
        found, tokens = Places(), TOKEN.finditer(text)
        next(tokens)  # the bracket of the object
        self.read_object(tokens, self.tree, found)
        return found

    def read_object(self, tokens: Iterator[re.Match[str]], tree: dict[str | int, Any], found: Places) -> None:
        """Read an object behind its bracket. Args: tree: the wanted keys of it."""
        seen = set()
        for token in tokens:
            if token[4] == "}":
                return
            if token[4] == ",":
                continue
            key = token[1]
            if tree and ("\\" in key or key in self.unlike or (key in tree and key in seen)):
                raise Unlike
            seen.add(key)
            next(tokens)  # the colon
            self.read_value(next(tokens), tokens, tree.get(key, {}), found)

    def read_value(self, token: re.Match[str], tokens: Iterator[re.Match[str]], wanted: Any, found: Places) -> None:
        """Read a value that begins with a token. Args: wanted: its key if it is wanted, or a tree of what is wanted in it."""
        key = wanted if isinstance(wanted, str) else None
        if token[4] is not None:
            if key is not None:
                raise Unlike  # a nested value is written by its own rules
            if token[4] == "{":
                self.read_object(tokens, wanted, found)
            else:
                self.read_array(tokens, wanted, found)
        elif token[1] is not None:
            if "\\" not in token[1]:
                found.strings.append(token.span(1))
            elif key is not None:
                raise Unlike
            if key is not None:
                found.values[key] = token.span(1)
        elif token[2] is not None:
            self.read_number(token, key, found)
        elif key is not None and token[3] != "null":
            found.values[key] = token.span(3)

    def read_array(self, tokens: Iterator[re.Match[str]], tree: dict[str | int, Any], found: Places) -> None:
        """Read an array behind its bracket. Args: tree: the wanted places of it."""
        place = 0
        for token in tokens:
            if token[4] == "]":
                return
            if token[4] == ",":
                place += 1
            else:
                self.read_value(token, tokens, tree.get(place, {}), found)

    def read_number(self, token: re.Match[str], key: str | None, found: Places) -> None:
        """Read a number. Raises Unlike for one that is very large, or wanted and no integer."""
        text, begin = token[2], token.start(2) + (token[2][0] == "-")
        n_digits = len(text.split(".")[0].lstrip("-"))
        if "e" in text or "E" in text or n_digits > MOST_DIGITS or (key is not None and not INTEGER.fullmatch(text)):
            raise Unlike
        if n_digits > 1 or (key is not None and text[0] == "-"):
            found.nonzero.append(begin)
        if key is not None:
            found.values[key] = token.span(2)
