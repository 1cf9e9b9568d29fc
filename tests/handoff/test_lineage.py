"""Lineage events of a real night, received by a real HTTP server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from llm_stub import Stub
from nightlog.handoff.lineage import READS, WRITES, Place, dataset, with_lineage
from nightlog.lake.delta import DeltaTables
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, OPS, TableSpec
from nightlog.outcomes import Outcome, OutcomeKind, Stage
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog

pytest.importorskip("openlineage", reason="the extra `openlineage` is not installed")
NOW = datetime(2026, 3, 5, 3, tzinfo=UTC)
DS = "2026-03-04"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    stub = Stub()
    stub.reactions = [lambda _: (200, "{}", {})]
    monkeypatch.setenv("OPENLINEAGE_URL", stub.url.removesuffix("/v1"))
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "tests")
    monkeypatch.chdir(tmp_path)
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def outcome(kind: OutcomeKind, system: str = "shop") -> Outcome:
    return Outcome(system, Stage.PARSE, kind, "a secret of the logs", {}, 0.1)


def states(stub: Stub) -> list[tuple[str, str]]:
    return [(found["job"]["name"], found["eventType"]) for found in stub.requests]


@pytest.mark.slow
def test_a_night_reports_each_stage_with_the_tables_that_it_reads_and_writes(
    service: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = set[str]()
    readable = DeltaTables.readable

    def noted(lake: DeltaTables, spec: TableSpec) -> Any:
        read.add(spec.name)
        return readable(lake, spec)

    monkeypatch.setattr(DeltaTables, "readable", noted)
    lake = Lake(tmp_path / "lake")
    night = Night(DS, "r1", [load_catalog()["dovecot"]], lake, Settings(llm="off", device="cpu"), lambda: NOW)
    for stage in Stage:
        before = {spec.name for spec in ALL_TABLES if lake.exists(spec)}
        read.clear()
        list(night.run_stage(stage))
        written = {spec.name for spec in WRITES[stage]}
        known = written | {spec.name for spec in (*READS[stage], *OPS)}
        assert {spec.name for spec in ALL_TABLES if lake.exists(spec)} - before <= known, f"{stage} writes more than its events name"
        assert read <= known, f"{stage} reads more than its events name"
    assert states(service) == [(f"nightlog.{stage}", state) for stage in Stage for state in ("START", "COMPLETE")]
    for start, end in zip(service.requests[::2], service.requests[1::2], strict=True):
        assert start["run"]["runId"] == end["run"]["runId"]
    assert len({found["run"]["facets"]["parent"]["run"]["runId"] for found in service.requests}) == 1
    published = service.requests[-3]
    assert (published["job"]["namespace"], published["job"]["name"]) == ("tests", "nightlog.publish")
    assert {"file"} == {found["namespace"] for found in published["outputs"]}
    assert f"{tmp_path}/lake/gold/anomalies" in {found["name"] for found in published["outputs"]}
    assert published["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-03-04T00:00:00Z"
    (*_, logs) = service.requests[0]["inputs"]
    assert (logs["namespace"], logs["name"]) == dataset(str(Settings().logs), "")


def run(outcomes: Iterator[Outcome]) -> list[Outcome]:
    return list(with_lineage(Stage.PARSE, Place(DS, "r", "/lake", "/logs"), outcomes, lambda: NOW))


def test_a_system_that_fails_is_named_without_the_text_of_its_error(service: Stub) -> None:
    found = [outcome(OutcomeKind.DONE), outcome(OutcomeKind.NO_INPUT, "void"), outcome(OutcomeKind.GATED, "mail")]
    assert run(iter(found)) == found
    assert [state for _, state in states(service)] == ["START", "FAIL"]
    assert service.requests[1]["run"]["facets"]["errorMessage"]["message"] == "mail: gated"
    assert "a secret of the logs" not in str(service.requests)
    run(iter(found[:2]))
    assert states(service)[-1] == ("nightlog.parse", "COMPLETE")


def test_a_stage_that_breaks_off_is_reported_and_raises_what_it_raised(service: Stub) -> None:
    def broken() -> Iterator[Outcome]:
        yield outcome(OutcomeKind.DONE)
        raise RuntimeError("a secret of the logs")

    with pytest.raises(RuntimeError):
        run(broken())
    assert service.requests[-1]["eventType"] == "FAIL" and "a secret of the logs" not in str(service.requests)


def test_a_service_that_refuses_or_is_not_there_fails_nothing(
    service: Stub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service.reactions = [lambda _: (403, "no", {})]
    found = [outcome(OutcomeKind.DONE)]
    with caplog.at_level(logging.WARNING, "nightlog"):
        assert run(iter(found)) == found
    assert "was not sent" in caplog.text
    n = len(service.requests)
    monkeypatch.delenv("OPENLINEAGE_URL")
    assert run(iter(found)) == found and len(service.requests) == n, "without a transport nothing is sent"


def test_datasets_are_named_as_openlineage_names_files() -> None:
    names: list[Any] = [dataset("/srv/lake", "gold/nights"), dataset("s3://bucket/lake/", "gold/nights")]
    assert names == [("file", "/srv/lake/gold/nights"), ("s3://bucket", "lake/gold/nights")]
