"""The webhook: a night as Slack-compatible JSON. Counts, names, outcomes, findings by id and a link; no text of logs or LLMs."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nightlog.errors import ConfigError, TransientError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, NIGHTS, OUTCOMES
from nightlog.outcomes import SUCCESSES, OutcomeKind, is_published
from nightlog.pages.model import RANKED_BY, rank, system_outcome
from nightlog.pages.words import BY, long_day, n_of
from nightlog.pages.words import OUTCOMES as OUTCOME_WORDS
from nightlog.publishing.account import input_sentence, night_sentence

SHOWN_SYSTEMS = 30
SHOWN_TROUBLES = 3  # of the systems that were not published, in the head line
SECTION_LINES = 25
LONGEST_LINE = 90  # letters; Slack takes 3,000 in a section
PAUSES_S = (1.0, 4.0)  # before the second and the third try


@dataclass(frozen=True)
class SystemMessage:
    """The part of a message about one system: its outcome (and the stage that it comes from), and its row of gold.nights, if published."""

    system: str
    outcome: str
    stage: str = ""
    night: Mapping[str, Any] | None = None

    @property
    def is_ill(self) -> bool:
        """True if the last run of the system's night did not publish it."""
        return self.outcome not in SUCCESSES

    @property
    def lacks_input(self) -> bool:
        """True if the night is published without the files that were due."""
        return self.night is not None and input_sentence(self.night) is not None

    @property
    def n_anomalies(self) -> int:
        """Anomalous sessions that are published."""
        return (self.night or {}).get("n_anomalies") or 0

    @property
    def n_unjudged(self) -> int:
        """Published sessions that nobody judged."""
        return (self.night or {}).get("n_unjudged") or 0

    def line(self) -> str:
        """Return the system in a line.

        >>> row = {"n_sessions": 1610, "n_anomalies": 52, "n_provisional": 3, "n_unjudged": 0}
        >>> SystemMessage("shop", "done", "publish", row).line(), SystemMessage("mail", "gated", "parse").line()
        ('shop: 52 of 1,610 sessions, 3 provisional', 'mail: stopped by a quality gate in stage parse')
        """
        parts = [self.trouble()] if self.is_ill else []
        parts += ["no input, only sessions that had waited are judged"] if self.lacks_input and not self.is_ill else []
        if self.night is not None:
            counts = f"{self.n_anomalies:,} of {n_of(self.night['n_sessions'], 'session')}"
            for name in ("unjudged", "provisional"):
                counts += f", {n:,} {name}" if (n := self.night.get(f"n_{name}")) else ""
            parts.append(f"published earlier: {counts}" if self.is_ill else counts)
        return f"{self.system}: {'; '.join(parts) or 'done'}"

    def trouble(self) -> str:
        """Return why the last run did not publish, in a few words."""
        where = f" in stage {self.stage}" if self.stage and self.outcome != OutcomeKind.NO_INPUT else ""
        return OUTCOME_WORDS.get(self.outcome, "failed") + where


def tell_night(lake: Lake, ds: str, pages_url: str, alerts: int) -> tuple[dict[str, Any], str]:
    """Return the message about a night as the lake has it now, and a hash of the night's findings and outcomes.

    Two nights with the same counts and different findings have different hashes. Args: pages_url: where the pages are served, may be empty;
    alerts: findings to list, at most.
    """
    nights = {row["system"]: row for row in lake.rows(NIGHTS, ds=ds)}
    outcomes = lake.rows(OUTCOMES, ds=ds)
    systems = []
    for system in sorted(nights.keys() | {row["system"] for row in outcomes}):
        own = [row for row in outcomes if row["system"] == system]
        night = nights.get(system)
        found = system_outcome(own)[0] if own else None
        outcome, stage = (found.outcome, found.stage) if found is not None else (str((night or {})["outcome"]), "")
        published = night if night is not None and is_published(night["outcome"]) else None
        systems.append(SystemMessage(system, outcome, stage, published))
    link = f"{pages_url.rstrip('/')}/{ds}/index.html" if pages_url else ""
    columns = ["system", "session_id", "pattern_id", "status"]
    well = {each.system for each in systems if each.night is not None and not each.is_ill}
    rows = lake.rows(ANOMALIES, [*columns, "score", "decided_by"], ds=ds)
    body = message(ds, systems, link, alert_lines([row for row in rows if row["system"] in well], alerts))
    findings = sorted(tuple(row[name] or "" for name in columns) for row in rows)
    return body, hashlib.sha256(json.dumps([body, findings], sort_keys=True).encode()).hexdigest()[:16]


def alert_lines(rows: Sequence[Mapping[str, Any]], alerts: int) -> list[str]:
    """Return how many findings are listed, and a line for each of the first, ranked as on the page; those suppressed are left out.

    >>> row = {"system": "shop", "pattern_id": "0a1b", "status": "open", "score": 0.9, "decided_by": "student"}
    >>> alert_lines([row, row, row | {"pattern_id": "2c3d", "score": 0.5}], 1)
    ['1 of 2 findings shown, ranked by probability × √sessions:', '1. shop 0a1b: 2 sessions, 0.90, by student']
    >>> alert_lines([], 1)
    []
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] != "suppressed":
            groups.setdefault((row["system"], row["pattern_id"]), []).append(row)
    order = sorted(groups, key=lambda name: (*rank(groups[name][0]["status"], groups[name][0]["score"], len(groups[name])), *name))
    lines = [f"{min(alerts, len(order)):,} of {n_of(len(order), 'finding')} shown, ranked by {RANKED_BY}:"] if order else []
    for number, name in enumerate(order[:alerts], 1):
        first, n = groups[name][0], n_of(len(groups[name]), "session")
        lines.append(f"{number}. {name[0][:40]} {name[1]}: {n}, {first['score']:.2f}, by {BY.get(first['decided_by'], '?')}")
    return lines


def message(ds: str, systems: Sequence[SystemMessage], link: str, findings: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON: `text` for receivers that read only that, `blocks` for Slack.

    Systems that were not published come first, then those with the most unjudged, then the most anomalous sessions. The number of anomalous
    sessions is that of the systems whose last run ended well: what an earlier run published stands in the lines of the others.
    """
    ill = [each for each in systems if each.is_ill]
    well = [each for each in systems if not each.is_ill]
    lacking = [each.system[:40] for each in well if each.lacks_input]
    nights = [{"system": each.system, **each.night} for each in systems if each.night is not None]
    parts = [sentence] if (sentence := night_sentence(nights)) is not None else []
    parts += [f"{n_of(len(ill), 'system')} not published ({listed_troubles(ill)})"] if ill else []
    if lacking:
        more = f" and {len(lacking) - SHOWN_TROUBLES:,} more" * (len(lacking) > SHOWN_TROUBLES)
        parts.append(f"no input for {', '.join(lacking[:SHOWN_TROUBLES])}{more}, only sessions that had waited are judged")
    found = n_of(sum(each.n_anomalies for each in well), "anomalous session") if well else "nothing new was published"
    found += f" in the other {n_of(len(well), 'system')}" if ill and well else ""
    head = f"Nightlog, {long_day(ds)}: {'; '.join([*parts, found])}"
    ranked = sorted(systems, key=lambda each: (not each.is_ill, -each.n_unjudged, -each.n_anomalies, each.system))
    lines = [escaped(each.line()[:LONGEST_LINE]) for each in ranked[:SHOWN_SYSTEMS]]
    if len(ranked) > SHOWN_SYSTEMS:
        lines.append(f"and {n_of(len(ranked) - SHOWN_SYSTEMS, 'more system')}")
    text = [escaped(head), *(f"• {line}" for line in lines)]
    listed = [escaped(line) for line in findings]
    end = [f"<{escaped(link)}|The night's page>"] if link else []
    sections = [[f"*{text[0]}*", *text[1:]], *(listed[at : at + SECTION_LINES] for at in range(0, len(listed), SECTION_LINES))]
    sections[-1] = [*sections[-1], *end]
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(part)}} for part in sections]
    return {"text": "\n".join([*text, *listed, *end]), "blocks": blocks}


def listed_troubles(ill: Sequence[SystemMessage]) -> str:
    """Return the systems that were not published and why, the first of them by name.

    >>> listed_troubles([SystemMessage("mail", "no_input"), SystemMessage("shop", "failed", "parse")])
    'mail: no input, shop: failed in stage parse'
    """
    named = ", ".join(f"{each.system[:40]}: {each.trouble()}" for each in ill[:SHOWN_TROUBLES])
    return named + f" and {len(ill) - SHOWN_TROUBLES:,} more" * (len(ill) > SHOWN_TROUBLES)


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
            why = "redirects are not followed" if 300 <= status < 400 else "it does not take the message"
            raise ConfigError(f"{host} answered {status}, {why}: see NIGHTLOG_WEBHOOK_URL")
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
