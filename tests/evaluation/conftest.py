"""The made-up systems of the benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_help import write_all


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All systems of the benchmark, small and made up."""
    return write_all(tmp_path_factory.mktemp("data") / "sessions")
