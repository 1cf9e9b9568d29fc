"""Incidents: findings of a night, over systems, that have one cause or the same minutes.

Findings are joined in two steps, each by what the night itself shows; no word of any program is known here.

1. **Telling template.** Two findings have the same first telling template. Or all telling templates of one are among those of the other,
   next to no normal session of the night has them, and no finding of a third kind has the first of them: then it is no symptom of several
   troubles. Templates of different systems are the same if their texts are.
2. **Minutes.** Two groups of findings whose telling templates were logged in the same minutes, beyond chance. The number of common minutes
   is compared with the hypergeometric distribution over the effective minutes of the day, 1 / (chance that two random sessions of the two
   systems are in the same minute), so that a busy hour is no coincidence. All pairs of the first 300 groups of a night are tested at a
   joint error rate of 1 % (Bonferroni), and half of the minutes of the smaller group must be common.

An incident is ranked by the sum of the squares of its findings' impacts, so it never ranks below its first finding.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nightlog.lake.lake import Lake
from nightlog.lake.tables import FINDINGS, INCIDENTS, SESSIONS, IncidentRow
from nightlog.publishing.findings import microseconds, minutes_of_day, rank_key, short_hash
from nightlog.sanitize import shortened

MOST_NORMAL = 0.002  # share of the night's sessions that are normal and have a telling template by which findings are joined
ERROR_RATE = 0.01  # of a night's tests together
TESTED_GROUPS = 300  # by rank; all pairs of thousands would take minutes
LEAST_COMMON = 2  # common minutes
LEAST_SHARE = 0.5  # of the minutes of the smaller group
LONGEST_TITLE = 160
DAY = 1440  # minutes
EVEN = np.full(DAY, 1 / DAY)


Cause = tuple[str, str]  # more | less, and the text of a telling template; of a finding without any: "finding" and its id


def causes_of(finding: Mapping[str, Any]) -> list[Cause]:
    """Return the causes by which a finding is joined with others, the first one first: see the module."""
    total = finding["n_sessions"] / finding["share"] if finding["share"] else math.inf
    first, *others = finding["telling"] or [None]
    rare = [each for each in others if each["change"] == "more" and not each["usual"] and each["n_normal"] <= MOST_NORMAL * total]
    found = [(each["change"], " ".join(each["template"].split())) for each in (first, *rare) if each is not None and each["template"]]
    return found or [("finding", finding["finding_id"])]


class Group(NamedTuple):
    """Findings with one cause, by rank. `cause`: the first telling template that they share."""

    cause: Cause
    findings: tuple[Mapping[str, Any], ...]

    @property
    def minutes(self) -> frozenset[int]:
        """The minutes of the day in which the telling templates were logged."""
        return frozenset(minute for finding in self.findings for minute in finding["minutes"] or ())


def grouped_by_cause(findings: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Return the findings by cause, the groups in the order of their first finding's rank."""
    ordered = sorted(findings, key=rank_key)
    causes = [causes_of(finding) for finding in ordered]
    led_by: dict[Cause, list[int]] = defaultdict(list)
    for number, own in enumerate(causes):
        led_by[own[0]].append(number)
    part_of = {cause: leader for cause, leader in only_leaders(causes).items() if contains(cause, leader, causes, led_by)}
    edges = [(numbers[0], other) for numbers in led_by.values() for other in numbers[1:]]
    edges += [(led_by[cause][0], led_by[leader][0]) for cause, leader in part_of.items()]
    groups = []
    for members in components(len(ordered), edges):
        firsts = {causes[number][0] for number in members}
        groups.append(Group(min(firsts, key=lambda cause: (cause not in part_of, cause)), tuple(ordered[number] for number in members)))
    return groups


def only_leaders(causes: Sequence[Sequence[Cause]]) -> dict[Cause, Cause]:
    """Return first cause → the only other first cause whose findings have it, too.

    A cause of findings with several first causes is a symptom of several troubles, and left out.
    """
    firsts = {own[0] for own in causes}
    leaders: dict[Cause, set[Cause]] = defaultdict(set)
    for own in causes:
        for cause in own[1:]:
            if cause in firsts and cause != own[0]:
                leaders[cause].add(own[0])
    return {cause: next(iter(own)) for cause, own in leaders.items() if len(own) == 1}


def contains(cause: Cause, leader: Cause, causes: Sequence[Sequence[Cause]], led_by: Mapping[Cause, Sequence[int]]) -> bool:
    """Return True if all causes of a finding that `cause` leads are among those of a finding that `leader` leads."""
    return any(set(causes[one]) <= set(causes[other]) for one in led_by[cause] for other in led_by[leader])


def effective_minutes(one: np.ndarray, other: np.ndarray) -> int:
    """Return 1 / (chance that two random sessions are in the same minute). Args: (1440,) shares of sessions by minute, each sums to 1.

    >>> effective_minutes(EVEN, EVEN)
    1440
    """
    return round(1 / max(float(one @ other), 1 / DAY))


def chance_of_common(n: int, n_one: int, n_other: int, n_common: int) -> float:
    """Return the probability that random sets of `n_one` and `n_other` of `n` minutes have at least `n_common` in common.

    >>> chance_of_common(1440, 3, 3, 3) < 1e-8, chance_of_common(60, 60, 2, 2)
    (True, 1.0)
    """
    n = max(n, n_one + n_other - n_common)
    ways = sum(math.comb(n_one, k) * math.comb(n - n_one, n_other - k) for k in range(n_common, min(n_one, n_other) + 1))
    return ways / math.comb(n, n_other)


class Join(NamedTuple):
    """Two groups (by their numbers) with common minutes, and the probability of that by chance, over all tests of the night."""

    one: int
    other: int
    chance: float


def joined_by_minutes(groups: Sequence[Group], load: Mapping[str, np.ndarray]) -> list[Join]:
    """Return the pairs of groups whose minutes agree beyond chance.

    Args: load: system → (1440,) its share of sessions by minute; a system that is missing has an even one.
    """
    tested = groups[:TESTED_GROUPS]
    n_pairs = len(tested) * (len(tested) - 1) // 2
    minutes = [group.minutes for group in tested]
    loads = [np.mean([load.get(name, EVEN) for name in sorted({each["system"] for each in group.findings})], axis=0) for group in tested]
    found = []
    for one, other in itertools.combinations(range(len(tested)), 2):
        n_one, n_other, n_common = len(minutes[one]), len(minutes[other]), len(minutes[one] & minutes[other])
        if n_common < LEAST_COMMON or n_common < LEAST_SHARE * min(n_one, n_other):
            continue
        n = effective_minutes(loads[one], loads[other])
        if n_common * n > n_one * n_other:  # more than expected
            chance = n_pairs * chance_of_common(n, n_one, n_other, n_common)
            if chance <= ERROR_RATE:
                found.append(Join(one, other, chance))
    return found


def night_incidents(
    ds: str, findings: Sequence[Mapping[str, Any]], load: Mapping[str, np.ndarray], earlier: Mapping[str, str]
) -> list[IncidentRow]:
    """Return the incidents of a night, ranked: rows of gold.incidents without run. The order of the findings does not matter.

    Args: findings: rows of gold.findings of all systems; load: see `joined_by_minutes`; earlier: incident id → its first night in the
    lake, of the nights before.
    """
    groups = grouped_by_cause(findings)
    joins = joined_by_minutes(groups, load)
    incidents = [
        incident(ds, [groups[number] for number in members], [join for join in joins if join.one in members], earlier)
        for members in components(len(groups), [(join.one, join.other) for join in joins])
    ]
    ordered = sorted(incidents, key=lambda row: (rank_of_status(row["status"]), -row["impact"], row["incident_id"]))
    return [row | {"rank": number} for number, row in enumerate(ordered, 1)]


def rank_of_status(status: str) -> int:
    """Return the place of a status in the order of incidents."""
    return rank_key({"status": status, "impact": 0.0, "finding_id": ""})[0]


def components(n: int, edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the connected components of a graph: the numbers of each, in order.

    >>> components(4, [(0, 2), (2, 3)])
    [[0, 2, 3], [1]]
    """
    root = list(range(n))

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for one, other in edges:
        low, high = sorted((find(one), find(other)))
        root[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for number in range(n):
        members[find(number)].append(number)
    return list(members.values())


def incident(ds: str, groups: Sequence[Group], joins: Sequence[Join], earlier: Mapping[str, str]) -> IncidentRow:
    """Return one incident without its rank. Args: groups: in the order of their first findings' rank."""
    findings = sorted((finding for group in groups for finding in group.findings), key=rank_key)
    first = findings[0]
    name = short_hash(*groups[0].cause)
    seen = min([ds, *(finding["first_seen"] or ds for finding in findings), earlier.get(name, ds)])
    is_first_night = all(finding["is_new"] is None for finding in findings)
    systems = sorted({finding["system"] for finding in findings})
    row: IncidentRow = {
        "ds": ds,
        "incident_id": name,
        "title": title(first),
        "status": first["status"],
        "systems": systems,
        "finding_ids": [finding["finding_id"] for finding in findings],
        "n_findings": len(findings),
        "n_sessions": sum(finding["n_sessions"] for finding in findings),
        "severity": max(finding["severity"] or 0.0 for finding in findings),
        "started_at": min((each["started_at"] for each in findings if each["started_at"] is not None), default=None),
        "ended_at": max((each["ended_at"] for each in findings if each["ended_at"] is not None), default=None),
        "hours": [sum(hour) for hour in zip(*(finding["hours"] or [0] * 24 for finding in findings), strict=True)],
        "joined_by": joined_by(groups, joins, len(systems)),
        "first_seen": seen,
        "is_new": None if is_first_night and seen == ds else seen == ds,
        "impact": round(math.sqrt(sum((finding["impact"] or 0.0) ** 2 for finding in findings)), 6),
    }
    return row | {"rank_reason": rank_reason(row, first)}


def joined_by(groups: Sequence[Group], joins: Sequence[Join], n_systems: int) -> str | None:
    """Return the reason why findings are one incident; None if it is one finding."""
    parts = ["a telling template in common"] if any(len(group.findings) > 1 for group in groups) else []
    if joins:
        chance = max(join.chance for join in joins)
        odds = f"1 in {1 / chance:,.0f}" if chance > 1e-6 else "less than 1 in 1,000,000"
        parts.append(f"the same minutes{f' in {n_systems} systems' if n_systems > 1 else ''}, {odds} by chance")
    return "; ".join(parts) or None


def title(first: Mapping[str, Any]) -> str:
    """Return the title of an incident, from its first finding: the reason of an LLM or an analyst, else its telling template."""
    telling = next(iter(first["telling"] or ()), None)
    if first["decided_by"] in ("llm", "feedback") or telling is None or not telling["template"]:
        return shortened(first["reason"] or "", LONGEST_TITLE)
    return shortened(f"{'' if telling['change'] == 'more' else 'missing: '}{telling['template']}", LONGEST_TITLE)


def rank_reason(row: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Return the reason for an incident's rank in a sentence: that of its finding, or their sums and that of the first one."""
    if row["n_findings"] == 1:
        before = f"first seen on {row['first_seen']} in other sessions; " if row["first_seen"] < first["first_seen"] else ""
        return f"{before}{first['rank_reason']}"
    novelty = {True: "new tonight", False: f"first seen on {row['first_seen']}", None: "the first night of its systems"}[row["is_new"]]
    n = row["n_sessions"]
    sums = f"{n:,} session{'s' * (n != 1)} in {row['n_findings']:,} findings"
    sums += f" of {len(row['systems'])} systems" * (len(row["systems"]) > 1)
    return f"{novelty}, {sums}; the first: {first['rank_reason']}"


def write_incidents(lake: Lake, ds: str, run_id: str) -> int:
    """Join the findings of all systems that have published the night, and replace its incidents in one commit. Returns their number.

    A system that is published later, or again, changes them with the next call; the same findings give the same rows.
    """
    findings = lake.rows(FINDINGS, ds=ds)
    earlier: dict[str, str] = {}
    for row in lake.rows(INCIDENTS, ["ds", "incident_id", "first_seen"]):
        if row["ds"] < ds:
            earlier[row["incident_id"]] = min(row["first_seen"], earlier.get(row["incident_id"], ds))
    systems = sorted({row["system"] for row in findings})
    rows = night_incidents(ds, findings, {system: load_of(lake, system, ds) for system in systems}, earlier)
    lake.replace(INCIDENTS, [row | {"run_id": run_id} for row in rows], ds=ds)
    return len(rows)


def load_of(lake: Lake, system: str, ds: str) -> np.ndarray:
    """Return the share of a system's sessions of a night by the minute of the day in which they ended, (1440,); even without any."""
    sessions = lake.arrow(SESSIONS, ["ended_at"], system=system, ds=ds)
    minutes = minutes_of_day(microseconds(sessions.column("ended_at")))
    counts = np.bincount(minutes[minutes >= 0], minlength=DAY).astype(float)
    return counts / counts.sum() if counts.any() else EVEN
