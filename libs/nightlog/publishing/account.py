"""The account of a night's verdicts: by whom its sessions were judged, how many nobody judged, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightlog.history.general import is_general_model
from nightlog.outcomes import OutcomeKind, is_published
from nightlog.publishing.decide import CAUSES, Cause, Decision
from nightlog.systems.spec import System

JUDGES = {
    "feedback": "n_by_analyst",
    "llm": "n_by_llm",
    "student": "n_by_student",
    "small_model": "n_by_model",
    "history": "n_by_model",
    None: "n_unjudged",
}
WHAT_TO_DO: dict[Cause, str] = {
    "off": "set OPENAI_API_KEY (docs/reference/settings.md), answer its questions (nightlog questions), or write `wanted = false` "
    "under [llm] in the system's file",
    "not_allowed": "answer its questions (nightlog questions)",
    "not_wanted": "answer its questions (nightlog questions)",
    "not_answered": "read the warning of stage label, then run the night again from `label`",
    "unclear": "answer its questions (nightlog questions)",
    "cannot_flag": "train again (nightlog train)",
    "no_score": "run the night again from `detect`",
}


@dataclass(frozen=True)
class VerdictAccount:
    """The sessions of a system's night by who judged them; the five counts sum to the night's sessions.

    `n_provisional`: sessions whose verdict may still change, flagged or not. `causes`: cause → sessions that nobody judged.
    """

    n_by_analyst: int
    n_by_llm: int
    n_by_student: int
    n_by_model: int
    n_unjudged: int
    n_provisional: int
    causes: Mapping[Cause, int]

    @property
    def n_sessions(self) -> int:
        """All sessions of the account."""
        return sum(getattr(self, name) for name in set(JUDGES.values()))

    @property
    def counts(self) -> dict[str, int]:
        """The counts by the names of their columns in gold.nights."""
        return {name: getattr(self, name) for name in (*JUDGES.values(), "n_provisional")}

    @property
    def why(self) -> str | None:
        """The causes of unjudged sessions in words, the commonest first; None if there are none."""
        ranked = sorted(self.causes, key=lambda cause: (-self.causes[cause], cause))
        return "; ".join(CAUSES[cause] for cause in ranked) or None


def account(decided: Iterable[Decision], sizes: Mapping[str, int]) -> VerdictAccount:
    """Sum up the decisions of a night.

    Args: sizes: pattern id → its sessions of the night. A pattern without a decision counts as judged by nobody.
    """
    of_pattern = {each.pattern_id: each for each in decided}
    judged, causes, n_provisional = Counter[str](), Counter[Cause](), 0
    for pattern, n_sessions in sizes.items():
        decision = of_pattern.get(pattern)
        judged[JUDGES[decision.decided_by if decision is not None else None]] += n_sessions
        if decision is None or decision.decided_by is None:
            causes[decision.cause if decision is not None and decision.cause is not None else "no_score"] += n_sessions
        if decision is not None and decision.may_change:
            n_provisional += n_sessions
    counts = {name: judged[name] for name in JUDGES.values()}
    return VerdictAccount(**counts, n_provisional=n_provisional, causes=causes)


def night_outcome(system: System, n_unjudged: int, is_input_missing: bool = False) -> OutcomeKind:
    """Return the outcome of a published night.

    It is incomplete if nobody judged some sessions of a system that an LLM is meant to judge. It is incomplete, too, if no file came though
    one was due: then only sessions that had waited for the night were judged.
    """
    return OutcomeKind.INCOMPLETE if is_input_missing or (n_unjudged and system.llm.judges) else OutcomeKind.DONE


def has_input(night: Mapping[str, Any]) -> bool:
    """Return True if files were read for a row of gold.nights; rows of earlier versions of Nightlog do not count them."""
    return night.get("n_files") != 0


def input_sentence(night: Mapping[str, Any]) -> str | None:
    """Return the sentence about a published night without the input that was due, for a row of gold.nights; None if it had its input.

    >>> input_sentence({"outcome": "incomplete", "n_files": 0, "n_sessions": 6})
    'no file came though some were due: only 6 sessions that had waited for this night were judged'
    >>> input_sentence({"outcome": "incomplete", "n_files": 2}), input_sentence({"outcome": "done", "n_files": 0})
    (None, None)
    """
    if night.get("outcome") != OutcomeKind.INCOMPLETE or has_input(night):
        return None
    n = night.get("n_sessions") or 0
    verb = "was" if n == 1 else "were"
    return f"no file came though some were due: only {n:,} session{'s' * (n != 1)} that had waited for this night {verb} judged"


def next_step(night: Mapping[str, Any]) -> str | None:
    """Return what to do about the unjudged sessions of a row of gold.nights, by their commonest cause; None if there are none.

    >>> next_step({"n_unjudged": 2, "unjudged_why": "the LLM has not answered; no LLM is wanted for this system"})
    'read the warning of stage label, then run the night again from `label`'
    """
    first = (night.get("unjudged_why") or "").split("; ")[0]
    return next((WHAT_TO_DO[cause] for cause, words in CAUSES.items() if words == first), None) if night.get("n_unjudged") else None


def unjudged_sentence(night: Mapping[str, Any]) -> str | None:
    """Return "300 of 340 sessions were judged by nobody: …" for a row of gold.nights; None if it has no such sessions.

    >>> unjudged_sentence({"n_unjudged": 300, "n_sessions": 340, "unjudged_why": "the LLM is off"})
    '300 of 340 sessions were judged by nobody: the LLM is off'
    """
    n, total = night.get("n_unjudged"), night.get("n_sessions") or 0
    if not n:
        return None
    return f"{n:,} of {total:,} session{'s' * (total != 1)} {'was' if n == 1 else 'were'} judged by nobody: {night['unjudged_why']}"


def llm_sentence(night: Mapping[str, Any]) -> str | None:
    """Return that no LLM judged a published night, for a row of gold.nights; None if one did, or if that is not known.

    >>> llm_sentence({"outcome": "done", "n_by_llm": 0, "n_sessions": 9, "n_by_student": 4, "versions": {"llm": None}})
    'no LLM judged this night: its findings rest on the history and the answers of analysts'
    >>> llm_sentence({"outcome": "incomplete", "n_by_llm": 0, "n_sessions": 9, "n_unjudged": 9, "versions": {"llm": None}})
    'no LLM judged this night'
    >>> llm_sentence({"outcome": "done", "n_by_llm": 3, "n_sessions": 9, "versions": {"llm": None}})
    """
    is_off = (night.get("versions") or {}).get("llm") is None and night.get("n_by_llm") == 0
    if not is_off or not night.get("n_sessions") or not is_published(night.get("outcome")):
        return None
    if night.get("n_unjudged") == night["n_sessions"]:
        return "no LLM judged this night"
    is_taught = night.get("n_by_student") or night.get("n_by_analyst")
    has_model = not is_general_model(night["versions"].get("model") or "general-")
    grounds = ["the history", *(["the small model"] if has_model else []), *(["the answers of analysts"] if is_taught else [])]
    return f"no LLM judged this night: its findings rest on {' and '.join(grounds)}{'' if grounds[1:] else ' alone'}"


def night_sentence(nights: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the sentence about the unjudged sessions of several systems, from their rows of gold.nights; None if there are none.

    >>> rows = [{"system": name, "n_unjudged": 2, "n_sessions": 5, "unjudged_why": "the LLM is off"} for name in ("mail", "shop")]
    >>> night_sentence(rows[:1])
    '2 of 5 sessions were judged by nobody: the LLM is off'
    >>> night_sentence(rows)
    '4 of 10 sessions were judged by nobody (mail 2, shop 2): the LLM is off'
    """
    left = [night for night in nights if night.get("n_unjudged")]
    if not left:
        return None
    if len(nights) == 1:
        return unjudged_sentence(left[0])
    total, n = (sum(night.get(name) or 0 for night in nights) for name in ("n_sessions", "n_unjudged"))
    ranked = sorted(left, key=lambda night: (-night["n_unjudged"], night["system"]))
    named = ", ".join(f"{night['system']} {night['n_unjudged']:,}" for night in ranked[:5])
    named += f" and {len(ranked) - 5:,} more systems" * (len(ranked) > 5)
    causes = "; ".join(dict.fromkeys(part for night in ranked for part in (night["unjudged_why"] or "").split("; ") if part))
    return f"{n:,} of {total:,} sessions were judged by nobody ({named}): {causes}"
