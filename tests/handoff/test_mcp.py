"""The MCP server, asked by the official client over standard input and output of a real process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import FINDINGS, SESSIONS
from page_lake import BEFORE, DS, HOSTILE, small_lake

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

PROGRAM = Path(sys.executable).with_name("nightlog")
SYSTEM = 'name = "{}"\nrole = "target"\n[input]\npath = "{{ds}}"\n[session]\nkind = "field"\nfield = "message"\n[llm]\nallowed = {}\n'
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake whose shop may be read, and whose secrets stand in reasons; `index` may not be read."""
    root = tmp_path_factory.mktemp("mcp")
    lake = small_lake(str(root / "lake"))
    for row in lake.rows(FINDINGS, ds=DS):
        place = {"system": row["system"], "ds": DS}
        session = {"session_id": row["example_session_id"], "pattern_id": row["pattern_id"], "n_events": 1}
        lake.append(SESSIONS, [place | session])
    rows = [row | {"reason": f"password=hunter2 from 10.1.2.3, {row['reason']}"} for row in lake.rows(FINDINGS, system="shop", ds=DS)]
    lake.replace(FINDINGS, rows, system="shop", ds=DS)
    (root / "systems").mkdir()
    for name, allowed in (("shop", "true"), ("index", "false")):
        (root / "systems" / f"{name}.toml").write_text(SYSTEM.format(name, allowed))
    return lake


def talk(lake: Lake, conversation: Callable[[Ask, list[str]], Awaitable[None]], *options: str) -> None:
    """Start the server, and hold a conversation: `ask(tool, **arguments)` returns the answer, or the message of an error as text."""

    async def run() -> None:
        systems = str(Path(lake.root).parent / "systems")
        environment = {**os.environ, "NIGHTLOG_SYSTEMS": systems}
        server = StdioServerParameters(command=str(PROGRAM), args=["mcp", "--lake", lake.root, *options], env=environment)
        async with Client(stdio_client(server)) as client:
            tools = (await client.list_tools()).tools

            async def ask(tool: str, **arguments: Any) -> Any:
                result = await client.call_tool(tool, arguments)
                text = result.content[0].text  # type: ignore[union-attr]
                return text if result.is_error else json.loads(text)

            assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
            await conversation(ask, sorted(tool.name for tool in tools))

    anyio.run(run)


@pytest.mark.slow
def test_an_assistant_gets_nights_findings_incidents_and_stories_redacted(lake: Lake) -> None:
    answers: list[Any] = []

    async def conversation(ask: Ask, tools: list[str]) -> None:
        assert tools == ["findings", "incidents", "nights", "query", "story"]
        nights = await ask("nights")
        assert {(row["ds"], row["system"]) for row in nights} >= {(DS, "shop"), (BEFORE, "shop")} and all(
            row["system"] == "shop" for row in nights
        ), "systems that are closed or unknown are left out"
        findings = await ask("findings")
        assert findings[0]["pattern_id"] == "p-lost" and findings[0]["is_new"] and findings[-1]["status"] == "suppressed"
        assert [row["pattern_id"] for row in await ask("findings", only_new=True)] == ["p-lost"]
        assert findings[0]["reason"].startswith("password=<SECRET> from <IP>")
        story = await ask("story", finding_id=findings[0]["finding_id"])
        assert story["story"]["session"]["system"] == "shop" and story["story"]["nights"]
        counted = await ask(
            "query", sql="select pattern_id, n_sessions, reason from gold.findings where is_new and ds = '2026-03-04'", limit=5
        )
        assert [(row["pattern_id"], row["n_sessions"]) for row in counted] == [("p-lost", 9)]
        answers.extend([nights, findings, story, counted, await ask("incidents"), await ask("query", sql="from v_nights")])
        for tool, arguments, words in (
            ("findings", {"ds": "2031-01-01"}, "is not published"),
            ("story", {"finding_id": "nosuch"}, "no finding `nosuch`"),
            ("query", {"sql": "select * from bronze.lines"}, "tables: gold.findings"),
            ("query", {"sql": "copy (select 1) to '/tmp/x.csv'"}, "disabled"),
            ("query", {"sql": "select * from read_text('/etc/passwd')"}, "disabled"),
        ):
            assert words in await ask(tool, **arguments), tool

    talk(lake, conversation)
    text = json.dumps(answers, ensure_ascii=False)
    for secret in ("hunter2", "10.1.2.3", HOSTILE, "p-lost-0", "a.log", "kim"):
        assert secret not in text, secret


@pytest.mark.slow
def test_an_assistant_on_this_machine_may_get_all_of_it(lake: Lake) -> None:
    async def conversation(ask: Ask, tools: list[str]) -> None:
        (row,) = await ask("query", sql=f"select lines[1].text as line from gold.anomalies where session_id = 'p-lost-0' and ds = '{DS}'")
        assert row["line"].startswith("raw p-lost-0")
        assert "index" in {row["system"] for row in await ask("nights")}
        assert len(await ask("query", sql="select * from range(1000)")) == 200

    talk(lake, conversation, "--raw")
