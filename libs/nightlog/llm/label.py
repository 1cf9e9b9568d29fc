"""The label stage of one system: what was never judged is asked, and every answer is stored before another question takes its place."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import pairwise

from nightlog.lake.lake import Lake
from nightlog.lake.tables import LLM_CALLS, VERDICTS
from nightlog.llm.batch import BatchQueue, CollectedBatches, Origin, SkipWaiting
from nightlog.llm.budget import call_row
from nightlog.llm.items import Answer, Judge
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.rounds import ask_rounds, is_uncertain, neighbour_finder
from nightlog.llm.verdicts import known_questions, last_served, model_of, night_questions, verdict_rows
from nightlog.settings import PRICES, Prices
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

COUNTS = (
    "llm_calls",
    "llm_items",
    "llm_tokens_in",
    "llm_tokens_cached",
    "llm_tokens_out",
    "llm_failed",
    "llm_waiting",
    "verdicts_new",
    "verdicts_again",
    "verdicts_known",
)


def label_patterns(
    lake: Lake,
    system: System,
    ds: str,
    run_id: str,
    judge: Judge | None,
    clock: Callable[[], datetime],
    prices: Prices = PRICES,
    batches: BatchQueue | None = None,
) -> tuple[dict[str, int], str | None]:
    """Ask for the verdicts that the questions of the night's proprietary patterns still lack, the most frequent first; then ask again,
    side by side, about those that are uncertain. What open batches have brought is collected before.

    Known are verdicts of the same prompt (instructions, policy, schemas) by the same judge; those of earlier nights are what new questions
    are compared with. What an answer cost and its verdicts are committed before another request takes its place, so that an end at any
    point loses no answer that came.

    Args: judge, None for nobody; clock, the time of an answer in UTC; batches, for batches, None where none can be open.
    Returns: counts by the names in COUNTS, all zero where nobody may be asked: calls (retries included), questions asked in both rounds,
        tokens, questions that stay open (llm_failed) or wait in a batch (llm_waiting), questions judged for the first time, judged again,
        and known before; and what went wrong, None where nothing did and nothing stays open.
    Raises: errors of the lake. Trouble with the LLM is messages, not raised: what stays open is asked by the next run.
    """
    counts = dict.fromkeys(COUNTS, 0)
    if judge is None or not system.llm.allowed:
        return counts, None
    prompt = prompt_hash(system)
    collected = batches.collect(lake, system, clock) if batches is not None else CollectedBatches()
    tonight, sessions = night_questions(lake, system, ds)
    earlier, verdicts = known_questions(lake, system, prompt, judge.name)
    wanted = {item.id for item in tonight}
    count_collected(counts, collected)
    counts["verdicts_known"] = len(wanted & verdicts.keys() - {verdict.id for verdict in collected.verdicts})
    items = tonight + [item for item in earlier if item.id not in wanted and not is_uncertain(verdicts[item.id])]
    origin = {"system": system.name, "ds": ds, "run_id": run_id, "llm": judge.name}
    asked: dict[int, set[str]] = {1: set(), 2: set()}
    troubles = Counter[str]()
    served = [last_served(lake, system, judge.name)]
    asking = judge
    if batches is not None:
        if batches.submits:
            asking = batches.asking(lake, Origin(ds, run_id, judge.name, prompt), sessions, clock)
        asking = SkipWaiting(asking, batches.waiting(lake, system, prompt))
    before = clock()
    for answer in ask_rounds(asking, system, items, sessions, dict(verdicts), neighbour_finder(earlier, verdicts)):
        now, first_asked = clock(), set(answer.asked) - asked[answer.round]
        # Verdicts first: a kill between the two commits loses the note of a call, never an answer that was paid for.
        if answer.verdicts:
            rows = verdict_rows(items, verdicts, sessions, answer.verdicts)
            lake.upsert(VERDICTS, [row | origin | {"prompt": prompt, "asked_at": now, "served_by": answer.served_by} for row in rows])
        if answer.calls or answer.asked:
            behind = {"n_sessions": sum(sessions.get(question, 0) for question in first_asked)}
            taken = {"mode": "generallog", "seconds": (now - before).total_seconds(), "at": now}
            lake.put(LLM_CALLS, [origin | call_row(answer, prices) | behind | taken])
        served.append(model_of(answer.served_by))
        verdicts |= {verdict.id: verdict for verdict in answer.verdicts}
        asked[answer.round] |= first_asked
        count_answer(counts, answer)
        if answer.trouble is not None:
            troubles[answer.trouble] += 1
        before = clock()
    counts["llm_items"] += len(asked[1]) + len(asked[2])
    in_batch = {question for question, _ in batches.waiting(lake, system, prompt)} if batches is not None else set[str]()
    unjudged = wanted - verdicts.keys()
    uncertain = {question for question in wanted & verdicts.keys() if is_uncertain(verdicts[question])}
    counts["llm_waiting"] = len((unjudged | uncertain) & in_batch)
    counts["llm_failed"] = len((unjudged | uncertain) - in_batch)
    still = (len(unjudged - in_batch), len(uncertain - in_batch), counts["llm_waiting"], len(wanted))
    messages = [*open_questions(*still, troubles), *collected.troubles, *replaced_models(judge.name, served)]
    if not messages:
        return counts, None
    detail = f"LLM: {'; '.join(messages)}"
    log.warning("%s %s: %s", system.name, ds, detail)
    return counts, detail


def count_answer(counts: dict[str, int], answer: Answer) -> None:
    """Add an answer to the counts."""
    counts["llm_calls"] += answer.calls
    counts["llm_tokens_in"] += answer.tokens_in
    counts["llm_tokens_cached"] += answer.tokens_cached
    counts["llm_tokens_out"] += answer.tokens_out
    counts["verdicts_new" if answer.round == 1 else "verdicts_again"] += len(answer.verdicts)


def count_collected(counts: dict[str, int], found: CollectedBatches) -> None:
    """Add what batches of earlier runs have brought to the counts of the run that collects it."""
    counts["llm_calls"] += found.calls
    counts["llm_items"] += found.items
    counts["llm_tokens_in"] += found.tokens.input
    counts["llm_tokens_cached"] += found.tokens.cached
    counts["llm_tokens_out"] += found.tokens.output
    for verdict in found.verdicts:
        counts["verdicts_new" if verdict.round == 1 else "verdicts_again"] += 1


def replaced_models(llm: str, served: Iterable[str | None]) -> list[str]:
    """Where another model than before answers under the same name, in words, once for each change.

    >>> replaced_models("openai:m", [None, "m-1", None, "m-1", "m-2"])
    ['openai:m is answered by m-2 now, by m-1 before; earlier verdicts stay']
    """
    known = [model for model in served if model is not None]
    changes = dict.fromkeys(change for change in pairwise(known) if change[0] != change[1])
    return [f"{llm} is answered by {now} now, by {before} before; earlier verdicts stay" for before, now in changes]


def open_questions(unjudged: int, uncertain: int, waiting: int, wanted: int, troubles: Iterable[str]) -> Iterator[str]:
    """What stays open and why, in words."""
    left = [f"{unjudged} of {wanted} proprietary patterns wait for the next run"] if unjudged else []
    left += [f"{uncertain} uncertain ones wait for the second round"] if uncertain else []
    if left:
        yield f"{' and '.join(left)}: {'; '.join(troubles) or 'not answered'}"
    if waiting:
        yield f"{waiting} of {wanted} proprietary patterns wait in a batch"
