"""The webhook: a night in a few lines of Slack-compatible JSON. Counts, names of systems, outcomes and a link; no text of logs or LLMs."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nightlog.errors import ConfigError, TransientError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS, OUTCOMES
from nightlog.outcomes import is_published
from nightlog.pages.model import outcome_of
from nightlog.pages.words import OUTCOMES as OUTCOME_WORDS
from nightlog.pages.words import long_day, n_of

SHOWN_SYSTEMS = 30
LONGEST_LINE = 90  # letters; Slack takes 3,000 in a section
PAUSES_S = (1.0, 4.0)  # before the second and the third try


@dataclass(frozen=True)
class Told:
    """What a message says of a system: its outcome (and the stage that it comes from), and counts of what is published."""

    system: str
    outcome: str
    stage: str = ""
    n_sessions: int | None = None
    n_anomalies: int | None = None
    n_provisional: int | None = None

    def line(self) -> str:
        """The system in a line.

        >>> Told("shop", "done", "publish", 1610, 52, 3).line(), Told("mail", "gated", "parse").line()
        ('shop: 52 of 1,610 sessions, 3 of them provisional', 'mail: stopped by a quality gate in stage parse')
        """
        parts = [] if self.outcome == "done" else [OUTCOME_WORDS.get(self.outcome, "failed")]
        if self.outcome not in ("done", "no_input") and self.stage:
            parts[0] += f" in stage {self.stage}"
        if self.n_anomalies is not None:
            counts = f"{self.n_anomalies:,} of {n_of(self.n_sessions, 'session')}"
            counts += f", {self.n_provisional:,} of them provisional" if self.n_provisional else ""
            parts.append(f"published earlier: {counts}" if parts else counts)
        return f"{self.system}: {'; '.join(parts) or 'done'}"


def tell_night(lake: Lake, ds: str, pages_url: str) -> tuple[dict[str, Any], str]:
    """The message about a night as the lake has it now, and a hash of it. `pages_url`: where the pages are served, may be empty."""
    nights = {row["system"]: row for row in lake.rows(NIGHTS, ds=ds)}
    outcomes = lake.rows(OUTCOMES, ds=ds)
    told = []
    for system in sorted(nights.keys() | {row["system"] for row in outcomes}):
        own = [row for row in outcomes if row["system"] == system]
        night = nights.get(system, {})
        counts = (
            {name: night[name] for name in ("n_sessions", "n_anomalies", "n_provisional")} if is_published(night.get("outcome")) else {}
        )
        found = outcome_of(own)[0] if own else None
        told.append(Told(system, found.outcome if found else night["outcome"], found.stage if found else "", **counts))
    link = f"{pages_url.rstrip('/')}/{ds}/index.html" if pages_url else ""
    body = message(ds, told, link)
    return body, hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def message(ds: str, systems: Sequence[Told], link: str) -> dict[str, Any]:
    """The JSON: `text` for whatever reads only that, `blocks` for Slack. Systems that did not end well come first, then those with most."""
    ill = [each for each in systems if each.outcome not in ("done", "no_input")]
    found = sum(each.n_anomalies or 0 for each in systems)
    head = f"Nightlog, {long_day(ds)}: {n_of(found, 'anomalous session')}"
    head += f"; {n_of(len(ill), 'system')} did not end well" if ill else ""
    ranked = sorted(systems, key=lambda each: (each not in ill, -(each.n_anomalies or 0), each.system))
    lines = [escaped(each.line()[:LONGEST_LINE]) for each in ranked[:SHOWN_SYSTEMS]]
    if len(ranked) > SHOWN_SYSTEMS:
        lines.append(f"and {n_of(len(ranked) - SHOWN_SYSTEMS, 'more system')}")
    text = [head, *(f"• {line}" for line in lines)]
    if link:
        text.append(f"<{escaped(link)}|The night's page>")
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join([f"*{head}*", *text[1:]])}}
    return {"text": "\n".join(text), "blocks": [section]}


def escaped(text: str) -> str:
    """Text in Slack's markup.

    >>> escaped("a & b <!channel>")
    'a &amp; b &lt;!channel&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def post(url: str, body: dict[str, Any], hosts: str, timeout_s: float, sleep: Callable[[float], None] = time.sleep) -> str:
    """Send JSON, at most three times, and wait for nothing but the status. Returns the host.

    Raises: ConfigError where the address may not be used or the receiver refuses the message, TransientError where no try went through.
    No message holds the address: its path is most often the key.
    """
    host = checked_host(url, hosts)
    for pause in (*PAUSES_S, None):
        status = status_of(url, body, timeout_s)
        if isinstance(status, int) and 200 <= status < 300:
            return host
        if isinstance(status, int) and status < 500 and status != 429:
            told = "redirects are not followed" if 300 <= status < 400 else "it does not take the message"
            raise ConfigError(f"{host} answered {status}, {told}: see NIGHTLOG_WEBHOOK_URL")
        if pause is not None:
            sleep(pause)
    raise TransientError(f"{host} answered {status}" if isinstance(status, int) else f"{host}: {status}")


def checked_host(url: str, hosts: str) -> str:
    """The host of an allowed address. Raises ConfigError."""
    from nightlog.llm.connection import is_listed, is_loopback

    try:
        parts, host = urlsplit(url), (urlsplit(url).hostname or "").lower()
        _ = parts.port
    except ValueError:
        raise ConfigError("NIGHTLOG_WEBHOOK_URL is not an address such as https://host/path") from None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise ConfigError("NIGHTLOG_WEBHOOK_URL is not an address such as https://host/path, without user and password")
    if not is_listed(host, hosts):
        raise ConfigError(
            f"NIGHTLOG_WEBHOOK_URL names {host}, and NIGHTLOG_WEBHOOK_HOSTS allows only {hosts}; add it, or correct the address"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(f"NIGHTLOG_WEBHOOK_URL is http:// to {host}: use https://")
    return host


def status_of(url: str, body: dict[str, Any], timeout_s: float) -> int | str:
    """The status of one request, or what went wrong. The whole of it ends after `timeout_s`, however slowly the other side speaks."""
    import httpx2

    from nightlog.llm.connection import is_loopback

    found: list[int | str] = []

    def send() -> None:
        try:
            local = is_loopback(urlsplit(url).hostname or "")
            with (
                httpx2.Client(follow_redirects=False, trust_env=not local, timeout=timeout_s) as client,
                client.stream("POST", url, json=body) as response,
            ):
                found.append(response.status_code)
        except Exception as error:
            found.append(type(error).__name__)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return found[0] if found else f"no answer in {timeout_s:g} s"
