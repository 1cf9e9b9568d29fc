"""The places of the wanted values in logfmt records (see `flat_records`).

Records with escapes in a wanted value, or with quotes that do not stand around a whole value, have no places.
"""

from __future__ import annotations

import re

from nightlog.parsing.flat_records import FlatRecord, Places, Records, Shaped, Unlike
from nightlog.parsing.structured import SEPARATOR
from nightlog.systems.spec import System

BLANK = r"[ \t-\r]"
BARE = r'[^ \t-\r"\\]*+'
PAIR = re.compile(rf'{BLANK}*+([^ \t-\r"\\=]*+)(?:=(?:"((?:[^"\\]|\\.)*+)"|({BARE})))?+(?={BLANK}|\Z)', re.DOTALL)
KEY = re.compile(r'[^ \t-\r"\\=]+')


class LogfmtRecords(Records):
    """The wanted keys of a system's logfmt records."""

    def __init__(self, system: System, shaped: Shaped):
        super().__init__(system, shaped)
        self.is_simple = all(KEY.fullmatch(key) for key in self.wanted)
        for key in self.wanted:
            self.add_unlike(key)

    def flat(self, text: str) -> FlatRecord | None:
        """Return the flat line of a record of a shape; None if it does not hold for all records of the shape."""
        if not self.is_simple or SEPARATOR in text:
            return None
        try:
            places = self.places(text)
        except Unlike:
            return None
        return self.joined(text, places) if any(key in places.values for key in self.message_keys) else None

    def places(self, text: str) -> Places:
        """Return where the values of a record stand. Raises Unlike if this may be different in other records of its shape."""
        found, at, wanted = Places(), 0, set(self.wanted)
        while at < len(text):
            pair = PAIR.match(text, at)
            if pair is None:
                raise Unlike
            at, key = pair.end(), pair[1]
            quoted = pair[2] is not None
            span = pair.span(2 if quoted else 3) if quoted or pair[3] is not None else None
            has_escape = quoted and "\\" in pair[2]
            if not has_escape:
                found.strings.append(span or pair.span(1))
            if span is None:
                continue
            if key in self.unlike:
                raise Unlike
            if key in wanted and key not in found.values:
                if has_escape:
                    raise Unlike
                found.values[key] = span
        return found
