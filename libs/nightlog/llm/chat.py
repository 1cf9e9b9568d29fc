"""The judge behind an endpoint: requests as large as the server manages in time, failed ones asked again in smaller parts."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Lock

from nightlog.llm.budget import Breaker, TimeLimit
from nightlog.llm.client import ChatClient, Reply
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
from nightlog.llm.retries import Consequence
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

MAX_CHARACTERS = 100_000  # of templates in one request, about 25,000 tokens
SMALLER = 4  # a request's bad items are asked again in requests of a quarter of its size
FIRST_ITEMS = 4  # in the first request to a server of unknown speed
FULL = 0.8  # of the time-out may be used by a request


def shown_events(item: Item) -> Events:
    """Return all templates that a request has to name for an item."""
    if item.comparison is None:
        return item.events
    changes = [change for change in (item.comparison.to_normal, item.comparison.to_anomalous) if change is not None]
    return item.events + tuple(event for change in changes for event in change.added + change.missing)


def batches(items: Sequence[Item], size: int, characters: int = MAX_CHARACTERS) -> Iterator[tuple[Item, ...]]:
    """Split items into requests, in their order: at most `size` items and about `characters` of text each, at least one item.

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
    """Return the sound verdicts of a reply; none of a refusal."""
    if reply.refused:
        return Reading({}, "the LLM refused to answer")
    reading = read_answer(reply.text, short_ids(items), round_of(items))
    return Reading(reading.verdicts, "the answer is cut off") if reply.cut_off and len(reading.verdicts) < len(items) else reading


def verdicts_in(reading: Reading, items: Sequence[Item]) -> tuple[Verdict, ...]:
    """Return the verdicts of a reading on the items of its request."""
    return tuple(
        verdict_of(item, judged.label, judged.confidence, judged.reason, judged.group if isinstance(judged, GroupAnswer) else None)
        for name, item in short_ids(items).items()
        if (judged := reading.verdicts.get(name)) is not None
    )


class RequestSize:
    """The number of items that the server manages in one request within the time-out.

    A request about n times the items takes at most n times as long. So after an answer about `items` in `seconds` the size may grow to
    the multiple that still fits the time-out; a time-out halves it, and that size is not tried again. Safe to share between threads.

    Args: first, items of the first request; timeout_s, None without a limit.
    """

    def __init__(self, first: int, timeout_s: float | None):
        self.items = first
        self.in_a_row = 1_000  # requests of this size that the server manages in time one after the other
        self.is_measured = False
        self._timeout_s = timeout_s
        self._too_large: int | None = None
        self._lock = Lock()

    def answered(self, items: int, seconds: float) -> None:
        """Note that a request about so many items was answered after so many seconds."""
        with self._lock:
            self.is_measured = True
            if self._timeout_s is None or items < self.items:
                return  # a smaller request than the size allows says nothing about larger ones
            times = int(FULL * self._timeout_s / max(seconds, 1e-3))
            self.in_a_row = max(1, times)
            larger = items * times if times > 1 else items + (seconds * (items + 1) / items < FULL * self._timeout_s)
            self.items = larger if self._too_large is None else max(items, min(larger, self._too_large - 1))

    @property
    def has_timed_out(self) -> bool:
        """Return True after a time-out: requests at the same time may wait for each other at the server."""
        return self._too_large is not None

    def timed_out(self, items: int) -> None:
        """Note that a request about so many items was not answered in time."""
        with self._lock:
            self.is_measured = True
            self._too_large = min(items, self._too_large or items)
            self.items = max(1, min(self.items, items // 2))


@dataclass
class Family:
    """A request with the smaller ones that it was split into: together they are one failure, or none."""

    open_requests: int = 1
    n_verdicts: int = 0
    has_failed: bool = False
    trouble: str = "no verdicts"


@dataclass(frozen=True)
class Request:
    """Items to ask about; `is_second`: its items had a bad answer before."""

    items: tuple[Item, ...]
    family: Family
    is_second: bool = False


class Queue:
    """The requests still to be made: parts of earlier requests first, then the items in their order."""

    def __init__(self, items: Sequence[Item], size: RequestSize, largest: int):
        self._parts: deque[Request] = deque()
        self._items = deque(items)
        self._size = size
        self._largest = largest

    def __bool__(self) -> bool:
        return bool(self._parts or self._items)

    def next(self) -> Request:
        """Return the next request, as large as the size allows now."""
        size = max(1, min(self._size.items, self._largest))
        if self._parts:
            request = self._parts.popleft()
            first, *rest = batches(request.items, size)
            self.split(request, rest)
            return Request(first, request.family, request.is_second)
        candidates = [self._items[n] for n in range(min(size, len(self._items)))]
        items = next(batches(candidates, size))
        for _ in items:
            self._items.popleft()
        return Request(items, Family())

    def split(self, request: Request, parts: Sequence[tuple[Item, ...]], is_second: bool | None = None) -> None:
        """Put parts of a request first in the queue, as members of its family."""
        request.family.open_requests += len(parts)
        marked = request.is_second if is_second is None else is_second
        self._parts.extendleft(Request(part, request.family, marked) for part in reversed(parts))

    def postpone(self, family: Family) -> None:
        """Move what is left of a family to the end, where its items begin families of their own."""
        rest = [request for request in self._parts if request.family is family]
        self._parts = deque(request for request in self._parts if request.family is not family)
        family.open_requests -= len(rest)
        self._items.extend(item for request in rest for item in request.items)


class ChatJudge:
    """Asks an OpenAI-compatible endpoint, a few requests at a time.

    Args: items_per_call, patterns in one request of the first round at most; side_by_side, in one of the second, which is better the more
        of a system's uncertain patterns it can compare; first_items, in the first request; at_once, requests under way at the same time.
    """

    def __init__(
        self,
        client: ChatClient,
        breaker: Breaker,
        time_limit: TimeLimit,
        items_per_call: int,
        side_by_side: int,
        first_items: int | None = None,
        at_once: int = 1,
    ):
        self.name = f"openai:{client.options.model}"
        self.sizes = {1: items_per_call, 2: side_by_side}
        self.client = client
        self.breaker = breaker
        largest = max(self.sizes.values())
        first = first_items if first_items is not None else largest if client.options.is_openai else FIRST_ITEMS
        self.size = RequestSize(first, client.options.timeout_s)
        self.size.is_measured = first >= largest
        self._time_limit = time_limit
        self._at_once = at_once

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`.

        Answers come in the order in which they arrive. What a request left open is asked again, next and in smaller requests. A kill loses
        the answers to the requests under way, and no other.
        """
        queue = Queue(items, self.size, self.sizes[round_of(items)])
        under_way: dict[Future[tuple[Answer, Consequence | None]], Request] = {}
        with ThreadPoolExecutor(self._at_once, "llm") as pool:
            while queue or under_way:
                while queue and len(under_way) < self._at_once_now() and self._may_ask():
                    request = queue.next()
                    under_way[pool.submit(self._ask, system, request.items)] = request
                if not under_way:
                    yield Answer((), 0, 0, 0, trouble=self.breaker.why)
                    return
                future = next(as_completed(under_way))
                request = under_way.pop(future)
                answer, then = future.result()
                counts = (system.name, len(answer.verdicts), len(request.items), answer.calls, answer.trouble or "")
                log.debug("%s: %d of %d patterns judged, %d calls%s", *counts)
                yield answer
                self._ask_again(queue, request, answer, then)

    def _at_once_now(self) -> int:
        """Return the number of requests to have under way. A small server works on one after the other: the last has to be in time."""
        if not self.size.is_measured or self.size.has_timed_out:
            return 1
        return self._at_once if self.client.options.is_openai else min(self._at_once, self.size.in_a_row)

    def _may_ask(self) -> bool:
        if (reason := self._time_limit.reason()) is not None:
            self.breaker.trip(reason)
        return self.breaker.why is None

    def _ask(self, system: System, items: tuple[Item, ...]) -> tuple[Answer, Consequence | None]:
        """Send one request. Return its answer and the consequence of a failure, None for a reply."""
        ids = tuple(item.id for item in items)
        form = response_format(items, self.client.options.schema_bounds)
        outcome = self.client.ask(messages(system, items, shared_neighbours(items)), form, len(items))
        spent = (outcome.calls, outcome.tokens.input, outcome.tokens.output)
        if isinstance(outcome, Reply):
            self.size.answered(len(items), outcome.seconds)
            reading = read_reply(outcome, items)
            verdicts = verdicts_in(reading, items)
            return Answer(verdicts, *spent, ids, reading.trouble, outcome.tokens.cached, served_by=outcome.served_by), None
        if outcome.then == "halve":
            self.size.timed_out(len(items))
        streamed = read_answer(outcome.text, short_ids(items), round_of(items))
        return Answer(verdicts_in(streamed, items), *spent, ids if outcome.calls else (), outcome.trouble), outcome.then

    def _ask_again(self, queue: Queue, request: Request, answer: Answer, then: Consequence | None) -> None:
        """Queue what an answer left open, in smaller requests if they may do better, and count a failed family once."""
        family = request.family
        family.open_requests -= 1
        family.n_verdicts += len(answer.verdicts)
        family.trouble = answer.trouble or family.trouble
        judged = {verdict.id for verdict in answer.verdicts}
        open_items = [item for item in request.items if item.id not in judged]
        size = len(request.items)
        if answer.verdicts:
            self.breaker.succeeded()
        if then == "stop":
            self.breaker.trip(family.trouble)
        elif then == "halve":
            if size > 1 and open_items:
                queue.split(request, list(batches(open_items, max(1, size // 2))))
            elif not family.n_verdicts:
                queue.postpone(family)  # one item alone is too much: what else was asked with it may not be
        elif open_items and not request.is_second and (then is None or (then == "ask less" and size > 1)):
            queue.split(request, list(batches(open_items, max(1, size // SMALLER))), is_second=True)
        if not family.open_requests and not family.n_verdicts and not family.has_failed and then != "stop":
            family.has_failed = True
            self.breaker.failed(family.trouble)
