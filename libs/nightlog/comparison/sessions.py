"""Two nights of a system side by side, by their sessions: patterns, templates and anomalies that are new, gone, more or fewer. No Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.tables import ANOMALIES, NIGHTS, PATTERNS
from nightlog.outcomes import is_published

Change = Literal["new", "gone", "more", "fewer"]
CHANGES: tuple[Change, ...] = ("new", "gone", "more", "fewer")
KINDS = ("anomaly", "template", "pattern")
COLUMNS = ("system", "kind", "change", "id", "before", "after", "what")
LEAST_FACTOR = 2.0  # a share that has not at least doubled or halved is no news, however sure
LEAST_DEVIATIONS = 3.0
SHOWN_EVENTS = 6


@dataclass(frozen=True)
class Counted:
    """A night: its sessions, and how many have each pattern, have each template, are anomalous of each pattern; and what these are."""

    n_sessions: int
    patterns: Mapping[str, int]
    templates: Mapping[str, int]
    anomalies: Mapping[str, int]
    texts: Mapping[str, str]


def change_of(before: int, after: int, total_before: int, total_after: int) -> Change | None:
    """Return the change of the number of a night's sessions that have something, None if it is about as before.

    More and fewer are by share of the sessions, where it has at least doubled or halved and chance would hardly do so: a busier night
    alone is no change. Two proportions, pooled; 3 standard deviations.

    >>> change_of(10, 21, 1000, 2000), change_of(10, 60, 1000, 2000), change_of(1, 3, 1000, 1000), change_of(0, 1, 9, 9)
    (None, 'more', None, 'new')
    """
    if not before or not after:
        return None if before == after else "new" if after else "gone"
    one, two = before / total_before, after / total_after
    pooled = (before + after) / (total_before + total_after)
    spread = sqrt(pooled * (1 - pooled) * (1 / total_before + 1 / total_after))
    if max(one, two) < LEAST_FACTOR * min(one, two) or abs(two - one) < LEAST_DEVIATIONS * spread:
        return None
    return "more" if two > one else "fewer"


def counted_change(before: int, after: int) -> Change | None:
    """As `change_of`, of anomalous sessions: there every one counts."""
    if not before or not after:
        return change_of(before, after, 1, 1)
    return None if before == after else "more" if after > before else "fewer"


def compare(one: Counted, two: Counted) -> list[dict[str, Any]]:
    """Return the changes in the second night, new, gone, more or fewer: anomalies first, then templates, then patterns; the greatest change
    first.

    Returns: kind, change, id, before, after (sessions), what.
    """
    rows = []
    for kind, before, after in (
        ("anomaly", one.anomalies, two.anomalies),
        ("template", one.templates, two.templates),
        ("pattern", one.patterns, two.patterns),
    ):
        for name in before.keys() | after.keys():
            n, m = before.get(name, 0), after.get(name, 0)
            change = counted_change(n, m) if kind == "anomaly" else change_of(n, m, one.n_sessions, two.n_sessions)
            if change is not None:
                what = two.texts.get(name) or one.texts.get(name) or ""
                rows.append({"kind": kind, "change": change, "id": name, "before": n, "after": m, "what": what})
    return sorted(
        rows,
        key=lambda row: (KINDS.index(row["kind"]), CHANGES.index(row["change"]), -abs(row["after"] - row["before"]), row["id"]),
    )


def read_night(lake: Lake, system: str, ds: str) -> Counted | None:
    """A published night of a system; None where there is none."""
    of_night = {"system": system, "ds": ds}
    if not any(is_published(row["outcome"]) for row in lake.rows(NIGHTS, ["outcome"], **of_night)):
        return None
    rows = lake.rows(PATTERNS, ["pattern_id", "events", "n_sessions"], **of_night)
    texts = template_texts(lake, system)
    found = lake.rows(ANOMALIES, ["pattern_id", "reason"], **of_night)
    templates = Counter[str]()
    for row in rows:
        for name in {event["template_id"] for event in row["events"] or ()}:
            templates[name] += row["n_sessions"]
    in_text = {row["pattern_id"]: in_words(row["events"] or (), texts) for row in rows}
    return Counted(
        max(1, sum(row["n_sessions"] for row in rows)),
        {row["pattern_id"]: row["n_sessions"] for row in rows},
        templates,
        Counter(row["pattern_id"] for row in found),
        in_text | texts | {row["pattern_id"]: row["reason"] or in_text.get(row["pattern_id"], "") for row in found},
    )


def in_words(events: Any, texts: Mapping[str, str]) -> str:
    """A pattern in one line: its first templates with their counts.

    >>> in_words([{"template_id": "t", "count": 2}], {"t": "open <FILE>"})
    '2× open <FILE>'
    """
    parts = [f"{event['count']}× {texts.get(event['template_id'], event['template_id'])}" for event in events[:SHOWN_EVENTS]]
    return "; ".join(parts) + (f"; {len(events) - SHOWN_EVENTS} templates more" if len(events) > SHOWN_EVENTS else "")


def compare_nights(lake: Lake, before: str, after: str, systems: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows of `compare` with the system, for each of the systems that has both nights published."""
    rows = []
    for name in systems:
        one, two = read_night(lake, name, before), read_night(lake, name, after)
        if one is not None and two is not None:
            rows += [{"system": name} | row for row in compare(one, two)]
    return rows
