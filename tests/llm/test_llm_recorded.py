"""The recorded judge finds a pattern by its words and counts, and says where a file is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import ConfigError
from nightlog.llm.items import Comparison, Item, Verdict
from nightlog.llm.judge import make_judge
from nightlog.llm.recorded import RecordedJudge
from nightlog.settings import Settings
from nightlog.systems.spec import System


def row(label: str, *events: tuple[str, int], system: str = "hdfs", confidence: float = 0.8) -> dict[str, Any]:
    found = [{"template": template, "count": count} for template, count in events]
    return {"system": system, "events": found, "label": label, "confidence": confidence, "reason": f"is {label}"}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def ask(judge: RecordedJudge, system: System, *events: tuple[str, int]) -> tuple[str, float, str]:
    (answer,) = judge.judge(system, [Item("x", events)])
    assert (answer.calls, answer.tokens_in, answer.tokens_out, answer.trouble) == (0, 0, 0, None)
    (verdict,) = answer.verdicts
    return verdict.label, verdict.confidence, verdict.reason


def test_exact_then_nearest_then_nothing(tmp_path: Path, system: System, systems: Callable[..., System]) -> None:
    judge = RecordedJudge(
        write(
            tmp_path / "v.jsonl",
            row("normal", ("open <*>", 1), ("close <*>", 1)),
            row("anomalous", ("open <*>", 8), ("close <*>", 1), confidence=0.7),
            row("unclear", ("open <*>", 1)),
        )
    )
    assert ask(judge, system, ("close <NUM>", 1), ("OPEN <FILE> 7", 1)) == ("normal", 0.8, "is normal")
    assert ask(judge, system, ("open <*>", 15), ("close <*>", 1)) == ("anomalous", 0.7, "is anomalous"), "15 is the bucket of 8"
    assert ask(judge, system, ("open <*>", 4), ("close <*>", 1))[0] == "anomalous", "4 is nearer to 8 than to 1"
    assert ask(judge, system, ("open <*>", 2), ("close <*>", 1))[0] == "normal"
    assert ask(judge, system, ("open <*>", 64))[0] == "unclear"
    assert ask(judge, system, ("open <*>", 1), ("close <*>", 1), ("burn <*>", 1)) == ("unclear", 0.0, "never recorded")
    assert ask(judge, systems("bgl"), ("open <*>", 1)) == ("unclear", 0.0, "never recorded")
    assert list(judge.judge(system, [])) == []


def test_templates_of_the_same_words_add_up(tmp_path: Path, system: System) -> None:
    judge = RecordedJudge(write(tmp_path / "v.jsonl", row("normal", ("a <*>", 1), ("a <*> <*>", 1)), row("anomalous", ("a <*>", 1))))
    assert ask(judge, system, ("a <NUM>", 1), ("<NUM> a <NUM>", 1))[0] == "normal"
    assert ask(judge, system, ("a <NUM>", 1))[0] == "anomalous"


def test_a_later_line_corrects_an_earlier_one(tmp_path: Path, system: System) -> None:
    judge = RecordedJudge(write(tmp_path / "v.jsonl", row("normal", ("a", 1)), row("anomalous", ("a", 1))))
    assert ask(judge, system, ("a", 1))[0] == "anomalous"
    assert ask(judge, system, ("a", 4))[0] == "anomalous"


def test_recorded_are_templates_as_they_are_sent(tmp_path: Path, system: System) -> None:
    judge = RecordedJudge(write(tmp_path / "v.jsonl", row("normal", ("mail from <EMAIL> queued", 1))))
    assert ask(judge, system, ("mail from bob@example.com queued", 1))[0] == "normal"


def test_the_name_follows_the_content(tmp_path: Path) -> None:
    one, other = write(tmp_path / "1", row("normal", ("a", 1))), write(tmp_path / "2", row("normal", ("b", 1)))
    names = {RecordedJudge(one).name, RecordedJudge(write(tmp_path / "3", row("normal", ("a", 1)))).name}
    assert len(names) == 1
    assert RecordedJudge(other).name not in names
    assert names.pop().startswith("recorded:")


def test_a_missing_file_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NIGHTLOG_LLM_RECORDED"):
        make_judge(Settings(llm="recorded", llm_recorded=tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", ":2: line: Invalid JSON"),
        ("[]", ":2: line: Input should be an object"),
        (json.dumps(row("bad", ("a", 1))), ":2: label: "),
        (json.dumps(row("normal", ("a", 0))), ":2: events.0.count: "),
        (json.dumps(row("normal", ("a", 1), confidence=7)), ":2: confidence: "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps(row("normal", ("a", 1))) + "\n" + line + "\n\n")
    with pytest.raises(ConfigError) as caught:
        RecordedJudge(path)
    assert f"{path}{fault}" in str(caught.value)


def test_verdicts_carry_the_items_ids(tmp_path: Path, system: System) -> None:
    judge = RecordedJudge(write(tmp_path / "v.jsonl", row("normal", ("a", 1))))
    (answer,) = judge.judge(system, [Item("one", (("a", 1),)), Item("two", (("b", 1),))])
    assert answer.verdicts == (Verdict("one", "normal", 0.8, "is normal"), Verdict("two", "unclear", 0.0, "never recorded"))


def ask_again(judge: RecordedJudge, system: System, *events: tuple[str, int]) -> tuple[str, float, str | None]:
    first = Verdict("x", "anomalous", 0.5, "first")
    (answer,) = judge.judge(system, [Item("x", events, Comparison(0.1, first, None, None))])
    (verdict,) = answer.verdicts
    assert verdict.round == 2
    return verdict.label, verdict.confidence, verdict.group


def test_the_second_round_is_answered_where_it_is_recorded(tmp_path: Path, system: System) -> None:
    judge = RecordedJudge(
        write(
            tmp_path / "v.jsonl",
            row("anomalous", ("a", 1), confidence=0.5),
            row("anomalous", ("a", 8), confidence=0.5),
            row("normal", ("a", 1), confidence=0.7) | {"round": 2, "group": "slow"},
            row("normal", ("b", 1), confidence=0.6) | {"round": 2, "group": None},
        )
    )
    assert ask_again(judge, system, ("a", 1)) == ("normal", 0.7, "slow")
    assert ask_again(judge, system, ("a", 32)) == ("normal", 0.7, "slow"), "the nearest counts, as in the first round"
    assert ask_again(judge, system, ("a", 8)) == ("anomalous", 0.5, None), "known in the first round, and not judged again"
    assert ask_again(judge, system, ("b", 1)) == ask_again(judge, system, ("c", 1)) == ("anomalous", 0.5, None)
    assert ask(judge, system, ("a", 1)) == ("anomalous", 0.5, "is anomalous"), "the first round is as it was"
