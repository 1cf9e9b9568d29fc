"""The order of a night's questions: those that teach most first, in batches, until that is enough; failed ones last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nightlog.history.answers import BATCH
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_CALLS, VERDICTS
from nightlog.llm.items import Answer, Item, Verdict
from nightlog.llm.order import MOST_SPREAD, AskingOrder
from nightlog.outcomes import Stage
from nightlog.run.context import Context, Versions
from nightlog.run.progress import Progress
from nightlog.run.stages import STEPS
from nightlog.settings import Settings
from nightlog.systems.spec import System

DS = "2008-11-10"
Patterns = dict[str, list[tuple[str, int]]]


class Keyword:
    """A judge that finds sessions with `halt` anomalous, and remembers what it was asked, request by request."""

    name = "keyword"

    def __init__(self, confidence: float = 0.97) -> None:
        self.asked: list[list[str]] = []
        self._confidence = confidence

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """Judge all items in one answer."""
        self.asked.append([item.id for item in items])
        labels = ["anomalous" if any("halt" in text for text, _ in item.events) else "normal" for item in items]
        verdicts = (Verdict(item.id, label, self._confidence, "by its words") for item, label in zip(items, labels, strict=True))
        yield Answer(tuple(verdicts), 1, 0, 0, tuple(item.id for item in items))


def many(n: int, n_halted: int = 3) -> tuple[Patterns, dict[str, int]]:
    """Return patterns of a usual system, some of them halted, and their sessions; the commonest are as usual as can be."""
    steps = "abcdefghijklmnop"
    found: Patterns = {}
    for number in range(n):
        events = [("open it", 1), ("close it", 1)] + [(f"step {steps[bit]} done", 1 << number % 3) for bit in range(6) if number >> bit & 1]
        found[f"usual{number:03}"] = events
    for number in range(4):
        found[f"halted{number}"] = [("open it", 1), (f"halt at step {steps[number]}", 1)]
    sessions = {name: 4 + 900 // (1 + number) if name.startswith("usual") else n_halted for number, name in enumerate(found)}
    return found, sessions


def label(lake: Lake, system: System, judge: Any, run: str = "run") -> dict[str, int]:
    """Return the counts of the label stage, as a night runs it."""
    context = Context(DS, run, (system,), lake, Settings(llm="off"), lambda: datetime(2008, 11, 11, tzinfo=UTC))
    context.__dict__["judge"] = judge
    return STEPS[Stage.LABEL].work(lake, context, system, Versions(None, "", None), Progress(context)).counts  # type: ignore[misc]


def test_questions_are_asked_in_batches_the_doubtful_ones_of_many_sessions_first(lake: Lake, put_night: Any, system: System) -> None:
    patterns, sessions = many(60)
    put_night(lake, patterns, sessions=sessions)
    judge = Keyword()
    counts = label(lake, system, judge)
    assert all(len(batch) <= BATCH for batch in judge.asked) and len(judge.asked) > 1
    flat = [name for batch in judge.asked for name in batch]
    assert len(set(flat)) == len(flat)
    assert any(name.startswith("halted") for name in judge.asked[0]), "rare, worded as trouble: the student is in doubt about them"
    assert judge.asked[0] != sorted(sessions, key=lambda name: -sessions[name])[:BATCH]
    assert counts["verdicts_new"] + counts["llm_left"] == len(patterns)


def test_when_the_student_has_little_doubt_left_nothing_more_is_asked(lake: Lake, put_night: Any, system: System) -> None:
    patterns, sessions = many(60, n_halted=100)
    put_night(lake, patterns, sessions=sessions)
    judge = Keyword()
    counts = label(lake, system, judge)
    assert 0 < counts["llm_left"] < len(patterns) and counts["llm_failed"] == 0
    assert counts["verdicts_new"] + counts["llm_left"] == len(patterns)
    again = label(lake, system, Keyword(), "again")
    assert (again["verdicts_new"], again["llm_left"]) == (0, counts["llm_left"]), "it stays enough"


def test_questions_that_failed_before_come_last(lake: Lake, put_night: Any, system: System) -> None:
    patterns, sessions = many(60)
    put_night(lake, patterns, sessions=sessions)
    failed = [name for name in patterns if name.startswith("halted")]
    call = {"system": "hdfs", "llm": "keyword", "round": 1, "at": datetime(2008, 11, 10, tzinfo=UTC)}
    lake.append(LLM_CALLS, [call | {"ds": DS, "run_id": "before", "unanswered": failed}])
    judge = Keyword(0.9)
    label(lake, system, judge)
    first = {name: number for number, batch in enumerate(judge.asked) for name in batch}
    others = [number for name, number in first.items() if name not in failed]
    assert all(first[name] >= max(others) for name in failed if name in first)


def test_while_the_history_is_learning_all_are_asked_the_commonest_first(lake: Lake, put_night: Any, system: System) -> None:
    patterns, sessions = many(30)
    put_night(lake, patterns, sessions={name: 1 + n // 100 for name, n in sessions.items()})
    judge = Keyword()
    assert label(lake, system, judge)["llm_left"] == 0
    assert len(judge.asked) == 1 and set(judge.asked[0]) == set(patterns) and judge.asked[0][0] == "usual000"


@pytest.mark.parametrize("answered", [True, False])
def test_what_an_analyst_answered_is_not_asked(lake: Lake, put_night: Any, system: System, answered: bool, tmp_path: Path) -> None:
    from nightlog.feedback.store import label_row, record

    patterns, sessions = many(60)
    put_night(lake, patterns, sessions=sessions)
    if answered:
        for name in (name for name in patterns if name.startswith("halted")):
            record(lake, label_row("hdfs", name, "anomalous", "kim", datetime(2008, 11, 10, tzinfo=UTC)))
    judge = Keyword()
    label(lake, system, judge)
    assert any(name.startswith("halted") for batch in judge.asked for name in batch) != answered
    assert lake.rows(VERDICTS)


def test_a_batch_that_is_answered_on_another_day_has_all_questions_the_ones_that_teach_most_first(
    lake: Lake, put_night: Any, system: System
) -> None:
    patterns, sessions = many(300)
    put_night(lake, patterns, sessions=sessions)
    order = AskingOrder(lake, system, DS, list(patterns), {}, {}, (), (), batch=len(patterns))
    asked = order(list(patterns), {})
    assert sorted(asked) == sorted(patterns)
    assert any(name.startswith("halted") for name in asked[:BATCH]) and not any(name.startswith("halted") for name in asked[MOST_SPREAD:])
