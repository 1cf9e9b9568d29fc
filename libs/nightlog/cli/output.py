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
from rich.table import Table
from rich.text import Text

from nightlog.cli.options import Format

out = Console()
err = Console(stderr=True)

# Control, bidirectional and zero-width characters: log text must not steer the terminal.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> Text:
    """Text for the terminal: no markup, no control characters."""
    return Text(UNSEEN.sub("�", text))


def as_json(value: Any) -> Any:
    """What JSON has no form for, as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_rows(rows: list[dict[str, Any]], columns: list[str], form: Format) -> None:
    """Rows as a table, as JSON, or as CSV with nested values in JSON."""
    if form == Format.JSON:
        print(json.dumps(rows, default=as_json, ensure_ascii=False, indent=1))
        return
    flat = [
        [json.dumps(value, default=as_json, ensure_ascii=False) if isinstance(value, list | dict) else value for value in row.values()]
        for row in rows
    ]
    if form == Format.CSV:
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(columns)
        writer.writerows(flat)
        sys.stdout.write(buffer.getvalue())
        return
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in flat:
        table.add_row(*[safe("" if value is None else f"{value:,}" if isinstance(value, int) else str(value)) for value in row])
    out.print(table)
