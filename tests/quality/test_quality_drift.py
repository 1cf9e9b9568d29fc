"""What is far outside of a system's own nights is told; what it has shown before, few nights and small numbers are no drift."""

from __future__ import annotations

from typing import Any

import pytest
from nightlog.quality.outliers import Outlier, beyond_limits, drift, history, mark_approved, missing_hosts
from nightlog.systems.spec import Gates

GATES = Gates()
USUAL = {"n_lines": 1000, "n_blank": 0, "n_unparsed": 3, "n_templates": 40, "n_templates_new": 1, "n_sessions": 500, "n_anomalies": 5}
WEEK = [USUAL | {"n_sessions": 500 + n} for n in range(7)]
ALL = ("unparsed", "new_templates", "sessions", "anomalies")


def outside(tonight: dict[str, int], before: list[dict[str, int]] = WEEK, gates: Gates = GATES) -> dict[str, str]:
    return {each.measure: each.severity for each in drift(USUAL | tonight, before, gates, ALL)}


def test_a_night_like_the_others_passes() -> None:
    assert outside({}) == {}
    assert outside({"n_unparsed": 40, "n_templates_new": 15, "n_sessions": 1200, "n_anomalies": 100}) == {}
    assert outside({"n_anomalies": 0, "n_unparsed": 0, "n_templates_new": 0}) == {}, "fewer anomalies than usual are no reason"


@pytest.mark.parametrize(
    ("tonight", "measure"),
    [
        ({"n_unparsed": 80}, "unparsed"),
        ({"n_templates": 100, "n_templates_new": 60}, "new_templates"),
        ({"n_sessions": 1600, "n_anomalies": 16}, "sessions"),
        ({"n_sessions": 150, "n_anomalies": 2}, "sessions"),
        ({"n_sessions": 0, "n_anomalies": 0}, "sessions"),
        ({"n_anomalies": 200}, "anomalies"),
    ],
)
def test_each_measure_far_outside_holds_the_night_back_and_says_why(tonight: dict[str, int], measure: str) -> None:
    assert outside(tonight) == {measure: "critical"}
    assert outside(tonight, WEEK[:6]) == {}, "six nights are too few to know what is usual"
    others = Gates(hold=tuple(name for name in ALL if name != measure))
    assert outside(tonight, gates=others) == {measure: "warning"}
    (found,) = drift(USUAL | tonight, WEEK, GATES, ALL)
    assert "on the 7 nights before the median was" in found.text
    assert not found.low <= found.value <= found.high


def test_the_limits_are_the_systems_own() -> None:
    assert outside({"n_sessions": 1200, "n_anomalies": 12}, gates=Gates(sessions_factor=1.5)) == {"sessions": "critical"}
    assert outside({"n_anomalies": 100}, gates=Gates(anomalies_rise=0.1)) == {"anomalies": "critical"}
    assert outside({"n_unparsed": 40}, gates=Gates(unparsed_rise=0.01)) == {"unparsed": "critical"}


def test_one_strange_night_before_changes_nothing_two_do() -> None:
    """So a weekend is drift no more once it has been seen."""
    quiet = USUAL | {"n_sessions": 40, "n_anomalies": 0}
    assert outside(quiet, [*WEEK, quiet]) == {"sessions": "critical"}
    assert outside(quiet, [*WEEK, quiet, quiet]) == {}


def test_a_system_that_varies_may_vary() -> None:
    wild = [USUAL | {"n_sessions": n, "n_anomalies": 0} for n in (10, 900, 80, 4000, 300, 20, 2000, 50)]
    assert outside({"n_sessions": 12_000, "n_anomalies": 0}, wild) == {}
    assert outside({"n_sessions": 12_000, "n_anomalies": 0}) == {"sessions": "critical"}


def test_small_numbers_are_no_drift() -> None:
    small = [{"n_lines": 30, "n_blank": 0, "n_unparsed": 0, "n_templates": 4, "n_templates_new": 0, "n_sessions": 5, "n_anomalies": 0}] * 7
    tonight = {"n_lines": 30, "n_unparsed": 6, "n_templates": 9, "n_templates_new": 9, "n_sessions": 19, "n_anomalies": 19}
    assert outside(tonight, small) == {}
    assert outside({"n_sessions": 3, "n_anomalies": 0}) == {"sessions": "critical"}, "few where there were many is drift"


def row(ds: str, **more: Any) -> dict[str, Any]:
    return dict.fromkeys(USUAL) | {"ds": ds, "outcome": "done", "n_lines": 10, "n_sessions": 2} | more


def test_history_is_the_published_nights_of_the_days_before_and_begins_anew_where_somebody_said_so() -> None:
    nights = [row("2026-03-05"), row("2026-03-01", n_sessions=1), row("2026-02-27"), row("2026-03-02", outcome="gated"), row("2026-01-01")]
    found = history(nights, {"2026-03-01": 7}, [], "2026-03-04", 28)
    assert [(each["n_sessions"], each["n_templates_new"]) for each in found] == [(2, 0), (1, 7)]
    anew = [{"ds": "2026-03-01", "new_normal": True}, {"ds": "2026-03-04", "new_normal": True}, {"ds": "2026-03-02", "new_normal": False}]
    assert [each["n_sessions"] for each in history(nights, {}, anew, "2026-03-04", 28)] == [1]


def test_an_approval_lets_through_what_was_approved_and_nothing_worse() -> None:
    low, high = (Outlier("sessions", value, 100.0, 900.0, "critical", "x") for value in (50.0, 2000.0))
    other = Outlier("anomalies", 0.5, 0, 0.3, "critical", "x")

    def by(value: float) -> list[dict[str, Any]]:
        return [{"approved_by": "kim", "held": [{"measure": "sessions", "value": value}]}]

    for finding, given, passes in ((low, 50, True), (low, 40, True), (low, 60, False), (high, 2000, True), (high, 1900, False)):
        (found,) = mark_approved([finding], by(given))
        assert (found.severity, found.approved) == (("warning", "kim") if passes else ("critical", None))
    assert mark_approved([other], by(0.5)) == [other]


SMALL = {"n_lines": 3, "n_blank": 0, "n_unparsed": 0, "n_bytes": 120, "n_files": 1, "n_templates": 2, "n_sessions": 3, "n_anomalies": 0}
AMOUNTS = ("lines", "bytes", "files", "sessions")


def amounts(tonight: dict[str, int], usual: dict[str, int] = SMALL, nights: int = 7) -> dict[str, str]:
    return {each.measure: each.severity for each in drift(usual | tonight, [usual] * nights, GATES, AMOUNTS)}


def test_lines_that_are_missing_hold_the_night_back_however_small_the_system() -> None:
    assert amounts({"n_lines": 2, "n_bytes": 80}) == {}
    assert amounts({"n_lines": 0, "n_bytes": 0}) == {"lines": "critical", "bytes": "warning"}
    large = SMALL | {"n_lines": 4800, "n_bytes": 300_000, "n_files": 24}
    assert amounts({"n_lines": 60}, large) == {"lines": "critical"}
    assert amounts({"n_lines": 60}, large, nights=6) == {}
    assert amounts({"n_bytes": 9_000}, large) == {"bytes": "warning"}
    assert amounts({"n_files": 2}, large) == {"files": "warning"}


def test_more_lines_than_usual_are_a_warning_because_errors_write_more() -> None:
    assert amounts({"n_lines": 40_000}, SMALL | {"n_lines": 4800}) == {"lines": "warning"}


def test_the_share_of_continuation_lines_is_compared_and_swallowed_lines_have_a_limit() -> None:
    usual = USUAL | {"n_continuation": 50}
    tonight = usual | {"n_continuation": 500}
    assert [(each.measure, each.severity) for each in drift(tonight, [usual] * 7, GATES, ["continuation"])] == [("continuation", "warning")]
    assert drift(usual | {"n_continuation": 300}, [usual] * 7, GATES, ["continuation"]) == []
    for n, found in ((50, []), (51, ["warning"]), (200, ["warning"]), (201, ["critical"])):
        assert [each.severity for each in beyond_limits(usual | {"n_swallowed": n}, GATES)] == found
    assert [each.severity for each in beyond_limits(usual | {"n_swallowed": 300}, Gates(swallowed_share=0.5))] == ["warning"]
    assert [each.measure for each in beyond_limits(usual | {"n_unparsed": 300}, GATES)] == ["unparsed"]


def test_a_host_without_lines_holds_the_night_back_and_is_named() -> None:
    (found,) = missing_hosts({"web1", "web2", "web3"}, {"web1", "web9"}, False, GATES)
    assert (found.severity, found.value) == ("critical", 1.0)
    assert found.text == "2 of 3 hosts that deliver every night have no lines tonight: web2, web3"
    assert missing_hosts({"web1"}, {"web1", "web2"}, False, GATES) == []
    assert [each.severity for each in missing_hosts({"web1"}, (), True, GATES)] == ["warning"], "hosts come and go"
    assert [each.severity for each in missing_hosts({"web1"}, (), False, Gates(hold=()))] == ["warning"]
    assert "no lines, though" in missing_hosts({""}, (), False, GATES)[0].text
    # Approved with one host there, it passes with as many, and not with fewer.
    held = [{"approved_by": "kim", "held": [{"measure": "hosts", "value": 1.0}]}]
    assert mark_approved([found], held)[0].severity == "warning"
    assert mark_approved(missing_hosts({"web1", "web2", "web3"}, (), False, GATES), held)[0].severity == "critical"
