"""References: read from patterns, bounded, merged, versioned."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from nightlog.errors import FormatError
from nightlog.history.reference import EVENTS, MAX_PATTERNS, Multisets, Reference, bounded


def patterns(rows: list[tuple[str, list[tuple[str | None, int | None]] | None, int | None]]) -> pa.Table:
    events = [None if pairs is None else [{"template_id": name, "count": n} for name, n in pairs] for _, pairs, _ in rows]
    ids = [name for name, *_ in rows]
    questions = ["q" + ",".join(sorted({str(name) for name, _ in pairs or ()})) for _, pairs, _ in rows]
    sessions = pa.array([n for *_, n in rows], pa.int64())
    return pa.table({"pattern_id": ids, "question_id": questions, "events": pa.array(events, EVENTS), "n_sessions": sessions})


ROWS = patterns([("p1", [("a", 1), ("b", 5)], 10), ("p2", [("a", 2)], 3), ("p3", [("c", 1)], 1)])


def test_levels_are_bit_lengths_and_new_templates_come_behind_the_known_ones() -> None:
    read = Multisets.of(ROWS.column("events"), True, ("b", "x"))
    assert read.template_ids == ("b", "x", "a", "c")
    assert read.dense(np.arange(4), presence=False).tolist() == [[3, 0, 1, 0], [0, 0, 2, 0], [0, 0, 0, 1]]


def test_without_counts_only_presence_is_read() -> None:
    assert set(Multisets.of(ROWS.column("events"), False).level.tolist()) == {1}


def test_null_events_and_null_counts_and_repeated_templates() -> None:
    rows = patterns([("p", None, 1), ("q", [("a", 3), ("a", 1), (None, 4), ("b", None)], 1), ("r", [], 1)])
    read = Multisets.of(rows.column("events"), True)
    assert read.starts.tolist() == [0, 0, 2, 2]
    assert dict(zip([read.template_ids[t] for t in read.template], read.level.tolist(), strict=True)) == {"a": 3, "b": 1}


def test_large_counts_keep_their_bit_length() -> None:
    rows = patterns([("p", [("a", 2**40), ("b", 2**40 - 1)], 1)])
    assert Multisets.of(rows.column("events"), True).level.tolist() == [41, 40]


def test_a_slice_of_a_column_is_read_as_its_own_rows() -> None:
    column = ROWS.column("events").combine_chunks().slice(1, 2)
    read = Multisets.of(column, True)
    assert [[read.template_ids[t] for t in read.template[read.starts[i] : read.starts[i + 1]]] for i in range(2)] == [["a"], ["c"]]


def test_no_patterns() -> None:
    read = Multisets.of(ROWS.slice(0, 0).column("events"), True)
    assert (len(read), read.template_ids) == (0, ())
    assert Reference.of_night(ROWS.slice(0, 0), True, "2026-03-02").n_sessions == 0


def test_order_of_rows_does_not_change_version() -> None:
    one, other = Reference.of_night(ROWS, True, "d"), Reference.of_night(ROWS.take([2, 0, 1]), True, "d")
    assert one.version == other.version
    assert one.version != Reference.of_night(ROWS.slice(1), True, "d").version


def test_without_counts_patterns_of_one_set_are_one_row() -> None:
    rows = patterns([("p1", [("a", 1)], 2), ("p2", [("a", 8)], 3), ("p3", [("b", 1)], 1)])
    assert sorted(Reference.of_night(rows, False).rows.column("n_sessions").to_pylist()) == [1, 5]


def test_merge_adds_up_and_does_not_depend_on_order() -> None:
    nights = [Reference.of_night(ROWS.slice(start), True, f"d{start}") for start in range(3)]
    merged = Reference.merge(nights)
    assert merged.n_sessions == 14 + 4 + 1
    assert merged.nights == ("d0", "d1", "d2")
    assert dict(zip(merged.rows.column("pattern_id").to_pylist(), merged.rows.column("n_sessions").to_pylist(), strict=True)) == {
        "p1": 10,
        "p2": 6,
        "p3": 3,
    }
    assert Reference.merge(nights[::-1]).version == merged.version


def test_a_night_is_not_merged_twice_and_counts_are_not_mixed() -> None:
    one = Reference.of_night(ROWS, True, "d")
    with pytest.raises(FormatError, match="twice"):
        Reference.merge([one, one])
    with pytest.raises(FormatError, match="counts"):
        Reference.merge([one, Reference.of_night(ROWS, False, "e")])


def test_the_night_that_is_scored_counts_half_and_the_first_night_whole() -> None:
    past, tonight = Reference.of_night(ROWS, True, "d1"), Reference.of_night(ROWS.slice(0, 1), True, "d2")
    assert past.including(tonight).n_sessions == 14 + 5
    assert past.including(tonight).nights == ("d1", "d2")
    assert Reference.merge([]).including(tonight).version == tonight.version
    uncounted = Reference.of_night(ROWS, False, "d3")
    assert Reference.merge([]).including(uncounted).version == uncounted.version


def test_arrow_round_trip_and_a_changed_table_is_refused() -> None:
    one = Reference.of_night(ROWS, True, "d")
    again = Reference.from_arrow(one.to_arrow())
    assert again.rows.equals(one.rows)
    assert (again.nights, again.counted, again.version) == (one.nights, one.counted, one.version)
    with pytest.raises(FormatError, match="does not match"):
        Reference.from_arrow(one.to_arrow().slice(1))
    with pytest.raises(FormatError, match="metadata"):
        Reference.from_arrow(ROWS)


def test_a_bounded_reference_keeps_frequent_patterns_and_the_expected_sum() -> None:
    heavy = [(f"h{i}", [("a", 1)], 1000) for i in range(5)]
    totals = []
    for draw in range(40):
        light = [(f"d{draw}-{i}", [("b", 1)], 1) for i in range(2000)]
        rows = Reference.of_night(patterns(heavy + light), True).rows
        kept = bounded(rows, 205)
        assert kept.num_rows == 205
        weights = dict(zip(kept.column("pattern_id").to_pylist(), kept.column("n_sessions").to_pylist(), strict=True))
        assert all(weights[f"h{i}"] == 1000 for i in range(5))
        totals.append(sum(weights.values()))
    assert np.mean(totals) == pytest.approx(7000, rel=0.03)
    assert MAX_PATTERNS >= 205
