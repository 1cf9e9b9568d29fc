"""Rows of JSON lines that survive an interruption: what was written whole is there, half a line is nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The rows of a journal, none where there is no file."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            rows.append(json.loads(line))
        except ValueError:  # blank, or cut off when a run was stopped
            continue
    return rows


def write_journal(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append rows. Each begins a line of its own, whatever was cut off before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:  # one write a row, so that the rows of two processes do not mix
        for row in rows:
            file.write(b"\n" + json.dumps(row, ensure_ascii=False).encode())
