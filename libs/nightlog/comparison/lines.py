"""Lines as numbers: each line has the code of its masked message, the same for both sides of a comparison."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from nightlog.parsing.digits import digits_alike
from nightlog.parsing.records import without_codes
from nightlog.systems.spec import DEFAULT_MASKS, Mask

DIGIT = re.compile("[0-9]")
LONGEST = 8192  # characters of a line that are masked, as of a night's messages


class Coder:
    """Gives each masked message a number, from 0 in the order in which messages come; the empty message has one as well.

    Lines that differ in digits alone share a shape, and only the shape is masked: see `nightlog.parsing.shapes`.
    """

    def __init__(self, masks: Sequence[Mask] = DEFAULT_MASKS):
        self.masks = [(re.compile(each.pattern, re.ASCII), each.placeholder) for each in masks]
        self.alike, self.kept = digits_alike([mask for mask, _ in self.masks])
        self.shapes: dict[str, int | None] = {}
        self.numbers: dict[str, int] = {}

    @property
    def messages(self) -> list[str]:
        """The masked messages by their codes."""
        return list(self.numbers)

    def code(self, texts: pa.Array) -> np.ndarray:
        """Return the code of each line, (n,) int64. Args: texts: strings without nulls, less than 2 GiB."""
        texts = without_codes(texts)
        _, offsets, content = texts.buffers()
        data = np.frombuffer(content or b"", np.uint8)
        shaped = self.alike[data]
        for digit, after in self.kept:
            places = np.flatnonzero(data[:-1] == digit)
            places = places[np.isin(data[places + 1], after)]
            shaped[places] = digit
        coded = pa.StringArray.from_buffers(len(texts), offsets, pa.py_buffer(shaped), offset=texts.offset)
        distinct = coded.dictionary_encode()
        of_line = np.asarray(distinct.indices, dtype=np.int64)
        known = [self.shape(each) for each in distinct.dictionary.to_pylist()]
        of_shape = np.array([-1 if each is None else each for each in known], dtype=np.int64)
        codes = of_shape[of_line] if known else np.zeros(0, dtype=np.int64)
        for row in np.flatnonzero(codes < 0).tolist():
            codes[row] = self.number(self.masked(texts[row].as_py()))
        return codes

    def shape(self, text: str) -> int | None:
        """Return the code of all lines of a shape, None if they have to be masked one by one."""
        if text not in self.shapes:
            message = self.masked(text)
            self.shapes[text] = None if DIGIT.search(message) else self.number(message)
        return self.shapes[text]

    def masked(self, text: str) -> str:
        """Return a line's message: its variable parts masked, single blanks between its words."""
        message = text[:LONGEST]
        for pattern, placeholder in self.masks:
            message = pattern.sub(placeholder, message)
        return " ".join(message.split())

    def number(self, message: str) -> int:
        """Return the code of a masked message."""
        return self.numbers.setdefault(message, len(self.numbers))
