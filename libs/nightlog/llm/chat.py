"""The judge behind an endpoint: patterns in batches, bad items asked once more in smaller requests."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence

from nightlog.llm.answers import Reading, read_answer
from nightlog.llm.budget import Breaker
from nightlog.llm.client import ChatClient, Failure, Reply
from nightlog.llm.items import Item, Verdict
from nightlog.llm.judge import Answer
from nightlog.llm.prompt import messages, short_ids
from nightlog.llm.redaction import MAX_TEMPLATE
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

MAX_CHARACTERS = 100_000  # of templates in one request, about 25,000 tokens
SMALLER = 4  # a request's bad items are asked again in requests of a quarter of its size


def batches(items: Sequence[Item], size: int, characters: int = MAX_CHARACTERS) -> Iterator[tuple[Item, ...]]:
    """Cut items into requests, in their order: at most `size` items and about `characters` of text each, at least one item.

    >>> [len(batch) for batch in batches([Item(str(n), (("a" * 40, 1),)) for n in range(5)], size=4, characters=100)]
    [2, 2, 1]
    """
    batch: list[Item] = []
    length = 0
    for item in items:
        weight = sum(min(len(template), MAX_TEMPLATE) for template, _ in item.events)
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
    reading = read_answer(reply.text, short_ids(items))
    return Reading(reading.verdicts, "the answer is cut off") if reply.cut_off and len(reading.verdicts) < len(items) else reading


class ChatJudge:
    """Asks an OpenAI-compatible endpoint, one request after the other."""

    def __init__(self, client: ChatClient, breaker: Breaker, items_per_call: int):
        self.name = f"openai:{client.model}"
        self._client = client
        self._breaker = breaker
        self._items_per_call = items_per_call

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`. What a request left open is asked once more, at once and in smaller requests."""
        queue = deque((batch, False) for batch in batches(items, self._items_per_call))
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
        outcome = self._client.ask(messages(system, batch))
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
            Verdict(item.id, judged.label, judged.confidence, judged.reason)
            for name, item in short_ids(batch).items()
            if (judged := reading.verdicts.get(name)) is not None
        )
        return Answer(verdicts, outcome.calls, outcome.tokens_in, outcome.tokens_out, ids, reading.trouble), True
