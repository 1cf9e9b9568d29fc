"""Hosts and files are expected as the system's own nights let expect."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from nightlog.quality.outliers import expected_hosts, hosts_come_and_go, is_due


def nights(*hosts: str) -> dict[str, set[str]]:
    """Return nights from the first of March on; each host is one letter."""
    return {(date(2026, 3, 1) + timedelta(days=n)).isoformat(): set(each) for n, each in enumerate(hosts)}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (("ab", "ab"), ""),  # two nights are too few
        (("ab", "ab", "ab"), "ab"),
        (("a", "ab", "ab", "ab"), "ab"),  # a new host, once it was there three nights in a row
        (("ab", "ab", "ab", "ab", "a"), "a"),  # missed last night, and published
        (("ab", "a", "ab", "ab", "ab"), "a"),  # it may be away
        (("ab",) * 5 + ("a",) * 2 + ("ab",) * 5, "a"),  # not at weekends
        (("ab",) * 10 + ("a",) + ("ab",) * 10, "ab"),  # one night of many
        (("ab", "ab", "", "ab"), ""),
        ((), ""),
    ],
)
def test_a_host_is_expected_if_it_was_there_on_the_last_nights_and_on_nearly_all(before: tuple[str, ...], expected: str) -> None:
    assert expected_hosts(nights(*before)) == set(expected)
    assert not hosts_come_and_go(nights(*before))


def test_hosts_that_are_replaced_all_the_time_are_known_to_be() -> None:
    assert hosts_come_and_go(nights("ab", "ab", "ab", "ab", "ac", "ac", "ac", "ac", "ad"))
    assert not hosts_come_and_go(nights("ab", "ab", "ab", "ab", "ac", "ac", "ac", "ac", "ac"))


def test_files_are_due_every_night_unless_pauses_are_usual() -> None:
    days = [date(2026, 3, 2) + timedelta(days=n) for n in range(28)]  # from a Monday on
    daily = [day.isoformat() for day in days]
    workdays = [day.isoformat() for day in days if day.weekday() < 5]
    weekly = [day.isoformat() for day in days if day.weekday() == 0]
    due = {
        name: [each for each in [*daily[21:], "2026-03-30"] if is_due([day for day in known if day < each], each)]
        for name, known in (("daily", daily), ("workdays", workdays), ("weekly", weekly))
    }
    assert due["daily"] == [*daily[21:], "2026-03-30"]
    assert due["workdays"] == [*workdays[15:], "2026-03-30"]
    assert due["weekly"] == ["2026-03-23", "2026-03-30"]
    assert is_due(daily[:1], daily[1]) and is_due(daily[:1], "2027-01-01") and not is_due([], DAY)
    assert is_due([*daily[:5], *daily[7:10]], daily[10]), "two nights that failed are no usual pause"


DAY = "2026-03-04"
