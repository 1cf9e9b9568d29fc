"""The queue of batches: questions submitted in one run and collected by a later one, each in ops.llm_batches before it is sent.

The effect of a kill at each point:
- before the upload: the row has the status `submitting`, the endpoint has no such batch; the next run asks again;
- after the batch is made and before its id is stored: the next run finds the batch by the name in its metadata, and collects it;
  at an endpoint that cannot list batches it becomes `lost`, the night's detail reports it, and the next run asks again;
- while it is collected: verdicts are stored first, then costs, then the status; the next run writes all three again, with the same result.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from nightlog.errors import BudgetExhausted
from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_BATCHES, LLM_CALLS, VERDICTS, LlmBatchRow, LlmCallRow, VerdictRow
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

Waiting = Collection[tuple[str, int]]


@dataclass
class CollectedBatches:
    """The result of collecting a system's open batches.

    Batches settled and still open, the verdicts that were stored, the cost of the answers, the nights that asked, and the troubles.
    """

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
    """The night, run, LLM and prompt that ask: the columns of these names in silver.verdicts."""

    ds: str
    run_id: str
    llm: str
    prompt: str


def uploads(lines: Mapping[str, bytes], most: int = MAX_UPLOAD) -> Iterator[dict[str, bytes]]:
    """Split lines by custom id into uploads of at most `most` bytes, at least one line each.

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
    """Return results by custom id, from any order. Of a result that came twice neither counts: the valid one is unknown."""
    found: dict[str, list[ResultLine]] = {}
    for line in results:
        found.setdefault(line.custom_id, []).append(line)
    return {name: lines[0] for name, lines in found.items() if all(line == lines[0] for line in lines)}


class SkipWaiting:
    """A judge that leaves out the questions that wait in a batch."""

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
        """Return the endpoint's host."""
        return self._api.host

    def cost(self, tokens: Tokens) -> Cost:
        """Return the cost of one request of a batch."""
        usual = self._client.cost(tokens)
        return replace(usual, money=usual.money * self._price)

    def open_rows(self, lake: Lake, system: System) -> list[LlmBatchRow]:
        """Return the system's batches at this endpoint that are not settled, the oldest first."""
        rows = lake.rows(LLM_BATCHES, system=system.name, endpoint=self._api.host, llm=self.name)
        return sorted((row for row in rows if row["status"] in UNSETTLED), key=lambda row: (row["submitted_at"], row["batch"]))

    def waiting(self, lake: Lake, system: System, prompt: str) -> set[tuple[str, int]]:
        """Return (question, round) of every question that waits in a batch under this prompt."""
        rows = (row for row in self.open_rows(lake, system) if row["prompt"] == prompt)
        return {(question, row["round"]) for row in rows for question in row["questions"]}

    def asking(self, lake: Lake, origin: Origin, sessions: Mapping[str, int], clock: Callable[[], datetime]) -> Judge:
        """Return the judge that submits the questions of this night; its verdicts come later."""
        return BatchJudge(self, lake, origin, sessions, clock)

    # Submit

    def submit(self, lake: Lake, system: System, items: Sequence[Item], row: LlmBatchRow, now: datetime) -> Iterator[Answer]:
        """Submit items of one round as one batch, or as few as fit. Each answer reports its trouble, if any."""
        lines: dict[str, bytes] = {}
        parts: dict[str, tuple[Item, ...]] = {}
        expected: dict[str, Tokens] = {}
        seed = "\0".join((system.name, row["run_id"], str(row["round"]), now.isoformat(), *(item.id for item in items)))
        name = hashlib.sha256(seed.encode()).hexdigest()[:16]
        obstacle, options = self._breaker.why, self._client.options
        for number, part in enumerate(batches(items, self._sizes[row["round"]]) if obstacle is None else ()):
            request, custom_id = messages(system, part, shared_neighbours(part)), f"{name}-{number}"
            form = response_format(part, options.schema_bounds)
            tokens = self._client.forecast.expect(request, len(part))
            try:
                self._client.budget.reserve(self.cost(tokens))
            except BudgetExhausted as error:
                obstacle = str(error)
                self._breaker.trip(obstacle)
                break
            lines[custom_id] = request_line(custom_id, {**options.body(request, form, len(part)), **options.extra})
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

    def _submit(self, lake: Lake, row: LlmBatchRow, lines: bytes, costs: Sequence[Cost]) -> str | None:
        """Submit one batch, stored before and after. Return the trouble, None without any."""
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
        """Collect the system's finished batches: store verdicts and costs, in any order of arrival.

        The next run asks again about everything that a batch did not answer. Raises: errors of the lake alone.
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

    def _collect(self, lake: Lake, row: LlmBatchRow, clock: Callable[[], datetime], found: CollectedBatches) -> tuple[str | None, bool]:
        """Collect one batch. Return its trouble, and True if it stays open."""
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

    def _later(self, lake: Lake, row: LlmBatchRow, failure: Failure, age: timedelta, now: datetime) -> tuple[str, bool]:
        if failure.then == "stop":
            self._breaker.trip(failure.trouble)
        if age > GIVE_UP:
            return self._lost(lake, row, f"{failure.trouble}, for {GIVE_UP.days} days; its questions are asked again", now), False
        return failure.trouble, True

    def _lost(self, lake: Lake, row: LlmBatchRow, trouble: str, now: datetime) -> str:
        lake.merge(LLM_BATCHES, [row | {"status": "lost", "trouble": trouble, "asked": "", "collected_at": now}])
        return trouble

    def _store(
        self, lake: Lake, row: LlmBatchRow, state: BatchState, results: list[ResultLine] | NotFound, now: datetime, found: CollectedBatches
    ) -> str | None:
        """Store the verdicts of a finished batch, then its costs, then its status. Return the trouble, None without any."""
        lines = unique_results(results) if isinstance(results, list) else {}
        system, prompt, llm = row["system"], row["prompt"], row["llm"]
        earlier = lake.rows(VERDICTS, ["question_id", "round"], system=system, prompt=prompt, llm=llm)
        known = {old["question_id"]: old["round"] for old in earlier}
        tokens, calls, n_items = Tokens(), 0, 0
        rows: list[VerdictRow] = []
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
                origin: VerdictRow = {"system": system, "prompt": prompt, "llm": llm, "ds": row["ds"], "run_id": row["run_id"]}
                rows.append(verdict_row(verdict, first, item) | origin | {"asked_at": now, "served_by": reply.served_by})
                found.verdicts.append(verdict)
        if missing := row["calls"] - calls:
            why = sorted({line.trouble for line in lines.values() if line.trouble is not None})
            troubles.append(f"{missing} of {row['calls']} requests were not answered" + (f" ({', '.join(why)})" if why else ""))
        trouble = "; ".join(dict.fromkeys(filter(None, troubles))) or None
        if rows:
            lake.merge(VERDICTS, rows)
        money = self.cost(tokens).money
        self._client.budget.settle(cost_of(row), Cost(calls, tokens.input + tokens.output, money))
        call: LlmCallRow = {
            "system": row["system"],
            "ds": row["ds"],
            "run_id": row["run_id"],
            "mode": "generallog",
            "llm": row["llm"],
            "round": row["round"],
            "calls": calls,
            "items": n_items,
            "n_sessions": row["n_sessions"],
            "tokens_in": tokens.input,
            "tokens_cached": tokens.cached,
            "tokens_out": tokens.output,
            "money": money,
            "seconds": (now - utc(row["submitted_at"])).total_seconds(),
            "trouble": trouble,
            "at": row["submitted_at"],
        }
        lake.merge(LLM_CALLS, [call])
        lake.merge(LLM_BATCHES, [row | {"status": "collected", "trouble": trouble, "asked": "", "collected_at": now}])
        found.nights.add(row["ds"])
        found.calls += calls
        found.items += n_items
        found.tokens += tokens
        return trouble


class BatchJudge:
    """The judge of one night whose verdicts come later: its questions become a batch."""

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
        row: LlmBatchRow = {
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
    """Return a time of the lake with its zone."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
