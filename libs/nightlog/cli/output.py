"""What commands print: rows as a table, JSON or CSV; log text never steers the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from nightlog.cli.options import Format
from nightlog.sanitize import UNSEEN, as_json, csv_lines, escaped, flat

out = Console()
err = Console(stderr=True)
# A column of a table has at least so many characters, or all of its own.
READABLE_COLUMN = 12


def safe(text: str) -> Text:
    """Text for the terminal: no markup, no control characters."""
    return Text(UNSEEN.sub("�", text))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Format, grouped: bool = True) -> None:
    """Print the named columns of rows as a table, as JSON, or as CSV with nested values in JSON.

    A table that is too wide for the terminal is printed as one block of lines per row. `grouped`: separate thousands in the table.
    """
    if form == Format.JSON:
        print(escaped(json.dumps(rows, default=as_json, ensure_ascii=False, indent=1)))
        return
    if form == Format.CSV:
        sys.stdout.write(csv_lines(rows, columns))
        return
    cells = [[cell(row.get(name), grouped) for name in columns] for row in rows]
    longest = [max((len(each) for each in column), default=0) for column in zip(columns, *cells, strict=True)]
    if sum(min(n, READABLE_COLUMN) + 3 for n in longest) >= out.width:
        print_blocks(columns, cells)
        return
    from rich.table import Table

    table = Table()
    for name in columns:
        table.add_column(safe(name), overflow="fold")
    for row in cells:
        table.add_row(*map(safe, row))
    out.print(table)


def print_blocks(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of a column's name and its value; empty values are left out."""
    width = max(map(len, columns), default=0)
    for number, row in enumerate(cells, 1):
        out.print(f"row {number:,}", style="bold")
        for name, value in zip(columns, row, strict=True):
            if value:
                out.print(safe(f"  {name:{width}}  {value}"), soft_wrap=True)
    if not cells:
        out.print(safe(f"no rows; columns: {', '.join(columns)}"), soft_wrap=True)


def cell(value: Any, grouped: bool) -> str:
    """Return a value as the text of a table's cell.

    >>> cell(2026, False), cell(2026, True), cell(True, True), cell(None, True), cell([1], True)
    ('2026', '2,026', 'true', '', '[1]')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if grouped and isinstance(value, int) else str(flat(value))


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
