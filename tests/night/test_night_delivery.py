"""A night that lacks a host, its lines or its folder is never calm, and says what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.cli.night_state import night_state
from nightlog.handoff.metrics import write_metrics
from nightlog.lake.lake import Lake
from nightlog.lake.query import systems_without_due_input
from nightlog.lake.tables import FILES, LINES_TABLE, NIGHTS, OUTCOMES
from nightlog.outcomes import exit_code
from nightlog.quality.approvals import Approval
from nightlog.run.night import Night
from nightlog.run.upkeep import approve
from nightlog.settings import Settings
from nightlog.systems.spec import Header, Input, Record, Session, System, Timestamp
from nights import add_toy_model, run_night, small_system

DAYS = [f"2026-03-0{n}" for n in range(1, 7)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    add_toy_model(lake)
    return lake


def deliver(data: Path, ds: str, *hosts: str, n: int = 9) -> None:
    for host in hosts:
        path = data / host / f"{ds}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"INFO s{number} request of {host} served\n" for number in range(n)))


def of_hosts(**more: object) -> System:
    return small_system("shop", **more).model_copy(update={"input": Input(path="*/{ds}.log")})


def outcomes(lake: Lake, settings: Settings, systems: list[System], ds: str) -> dict[str, tuple[str, str]]:
    """Run a night. Returns system → its outcome and detail, those of the first stage that did not end well or of publish."""
    found: dict[str, tuple[str, str]] = {}
    for (name, _), outcome in run_night(lake, settings, systems, ds, f"run of {ds}").items():
        if found.get(name, ("done",))[0] == "done":
            found[name] = outcome.outcome, outcome.detail or ""
    return found


def test_a_host_that_is_missing_holds_the_night_back_until_somebody_approves(lake: Lake, tmp_path: Path) -> None:
    data, system = tmp_path / "data", of_hosts()
    settings = Settings(data=data, llm="off", device="cpu")
    for ds in DAYS[:3]:
        deliver(data, ds, "web1", "web2", "web3")
        assert outcomes(lake, settings, [system], ds)["shop"][0] == "done"
    deliver(data, DAYS[3], "web1", "web3")
    deliver(data, DAYS[3], "web2", n=0)
    outcome, detail = outcomes(lake, settings, [system], DAYS[3])["shop"]
    assert outcome == "gated"
    assert "1 of 3 hosts that deliver every night have no lines tonight: web2" in detail
    night = Night(DAYS[3], "approved", [system], lake, settings, lambda: datetime.now(UTC))
    assert {each.outcome for each in approve(night, Approval("kim", "web2 is switched off"))} == {"done"}
    rows = {row["ds"]: row for row in lake.rows(NIGHTS)}
    assert [(rows[ds]["outcome"], rows[ds]["n_hosts"], rows[ds]["n_lines"]) for ds in DAYS[:4]] == [("done", 3, 27)] * 3 + [("done", 2, 18)]
    # The next night knows.
    deliver(data, DAYS[4], "web1", "web3")
    assert outcomes(lake, settings, [system], DAYS[4])["shop"][0] == "done"
    # A night that is run again with less than it published keeps what it has.
    (data / "web3" / f"{DAYS[4]}.log").unlink()
    outcome, detail = outcomes(lake, settings, [system], DAYS[4])["shop"]
    assert outcome == "failed" and "9 lines in 1 files, expected at least the 18 lines" in detail
    assert len(lake.rows(LINES_TABLE, ds=DAYS[4])) == 18
    assert {row["ds"]: row["outcome"] for row in lake.rows(NIGHTS)}[DAYS[4]] == "done"


def test_lines_of_another_format_between_records_hold_the_night_back(lake: Lake, tmp_path: Path) -> None:
    record = Record(start="INFO|WARN|ERROR")
    log = tmp_path / "data" / "web1" / f"{DAYS[0]}.log"
    log.parent.mkdir(parents=True)
    frames = "Traceback (most recent call last):\n  File x\n\nCaused by: y\n\tat z\n... 3 more\n"
    settings = Settings(data=tmp_path / "data", llm="off", device="cpu")
    log.write_text("".join(f"ERROR s{n} failed\n{frames}" for n in range(9)))
    assert outcomes(lake, settings, [of_hosts(record=record)], DAYS[0])["shop"] == ("done", "")
    (row,) = lake.rows(NIGHTS)
    assert (row["n_lines"], row["n_blank"], row["n_continuation"], row["n_swallowed"]) == (63, 9, 45, 0)
    log.write_text("".join(f"ERROR s{n} failed\n" + f"[E 04/Mar/2026] worker lost s{n}\n" * 4 for n in range(15)))
    outcome, detail = outcomes(lake, settings, [of_hosts(record=record)], DAYS[0])["shop"]
    assert outcome == "gated" and "60 of 75 lines were joined to the record before them" in detail


@pytest.mark.parametrize(
    ("data", "outcome", "word"),
    [("gone", "failed", "does not exist"), ("s3://bucket/logs", "transient", "the data folder s3://bucket/logs cannot be reached")],
)
def test_without_a_data_folder_every_system_has_failed_in_the_lake(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, outcome: str, word: str
) -> None:
    for name, value in {
        "ENDPOINT_URL": "http://127.0.0.1:9",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "k",
        "SECRET_ACCESS_KEY": "s",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    systems = [small_system("mail"), small_system("shop")]
    settings = Settings(data=Path(data) if "://" in data else tmp_path / data, llm="off", device="cpu")
    found = outcomes(lake, settings, systems, DAYS[0])
    assert {name: each for name, (each, _) in found.items()} == {"mail": outcome, "shop": outcome}
    assert all(word in detail for _, detail in found.values())
    assert {row["system"]: row["outcome"] for row in lake.rows(NIGHTS)} == {"mail": outcome, "shop": outcome}
    assert {row["outcome"] for row in lake.rows(OUTCOMES, stage="ingest")} == {outcome}
    assert (tmp_path / "lake" / "reports" / DAYS[0] / "index.html").is_file()
    assert not lake.exists(FILES)


def test_a_night_without_files_is_a_failure_if_some_were_due(lake: Lake, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", llm="off", device="cpu")
    systems = [small_system("mail"), small_system("shop"), small_system("web")]

    def code(ds: str) -> int:
        found = run_night(lake, settings, systems, ds, f"run of {ds}")
        kinds = [outcome.exit_kind for outcome in found.values()]
        return exit_code(kinds, len(systems))

    deliver(tmp_path / "data", DAYS[0], "mail", "shop")
    assert code(DAYS[0]) == 0, "web never had any"
    deliver(tmp_path / "data", DAYS[1], "mail")
    assert code(DAYS[1]) == 30
    assert systems_without_due_input(lake, DAYS[1], f"run of {DAYS[1]}") == {"shop"}
    rows = {row["system"]: row for row in lake.rows(NIGHTS, ds=DAYS[1])}
    assert {name: row["outcome"] for name, row in rows.items()} == {"mail": "done", "shop": "no_input", "web": "no_input"}
    assert "though 1 earlier nights had some" in rows["shop"]["detail"] and "none ever has" in rows["web"]["detail"]
    assert code("2026-02-01") == 30, "no system had input"


def test_lines_that_lone_carriage_returns_end_hold_the_night_back(lake: Lake, tmp_path: Path) -> None:
    log, settings = tmp_path / "data" / "shop" / f"{DAYS[0]}.log", Settings(data=tmp_path / "data", llm="off", device="cpu")
    deliver(tmp_path / "data", DAYS[0], "shop", n=20)
    log.write_text(log.read_text() + "".join(f"INFO s{50 + n} request served\r" for n in range(9)))
    outcome, detail = outcomes(lake, settings, [small_system("shop")], DAYS[0])["shop"]
    assert outcome == "gated" and "8 carriage returns stand inside of 21 lines" in detail and "tr '\\r' '\\n'" in detail
    log.write_text(log.read_text())  # reading makes each of them a line feed
    assert outcomes(lake, settings, [small_system("shop")], DAYS[0])["shop"][0] == "done"


def test_a_night_that_judges_only_what_waited_is_incomplete_and_no_fresher(lake: Lake, tmp_path: Path) -> None:
    system = small_system("shop").model_copy(
        update={
            "header": Header(pattern=r"(?P<time>\S+ \S+) (?P<message>.*)"),
            "timestamp": Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss"),
            "session": Session(kind="id", pattern=r"\b(s\d+)\b"),
        }
    )
    settings, log = Settings(data=tmp_path / "data", llm="off", device="cpu"), tmp_path / "data" / "shop" / f"{DAYS[0]}.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"{DAYS[0]} 08:00:00 request s1\n{DAYS[0]} 23:58:00 request s2\n")
    run_night(lake, settings, [system], DAYS[0], "first")
    before = write_metrics(lake, tmp_path / "before.prom").read_text()
    found = run_night(lake, settings, [system], DAYS[1], "second")
    assert exit_code([outcome.exit_kind for outcome in found.values()], 1) == 30
    (row,) = lake.rows(NIGHTS, ds=DAYS[1])
    told = "no file came though some were due: only 1 session that had waited for this night was judged"
    assert (row["outcome"], row["n_files"], row["n_sessions"]) == ("incomplete", 0, 1) and row["detail"].startswith(told)
    after = write_metrics(lake, tmp_path / "after.prom").read_text()
    fresh = [line for line in before.splitlines() if "timestamp_seconds{" in line]
    assert len(fresh) == 2 and fresh == [line for line in after.splitlines() if "timestamp_seconds{" in line]
    assert 'nightlog_night_input_missing{system="shop"} 1' in after and 'nightlog_night_input_missing{system="shop"} 0' in before
    page = (tmp_path / "lake" / "reports" / DAYS[1] / "index.html").read_text()
    assert "shop had no input: only sessions that had waited are judged." in page
    state = night_state(lake, None, DAYS[1])
    assert state.exit_code == 40 and told in state.messages[0]
