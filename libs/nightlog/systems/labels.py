"""A label file: session_id,label with label 1 for anomalous and 0 for normal. What is anything else is an error, not a normal session."""

from __future__ import annotations

import csv
from pathlib import Path

from nightlog.errors import ConfigError, FormatError

LABELS = {"0": 0, "1": 1}


def read_label_file(path: Path, system: str) -> dict[str, int]:
    """Session id → 1 anomalous, 0 normal.

    Raises ConfigError where the file or a column is not there; FormatError, with the line, where it is no text, a row is cut, a label is
    neither 0 nor 1, or a session has both.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; the system file of {system} names it under [labels]")
    found: dict[str, int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            columns = rows.fieldnames or []
            if missing := {"session_id", "label"} - set(columns):
                raise ConfigError(f"{path}: no column {', '.join(sorted(missing))}; got {', '.join(columns)}")
            for row in rows:
                session, label = row["session_id"], (row["label"] or "").strip()
                if not session or label not in LABELS:
                    raise FormatError(f"{path}:{rows.line_num}: label `{label[:40]}` of session `{(session or '')[:80]}`; expected 0 or 1")
                if found.setdefault(session, LABELS[label]) != LABELS[label]:
                    raise FormatError(f"{path}:{rows.line_num}: session `{session[:80]}` is labelled 0 and 1; keep one of the lines")
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a CSV file in UTF-8: {error}") from error
    return found
