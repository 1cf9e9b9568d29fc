"""A night unlike those before it is held back, says why, and is published once somebody approves it; nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.query import run_outcomes
from nightlog.lake.tables import ALL_TABLES, ANOMALIES, ANSWERS, APPROVALS, NIGHTS, OUTCOMES
from nightlog.outcomes import Outcome, Stage, exit_code
from nightlog.quality.approvals import Approval
from nightlog.run.night import Night
from nightlog.run.upkeep import approve
from nightlog.settings import Settings
from nightlog.systems.spec import Gates, System
from nights import add_toy_model, content, run_night, small_system

DS = "2026-03-04"
Write = Callable[[str, str, bytes], Path]
# Thirty sessions; the toy model finds all of them anomalous.
LINES = b"".join(b"INFO s%d request %d served\n" % (n % 30, n) for n in range(90))


def put_history(lake: Lake, system: str, n_sessions: int, n_anomalies: int, n_unparsed: int = 0) -> None:
    before = [(date.fromisoformat(DS) - timedelta(days=n)).isoformat() for n in range(1, 9)]
    usual = {"outcome": "done", "n_lines": 90, "n_blank": 0, "n_unparsed": n_unparsed, "n_templates": 1, "run_id": "before"}
    figures = {"n_sessions": n_sessions, "n_anomalies": n_anomalies}
    lake.append(NIGHTS, [usual | figures | {"ds": ds, "system": system} for ds in before])


def approving(lake: Lake, settings: Settings, system: System, run_id: str, **more: Any) -> list[Outcome]:
    night = Night(DS, run_id, [system], lake, settings, lambda: datetime.now(UTC))
    return list(approve(night, Approval("kim", "sale day", **more)))


@pytest.mark.slow
def test_what_is_held_back_says_why_and_is_published_when_approved(tmp_path: Path, write_log: Write) -> None:
    lake, settings = Lake(tmp_path / "lake"), Settings(data=tmp_path / "data", llm="off", device="cpu")
    add_toy_model(lake)
    systems = [small_system(name) for name in ("broken", "busy", "odd", "usual")]
    told_only = small_system("told", gates=Gates(hold=()))
    unsound = small_system("unsound")
    said = {"system": "unsound", "kind": "label", "about": "pattern", "group": "p", "label": "odd", "answered_by": "kim"}
    lake.append(ANSWERS, [said | {"answered_at": datetime(2026, 3, 4, tzinfo=UTC)}])
    for system in [*systems, told_only, unsound]:
        write_log(system.name, f"{DS}.log", LINES + (b"what is this\n" * 40 if system.name == "broken" else b""))
    for name, n_sessions, n_anomalies in (("busy", 3, 3), ("odd", 30, 0), ("usual", 30, 30), ("told", 30, 0)):
        put_history(lake, name, n_sessions, n_anomalies)

    found = run_night(lake, settings, [*systems, told_only, unsound], DS, "first")

    # behind parsing, before the LLM is asked about any of it
    busy = found["busy", Stage.PARSE]
    assert busy.outcome == "gated" and ("busy", Stage.LABEL) not in found
    for word in ("number of sessions is 30, expected 1 to 11", "the median was 3", f"nightlog approve --ds {DS} --system busy"):
        assert word in (busy.detail or "")
    # before publishing
    odd = found["odd", Stage.PUBLISH]
    assert odd.outcome == "gated"
    assert "share of sessions that are anomalous is 100.0%, expected at most 25.0%" in (odd.detail or "")
    assert "30 of pattern" in (odd.detail or "")
    assert found["usual", Stage.PUBLISH].outcome == "done"
    assert found["told", Stage.PUBLISH].outcome == "done" and "expected at most" in (found["told", Stage.PUBLISH].detail or "")
    # an answer that says neither of what answers may say
    assert found["unsound", Stage.PUBLISH].outcome == "gated"
    for word in ("a wrong label, expected one of normal, anomalous", "nightlog restore"):
        assert word in (found["unsound", Stage.PUBLISH].detail or "")
    nights = {row["system"]: row["outcome"] for row in lake.rows(NIGHTS, ds=DS) if row["system"] != "unsound"}
    assert nights == {"broken": "gated", "busy": "gated", "odd": "gated", "usual": "done", "told": "done"}
    assert {row["system"] for row in lake.rows(ANOMALIES)} == {"usual", "told"}
    assert exit_code([outcome for _, outcome, _ in run_outcomes(lake, DS, "first")]) == 10
    page = (tmp_path / "lake" / "reports" / DS / "index.html").read_text(encoding="utf-8")
    assert "broken, busy, odd and unsound stopped at a quality gate" in page and "expected at most 25.0%" in page
    assert "expected 1 to 11" in (tmp_path / "lake" / "reports" / DS / "busy.html").read_text(encoding="utf-8")

    # approved: parsing is not done again, what follows is done for the first time, and publishing alone for the other
    kept = [spec for spec in ALL_TABLES if spec.name.startswith(("bronze.", "silver."))]
    before = {spec.name: lake.table(spec).version() for spec in kept if lake.exists(spec)}
    assert [each.stage for each in approving(lake, settings, systems[2], "second")] == [Stage.PUBLISH, Stage.REPORT]
    assert before == {spec.name: lake.table(spec).version() for spec in kept if lake.exists(spec)}
    went_on = approving(lake, settings, systems[1], "third")
    assert [each.stage for each in went_on] == list(Stage)[2:] and {each.outcome for each in went_on} == {"done"}
    assert "approved by kim" not in (went_on[-1].detail or ""), "its anomalies are as usual"
    assert approving(lake, settings, systems[0], "fourth")[-1].outcome == "done", "too many unparsed lines can be approved too"
    assert {row["system"] for row in lake.rows(ANOMALIES, ds=DS)} == {"broken", "busy", "odd", "usual", "told"}
    assert {row["system"] for row in lake.rows(NIGHTS, ds=DS) if row["outcome"] != "done"} == {"unsound"}
    recorded = {row["system"]: row for row in lake.rows(APPROVALS)}
    assert {name: (row["stage"], row["held"][0]["measure"], row["approved_by"], row["reason"]) for name, row in recorded.items()} == {
        "odd": ("publish", "anomalies", "kim", "sale day"),
        "busy": ("parse", "sessions", "kim", "sale day"),
        "broken": ("parse", "unparsed", "kim", "sale day"),
    }
    assert recorded["busy"]["held"][0]["value"] == 30
    page = (tmp_path / "lake" / "reports" / DS / "odd.html").read_text(encoding="utf-8")
    assert "approved by kim" in page

    # the night again: let through as it was approved, with the same rows
    published = content(lake, ANOMALIES)
    again = run_night(lake, settings, systems[1:3], DS, "fifth")
    assert {again[name, Stage.PUBLISH].outcome for name in ("busy", "odd")} == {"done"}
    assert "(approved by kim)" in (again["busy", Stage.PARSE].detail or "")
    assert content(lake, ANOMALIES) == published


def test_what_no_gate_holds_back_cannot_be_approved(tmp_path: Path) -> None:
    lake, settings = Lake(tmp_path / "lake"), Settings(llm="off")
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)

    def note(system: str, *outcomes: str) -> None:
        for number, (stage, outcome) in enumerate(zip(Stage, outcomes, strict=False)):
            row = {"run_id": "r", "ds": DS, "system": system, "stage": stage.value, "outcome": outcome, "detail": "cut file"}
            lake.append(OUTCOMES, [row | {"at": noon + timedelta(seconds=number)}])

    note("done", *["done"] * 7)
    note("failed", "failed")
    note("begun", "done")
    for name, told in (
        ("done", "is published"),
        ("failed", "no gate .* cut file"),
        ("begun", "parse was never run"),
        ("none", "never run"),
    ):
        with pytest.raises(ConfigError, match=told):
            approving(lake, settings, small_system(name), "second")
    assert not lake.exists(APPROVALS)
