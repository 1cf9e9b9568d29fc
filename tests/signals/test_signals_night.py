"""Signals of real tables: learning first, then each kind with its reason, by the flags of the system file, the same when run again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from nightlog.ingest.ingest import ingest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MESSAGES, NIGHTS, NUMBERS, OUTCOMES, SIGNALS, TEMPLATE_COUNTS, TEMPLATES
from nightlog.pages.page import write_pages
from nightlog.parsing.parse import parse
from nightlog.signals.find import find_signals, missing_signals, signals
from nightlog.systems.spec import Header, Input, Session, Signals, System, Timestamp
from nights import small_system

DS = "2026-03-04"
NIGHTS_BEFORE = [(date.fromisoformat(DS) - timedelta(days=at)).isoformat() for at in range(30, 0, -1)]


def system(name: str = "shop", **more: bool) -> System:
    return System(name=name, role="target", input=Input(path="{ds}"), session=Session(kind="field"), signals=Signals(**more))


def night(lake: Lake, ds: str, counts: dict[str, int], name: str = "shop", outcome: str = "done") -> None:
    """A night in which each template was logged four times as often as given."""
    place = {"system": name, "ds": ds}
    lake.replace(TEMPLATE_COUNTS, [place | {"template_id": template, "n": 4 * n} for template, n in counts.items()], **place)
    lake.replace(NIGHTS, [place | {"outcome": outcome}], **place)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Thirty ordinary nights, then one with a new template, one at another rate, one silent, one of many wordings and one with a value far
    out of its range; mail is silent."""
    lake = Lake(tmp_path_factory.mktemp("signals") / "lake")
    names = ["open", "beat", "slow", "worded", "new"]
    took = {"system": "shop", "template_id": "open", "word": 2, "nth": 1, "n": 50, "low": 3.0, "low_file": "a.log", "low_line": 1}
    ranges = [took | {"ds": ds, "high": 90.0 + n % 20, "high_file": "a.log", "high_line": n} for n, ds in enumerate(NIGHTS_BEFORE)]
    lake.append(NUMBERS, [*ranges, took | {"ds": DS, "high": 4000.0, "high_file": "b.log", "high_line": 77}])
    texts = [
        {"system": "shop", "template_id": name, "text": f"{name} <b>&", "first_ds": DS if name == "new" else NIGHTS_BEFORE[0]}
        for name in names
    ]
    lake.append(TEMPLATES, texts)
    wordings = [(f"{n}", "worded", DS if n else NIGHTS_BEFORE[0]) for n in range(15)]
    lake.append(
        MESSAGES, [{"system": "shop", "message_id": int(n), "message": n, "template_id": t, "first_ds": ds} for n, t, ds in wordings]
    )
    for number, ds in enumerate(NIGHTS_BEFORE):
        night(lake, ds, {"open": 50 + number % 3, "beat": 24, "slow": 20, "worded": 10})
        night(lake, ds, {"open": 5}, "mail")
    night(lake, DS, {"open": 51, "slow": 200, "worded": 10, "new": 2})
    night(lake, DS, {}, "mail", "no_input")
    for name in ("shop", "mail"):
        lake.append(
            OUTCOMES,
            [
                {
                    "system": name,
                    "ds": DS,
                    "stage": "ingest",
                    "outcome": "no_input",
                    "run_id": "r",
                    "seconds": 1.0,
                    "at": datetime(2026, 3, 5, tzinfo=UTC),
                }
            ],
        )
    return lake


def found(lake: Lake, ds: str = DS, name: str = "shop") -> list[tuple[str, str, float, float]]:
    return [(row["kind"], row["template_id"], row["seen"], row["usual"]) for row in signals(lake, ds, name)]


EVERY: list[tuple[str, str, float, float]] = [
    ("silence", "beat", 0.0, 96.0),
    ("new_template", "new", 8.0, 0.0),
    ("rate", "slow", 800.0, 80.0),
    ("value", "open", 4000.0, 109.0),
    ("variation", "worded", 14.0, 0.033),  # one founding wording in thirty nights
]


def test_each_kind_is_found_with_its_reason_and_again_the_same(told: Lake) -> None:
    assert find_signals(told, [system(), system("mail")], DS, "r") == {}
    assert found(told) == EVERY
    before: list[dict[str, Any]] = signals(told, DS)
    assert all(row["reason"] for row in before)
    assert [row["reason"] for row in before if row["kind"] == "value"] == [
        "the number in “open <b>&” is 4,000 (b.log:77), where 3 to 109 are usual (30 nights)"
    ]
    assert found(told, name="mail") == [("silence", "", 0.0, 20.0)]
    assert find_signals(told, [system(), system("mail")], DS, "r") == {}
    assert signals(told, DS) == before


@pytest.mark.parametrize("kind", ["silence", "new_template", "rate", "value", "variation"])
def test_a_kind_that_the_system_file_does_not_ask_for_is_not_told(kind: str, told: Lake) -> None:
    find_signals(told, [system(**{kind: False})], DS, "r")
    assert found(told) == [row for row in EVERY if row[0] != kind]


def test_nothing_is_told_before_enough_nights_were_seen_and_the_page_says_so(told: Lake) -> None:
    third, eighth = NIGHTS_BEFORE[2], NIGHTS_BEFORE[7]
    assert find_signals(told, [system()], third, "r") == {}
    (row,) = signals(told, third)
    assert (row["kind"], row["seen"]) == ("learning", 2.0) and "2 of 7 nights" in row["reason"]
    find_signals(told, [system()], eighth, "r")
    assert found(told, eighth) == [], "after seven nights an ordinary one says nothing"
    page = Path(write_pages(told, third).page).with_name("shop.html").read_text(encoding="utf-8")
    assert "learning: 2 of 7 nights before this one were counted" in page


def test_the_page_shows_signals_below_the_anomalies_and_log_text_stays_text(told: Lake) -> None:
    find_signals(told, [system(), system("mail")], DS, "r")
    night_page = Path(write_pages(told, DS).page)
    text = night_page.with_name("shop.html").read_text(encoding="utf-8")
    assert text.index('id="anomalies"') < text.index('id="signals"')
    find_signals(told, [system(first=True)], DS, "r")
    asked = Path(write_pages(told, DS).page).with_name("shop.html").read_text(encoding="utf-8")
    assert asked.index('id="signals"') < asked.index('id="anomalies"')
    assert "asked for first" in night_page.read_text(encoding="utf-8")
    assert "slow &lt;b&gt;&amp;" in text and "slow <b>" not in text
    assert "the system is silent" in night_page.with_name("mail.html").read_text(encoding="utf-8")
    assert "the system is silent" in night_page.read_text(encoding="utf-8")


def test_a_night_without_published_rows_has_no_signals_and_old_ones_go(told: Lake) -> None:
    find_signals(told, [system()], DS, "r")
    find_signals(told, [system(new_template=False, rate=False, silence=False, value=False, variation=False)], DS, "r")
    assert told.rows(SIGNALS, ds=DS, system="shop") == []
    find_signals(told, [system()], "2026-03-09", "r")
    assert told.rows(SIGNALS, ds="2026-03-09") == []


def test_a_number_of_a_log_line_becomes_a_signal_that_names_its_line(tmp_path: Path) -> None:
    """From files to signals: nine nights of answers that take some milliseconds, and in the last one takes a minute and a half."""
    lake, shop, days = Lake(tmp_path / "lake"), small_system("shop"), [*NIGHTS_BEFORE[-8:], DS]
    (tmp_path / "shop").mkdir()
    for number, ds in enumerate(days):
        lines = [f"INFO s{n} request {n * 977 + number} took {5 + (n * 7 + number) % 40} ms" for n in range(30)]
        lines[11] = "INFO s11 request 7 took 90000 ms" if ds == DS else lines[11]
        (tmp_path / "shop" / f"{ds}.log").write_text("\n".join(lines))
        ingest(lake, shop, ds, tmp_path)
        parse(lake, shop, ds, "r")
        lake.append(NIGHTS, [{"system": "shop", "ds": ds, "outcome": "done"}])
        assert find_signals(lake, [shop], ds, "r") == {}
        assert sum(row["kind"] != "learning" for row in signals(lake, ds)) == (ds == DS)
    (row,) = signals(lake, DS)
    assert row["reason"] == f"the number in “took <NUM> ms” is 90,000 (shop/{DS}.log:12), where 5 to 44 are usual (8 nights)"
    assert (row["kind"], row["template"], row["seen"], row["usual"]) == ("value", "request <NUM> took <NUM> ms", 90000.0, 44.0)


def put_lines(lake: Lake, of: System, folder: Path, ds: str, lines: list[str]) -> list[tuple[str, str, float]]:
    """Ingest and parse a day of a system, publish it, and find its signals: (kind, template, seen)."""
    (folder / of.name).mkdir(exist_ok=True)
    (folder / of.name / f"{ds}.log").write_text("\n".join(lines))
    ingest(lake, of, ds, folder)
    parse(lake, of, ds, "r")
    lake.replace(NIGHTS, [{"system": of.name, "ds": ds, "outcome": "done", "n_events": len(lines)}], system=of.name, ds=ds)
    assert find_signals(lake, [of], ds, "r") == {}
    return [(row["kind"], row["template"], row["seen"]) for row in signals(lake, ds) if row["kind"] != "learning"]


HEADER = Header(pattern=r"(?P<time>\d\d:\d\d) (?P<level>INFO|WARN|ERROR) (?P<id>\S+) (?P<message>.*)")
SESSIONS = {
    "field": Session(kind="field", field="id", lookback_days=3),
    "id": Session(kind="id", pattern=r"(s\d+)", lookback_days=3),
    "window": Session(kind="window", window_minutes=60),
}


@pytest.mark.parametrize("kind", SESSIONS)
def test_signals_count_the_lines_of_the_night_alone_in_every_kind_of_session(kind: str, tmp_path: Path) -> None:
    """Sessions span days, some lines have no session and some have two: what is counted are the lines of the night."""
    lake = Lake(tmp_path / "lake")
    at = Timestamp(value="{ds} {time}", format="yyyy-MM-dd HH:mm")
    shop = System(name="shop", role="target", input=Input(path="shop/{ds}.log"), header=HEADER, session=SESSIONS[kind], timestamp=at)
    days = [*NIGHTS_BEFORE[-9:], DS]
    ordinary = [f"10:{n} INFO s{n % 5} request served to s{n % 5} and s{n % 5 + 1}" for n in range(10, 50)]
    for ds in days[:-1]:
        found = put_lines(lake, shop, tmp_path, ds, [*ordinary, *["12:00 INFO - heartbeat alive"] * 5])
        assert found == [], "nothing changed, and what stands in look-back days is not of this night"
    found = put_lines(lake, shop, tmp_path, DS, [*ordinary, *["13:00 INFO s1 disk lost"] * 3])
    new = "outside_sessions" if kind == "id" else "new_template"  # its message has no id
    assert found == [("silence", "heartbeat alive", 0.0), (new, "disk lost", 3.0)]


def test_a_system_whose_lines_are_gone_is_told_though_each_template_has_its_share(tmp_path: Path) -> None:
    lake, shop = Lake(tmp_path / "lake"), small_system("shop")
    words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet"]
    for ds in NIGHTS_BEFORE[-8:]:
        lines = [f"INFO s{n} {word} unit {word}ed" for n in range(60) for word in words]
        assert put_lines(lake, shop, tmp_path, ds, lines) == []
    assert put_lines(lake, shop, tmp_path, DS, lines[:60]) == [("rate", None, 60.0)]
    (row,) = signals(lake, DS)
    assert row["reason"].startswith("the system logged 60 records, where 600 are usual")


def test_signals_that_cannot_be_computed_are_a_row_and_those_of_other_systems_are_found(told: Lake, tmp_path: Path) -> None:
    copytree(told.root, tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    for file in Path(lake.root, "silver/numbers/system=shop").rglob("*.parquet"):
        file.unlink()
    failures = find_signals(lake, [system(), system("mail")], DS, "r")
    assert set(failures) == {"shop"}
    (row,) = signals(lake, DS, "shop")
    assert row["kind"] == "unavailable" and "could not be computed" in row["reason"] and failures["shop"] in row["reason"]
    assert found(lake, name="mail") == [("silence", "", 0.0, 20.0)]
    assert missing_signals(lake, DS, ["shop", "mail"]) == {"shop": row["reason"]}


def test_a_night_of_which_nobody_looked_for_signals_is_not_calm(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    stage = {"system": "shop", "ds": DS, "outcome": "done", "run_id": "r", "counts": {}}
    at = datetime(2026, 3, 5, 2, tzinfo=UTC)
    lake.append(OUTCOMES, [stage | {"stage": "publish", "at": at}])
    assert "has not run" in missing_signals(lake, DS, ["shop"])["shop"]
    lake.append(OUTCOMES, [stage | {"stage": "report", "outcome": "failed", "detail": "no signals: disk", "at": at + timedelta(minutes=1)}])
    assert missing_signals(lake, DS, ["shop"]) == {"shop": "no signals: disk"}
    lake.append(OUTCOMES, [stage | {"stage": "report", "at": at + timedelta(minutes=2)}])
    assert missing_signals(lake, DS, ["shop"]) == {}


def test_a_night_that_an_earlier_version_parsed_is_not_taken_for_silent(told: Lake, tmp_path: Path) -> None:
    copytree(told.root, tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    lake.replace(TEMPLATE_COUNTS, [], system="shop", ds=DS)
    lake.replace(NIGHTS, [{"system": "shop", "ds": DS, "outcome": "done", "n_events": 9}], system="shop", ds=DS)
    assert "--from parse" in find_signals(lake, [system()], DS, "r")["shop"]
    assert [row["kind"] for row in signals(lake, DS, "shop")] == ["unavailable"]
