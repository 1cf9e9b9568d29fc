"""Questions that are in no hurry: submitted in one run, collected by a later one, each noted in ops.llm_batches before it leaves.

What a kill can do, at each point:
- before the upload: the row says `submitting`, the endpoint has no such batch; the next run finds that out and asks again;
- between the batch's making and the note of its id: the next run finds the batch by the name in its metadata, and collects it;
  at an endpoint that cannot list batches it is given up as `lost`, which the night's detail tells, and asked again;
- while it is collected: verdicts first, then the costs, then the note; all three are written again, and come out the same.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from nightlog.errors import BudgetExhausted
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_BATCHES, LLM_CALLS, VERDICTS
from nightlog.llm.batch_api import FINISHED, BatchApi, BatchState, NotFound, NotSubmitted, ResultLine, request_line
from nightlog.llm.budget import UNSETTLED, Breaker, Cost, cost_of
from nightlog.llm.chat import batches, read_reply, verdicts_in
from nightlog.llm.client import ChatClient, Failure, Tokens
from nightlog.llm.items import Answer, Item, Judge, Verdict
from nightlog.llm.prompt import messages, response_format, round_of, shared_neighbours
from nightlog.llm.verdicts import verdict_row
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

MAX_UPLOAD = 90_000_000  # bytes in one batch; endpoints take 100 to 200 MB
SETTLING = timedelta(minutes=10)  # a submission younger than this may still be under way in another process
GIVE_UP = timedelta(days=8)  # endpoints promise a day; what is not there after a week never comes
ASKED = TypeAdapter(dict[str, tuple[Item, ...]])

Row = dict[str, Any]
Waiting = Collection[tuple[str, int]]


@dataclass
class CollectedBatches:
    """What came of a system's open batches: how many were settled and how many are open still, the verdicts that were stored, what
    the answers took, the nights that asked, and what went wrong."""

    settled: int = 0
    still_open: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    nights: set[str] = field(default_factory=set)
    calls: int = 0
    items: int = 0
    tokens: Tokens = Tokens()
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Origin:
    """Who asks: the columns of that name in silver.verdicts."""

    ds: str
    run_id: str
    llm: str
    prompt: str


def uploads(lines: Mapping[str, bytes], most: int = MAX_UPLOAD) -> Iterator[dict[str, bytes]]:
    """Lines by custom id, cut into uploads of at most `most` bytes, at least one line each.

    >>> [list(parcel) for parcel in uploads({"a": b"123", "b": b"45", "c": b"6"}, most=4)]
    [['a'], ['b', 'c']]
    """
    parcel: dict[str, bytes] = {}
    for name, line in lines.items():
        if parcel and sum(map(len, parcel.values())) + len(line) > most:
            yield parcel
            parcel = {}
        parcel[name] = line
    if parcel:
        yield parcel


def unique_results(results: Sequence[ResultLine]) -> dict[str, ResultLine]:
    """Results by custom id, in whatever order they came. Of one that came twice neither counts: which was meant cannot be known."""
    found: dict[str, list[ResultLine]] = {}
    for line in results:
        found.setdefault(line.custom_id, []).append(line)
    return {name: lines[0] for name, lines in found.items() if all(line == lines[0] for line in lines)}


class SkipWaiting:
    """A judge that leaves out what waits for an answer already."""

    def __init__(self, judge: Judge, waiting: Waiting):
        self.name = judge.name
        self._judge = judge
        self._waiting = waiting

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`."""
        if rest := [item for item in items if (item.id, round_of(items)) not in self._waiting]:
            yield from self._judge.judge(system, rest)


class BatchQueue:
    """Submits and collects batches at one endpoint, within the budget that it shares with the chat.

    Args: sizes, items of one request by round; price, the share of the usual price that a request in a batch costs; submits, whether new
        questions go by batch: open batches are collected in either mode.
    """

    def __init__(self, api: BatchApi, client: ChatClient, breaker: Breaker, sizes: Mapping[int, int], price: float, submits: bool):
        self.name = f"openai:{client.options.model}"
        self.submits = submits
        self._api = api
        self._client = client
        self._breaker = breaker
        self._sizes = sizes
        self._price = price

    @property
    def host(self) -> str:
        """The endpoint's host."""
        return self._api.host

    def cost(self, tokens: Tokens) -> Cost:
        """What one request of a batch costs."""
        usual = self._client.cost(tokens)
        return replace(usual, money=usual.money * self._price)

    def open_rows(self, lake: Lake, system: System) -> list[Row]:
        """The system's batches at this endpoint that are not settled, the oldest first."""
        rows = lake.rows(LLM_BATCHES, system=system.name, endpoint=self._api.host, llm=self.name)
        return sorted((row for row in rows if row["status"] in UNSETTLED), key=lambda row: (row["submitted_at"], row["batch"]))

    def waiting(self, lake: Lake, system: System, prompt: str) -> set[tuple[str, int]]:
        """(question, round) of all that waits in a batch under this prompt."""
        rows = (row for row in self.open_rows(lake, system) if row["prompt"] == prompt)
        return {(question, row["round"]) for row in rows for question in row["questions"]}

    def asking(self, lake: Lake, origin: Origin, sessions: Mapping[str, int], clock: Callable[[], datetime]) -> Judge:
        """The judge that submits what it is asked for this night, and has no verdict yet."""
        return BatchJudge(self, lake, origin, sessions, clock)

    # Submit

    def submit(self, lake: Lake, system: System, items: Sequence[Item], row: Row, now: datetime) -> Iterator[Answer]:
        """Submit items of one round as one batch, or as few as fit. Each answer tells what went wrong, if anything."""
        lines: dict[str, bytes] = {}
        parts: dict[str, tuple[Item, ...]] = {}
        expected: dict[str, Tokens] = {}
        seed = "\0".join((system.name, row["run_id"], str(row["round"]), now.isoformat(), *(item.id for item in items)))
        name = hashlib.sha256(seed.encode()).hexdigest()[:16]
        obstacle, options = self._breaker.why, self._client.options
        for number, part in enumerate(batches(items, self._sizes[row["round"]]) if obstacle is None else ()):
            said, custom_id = messages(system, part, shared_neighbours(part)), f"{name}-{number}"
            form = response_format(part, options.schema_bounds)
            tokens = self._client.forecast.expect(said, len(part))
            try:
                self._client.budget.reserve(self.cost(tokens))
            except BudgetExhausted as error:
                obstacle = str(error)
                self._breaker.trip(obstacle)
                break
            lines[custom_id] = request_line(custom_id, {**options.body(said, form, len(part)), **options.extra})
            parts[custom_id] = tuple(replace(item, neighbours=()) for item in part)
            expected[custom_id] = tokens
        for number, parcel in enumerate(uploads(lines)):
            own = {custom_id: parts[custom_id] for custom_id in parcel}
            costs = [self.cost(expected[custom_id]) for custom_id in parcel]
            noted = row | {
                "batch": name if number == 0 else f"{name}-{number}",
                "calls": len(parcel),
                "tokens_in": sum(expected[custom_id].input for custom_id in parcel),
                "tokens_out": sum(expected[custom_id].output for custom_id in parcel),
                "money": sum(cost.money for cost in costs),
                "questions": [item.id for part in own.values() for item in part],
                "asked": ASKED.dump_json(own).decode(),
            }
            yield Answer((), 0, 0, 0, trouble=self._submit(lake, noted, b"".join(parcel.values()), costs))
        if obstacle is not None:
            yield Answer((), 0, 0, 0, trouble=obstacle)

    def _submit(self, lake: Lake, row: Row, lines: bytes, costs: Sequence[Cost]) -> str | None:
        """One batch, noted before and after; what went wrong."""
        lake.merge(LLM_BATCHES, [row])
        made = self._api.submit(row["batch"], lines)
        if isinstance(made, BatchState):
            lake.merge(LLM_BATCHES, [row | {"status": "open", "batch_id": made.id}])
            log.info("%s: %d patterns submitted in a batch", row["system"], len(row["questions"]))
            return None
        if not isinstance(made, NotSubmitted):
            self._breaker.failed(made.trouble)
            return f"{made.trouble}; whether the batch was made is looked up by the next run"
        for cost in costs:
            self._client.budget.settle(cost, Cost())
        lake.merge(LLM_BATCHES, [row | {"status": "lost", "trouble": made.trouble, "asked": ""}])
        if made.stop:
            self._breaker.trip(made.trouble)
        else:
            self._breaker.failed(made.trouble)
        return made.trouble

    # Collect

    def collect(self, lake: Lake, system: System, clock: Callable[[], datetime]) -> CollectedBatches:
        """Settle what can be settled of the system's batches: verdicts and costs are stored, whatever order they come in.

        What a batch did not answer is asked again by the next run that needs it. Raises: errors of the lake alone.
        """
        found = CollectedBatches()
        for row in self.open_rows(lake, system):
            if self._breaker.why is not None:
                found.still_open += 1
                continue
            trouble, is_open = self._collect(lake, row, clock, found)
            found.still_open += is_open
            found.settled += not is_open
            if trouble is not None:
                found.troubles.append(f"batch {row['batch']}: {trouble}")
        return found

    def _collect(self, lake: Lake, row: Row, clock: Callable[[], datetime], found: CollectedBatches) -> tuple[str | None, bool]:
        """One batch: what went wrong, and whether it stays open."""
        now = clock()
        age = now - utc(row["submitted_at"])
        state = self._api.status(row["batch_id"]) if row["batch_id"] is not None else self._api.find_by_name(row["batch"])
        if state is None or (isinstance(state, NotFound) and row["batch_id"] is None):
            if age < SETTLING:
                return "it is being submitted", True
            never = "it was never made" if state is None else "it may have been made and paid, and this endpoint cannot list its batches"
            return self._lost(lake, row, f"{never}; its questions are asked again", now), False
        if isinstance(state, NotFound):
            return self._lost(lake, row, "the endpoint knows it no more; its questions are asked again", now), False
        if isinstance(state, Failure):
            return self._later(lake, row, state, age, now)
        if row["batch_id"] is None:
            row |= {"batch_id": state.id, "status": "open"}
            lake.merge(LLM_BATCHES, [row])
        if state.status not in FINISHED:
            if age > GIVE_UP:
                return self._lost(lake, row, f"it did not finish in {GIVE_UP.days} days; its questions are asked again", now), False
            return None, True
        results = self._api.results(state)
        if isinstance(results, Failure):
            return self._later(lake, row, results, age, now)
        trouble = self._store(lake, row, state, results, now, found)
        self._api.delete_files(state)
        return trouble, False

    def _later(self, lake: Lake, row: Row, failure: Failure, age: timedelta, now: datetime) -> tuple[str, bool]:
        if failure.then == "stop":
            self._breaker.trip(failure.trouble)
        if age > GIVE_UP:
            return self._lost(lake, row, f"{failure.trouble}, for {GIVE_UP.days} days; its questions are asked again", now), False
        return failure.trouble, True

    def _lost(self, lake: Lake, row: Row, trouble: str, now: datetime) -> str:
        lake.merge(LLM_BATCHES, [row | {"status": "lost", "trouble": trouble, "asked": "", "collected_at": now}])
        return trouble

    def _store(
        self, lake: Lake, row: Row, state: BatchState, results: list[ResultLine] | NotFound, now: datetime, found: CollectedBatches
    ) -> str | None:
        """Store what a finished batch brought: its verdicts, then its costs, then that it is settled. Returns what went wrong."""
        lines = unique_results(results) if isinstance(results, list) else {}
        same = {"system": row["system"], "prompt": row["prompt"], "llm": row["llm"]}
        known = {old["question_id"]: old["round"] for old in lake.rows(VERDICTS, ["question_id", "round"], **same)}
        rows, tokens, calls, n_items = [], Tokens(), 0, 0
        troubles = [state.trouble, results.trouble if isinstance(results, NotFound) else None]
        for custom_id, items in ASKED.validate_json(row["asked"]).items():
            n_items += len(items)
            completion = lines[custom_id].completion() if custom_id in lines else None
            if completion is None:
                continue
            reply = completion.reply(1, Tokens(row["tokens_in"] // row["calls"], row["tokens_out"] // row["calls"]))
            calls, tokens = calls + 1, tokens + reply.tokens
            reading = read_reply(reply, items)
            troubles.append(reading.trouble)
            asked = {item.id: item for item in items}
            for verdict in verdicts_in(reading, items):
                if verdict.round <= known.get(verdict.id, 0):
                    continue  # it was answered in another way meanwhile
                item = asked[verdict.id]
                first = item.comparison.first if item.comparison is not None else verdict
                origin = {**same, "ds": row["ds"], "run_id": row["run_id"], "asked_at": now, "served_by": reply.served_by}
                rows.append(verdict_row(verdict, first, item) | origin)
                found.verdicts.append(verdict)
        if missing := row["calls"] - calls:
            why = sorted({line.trouble for line in lines.values() if line.trouble is not None})
            troubles.append(f"{missing} of {row['calls']} requests were not answered" + (f" ({', '.join(why)})" if why else ""))
        trouble = "; ".join(dict.fromkeys(filter(None, troubles))) or None
        if rows:
            lake.merge(VERDICTS, rows)
        spent = {"calls": calls, "items": n_items, "tokens_in": tokens.input, "tokens_cached": tokens.cached, "tokens_out": tokens.output}
        money = self.cost(tokens).money
        self._client.budget.settle(cost_of(row), Cost(calls, tokens.input + tokens.output, money))
        when = {"seconds": (now - utc(row["submitted_at"])).total_seconds(), "at": row["submitted_at"]}
        place = {name: row[name] for name in ("system", "ds", "run_id", "llm", "round", "n_sessions")}
        lake.merge(LLM_CALLS, [place | spent | when | {"money": money, "mode": "generallog", "trouble": trouble}])
        lake.merge(LLM_BATCHES, [row | {"status": "collected", "trouble": trouble, "asked": "", "collected_at": now}])
        found.nights.add(row["ds"])
        found.calls += calls
        found.items += n_items
        found.tokens += tokens
        return trouble


class BatchJudge:
    """The judge of one night whose verdicts come later: what it is asked becomes a batch."""

    def __init__(self, queue: BatchQueue, lake: Lake, origin: Origin, sessions: Mapping[str, int], clock: Callable[[], datetime]):
        self.name = queue.name
        self._queue = queue
        self._lake = lake
        self._origin = origin
        self._sessions = sessions
        self._clock = clock

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`."""
        now = self._clock()
        row = {
            "system": system.name,
            "ds": self._origin.ds,
            "run_id": self._origin.run_id,
            "status": "submitting",
            "endpoint": self._queue.host,
            "batch_id": None,
            "prompt": self._origin.prompt,
            "llm": self._origin.llm,
            "round": round_of(items),
            "n_sessions": sum(self._sessions.get(item.id, 0) for item in items),
            "submitted_at": now,
        }
        yield from self._queue.submit(self._lake, system, items, row, now)


def utc(moment: datetime) -> datetime:
    """A time from the lake, with its zone."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
