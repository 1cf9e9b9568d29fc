"""Real HTTP for the LLM room: the recorded server as a subprocess, and a small stub for what that one never does."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llm_stub import Stub, settings_at
from nightlog.lake.lake import Lake
from nightlog.lake.tables import PATTERNS, ROUTES, TEMPLATES
from nightlog.llm.budget import Cost, Spent
from nightlog.llm.items import Judge
from nightlog.llm.judge import make_judge
from nightlog.systems.spec import LLM, Input, Session, System

DS = "2008-11-10"


def make_system(name: str = "hdfs", policy: str = "", allowed: bool = True) -> System:
    return System(
        name=name,
        role="target",
        input=Input(path=name + "-{ds}.log"),
        session=Session(kind="id", pattern=r"blk_-?\d+"),
        llm=LLM(allowed=allowed, policy=policy),
    )


@pytest.fixture
def system() -> System:
    return make_system()


@pytest.fixture
def systems() -> Callable[..., System]:
    return make_system


# The recorded server


@pytest.fixture(scope="session")
def shared_llm() -> Path:
    root = Path(os.environ.get("NIGHTLOG_SHARED", Path(__file__).parents[3] / "shared"))
    if not (root / "llm" / "serve.py").exists():
        pytest.skip(f"no recorded LLM server at {root}/llm; set NIGHTLOG_SHARED to the folder that holds it")
    return root / "llm"


@pytest.fixture
def serve(shared_llm: Path) -> Iterator[Callable[..., str]]:
    """Start the server with the given options; returns its base URL."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        process = subprocess.Popen([sys.executable, shared_llm / "serve.py", "--port", "0", *options], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in running:
        process.terminate()
        process.communicate()


@pytest.fixture
def stats() -> Callable[[str], dict[str, int]]:
    def read(url: str) -> dict[str, int]:
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:
            found: dict[str, int] = json.load(answer)
            return found

    return read


@pytest.fixture
def recorded_patterns(shared_llm: Path) -> Callable[[str, int], list[dict[str, Any]]]:
    """The first recorded patterns of a system, with the verdict that each got."""

    def read(name: str, limit: int) -> list[dict[str, Any]]:
        with gzip.open(shared_llm / "verdicts.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["system"] == name and row["kind"] == "pattern" and row.get("round") != 2][:limit]

    return read


@pytest.fixture
def recorded_again(shared_llm: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The recorded verdicts of the second round on a system."""

    def read(name: str) -> list[dict[str, Any]]:
        with gzip.open(shared_llm / "verdicts.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["system"] == name and row.get("round") == 2]

    return read


# The stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    endpoint = Stub()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


# Judge and lake


@pytest.fixture
def slept() -> list[float]:
    """The waits that a judge of `judge_at` asked for instead of sleeping."""
    return []


@pytest.fixture
def judge_at(slept: list[float]) -> Callable[..., Judge]:
    def build(url: str, spent: int = 0, sleep: Callable[[float], None] | None = None, **settings: Any) -> Judge:
        before = Spent(Cost(spent), Cost(spent))
        judge = make_judge(settings_at(url, **settings), spent=before, sleep=sleep or slept.append)
        assert judge is not None
        return judge

    return build


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def put_night() -> Callable[..., None]:
    """Write patterns {pattern_id: [(template, count), …]} as a parsed and routed night; `sessions`, `general` and the `questions` that the
    patterns belong to as wanted."""

    def put(
        lake: Lake,
        patterns: dict[str, list[tuple[str, int]]],
        name: str = "hdfs",
        ds: str = DS,
        sessions: dict[str, int] | None = None,
        general: tuple[str, ...] = (),
        questions: dict[str, str] | None = None,
    ) -> None:
        texts = sorted({template for events in patterns.values() for template, _ in events})
        ids = {text: f"t-{name}-{number:04d}" for number, text in enumerate(texts)}
        day = {"system": name, "ds": ds}
        lake.replace(TEMPLATES, [{"system": name, "template_id": ids[text], "text": text, "widened": "<*>"} for text in texts], system=name)
        lake.replace(
            PATTERNS,
            [
                day
                | {
                    "pattern_id": pattern,
                    "question_id": (questions or {}).get(pattern, pattern),
                    "events": [{"template_id": ids[text], "count": count} for text, count in events],
                    "n_sessions": (sessions or {}).get(pattern, 1),
                }
                for pattern, events in patterns.items()
            ],
            **day,
        )
        lake.replace(
            ROUTES,
            [day | {"pattern_id": pattern, "route": "general" if pattern in general else "proprietary"} for pattern in patterns],
            **day,
        )

    return put
