"""A night whose LLM fails, then one whose questions wait in a batch, then the one that collects it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from batch_stub import BatchStub
from llm_stub import settings_at
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, NIGHTS
from nightlog.outcomes import Stage
from nightlog.run.night import Night
from nights import add_toy_model, rows_of, run_night, small_system

DS = "2026-03-04"


@pytest.mark.slow
def test_the_night_ends_its_rows_are_provisional_and_a_later_run_settles_them(
    lake: Lake, tmp_path: Path, write_log: Callable[[str, str, bytes], Path]
) -> None:
    write_log("shop", f"{DS}.log", b"".join(b"INFO s%d request served\n" % n for n in range(20)) + b"ERROR s99 disk broken\n")
    add_toy_model(lake)
    endpoint = BatchStub()
    shop = small_system("shop")

    def published() -> tuple[set[tuple[str, str, str]], dict[str, Any]]:
        rows = {(row["session_id"], row["decided_by"], row["status"]) for row in rows_of(lake, ANOMALIES, ds=DS)}
        (night,) = rows_of(lake, NIGHTS, ds=DS)
        return rows, night

    endpoint.status = {"POST /v1/chat/completions": 401}
    chat = settings_at(endpoint.url, data=tmp_path / "data", device="cpu")
    found = run_night(lake, chat, [shop], DS, "first")
    assert {outcome.outcome for outcome in found.values()} == {"done"}
    rows, night = published()
    assert rows
    assert {(by, status) for _, by, status in rows} == {("small_model", "provisional")}
    assert (night["outcome"], night["run_llm_calls"], night["run_llm_failed"], night["run_llm_waiting"]) == ("done", 1, 2, 0)
    assert "answered 401: check OPENAI_API_KEY" in night["run_llm_trouble"]

    batch = chat.model_copy(update={"llm_mode": "batch"})
    run_night(lake, batch, [shop], DS, "second")
    rows, night = published()
    assert {(by, status) for _, by, status in rows} == {("small_model", "provisional")}
    assert (night["run_llm_failed"], night["run_llm_waiting"]) == (0, 2)
    assert night["run_llm_trouble"] == "LLM: 2 of 2 proprietary patterns wait in a batch"

    endpoint.finish()
    again = Night(DS, "third", [shop], lake, batch, lambda: datetime.now(UTC))
    for stage in (Stage.LABEL, Stage.PUBLISH):
        assert [outcome.outcome for outcome in again.run_stage(stage)] == ["done"]
    rows, night = published()
    assert rows == {("s99", "llm", "open")}
    assert (night["run_llm_calls"], night["run_llm_failed"], night["run_llm_waiting"], night["run_llm_trouble"]) == (1, 0, 0, None)
    endpoint.server.shutdown()
    endpoint.server.server_close()
