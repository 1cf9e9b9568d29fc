"""The page on reliability names only tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_test_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"\btest_\w+(?=[\[`])", page))
    assert len(named) > 20
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []
    assert [file for file in re.findall(r"tests/[\w/]+\.py", page) if not (ROOT / file).is_file()] == []
    faults = set(re.findall(r"\[([\w ,0-9-]+)\]`", page))
    assert [fault for fault in sorted(faults) if f'"{fault}"' not in tests] == []
