"""How patterns differ: what one has more and less than another, and which judged pattern is nearest. Pure, and the same in any order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nightlog.llm.items import Difference, Events, Item


class Nearest(NamedTuple):
    """The nearest of some patterns, and how far it is."""

    distance: int
    events: Events


def tally(events: Events, counted: bool = True) -> Counter[str]:
    """Template → count; 1 for each template where counts tell nothing. Rows of the same text add up."""
    counts = Counter[str]()
    for template, count in events:
        counts[template] += count or 1
    return counts if counted else Counter(dict.fromkeys(counts, 1))


def is_counted(*patterns: Events) -> bool:
    """Whether counts tell something about all of these patterns."""
    return all(count is not None for events in patterns for _, count in events)


def surplus(more: Mapping[str, int], less: Counter[str], counted: bool) -> Events:
    """What `more` has beyond `less`, in the order of the texts, counts rounded down to a power of two."""
    beyond = {template: count - less[template] for template, count in sorted(more.items()) if count > less[template]}
    return tuple((template, 1 << count.bit_length() - 1 if counted else None) for template, count in beyond.items())


def difference(events: Events, other: Events) -> Difference:
    """What a pattern has more and less than another: of multisets, or of sets where counts tell nothing about one of them.

    >>> difference((("a", 4), ("b", 1)), (("a", 1), ("c", 2)))
    Difference(added=(('a', 2), ('b', 1)), missing=(('c', 2),))
    >>> difference((("a", None), ("b", None)), (("a", None),))
    Difference(added=(('b', None),), missing=())
    """
    counted = is_counted(events, other)
    one, two = tally(events, counted), tally(other, counted)
    return Difference(surplus(one, two, counted), surplus(two, one, counted))


def levels(events: Events) -> Counter[str]:
    """Template → how many binary digits its count has."""
    return Counter({template: count.bit_length() for template, count in tally(events).items()})


def distance(one: Counter[str], other: Counter[str]) -> int:
    """How far two patterns are apart, by their `levels`: a template more or less counts 1, and 1 for each power of two."""
    return one.total() + other.total() - 2 * sum(min(level, other[template]) for template, level in one.items())


def nearest(events: Events, others: Iterable[tuple[Counter[str], Events]]) -> Nearest | None:
    """The nearest of `others`, given with their `levels`; of several as near the first in the order of their texts."""
    own = levels(events)
    found = (Nearest(distance(own, counts), tuple(sorted(other, key=str))) for counts, other in others)
    return min(found, key=lambda each: (each.distance, str(each.events)), default=None)


def group_key(item: Item) -> str | None:
    """Hash of the difference of a second-round item to the nearest confidently normal pattern; None where there is no such pattern.

    Items of one key differ in the same way and get one decision. Counts, in powers of two, are part of it: one refused password is not
    sixty-four.
    """
    if item.comparison is None or item.comparison.to_normal is None:
        return None
    change = item.comparison.to_normal
    return hashlib.sha256(json.dumps([change.added, change.missing]).encode()).hexdigest()[:16]
