"""The open points of a night: what nobody judged, what waits, what is held back, what may change, and who judged the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nightlog.outcomes import SUCCESSES, OutcomeKind
from nightlog.pages.charts import Share
from nightlog.pages.model import SystemNight
from nightlog.pages.words import n_of, troubled
from nightlog.publishing.account import input_sentence, llm_sentence, next_step, unjudged_sentence

# Columns of gold.nights that sum to the night's sessions: the judge and the colour of its share.
JUDGES = (
    ("n_by_analyst", "analyst", 3),
    ("n_by_llm", "LLM", 0),
    ("n_by_student", "student", 2),
    ("n_by_model", "history and small model", 5),
    ("n_unjudged", "nobody", 1),
)
TROUBLES = {
    OutcomeKind.GATED: "Held back",
    OutcomeKind.NO_INPUT: "No input",
    OutcomeKind.FAILED: "Failed",
    OutcomeKind.TRANSIENT: "Failed",
}
# The gravest first.
KINDS = (
    "Failed",
    "Held back",
    "No input",
    "Not judged",
    "No LLM",
    "No findings",
    "Provisional",
    "Waiting",
    "Outside",
    "Suppressed",
    "Warning",
)
SHOWN_POINTS = 5  # of a kind; the others are folded


class Point(NamedTuple):
    """An open point of a system: its kind, a sentence (which may hold text of logs), what to do, and the command for it."""

    kind: str
    system: str
    text: str
    to_do: str = ""
    command: str = ""


def open_points(night: SystemNight) -> list[Point]:
    """Return the open points of a system's night, the gravest first; none if all of it was read, judged and published."""
    points = [*trouble_points(night)]
    if night.published:
        points += published_points(night)
    return points + [Point("Warning", night.system, f"Stage {warning}") for warning in night.warnings]


class Group(NamedTuple):
    """The open points of one kind, of all systems: those to show, and those to fold."""

    kind: str
    shown: tuple[Point, ...]
    folded: tuple[Point, ...]


def point_groups(nights: Iterable[SystemNight]) -> list[Group]:
    """Return the open points of a night by kind, the gravest kind first; within a kind by system."""
    points = [point for night in nights for point in open_points(night)]
    groups = [(kind, tuple(point for point in points if point.kind == kind)) for kind in KINDS]
    return [Group(kind, own[:SHOWN_POINTS], own[SHOWN_POINTS:]) for kind, own in groups if own]


def trouble_points(night: SystemNight) -> list[Point]:
    """Return the point about a last run that did not publish."""
    outcome = night.outcome
    if outcome.outcome in SUCCESSES:
        return []
    earlier = "; what an earlier run published is shown" if night.published else "; nothing was published"
    parts = [] if outcome.outcome == OutcomeKind.NO_INPUT and outcome.why else [troubled(night)]
    text = ": ".join([*parts, *([outcome.why] if outcome.why else [])]) + earlier
    place = f"--ds {night.ds} --system {night.system}"
    command = f'nightlog approve {place} --reason "…"' if outcome.outcome == OutcomeKind.GATED else ""
    to_do = "fix the cause and run the night again, or approve it if it is right as it is" if command else ""
    return [Point(TROUBLES.get(OutcomeKind(outcome.outcome), "Failed"), night.system, capital(text), to_do, command)]


def published_points(night: SystemNight) -> list[Point]:
    """Return the points about what a published night leaves open."""
    row, name = night.night, night.system
    points = []
    if (sentence := input_sentence(row)) is not None:
        points.append(Point("No input", name, capital(sentence)))
    if (sentence := unjudged_sentence(row)) is not None:
        points.append(Point("Not judged", name, sentence, next_step(row) or ""))
    if (sentence := llm_sentence(row)) is not None:
        points.append(Point("No LLM", name, capital(sentence)))
    if n := row.get("n_provisional"):
        text = f"{n_of(n, 'session')}: the LLM is still to be asked, so the verdict may change"
        points.append(Point("Provisional", name, text, "", f"nightlog run --ds {night.ds} --systems {name} --from label"))
    if night.lacks_findings:
        text = "An earlier version of Nightlog published this night, so its anomalous sessions are not joined to findings"
        points.append(Point("No findings", name, text, "", f"nightlog run --ds {night.ds} --systems {name} --from publish"))
    if n := row.get("n_waiting"):
        points.append(Point("Waiting", name, f"{n_of(n, 'session')} had not ended when the night did: a later night judges {them(n)}"))
    if n := row.get("n_outside"):
        points.append(
            Point("Outside", name, f"{n_of(n, 'session')} {'has' if n == 1 else 'have'} no event with a template: no rule judges {them(n)}")
        )
    if n := night.totals.get("suppressed"):
        text = f"{n_of(n, 'anomalous session')}, suppressed by an analyst: listed last, and in no message"
        points.append(Point("Suppressed", name, text))
    return points


def judged_by(nights: Sequence[SystemNight]) -> list[Share]:
    """Return the sessions of published nights by judge; empty for nights of a version that did not count them."""
    rows = [night.night for night in nights if night.published]
    shares = [Share(name, colour, sum(row.get(column) or 0 for row in rows)) for column, name, colour in JUDGES]
    return [share for share in shares if share.count]


def them(n: int) -> str:
    """Return the pronoun for a number of things."""
    return "it" if n == 1 else "them"


def capital(text: str) -> str:
    """Return a sentence with its first letter large.

    >>> capital("no LLM judged")
    'No LLM judged'
    """
    return text[:1].upper() + text[1:]
