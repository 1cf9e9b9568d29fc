"""The label stage of one system: what was never judged is asked, and every answer is stored before the next question."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from nightlog.errors import SchemaMismatch
from nightlog.lake.store import Lake
from nightlog.lake.tables import PATTERNS, ROUTES, TEMPLATES, VERDICTS
from nightlog.llm.items import Item, Verdict
from nightlog.llm.judge import Judge
from nightlog.llm.prompt import prompt_hash
from nightlog.systems.spec import System

log = logging.getLogger(__name__)

COUNTS = ("llm_calls", "llm_items", "llm_tokens_in", "llm_tokens_out", "llm_failed", "verdicts_new", "verdicts_known")


def label_patterns(
    lake: Lake, system: System, ds: str, run_id: str, judge: Judge | None, clock: Callable[[], datetime]
) -> tuple[dict[str, int], str | None]:
    """Ask for the verdicts that the night's proprietary patterns still lack, the most frequent patterns first.

    Known are verdicts of the same prompt (instructions, policy, schema) by the same judge. New ones are committed to
    `silver.verdicts` after each answer, so that an end at any point loses no answer that came.

    Args: judge, None for nobody; clock, the time of an answer in UTC.
    Returns: counts by the names in COUNTS, all zero where nobody may be asked: calls (retries included), items asked about, tokens,
        items that stay open (llm_failed), verdicts stored and verdicts that were there; and what went wrong, None where nothing stays open.
    Raises: errors of the lake. Trouble with the LLM is told, not raised: what stays open is asked by the next run.
    """
    counts = dict.fromkeys(COUNTS, 0)
    if judge is None or not system.llm.allowed:
        return counts, None
    prompt = prompt_hash(system)
    items = proprietary_items(lake, system, ds)
    known = {row["pattern_id"] for row in lake.rows(VERDICTS, ["pattern_id"], system=system.name, prompt=prompt, llm=judge.name)}
    wanted = {item.id: item for item in items if item.id not in known}
    counts["verdicts_known"] = len(items) - len(wanted)
    asked: set[str] = set()
    troubles: Counter[str] = Counter()
    open_ids = set(wanted)
    for answer in judge.judge(system, list(wanted.values())):
        new = {verdict.id: verdict for verdict in answer.verdicts if verdict.id in open_ids}
        if new:
            origin = {"prompt": prompt, "llm": judge.name, "ds": ds, "run_id": run_id, "asked_at": clock()}
            lake.upsert(VERDICTS, [verdict_row(system, verdict) | origin for verdict in new.values()])
        open_ids -= new.keys()
        asked |= set(answer.asked)
        counts["llm_calls"] += answer.calls
        counts["llm_tokens_in"] += answer.tokens_in
        counts["llm_tokens_out"] += answer.tokens_out
        counts["verdicts_new"] += len(new)
        if answer.trouble is not None:
            troubles[answer.trouble] += 1
    counts["llm_items"] = len(asked)
    counts["llm_failed"] = len(open_ids)
    if not open_ids:
        return counts, None
    why = "; ".join(troubles) or "not answered"
    detail = f"LLM: {len(open_ids)} of {len(items)} proprietary patterns wait for the next run: {why}"
    log.warning("%s %s: %s", system.name, ds, detail)
    return counts, detail


def proprietary_items(lake: Lake, system: System, ds: str) -> list[Item]:
    """The night's proprietary patterns with their templates' texts, by falling number of sessions, then by id.

    Raises: SchemaMismatch where a pattern names a template that `silver.templates` lacks.
    """
    routed = {row["pattern_id"] for row in lake.rows(ROUTES, ["pattern_id"], system=system.name, ds=ds, route="proprietary")}
    texts = {row["template_id"]: row["text"] for row in lake.rows(TEMPLATES, ["template_id", "text"], system=system.name)}
    patterns = lake.rows(PATTERNS, ["pattern_id", "events", "n_sessions"], system=system.name, ds=ds)
    try:
        ranked = sorted((row for row in patterns if row["pattern_id"] in routed), key=lambda row: (-row["n_sessions"], row["pattern_id"]))
        return [Item(row["pattern_id"], tuple((texts[event["template_id"]], event["count"]) for event in row["events"])) for row in ranked]
    except KeyError as error:
        raise SchemaMismatch(
            f"{PATTERNS.name} of {system.name}, {ds} names the template {error}, which {TEMPLATES.name} lacks; "
            "run the parse stage of this day again"
        ) from None


def verdict_row(system: System, verdict: Verdict) -> dict[str, object]:
    """The part of a row of `silver.verdicts` that is about the pattern."""
    return {
        "system": system.name,
        "pattern_id": verdict.id,
        "label": verdict.label,
        "confidence": verdict.confidence,
        "reason": verdict.reason,
    }
