"""The message about a night: outcomes, counts and findings, those that are new first; as Slack, Teams or generic JSON.

It holds no log line and no session id. It holds the reasons of findings, redacted like the templates that an LLM gets; a system whose
templates may not be sent to an LLM has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, FINDINGS, NIGHTS, OUTCOMES
from nightlog.llm.redaction import outgoing_template
from nightlog.outcomes import SUCCESSES, OutcomeKind, is_published
from nightlog.pages.model import anchor, system_outcome
from nightlog.pages.render import page_name
from nightlog.pages.words import BY, long_day, n_of
from nightlog.pages.words import OUTCOMES as OUTCOME_WORDS
from nightlog.publishing.account import input_sentence, night_sentence
from nightlog.settings import Webhook, WebhookForm
from nightlog.systems.spec import System

SHOWN_SYSTEMS = 30
SHOWN_TROUBLES = 3  # of the systems that were not published, in the head line
SECTION_LINES = 12
LONGEST_LINE = 90  # characters of a system's line; Slack takes 3,000 in a section
LONGEST_REASON = 120

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SystemLine:
    """One system in the message: its outcome (and the stage that it comes from), and its row of gold.nights, if published."""

    system: str
    outcome: str
    stage: str = ""
    night: Row | None = None

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

    def text(self) -> str:
        """Return the system in a line.

        >>> row = {"n_sessions": 1610, "n_anomalies": 52, "n_provisional": 3, "n_unjudged": 0}
        >>> SystemLine("shop", "done", "publish", row).text(), SystemLine("mail", "gated", "parse").text()
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


@dataclass(frozen=True)
class FindingLine:
    """One finding in the message. `reason`: redacted, empty if none may be sent; `url`: its place on the page, empty if none is served."""

    system: str
    finding_id: str
    pattern_id: str
    is_new: bool
    n_sessions: int
    score: float
    decided_by: str
    status: str
    reason: str
    url: str

    def text(self) -> str:
        """Return the finding in a line.

        >>> FindingLine("shop", "f0", "p0", True, 2, 0.9, "llm", "open", "a disk was lost.", "").text()
        'shop, new: a disk was lost (2 sessions, 0.90, by LLM)'
        >>> FindingLine("shop", "f0", "p0", False, 1, 0.9, "student", "provisional", "", "").text()
        'shop: pattern p0 (1 session, 0.90, by student, provisional)'
        """
        provisional = ", provisional" * (self.status == "provisional")
        about = f"{n_of(self.n_sessions, 'session')}, {self.score:.2f}, by {BY.get(self.decided_by, '?')}{provisional}"
        what = self.reason.rstrip(".") or f"pattern {self.pattern_id}"
        return f"{self.system[:40]}{', new' * self.is_new}: {what} ({about})"


@dataclass(frozen=True)
class NightMessage:
    """The content of a message. `findings`: those that are listed, of `n_findings` in all, of which `n_new` are new; `url`: of the page."""

    ds: str
    systems: tuple[SystemLine, ...]
    findings: tuple[FindingLine, ...]
    n_findings: int
    n_new: int
    url: str

    @property
    def is_news(self) -> bool:
        """True if a finding is new, a system was not published or lacks its input, or sessions were judged by nobody."""
        return self.n_new > 0 or any(each.is_ill or each.lacks_input or each.n_unjudged for each in self.systems)

    def head(self) -> str:
        """Return the message in a sentence: what is wrong with the night itself, then its findings.

        The number of anomalous sessions is that of the systems whose last run ended well: what an earlier run published stands in the
        lines of the others.
        """
        ill = [each for each in self.systems if each.is_ill]
        well = [each for each in self.systems if not each.is_ill]
        lacking = [each.system[:40] for each in well if each.lacks_input]
        nights = [{"system": each.system, **each.night} for each in self.systems if each.night is not None]
        parts = [sentence] if (sentence := night_sentence(nights)) is not None else []
        parts += [f"{n_of(len(ill), 'system')} not published ({listed_troubles(ill)})"] if ill else []
        if lacking:
            more = f" and {len(lacking) - SHOWN_TROUBLES:,} more" * (len(lacking) > SHOWN_TROUBLES)
            parts.append(f"no input for {', '.join(lacking[:SHOWN_TROUBLES])}{more}, only sessions that had waited are judged")
        found = n_of(sum(each.n_anomalies for each in well), "anomalous session") if well else "nothing new was published"
        found += f" in the other {n_of(len(well), 'system')}" if ill and well else ""
        found += f", {n_of(self.n_new, 'new finding')}" if well else ""
        return f"Nightlog, {long_day(self.ds)}: {'; '.join([*parts, found])}"

    def system_lines(self) -> list[str]:
        """Return the systems: first those that were not published, then those with the most unjudged and the most anomalous sessions."""
        ranked = sorted(self.systems, key=lambda each: (not each.is_ill, -each.n_unjudged, -each.n_anomalies, each.system))
        more = [f"and {n_of(len(ranked) - SHOWN_SYSTEMS, 'more system')}"] if len(ranked) > SHOWN_SYSTEMS else []
        return [each.text()[:LONGEST_LINE] for each in ranked[:SHOWN_SYSTEMS]] + more

    def findings_title(self) -> str:
        """Return the line above the findings, empty without any."""
        return f"{len(self.findings):,} of {n_of(self.n_findings, 'finding')} shown, new ones first:" if self.n_findings else ""


def night_message(lake: Lake, ds: str, to: Webhook, catalog: Mapping[str, System]) -> tuple[NightMessage, str]:
    """Return the message about a night as the lake has it now, and a hash of the night's findings and outcomes.

    Two nights with the same counts and different anomalous sessions have different hashes. Args: catalog: systems by name; the reasons of
    a system that it lacks are left out.
    """
    nights = {row["system"]: row for row in lake.rows(NIGHTS, ds=ds)}
    outcomes = lake.rows(OUTCOMES, ds=ds)
    systems = []
    for system in sorted(nights.keys() | {row["system"] for row in outcomes}):
        own = [row for row in outcomes if row["system"] == system]
        night = nights.get(system)
        last = system_outcome(own)[0] if own else None
        outcome, stage = (last.outcome, last.stage) if last is not None else (str((night or {})["outcome"]), "")
        published = night if night is not None and is_published(night["outcome"]) else None
        systems.append(SystemLine(system, outcome, stage, published))
    well = {each.system for each in systems if each.night is not None and not each.is_ill}
    rows = [row for row in lake.rows(FINDINGS, ds=ds) if row["system"] in well and is_listed(row, to.least_score)]
    rows.sort(key=lambda row: (not row["is_new"], row["status"] != "open", -(row["impact"] or 0), row["system"], row["finding_id"]))
    root = f"{to.pages_url.rstrip('/')}/{ds}" if to.pages_url else ""
    listed = tuple(finding_line(row, catalog if to.reasons else {}, root) for row in rows[: to.alerts])
    url = f"{root}/index.html" if root else ""
    found = NightMessage(ds, tuple(systems), listed, len(rows), sum(bool(row["is_new"]) for row in rows), url)
    columns = ["system", "session_id", "pattern_id", "status"]
    sessions = sorted(tuple(row.get(name) or "" for name in columns) for row in lake.rows(ANOMALIES, columns, ds=ds))
    content = json.dumps([body(found, to.form), sessions], sort_keys=True)
    return found, hashlib.sha256(content.encode()).hexdigest()[:16]


def is_listed(row: Row, least_score: float) -> bool:
    """Return True if a finding belongs into the message. A row of gold.findings; without a score it is listed."""
    return row["status"] != "suppressed" and (row["score"] is None or row["score"] >= least_score)


def finding_line(row: Row, catalog: Mapping[str, System], root: str) -> FindingLine:
    """Return the line of a row of gold.findings. Args: catalog: systems whose reasons may be sent; root: address of the night's pages."""
    system = catalog.get(row["system"])
    reason = ""
    if system is not None and system.llm.allowed and row["reason"] and row["decided_by"] != "feedback":  # which names session and analyst
        text = outgoing_template(row["reason"], system.llm.redact)
        reason = text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
    url = f"{root}/{page_name(row['system'])}#{anchor(row['finding_id'])}" if root else ""
    of = (row["system"], row["finding_id"], row["pattern_id"], bool(row["is_new"]), row["n_sessions"] or 0, row["score"] or 0.0)
    return FindingLine(*of, row["decided_by"], row["status"], reason, url)


def listed_troubles(ill: Sequence[SystemLine]) -> str:
    """Return the systems that were not published and why, the first of them by name.

    >>> listed_troubles([SystemLine("mail", "no_input"), SystemLine("shop", "failed", "parse")])
    'mail: no input, shop: failed in stage parse'
    """
    named = ", ".join(f"{each.system[:40]}: {each.trouble()}" for each in ill[:SHOWN_TROUBLES])
    return named + f" and {len(ill) - SHOWN_TROUBLES:,} more" * (len(ill) > SHOWN_TROUBLES)


def body(message: NightMessage, form: WebhookForm) -> dict[str, Any]:
    """Return the JSON that the webhook gets."""
    forms: dict[WebhookForm, Callable[[NightMessage], dict[str, Any]]] = {"slack": slack, "teams": teams, "generic": generic}
    return forms[form](message)


def slack(message: NightMessage) -> dict[str, Any]:
    """Return the message for Slack, and for all that understand its form: `text` for receivers that read only that, and `blocks`."""
    head, *lines = [slack_text(message.head()), *(f"• {slack_text(line)}" for line in message.system_lines())]
    title = [message.findings_title()] if message.findings else []
    numbered = [f"{number}. {slack_link(each.text(), each.url)}" for number, each in enumerate(message.findings, 1)]
    listed = [*title, *numbered]
    end = [slack_link("The night's page", message.url)] if message.url else []
    sections = [[f"*{head}*", *lines], *(listed[at : at + SECTION_LINES] for at in range(0, len(listed), SECTION_LINES))]
    sections[-1] = [*sections[-1], *end]
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(part)}} for part in sections]
    return {"text": "\n".join([head, *lines, *listed, *end]), "blocks": blocks}


def slack_text(text: str) -> str:
    """Return text in Slack's markup.

    >>> slack_text("a & b <!channel>")
    'a &amp; b &lt;!channel&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_link(text: str, url: str) -> str:
    """Return text as a link in Slack's markup, or as it is without an address."""
    return f"<{slack_text(url)}|{slack_text(text).replace('|', '/')}>" if url else slack_text(text)


def teams(message: NightMessage) -> dict[str, Any]:
    """Return the message as an adaptive card, for a Teams workflow that begins with a webhook request."""
    head = {"type": "TextBlock", "text": plain(message.head()), "weight": "bolder", "wrap": True}
    lines = [*message.system_lines(), *([message.findings_title()] if message.findings else [])]
    blocks: list[dict[str, Any]] = [head, *({"type": "TextBlock", "text": plain(line), "wrap": True, "spacing": "small"} for line in lines)]
    for number, each in enumerate(message.findings, 1):
        text = f"{number}\\. " + (f"[{plain(each.text())}]({each.url})" if each.url else plain(each.text()))
        blocks.append({"type": "TextBlock", "text": text, "wrap": True, "spacing": "small"})
    card: dict[str, Any] = {"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4"}
    card |= {"body": blocks}
    if message.url:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "The night's page", "url": message.url}]
    return {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}]}


def plain(text: str) -> str:
    """Return text that Markdown shows as it is.

    >>> plain("[a](b) *c*")
    '\\\\[a\\\\](b) \\\\*c\\\\*'
    """
    for mark in ("\\", "*", "_", "[", "]", "`"):
        text = text.replace(mark, f"\\{mark}")
    return text


def generic(message: NightMessage) -> dict[str, Any]:
    """Return the message as plain fields, for programs."""
    systems = [
        {"system": each.system, "outcome": each.outcome, "stage": each.stage, "published": each.night is not None}
        | {"sessions": (each.night or {}).get("n_sessions"), "anomalous": each.n_anomalies, "unjudged": each.n_unjudged}
        for each in message.systems
    ]
    names = ("system", "finding_id", "pattern_id", "is_new", "n_sessions", "score", "decided_by", "status", "reason", "url")
    findings = [{name: getattr(each, name) for name in names} for each in message.findings]
    counts = {"findings": message.n_findings, "new_findings": message.n_new}
    return {"ds": message.ds, "text": message.head(), "url": message.url, "counts": counts, "systems": systems, "listed": findings}
