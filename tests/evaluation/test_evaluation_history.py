"""The evaluation of the history detector, on small systems with known answers and on the sample."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from nightlog.evaluation import history
from nightlog.evaluation.corpus import BENCHMARKS
from nightlog.evaluation.history import cold_start, evaluate, family_mean, report
from nightlog.evaluation.labelled import ADAPTATION, Labelled, from_sessions, labelled_systems, table_of
from nightlog.evaluation.simulate import ALL, Subject, read_verdicts, verdicts_of, with_answers, with_questions


def made_up(name: str, seed: int = 0) -> Labelled:
    """Sessions of five usual kinds, and rare ones that fail."""
    random = np.random.default_rng(seed)
    usual = [[("begin", 1), ("work", 1 << i), ("end", 1)] for i in range(4)] + [[("begin", 1), ("check", 1), ("end", 1)]]
    bad = [[("begin", 1), ("disk failure", 1)], [("begin", 1), ("work", 1), ("timed out", 2)], [("begin", 1), ("work", 2)]]
    pattern = random.choice(8, 3000, p=[0.3, 0.25, 0.2, 0.12, 0.1, 0.01, 0.01, 0.01])
    return table_of(name, name, True, [*usual, *bad], {}, pattern, random.random(3000) < 0.5, pattern >= 5)


def test_parts_and_labels_of_a_made_up_system() -> None:
    system = made_up("one")
    assert system.counts.sum() == 3000
    assert len(system.patterns) == 8
    assert system.reference().n_sessions == system.counts[:, ADAPTATION].sum()
    assert system.clean().anomalous.sum() == 0
    assert system.swapped().normal.sum() == system.counts[:, ADAPTATION, 0].sum()


def test_a_shortened_system_keeps_its_test_part() -> None:
    system = made_up("one")
    short = system.shortened(100)
    assert short.counts[:, ADAPTATION].sum() == 100
    assert short.normal.tolist() == system.normal.tolist()
    assert system.shortened(10**6).counts.tolist() == system.counts.tolist()
    assert len(cold_start([system], (50, 100)).splitlines()) == 7


def test_labels_of_the_target_never_reach_scores() -> None:
    system = made_up("one")
    turned = Labelled(**(vars(system) | {"counts": system.counts[:, :, ::-1]}))
    one, other = Subject.of(system), Subject.of(turned)
    assert one.scored.score.tolist() == other.scored.score.tolist()
    assert one.scored.flagged.tolist() == other.scored.flagged.tolist()


def test_the_history_finds_rare_failures_and_answers_make_it_perfect() -> None:
    subject = Subject.of(made_up("one"))
    assert subject.f1(subject.scored.flagged) > 0.9
    curve = with_answers(subject, (0, 8))
    assert subject.f1(curve.flagged[8]) == 1.0
    assert subject.alarms(subject.clean.flagged) == 0.0


def test_questions_never_exceed_the_budget_and_all_of_them_give_the_verdicts() -> None:
    subject = Subject.of(made_up("one"))
    verdict = np.where(subject.is_anomalous, 0.95, 0.05)
    group = ["a" if each else None for each in subject.is_anomalous]
    curve = with_questions(subject, verdict, group, (1, 3, 5, ALL))
    assert all(curve.questions[step] <= step for step in (1, 3, 5))
    assert curve.questions[ALL] == len(verdict) + 1
    assert curve.flagged[ALL].tolist() == subject.is_anomalous.tolist()


def test_records_and_report_of_two_families() -> None:
    records = evaluate([made_up("one"), made_up("two", 1)], None)
    modes = {row["mode"] for row in records}
    assert {"history", "history+10answers", "baseline:severity_words", "history -tree", "history, threshold of other families"} <= modes
    own = next(row for row in records if row["mode"] == "history")
    assert own["f1_low"] <= own["f1"] <= own["f1_high"] and own["ap_low"] <= own["average_precision"] <= own["ap_high"]
    text = report(records)
    assert "| history |" in text and "Choices made" in text and "Left out" not in text


def test_a_system_whose_patterns_say_nothing_is_left_out_of_means() -> None:
    random = np.random.default_rng(0)
    hopeless = table_of(
        "h", "h", True, [[("a", 1)], [("b", 1)]], {}, random.choice(2, 900), random.random(900) < 0.5, random.random(900) < 0.03
    )
    assert not hopeless.is_scorable and made_up("one").is_scorable
    text = report(evaluate([made_up("one"), hopeless], None))
    assert text.startswith("Left out of all means") and "| h |" not in text


def test_the_bootstrap_is_over_patterns() -> None:
    cells = history.Cells(np.array([3.0, 2.0, 1.0]), np.array([True, True, False]), np.array([900, 0, 0]), np.array([0, 500, 5000]))
    low, high, ap_low, ap_high = history.bootstrap(cells)
    assert low == 0.0 and high == 1.0  # a draw without the large pattern has nothing to find, one without the second no false alarm
    assert ap_low <= 1.0 <= ap_high + 1e-9


def test_family_mean_counts_families_not_systems() -> None:
    assert family_mean([("a", 0.0), ("a", 1.0), ("b", 1.0)]) == pytest.approx(0.75)


def test_recorded_verdicts_are_found_by_templates_and_counts(tmp_path: Path) -> None:
    subject = Subject.of(made_up("hdfs_blocks"))
    rows = [
        {
            "system": "hdfs",
            "kind": "pattern",
            "events": [{"template": e["template_id"], "count": e["count"]} for e in events],
            "label": "normal",
            "confidence": 0.6,
            "reason": "",
        }
        for events in subject.system.patterns.column("events").to_pylist()
    ]
    rows.append(rows[0] | {"round": 2, "label": "anomalous", "confidence": 0.9, "group": "g"})
    path = tmp_path / "verdicts.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    found = verdicts_of(subject, read_verdicts(path))
    assert found is not None
    assert found[0].tolist() == pytest.approx([0.9, *[0.4] * 7])
    assert found[1][0] == "g" and None not in found[1]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows[1:-1])).encode()))
    assert verdicts_of(subject, read_verdicts(path)) is None


def test_the_sample_is_parsed_with_levels_and_split_by_day() -> None:
    (system,) = labelled_systems(None, ("dovecot",))
    assert system.counts.sum() == 4632
    assert {"Info", "Error"} <= set(system.templates.level.values())
    assert 0.2 < system.counts[:, 1].sum() / system.counts.sum() < 0.5


@pytest.mark.shared
def test_a_session_set_keeps_its_labels(shared: Path) -> None:
    system = from_sessions(shared / "data" / "sessions", BENCHMARKS["openstack_vms"])
    assert system.counts.sum(axis=(0, 1)).tolist() == [5596 - 651, 651]
