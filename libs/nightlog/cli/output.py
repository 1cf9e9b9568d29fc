"""What commands print: rows as a table, JSON or CSV; log text never steers the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from nightlog.cli.options import Format

out = Console()
err = Console(stderr=True)

# Control, bidirectional, zero-width and tag characters: log text must not steer the terminal.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
FORMULA = re.compile(r"\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def safe(text: str) -> Text:
    """Text for the terminal: no markup, no control characters."""
    return Text(UNSEEN.sub("�", text))


def escaped(text: str) -> str:
    """JSON text in which such characters are escapes: the same data, and nothing that steers a terminal.

    >>> print(escaped('"a\u202eb"'))
    "a\\u202eb"
    """
    return UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], text)


def cell(value: Any) -> Any:
    """A value for a CSV file that a spreadsheet may open: text that it would take for a formula begins with an apostrophe.

    >>> cell("=1+1"), cell(-3), cell("all well")
    ("'=1+1", -3, 'all well')
    """
    if not isinstance(value, str):
        return value
    return UNSEEN.sub("�", f"'{value}" if FORMULA.match(value) else value)


def as_json(value: Any) -> Any:
    """What JSON has no form for, as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_rows(rows: list[dict[str, Any]], columns: list[str], form: Format) -> None:
    """Rows as a table, as JSON, or as CSV with nested values in JSON."""
    if form == Format.JSON:
        print(escaped(json.dumps(rows, default=as_json, ensure_ascii=False, indent=1)))
        return
    flat = [
        [
            escaped(json.dumps(value, default=as_json, ensure_ascii=False)) if isinstance(value, list | dict) else value
            for value in row.values()
        ]
        for row in rows
    ]
    if form == Format.CSV:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")  # so that a shell's `read` gets no carriage return
        writer.writerow(columns)
        writer.writerows([cell(value) for value in row] for row in flat)
        sys.stdout.write(buffer.getvalue())
        return
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in flat:
        table.add_row(*[safe("" if value is None else f"{value:,}" if isinstance(value, int) else str(value)) for value in row])
    out.print(table)


class Teller:
    """Takes what long work has to tell, line by line: printed at once, or with json and csv as rows (said) at the end."""

    def __init__(self, form: Format):
        self.form = form
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)
        if self.form == Format.TABLE:
            out.print(safe(text), soft_wrap=True)

    def finish(self) -> None:
        """Print what was not printed yet."""
        if self.form != Format.TABLE:
            print_rows([{"said": text} for text in self.lines], ["said"], self.form)
