"""The results of many parts, joined in any order and any number of steps, are those of all lines at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from nightlog.lake import runner
from nightlog.lake.runner import Runner
from nightlog.parsing import events
from nightlog.parsing.events import Parsed, joined, parse_lines
from nightlog.parsing.number_ranges import of_templates
from parsing_help import lines_table, make_system
from pyspark.sql import SparkSession

DS = "2026-03-04"


def part_of(seed: int) -> pa.Table:
    """Return the lines of one part, in a file of its own."""
    rng = random.Random(seed)
    kinds = ["took {n} ms req-a", "sent {n} of {n} bytes req-b", "no number", "half {n}.5 and {n}"]
    lines = [f"2026-03-04 10:00:00 {rng.choice(['INFO', 'WARN'])} {rng.choice(kinds).format(n=rng.randint(1, 9))}" for _ in range(40)]
    return lines_table([*lines, f"no header {seed}"], f"{seed:03d}.log")


def parsed(seeds: Sequence[int]) -> Parsed:
    return parse_lines(pa.concat_tables([part_of(seed) for seed in seeds]), make_system(), DS)[1]


def comparable(found: Parsed) -> tuple[Any, ...]:
    """Return what the driver makes of a result."""
    texts = {number: text for number, (text, _) in found.messages.items()}
    ranges = of_templates(pa.concat_tables(found.numbers), texts, texts)
    totals = pa.concat_tables(found.totals).group_by(["ds", "message_id", "level"]).aggregate([("n", "sum"), ("last_at", "max")])
    in_order = totals.sort_by([("message_id", "ascending"), ("level", "ascending")]).to_pylist()
    return found.messages, found.tally, found.unmatched, ranges.to_dict("records"), in_order


@pytest.mark.parametrize("most_rows", [1, 30, 10_000])
def test_joined_results_are_those_of_all_lines(most_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_ROWS", most_rows)
    seeds = list(range(12))
    expected = comparable(joined([parsed(seeds)]))
    parts = [parsed([seed]) for seed in random.Random(2).sample(seeds, len(seeds))]
    assert comparable(joined(parts)) == expected
    assert comparable(joined([joined(parts[:5]), joined(parts[5:])])) == expected
    assert len(expected[3]) > 4
    assert len(joined(parts).numbers) <= (3 if most_rows == 1 else len(parts))


def test_spark_joins_many_results_before_they_are_sent(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MOST_RESULTS", 3)

    def join(results: Any) -> list[int]:
        return sorted(number for each in results for number in (each if isinstance(each, list) else [each]))

    tasks = list(range(11))
    assert Runner(spark, 0).run_joined(tasks, partial(pow, exp=2), join, 1) == [task**2 for task in tasks]
