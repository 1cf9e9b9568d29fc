"""What all tests share: one Spark session for the run, an empty lake, the labelled logs and the LLM server beside the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nightlog.lake.lake import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ["NIGHTLOG_CONFIG"] = os.devnull  # a developer's nightlog.toml must not change what a test means


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own NIGHTLOG_… and OPENAI_… must not change what a test means."""
    for name in list(os.environ):
        if name.startswith(("NIGHTLOG_", "OPENAI_")) and name not in ("NIGHTLOG_SHARED", "NIGHTLOG_CONFIG"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    from nightlog.spark import start_spark

    session = start_spark("nightlog tests", "local[2]")
    yield session
    session.stop()


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", spark)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of labelled logs and recorded verdicts; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("NIGHTLOG_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "raw").is_dir():
        pytest.skip(f"no labelled logs at {folder}: set NIGHTLOG_SHARED to the folder that holds data/ and llm/")
    return folder


@pytest.fixture(scope="session")
def sample_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A night of the sample corpus, made once for all tests: copy the folder before writing to it."""
    from sample_night import run_sample_night

    folder = tmp_path_factory.mktemp("sample")
    return run_sample_night(folder / "lake", folder)
