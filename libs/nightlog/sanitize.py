"""Text of logs made safe: it steers no terminal and no spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

# Control, bidirectional, zero-width and tag characters: log text must not steer the terminal.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
FORMULA = re.compile(r"\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def escaped(text: str) -> str:
    """Return JSON text in which such characters are escapes: the same data, and nothing that steers a terminal.

    >>> print(escaped('"a\u202eb"'))
    "a\\u202eb"
    """
    return UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], text)


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV file that a spreadsheet may open: text that looks like a formula begins with an apostrophe.

    >>> csv_cell("=1+1"), csv_cell(-3), csv_cell("all well"), csv_cell(True)
    ("'=1+1", -3, 'all well', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    return UNSEEN.sub("�", f"'{value}" if FORMULA.match(value) else value)


def cell_value(value: Any) -> Any:
    """Return a value for one cell: nested ones as JSON."""
    return escaped(json.dumps(value, default=as_json, ensure_ascii=False)) if isinstance(value, list | dict) else value


def csv_lines(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Return rows as lines of CSV, each value sanitized, see `csv_cell`; with `columns` a line of these names first, then these values.

    >>> csv_lines([{"id": "=1+1", "n": 2}], ["id", "n"])
    "id,n\\n'=1+1,2\\n"
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")  # so that a shell's `read` gets no carriage return
    if columns:
        writer.writerow(columns)
    writer.writerows([csv_cell(cell_value(value)) for value in (map(row.get, columns) if columns else row.values())] for row in rows)
    return buffer.getvalue()


def shortened(text: str, most: int) -> str:
    """Return text of at most `most` characters, cut at a word and ended by an ellipsis; only a word longer than half of that is cut itself.

    >>> shortened("The session timed out waiting", 22), shortened("The session", 22), shortened("/srv/mail/user12/dovecot", 10)
    ('The session timed out…', 'The session', '/srv/mail…')
    """
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    at = cut.rfind(" ") if not text[most - 1].isspace() else len(cut)
    return f"{(cut[:at] if at >= most // 2 else cut).rstrip()}…"


def as_json(value: Any) -> Any:
    """Return a value that JSON has no form for, as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
