"""Two rounds: each pattern by itself, then the uncertain ones side by side, with one decision for a group of like differences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nightlog.llm.items import Answer, Comparison, Events, Item, Judge, Neighbour, Verdict, difference, distance, group_key, levels, nearest
from nightlog.systems.spec import System

UNCERTAIN = (0.30, 0.86)  # probability of an anomaly, both ends included

Neighbours = Callable[[Item], Sequence[Neighbour]]
NextBatch = Callable[[Collection[str], Mapping[str, Verdict]], Sequence[str]]


def is_uncertain(verdict: Verdict) -> bool:
    """Return True if a verdict of the first round is so uncertain that the second round is asked."""
    return verdict.round == 1 and UNCERTAIN[0] <= round(verdict.probability, 6) <= UNCERTAIN[1]


def with_comparisons(
    items: Sequence[Item], verdicts: Mapping[str, Verdict], sessions: Mapping[str, int], chosen: Iterable[Item]
) -> list[Item]:
    """Return the `chosen` items with their comparison to the nearest confident patterns among `items`, similar ones beside each other."""
    references: dict[str, list[tuple[Counter[str], Events]]] = {"normal": [], "anomalous": []}
    for item in items:
        verdict = verdicts.get(item.id)
        if verdict is not None and verdict.round == 1 and not is_uncertain(verdict):
            label = "anomalous" if verdict.probability > UNCERTAIN[1] else "normal"
            references[label].append((levels(item.events), item.events))
    total = max(1, sum(sessions.values()))
    found = []
    for item in {item.id: item for item in chosen}.values():
        near = {label: nearest(item.events, judged) for label, judged in references.items()}
        to = {label: difference(item.events, other.events) if other is not None else None for label, other in near.items()}
        share = sessions.get(item.id, 0) / total
        found.append(replace(item, comparison=Comparison(share, verdicts[item.id], to["normal"], to["anomalous"])))
    return sorted(found, key=lambda item: (str(item.comparison and item.comparison.to_normal), -sessions.get(item.id, 0), item.id))


def second_items(items: Sequence[Item], verdicts: Mapping[str, Verdict], sessions: Mapping[str, int]) -> list[Item]:
    """Return the questions of the second round: the items whose first verdict is uncertain, with their differences.

    Args: items, all that is known of the system, judged or not, each id once or more; verdicts by id, those of the second round settled
        already; sessions by id, of the whole period: their sum is what shares refer to.
    """
    return with_comparisons(items, verdicts, sessions, (item for item in items if item.id in verdicts and is_uncertain(verdicts[item.id])))


def representatives(items: Sequence[Item], sessions: Mapping[str, int], alone: Collection[str | None] = ()) -> list[Item]:
    """Return one item, the one with the most sessions, for each way to differ from the nearest normal pattern, in the order of `items`.

    Args: alone, keys of differences that say too little: each of their items stands for itself.
    """
    ranked = sorted(items, key=lambda item: (-sessions.get(item.id, 0), item.id), reverse=True)
    keys = {item.id: group_key(item) for item in items}
    chosen = {item.id if keys[item.id] in alone else keys[item.id] or item.id: item.id for item in ranked}.values()
    return [item for item in items if item.id in set(chosen)]


def group_keys(items: Sequence[Item], verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    """Return the key of an item's difference to the normal, by the id of each item with a verdict of the second round that has a key."""
    again = with_comparisons(items, verdicts, {}, (item for item in items if item.id in verdicts and verdicts[item.id].round == 2))
    return {item.id: key for item in again if (key := group_key(item)) is not None}


def group_decisions(items: Sequence[Item], verdicts: Mapping[str, Verdict]) -> dict[str, list[Verdict]]:
    """Return the verdicts of named groups by the key of their items' difference to the normal."""
    found: dict[str, list[Verdict]] = defaultdict(list)
    for name, key in group_keys(items, verdicts).items():
        if verdicts[name].group is not None:
            found[key].append(verdicts[name])
    return found


def inherited_verdicts(items: Sequence[Item], verdicts: Mapping[str, Verdict]) -> list[Verdict]:
    """Return verdicts on uncertain items that differ from the nearest confidently normal pattern in the same way as those of one group do.

    They get its decision without being asked, of several confidences the lowest. Where items that differ in this way were decided
    differently, nothing is decided.
    """
    doubtful = second_items(items, verdicts, {})
    known = group_decisions(items, verdicts) if doubtful else {}
    found = []
    for item in doubtful:
        like = known.get(group_key(item) or "", [])
        if len({(verdict.group, verdict.label) for verdict in like}) == 1:
            found.append(replace(min(like, key=lambda verdict: (verdict.confidence, verdict.reason)), id=item.id))
    return found


def neighbour_finder(items: Sequence[Item], verdicts: Mapping[str, Verdict], limit: int = 3) -> Neighbours:
    """Return a function that finds the `limit` nearest judged items that share a template with an item, the nearest first."""
    known = [(levels(item.events), item.events, verdicts[item.id].label) for item in items if item.id in verdicts]
    judged = [row for row in known if row[2] != "unclear"]

    def find(item: Item) -> list[Neighbour]:
        own = levels(item.events)
        near = [(distance(own, counts), str(events), (events, label)) for counts, events, label in judged if own.keys() & counts.keys()]
        return [neighbour for _, _, neighbour in sorted(near, key=lambda each: each[:2])[:limit]]

    return find


def ask_rounds(
    judge: Judge,
    system: System,
    items: Sequence[Item],
    sessions: Mapping[str, int],
    known: Mapping[str, Verdict],
    neighbours: Neighbours | None = None,
    next_batch: NextBatch | None = None,
) -> Iterator[Answer]:
    """Ask about all items that are not known, then about the uncertain ones side by side, one answer a request as it comes.

    A verdict of the second round replaces the first. Of the uncertain items that differ from what is normal in the same way one
    is asked; the others join its group, or a known one, and come in answers without calls. Where such items were decided differently
    before, or the first judgement of the one that was asked stands, each is asked. What nobody asked for is left out. No item is asked
    twice in the same round; a known verdict of the first round that is uncertain is asked in the second.

    Args: items, new and known ones, the known as what the others are compared with; sessions, see `second_items`; known, verdicts by id;
        neighbours, judged patterns like an item, shown in the first round; next_batch, which of the open ids to ask next by the verdicts so
        far, none if that is enough; all at once without. A judge that no longer asks ends the round.
    """
    verdicts = {item.id: known[item.id] for item in items if item.id in known}
    new = {item.id: item for item in items if item.id not in known}
    if neighbours is not None:
        new = {name: replace(item, neighbours=tuple(neighbours(item))) for name, item in new.items()}
    is_over = False
    while new and not is_over and (batch := next_batch(new, verdicts) if next_batch is not None else list(new)):
        asked = {name: new.pop(name) for name in batch}
        for answer in accept_answers(judge.judge(system, list(asked.values())), asked, verdicts, 1):
            yield answer
            is_over = answer.trouble is not None and not answer.asked and not answer.calls
    yield from join_groups(items, verdicts)
    if doubtful := second_items(items, verdicts, sessions):
        again = {item.id: item for item in representatives(doubtful, sessions, group_decisions(items, verdicts))}
        yield from accept_answers(judge.judge(system, list(again.values())), again, verdicts, 2)
        yield from join_groups(items, verdicts)
        stands = {group_key(item) for item in again.values() if verdicts[item.id].round == 2} - {None}
        open_items = (item for item in second_items(items, verdicts, sessions) if item.id not in again)
        if rest := {item.id: item for item in open_items if group_key(item) in stands}:
            yield from accept_answers(judge.judge(system, list(rest.values())), rest, verdicts, 2)


def join_groups(items: Sequence[Item], verdicts: dict[str, Verdict]) -> Iterator[Answer]:
    """Return the verdicts that need no request, as an answer, and add them to `verdicts`."""
    if found := inherited_verdicts(items, verdicts):
        verdicts |= {verdict.id: verdict for verdict in found}
        yield Answer(tuple(found), 0, 0, 0, round=2)


def accept_answers(answers: Iterable[Answer], asked: Mapping[str, Item], verdicts: dict[str, Verdict], number: int) -> Iterator[Answer]:
    """Return the answers of round `number` with verdicts on open questions only, and add these to `verdicts`."""
    waiting = set(asked)
    for answer in answers:
        fresh: dict[str, Verdict] = {verdict.id: verdict for verdict in answer.verdicts if verdict.id in waiting}
        waiting -= fresh.keys()
        verdicts |= fresh
        yield replace(answer, verdicts=tuple(fresh.values()), round=number)


@dataclass
class RoundsResult:
    """The result of two rounds: the final verdict of each id (known ones included), the verdicts of this first round, and the cost.

    `items`: the distinct items asked in the first and in the second round.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    first: dict[str, Verdict] = field(default_factory=dict)
    items: tuple[int, int] = (0, 0)
    calls: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    troubles: tuple[str, ...] = ()


def ask_both_rounds(
    judge: Judge,
    system: System,
    items: Sequence[Item],
    sessions: Mapping[str, int],
    known: Mapping[str, Verdict],
    neighbours: Neighbours | None = None,
) -> RoundsResult:
    """Return all of `ask_rounds` at once. A question without an answer has no verdict, or keeps that of the first round."""
    found = RoundsResult({item.id: known[item.id] for item in items if item.id in known})
    asked: dict[int, set[str]] = {1: set(), 2: set()}
    for answer in ask_rounds(judge, system, items, sessions, known, neighbours):
        fresh = {verdict.id: verdict for verdict in answer.verdicts}
        found.verdicts |= fresh
        if answer.round == 1:
            found.first |= fresh
        asked[answer.round] |= set(answer.asked)
        found.calls += answer.calls
        found.tokens_in += answer.tokens_in
        found.tokens_cached += answer.tokens_cached
        found.tokens_out += answer.tokens_out
        found.troubles += (answer.trouble,) if answer.trouble is not None else ()
    found.items = (len(asked[1]), len(asked[2]))
    return found
