"""The label stage of one system: ask for the missing verdicts, and store every answer before another request is made."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_CALLS, VERDICTS, LlmCallRow, VerdictRow
from nightlog.llm.budget import call_row, failed_runs
from nightlog.llm.items import Answer, Judge, Verdict
from nightlog.llm.order import AnswersTo, asking_order
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.rounds import ask_rounds, is_uncertain, neighbour_finder
from nightlog.llm.verdicts import known_questions, last_served, model_of, night_questions, verdict_rows
from nightlog.settings import PRICES, Prices
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from nightlog.llm.batch import BatchQueue, CollectedBatches, Origin

log = logging.getLogger(__name__)

COUNTS = (
    "llm_calls",
    "llm_items",
    "llm_tokens_in",
    "llm_tokens_cached",
    "llm_tokens_out",
    "llm_failed",
    "llm_waiting",
    "llm_left",
    "verdicts_new",
    "verdicts_again",
    "verdicts_known",
)


class Progress:
    """Reports at most every `every_s` seconds how many patterns are judged, and about how many minutes are left."""

    def __init__(
        self, system: str, n_open: int, report: Callable[[str], None], every_s: float = 30.0, timer: Callable[[], float] = time.monotonic
    ):
        self._system = system
        self._open = n_open
        self._report = report
        self._every_s = every_s
        self._timer = timer
        self._began = self._reported = timer()
        self._asked: set[str] = set()
        self._judged = {1: 0, 2: 0}

    def add(self, answer: Answer) -> None:
        """Count an answer, and report if it is time."""
        self._judged[answer.round] += len(answer.verdicts)
        self._asked |= {verdict.id for verdict in answer.verdicts} if answer.round == 1 else set()
        now = self._timer()
        if now - self._reported < self._every_s:
            return
        self._reported = now
        self._report(self.text(answer.round, now - self._began))

    def text(self, number: int, seconds: float) -> str:
        """Return the report on round `number` after so many seconds."""
        if number == 2:
            return f"{self._system}: second round, {self._judged[2]:,} patterns judged again"
        judged = self._judged[1]
        if not judged:
            return f"{self._system}: 0 of {self._open:,} patterns judged after {seconds / 60:.0f} minutes, the server is slow"
        left = math.ceil(seconds / 60 * max(0, self._open - judged) / judged)
        return f"{self._system}: {judged:,} of {self._open:,} patterns judged, about {left:,} {'minute' if left == 1 else 'minutes'} left"


def label_patterns(
    lake: Lake,
    system: System,
    ds: str,
    run_id: str,
    judge: Judge | None,
    clock: Callable[[], datetime],
    prices: Prices = PRICES,
    batches: BatchQueue | None = None,
    progress: Callable[[str], None] = log.info,
    answers_to: AnswersTo = lambda verdicts: {},
) -> tuple[dict[str, int], str | None]:
    """Ask for the missing verdicts on the night's proprietary patterns, those that teach most first and those that failed before last.

    `AskingOrder` has the order, and ends it when that is enough. Then ask again, side by side, about the uncertain ones. Answers of open
    batches are collected first. Known are verdicts of the same prompt (instructions, policy, schemas) by the same judge; new questions are
    compared with those of earlier nights. Each answer's verdicts and cost are committed before another request is made, so a kill at any
    point loses no answer that came.

    Args: judge, None if the LLM is off; clock, the time of an answer in UTC; batches, the queue of batches, None without an endpoint;
        progress, called now and then with a line of text; answers_to, returns the analysts' answers to judged questions.
    Returns: counts by the names in COUNTS, all zero if nobody may be asked: calls (retries included), questions asked in both rounds,
        tokens, questions that stay open (llm_failed), wait in a batch (llm_waiting) or are left to the student (llm_left), questions judged
        for the first time, judged again, and known before; and a message, None if nothing went wrong and nothing stays open.
    Raises: errors of the lake. Trouble with the LLM is reported in the message: the next run asks what stays open.
    """
    counts = dict.fromkeys(COUNTS, 0)
    if judge is None or not system.llm.allowed:
        return counts, None
    from nightlog.llm.batch import CollectedBatches, Origin  # a night without an LLM needs no client of an endpoint

    prompt = prompt_hash(system)
    collected = batches.collect(lake, system, clock) if batches is not None else CollectedBatches()
    tonight, sessions = night_questions(lake, system, ds)
    earlier, verdicts = known_questions(lake, system, prompt, judge.name)
    failed = failed_runs(lake, system.name, judge.name)
    tonight.sort(key=lambda item: len(failed.get(item.id, ())))
    wanted = {item.id for item in tonight}
    count_collected(counts, collected)
    counts["verdicts_known"] = len(wanted & verdicts.keys() - {verdict.id for verdict in collected.verdicts})
    items = tonight + [item for item in earlier if item.id not in wanted and not is_uncertain(verdicts[item.id])]
    asked: dict[int, set[str]] = {1: set(), 2: set()}
    before_tonight = {question for question, runs in failed.items() if any(night == ds for night, _ in runs)}
    troubles: list[str] = []
    served = [last_served(lake, system, judge.name)]
    asking = through_batches(lake, system, judge, batches, Origin(ds, run_id, judge.name, prompt), sessions, clock)
    order = asking_order(lake, system, ds, tonight, judge.name, failed, verdicts, answers_to, batches is not None and batches.submits)
    report = Progress(system.name, len(wanted - verdicts.keys()), progress)
    before = clock()
    for answer in ask_rounds(asking, system, items, sessions, dict(verdicts), neighbour_finder(earlier, verdicts), order):
        now, first_asked = clock(), set(answer.asked) - asked[answer.round]
        # Verdicts first: a kill between the two commits loses the note of a call, never an answer that was paid for.
        if answer.verdicts:
            asked_by: VerdictRow = {"system": system.name, "ds": ds, "run_id": run_id, "llm": judge.name, "prompt": prompt}
            asked_by |= {"asked_at": now, "served_by": answer.served_by}
            lake.merge(VERDICTS, [row | asked_by for row in verdict_rows(items, verdicts, sessions, answer.verdicts)])
        if answer.calls or answer.asked:
            call: LlmCallRow = {"system": system.name, "ds": ds, "run_id": run_id, "llm": judge.name, "mode": "generallog"}
            call |= {"n_sessions": sum(sessions.get(question, 0) for question in first_asked - before_tonight)}
            call |= call_row(answer, prices) | {"seconds": (now - before).total_seconds(), "at": now}
            lake.append(LLM_CALLS, [call])
        served.append(model_of(answer.served_by))
        verdicts |= {verdict.id: verdict for verdict in answer.verdicts}
        asked[answer.round] |= first_asked
        count_answer(counts, answer)
        report.add(answer)
        if answer.trouble is not None:
            troubles.append(answer.trouble)
        before = clock()
    counts["llm_items"] += len(asked[1]) + len(asked[2])
    in_batch = {question for question, _ in batches.waiting(lake, system, prompt)} if batches is not None else set[str]()
    counts["llm_left"] = len(left := order.left - verdicts.keys())
    still_open = open_questions(wanted - left, verdicts, in_batch, counts, distinct(troubles))
    messages = [*still_open, *collected.troubles, *replaced_models(judge.name, served)]
    detail = f"LLM: {'; '.join(messages)}" if messages else None
    if detail is not None:
        log.warning("%s %s: %s", system.name, ds, detail)
    return counts, detail


def through_batches(
    lake: Lake,
    system: System,
    judge: Judge,
    batches: BatchQueue | None,
    origin: Origin,
    sessions: Mapping[str, int],
    clock: Callable[[], datetime],
) -> Judge:
    """Return the judge to ask: questions that wait in a batch are not asked again, and new ones go by batch if that is set."""
    from nightlog.llm.batch import SkipWaiting

    if batches is None:
        return judge
    asking = batches.asking(lake, origin, sessions, clock) if batches.submits else judge
    return SkipWaiting(asking, batches.waiting(lake, system, origin.prompt))


def distinct(troubles: Sequence[str], most: int = 3) -> list[str]:
    """Return each trouble once, in the order of their first occurrence, without those that another one repeats.

    >>> distinct(["no answer", "no answer", "cut off", "no answer; 5 requests in a row failed"])
    ['cut off', 'no answer; 5 requests in a row failed']
    """
    different = list(dict.fromkeys(troubles))
    longest = [each for each in different if not any(each != other and other.startswith(each) for other in different)]
    # The last one ended the asking, if anything did.
    rest = [f"{len(longest) - most} other kinds of trouble"] if len(longest) > most else []
    return [*longest[: most - 1], *rest, longest[-1]] if rest else longest


def count_answer(counts: dict[str, int], answer: Answer) -> None:
    """Add an answer to the counts."""
    counts["llm_calls"] += answer.calls
    counts["llm_tokens_in"] += answer.tokens_in
    counts["llm_tokens_cached"] += answer.tokens_cached
    counts["llm_tokens_out"] += answer.tokens_out
    counts["verdicts_new" if answer.round == 1 else "verdicts_again"] += len(answer.verdicts)


def count_collected(counts: dict[str, int], found: CollectedBatches) -> None:
    """Add the answers of batches of earlier runs to the counts of the run that collects them."""
    counts["llm_calls"] += found.calls
    counts["llm_items"] += found.items
    counts["llm_tokens_in"] += found.tokens.input
    counts["llm_tokens_cached"] += found.tokens.cached
    counts["llm_tokens_out"] += found.tokens.output
    for verdict in found.verdicts:
        counts["verdicts_new" if verdict.round == 1 else "verdicts_again"] += 1


def replaced_models(llm: str, served: Iterable[str | None]) -> list[str]:
    """Return a message for each change of the model that answers under the same name.

    >>> replaced_models("openai:m", [None, "m-1", None, "m-1", "m-2"])
    ['openai:m is answered by m-2 now, by m-1 before; earlier verdicts stay']
    """
    known = [model for model in served if model is not None]
    changes = dict.fromkeys(change for change in pairwise(known) if change[0] != change[1])
    return [f"{llm} is answered by {now} now, by {before} before; earlier verdicts stay" for before, now in changes]


def open_questions(
    wanted: set[str], verdicts: Mapping[str, Verdict], in_batch: set[str], counts: dict[str, int], troubles: Iterable[str]
) -> Iterator[str]:
    """Count the questions that stay open or wait in a batch, and return messages on them with the reasons."""
    unjudged = wanted - verdicts.keys()
    uncertain = {question for question in wanted & verdicts.keys() if is_uncertain(verdicts[question])}
    counts["llm_waiting"] = len((unjudged | uncertain) & in_batch)
    counts["llm_failed"] = len((unjudged | uncertain) - in_batch)
    left = [f"{n} of {len(wanted)} proprietary patterns wait for the next run"] if (n := len(unjudged - in_batch)) else []
    left += [f"{n} uncertain ones wait for the second round"] if (n := len(uncertain - in_batch)) else []
    if left:
        yield f"{' and '.join(left)}: {'; '.join(troubles) or 'not answered'}"
    if waiting := counts["llm_waiting"]:
        yield f"{waiting} of {len(wanted)} proprietary patterns wait in a batch"
