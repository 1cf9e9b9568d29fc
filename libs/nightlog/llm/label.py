"""The label stage of one system: what was never judged is asked, and every answer is stored before the next question."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from nightlog.lake.store import Lake
from nightlog.lake.tables import LLM_CALLS, VERDICTS
from nightlog.llm.judge import Judge
from nightlog.llm.ledger import spent
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.questions import known_questions, night_questions, verdict_rows
from nightlog.llm.rounds import ask_rounds, is_uncertain, judged_alike
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
) -> tuple[dict[str, int], str | None]:
    """Ask for the verdicts that the questions of the night's proprietary patterns still lack, the most frequent first; then ask again,
    side by side, about those that are uncertain.

    Known are verdicts of the same prompt (instructions, policy, schemas) by the same judge; those of earlier nights are what new questions
    are compared with. What an answer cost and its verdicts are committed before the next question, so that an end at any point loses no
    answer that came.

    Args: judge, None for nobody; clock, the time of an answer in UTC.
    Returns: counts by the names in COUNTS, all zero where nobody may be asked: calls (retries included), questions asked in both rounds,
        tokens, questions that stay open (llm_failed), questions judged for the first time, judged again, and known before; and what went
        wrong, None where nothing stays open.
    Raises: errors of the lake. Trouble with the LLM is told, not raised: what stays open is asked by the next run.
    """
    counts = dict.fromkeys(COUNTS, 0)
    if judge is None or not system.llm.allowed:
        return counts, None
    prompt = prompt_hash(system)
    tonight, sessions = night_questions(lake, system, ds)
    earlier, verdicts = known_questions(lake, system, prompt, judge.name)
    wanted = {item.id for item in tonight}
    counts["verdicts_known"] = len(wanted & verdicts.keys())
    items = tonight + [item for item in earlier if item.id not in wanted and not is_uncertain(verdicts[item.id])]
    origin = {"system": system.name, "ds": ds, "run_id": run_id, "llm": judge.name}
    asked: dict[int, set[str]] = {1: set(), 2: set()}
    troubles: Counter[str] = Counter()
    before = clock()
    for answer in ask_rounds(judge, system, items, sessions, dict(verdicts), judged_alike(earlier, verdicts)):
        now, first_asked = clock(), set(answer.asked) - asked[answer.round]
        if answer.calls or answer.asked:
            behind = {"n_sessions": sum(sessions.get(question, 0) for question in first_asked)}
            taken = {"mode": "generallog", "seconds": (now - before).total_seconds(), "at": now}
            lake.put(LLM_CALLS, [origin | spent(answer, prices) | behind | taken])
        if answer.verdicts:
            rows = verdict_rows(items, verdicts, sessions, answer.verdicts)
            lake.upsert(VERDICTS, [row | origin | {"prompt": prompt, "asked_at": now} for row in rows])
        verdicts |= {verdict.id: verdict for verdict in answer.verdicts}
        asked[answer.round] |= first_asked
        counts["llm_calls"] += answer.calls
        counts["llm_tokens_in"] += answer.tokens_in
        counts["llm_tokens_cached"] += answer.tokens_cached
        counts["llm_tokens_out"] += answer.tokens_out
        counts["verdicts_new" if answer.round == 1 else "verdicts_again"] += len(answer.verdicts)
        if answer.trouble is not None:
            troubles[answer.trouble] += 1
        before = clock()
    counts["llm_items"] = len(asked[1]) + len(asked[2])
    unjudged = len(wanted - verdicts.keys())
    uncertain = sum(is_uncertain(verdicts[question]) for question in wanted & verdicts.keys())
    counts["llm_failed"] = unjudged + uncertain
    waiting = [f"{unjudged} of {len(wanted)} proprietary patterns wait for the next run"] if unjudged else []
    waiting += [f"{uncertain} uncertain ones wait for the second round"] if uncertain else []
    if not waiting:
        return counts, None
    detail = f"LLM: {' and '.join(waiting)}: {'; '.join(troubles) or 'not answered'}"
    log.warning("%s %s: %s", system.name, ds, detail)
    return counts, detail
