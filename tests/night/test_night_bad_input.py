"""One bad system never stops the others, and each kind of bad input has its own outcome."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, LINES_TABLE, NIGHTS, QUARANTINE, SESSIONS, VERDICTS
from nightlog.outcomes import Stage, exit_code
from nightlog.pages.page import write_pages
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.spec import LLM, Header, Timestamp
from nights import add_toy_model, rows_of, run_night, small_system, snapshot

DS = "2026-03-04"
Write = Callable[[str, str, bytes], Path]

GOOD = b"".join(b"INFO s%d request %d served\n" % (n % 5, n) for n in range(40)) + b"ERROR s9 disk gone\n"


def test_each_bad_input_has_its_outcome_and_the_others_go_on(lake: Lake, tmp_path: Path, write_log: Write) -> None:
    packed = gzip.compress(GOOD * 200, mtime=0)
    write_log("good", f"{DS}.log", GOOD)
    write_log("cut", f"{DS}.log.gz", packed[: len(packed) // 2])
    write_log("garbled", f"{DS}.log", GOOD + b"what is this\n" * 20)
    write_log("latin", f"{DS}.log", GOOD + "INFO s3 caf\xe9 served\n".encode("latin-1"))
    write_log("nothing", f"{DS}.log", b"")
    add_toy_model(lake)
    systems = [small_system(name) for name in ("absent", "cut", "garbled", "good", "latin", "nothing")]
    settings = Settings(data=tmp_path / "data", llm="off", device="cpu")

    found = run_night(lake, settings, systems, DS, "first")

    assert found["absent", Stage.INGEST].outcome == "no_input"
    cut = found["cut", Stage.INGEST]
    assert cut.outcome == "failed"
    assert f"cut/{DS}.log.gz" in (cut.detail or "") and "byte" in (cut.detail or "")
    assert not rows_of(lake, LINES_TABLE, system="cut")
    garbled = found["garbled", Stage.PARSE]
    assert garbled.outcome == "gated" and "20 of 61 lines" in (garbled.detail or "")
    assert len(rows_of(lake, QUARANTINE, system="garbled", stage="parse")) == 20
    for name in ("absent", "cut", "garbled"):
        assert (name, Stage.PUBLISH) not in found
    for name in ("good", "latin", "nothing"):
        assert found[name, Stage.PUBLISH].outcome == "done"

    nights = {row["system"]: row for row in rows_of(lake, NIGHTS, ds=DS)}
    assert {name: row["outcome"] for name, row in nights.items()} == {
        "absent": "no_input",
        "cut": "failed",
        "garbled": "gated",
        "good": "done",
        "latin": "done",
        "nothing": "done",
    }
    assert nights["nothing"]["n_lines"] == nights["nothing"]["n_sessions"] == 0
    assert nights["good"]["n_sessions"] == 6
    assert nights["latin"]["n_replaced"] == 1
    assert any("caf\ufffd" in row["text"] for row in rows_of(lake, LINES_TABLE, system="latin"))
    flagged = rows_of(lake, ANOMALIES, ds=DS, system="good")
    assert {row["status"] for row in flagged} == {"provisional"}
    assert len(flagged) == 6

    page = Path(lake.root, "reports", DS, "index.html").read_text(encoding="utf-8")
    n = len(rows_of(lake, ANOMALIES, ds=DS))
    for told in ("absent had no input", "garbled stopped at a quality gate", "cut failed", "20 of 61 lines", f"{n} anomalous sessions"):
        assert told in page
    assert "ERROR s9 disk gone" in Path(lake.root, "reports", DS, "good.html").read_text(encoding="utf-8")
    before = {file.name: file.read_bytes() for file in Path(lake.root, "reports", DS).iterdir()}
    write_pages(lake, DS)
    assert {file.name: file.read_bytes() for file in Path(lake.root, "reports", DS).iterdir()} == before, (
        "a rebuild gives what the night wrote"
    )
    for row in flagged:
        raw = {(line["file"], line["line_no"]): line["text"] for line in rows_of(lake, LINES_TABLE, system="good")}
        assert row["lines"] and all(raw[line["file"], line["line_no"]] == line["text"] for line in row["lines"])
        assert row["evidence"] and abs(sum(each["weight"] for each in row["evidence"]) - 1) < 1e-3


TIMED = Header(pattern=r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<id>s\d+) (?P<message>.*)")
IN_BERLIN = Timestamp(value="{time}", format="yyyy-MM-dd HH:mm:ss", timezone="Europe/Berlin")


def timed_lines(day: str, n: int = 60) -> bytes:
    return b"".join(f"{day} {10 + i // 60:02d}:{i % 60:02d}:00 s{i % 4} request {i} served\n".encode() for i in range(n))


@pytest.mark.slow
def test_what_a_delivery_can_be_has_one_outcome_each(tmp_path: Path, write_log: Write) -> None:
    """No Spark session: a night of this size needs none."""
    lake = Lake(tmp_path / "lake")
    add_toy_model(lake)
    good = timed_lines(DS)
    packed = bytearray(gzip.compress(good * 50, mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    write_log("corrupt", f"{DS}.log.gz", bytes(packed))
    write_log("binary", f"{DS}.log", random.Random(7).randbytes(100_000))
    write_log("utf16", f"{DS}.log", good.decode().encode("utf-16"))
    write_log("mixed", f"{DS}.log", good.replace(b"\n", b"\r\n") + good + b"\0\n" + good[:-1])
    write_log("long", f"{DS}.log", good + b"x" * 50_000_000 + b"\n" + good)
    write_log("twice", f"{DS}.log", good)
    write_log("twice", f"{DS}.log.gz", gzip.compress(good))
    write_log("twice", f"{DS}.log.2", good.replace(b"request", b"answer "))
    write_log("year", f"{DS}.log", timed_lines("2016-03-04"))
    back = timed_lines(DS, 30) + timed_lines("2026-03-03", 30)  # the clock was put back by a day, then on
    write_log("clock", f"{DS}.log", back + timed_lines(DS, 30))
    write_log("late", f"{DS}.log", good)
    write_log("changed", f"{DS}.log", good + good.replace(b" s", b" [INFO] s"))
    names = ("corrupt", "binary", "utf16", "mixed", "long", "twice", "year", "clock", "late", "changed")
    systems = {name: small_system(name).model_copy(update={"header": TIMED, "timestamp": IN_BERLIN}) for name in names}
    settings = Settings(data=tmp_path / "data", llm="off", device="cpu")

    found = run_night(lake, settings, list(systems.values()), DS, "first")

    def told(name: str, stage: Stage) -> tuple[str, str]:
        return found[name, stage].outcome, found[name, stage].detail or ""

    for name, stage, outcome, words in (
        ("corrupt", Stage.INGEST, "failed", "deliver it again"),
        ("utf16", Stage.INGEST, "failed", "iconv -f UTF-16 -t UTF-8"),
        ("binary", Stage.PARSE, "gated", "do not match the header pattern"),
        ("changed", Stage.PARSE, "gated", "60 of 120 lines do not match the header pattern"),
        ("long", Stage.INGEST, "done", "1 lines were longer than 1,048,576 bytes"),
        ("twice", Stage.INGEST, "done", f"1 file was delivered twice and is read once: twice/{DS}.log.gz is twice/{DS}.log again"),
        ("year", Stage.PARSE, "done", "astray_share"),
    ):
        assert told(name, stage)[0] == outcome and words in told(name, stage)[1], (name, told(name, stage))
    nights = {row["system"]: row for row in rows_of(lake, NIGHTS, ds=DS)}
    assert {name for name, row in nights.items() if row["outcome"] == "done"} == {"mixed", "long", "twice", "year", "clock", "late"}
    assert (nights["mixed"]["n_lines"], nights["mixed"]["n_unparsed"]) == (181, 1)
    assert (nights["long"]["n_lines"], nights["long"]["n_unparsed"]) == (121, 1)
    assert (nights["twice"]["n_files"], nights["twice"]["n_lines"]) == (2, 120)
    for row in rows_of(lake, SESSIONS, system="clock"):
        assert row["started_at"] <= row["ended_at"] and row["n_events"] in (21, 24)

    # a file that comes after the night: nothing is lost and nothing is there twice
    write_log("late", f"{DS}.log.1", timed_lines(DS).replace(b"request", b"answer "))
    again = run_night(lake, settings, [systems["late"]], DS, "second")
    assert again["late", Stage.INGEST].counts["n_lines"] == 120
    lines = [(row["file"], row["line_no"]) for row in rows_of(lake, LINES_TABLE, system="late")]
    assert len(lines) == len(set(lines)) == 120
    assert sum(row["n_events"] for row in rows_of(lake, SESSIONS, system="late")) == 120


def test_a_retry_goes_on_and_a_run_started_over_is_done_anew(lake: Lake, tmp_path: Path, write_log: Write) -> None:
    write_log("good", f"{DS}.log", GOOD)
    systems = [small_system("good"), small_system("late")]
    night = Night(DS, "same", systems, lake, Settings(data=tmp_path / "data", llm="off", device="cpu"), lambda: datetime.now(UTC))

    assert [(each.system, each.outcome) for each in night.run_stage(Stage.INGEST)] == [("good", "done"), ("late", "no_input")]
    write_log("late", f"{DS}.log", GOOD)
    assert [(each.system, each.outcome) for each in night.run_stage(Stage.INGEST)] == [("late", "done")]

    assert [each.outcome for each in night.run_stage(Stage.PARSE)] == ["done", "done"]
    write_log("good", f"{DS}.log", GOOD * 2)
    again = list(night.run_stage(Stage.INGEST))
    assert [(each.system, each.counts["n_lines"]) for each in again] == [("good", 82), ("late", 41)]


def test_what_may_not_go_to_the_llm_is_not_provisional(lake: Lake, tmp_path: Path, write_log: Write) -> None:
    write_log("good", f"{DS}.log", GOOD)
    add_toy_model(lake)
    found = run_night(
        lake, Settings(data=tmp_path / "data", llm="off", device="cpu"), [small_system("good", llm=LLM(allowed=False))], DS, "first"
    )
    counts = found["good", Stage.PUBLISH].counts
    assert (counts["n_anomalies"], counts["n_by_model"], counts["n_provisional"]) == (6, 6, 0)


def test_an_llm_verdict_decides_and_is_asked_once(lake: Lake, tmp_path: Path, write_log: Write) -> None:
    write_log("good", f"{DS}.log", GOOD)
    verdicts = tmp_path / "verdicts.jsonl"
    said = [("disk gone", 1, "anomalous", "lost disk"), ("request <NUM> served", 8, "normal", "fine")]
    rows = [
        {"system": "good", "events": [{"template": text, "count": n}], "label": label, "confidence": 0.9, "reason": why}
        for text, n, label, why in said
    ]
    verdicts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    add_toy_model(lake)
    settings = Settings(data=tmp_path / "data", llm="recorded", llm_recorded=verdicts, device="cpu")

    first = run_night(lake, settings, [small_system("good")], DS, "first")
    flagged = rows_of(lake, ANOMALIES, ds=DS)
    assert [(row["session_id"], row["decided_by"], row["status"], row["score"], row["reason"]) for row in flagged] == [
        ("s9", "llm", "open", 0.9, "lost disk")
    ]
    assert [line["text"] for line in flagged[0]["lines"]] == ["ERROR s9 disk gone"]
    assert first["good", Stage.LABEL].counts["llm_items"] == 2

    before = snapshot(lake)
    again = run_night(lake, settings, [small_system("good")], DS, "second")
    assert again["good", Stage.LABEL].counts["llm_items"] == 0
    assert again["good", Stage.EMBED].counts["run_n_embedded"] == 0
    assert snapshot(lake) == before
    assert len(rows_of(lake, VERDICTS)) == 2
    night = rows_of(lake, NIGHTS, ds=DS)[0]
    assert (night["run_id"], night["run_llm_items"], night["run_n_embedded"], night["n_anomalies"]) == ("second", 0, 0, 1)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["done", "no_input"], 0),
        (["done", "gated"], 10),
        (["gated", "failed"], 30),
        (["failed", "transient"], 20),
    ],
)
def test_the_exit_code_is_that_of_the_worst_system(outcomes: list[str], code: int) -> None:
    assert exit_code(outcomes) == code
