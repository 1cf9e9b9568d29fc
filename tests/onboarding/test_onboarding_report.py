"""`nightlog try` as a person uses it: real files, what looks wrong, the file that is written."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from nightlog.errors import ConfigError, FormatError
from nightlog.ingest.discover import find_days, find_files
from nightlog.onboarding.days import origin_of
from nightlog.onboarding.formats import ready_formats
from nightlog.onboarding.report import report_of
from nightlog.onboarding.sample import blocks, read_sample
from nightlog.quality.outliers import beyond_limits
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog, parse_system
from nightlog.systems.spec import Gates, Header, Input, Session, System
from pydantic import ValidationError
from styles import lines_in, steps

PROGRAM = Path(sys.executable).with_name("nightlog")


def put(folder: Path, lines: list[str], name: str = "shop-2026-03-04.log") -> Path:
    path = folder / name
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def report(folder: Path, lines: list[str], **more: Any) -> dict[str, Any]:
    return report_of([put(folder, lines)], "", 20_000, Settings(**more))[0]


def nightlog(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_"))}
    clean |= {"COLUMNS": "160"} | environment
    return subprocess.run([str(PROGRAM), "try", *arguments], capture_output=True, text=True, env=clean, check=False)


def test_try_shows_the_trial_and_writes_a_file_that_the_catalog_reads(tmp_path: Path) -> None:
    log, system = put(tmp_path, lines_in("log4j"), "shop-2026-03-04.log.gz"), tmp_path / "systems" / "shop.toml"
    done = nightlog(str(log), "--out", str(system))
    assert done.returncode == 0, done.stderr
    for words in (
        "matched 100.0%",
        "150 sessions",
        "payment failed after <NUM> ms",
        "What would be sent to the LLM",
        "Next: NIGHTLOG_SYSTEMS=",
    ):
        assert words in done.stdout
    shop = load_catalog(system.parent)["shop"]
    assert shop.input.path == "shop-{ds}.log.gz" and shop.role == "target"
    again = nightlog(str(log), "--out", str(system))
    assert again.returncode == 2 and "exists" in again.stderr


def test_json_has_all_of_it_and_log_text_never_steers_the_terminal(tmp_path: Path) -> None:
    log = put(tmp_path, [line.replace("stock", "st\x1b[31mock [bold]") for line in lines_in("spring")])
    found = json.loads(nightlog(str(log), "--format", "json", "--name", "web").stdout)
    assert (found["name"], found["matched"], found["ds"]) == ("web", 1.0, "2026-03-04")
    assert parse_system(found["toml"], "x").name == "web"
    shown = nightlog(str(log)).stdout
    assert "\x1b[31m" not in shown and "[bold]" in shown


def test_what_would_be_sent_is_redacted(tmp_path: Path) -> None:
    lines = [line.replace("stock reserved", "login of bob.smith@example.com with password=hunter2!") for line in lines_in("rfc3164")]
    found = report(tmp_path, lines)
    sent = json.dumps(found["outgoing"])
    assert "password=<SECRET>" in sent and "bob.smith" not in sent and "hunter2" not in sent


def test_a_field_that_looks_like_a_label_is_named(tmp_path: Path) -> None:
    rng = random.Random(1)
    plain = [line for line in lines_in("spring") if line[:2] == "20"]
    tagged = [f"{'-' if rng.random() < 0.9 else rng.choice(['DISKBAD', 'NETBAD'])} {line}" for line in plain]
    assert any("looks like a label" in each and "DISKBAD" in each for each in report(tmp_path, tagged)["findings"])
    assert not any("looks like a label" in each for each in report(tmp_path, plain)["findings"])


def test_a_column_whose_labels_are_all_normal_that_day_is_named_too(tmp_path: Path) -> None:
    plain = [line for line in lines_in("spring") if line[:2] == "20"]
    assert any(
        "looks like a label" in each and "in all records" in each for each in report(tmp_path, [f"- {line}" for line in plain])["findings"]
    )
    labelled = [json.dumps({"msg": line[40:], "time": line[:23], "label": "0", "host": "-"}) for line in plain]
    told = [each for each in report(tmp_path, labelled)["findings"] if "looks like a label" in each]
    assert len(told) == 1 and "`label`" in told[0]


def test_records_that_no_session_covers_are_told(tmp_path: Path) -> None:
    lines = [f"2026-03-04 10:{n // 60:02d}:{n % 60:02d} INFO order o{n % 75:04d}ab served step {n // 75}" for n in range(300)]
    lines += [f"2026-03-04 11:{n // 60:02d}:{n % 60:02d} INFO sweep of the cache took {n} ms" for n in range(80)]
    found = report(tmp_path, lines)
    assert 0.5 < found["in_session"] < 0.9
    assert any("21% of the records have no id and belong to no session" in each for each in found["findings"])
    assert not any("have no id" in each for each in report(tmp_path, lines[:310])["findings"])


def test_an_edited_file_is_tried_again(tmp_path: Path) -> None:
    log, system = (
        put(tmp_path, [f"ALERT {line}" for line in lines_in("zap")], "my shop-2026-03-04.log"),
        tmp_path / "my systems" / "shop.toml",
    )
    first = nightlog(str(log), "--out", str(system), "--name", "shop")
    assert first.returncode == 0, first.stderr
    assert f"NIGHTLOG_SYSTEMS='{system.parent}' NIGHTLOG_DATA={tmp_path} nightlog run" in first.stdout
    system.write_text(re.sub(r"\[session\][^\[]*", '[session]\nkind = "window"\nwindow_minutes = 5\n\n', system.read_text()))
    again = nightlog(str(log), "--with", str(system), "--format", "json")
    found, before = json.loads(again.stdout), json.loads(nightlog(str(log), "--format", "json", "--name", "shop").stdout)
    assert found.keys() == before.keys() and found["format"] == "shop.toml"
    assert found["toml"] == system.read_text() and found["sessions"] != before["sessions"]
    assert (found["matched"], found["timed"], found["records"]) == (1, 1, before["records"])
    assert found["findings"] == [] or not any("find" in each for each in found["findings"])
    shown = nightlog(str(log), "--with", str(system)).stdout
    assert "shop.toml: " in shown and "The proposed file" not in shown and "nightlog run --ds 2026-03-04 --system shop" in shown
    other = put(tmp_path, lines_in("zap"), "till-2026-03-04.log")
    assert "does not find" in nightlog(str(other), "--with", str(system)).stdout
    for refused, code, words in (
        (["--with", str(system), "--name", "x"], 2, "leave out --out"),
        (["--with", str(tmp_path / "no.toml")], 4, "no such file"),
    ):
        done = nightlog(str(log), *refused)
        assert done.returncode == code and words in done.stderr


def test_labels_are_cut_off_before_a_file_is_tried(tmp_path: Path) -> None:
    log = put(tmp_path, [f"- {line}" for line in lines_in("zap")])
    system = tmp_path / "shop.toml"
    text = report(tmp_path, lines_in("zap"))["toml"]
    system.write_text(text + "\n[labels]\npattern = '(?P<label>\\S+) '\n")
    put(tmp_path, [f"- {line}" for line in lines_in("zap")])
    assert report_of([log], "", 20_000, Settings(), system)[0]["matched"] == 1


def test_mixed_formats_become_variants_and_what_matches_none_is_reported(tmp_path: Path) -> None:
    found = report(tmp_path, [*lines_in("log4j"), *lines_in("rfc3164", 40)])
    assert any("mixed formats" in each for each in found["findings"])
    assert (found["matched"], found["timed"]) == (1, 1)
    system = parse_system(found["toml"], "shop.toml")
    assert len(system.variants) == 1
    strange = report(tmp_path, [*lines_in("log4j"), *(f"~~ {n} nothing that anybody knows" for n in range(300))])
    assert strange["matched"] < 1 or any("join" in each for each in strange["findings"])


def test_swallowed_lines_stand_beside_matched_and_are_a_warning_above_a_twentieth(tmp_path: Path) -> None:
    steps_only = [f"20171223-22:{n // 60:02d}:{n % 60}:150|Step_LSC|30002312|onStandStepChanged 35{n}" for n in range(600)]
    bare = [*steps_only, *(f"getTodayTotalDetailSteps = {n}" for n in range(100))]
    for lines, share, told in ((steps_only, 0.0, False), (bare, 1 / 7, True)):
        found = report(tmp_path, [line for pair in zip(lines[:300], lines[300:], strict=False) for line in pair] + lines[600:])
        assert found["swallowed"] == pytest.approx(share, abs=1e-6) and found["matched"] == 1
        assert any("do not look like its continuation" in each for each in found["findings"]) is told
    trace = ["java.lang.IllegalStateException: no heap", "\tat shop.Cart.add(Cart.java:10)", "Caused by: disk full"]
    stamped = [f"2026-03-04 10:{n // 60:02d}:{n % 60:02d} ERROR order o{n} failed" for n in range(600)]
    traced = report(tmp_path, [*(line for each in stamped for line in [each, *trace[1:]])])
    assert traced["swallowed"] == 0 and traced["records"] == 600


def test_lines_of_a_known_program_that_look_like_records_are_not_held_against_it(tmp_path: Path) -> None:
    slow = next(each for each in ready_formats() if each.name == "mysql-slow").sample[0]
    lines = [line.replace("id = 12", f"id = {n}") for n in range(30) for line in slow.split("\n")]
    found = report(tmp_path, lines)
    system = parse_system(found["toml"], "shop.toml")
    assert (found["format"], found["records"], found["matched"], found["templates"]) == ("mysql-slow", 30, 1, 1)
    assert found["swallowed"] == 0.8 and system.gates.swallowed_share == 1
    assert not any("continuation" in each for each in found["findings"])
    counts = {"n_lines": 150, "n_unparsed": 0, "n_swallowed": 120}
    assert beyond_limits(counts, system.gates) == [] and [each.severity for each in beyond_limits(counts, Gates())] == ["critical"]


def test_a_delivery_of_many_days_is_told_and_a_file_of_its_day_is_not(tmp_path: Path) -> None:
    lines = [f"2026-02-{1 + n // 10:02d} 10:00:{n % 10:02d} INFO order o{n % 40} served" for n in range(200)]
    for name, told in (("shop.log", True), ("shop-2026-02-20.log", False)):
        found = report_of([put(tmp_path, lines, name)], "", 20_000, Settings())[0]["findings"]
        assert any("of 20 days, 2026-02-01 to 2026-02-20" in each for each in found) is told


def test_files_that_are_no_logs_are_told_or_refused(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(20_000)
    (tmp_path / "a.bin").write_bytes(noise)
    assert any("not text" in each for each in report_of([tmp_path / "a.bin"], "x", 1000, Settings())[0]["findings"])
    (tmp_path / "b.log").write_bytes("a line\n".encode("utf-16"))
    (tmp_path / "c.log.gz").write_bytes(gzip.compress(b"x\n" * 1000)[:-20])
    (tmp_path / "d.log").write_bytes(b"\n\n")
    refused = (("b.log", FormatError, "UTF-16"), ("c.log.gz", FormatError, "not readable"), ("d.log", ConfigError, "no line"))
    for name, error, words in refused:
        with pytest.raises(error, match=words):
            report_of([tmp_path / name], "x", 1000, Settings())
    with pytest.raises(ConfigError, match="no such file"):
        report_of([tmp_path / "e.log"], "x", 1000, Settings())


def test_few_sessions_and_a_template_that_swallows_all_are_told(tmp_path: Path) -> None:
    assert any("sessions in the sample: too few" in each for each in report(tmp_path, lines_in("zap", 6))["findings"])
    values = [f"{step.at:%Y-%m-%d %H:%M:%S} INFO {step.number} {step.order}" for step in steps()]
    values += [f"{step.at:%Y-%m-%d %H:%M:%S} INFO stock reserved" for step in steps(20)]
    assert any("says next to nothing" in each for each in report(tmp_path, values)["findings"])


def test_a_night_costs_more_where_it_is_longer_and_prices_are_higher(tmp_path: Path) -> None:
    cheap, dear = (report(tmp_path, lines_in("zap"), llm_price_in=price)["cost"] for price in (1.0, 2.0))
    assert cheap["questions"] == 4 and cheap["calls"] == 1 and cheap["tokens_in"] > 500
    assert dear["money"] > cheap["money"] > 0
    one_each = report(tmp_path, lines_in("zap"), llm_items_per_call=1)["cost"]
    assert one_each["calls"] == 4 and one_each["tokens_in"] > cheap["tokens_in"]


def test_a_sample_is_whole_blocks_of_the_files(tmp_path: Path) -> None:
    lines = [str(n).encode() for n in range(1000)]
    found = [int(line) for line in blocks(lines, 100)]
    assert (found[0], found[-1], len(found)) == (0, 999, 100)
    assert sum(b - a != 1 for a, b in pairwise(found)) == 2
    first, second = put(tmp_path, ["one\r"] * 300, "a.log"), put(tmp_path, ["two"] * 30, "b.log")
    sample = read_sample([first, second], 100)
    assert (sample.n_lines, len(sample.lines), sample.lines[0], sample.lines[-1]) == (330, 79, "one", "two")


def input_path(paths: list[Path], data: Path | None) -> tuple[str, Path, str | None]:
    found = origin_of(paths, data)
    return found.path, found.folder, max(found.days, default=None)


def test_names_with_days_become_one_path(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    paths = [put(tmp_path / "web", ["x"], name) for name in ("app1-2026-03-03.log", "app1-2026-03-04.log", "app2-2026-03-04.log")]
    assert input_path(paths, tmp_path) == ("web/app*-{ds}.log", tmp_path.resolve(), "2026-03-04")
    assert input_path(paths[:2], None) == ("app1-{ds}.log", (tmp_path / "web").resolve(), "2026-03-04")
    assert input_path([put(tmp_path, ["x"], "app.log")], None)[::2] == ("app.log", None)


PATHS = {
    "app.log-20260304": "app.log-{ds_nodash}",
    "app.log-20260304.gz": "app.log-{ds_nodash}.gz",
    "app_2026_03_04.log": "app_{year}_{month}_{day}.log",
    "app-2026-03-04T05.log": "app-{ds}T{hour}.log",
    "app-2026030405.log": "app-{ds_nodash}{hour}.log",
    "app-2026-03-04T05-06-07Z.log": "app-{ds}T{hour}*.log",
    "2026-03-04/app-2026-03-04.log": "{ds}/app-{ds}.log",
    "2026/03/04/05/app.log": "{year}/{month}/{day}/{hour}/app.log",
    "logs of [shop]/app-2026-03-04.log": "logs of [[]shop]/app-{ds}.log",
}


@pytest.mark.parametrize("name", PATHS)
def test_a_name_with_a_day_becomes_a_path_that_finds_it_and_other_days(tmp_path: Path, name: str) -> None:
    for each in (name, name.replace("03-04", "03-23").replace("0304", "0323").replace("03_04", "03_23").replace("03/04", "03/23")):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path, ["x"], each)
    path, folder, day = input_path([tmp_path / name], tmp_path)
    assert (path, folder, day) == (PATHS[name], tmp_path.resolve(), "2026-03-04")
    system = System(name="app", role="target", input=Input(path=path), session=Session(kind="field"))
    assert find_days(system, tmp_path) == ["2026-03-04", "2026-03-23"]
    assert find_files(system, tmp_path, "2026-03-04") == [tmp_path / name]


def test_a_day_in_folders_alone_needs_no_data_folder(tmp_path: Path) -> None:
    (tmp_path / "2026/03/04").mkdir(parents=True)
    log = put(tmp_path, ["x"], "2026/03/04/app.log")
    assert input_path([log], None) == ("{year}/{month}/{day}/app.log", tmp_path.resolve(), "2026-03-04")
    assert input_path([put(tmp_path, ["x"], "app-20261399.log")], None)[::2] == ("app-20261399.log", None)
    mixed = [put(tmp_path, ["x"], name) for name in ("app-20260304.log", "app-2026-03-04.log")]
    assert input_path(mixed, None)[::2] == ("app-2026*04.log", None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "json"}, "need them"),
        ({"keys": {"message": "msg"}}, "belong to"),
        ({"kind": "json", "keys": {"level": "lvl"}}, "key of the message"),
        ({"kind": "json", "keys": {"message": "$.a..b"}}, "not a path"),
        ({"kind": "json", "keys": {"message": "m", "level": ["a", "b"]}}, "only `message`"),
        ({"kind": "logfmt", "keys": {"message": "m", "time": "t"}, "pattern": "(?P<time>.) (?P<message>.*)"}, "no group"),
    ],
)
def test_headers_of_named_values_are_checked(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Header.model_validate(given)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "glob"), [("hdfs", "hdfs/hdfs-2008-11-09*"), ("bgl", "bgl/*03.log*"), ("openstack", "openstack/*.log.gz")]
)
def test_real_logs_are_split_as_their_shipped_files_do(shared: Path, name: str, glob: str) -> None:
    from nightlog.onboarding.trial import try_system

    files = sorted((shared / "data" / "raw").glob(glob))
    found, ours = report_of(files, "x", 20_000, Settings())
    shipped = load_catalog()[name]
    lines = read_sample(files, 20_000).lines
    labelled = shipped.labels and shipped.labels.pattern
    theirs = try_system([line.split(" ", 1)[1] for line in lines] if labelled else lines, shipped, found["ds"])
    assert ours.matched_share >= theirs.matched_share and ours.timed_share >= theirs.timed_share
    by_line = [{frozenset(t.matched[p].record.line for p in s.events) for s in t.sessions.values()} for t in (ours, theirs)]
    assert len(by_line[0] & by_line[1]) >= 0.99 * len(by_line[1])
