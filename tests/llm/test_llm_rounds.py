"""Two rounds: differences and groups are the same in any order, nothing is asked twice, and like differences are asked once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from nightlog.llm.items import Answer, Difference, Events, Item, Verdict, difference, distance, group_key, levels, nearest
from nightlog.llm.rounds import (
    UNCERTAIN,
    ask_both_rounds,
    ask_rounds,
    inherited_verdicts,
    is_uncertain,
    neighbour_finder,
    representatives,
    second_items,
)
from nightlog.systems.spec import System

# Differences


def test_multisets_differ_by_powers_of_two_and_sets_by_their_members() -> None:
    assert difference((("a", 8), ("b", 1), ("c", 2)), (("a", 1), ("c", 2), ("d", 4))) == Difference((("a", 4), ("b", 1)), (("d", 4),))
    assert difference((("b", None), ("a", None)), (("c", None), ("a", None))) == Difference((("b", None),), (("c", None),))
    assert difference((("a", 4),), (("a", None),)) == Difference((), ()), "where counts of one tell nothing, both are sets"
    assert difference((("a", 2),), (("a", 2),)) == difference((), ()) == Difference((), ())


def test_rows_of_the_same_text_add_up_and_order_has_no_influence() -> None:
    assert difference((("a", 1), ("b", 1), ("a", 1)), (("b", 1), ("a", 1))) == Difference((("a", 1),), ())
    one, other = (("a", 2), ("b", 1), ("c", 4)), (("c", 1), ("d", 1))
    for seed in range(5):
        mixed = [tuple(random.Random(seed).sample(events, len(events))) for events in (one, other)]
        assert difference(*mixed) == difference(one, other)


def test_distance_counts_templates_and_powers_of_two() -> None:
    def far(one: Events, other: Events) -> int:
        assert distance(levels(one), levels(other)) == distance(levels(other), levels(one))
        return distance(levels(one), levels(other))

    assert far((("a", 1),), (("a", 1),)) == far((), ()) == 0
    assert far((("a", 1),), (("a", 8),)) == 3
    assert far((("a", 1), ("b", 2)), (("a", 1),)) == 2
    assert far((("a", None), ("b", None)), (("b", None), ("c", None))) == 2


def test_the_nearest_is_the_same_in_any_order() -> None:
    others = [(("a", 1), ("b", 1)), (("a", 1), ("c", 1)), (("a", 64),)]
    found = {nearest((("a", 1),), [(levels(each), each) for each in random.Random(seed).sample(others, 3)]) for seed in range(6)}
    assert found == {(1, (("a", 1), ("b", 1)))}
    assert nearest((("a", 1),), []) is None


# The band


@pytest.mark.parametrize(
    ("label", "confidence", "uncertain"),
    [
        ("normal", 0.70, True),
        ("normal", 0.71, False),
        ("normal", 0.14, True),
        ("normal", 0.13, False),
        ("anomalous", 0.86, True),
        ("anomalous", 0.87, False),
        ("anomalous", 0.30, True),
        ("unclear", 0.0, True),
        ("unclear", 0.5, True),
    ],
)
def test_the_band_has_both_ends(label: Any, confidence: float, uncertain: bool) -> None:
    assert UNCERTAIN == (0.30, 0.86)
    assert is_uncertain(Verdict("x", label, confidence, "")) is uncertain
    assert not is_uncertain(Verdict("x", label, confidence, "", 2, "group"))
    assert not is_uncertain(Verdict("x", label, confidence, "", 2, None)), "what was judged twice is settled"


# A small system: `ok` is normal, `broken` anomalous, `odd` and `rare` leave a doubt

OK: Events = (("open", 1), ("close", 1))


def plus(*more: str) -> Events:
    return OK + tuple((name, 1) for name in more)


ITEMS = [
    Item("ok", OK),
    Item("ok-2", (("open", 8), ("close", 8))),
    Item("broken", plus("disk broken")),
    Item("odd", plus("odd")),
    Item("odd-2", (("open", 8), ("close", 8), ("odd", 1))),
    Item("rare", plus("rare")),
    Item("both", plus("odd", "rare")),
]
SESSIONS = {"ok": 900, "ok-2": 50, "broken": 5, "odd": 20, "odd-2": 10, "rare": 10, "both": 5}


class Reader:
    """A judge that reads: what it is asked is kept; in the second round it groups by what is added."""

    name = "reader"

    def __init__(self, size: int = 100, silent: Sequence[str] = (), unnamed: Sequence[str] = ()):
        self.size, self.silent, self.unnamed = size, silent, unnamed
        self.asked: list[tuple[int, str]] = []
        self.seen: dict[str, Item] = {}

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        assert len({item.comparison is None for item in items}) == 1, "all items of a request belong to one round"
        for start in range(0, len(items), self.size):
            batch = items[start : start + self.size]
            self.asked += [(1 if item.comparison is None else 2, item.id) for item in batch]
            self.seen |= {item.id: item for item in batch}
            verdicts = tuple(self.read(item) for item in batch if item.id not in self.silent)
            yield Answer(verdicts, 1, 100, 10, tuple(item.id for item in batch), "silence" if self.silent else None, tokens_cached=40)

    def read(self, item: Item) -> Verdict:
        names = {template for template, _ in item.events}
        if item.comparison is None:
            if "disk broken" in names:
                return Verdict(item.id, "anomalous", 0.95, "broken")
            return Verdict(item.id, "normal", 0.6 if names & {"odd", "rare"} else 0.95, "first")
        assert item.comparison.to_normal is not None
        added = "+".join(template for template, _ in item.comparison.to_normal.added)
        if added in self.unnamed:
            return Verdict(item.id, "normal", 0.6, "first", 2, None)
        return Verdict(item.id, "anomalous" if "rare" in added else "normal", 0.8, "again", 2, added)


def ask(judge: Reader, system: System, items: Sequence[Item] = ITEMS, known: dict[str, Verdict] | None = None) -> dict[str, Verdict]:
    return ask_both_rounds(judge, system, items, SESSIONS, known or {}).verdicts


def test_uncertain_items_get_share_first_verdict_and_nearest_differences() -> None:
    first = {item.id: Reader().read(item) for item in ITEMS}
    found = {item.id: item.comparison for item in second_items(ITEMS, first, SESSIONS)}
    assert found.keys() == {"odd", "odd-2", "rare", "both"}
    odd, both = found["odd-2"], found["both"]
    assert odd is not None and both is not None
    assert (odd.share, odd.first) == (0.01, first["odd-2"])
    assert odd.to_normal == Difference((("odd", 1),), ())
    assert odd.to_anomalous == Difference((("close", 4), ("odd", 1), ("open", 4)), (("disk broken", 1),))
    assert both.to_normal == Difference((("odd", 1), ("rare", 1)), ())
    alone = second_items(ITEMS[3:4], first, SESSIONS)[0].comparison
    assert alone is not None and (alone.to_normal, alone.to_anomalous) == (None, None)
    assert second_items([], {}, {}) == second_items(ITEMS, {}, SESSIONS) == []


def test_the_second_round_is_the_same_whatever_the_order_and_the_repetitions() -> None:
    first = {item.id: Reader().read(item) for item in ITEMS}
    wanted = second_items(ITEMS, first, SESSIONS)
    for seed in range(6):
        mixed = [Item(item.id, tuple(random.Random(seed).sample(item.events, len(item.events)))) for item in ITEMS]
        found = second_items(random.Random(seed).sample(mixed, len(mixed)) + mixed[:4], first, SESSIONS)
        assert [(item.id, item.comparison) for item in found] == [(item.id, item.comparison) for item in wanted]


def test_items_that_differ_alike_are_asked_once_and_decided_together(system: System) -> None:
    judge = Reader()
    found = ask_both_rounds(judge, system, ITEMS, SESSIONS, {})
    assert [name for number, name in judge.asked if number == 2] == ["both", "odd", "rare"], "of two with the same difference the larger"
    assert {name: (v.label, v.confidence, v.group) for name, v in found.verdicts.items() if v.round == 2} == {
        "odd": ("normal", 0.8, "odd"),
        "odd-2": ("normal", 0.8, "odd"),
        "rare": ("anomalous", 0.8, "rare"),
        "both": ("anomalous", 0.8, "odd+rare"),
    }
    assert {name for name, v in found.verdicts.items() if v.round == 1} == {"ok", "ok-2", "broken"}
    assert {v.confidence for v in found.first.values()} == {0.6, 0.95} and found.first.keys() == found.verdicts.keys()
    assert (found.items, found.calls, found.tokens_in, found.tokens_cached, found.tokens_out) == ((7, 3), 2, 200, 80, 20)
    assert found.troubles == ()


def test_the_order_of_the_items_does_not_change_a_verdict(system: System) -> None:
    wanted = ask(Reader(), system)
    for seed in range(5):
        assert ask(Reader(size=2), system, random.Random(seed).sample(ITEMS, len(ITEMS))) == wanted


def test_what_is_known_is_not_asked_again(system: System) -> None:
    first = ask(Reader(), system)
    again = Reader()
    assert ask(again, system, known=first) == first
    assert again.asked == []
    doubtful = first | {"odd": Verdict("odd", "normal", 0.6, "old"), "odd-2": Verdict("odd-2", "normal", 0.6, "old")}
    del doubtful["rare"]
    assert ask(again, system, known=doubtful)["odd"].round == 2
    assert again.asked == [(1, "rare"), (2, "odd"), (2, "rare")], (
        "a first verdict that leaves a doubt is asked about in the second round alone"
    )


def test_a_new_pattern_joins_a_known_group_without_being_asked(system: System) -> None:
    old = [item for item in ITEMS if item.id != "odd-2"]
    known = ask(Reader(), system, old)
    known["odd"] = Verdict("odd", "anomalous", 0.7, "the group's", 2, "group of odd")
    judge = Reader()
    assert ask(judge, system, known=known)["odd-2"] == Verdict("odd-2", "anomalous", 0.7, "the group's", 2, "group of odd")
    assert judge.asked == [(1, "odd-2")]


def test_nobody_joins_where_like_patterns_were_decided_differently(system: System) -> None:
    items = [*ITEMS, Item("odd-3", (("odd", 1), ("open", 8), ("close", 8)))]
    first = {item.id: Reader().read(item) for item in ITEMS}
    for one, other, joins in (
        (("normal", "a"), ("normal", "a"), True),
        (("normal", "a"), ("anomalous", "a"), False),
        (("normal", "a"), ("normal", "b"), False),
        (("normal", "a"), ("anomalous", None), True),
        (("normal", None), ("normal", None), False),
    ):
        known = first | {n: Verdict(n, v[0], 0.8, n, 2, v[1]) for n, v in (("odd", one), ("odd-2", other))}  # type: ignore[arg-type]
        known["odd-3"] = Verdict("odd-3", "normal", 0.65, "own")
        found = {verdict.id: verdict for verdict in inherited_verdicts(items, known)}
        assert ("odd-3" in found) is joins
        if joins:
            assert (found["odd-3"].label, found["odd-3"].round, found["odd-3"].group) == ("normal", 2, "a")


def test_where_like_patterns_were_decided_differently_each_new_one_is_asked(system: System) -> None:
    more = [Item(f"odd-{n}", (("open", 1 << n), ("close", 1 << n), ("odd", 1))) for n in range(4, 7)]
    normal = [Item(f"ok-{n}", (("open", 1 << n), ("close", 1 << n))) for n in range(4, 7)]
    known = ask(Reader(), system)
    known["odd-2"] = Verdict("odd-2", "anomalous", 0.8, "other", 2, "other")
    judge = Reader()
    found = ask(judge, system, [*ITEMS, *normal, *more], known)
    assert [name for number, name in judge.asked if number == 2] == ["odd-4", "odd-5", "odd-6"]
    assert all(verdict.round == 2 for name, verdict in found.items() if "odd" in name)


def test_a_label_that_the_llm_itself_disbelieves_is_no_reference() -> None:
    verdicts = {"ok": Verdict("ok", "anomalous", 0.05, "hardly"), "odd": Verdict("odd", "unclear", 0.5, "")}
    (item,) = second_items(ITEMS, verdicts, SESSIONS)
    assert item.comparison is not None
    assert (item.comparison.to_normal, item.comparison.to_anomalous) == (Difference((("odd", 1),), ()), None)


def test_without_a_normal_pattern_each_is_asked_for_itself(system: System) -> None:
    judge = Reader()
    items = [item for item in ITEMS if not item.id.startswith("ok")]
    asked = second_items(items, {item.id: judge.read(item) for item in items}, SESSIONS)
    assert {group_key(item) for item in asked} == {None}
    assert representatives(asked, SESSIONS) == asked


def test_where_no_group_is_named_each_is_asked_and_keeps_its_first_verdict(system: System) -> None:
    judge = Reader(unnamed=["odd"])
    found = ask(judge, system)
    for name in ("odd", "odd-2"):
        assert (found[name].label, found[name].confidence, found[name].round, found[name].group) == ("normal", 0.6, 2, None)
    assert [name for number, name in judge.asked if number == 2] == ["both", "odd", "rare", "odd-2"]
    assert ask(judge, system, known=found) == found and len(judge.asked) == 11, "nor are they asked once more"


@pytest.mark.parametrize("unnamed", [(), ("odd",)])
def test_an_end_at_any_point_leaves_what_the_next_run_goes_on_with(system: System, unnamed: tuple[str, ...]) -> None:
    whole = ask(Reader(unnamed=unnamed), system)
    for heard in range(13):
        known: dict[str, Verdict] = {}
        first, second = Reader(size=1, unnamed=unnamed), Reader(size=1, unnamed=unnamed)
        for number, answer in enumerate(ask_rounds(first, system, ITEMS, SESSIONS, known)):
            known = known | {verdict.id: verdict for verdict in answer.verdicts}
            if number == heard:
                break
        assert ask(second, system, known=known) == whole
        assert not set(first.asked) & set(second.asked), "no question is paid twice"


def test_what_is_not_answered_stays_open(system: System) -> None:
    found = ask_both_rounds(Reader(silent=["rare", "ok"]), system, ITEMS, SESSIONS, {})
    assert found.verdicts.keys() == SESSIONS.keys() - {"rare", "ok"}
    assert found.items == (7, 3)
    assert found.troubles == ("silence", "silence")


def test_strangers_and_repeated_answers_are_left_out(system: System) -> None:
    class Eager(Reader):
        def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
            for label in ("normal", "anomalous"):
                yield Answer((Verdict("ok", label, 0.95, label), Verdict("stranger", label, 0.95, label)), 1, 0, 0)  # type: ignore[arg-type]

    answers = list(ask_rounds(Eager(), system, ITEMS[:1], SESSIONS, {}))
    assert [[(v.id, v.label) for v in answer.verdicts] for answer in answers] == [[("ok", "normal")], []]


def test_nothing_is_asked_about_nothing(system: System) -> None:
    judge = Reader()
    assert ask_both_rounds(judge, system, [], {}, {}).items == (0, 0)
    assert judge.asked == []


def test_neighbours_are_shown_in_the_first_round(system: System) -> None:
    known = {"ok": Verdict("ok", "normal", 0.95, ""), "broken": Verdict("broken", "anomalous", 0.95, "")}
    judge = Reader()
    neighbours = neighbour_finder(ITEMS, known, limit=1)
    ask_both_rounds(judge, system, [*ITEMS[:4], Item("other", (("elsewhere", 1),))], SESSIONS, known, neighbours)
    assert neighbours(ITEMS[3]) == [(OK, "normal")]
    assert neighbour_finder(ITEMS, known)(Item("x", plus("disk broken", "odd")))[0] == (plus("disk broken"), "anomalous")
    assert (1, "other") in judge.asked and judge.seen["other"].neighbours == (), "nothing in common"
    assert neighbour_finder(ITEMS, {"ok": Verdict("ok", "unclear", 0.5, "")})(ITEMS[3]) == []


# Against the recorded server


@pytest.mark.shared
def test_the_recorded_groups_arrive(serve: Any, judge_at: Any, recorded_patterns: Any, recorded_again: Any, systems: Any) -> None:
    rows = recorded_patterns("bgl", 450)
    items = [Item(str(n), tuple((event["template"], None) for event in row["events"])) for n, row in enumerate(rows)]
    groups = {frozenset(event["template"] for event in row["events"]): row for row in recorded_again("bgl")}
    found = ask_both_rounds(judge_at(serve()), systems("bgl"), items, {item.id: 1 for item in items}, {})
    assert (found.verdicts.keys(), found.troubles) == ({item.id for item in items}, ())
    named = {verdict.group for verdict in found.verdicts.values()} - {None}
    assert named >= {"hardware monitor stopped", "link wire warning", "bit steering exhausted"}
    right = [
        found.verdicts[item.id].label == groups[texts]["label"]
        for item in items
        if len(item.events) > 1 and (texts := frozenset(template for template, _ in item.events)) in groups
    ]
    assert len(right) > 150
    assert sum(right) / len(right) > 0.95, "patterns that join a group are decided as if they had been asked"
    assert found.items[1] < sum(verdict.round == 2 for verdict in found.verdicts.values())
