"""Questions, verdicts and answers, and how patterns differ. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from nightlog.systems.spec import System

Label = Literal["normal", "anomalous", "unclear"]
Events = tuple[tuple[str, int | None], ...]
Neighbour = tuple[Events, Label]


@dataclass(frozen=True)
class Verdict:
    """The verdict on the question `id`: `confidence` in [0, 1] that `label` is right, `reason` one line of text.

    `round` 2 is the verdict side by side with other uncertain patterns; `group` names the difference of the pattern, None if the first
    verdict stands.
    """

    id: str
    label: Label
    confidence: float
    reason: str
    round: int = 1
    group: str | None = None

    @property
    def probability(self) -> float:
        """Return the probability of an anomaly in [0, 1]: 0.5 for "unclear"."""
        return {"normal": 1 - self.confidence, "anomalous": self.confidence, "unclear": 0.5}[self.label]


@dataclass(frozen=True)
class Difference:
    """The events that a pattern has more (`added`) and less (`missing`) than a judged one, as (template, count)."""

    added: Events
    missing: Events


@dataclass(frozen=True)
class Comparison:
    """The data that the second round shows of a pattern besides its events.

    `share` of the system's sessions in [0, 1], the `first` verdict, and the difference to the nearest confidently normal and the nearest
    confidently anomalous pattern, None without such a pattern.
    """

    share: float
    first: Verdict
    to_normal: Difference | None
    to_anomalous: Difference | None


@dataclass(frozen=True)
class Item:
    """One question: `events` are (template text, count) as the lake has them, unredacted; count is None if counts are meaningless.

    An item with a `comparison` belongs to the second round. `neighbours` are patterns of the same system that were judged before and are
    like this one; they are shown in the first round.
    """

    id: str
    events: Events
    comparison: Comparison | None = None
    neighbours: tuple[Neighbour, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The result of one request.

    `calls` counts attempts, retries included; `asked` are the ids that the request was about, empty if nothing was sent; `trouble` is a
    message, None if every item of the request was answered. `tokens_cached` are those of `tokens_in` that the provider had in its cache;
    `served_by` is the model that the answer itself names.
    """

    verdicts: tuple[Verdict, ...]
    calls: int
    tokens_in: int
    tokens_out: int
    asked: tuple[str, ...] = ()
    trouble: str | None = None
    tokens_cached: int = 0
    round: int = 1
    served_by: str | None = None


class Judge(Protocol):
    """Judges patterns. One judge serves a whole night, so that its budget holds for all systems together."""

    @property
    def name(self) -> str:
        """Return provider and model, as in `silver.verdicts.llm`."""

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """Return one answer for each request, each before another request is made, so that the caller can store it.

        All items belong to the same round; in the second each has a comparison, and a verdict without a group is the first one again.
        Trouble with the LLM is never raised: it is in `Answer.trouble`, and items without a verdict stay open.
        """


class NearestPattern(NamedTuple):
    """The nearest of some patterns, and its distance."""

    distance: int
    events: Events


def tally(events: Events, counted: bool = True) -> Counter[str]:
    """Return template → count; 1 for each template if counts are meaningless. Rows of the same text add up."""
    counts = Counter[str]()
    for template, count in events:
        counts[template] += count or 1
    return counts if counted else Counter(dict.fromkeys(counts, 1))


def is_counted(*patterns: Events) -> bool:
    """Return True if counts are meaningful in all of these patterns."""
    return all(count is not None for events in patterns for _, count in events)


def surplus(more: Mapping[str, int], less: Counter[str], counted: bool) -> Events:
    """Return the events of `more` that exceed `less`, in the order of the texts, counts rounded down to a power of two."""
    beyond = {template: count - less[template] for template, count in sorted(more.items()) if count > less[template]}
    return tuple((template, 1 << count.bit_length() - 1 if counted else None) for template, count in beyond.items())


def difference(events: Events, other: Events) -> Difference:
    """Return the difference of a pattern to another: of multisets, or of sets if counts are meaningless in one of them.

    >>> difference((("a", 4), ("b", 1)), (("a", 1), ("c", 2)))
    Difference(added=(('a', 2), ('b', 1)), missing=(('c', 2),))
    >>> difference((("a", None), ("b", None)), (("a", None),))
    Difference(added=(('b', None),), missing=())
    """
    counted = is_counted(events, other)
    one, two = tally(events, counted), tally(other, counted)
    return Difference(surplus(one, two, counted), surplus(two, one, counted))


def levels(events: Events) -> Counter[str]:
    """Return template → number of binary digits of its count."""
    return Counter({template: count.bit_length() for template, count in tally(events).items()})


def distance(one: Counter[str], other: Counter[str]) -> int:
    """Return the distance of two patterns by their `levels`: 1 for a template more or less, and 1 for each power of two."""
    return one.total() + other.total() - 2 * sum(min(level, other[template]) for template, level in one.items())


def nearest(events: Events, others: Iterable[tuple[Counter[str], Events]]) -> NearestPattern | None:
    """Return the nearest of `others`, given with their `levels`; of several equally near the first in the order of their texts."""
    own = levels(events)
    found = (NearestPattern(distance(own, counts), tuple(sorted(other, key=str))) for counts, other in others)
    return min(found, key=lambda each: (each.distance, str(each.events)), default=None)


def group_key(item: Item) -> str | None:
    """Return the hash of the difference of a second-round item to the nearest confidently normal pattern; None without such a pattern.

    Items of one key differ in the same way and get one decision. Counts, in powers of two, are part of it: one refused password is not
    sixty-four.
    """
    if item.comparison is None or item.comparison.to_normal is None:
        return None
    change = item.comparison.to_normal
    return hashlib.sha256(json.dumps([change.added, change.missing]).encode()).hexdigest()[:16]
