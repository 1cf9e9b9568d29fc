"""Where templates and key may go: allowed hosts, TLS, no redirects, no proxy for this machine."""

from __future__ import annotations

from typing import Any

import pytest
from llm_stub import Stub, settings_at
from nightlog.errors import ConfigError
from nightlog.llm.connection import checked_url
from nightlog.llm.items import Item
from nightlog.llm.judge import make_judge
from nightlog.settings import Settings
from nightlog.systems.spec import System

KEY = "sk-test-key-000000"


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        (None, {}),
        (None, {"llm_hosts": "api.openai.com"}),
        ("https://llm.example.org/v1", {}),
        ("https://llm.example.org/v1", {"llm_hosts": "api.openai.com, LLM.example.org"}),
        ("https://llm.example.org:8443/v1", {"llm_hosts": ".example.org"}),
        ("http://localhost:8099/v1", {}),
        ("http://127.0.0.7:8099/v1", {}),
        ("http://[::1]:8099/v1", {}),
        ("http://10.1.2.3:8099/v1", {"llm_plain_http": True}),
    ],
)
def test_allowed_addresses(url: str | None, settings: dict[str, Any]) -> None:
    assert checked_url(Settings(OPENAI_BASE_URL=url, **settings)) == (url or "https://api.openai.com/v1")


@pytest.mark.parametrize(
    ("url", "settings", "told"),
    [
        ("http://llm.example.org/v1", {}, "in the clear; use https://, or NIGHTLOG_LLM_PLAIN_HTTP=true"),
        ("http://10.1.2.3/v1", {}, "in the clear"),
        ("http://127.0.0.1.example.org/v1", {}, "in the clear"),
        ("http://localhost.example.org/v1", {}, "in the clear"),
        (None, {"llm_hosts": "llm.example.org"}, "names api.openai.com, and NIGHTLOG_LLM_HOSTS allows only llm.example.org"),
        ("https://evil-example.org/v1", {"llm_hosts": ".example.org"}, "NIGHTLOG_LLM_HOSTS"),
        ("https://example.org.evil.net/v1", {"llm_hosts": ".example.org,example.org"}, "NIGHTLOG_LLM_HOSTS"),
        ("https://llm.example.org@evil.net/v1", {"llm_hosts": "llm.example.org"}, "holds a user"),
        ("https://user:hunter2@llm.example.org/v1", {}, "holds a user, a password or a query"),
        ("https://llm.example.org/v1?key=hunter2", {}, "holds a user, a password or a query"),
        ("https://llm.example.org:http/v1", {}, "is not an address"),
        ("https://[::1/v1", {}, "is not an address"),
        ("ftp://llm.example.org/v1", {}, "is not an address"),
    ],
)
def test_refused_addresses(url: str | None, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_judge(Settings(llm="openai", OPENAI_BASE_URL=url, OPENAI_API_KEY=KEY, **settings))
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(stub: Stub, judge_at: Any, system: System, status: int) -> None:
    other = Stub()
    stub.reactions = [lambda body: (status, "", {"Location": other.url + "/chat/completions"})]
    (answer,) = judge_at(stub.url).judge(system, [Item("q", (("step", 1),))])
    assert (other.requests, len(stub.requests)) == ([], 1)
    assert f"answered {status}: no redirect is followed" in str(answer.trouble)
    other.server.shutdown()
    other.server.server_close()


def test_what_is_for_this_machine_goes_through_no_proxy(stub: Stub, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Stub()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    judge = make_judge(settings_at(stub.url))
    assert judge is not None
    (answer,) = judge.judge(system, [Item("q", (("step", 1),))])
    assert (len(answer.verdicts), proxy.requests) == (1, [])
    proxy.server.shutdown()
    proxy.server.server_close()


def test_a_key_is_in_no_text_of_the_settings() -> None:
    assert KEY not in f"{settings_at('http://localhost/v1')!r}{settings_at('http://localhost/v1')}"
