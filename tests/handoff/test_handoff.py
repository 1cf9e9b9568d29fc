"""A night handed off: a message without log text, files for other programs, metrics; and nothing of it ever fails the night."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from llm_stub import Stub
from nightlog.errors import ConfigError, SettingsError, TransientError
from nightlog.handoff.export import export_duckdb, export_night, quoted
from nightlog.handoff.handoff import hand_off, notify
from nightlog.handoff.message import body, night_message
from nightlog.handoff.metrics import write_metrics
from nightlog.handoff.webhook import checked_host, post
from nightlog.lake.lake import Lake
from nightlog.lake.query import query
from nightlog.lake.tables import ANOMALIES, FINDINGS, GOLD, HANDOFFS, NIGHTS, OUTCOMES, SESSIONS, TEMPLATES
from nightlog.settings import HandOff, Settings, Webhook, read_settings
from nightlog.systems.catalog import parse_system
from nightlog.systems.spec import System
from page_lake import BEFORE, DS, HOSTILE, KINDS, TEXTS, WEEK, put_night, small_lake
from pydantic import SecretStr

NOW = datetime(2026, 3, 5, 3, tzinfo=UTC)
KEY = "T0/B0/secretkey"
SHOP = 'name = "shop"\nrole = "target"\n[input]\npath = "{ds}"\n[session]\nkind = "field"\nfield = "message"\n'


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(str(tmp_path_factory.mktemp("lake") / "lake"))


@pytest.fixture
def receiver() -> Iterator[Stub]:
    stub = Stub()
    stub.reactions = [lambda _: (200, "ok", {})]
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def hook(stub: Stub) -> str:
    return stub.url.removesuffix("/v1") + f"/services/{KEY}"


# The message


def message(lake: Lake, ds: str = DS, catalog: dict[str, System] | None = None, **how: Any) -> dict[str, Any]:
    """The JSON about a night."""
    to = Webhook(SecretStr("https://hooks.example.org"), **how)
    return body(night_message(lake, ds, to, catalog or {})[0], to.form)


def content(lake: Lake) -> str:
    """The hash of the message about a night."""
    return night_message(lake, DS, Webhook(SecretStr("https://hooks.example.org")), {})[1]


def test_a_message_has_counts_outcomes_and_a_link_and_no_text_of_systems_that_no_file_describes(lake: Lake) -> None:
    sent = message(lake, pages_url="https://pages.example.org/nightlog/")
    assert set(sent) == {"text", "blocks"}
    lines = sent["text"].splitlines()
    assert lines[0] == (
        "Nightlog, Wednesday 4 March 2026: 2 systems not published (mail: stopped by a quality gate in stage parse, void: no input); "
        "13 anomalous sessions in the other 2 systems, 1 new finding"
    )
    assert lines[1] == "• mail: stopped by a quality gate in stage parse"
    assert "• shop: 13 of 55 sessions, 1 provisional" in lines and "• void: no input" in lines and "• index: 0 of 40 sessions" in lines
    assert lines[-1] == "<https://pages.example.org/nightlog/2026-03-04/index.html|The night's page>"
    for text in [HOSTILE, "alert", "20 of 61", "void.log", *TEXTS.values(), *(row["reason"] for _, _, row in KINDS.values() if row)]:
        assert text not in json.dumps(sent)


def test_a_night_of_many_systems_is_cut_and_those_that_failed_are_not(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = [
        {"ds": DS, "system": f"s{n:02}", "outcome": "done", "n_sessions": 9, "n_anomalies": n % 7, "n_provisional": 1} for n in range(50)
    ]
    lake.append(NIGHTS, [*rows, {"ds": DS, "system": "zz", "outcome": "failed"}, {"ds": DS, "system": "y" * 300, "outcome": "no_input"}])
    long = message(lake, pages_url="https://pages.example.org/" + "x" * 100)
    assert len(long["blocks"][0]["text"]["text"]) < 3000
    lines = message(lake)["text"].splitlines()
    assert len(lines) == 32 and lines[-1] == "• and 22 more systems"
    assert lines[1].startswith("• yyy") and lines[2] == "• zz: failed" and lines[3] == "• s06: 6 of 9 sessions, 1 provisional"


def test_unjudged_sessions_come_first_and_a_night_without_any_result_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    night = {"ds": DS, "system": "shop", "outcome": "incomplete", "n_sessions": 340, "n_anomalies": 0, "n_provisional": 300}
    lake.append(NIGHTS, [night | {"n_unjudged": 300, "unjudged_why": "the LLM is off"}])
    lines = message(lake)["text"].splitlines()
    assert lines[0] == (
        "Nightlog, Wednesday 4 March 2026: 300 of 340 sessions were judged by nobody: the LLM is off; 0 anomalous sessions, 0 new findings"
    )
    assert lines[1] == "• shop: 0 of 340 sessions, 300 unjudged, 300 provisional"
    lake.append(NIGHTS, [{"ds": WEEK, "system": "shop", "outcome": "failed"}, {"ds": WEEK, "system": "mail", "outcome": "no_input"}])
    head = message(lake, WEEK)["text"].splitlines()[0]
    assert head.endswith("2 systems not published (mail: no input, shop: failed); nothing new was published")


def test_the_head_line_is_not_calm_about_systems_whose_last_run_failed_or_had_no_input(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(NIGHTS, [{"ds": DS, "system": "shop", "outcome": "done", "n_sessions": 9, "n_anomalies": 0, "run_at": NOW}])
    lake.append(OUTCOMES, [outcome_row("shop", "no_input", {"n_nights_before": 3})])
    head, line = message(lake)["text"].splitlines()
    assert head == "Nightlog, Wednesday 4 March 2026: 1 system not published (shop: no input); nothing new was published"
    assert line == "• shop: no input; published earlier: 0 of 9 sessions"
    waited = {"ds": WEEK, "system": "shop", "outcome": "incomplete", "n_files": 0, "n_sessions": 6, "n_anomalies": 0}
    lake.append(NIGHTS, [waited])
    head, line = message(lake, WEEK)["text"].splitlines()
    assert "no input for shop, only sessions that had waited are judged; 0 anomalous sessions" in head
    assert line == "• shop: no input, only sessions that had waited are judged; 0 of 6 sessions"


def test_the_findings_of_systems_that_ended_well_are_listed_new_ones_first_up_to_the_alerts_of_a_night(lake: Lake) -> None:
    catalog = {"shop": parse_system(SHOP, "shop.toml")}
    lines = message(lake, catalog=catalog, alerts=2)["text"].splitlines()
    at = lines.index("2 of 3 findings shown, new ones first:")
    assert lines[at + 1 :] == [
        "1. shop, new: a disk was lost (9 sessions, 0.90, by LLM)",
        "2. shop: pattern p-evil (2 sessions, 0.70, by analyst)",
    ]
    assert "13 anomalous sessions" in lines[0], "counts are not limited"
    assert "3 of 3" in message(lake)["text"] and "1 of 1" in message(lake, least_score=0.99)["text"]
    named = message(lake, catalog=catalog, pages_url="https://p.example.org")["text"]
    (row,) = [row for row in lake.rows(FINDINGS, ds=DS) if row["pattern_id"] == "p-lost"]
    assert f"1. <https://p.example.org/{DS}/shop.html#f-{row['finding_id']}|shop, new: a disk was lost" in named
    assert "a disk was lost" not in str(message(lake, catalog=catalog, reasons=False))


@pytest.mark.parametrize("form", ["slack", "teams", "generic"])
def test_a_reason_is_redacted_and_that_of_a_system_whose_text_may_not_leave_is_left_out(form: str, tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    rows = lake.rows(FINDINGS, system="shop", ds=DS)
    text = "login of <!channel> with password=hunter2 from 10.1.2.3 " + "again " * 100
    lake.replace(FINDINGS, [row | {"reason": text} for row in rows], system="shop", ds=DS)
    sent = json.dumps(message(lake, catalog={"shop": parse_system(SHOP, "shop.toml")}, form=form, pages_url="https://p.example.org"))
    assert "login of" in sent and "hunter2" not in sent and "10.1.2.3" not in sent
    assert form != "slack" or "<!channel>" not in sent
    assert all(len(line) < 600 for line in json.loads(sent).get("text", "").splitlines()), "a long reason is cut"
    closed = parse_system(SHOP + "[llm]\nallowed = false\n", "shop.toml")
    assert "login of" not in json.dumps(message(lake, catalog={"shop": closed}, form=form))


def test_teams_gets_a_card_and_programs_get_fields(lake: Lake) -> None:
    catalog = {"shop": parse_system(SHOP, "shop.toml")}
    (card,) = message(lake, catalog=catalog, form="teams", pages_url="https://p.example.org")["attachments"]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive" and card["content"]["type"] == "AdaptiveCard"
    texts = [block["text"] for block in card["content"]["body"]]
    assert (
        texts[0].startswith("Nightlog, Wednesday 4 March 2026: 2 systems not published")
        and "shop: 13 of 55 sessions, 1 provisional" in texts
    )
    assert any(text.startswith("1\\. [shop, new: a disk was lost (9 sessions, 0.90, by LLM)](https://p.example.org/") for text in texts)
    assert card["content"]["actions"][0]["url"] == f"https://p.example.org/{DS}/index.html"
    fields = message(lake, catalog=catalog, form="generic")
    assert (fields["ds"], fields["counts"]) == (DS, {"findings": 3, "new_findings": 1})
    assert {row["system"]: (row["outcome"], row["anomalous"]) for row in fields["systems"]} == {
        "mail": ("gated", 0),
        "void": ("no_input", 0),
        "shop": ("done", 13),
        "index": ("done", 0),
    }
    first = fields["listed"][0]
    assert (first["pattern_id"], first["is_new"], first["n_sessions"], first["reason"]) == ("p-lost", True, 9, "a disk was lost")


def test_the_same_counts_of_other_sessions_are_another_message(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    before = message(lake), content(lake)
    rows = lake.rows(ANOMALIES, system="shop", ds=DS)
    lake.replace(ANOMALIES, [rows[0] | {"session_id": "another"}, *rows[1:]], system="shop", ds=DS)
    assert before[0] == message(lake) and before[1] != content(lake)


# The request


def test_it_is_sent_once_and_again_when_the_night_has_changed(tmp_path: Path, receiver: Stub) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    to = Settings(webhook_url=hook(receiver), pages_url="https://p.example.org").hand_off
    (row,) = hand_off(lake, DS, "r1", to, lambda: NOW)
    assert (row["kind"], row["outcome"], row["detail"]) == ("webhook", "done", "127.0.0.1")
    assert receiver.requests == [message(lake, pages_url="https://p.example.org")]
    assert hand_off(lake, DS, "r2", to, lambda: NOW) == [] and len(receiver.requests) == 1
    put_night(lake, "shop", DS, ["p-normal", "p-lost"])
    assert [row["outcome"] for row in hand_off(lake, DS, "r3", to, lambda: NOW)] == ["done"]
    assert "9 anomalous sessions" in receiver.requests[1]["text"]
    assert [row["run_id"] for row in sorted(lake.rows(HANDOFFS), key=lambda row: str(row["run_id"]))] == ["r1", "r3"]


def test_a_message_waits_for_the_end_of_the_quiet_hours(tmp_path: Path, receiver: Stub) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    to = Settings(webhook_url=hook(receiver), webhook_quiet="22:00-07:00").hand_off
    (row,) = hand_off(lake, DS, "r1", to, lambda: NOW)
    assert (row["outcome"], "nightlog notify" in row["detail"], receiver.requests) == ("held", True, [])
    assert notify(lake, DS, "n", to, NOW).outcome == "done" and len(receiver.requests) == 1
    assert notify(lake, DS, "n", to, NOW).again and hand_off(lake, DS, "r2", to, lambda: NOW) == [] and len(receiver.requests) == 1
    assert sorted(row["outcome"] for row in lake.rows(HANDOFFS)) == ["done", "held"]
    other = Settings(webhook_url=hook(receiver), webhook_quiet="04:00-05:00").hand_off
    assert [row["outcome"] for row in hand_off(small_lake(str(tmp_path / "l2")), DS, "r1", other, lambda: NOW)] == ["done"]
    with pytest.raises(SettingsError, match="NIGHTLOG_WEBHOOK_QUIET"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTLOG_WEBHOOK_QUIET", "22-7")
        read_settings()


def test_without_news_no_message_is_sent_if_only_news_is_wanted(tmp_path: Path, receiver: Stub) -> None:
    lake = Lake(tmp_path / "lake")
    for ds in (WEEK, BEFORE):
        put_night(lake, "shop", ds, ["p-normal", "p-slow"])
    to = Settings(webhook_url=hook(receiver), webhook_when="news").hand_off
    (row,) = hand_off(lake, BEFORE, "r1", to, lambda: NOW)
    assert (row["outcome"], receiver.requests) == ("skipped", [])
    put_night(lake, "shop", DS, ["p-normal", "p-slow", "p-lost"])
    assert [row["outcome"] for row in hand_off(lake, DS, "r1", to, lambda: NOW)] == ["done"]
    certain = Settings(webhook_url=hook(receiver), webhook_when="news", webhook_score=0.95).hand_off
    assert [row["outcome"] for row in hand_off(lake, DS, "r2", certain, lambda: NOW)] == ["skipped"]
    put_night(lake, "shop", BEFORE, ["p-normal", "p-slow"], n_unjudged=3)
    assert [row["outcome"] for row in hand_off(lake, BEFORE, "r2", certain, lambda: NOW)] == ["done"]


def test_a_notification_that_fails_is_recorded_and_raised(tmp_path: Path, receiver: Stub) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    receiver.reactions = [lambda _: (403, "no", {})]
    with pytest.raises(ConfigError, match="answered 403"):
        notify(lake, DS, "n", Settings(webhook_url=hook(receiver)).hand_off, NOW)
    assert [(row["outcome"], KEY in row["detail"]) for row in lake.rows(HANDOFFS)] == [("failed", False)]


def test_what_passes_is_tried_again_and_what_lasts_is_not(receiver: Stub) -> None:
    slept: list[float] = []
    receiver.reactions = [lambda _: (503, "", {}), lambda _: None, lambda _: (200, "ok", {})]
    assert post(hook(receiver), {"text": "x"}, "", 5, slept.append) == "127.0.0.1"
    assert (len(receiver.requests), len(slept)) == (3, 2)
    receiver.reactions = [lambda _: (429, "", {})]
    with pytest.raises(TransientError, match=r"127\.0\.0\.1 answered 429"):
        post(hook(receiver), {"text": "x"}, "", 5, slept.append)
    assert len(receiver.requests) == 6
    for status, told in ((404, "does not take"), (302, "redirects are not followed")):
        receiver.reactions = [lambda _, status=status: (status, "", {"Location": receiver.url})]  # type: ignore[misc]
        before = len(receiver.requests)
        with pytest.raises(ConfigError, match=told):
            post(hook(receiver), {"text": "x"}, "", 5, slept.append)
        assert len(receiver.requests) == before + 1


def test_a_receiver_that_never_ends_is_left(receiver: Stub) -> None:
    def slowly(_: Any) -> None:
        time.sleep(2)

    receiver.reactions = [slowly]
    started = time.monotonic()
    with pytest.raises(TransientError, match=r"127\.0\.0\.1: "):
        post(hook(receiver), {"text": "x"}, "", 0.2, lambda _: None)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("url", "hosts", "told"),
    [
        ("http://hooks.example.org/x", "", "use https://"),
        ("ftp://hooks.example.org/x", "", "is not an address"),
        ("hooks.example.org/x", "", "is not an address"),
        ("https://user:word@hooks.example.org/x", "", "without user and password"),
        ("https://hooks.example.org:x/x", "", "is not an address"),
        ("https://hooks.evil.net/x", ".example.org", "NIGHTLOG_WEBHOOK_HOSTS allows only .example.org"),
    ],
)
def test_addresses_that_are_not_allowed(url: str, hosts: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        checked_host(url, hosts)
    assert "word" not in str(caught.value).replace("password", "")
    assert checked_host("https://hooks.example.org/x", ".example.org") == "hooks.example.org"


def test_what_fails_is_noted_without_the_key_and_stops_nothing(tmp_path: Path, receiver: Stub, caplog: pytest.LogCaptureFixture) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    receiver.reactions = [lambda _: (403, f"no {KEY}", {})]
    (tmp_path / "file").write_text("in the way")
    to = Settings(webhook_url=hook(receiver), exports=tmp_path / "file", metrics=tmp_path / "m.prom").hand_off
    rows = hand_off(lake, DS, "r", to, lambda: NOW)
    assert [(row["kind"], row["outcome"]) for row in rows] == [("export", "failed"), ("metrics", "done"), ("webhook", "failed")]
    assert "answered 403" in rows[2]["detail"]
    assert KEY not in caplog.text + str(rows) + str(lake.rows(HANDOFFS)) + repr(to) + repr(Settings(webhook_url=hook(receiver)))
    assert len(lake.rows(HANDOFFS)) == 3


def test_nothing_is_handed_off_unless_it_is_set_up(lake: Lake) -> None:
    assert hand_off(lake, DS, "r", Settings().hand_off, lambda: NOW) == []
    assert Settings().hand_off == HandOff()
    assert not lake.exists(HANDOFFS)


# Files


def test_the_files_hold_what_the_views_hold(lake: Lake, tmp_path: Path) -> None:
    place = export_night(lake, DS, tmp_path / "out")
    assert place == tmp_path / "out" / DS
    assert sorted(file.name for file in place.iterdir()) == ["anomalies.csv", "anomalies.parquet", "nights.csv", "nights.parquet"]
    for name in ("anomalies", "nights"):
        found = pq.read_table(place / f"{name}.parquet")
        expected = query(lake, f"select * from v_{name} where ds = '{DS}'")
        assert found.column_names == expected.column_names
        assert sorted(map(str, found.to_pylist())) == sorted(map(str, expected.cast(found.schema).to_pylist()))
        with (place / f"{name}.csv").open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        assert len(rows) == len(expected) > 0
        assert set(rows[0]) == set(expected.column_names) - {"evidence", "lines", "versions"}
    again = {file.name: file.read_bytes() for file in place.iterdir()}
    export_night(lake, DS, tmp_path / "out")
    assert {file.name: file.read_bytes() for file in place.iterdir()} == again


def test_a_spreadsheet_finds_no_formula(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for ds in (DS, BEFORE):
        lake.append(ANOMALIES, [{"ds": ds, "system": "shop", "session_id": "=1+1", "reason": "@SUM(A1)\x1b[31m", "score": -1.0}])
    place = export_night(lake, DS, tmp_path / "out")
    with (place / "anomalies.csv").open(newline="", encoding="utf-8") as lines:
        (row,) = csv.DictReader(lines)
    assert (row["session_id"], row["reason"], row["score"]) == ("'=1+1", "'@SUM(A1)�[31m", "-1.0")
    assert pq.read_table(place / "anomalies.parquet")["session_id"].to_pylist() == ["=1+1"]
    assert pq.read_table(place / "nights.parquet").num_rows == 0


@pytest.mark.parametrize("how", ["opened", "attached"])
def test_a_duckdb_file_holds_gold_of_some_nights_with_its_views_and_meanings(how: str, lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "out" / "night's.duckdb"
    for _ in range(2):
        assert export_duckdb(lake, file, BEFORE, DS) == file
        assert [each.name for each in file.parent.iterdir()] == [file.name]
    if how == "opened":
        opened = duckdb.connect(str(file), read_only=True)
    else:
        opened = duckdb.connect()
        opened.execute(f"attach {quoted(str(file))} as nights (read_only)")
        opened.execute("use nights")
    for name in ("gold.anomalies", "gold.nights", "gold.signals", "v_anomalies", "v_nights", "v_signals"):
        expected = query(lake, f"select * from {name} where ds >= '{BEFORE}'")
        found = opened.sql(f"select * from {name}").to_arrow_table()
        assert found.column_names == expected.column_names
        assert sorted(map(str, found.to_pylist())) == sorted(map(str, expected.to_pylist()))
    assert opened.sql("select count(*) from gold.anomalies").fetchall() != [(0,)]
    meanings = dict(opened.sql("select column_name, comment from duckdb_columns() where table_name = 'anomalies'").fetchall())
    assert meanings == {column.name: column.meaning for column in ANOMALIES.columns}
    opened.close()


def test_a_duckdb_file_of_a_lake_that_lacks_tables_has_them_empty(tmp_path: Path) -> None:
    file = export_duckdb(Lake(tmp_path / "lake"), tmp_path / "empty.duckdb", more=(SESSIONS,))
    with duckdb.connect(str(file), read_only=True) as opened:
        for spec in (*GOLD, SESSIONS):
            found = opened.sql(f"select * from {spec.name}")
            assert (found.columns, found.fetchall()) == (spec.names, [])


def test_an_export_replaces_no_file_of_another_kind_and_a_broken_one_leaves_the_last(lake: Lake, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("these are my notes")
    with pytest.raises(ConfigError, match="is no DuckDB database"):
        export_duckdb(lake, notes)
    assert notes.read_text() == "these are my notes"
    file = export_duckdb(lake, tmp_path / "kept.duckdb", system="shop")
    before = file.read_bytes()
    with pytest.raises(duckdb.Error):
        export_duckdb(lake, file, more=(TEMPLATES,))  # it has no column ds
    assert file.read_bytes() == before and sorted(each.name for each in tmp_path.glob("*duckdb*")) == ["kept.duckdb"]
    assert not list(tmp_path.glob(".*"))


# Metrics


def test_metrics_tell_of_each_systems_last_night(lake: Lake, tmp_path: Path) -> None:
    path = write_metrics(lake, tmp_path / "collector" / "nightlog.prom")
    text = path.read_text()
    line = r'nightlog_night_\w+\{\w+="(?:[^"\\\n]|\\.)*"(?:,\w+="(?:[^"\\\n]|\\.)*")*\} -?\d+(?:\.\d+)?(?:e-?\d+)?'
    assert re.fullmatch(rf"(?:# HELP nightlog_\w+ [^\n]+\n# TYPE nightlog_\w+ gauge\n(?:{line}\n)*)+", text)
    names = re.findall(r"# TYPE (\w+)", text)
    assert len(names) == len(set(names)) > 12
    told = dict(row.rsplit(" ", 1) for row in text.splitlines() if not row.startswith("#"))
    assert told['nightlog_night_anomalies{system="shop",status="open"}'] == "11"
    assert told['nightlog_night_anomalies{system="shop",status="suppressed"}'] == "1"
    assert told['nightlog_night_findings{system="shop",status="open"}'] == "2"
    assert told['nightlog_night_findings_new{system="shop"}'] == "1"
    assert told['nightlog_night_outcome{system="mail",outcome="gated"}'] == "1"
    assert told['nightlog_night_llm_dollars{system="shop"}'] == "0.0123"
    assert told['nightlog_night_day_timestamp_seconds{system="shop"}'] == str(int(datetime(2026, 3, 4, tzinfo=UTC).timestamp()))
    assert not any("n_anomalies" in name or 'anomalies{system="mail"' in name for name in told)


def test_a_backfill_leaves_the_metrics_of_the_last_night(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    put_night(lake, "shop", DS, ["p-lost"])
    before = write_metrics(lake, tmp_path / "m.prom").read_text()
    put_night(lake, "shop", WEEK, ["p-normal"])
    assert write_metrics(lake, tmp_path / "m.prom").read_text() == before
    assert list(tmp_path.glob("*.prom*")) == [tmp_path / "m.prom"]


def test_freshness_moves_with_published_nights_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    put_night(lake, "shop", WEEK, ["p-normal"])
    before = write_metrics(lake, tmp_path / "m.prom").read_text().splitlines()
    lake.append(NIGHTS, [{"ds": DS, "system": "shop", "outcome": "failed", "run_at": datetime(2026, 3, 5, tzinfo=UTC)}])
    after = write_metrics(lake, tmp_path / "m.prom").read_text().splitlines()
    fresh = [line for line in before if "timestamp_seconds{" in line]
    assert fresh == [line for line in after if "day_timestamp_seconds{" in line]
    assert not any("published_timestamp_seconds{" in line for line in after), "no night here has a time of publication"
    assert 'nightlog_night_outcome{system="shop",outcome="failed"} 1' in after


def test_the_dashboard_asks_for_metrics_and_labels_that_are_written(lake: Lake, tmp_path: Path) -> None:
    text = write_metrics(lake, tmp_path / "m.prom").read_text()
    names = set(re.findall(r"# TYPE (\w+)", text))
    labels = {name: set(re.findall(r'(\w+)="', pairs)) for name, pairs in re.findall(r"^(\w+)\{(.*)\} ", text, re.M)}
    dashboard = json.loads((Path(__file__).parents[2] / "conf" / "grafana" / "nightlog.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    asked = set()
    for expression in expressions:
        found = re.findall(r"(nightlog_\w+)\{([^}]*)\}", expression)
        assert len(found) == expression.count("nightlog_"), expression
        for name, pairs in found:
            asked.add(name)
            assert name in names, expression
            assert set(re.findall(r"(\w+)[=!]", pairs)) <= labels.get(name, {"system"}), expression
        assert expression.count("(") == expression.count(")")
    assert {"nightlog_night_outcome", "nightlog_night_findings_new", "nightlog_night_published_timestamp_seconds"} <= asked
    variables = [each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert variables == ["label_values(nightlog_night_outcome, system)"]
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [(x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23, "no panel covers another"


# Alerts


def outcome_row(system: str, outcome: str, counts: dict[str, int]) -> dict[str, Any]:
    """A row of ops.outcomes of stage ingest."""
    return {"run_id": "r", "ds": DS, "system": system, "stage": "ingest", "outcome": outcome, "counts": counts, "at": NOW}


def alert_rules() -> dict[str, str]:
    """The rules that docs/how-to/hand-off.md recommends: name → expression."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "hand-off.md").read_text(encoding="utf-8")
    return dict(re.findall(r"- alert: (\w+).*\n\s+expr: (.+)", text))


def fires(expression: str, text: str, now: float) -> bool:
    """Evaluate a rule `[time() -] metric{label=~"a|b"} [/ metric] (==|>) number [* number]` on the text of the metrics, for any system."""
    found = re.fullmatch(r"(time\(\) - )?(\w+)(?:\{(\w+)=~?\"([\w|]+)\"\})?(?: / (\w+))? (==|>) ([\d.]+)(?: \* (\d+))?", expression)
    assert found is not None, expression
    age, metric, label, values, whole, sign, number, times = found.groups()
    samples = [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
        for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.M)
    ]
    bound = float(number) * float(times or 1)
    for name, labels, value in samples:
        if name == metric and (label is None or re.fullmatch(values, labels[label])):
            seen = now - value if age else value
            if whole:
                seen /= next(each for other, same, each in samples if (other, same["system"]) == (whole, labels["system"])) or 1
            if seen > bound if sign == ">" else seen == bound:
                return True
    return False


@pytest.mark.parametrize(
    ("row", "hours", "rule"),
    [
        ({"outcome": "failed"}, 30, "NightlogNotPublished"),
        ({"outcome": "transient"}, 30, "NightlogNotPublished"),
        ({"outcome": "gated"}, 30, "NightlogNotPublished"),
        ({"outcome": "no_input"}, 30, "NightlogNoInput"),
        ({"outcome": "no_input", "n_nights_before": 3}, 30, "NightlogInputMissing"),
        ({"outcome": "incomplete", "n_files": 0, "n_nights_before": 3}, 30, "NightlogInputMissing"),
        ({"outcome": "incomplete", "n_files": 0, "n_nights_before": 3}, 40, "NightlogStale"),
        ({"outcome": "incomplete", "n_unjudged": 3, "n_sessions": 9}, 3, "NightlogUnjudged"),
        ({"outcome": "done", "n_unjudged": 3, "n_sessions": 9}, 3, "NightlogUnjudged"),
        ({"outcome": "done", "n_lines": 100, "n_unparsed": 6}, 3, "NightlogFormat"),
        ({"outcome": "failed"}, 40, "NightlogStale"),
        (None, 40, "NightlogStale"),
    ],
)
def test_the_recommended_alerts_fire(row: dict[str, Any] | None, hours: int, rule: str, tmp_path: Path) -> None:
    lake, now = Lake(tmp_path / "lake"), NOW + timedelta(hours=hours)
    lake.append(
        NIGHTS, [{"ds": BEFORE, "system": "shop", "outcome": "done", "n_sessions": 9, "n_lines": 100, "n_unparsed": 0, "run_at": NOW}]
    )
    rules = alert_rules()
    calm, soon = write_metrics(lake, tmp_path / "m").read_text(), (NOW + timedelta(hours=3)).timestamp()
    assert not any(fires(each, calm, soon) for each in rules.values())
    if row is not None:
        counts = {name: row[name] for name in ("n_nights_before",) if name in row}
        night = {name: value for name, value in row.items() if name not in counts}
        lake.append(NIGHTS, [{"ds": DS, "system": "shop", "run_at": now - timedelta(hours=1)} | night])
        if counts:
            lake.append(OUTCOMES, [outcome_row("shop", "no_input" if row["outcome"] == "no_input" else "done", counts)])
    text = write_metrics(lake, tmp_path / "m").read_text()
    fired = {name for name, each in rules.items() if fires(each, text, now.timestamp())}
    assert rule in fired


def test_a_night_that_is_not_published_leaves_the_time_of_the_last_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append(NIGHTS, [{"ds": BEFORE, "system": "shop", "outcome": "done", "run_at": NOW}])
    lake.append(NIGHTS, [{"ds": DS, "system": "shop", "outcome": "no_input", "run_at": NOW + timedelta(days=1)}])
    text = write_metrics(lake, tmp_path / "m").read_text()
    assert f'nightlog_night_published_timestamp_seconds{{system="shop"}} {int(NOW.timestamp())}\n' in text
    assert 'nightlog_night_outcome{system="shop",outcome="no_input"} 1' in text
