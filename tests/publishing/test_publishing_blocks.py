"""Many anomalous sessions: worked through in blocks, and evidence that has not changed is not read again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from nightlog.detector.manifest import OF_GENERAL
from nightlog.detector.registry import Loaded
from nightlog.errors import GateFailed
from nightlog.lake.lake import Lake
from nightlog.lake.runner import Result, Runner, Task
from nightlog.lake.tables import (
    ANOMALIES,
    EVENTS_TABLE,
    FINDINGS,
    LINES_TABLE,
    MESSAGES,
    NIGHTS,
    PATTERNS,
    QUARANTINE,
    ROUTES,
    SCORES,
    SESSIONS,
    TEMPLATES,
    VERDICTS,
)
from nightlog.publishing.evidence import SHOWN_LINES
from nightlog.publishing.night_sessions import FEW_LINES, in_blocks, read_sessions
from nightlog.publishing.publish import Publication, publish
from nightlog.systems.spec import Input, Session, System

DS, DAY = "2026-03-04", {"system": "app", "ds": "2026-03-04"}
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SYSTEM = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"))
TEMPLATES_OF = {"usual": ["open", "close"], **{name: ["open", name, "close"] for name in ("lost", "full", "slow")}}
EACH = 5  # sessions of each pattern but the usual one
ALL = sorted({name for names in TEMPLATES_OF.values() for name in names})


class NotingRunner(Runner):
    """A runner that notes which sessions are looked for in the events, and how many tasks read parts."""

    def __init__(self) -> None:
        super().__init__()
        self.sought: list[str] = []
        self.tasks: list[str] = []

    def results(self, tasks: Sequence[Task], work: Callable[[Task], Result], n_bytes: int) -> Generator[tuple[int, Result], None, None]:
        given = getattr(work, "keywords", {})
        self.sought += given["of"].sessions.to_pylist() if "of" in given and tasks else []
        self.tasks += [work.func.__name__ for _ in tasks if isinstance(work, partial)]
        return super().results(tasks, work, n_bytes)


def publication(run_id: str) -> Publication:
    return Publication(DS, run_id, Loaded("m", None, OF_GENERAL, None), "prompt", "judge", NOON)  # type: ignore[arg-type]


def night(root: Path, seed: int = 0, **label: str) -> Lake:
    """A lake with a night of four patterns, its rows in any order and in several parts. Args: label: pattern → the LLM's verdict."""
    lake = Lake(root)
    lake.runner = NotingRunner()
    lake.append(TEMPLATES, [{"system": "app", "template_id": name, "text": f"{name} <FILE>"} for name in ALL])
    lake.append(MESSAGES, [{"system": "app", "message_id": n, "template_id": name} for n, name in enumerate(ALL)])
    sessions, events, lines = [], [], []
    for number in range(EACH * 7):
        pattern = [*[name for name in TEMPLATES_OF if name != "usual"], *["usual"] * 4][number % 7]
        start = NOON + timedelta(minutes=number)
        names = TEMPLATES_OF[pattern]
        sessions.append({"session_id": f"s{number * 37 % 100:02d}", "pattern_id": pattern, "n_events": len(names), "started_at": start})
        sessions[-1] |= {"ended_at": start + timedelta(seconds=len(names) - 1)}
        for n, name in enumerate(names):
            place = {"file": "a.log", "line_no": number * 10 + n + 1}
            at = start + timedelta(seconds=n)
            events.append(place | {"session_id": sessions[-1]["session_id"], "message_id": ALL.index(name), "at": at})
            lines.append(place | {"text": f"raw {place['line_no']} {name}"})
    for spec, rows in ((SESSIONS, sessions), (EVENTS_TABLE, events), (LINES_TABLE, lines)):
        for first in range(0, len(rows), len(rows) // 3):
            some = rows[first : first + len(rows) // 3]
            lake.append(spec, [DAY | row for row in random.Random(seed).sample(some, len(some))])
    about = [DAY | {"pattern_id": name} for name in TEMPLATES_OF]
    for row in about:
        name = row["pattern_id"]
        counted = [{"template_id": each, "count": 1} for each in TEMPLATES_OF[name]]
        n_sessions = sum(each["pattern_id"] == name for each in sessions)
        lake.append(PATTERNS, [row | {"question_id": name, "n_sessions": n_sessions, "events": counted}])
    lake.append(ROUTES, [row | {"route": "proprietary", "model": "m"} for row in about])
    lake.append(SCORES, [row | {"probability": 0.1, "model": "m"} for row in about])
    judge(lake, **({"usual": "normal", "lost": "anomalous", "full": "anomalous", "slow": "normal"} | label))
    return lake


def judge(lake: Lake, confidence: float = 0.9, **label: str) -> None:
    """Replace the verdicts of patterns."""
    kept = [row for row in lake.rows(VERDICTS) if row["question_id"] not in label]
    about = {"system": "app", "round": 1, "prompt": "prompt", "llm": "judge", "confidence": confidence, "reason": "why", "asked_at": NOON}
    lake.replace(VERDICTS, [*kept, *(about | {"question_id": name, "label": each} for name, each in label.items())], system="app")


def published(lake: Lake) -> list[dict[str, Any]]:
    """The rows of gold.anomalies, by session, without run and hash."""
    rows = sorted(lake.rows(ANOMALIES), key=lambda row: row["session_id"])
    return [{name: value for name, value in row.items() if name not in ("run_id", "run_evidence")} for row in rows]


def findings(lake: Lake) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "run_id"} for row in lake.rows(FINDINGS)]


def publish_noting(lake: Lake, run_id: str) -> tuple[set[str], list[str]]:
    """Publish the night. Returns the sessions that were looked for in the events, and the names of the tasks."""
    runner = lake.runner = NotingRunner()
    publish(lake, SYSTEM, publication(run_id), {}, 1.0)
    return set(runner.sought), runner.tasks


@pytest.mark.slow
def test_a_night_that_is_published_again_reads_no_event_and_no_line(tmp_path: Path) -> None:
    lake = night(tmp_path)
    sought, _ = publish_noting(lake, "first")
    before = published(lake)
    assert len(before) == 2 * EACH and sought == {row["session_id"] for row in before} and all(len(row["lines"]) == 3 for row in before)
    for spec in (EVENTS_TABLE, LINES_TABLE):
        for path in Path(lake.path(spec)).rglob("*.parquet"):
            path.unlink()
    assert publish_noting(lake, "second") == (set(), ["sessions_of_part"] * 4)
    assert published(lake) == before and {row["run_id"] for row in lake.rows(ANOMALIES)} == {"second"}


@pytest.mark.slow
def test_after_another_verdict_only_that_patterns_sessions_are_read_and_all_rows_are_those_of_a_new_lake(tmp_path: Path) -> None:
    lake = night(tmp_path / "old")
    publish_noting(lake, "first")
    judge(lake, slow="anomalous")
    sought, _ = publish_noting(lake, "second")
    slow = {row["session_id"] for row in lake.rows(SESSIONS) if row["pattern_id"] == "slow"}
    assert sought == slow and len(slow) == EACH
    judge(lake, confidence=0.7, lost="anomalous", full="normal")
    assert publish_noting(lake, "third")[0] == set(), "a confidence is no evidence"
    fresh = night(tmp_path / "new", seed=1, slow="anomalous", full="normal")
    judge(fresh, confidence=0.7, lost="anomalous")
    publish_noting(fresh, "first")
    assert published(lake) == published(fresh) and len(published(fresh)) == 2 * EACH
    assert findings(lake) == findings(fresh)


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["line", "event", "text"])
def test_evidence_is_read_again_when_a_line_an_event_or_a_template_has_changed(changed: str, tmp_path: Path) -> None:
    lake = night(tmp_path)
    publish_noting(lake, "first")
    if changed == "line":
        lake.replace(LINES_TABLE, [row | {"text": f"new {row['text']}"} for row in lake.rows(LINES_TABLE)], **DAY)
    elif changed == "event":
        lost = ALL.index("lost")
        lake.replace(
            EVENTS_TABLE, [row | {"level": "error" if row["message_id"] == lost else None} for row in lake.rows(EVENTS_TABLE)], **DAY
        )
    else:
        lake.replace(TEMPLATES, [row | {"text": f"new {row['template_id']}"} for row in lake.rows(TEMPLATES)], system="app")
    publish_noting(lake, "second")
    rows = published(lake)
    sought = {row["session_id"] for row in rows}
    lake.replace(ANOMALIES, [], **DAY)
    assert publish_noting(lake, "third")[0] == sought and published(lake) == rows
    if changed == "line":
        assert all(line["text"].startswith("new raw") for row in rows for line in row["lines"])
    if changed == "text":
        assert all(each["template"].startswith("new ") for row in rows for each in row["evidence"])


@pytest.mark.slow
def test_a_row_of_an_earlier_version_without_a_hash_is_read_again(tmp_path: Path) -> None:
    lake = night(tmp_path)
    publish_noting(lake, "first")
    before = published(lake)
    lake.replace(ANOMALIES, [row | {"run_evidence": None, "lines": []} for row in lake.rows(ANOMALIES)], **DAY)
    publish_noting(lake, "second")
    assert published(lake) == before


@pytest.mark.slow
def test_blocks_publish_what_one_block_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, blocks = night(tmp_path / "whole"), night(tmp_path / "blocks", seed=1)
    publish_noting(whole, "first")
    monkeypatch.setattr("nightlog.publishing.staging.BLOCK", 4 * FEW_LINES)
    publish_noting(blocks, "first")
    assert len(blocks.parts(ANOMALIES, **DAY)) == 3 and len(whole.parts(ANOMALIES, **DAY)) == 1
    assert published(blocks) == published(whole) and findings(blocks) == findings(whole)
    assert publish_noting(blocks, "second")[0] == set() and published(blocks) == published(whole)
    monkeypatch.setattr("nightlog.publishing.staging.BLOCK", 100 * FEW_LINES)
    assert publish_noting(blocks, "third")[0] == set() and published(blocks) == published(whole)
    assert len(blocks.parts(ANOMALIES, **DAY)) == 1


@pytest.mark.slow
def test_nothing_is_committed_unless_all_blocks_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightlog.publishing.staging.BLOCK", 4 * FEW_LINES)
    lake = night(tmp_path)
    publish_noting(lake, "first")
    before = lake.rows(ANOMALIES), lake.rows(FINDINGS), lake.rows(NIGHTS)
    ordered = sorted(lake.rows(SESSIONS), key=lambda row: row["started_at"])
    last = [row for row in ordered if row["pattern_id"] in ("lost", "full")][-1]["session_id"]
    lake.replace(SESSIONS, [row | ({"n_events": None} if row["session_id"] == last else {}) for row in ordered], **DAY)
    with pytest.raises(GateFailed, match="n_events"):
        publish_noting(lake, "second")
    assert (lake.rows(ANOMALIES), lake.rows(FINDINGS), lake.rows(NIGHTS)) == before
    (aside,) = lake.rows(QUARANTINE)
    assert json.loads(aside["row"])["session_id"] == last and aside["reason"].startswith("critical: ")


def test_sessions_are_counted_by_part_and_a_part_that_is_there_twice_is_noticed(tmp_path: Path) -> None:
    lake = night(tmp_path)
    sessions, anomalous, _ = read_sessions(lake, "app", DS, ["lost"])
    assert sessions.of_pattern == {"usual": 4 * EACH, "lost": EACH, "full": EACH, "slow": EACH}
    assert (sessions.n, sessions.n_repeated, sessions.n_without_events, sessions.n_end_early) == (7 * EACH, 0, 0, 0)
    assert len(lake.parts(SESSIONS, **DAY)) > 1 and set(anomalous.column("pattern_id").to_pylist()) == {"lost"} and len(anomalous) == EACH
    lake.append(SESSIONS, [row for row in lake.rows(SESSIONS) if row["session_id"] in {"s00", "s37"}])
    assert read_sessions(lake, "app", DS, [])[0].n_repeated == 2


def test_blocks_follow_the_start_of_sessions_and_hold_no_more_lines_than_their_size() -> None:
    times = [None, *(NOON + timedelta(minutes=n) for n in (5, 1, 3, 3))]
    n_events = [None, SHOWN_LINES, 3, 10**6, 1]
    rows = pa.table({"session_id": list("edcba"), "started_at": pa.array(times, pa.timestamp("us", "UTC")), "n_events": n_events})

    def blocks(size: int) -> list[str]:
        return ["".join(block.column("session_id").to_pylist()) for block in in_blocks(rows, size)]

    assert blocks(2 * FEW_LINES + SHOWN_LINES) == ["cab", "de"]
    assert blocks(SHOWN_LINES) == ["ca", "b", "d", "e"]
    assert blocks(1) == list("cabde") and blocks(10**9) == ["cabde"]
    assert list(in_blocks(rows.slice(0, 0), 2)) == []
