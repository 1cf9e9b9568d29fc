"""Deliveries against the system's own history: is a file due tonight, and which hosts are missing?"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, timedelta

from nightlog.lake.lake import Lake
from nightlog.lake.tables import FILES

# A host is expected tonight if it delivered lines on the last nights, and on nearly all nights since it was first seen.
LAST_NIGHTS, USUAL_SHARE = 3, 0.9
# Hosts are replaced all the time if so many nights of the history lost one that was expected.
LOSSES = 2

Hosts = Mapping[str, Collection[str]]


def is_due(before: Collection[str], ds: str) -> bool:
    """Return True if a night should have files, going by the earlier nights that had some.

    It should not if the usual pause between such nights is not over yet (a weekly file), or if the same weekday has had none twice in a row
    (no files at weekends).

    Args: before: the earlier nights with files.

    >>> daily = [f"2026-03-{day:02d}" for day in (2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20)]
    >>> is_due(daily, "2026-03-23"), is_due(daily, "2026-03-21"), is_due(daily[:5], "2026-03-07"), is_due([], "2026-03-07")
    (True, False, True, False)
    >>> is_due(["2026-03-02", "2026-03-09", "2026-03-16"], "2026-03-17"), is_due(["2026-03-02", "2026-03-09", "2026-03-16"], "2026-03-23")
    (False, True)
    """
    if not before:
        return False
    tonight, days = date.fromisoformat(ds), sorted(map(date.fromisoformat, before))
    pauses = [(later - earlier).days for earlier, later in itertools.pairwise(days)]
    if len(pauses) >= 2 and (tonight - days[-1]).days < statistics.median(pauses):
        return False
    weeks = [tonight - timedelta(days=7 * n) for n in (1, 2)]
    return not all(days[0] < day < days[-1] and day not in days for day in weeks)


def expected_hosts(before: Hosts) -> set[str]:
    """Return the hosts that should have delivered lines tonight; none before the system has three nights.

    Args: before: earlier published night → the hosts that delivered lines.

    >>> nights = {f"2026-03-0{n}": {"web1", "web2"} for n in range(1, 8)}
    >>> sorted(expected_hosts(nights)), sorted(expected_hosts(nights | {"2026-03-08": {"web1"}})), expected_hosts({"2026-03-01": {"web1"}})
    (['web1', 'web2'], ['web1'], set())
    """
    return steady_hosts(before, sorted(before))


def hosts_come_and_go(before: Hosts) -> bool:
    """Return True if at least two of the nights lacked a host that was expected: hosts of this system are replaced by others.

    >>> hosts_come_and_go({f"2026-03-{n:02d}": {"web", f"pod{n // 4}"} for n in range(4, 20)})
    True
    """
    nights = sorted(before)
    return sum(bool(steady_hosts(before, nights[:n]) - set(before[nights[n]])) for n in range(LAST_NIGHTS, len(nights))) >= LOSSES


def steady_hosts(before: Hosts, nights: list[str]) -> set[str]:
    """Return the hosts of the last three of some nights that delivered lines on nearly all of them since they were first seen."""
    if len(nights) < LAST_NIGHTS:
        return set()
    seen: Counter[str] = Counter()
    first: dict[str, int] = {}
    for number, ds in enumerate(nights):
        for host in before[ds]:
            seen[host] += 1
            first.setdefault(host, number)
    steady = set.intersection(*(set(before[ds]) for ds in nights[-LAST_NIGHTS:]))
    return {host for host in steady if seen[host] >= USUAL_SHARE * (len(nights) - first[host])}


def hosts_of_nights(lake: Lake, **equal: str) -> dict[str, dict[str, set[str]]]:
    """Return system → night → the hosts that delivered lines, of the rows of bronze.files with these values."""
    found: dict[str, dict[str, set[str]]] = {}
    rows = lake.arrow(FILES, ["system", "ds", "host", "n_lines"], **equal)
    for row in rows.group_by(["system", "ds", "host"]).aggregate([("n_lines", "sum")]).to_pylist():
        if row["n_lines_sum"]:
            found.setdefault(row["system"], {}).setdefault(row["ds"], set()).add(row["host"])
    return found
