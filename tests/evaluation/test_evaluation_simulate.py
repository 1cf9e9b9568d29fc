"""An analyst and an LLM are asked about small systems with known answers."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_help import KeywordJudge, made_up
from nightlog.errors import ConfigError
from nightlog.evaluation.judged import RememberingJudge, Verdicts, ask, read_recorded, recorded_verdicts, source_of_verdicts
from nightlog.evaluation.simulate import (
    ALL,
    STOP,
    Subject,
    fusionlog,
    settled_by_llm,
    with_answers,
    with_questions,
    with_verdicts_and_answers,
)
from nightlog.settings import Settings


def perfect(subject: Subject) -> Verdicts:
    """A right verdict on each pattern; the anomalous ones were asked a second time, as one group."""
    verdict = np.where(subject.is_anomalous, 0.95, 0.05)
    group = ["a" if each else None for each in subject.is_anomalous]
    return Verdicts(np.where(subject.is_anomalous, 0.6, 0.05), verdict, group, (len(group), 1))


def test_labels_of_the_target_never_reach_scores() -> None:
    system = made_up("one")
    one, other = Subject.of(system), Subject.of(replace(system, counts=system.counts[:, :, ::-1]))
    assert one.scored.score.tolist() == other.scored.score.tolist()
    assert one.scored.flagged.tolist() == other.scored.flagged.tolist()


def test_the_history_finds_rare_failures_and_answers_make_it_perfect() -> None:
    subject = Subject.of(made_up("one"))
    assert subject.f1(subject.scored.flagged) > 0.9
    outcomes = with_answers(subject, (0, 8))
    assert outcomes[8].flagged is not None and subject.f1(outcomes[8].flagged) == 1.0 and outcomes[8].answers == 8
    assert subject.alarms(subject.clean.flagged) == 0.0


def test_questions_never_exceed_the_budget_and_all_of_them_give_the_verdicts() -> None:
    subject = Subject.of(made_up("one"))
    outcomes = with_questions(subject, perfect(subject), (1, 3, 5, STOP, ALL))
    assert all(outcomes[step].asked <= step for step in (1, 3, 5))
    assert outcomes[STOP].asked <= outcomes[ALL].asked == len(subject.is_anomalous) + 1
    assert outcomes[ALL].flagged is not None and outcomes[ALL].flagged.tolist() == subject.is_anomalous.tolist()


def test_the_first_round_alone_differs_from_both() -> None:
    subject = Subject.of(made_up("one"))
    doubted = replace(perfect(subject), final=np.where(subject.is_anomalous, 0.2, 0.05))
    once, twice = (settled_by_llm(doubted, rounds) for rounds in (1, 2))
    assert once.flagged is not None and once.flagged.tolist() == subject.is_anomalous.tolist()
    assert twice.flagged is not None and not twice.flagged.any()
    assert twice.asked == once.asked + 1


def test_the_student_judges_what_the_llm_never_saw() -> None:
    subject = Subject.of(made_up("one"))
    outcome = fusionlog(subject, perfect(subject))
    assert outcome.flagged is not None and subject.f1(outcome.flagged) == 1.0
    seen = ~subject.system.unseen
    assert outcome.asked == seen.sum() + subject.is_anomalous[seen].any()


def test_an_answer_replaces_the_verdicts_of_its_group() -> None:
    subject = Subject.of(made_up("one"))
    wrong = Verdicts(
        np.full(8, 0.5), np.where(subject.is_anomalous, 0.4, 0.05), ["a" if each else None for each in subject.is_anomalous], (8, 1)
    )
    outcomes = with_verdicts_and_answers(subject, wrong, (0, 1))
    assert outcomes[1].flagged is not None and subject.f1(outcomes[1].flagged) == 1.0
    assert (outcomes[0].answers, outcomes[1].answers) == (0, 1)


def test_recorded_verdicts_are_found_by_templates_and_counts(tmp_path: Path) -> None:
    system = made_up("one")
    rows = [
        {
            "system": "one",
            "kind": "pattern",
            "events": [{"template": e["template_id"], "count": e["count"]} for e in events],
            "label": "normal",
            "confidence": 0.6,
            "reason": "",
        }
        for events in system.patterns.column("events").to_pylist()
    ]
    rows.append(rows[0] | {"round": 2, "label": "anomalous", "confidence": 0.9, "group": "g"})
    path = tmp_path / "verdicts.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    found = recorded_verdicts(system, read_recorded(path))
    assert found is not None
    assert found.first.tolist() == pytest.approx([0.4] * 8) and found.final.tolist() == pytest.approx([0.9, *[0.4] * 7])
    assert found.group[0] == "g" and None not in found.group
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows[1:-1])).encode()))
    assert recorded_verdicts(system, read_recorded(path)) is None
    with pytest.raises(ConfigError, match="no recorded verdicts"):
        read_recorded(tmp_path / "other")


def test_an_endpoint_is_asked_once_per_question(tmp_path: Path) -> None:
    system, judge = made_up("one"), KeywordJudge()
    found = [ask(RememberingJudge(judge, tmp_path / "verdicts.jsonl"), system) for _ in range(2)]
    assert max(Counter(judge.asked).values()) == 1
    assert found[0].final.tolist() == found[1].final.tolist() and found[0].asked == found[1].asked
    (tmp_path / "verdicts.jsonl").open("ab").write(b"\n{cut off")
    assert ask(RememberingJudge(judge, tmp_path / "verdicts.jsonl"), system).final.tolist() == found[0].final.tolist()


def test_without_an_llm_and_a_file_there_are_no_verdicts(tmp_path: Path) -> None:
    settings = Settings(llm="off")
    assert source_of_verdicts(settings, tmp_path / "none", explicit=False, folder=tmp_path)(made_up("one")) is None
    with pytest.raises(ConfigError, match="no recorded verdicts"):
        source_of_verdicts(settings, tmp_path / "none", explicit=True, folder=tmp_path)
