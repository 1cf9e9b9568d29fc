"""Fixtures of the tests of whole nights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[[str, str, bytes], Path]:
    """Write one log file under the data folder."""

    def write(system: str, name: str, lines: bytes) -> Path:
        path = tmp_path / "data" / system / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lines)
        return path

    return write
