"""Findings and incidents: sums, novelty, ranks and joins, whatever the order of the rows."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from nightlog.history.channels import Templates
from nightlog.lake.lake import Lake
from nightlog.lake.query import incidents
from nightlog.lake.tables import FINDINGS, INCIDENTS, SESSIONS
from nightlog.publishing.findings import EarlierNights, finding_id, night_findings, short_hash
from nightlog.publishing.incidents import night_incidents, write_incidents
from nightlog.publishing.telling import Telling, telling_templates

DS = "2026-03-04"
MIDNIGHT = datetime(2026, 3, 4, tzinfo=UTC)
TEXTS = {"t-open": "open <FILE>", "t-close": "close <FILE>", "t-killed": "child killed with signal <NUM>", "t-slow": "slow answer"}
TIME = pa.timestamp("us", "UTC")
SESSION_TYPES = {"started_at": TIME, "ended_at": TIME, "noticed_at": TIME, "score": pa.float64()}


def session(name: str, pattern: str, minute: int = 0, **more: Any) -> dict[str, Any]:
    at = MIDNIGHT + timedelta(minutes=minute)
    row = {"session_id": name, "pattern_id": pattern, "started_at": at, "ended_at": at + timedelta(minutes=5), "noticed_at": None}
    return row | {"score": 0.9, "decided_by": "llm", "route": "proprietary", "status": "open", "reason": f"reason of {pattern}"} | more


def table(rows: list[dict[str, Any]]) -> pa.Table:
    names = list(session("s", "p"))
    return pa.table({name: pa.array([row[name] for row in rows], SESSION_TYPES.get(name, pa.string())) for name in names})


def pattern(name: str, n_sessions: int = 1, **counts: int) -> dict[str, Any]:
    events = [{"template_id": f"t-{template}", "count": n} for template, n in counts.items()]
    return {"pattern_id": name, "events": events, "n_sessions": n_sessions}


NORMAL = [pattern("n1", 90, open=1, close=1), pattern("n2", 10, open=4, close=1)]


def killed(more: bool = False, severity: float = 1.0) -> list[Telling]:
    rows = [Telling("t-killed", "more", 1, 0, 0, severity, 9.0), Telling("t-close", "less", 0, 1, 100, 0.0, 4.0)]
    return [*rows, Telling("t-slow", "more", 1, 0, 0, 0.0, 5.0)] if more else rows


def findings(rows: list[dict[str, Any]], telling: dict[str, list[Telling]] | None = None, **past: Any) -> list[dict[str, Any]]:
    templates = Templates(TEXTS, {"t-killed": "error"})
    return night_findings("mail", DS, table(rows), 200, telling or {}, templates, EarlierNights(**past))


# Telling templates


def test_what_a_pattern_has_more_than_the_nearest_normal_one_comes_first() -> None:
    rows = [*NORMAL, pattern("bad", 2, open=1, killed=1)]
    (first, second) = telling_templates(rows, {"bad"}, {"t-killed": 1.0}, counted=True)["bad"]
    assert (first.template_id, first.change, first.count, first.usual, first.n_normal) == ("t-killed", "more", 1, 0, 0)
    assert (second.template_id, second.change, second.count, second.usual, second.n_normal) == ("t-close", "less", 0, 1, 100)


def test_a_count_that_no_normal_session_has_is_telling_if_counts_mean_something() -> None:
    rows = [*NORMAL, pattern("often", 1, open=64, close=1)]
    (found,) = telling_templates(rows, {"often"}, {}, counted=True)["often"]
    assert (found.template_id, found.change, found.count, found.usual, found.n_normal) == ("t-open", "more", 64, 4, 0)
    assert telling_templates(rows, {"often"}, {}, counted=False)["often"] == []


def test_of_two_rare_templates_the_severe_one_is_more_telling() -> None:
    rows = [*NORMAL, pattern("bad", 2, open=1, close=1, killed=1, slow=1)]
    for severe in ("t-killed", "t-slow"):
        assert telling_templates(rows, {"bad"}, {severe: 0.8}, counted=True)["bad"][0].template_id == severe


def test_a_night_without_normal_patterns_and_an_empty_night_have_their_telling_templates() -> None:
    alone = telling_templates([pattern("bad", 2, open=1, killed=1)], {"bad"}, {"t-killed": 1.0}, counted=True)
    assert [each.template_id for each in alone["bad"]] == ["t-killed", "t-open"]
    assert telling_templates([], set(), {}, counted=True) == {}
    assert telling_templates(NORMAL, set(), {}, counted=True) == {}


def test_telling_templates_do_not_depend_on_the_order_of_patterns() -> None:
    rows = [*NORMAL, pattern("bad", 2, open=1, killed=1), pattern("worse", 1, open=8, slow=2), pattern("n3", 10, open=2)]
    expected = telling_templates(rows, {"bad", "worse"}, {"t-killed": 1.0}, counted=True)
    for seed in range(5):
        assert telling_templates(random.Random(seed).sample(rows, len(rows)), {"bad", "worse"}, {"t-killed": 1.0}, counted=True) == expected


# Findings


def test_sessions_of_a_pattern_are_one_finding_and_their_numbers_add_up() -> None:
    rows = [session("s2", "p1", 61), session("s1", "p1", 60), session("s3", "p2", 120, score=0.5)]
    found = findings(rows, {"p1": killed()})
    assert [(row["pattern_id"], row["n_sessions"], row["rank"]) for row in found] == [("p1", 2, 1), ("p2", 1, 2)]
    first = found[0]
    assert (first["example_session_id"], first["share"], first["finding_id"]) == ("s1", 0.01, finding_id("mail", "p1"))
    assert (first["started_at"], first["ended_at"]) == (MIDNIGHT + timedelta(minutes=60), MIDNIGHT + timedelta(minutes=66))
    assert first["minutes"] == [65, 66] and first["hours"] == [0, 2, *[0] * 22]
    assert (first["severity"], first["level"], first["telling"][0]["template"]) == (1.0, "error", "child killed with signal <NUM>")
    assert findings([]) == []


def test_the_minute_is_the_one_in_which_the_telling_template_was_logged() -> None:
    (found,) = findings([session("s1", "p1", 60, noticed_at=MIDNIGHT + timedelta(minutes=62)), session("s2", "p1", 60, ended_at=None)])
    assert found["minutes"] == [62] and sum(found["hours"]) == 1


def test_a_finding_of_all_week_is_distinguished_from_a_new_one() -> None:
    week = [f"2026-03-0{day}" for day in (1, 2, 3)]
    past = {"nights": frozenset(week), "sessions": {"old": dict.fromkeys(week, 1)}}
    old, new = sorted(findings([session("s1", "old"), session("s2", "new")], **past), key=lambda row: row["pattern_id"], reverse=True)
    assert (old["is_new"], old["first_seen"], old["last_seen"], old["n_nights"]) == (False, "2026-03-01", "2026-03-03", 4)
    assert (new["is_new"], new["first_seen"], new["last_seen"], new["n_nights"]) == (True, DS, None, 1)
    assert old["trend"] == [*[None] * 10, 1, 1, 1, 1] and new["trend"] == [*[None] * 10, 0, 0, 0, 1]
    assert (new["rank"], old["rank"]) == (1, 2)
    assert new["rank_reason"].startswith("new tonight, 1 session") and old["rank_reason"].startswith("seen on 4 nights since 2026-03-01")
    (alone,) = findings([session("s1", "p")])
    assert alone["is_new"] is None and alone["rank_reason"].startswith("the first night of the system")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ([session("a", "a"), session("a2", "a")], [session("b", "b")]),
        ([session("a", "a", score=0.99)], [session("b", "b", score=0.6)]),
        ([session("a", "a", score=0.1)], [session("b", "b", status="provisional")]),
        ([session("a", "a", status="provisional", score=0.1)], [session("b", "b", status="suppressed")]),
    ],
)
def test_sessions_certainty_and_status_rank(better: list[dict[str, Any]], worse: list[dict[str, Any]]) -> None:
    assert [row["pattern_id"] for row in findings([*worse, *better])] == ["a", "b"]


def test_findings_do_not_depend_on_the_order_of_sessions() -> None:
    rows = [session(f"s{n}", f"p{n % 7}", n * 13 % 1440, score=0.5 + n % 7 / 20) for n in range(60)]
    expected = findings(rows, {"p1": killed(), "p2": killed(more=True)})
    assert sum(row["n_sessions"] for row in expected) == 60
    for seed in range(5):
        assert findings(random.Random(seed).sample(rows, len(rows)), {"p1": killed(), "p2": killed(more=True)}) == expected


# Incidents


def placed(system: str, name: str, minutes: list[int], telling: list[Telling], **more: Any) -> dict[str, Any]:
    """A finding of some minutes."""
    rows = [session(f"{name}-{n}", name, minute, noticed_at=MIDNIGHT + timedelta(minutes=minute)) for n, minute in enumerate(minutes)]
    (found,) = night_findings(system, DS, table(rows), 1000, {name: telling}, Templates(TEXTS, {}), EarlierNights())
    return found | {"system": system} | more


def other(template: str) -> list[Telling]:
    return [Telling(template, "more", 1, 0, 0, 0.5, 7.0)]


ALL_DAY = dict.fromkeys(("mail", "shop"), np.full(1440, 1 / 1440))


def test_findings_with_the_same_telling_template_are_one_incident_over_systems() -> None:
    rows = [
        placed("mail", "p1", [10, 300], killed()),
        placed("mail", "p2", [700], killed(more=True)),
        placed("shop", "p3", [900], killed()),
        placed("shop", "p4", [901], other("t-open")),
    ]
    first, second = night_incidents(DS, rows, ALL_DAY, {})
    assert (first["n_findings"], first["n_sessions"], first["systems"], first["rank"]) == (3, 4, ["mail", "shop"], 1)
    assert first["joined_by"] == "a telling template in common" and sum(first["hours"]) == 4
    assert second["finding_ids"] == [finding_id("shop", "p4")] and second["joined_by"] is None
    assert {name for row in (first, second) for name in row["finding_ids"]} == {row["finding_id"] for row in rows}


def test_a_telling_template_that_explains_another_finding_joins_it_unless_normal_sessions_have_it() -> None:
    """The second finding's first telling template is the first one's second."""
    for n_normal, joined in ((0, 1), (9, 2)):
        telling = [killed()[0], replace(other("t-slow")[0], n_normal=n_normal)]
        rows = [placed("mail", "p1", [10], telling), placed("mail", "p2", [700], other("t-slow"))]
        assert len(night_incidents(DS, rows, ALL_DAY, {})) == joined
    (found,) = night_incidents(
        DS, [placed("mail", "p1", [10], killed(more=True)), placed("mail", "p2", [700], other("t-slow"))], ALL_DAY, {}
    )
    assert found["incident_id"] == short_hash("more", TEXTS["t-slow"]), "the template that both have"


def test_the_same_minutes_beyond_chance_are_one_incident_and_the_odds_are_said() -> None:
    minutes = [100, 101, 102, 500]
    rows = [placed("mail", "p1", minutes, killed()), placed("shop", "p2", [*minutes, 900], other("t-slow"))]
    (found,) = night_incidents(DS, rows, ALL_DAY, {})
    assert found["systems"] == ["mail", "shop"]
    assert found["joined_by"] == "the same minutes in 2 systems, less than 1 in 1,000,000 by chance"


@pytest.mark.parametrize(
    ("minutes", "others"), [([100], [100]), ([100, 700], [100, 800]), (list(range(0, 1440, 2)), list(range(0, 1440, 3)))]
)
def test_minutes_that_agree_by_chance_join_nothing(minutes: list[int], others: list[int]) -> None:
    """One common minute; one of two; two groups that fill the day."""
    rows = [placed("mail", "p1", minutes, killed()), placed("shop", "p2", others, other("t-slow"))]
    assert len(night_incidents(DS, rows, ALL_DAY, {})) == 2


def test_common_minutes_in_a_busy_hour_are_no_coincidence_but_an_outage_is() -> None:
    busy = np.zeros(1440)
    busy[600:606] = 1 / 6
    rows = [placed("mail", "p1", [600, 602, 604], killed()), placed("shop", "p2", [600, 603, 604], other("t-slow"))]
    assert len(night_incidents(DS, rows, {"mail": busy, "shop": busy}, {})) == 2
    assert len(night_incidents(DS, rows, ALL_DAY, {})) == 1
    outage = [placed("mail", "p1", list(range(600, 660)), killed()), placed("shop", "p2", list(range(610, 655)), other("t-slow"))]
    assert len(night_incidents(DS, outage, ALL_DAY, {})) == 1


def test_findings_of_independent_systems_are_joined_in_at_most_one_of_a_hundred_nights() -> None:
    """Two systems with ten findings each that have nothing to do with each other, most of them in office hours."""
    load = np.where((np.arange(1440) >= 480) & (np.arange(1440) < 1080), 10.0, 1.0)
    load /= load.sum()
    texts = {f"t{n}": f"template {n}" for n in range(20)}
    n_joined = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        rows = []
        for n in range(20):
            minutes = rng.choice(1440, size=rng.integers(1, 7), p=load)
            sessions = [session(f"{n}-{k}", f"p{n}", noticed_at=MIDNIGHT + timedelta(minutes=int(at))) for k, at in enumerate(minutes)]
            telling = {f"p{n}": [Telling(f"t{n}", "more", 1, 0, 0, 0.5, 7.0)]}
            system = "mail" if n < 10 else "shop"
            (found,) = night_findings(system, DS, table(sessions), 1000, telling, Templates(texts, {}), EarlierNights())
            rows.append(found | {"system": system})
        n_joined += len(night_incidents(DS, rows, {"mail": load, "shop": load}, {})) < 20
    assert n_joined <= 4


def test_an_incident_keeps_its_id_and_knows_its_first_night() -> None:
    (tonight,) = night_incidents(DS, [placed("mail", "p1", [10], killed())], ALL_DAY, {})
    assert (tonight["is_new"], tonight["first_seen"]) == (None, DS)
    other_pattern = placed("mail", "p9", [10], killed(), is_new=True, first_seen="2026-03-05")
    (later,) = night_incidents("2026-03-05", [other_pattern], ALL_DAY, {tonight["incident_id"]: DS})
    assert (later["incident_id"], later["is_new"], later["first_seen"]) == (tonight["incident_id"], False, DS)
    assert later["rank_reason"].startswith(f"first seen on {DS} in other sessions; ")


def test_incidents_do_not_depend_on_the_order_of_findings_and_never_lose_one() -> None:
    rng = random.Random(3)
    rows = [
        placed(
            rng.choice(["mail", "shop"]),
            f"p{n}",
            sorted(rng.sample(range(1440), rng.randint(1, 9))),
            rng.choice([killed(), other("t-slow")]),
        )
        for n in range(30)
    ]
    expected = night_incidents(DS, rows, ALL_DAY, {})
    assert sum(row["n_sessions"] for row in expected) == sum(row["n_sessions"] for row in rows)
    for seed in range(3):
        assert night_incidents(DS, random.Random(seed).sample(rows, len(rows)), ALL_DAY, {}) == expected
    assert night_incidents(DS, [], {}, {}) == []


def test_incidents_are_replaced_as_a_whole_and_a_system_published_later_joins_them(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    at = {"started_at": MIDNIGHT, "ended_at": MIDNIGHT}
    lake.append(SESSIONS, [{"system": name, "ds": DS, "session_id": "s"} | at for name in ("mail", "shop")])
    assert write_incidents(lake, DS, "first") == 0 and incidents(lake, DS) == []
    mail, shop = placed("mail", "p1", [10], killed()), placed("shop", "p3", [900], killed())
    lake.replace(FINDINGS, [mail], system="mail", ds=DS)
    assert write_incidents(lake, DS, "first") == 1
    lake.replace(FINDINGS, [shop], system="shop", ds=DS)
    assert write_incidents(lake, DS, "second") == write_incidents(lake, DS, "second") == 1
    ((row),) = lake.rows(INCIDENTS)
    assert (row["systems"], row["run_id"]) == (["mail", "shop"], "second")
    assert [each["system"] for each in incidents(lake, DS)[0]["findings"]] == ["mail", "shop"]
    lake.replace(FINDINGS, [mail | {"status": "suppressed"}], system="mail", ds=DS)
    write_incidents(lake, DS, "third")
    assert [each["system"] for each in incidents(lake, DS)[0]["findings"]] == ["shop", "mail"]
    lake.replace(FINDINGS, [], system="shop", ds=DS)
    write_incidents(lake, DS, "fourth")
    ((row),) = lake.rows(INCIDENTS)
    assert (row["systems"], row["status"]) == (["mail"], "suppressed")
