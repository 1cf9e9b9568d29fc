"""Questions in the lake: what a night asks, what is known already, and the rows of silver.verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from nightlog.errors import SchemaMismatch
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.tables import PATTERNS, ROUTES, TEMPLATES, VERDICTS, VerdictRow
from nightlog.lake.tables.silver import AskedEvent
from nightlog.llm.items import Events, Item, Verdict, group_key
from nightlog.llm.rounds import with_comparisons
from nightlog.systems.spec import System


def night_questions(lake: Lake, system: System, ds: str) -> tuple[list[Item], dict[str, int]]:
    """Return the questions of the night's proprietary patterns, and the sessions of each of the night's questions, general ones included.

    Questions come by falling number of sessions, then by id. If counts are meaningless, patterns of the same templates are one question.
    Raises: SchemaMismatch if a pattern names a template that `silver.templates` lacks.
    """
    routed = {row["pattern_id"] for row in lake.rows(ROUTES, ["pattern_id"], system=system.name, ds=ds, route="proprietary")}
    texts = template_texts(lake, system.name)
    patterns = lake.rows(PATTERNS, ["pattern_id", "question_id", "events", "n_sessions"], system=system.name, ds=ds)
    counted = system.session.kind == "id"
    sessions = Counter[str]()
    for row in patterns:
        sessions[row["question_id"]] += row["n_sessions"]
    proprietary = {row["question_id"]: row["events"] for row in patterns if row["pattern_id"] in routed}
    try:
        items = [
            Item(question, tuple((texts[event["template_id"]], event["count"] if counted else None) for event in proprietary[question]))
            for question in sorted(proprietary, key=lambda question: (-sessions[question], question))
        ]
    except KeyError as error:
        raise SchemaMismatch(
            f"{PATTERNS.name} of {system.name}, {ds} names the template {error}, which {TEMPLATES.name} lacks; "
            "run the parse stage of this day again"
        ) from None
    return items, dict(sessions)


def stored_verdict(row: VerdictRow) -> Verdict:
    """Return the last verdict on a question, from its row."""
    return Verdict(row["question_id"], row["label"], row["confidence"], row["reason"], row["round"], row["group"])


def known_questions(lake: Lake, system: System, prompt: str, llm: str) -> tuple[list[Item], dict[str, Verdict]]:
    """Return the questions that this LLM ever judged under this prompt, in the order of their ids, and the last verdict on each."""
    rows = sorted(lake.rows(VERDICTS, system=system.name, prompt=prompt, llm=llm), key=lambda row: str(row["question_id"]))
    items = [Item(row["question_id"], tuple((event["template"], event["count"]) for event in row["events"] or ())) for row in rows]
    return items, {row["question_id"]: stored_verdict(row) for row in rows}


def last_served(lake: Lake, system: System, llm: str) -> str | None:
    """Return the model that the last answer of this LLM about the system named, without its fingerprint; None if no answer named one."""
    rows = [row for row in lake.rows(VERDICTS, ["served_by", "asked_at"], system=system.name, llm=llm) if row["served_by"]]
    return model_of(max(rows, key=lambda row: row["asked_at"])["served_by"]) if rows else None


def model_of(served_by: str | None) -> str | None:
    """Return the model in `served_by`, without its fingerprint, which a provider changes with every small repair."""
    return served_by.split(" ")[0] if served_by else None


def latest_verdicts(lake: Lake, system: System, prompt: str, llm: str | None) -> dict[str, VerdictRow]:
    """Return question id → its row under this prompt, of this LLM, or of the one that answered last if none is configured."""
    found = [row for row in lake.rows(VERDICTS, system=system.name, prompt=prompt) if llm is None or row["llm"] == llm]
    return {row["question_id"]: row for row in sorted(found, key=lambda row: row["asked_at"])}


def event_rows(events: Events) -> list[AskedEvent]:
    """Return events as `silver.verdicts` keeps them."""
    return [{"template": template, "count": count} for template, count in events]


def verdict_row(verdict: Verdict, first: Verdict, item: Item) -> VerdictRow:
    """Return the columns of `silver.verdicts` that are about the question.

    Args: first, the verdict of the first round; item, with its comparison if the verdict is of the second.
    """
    again = verdict.round == 2
    change = item.comparison.to_normal if again and item.comparison is not None else None
    return {
        "question_id": verdict.id,
        "label": verdict.label,
        "confidence": verdict.confidence,
        "reason": verdict.reason,
        "round": verdict.round,
        "group": verdict.group,
        "group_key": group_key(item) if again else None,
        "added": event_rows(change.added) if change is not None else None,
        "missing": event_rows(change.missing) if change is not None else None,
        "first_label": first.label,
        "first_confidence": first.confidence,
        "events": event_rows(item.events),
    }


def verdict_rows(
    items: Sequence[Item], before: Mapping[str, Verdict], sessions: Mapping[str, int], new: Sequence[Verdict]
) -> list[VerdictRow]:
    """Return `verdict_row` of each new verdict.

    Args: items, all that is known, the questions of the new verdicts included; before, the verdicts as they stood when these were asked.
    """
    asked = {item.id: item for item in items}
    again = [asked[verdict.id] for verdict in new if verdict.round == 2]
    differ = {item.id: item for item in with_comparisons(items, before, sessions, again)}
    return [
        verdict_row(verdict, before[verdict.id] if verdict.round == 2 else verdict, differ.get(verdict.id, asked[verdict.id]))
        for verdict in new
    ]
