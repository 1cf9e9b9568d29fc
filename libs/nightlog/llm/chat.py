"""The judge behind an endpoint: patterns in batches, bad items asked once more in smaller requests."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence

from nightlog.llm.answers import JudgedAgain, Reading, read_answer, verdict_of
from nightlog.llm.budget import Breaker
from nightlog.llm.client import ChatClient, Failure, Reply
from nightlog.llm.items import Events, Item
from nightlog.llm.judge import Answer
from nightlog.llm.prompt import gathered, messages, response_format, round_of, short_ids
from nightlog.llm.redaction import MAX_TEMPLATE
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

MAX_CHARACTERS = 100_000  # of templates in one request, about 25,000 tokens
SMALLER = 4  # a request's bad items are asked again in requests of a quarter of its size


def shown(item: Item) -> Events:
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
        weight = sum(min(len(template), MAX_TEMPLATE) for template, _ in shown(item))
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


class ChatJudge:
    """Asks an OpenAI-compatible endpoint, one request after the other.

    Args: items_per_call, patterns in one request of the first round; side_by_side, in one of the second, which is better the more of a
        system's uncertain patterns it can compare.
    """

    def __init__(self, client: ChatClient, breaker: Breaker, items_per_call: int, side_by_side: int):
        self.name = f"openai:{client.model}"
        self._client = client
        self._breaker = breaker
        self._sizes = {1: items_per_call, 2: side_by_side}

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`. What a request left open is asked once more, at once and in smaller requests."""
        queue = deque((batch, False) for batch in batches(items, self._sizes[round_of(items)]))
        while queue:
            if self._breaker.why is not None:
                yield Answer((), 0, 0, 0, trouble=self._breaker.why)
                return
            batch, again = queue.popleft()
            answer, divide = self._ask(system, batch)
            log.info(
                "%s: %d of %d patterns judged, %d calls%s",
                system.name,
                len(answer.verdicts),
                len(batch),
                answer.calls,
                answer.trouble or "",
            )
            yield answer
            judged = {verdict.id for verdict in answer.verdicts}
            open_items = [item for item in batch if item.id not in judged]
            if divide and open_items and not again:
                smaller = batches(open_items, max(1, len(batch) // SMALLER))
                queue.extendleft(reversed([(part, True) for part in smaller]))

    def _ask(self, system: System, batch: tuple[Item, ...]) -> tuple[Answer, bool]:
        """One request; and whether its open items may do better in smaller requests."""
        ids = tuple(item.id for item in batch)
        outcome = self._client.ask(messages(system, batch, gathered(batch)), response_format(round_of(batch)))
        if isinstance(outcome, Failure):
            if outcome.then == "stop":
                self._breaker.trip(outcome.trouble)
            else:
                self._breaker.failed(outcome.trouble)
            return Answer((), outcome.calls, 0, 0, ids if outcome.calls else (), outcome.trouble), outcome.then == "ask less"
        reading = read_reply(outcome, batch)
        if reading.verdicts:
            self._breaker.succeeded()
        else:
            self._breaker.failed(reading.trouble or "no verdicts")
        verdicts = tuple(
            verdict_of(item, judged.label, judged.confidence, judged.reason, judged.group if isinstance(judged, JudgedAgain) else None)
            for name, item in short_ids(batch).items()
            if (judged := reading.verdicts.get(name)) is not None
        )
        tokens = (outcome.tokens_in, outcome.tokens_out)
        return Answer(verdicts, outcome.calls, *tokens, ids, reading.trouble, outcome.tokens_cached), True
