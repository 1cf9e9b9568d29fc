"""The places of the wanted values in JSON records (see `flat_records`).

Records with escapes, fractions or unusual numbers in a wanted value, or of which a nested value is wanted as a whole, have no places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from nightlog.parsing.flat_records import FlatRecord, Places, Records, Shaped, Unlike
from nightlog.parsing.structured import json_path
from nightlog.systems.spec import System

TOKEN = re.compile(r'[ \t\n\r]*+(?:"((?:[^"\\]|\\.)*+)"|(-?[0-9][0-9.eE+-]*+)|(true|false|null)|([\[\]{},:]))')
MOST_DIGITS = 18
INTEGER = re.compile(r"-?[0-9]+")


class JsonRecords(Records):
    """The wanted keys of a system's JSON records, as a tree of steps."""

    def __init__(self, system: System, shaped: Shaped):
        super().__init__(system, shaped)
        self.tree: dict[str | int, Any] = {}
        self.is_simple = all(self.add(key) for key in self.wanted)

    def add(self, key: str) -> bool:
        """Add a wanted key to the tree of steps. Returns False if one wanted value is a part of another."""
        path = json_path(key)
        steps = [str(path[0])] if len(path) == 1 else list(path)
        node = self.tree
        for number, step in enumerate(steps):
            if isinstance(step, str):
                self.add_unlike(step)
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
