"""The judge behind an endpoint: patterns in batches, bad items asked once more in smaller requests."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from nightlog.llm.budget import Breaker
from nightlog.llm.client import ChatClient, Failure, Reply
from nightlog.llm.items import Answer, Events, Item, Verdict
from nightlog.llm.prompt import (
    GroupAnswer,
    Reading,
    messages,
    read_answer,
    response_format,
    round_of,
    shared_neighbours,
    short_ids,
    verdict_of,
)
from nightlog.llm.redaction import MAX_TEMPLATE
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

MAX_CHARACTERS = 100_000  # of templates in one request, about 25,000 tokens
SMALLER = 4  # a request's bad items are asked again in requests of a quarter of its size


def shown_events(item: Item) -> Events:
    """All templates that a request has to name for an item."""
    if item.comparison is None:
        return item.events
    changes = [change for change in (item.comparison.to_normal, item.comparison.to_anomalous) if change is not None]
    return item.events + tuple(event for change in changes for event in change.added + change.missing)


def batches(items: Sequence[Item], size: int, characters: int = MAX_CHARACTERS) -> Iterator[tuple[Item, ...]]:
    """Cut items into requests, in their order: at most `size` items and about `characters` of text each, at least one item.

    >>> [len(batch) for batch in batches([Item(str(n), (("a" * 40, 1),)) for n in range(5)], size=4, characters=100)]
    [2, 2, 1]
    """
    batch: list[Item] = []
    length = 0
    for item in items:
        weight = sum(min(len(template), MAX_TEMPLATE) for template, _ in shown_events(item))
        if batch and (len(batch) >= size or length + weight > characters):
            yield tuple(batch)
            batch, length = [], 0
        batch.append(item)
        length += weight
    if batch:
        yield tuple(batch)


def read_reply(reply: Reply, items: Sequence[Item]) -> Reading:
    """The sound verdicts of a reply; none of a refusal."""
    if reply.refused:
        return Reading({}, "the LLM refused to answer")
    reading = read_answer(reply.text, short_ids(items), round_of(items))
    return Reading(reading.verdicts, "the answer is cut off") if reply.cut_off and len(reading.verdicts) < len(items) else reading


def verdicts_in(reading: Reading, items: Sequence[Item]) -> tuple[Verdict, ...]:
    """The verdicts of a reading on the items of its request."""
    return tuple(
        verdict_of(item, judged.label, judged.confidence, judged.reason, judged.group if isinstance(judged, GroupAnswer) else None)
        for name, item in short_ids(items).items()
        if (judged := reading.verdicts.get(name)) is not None
    )


class ChatJudge:
    """Asks an OpenAI-compatible endpoint, a few requests at a time.

    Args: items_per_call, patterns in one request of the first round; side_by_side, in one of the second, which is better the more of a
        system's uncertain patterns it can compare; at_once, requests under way at the same time.
    """

    def __init__(self, client: ChatClient, breaker: Breaker, items_per_call: int, side_by_side: int, at_once: int = 1):
        self.name = f"openai:{client.model}"
        self.sizes = {1: items_per_call, 2: side_by_side}
        self.client = client
        self.breaker = breaker
        self._at_once = at_once

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`. Answers come in the order in which they arrive; what a request left open is asked once more, next and in
        smaller requests. A kill loses the answers to the requests under way, and no other."""
        queue = deque((batch, False) for batch in batches(items, self.sizes[round_of(items)]))
        under_way: dict[Future[tuple[Answer, bool]], tuple[tuple[Item, ...], bool]] = {}
        with ThreadPoolExecutor(self._at_once, "llm") as pool:
            while queue or under_way:
                while queue and len(under_way) < self._at_once and self.breaker.why is None:
                    batch, again = queue.popleft()
                    under_way[pool.submit(self._ask, system, batch)] = (batch, again)
                if not under_way:
                    yield Answer((), 0, 0, 0, trouble=self.breaker.why)
                    return
                future = next(as_completed(under_way))
                batch, again = under_way.pop(future)
                answer, divide = future.result()
                said = (system.name, len(answer.verdicts), len(batch), answer.calls, answer.trouble or "")
                log.info("%s: %d of %d patterns judged, %d calls%s", *said)
                yield answer
                judged = {verdict.id for verdict in answer.verdicts}
                open_items = [item for item in batch if item.id not in judged]
                if divide and open_items and not again:
                    smaller = batches(open_items, max(1, len(batch) // SMALLER))
                    queue.extendleft(reversed([(part, True) for part in smaller]))

    def _ask(self, system: System, batch: tuple[Item, ...]) -> tuple[Answer, bool]:
        """One request; and whether its open items may do better in smaller requests."""
        ids = tuple(item.id for item in batch)
        outcome = self.client.ask(messages(system, batch, shared_neighbours(batch)), response_format(round_of(batch)), len(batch))
        spent = (outcome.calls, outcome.tokens.input, outcome.tokens.output)
        if isinstance(outcome, Failure):
            if outcome.then == "stop":
                self.breaker.trip(outcome.trouble)
            else:
                self.breaker.failed(outcome.trouble)
            return Answer((), *spent, ids if outcome.calls else (), outcome.trouble), outcome.then == "ask less"
        reading = read_reply(outcome, batch)
        if reading.verdicts:
            self.breaker.succeeded()
        else:
            self.breaker.failed(reading.trouble or "no verdicts")
        verdicts = verdicts_in(reading, batch)
        return Answer(verdicts, *spent, ids, reading.trouble, outcome.tokens.cached, served_by=outcome.served_by), True
