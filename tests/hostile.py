"""Log lines that mean harm: to the LLM that reads them, to the terminal, page or sheet that shows them, to whatever stores them.

`hostile_lines()` is for every test that shows log text somewhere; `is_inert` says whether a shown text can still steer what shows it.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

CORPUS = Path(__file__).parent / "llm" / "hostile.jsonl"


def hostile_lines(*kinds: str) -> list[str]:
    """The lines of these kinds, or all: instruction, fake verdict, delimiter, control, ansi, bidi, html, formula, markup, sql, shell, mask,
    unicode, long."""
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    return [row["text"] * row.get("times", 1) for row in rows if not kinds or row["kind"] in kinds]


def is_inert(text: str) -> bool:
    """Has a text no control, bidirectional or invisible character but line ends?"""
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for c in text)
