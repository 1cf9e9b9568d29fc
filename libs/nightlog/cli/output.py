"""What commands print: rows as a table, JSON or CSV; log text never steers the terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from nightlog.cli.options import Format
from nightlog.sanitize import UNSEEN, as_json, csv_lines, escaped, flat

out = Console()
err = Console(stderr=True)


def safe(text: str) -> Text:
    """Text for the terminal: no markup, no control characters."""
    return Text(UNSEEN.sub("�", text))


def print_rows(rows: list[dict[str, Any]], columns: list[str], form: Format) -> None:
    """Rows as a table, as JSON, or as CSV with nested values in JSON."""
    if form == Format.JSON:
        print(escaped(json.dumps(rows, default=as_json, ensure_ascii=False, indent=1)))
        return
    if form == Format.CSV:
        sys.stdout.write(csv_lines(rows, columns))
        return
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = map(flat, row.values())
        table.add_row(*[safe("" if value is None else f"{value:,}" if isinstance(value, int) else str(value)) for value in cells])
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
