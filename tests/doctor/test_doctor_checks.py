"""Each check says what it should of what is wrong, and nothing of what is well; nothing that it looks at is changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from llm_stub import answer_all, completion
from nightlog.doctor import CheckResult, State, machine
from nightlog.doctor.endpoint import endpoint
from nightlog.doctor.look import guarded, look, worst
from nightlog.doctor.systems import catalogue, inputs, last_nights, late_files
from nightlog.doctor.tables import folder, models, tables, unjudged_ahead
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, MODELS, NIGHTS, OUTCOMES, QUARANTINE
from nightlog.settings import Settings
from nights import add_toy_model, small_system

GIB = 1 << 30
DS = "2026-03-04"


@pytest.fixture
def bare(tmp_path: Path) -> Lake:
    (tmp_path / "lake").mkdir(mode=0o750)
    return Lake(tmp_path / "lake")


def states(findings: Any) -> list[str]:
    return [str(finding.state) for finding in findings]


def told(findings: Any) -> str:
    """What is not ok; each such finding says what to do."""
    bad = [finding for finding in findings if finding.state != State.OK]
    assert all(finding.todo and finding.what for finding in bad)
    return "\n".join(f"{finding.state}: {finding.what} -> {finding.todo}" for finding in bad)


# The machine


def test_python_and_java_are_those_that_were_tested() -> None:
    python = [machine.python((3, 11, 9)), machine.python((3, 13, 0)), machine.python((3, 14, 0)), machine.python((3, 10, 2))]
    assert states(python) == ["ok", "warning", "error", "error"]
    java = ['openjdk version "17.0.15"', 'openjdk version "21.0.1"', 'java version "1.8.0_401"', 'openjdk version "11.0.2"', "not found"]
    assert states(map(machine.java, java)) == ["ok", "warning", "error", "error", "error"]
    assert machine.ask_java("/nowhere") == ""


def test_packages_that_are_missing_or_others_are_named() -> None:
    there = {"a": "1.0", "b": "2.1"}

    def version(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    assert states(machine.packages(["a==1.0"], version)) == ["ok"]
    found = told(machine.packages(["a==1.0", "b==2.0", "c==3.0; python_version<'4'"], version))
    assert (
        "error: 1 packages are missing: c" in found
        and "warning: 1 packages are not those that were tested: b 2.1 instead of ==2.0" in found
    )


def test_an_installation_without_any_package_of_jobs_only_reads() -> None:
    there = {"a": "1.5", "b": "2.1"}

    def version(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    (reading,) = machine.packages(["a>=1,<2", 'c>=3; extra == "jobs"', 'd; extra == "jobs"'], version)
    assert reading.state == State.OK and "pip install 'nightlog[jobs]'" in reading.what
    half = told(machine.packages(["a>=1,<2", 'b>=2; extra == "jobs"', 'd; extra == "jobs"'], version))
    assert "error: 1 packages are missing: d" in half
    assert states(machine.packages(["a>=1,<2", 'b>=2; extra == "jobs"', 'e; extra == "other"'], version)) == ["ok"]
    assert states(machine.packages(["a>=1,<2", 'b>=2; extra == "jobs"', 'a<1; extra == "other"'], version)) == ["warning"]


def test_memory_and_disk_have_room_for_a_night(tmp_path: Path) -> None:
    assert states(
        [machine.memory(8 * GIB, "4g"), machine.memory(5 * GIB, "4g"), machine.memory(8 * GIB, "much"), machine.memory(None, "4g")]
    ) == [
        "ok",
        "warning",
        "error",
        "ok",
    ]
    assert states([machine.disk(free, "lake") for free in (50 * GIB, 2 * GIB, GIB // 4)]) == ["ok", "warning", "error"]
    (tmp_path / "meminfo").write_text("MemTotal:       8388608 kB\n")
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "less").write_text(f"{2 * GIB}\n")
    assert machine.total_memory(tmp_path / "meminfo", tmp_path / "max") == 8 * GIB
    assert machine.total_memory(tmp_path / "meminfo", tmp_path / "less") == 2 * GIB
    assert machine.total_memory(tmp_path / "none", tmp_path / "max") is None


# The lake


def test_a_lake_is_reached_written_and_closed_to_strangers(bare: Lake, tmp_path: Path) -> None:
    assert states(folder(bare)) == ["ok", "ok"]
    root = Path(bare.root)
    root.chmod(0o755)
    assert "warning: anybody may read" in told(folder(bare)) and "chmod 750" in told(folder(bare))
    root.chmod(0o777)
    assert "error: anybody may write" in told(folder(bare))
    (tmp_path / "file").write_text("x")
    assert states(folder(Lake(tmp_path / "file"))) == ["error"]
    assert states(folder(Lake(tmp_path / "new" / "lake"))) == ["warning"]
    assert list(root.iterdir()) == [], "the probe is gone"


def test_a_lake_that_cannot_be_written_is_an_error() -> None:
    found = list(folder(Lake("/proc/self")))
    assert found[0].state == State.ERROR and "cannot be written" in found[0].what


def test_a_model_that_cannot_flag_beside_an_llm_that_is_off_is_told_before_the_night(bare: Lake) -> None:
    system = small_system("shop")
    add_toy_model(bare)
    assert list(unjudged_ahead(bare, [system], is_llm_off=True)) == [], "this model flags"
    (row,) = bare.rows(MODELS)
    manifest = json.loads(row["manifest"]) | {"foreign_threshold": None}
    bare.merge(MODELS, [row | {"manifest": json.dumps(manifest)}])
    assert list(unjudged_ahead(bare, [system], is_llm_off=False)) == []
    text = told(unjudged_ahead(bare, [system], is_llm_off=True))
    assert "warning: shop: no LLM judges" in text and "no session unlike the training systems: these are judged by nobody" in text
    bare.merge(MODELS, [row | {"manifest": json.dumps(manifest | {"threshold": 1.01})}])
    assert "none of its sessions" in told(unjudged_ahead(bare, [system], is_llm_off=True))


def test_tables_have_the_columns_protocol_and_files_of_this_version(bare: Lake) -> None:
    row = {"system": "app", "ds": DS, "stage": "parse", "reason": "x", "row": "{}", "run_id": "r"}
    bare.append(QUARANTINE, [row])
    bare.append(NIGHTS, [{"system": "app", "ds": DS, "outcome": "done"}])
    assert states(tables(bare, 14)) == ["ok"]

    def broken(spec: Any, change: Any) -> str:
        copy = f"{bare.path(spec)}.copy"
        shutil.copytree(bare.path(spec), copy)
        change(bare.path(spec))
        found = told(tables(Lake(bare.root), 14))
        shutil.rmtree(bare.path(spec))
        shutil.move(copy, bare.path(spec))
        return found

    def without_a_key(path: str) -> None:
        write_deltalake(path, DeltaTable(path).to_pyarrow_table().drop_columns(["row"]), mode="overwrite", schema_mode="overwrite")

    def with_another_type(path: str) -> None:
        table = DeltaTable(path).to_pyarrow_table()
        at = table.schema.get_field_index("run_id")
        write_deltalake(path, table.set_column(at, "run_id", table["stage"].is_null()), mode="overwrite", schema_mode="overwrite")

    def with_a_column(path: str) -> None:
        table = DeltaTable(path).to_pyarrow_table()
        write_deltalake(path, table.append_column("mine", table["stage"]), mode="append", schema_mode="merge")

    def of_a_newer_protocol(path: str) -> None:
        action = {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["deletionVectors"],
            }
        }
        Path(path, "_delta_log", f"{DeltaTable(path).version() + 1:020}.json").write_text(json.dumps(action) + "\n")

    def of_the_far_future(path: str) -> None:
        action = {"protocol": {"minReaderVersion": 99, "minWriterVersion": 99}}
        Path(path, "_delta_log", f"{DeltaTable(path).version() + 1:020}.json").write_text(json.dumps(action) + "\n")

    def without_a_file(path: str) -> None:
        Path(DeltaTable(path).file_uris()[0].removeprefix("file://")).unlink()

    def with_a_garbled_log(path: str) -> None:
        Path(path, "_delta_log", f"{DeltaTable(path).version():020}.json").write_text("{nonsense")

    for change, words in (
        (without_a_key, "lacks row, which identifies a row"),
        (with_another_type, "has run_id of type boolean, expected string"),
        (with_a_column, "warning: ops.quarantine has unknown columns: mine"),
        (of_a_newer_protocol, "error: ops.quarantine has protocol 3/7, expected 1/2"),
        (of_the_far_future, "error: ops.quarantine"),
        (without_a_file, "error: ops.quarantine lacks 1 of its 1 files"),
        (with_a_garbled_log, "error: ops.quarantine cannot be read"),
    ):
        assert words in broken(QUARANTINE, change), change.__name__
    assert states(tables(bare, 14)) == ["ok"]


def test_a_table_that_will_gain_a_column_is_well(bare: Lake) -> None:
    bare.append(QUARANTINE, [{"system": "app", "ds": "2026-03-04", "stage": "parse", "row": "{}"}])
    path = bare.path(QUARANTINE)
    write_deltalake(path, DeltaTable(path).to_pyarrow_table().drop_columns(["reason"]), mode="overwrite", schema_mode="overwrite")
    assert states(tables(bare, 14)) == ["ok"]


def test_leftovers_and_crowds_of_files_are_work_for_maintenance(bare: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightlog.doctor.tables.MANY_LEFTOVERS", 1)
    monkeypatch.setattr("nightlog.doctor.tables.MANY_FILES", 2)
    for n in range(3):
        bare.append(ANSWERS, [{"system": "app", "group": str(n)}])
    for n in range(2):
        path = Path(bare.path(ANSWERS), f"left{n}.parquet")
        path.write_bytes(b"half")
        os.utime(path, (1, 1))
    found = told(tables(bare, 14))
    assert "2 files that no version needs -> run `nightlog maintain`" in found and "made of 3 files" in found


# Models


def test_the_models_that_serve_are_there_unaltered_and_of_this_version(bare: Lake) -> None:
    (found,) = models(bare)
    assert found.state == State.OK and "the general model that ships" in found.what
    add_toy_model(bare)
    assert states(models(bare)) == ["ok"]
    (path,) = Path(bare.root, "models").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "was altered" in told(models(bare))
    path.unlink()
    assert "cannot be read" in told(models(bare)) and "No such file" in told(models(bare))
    path.write_bytes(whole)
    path.with_name(f".{path.name}.1.part").write_bytes(b"half")
    assert states(models(bare)) == ["ok", "warning"]


# The endpoint


@pytest.fixture
def listing() -> Iterator[tuple[str, list[Any], list[tuple[str, str, int]]]]:
    """An endpoint that answers with (status, body), and notes what it was asked: method, path, bytes of the body."""
    answer: list[Any] = [200, {"object": "list", "data": [{"id": "gpt-5-mini", "object": "model", "created": 1, "owned_by": "x"}]}]
    asked: list[tuple[str, str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append((self.command, self.path, int(self.headers.get("Content-Length") or 0)))
            data = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.command, self.path, len(json.dumps(body))))
            found = answer[2](body) if len(answer) > 2 else answer_all(body)
            status, reply = (200, completion(found)) if isinstance(found, str) else found
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", answer, asked
    server.shutdown()


def asking(url: str, **more: Any) -> Settings:
    return Settings(
        **{"llm": "openai", "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-secret-000", "llm_hosts": "127.0.0.1,.example.org"} | more
    )


def test_an_endpoint_is_asked_only_online_and_gets_one_question_of_no_log(listing: tuple[str, list[Any], list[Any]]) -> None:
    url, answer, asked = listing
    assert states(endpoint(asking(url), online=False)) == ["ok"] and asked == []
    found = list(endpoint(asking(url), online=True))
    assert states(found) == ["ok", "ok", "ok"]
    assert [call[:2] for call in asked] == [("GET", "/v1/models"), ("POST", "/v1/chat/completions")]
    assert re.search(r"answered in [\d.]+ s, \d+ tokens a second; 100 new patterns take about \d+ min", found[-1].what)
    for status, body, words in (
        (401, {"error": {"message": "sk-secret-000"}}, "error: the key is refused (status 401)"),
        (404, {}, "warning: answers, but has no list of models"),
        (503, {}, "warning: answers with status 503"),
        (200, b"<html>", "error: no sound answer"),
        (200, {"data": 7}, "error: no sound answer"),
    ):
        answer[:] = [status, body]
        text = told(endpoint(asking(url), online=True))
        assert words in text and "sk-secret" not in text


def test_a_model_that_is_not_listed_has_a_near_name(listing: tuple[str, list[Any], list[Any]]) -> None:
    url, _, _ = listing
    text = told(endpoint(asking(url, llm_model="gpt5-mini"), online=True))
    assert "does not list gpt5-mini (did you mean `gpt-5-mini`?)" in text


def test_one_question_shows_what_a_night_would_meet(listing: tuple[str, list[Any], list[Any]], bare: Lake) -> None:
    url, answer, _ = listing
    listed = answer[:2]

    def asked_with(reaction: Any, **settings: Any) -> str:
        answer[:] = [*listed, reaction]
        return told(list(endpoint(asking(url, **settings), True, bare))[-1:])

    malformed = asked_with(lambda body: "Sure! All is well.")
    assert re.search(r"error: one question, \d+\.\d s: the answer is not JSON of the agreed form", malformed)
    assert "error: one question: 127.0.0.1 answered 429 insufficient_quota" in asked_with(
        lambda body: (429, {"error": {"code": "insufficient_quota"}})
    )
    refused = asked_with(lambda body: (400, {"error": {"type": "invalid_request_error"}}))
    assert "127.0.0.1 answered 400 invalid_request_error: check NIGHTLOG_LLM_MODEL, NIGHTLOG_LLM_SCHEMA_BOUNDS" in refused

    def slow(body: Any) -> str:
        time.sleep(0.5)
        return answer_all(body)

    late = asked_with(slow, llm_timeout_s=0.2)
    assert "did not answer in time (0.2 s, NIGHTLOG_LLM_TIMEOUT_S)" in late
    bare.append(NIGHTS, [{"system": "shop", "ds": ds, "run_llm_items": n} for ds, n in (("2026-03-03", 9000), (DS, 240))])
    assert asked_with(slow) == "", "two of the 120 minutes are enough"
    few = asked_with(slow, llm_minutes_per_night=1)
    assert "240 patterns, as on the systems' last nights, take about" in few
    assert "warning" in few and "raise NIGHTLOG_LLM_MINUTES_PER_NIGHT" in few


def test_what_would_be_refused_at_night_is_told_by_day(tmp_path: Path) -> None:
    assert states(endpoint(Settings(llm="off"), online=True)) == ["ok"]
    assert states(endpoint(Settings(llm="recorded"), online=True)) == ["ok"]
    assert "NIGHTLOG_LLM_RECORDED" in told(endpoint(Settings(llm="recorded", llm_recorded=tmp_path / "none"), online=False))
    assert "NIGHTLOG_LLM_HOSTS allows only" in told(endpoint(asking("https://evil.net/v1"), online=True))
    assert "in the clear" in told(endpoint(asking("http://llm.example.org/v1"), online=True))
    assert "any host may be named" in told(endpoint(asking("https://llm.example.org/v1", llm_hosts=""), online=False))
    assert "no key is set" in told(endpoint(Settings(llm="openai"), online=False))
    assert states(endpoint(asking("http://127.0.0.1:8080/v1", OPENAI_API_KEY=None), online=False)) == ["ok", "ok"]
    assert states(endpoint(asking("https://llm.example.org/v1", OPENAI_API_KEY=None), online=False)) == ["ok", "warning"]
    assert "no sound answer" in told(endpoint(asking("http://127.0.0.1:9/v1"), online=True))


# Systems


def test_each_system_file_is_read_and_the_bad_ones_are_told_with_their_path(tmp_path: Path) -> None:
    good = 'name = "shop"\nrole = "target"\n[input]\npath = "shop/{ds}.log"\n[session]\nkind = "field"\nfield = "message"\n'
    (tmp_path / "good.toml").write_text(good)
    (tmp_path / "twice.toml").write_text(good)
    (tmp_path / "key.toml").write_text(good.replace("path", "pathh"))
    (tmp_path / "cut.toml").write_text(good[:-4])
    found, own, faults = catalogue(tmp_path)
    assert own == {"shop"} and "hdfs" in found
    text = told(faults)
    assert "key.toml" in text and "did you mean `path`" in text and "cut.toml: not TOML" in text and "two files describe shop" in text
    assert "no such folder" in told(catalogue(tmp_path / "none")[2])


def test_paths_find_logs(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / f"{DS}.log").write_text("x\n")
    found = list(inputs([small_system("one"), small_system("two")], tmp_path))
    assert states(found) == ["ok", "warning"] and "two: no file matches" in found[1].what
    assert states(inputs([small_system("one")], tmp_path / "none")) == ["error"]


def test_the_last_night_of_each_system_is_told() -> None:
    def night(system: str, ds: str, outcome: str) -> dict[str, Any]:
        return {"system": system, "ds": ds, "outcome": outcome, "detail": "why", "n_anomalies": 3}

    rows = [night("well", "2026-03-02", "failed"), night("well", DS, "done"), night("held", DS, "gated"), night("cut", DS, "failed")]
    rows += [night("idle", "2026-03-01", "done"), night("dry", DS, "no_input")]
    names = ("well", "held", "cut", "idle", "dry", "new", "since")
    days = {"well": "2026-03-05", "idle": "2026-03-04", "new": DS}
    rows += [night("since", DS, "done")]
    noon = datetime(2026, 3, 5, 12, tzinfo=UTC)
    outcomes = [night("since", DS, outcome) | {"at": noon + timedelta(hours=n)} for n, outcome in enumerate(("done", "gated"))]
    outcomes += [night("well", DS, outcome) | {"at": noon + timedelta(hours=n)} for n, outcome in enumerate(("failed", "done"))]
    found = list(last_nights([small_system(name) for name in names], rows, outcomes, days))
    assert states(found) == ["ok", "error", "error", "warning", "warning", "warning", "error"], "a later run of a published night counts"
    text = told(found)
    for words in (
        f"nightlog approve --ds {DS} --system held",
        f"nightlog run --ds {DS} --system cut",
        "files of 2026-03-04",
        "new: no night yet",
    ):
        assert words in text


def test_a_file_that_comes_after_its_night_is_told(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    for ds in ("2026-03-03", DS):
        (tmp_path / "app" / f"{ds}.log").write_text("x\n")
        os.utime(tmp_path / "app" / f"{ds}.log", (datetime(2026, 3, 5, 1, tzinfo=UTC).timestamp(),) * 2)
    rows = [{"system": "app", "ds": ds, "outcome": "done", "run_at": datetime(2026, 3, 5, 2, tzinfo=UTC)} for ds in ("2026-03-03", DS)]
    assert list(late_files([small_system("app")], rows, tmp_path)) == []
    (tmp_path / "app" / "2026-03-03.log.1").write_text("late\n")
    found = told(late_files([small_system("app")], rows, tmp_path))
    assert "1 files of 2026-03-03 came or changed after the night" in found and "nightlog run --ds 2026-03-03 --system app" in found


# All of it


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(bare: Lake) -> None:
    def breaks() -> list[CheckResult]:
        raise ValueError("boom")

    assert "could not be checked: ValueError: boom" in told(guarded("lake", breaks))
    bare.append(OUTCOMES, [{"run_id": "r", "system": "app", "ds": DS}])
    Path(bare.path(NIGHTS)).mkdir(parents=True)
    found = look(Settings(lake=Path(bare.root), llm="off"), None, datetime(2026, 3, 5, tzinfo=UTC), online=False)
    assert {finding.area for finding in found} == {"machine", "lake", "models", "llm", "systems"}
    assert worst(found) == State.WARNING, "a lake without a trained model is no error"


def test_the_command_says_all_of_it_and_its_exit_code_is_1_on_errors(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTLOG_", "OPENAI_"))} | {"COLUMNS": "200"}
    program = [str(Path(sys.executable).with_name("nightlog")), "doctor", "--lake", str(tmp_path / "lake")]
    done = subprocess.run([*program, "--format", "json"], capture_output=True, text=True, env=clean, check=False)
    rows = json.loads(done.stdout)
    assert done.returncode == 0 and {"state", "area", "what", "where", "todo"} == set(rows[0])
    wrong = clean | {"NIGHTLOG_REPLAY_DAYS": "2", "NIGHTLOG_LLM": "sometimes"}
    done = subprocess.run([*program, "--format", "json"], capture_output=True, text=True, env=wrong, check=False)
    assert done.returncode == 1
    assert [row["what"].split(":")[0] for row in json.loads(done.stdout)] == ["NIGHTLOG_LLM", "NIGHTLOG_REPLAY_DAYS"]
    shown = subprocess.run(program, capture_output=True, text=True, env=clean | {"NIGHTLOG_SYSTEMS": str(tmp_path / "none")}, check=False)
    assert shown.returncode == 1
    for words in ("the general model that ships", "NIGHTLOG_SYSTEMS must name a folder", "errors,"):
        assert words in shown.stdout
