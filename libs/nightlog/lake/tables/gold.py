"""Gold: anomalies, findings of the night and its counts, for readers in the morning."""

from datetime import datetime
from typing import Annotated, TypedDict

from nightlog.lake.schema import Ds, Rule, RunId, SystemName, TableSpec, table


class EvidenceTemplate(TypedDict, total=False):
    """A template of an anomalous session: its count, and what makes it telling."""

    template: str | None
    count: int | None
    nearest_source_template: str | None
    similarity: float | None
    weight: float | None
    template_id: str | None


class RawLine(TypedDict, total=False):
    """A raw line of a log file."""

    file: str
    line_no: int
    text: str


class JudgeVersions(TypedDict, total=False):
    """The versions that a verdict depends on."""

    model: str
    prompt: str
    llm: str | None
    encoder: str | None
    templates: str | None


JUDGES = ("feedback", "llm", "student", "history", "small_model")


class AnomalyRow(TypedDict, total=False):
    """An anomalous session of a night."""

    ds: Ds
    system: SystemName
    session_id: Annotated[str, "the anomalous session", Rule(required=True, unique=True)]
    started_at: Annotated[datetime | None, "first event, UTC"]
    ended_at: Annotated[datetime | None, "last event, UTC", Rule(not_before="started_at", severity="warning")]
    noticed_at: Annotated[datetime | None, "when the template that sets it most apart was first logged, UTC; null if no template does"]
    n_events: Annotated[int, "events in the session", Rule(required=True)]
    score: Annotated[float, "probability of an anomaly, by the judge that decided", Rule(required=True, low=0, high=1)]
    decided_by: Annotated[str, "feedback | llm | student | history | small_model", Rule(required=True, values=JUDGES)]
    route: Annotated[str, "general | proprietary", Rule(required=True, values=("general", "proprietary"))]
    status: Annotated[str, "open | suppressed | provisional", Rule(required=True, values=("open", "suppressed", "provisional"))]
    reason: Annotated[str, "why, in a sentence", Rule(required=True)]
    evidence: Annotated[
        list[EvidenceTemplate],
        "the session's templates: first what sets it apart from normal sessions, then the rarest",
        Rule(low=1, severity="warning"),
    ]
    lines: Annotated[
        list[RawLine],
        "raw lines with those that continue a record, at most 50: the records that tell most first, then the others, in order",
        Rule(required=True, low=1),
    ]
    pattern_id: Annotated[str, "the session's pattern", Rule(required=True)]
    versions: Annotated[JudgeVersions, "model, prompt, LLM, encoder, and a hash of the template texts"]
    run_id: Annotated[RunId, Rule(required=True)]
    run_evidence: Annotated[str | None, "hash of what evidence, lines and noticed_at were made from; null in rows of earlier versions"]


ANOMALIES = table(AnomalyRow, "gold.anomalies", ("ds", "system", "session_id"), partition=("ds", "system"), retention="gold")


class TauShare(TypedDict, total=False):
    """The share of sessions with a proprietary pattern at a threshold of the router."""

    tau: float
    proprietary_share: float


class NightRow(TypedDict, total=False):
    """A night of a system: what was read, found and spent."""

    ds: Ds
    system: SystemName
    outcome: Annotated[str, "done | incomplete (published too) | no_input | gated | failed | transient"]
    detail: Annotated[str | None, "the reason, unless the outcome is done"]
    n_files: Annotated[int | None, "files read, copies not counted"]
    n_hosts: Annotated[int | None, "hosts that delivered lines: the parts of the files' paths that vary"]
    n_bytes: Annotated[int | None, "bytes of the lines read, unpacked, without line ends"]
    n_lines: Annotated[int | None, "lines read: one for each parsed record, n_blank, n_unparsed and n_continuation"]
    n_blank: Annotated[int | None, "lines without any text"]
    n_continuation: Annotated[int | None, "lines that continue a record of several lines"]
    n_swallowed: Annotated[int | None, "of these, lines that do not look like a continuation"]
    n_unparsed: Annotated[int | None, "lines that do not match the header"]
    n_replaced: Annotated[int | None, "lines with bytes that are not UTF-8"]
    n_untimed: Annotated[int | None, "parsed lines whose time stamp cannot be read"]
    n_events: Annotated[int | None, "events; a line with several ids counts once for each"]
    n_without_session: Annotated[int | None, "parsed lines that carry no session id"]
    n_sessions: Annotated[int | None, "sessions judged on the night: with events of it, or that waited for it"]
    n_waiting: Annotated[int | None, "sessions with events of the night that a later night judges"]
    n_unchanged: Annotated[int | None, "sessions with events of the night that a later night has judged on the same events"]
    n_judged_again: Annotated[int | None, "of n_sessions, those that an earlier night has judged on fewer events"]
    n_outside: Annotated[int | None, "sessions that no rule of the system can judge: none of their events has a template"]
    n_patterns: Annotated[int | None, "distinct patterns of these sessions"]
    n_templates: Annotated[int | None, "distinct templates in these patterns"]
    n_proprietary: Annotated[int | None, "patterns that the router calls proprietary"]
    proprietary_share: Annotated[float | None, "their share of the sessions"]
    tau: Annotated[float | None, "the router's threshold; null if nothing is general"]
    tau_curve: Annotated[list[TauShare] | None, "share of sessions with a proprietary pattern at other thresholds"]
    n_anomalies: Annotated[int | None, "rows in gold.anomalies"]
    n_by_analyst: Annotated[int | None, "sessions judged by an analyst"]
    n_by_llm: Annotated[int | None, "sessions judged by the LLM"]
    n_by_model: Annotated[int | None, "sessions judged by the small model or flagged by the history"]
    n_unjudged: Annotated[int | None, "sessions that nobody judged: shown as such, never as normal"]
    unjudged_why: Annotated[str | None, "why nobody judged them, in words; null if there are none"]
    n_provisional: Annotated[int | None, "sessions whose verdict may change, anomalous or not: the LLM is still to be asked about them"]
    n_by_student: Annotated[int | None, "sessions judged by the student; this count, n_by_* and n_unjudged sum to n_sessions"]
    student: Annotated[str | None, "version of the student: its reference and the verdicts and answers it learnt; null if there was none"]
    versions: Annotated[JudgeVersions | None, "as in gold.anomalies"]
    rules: Annotated[str | None, "hash of the system's reading rules by which the night was parsed"]
    run_id: RunId
    run_n_templates_new: Annotated[int | None, "templates that this run founded"]
    run_n_embedded: Annotated[int | None, "templates that this run embedded"]
    run_llm_calls: Annotated[int | None, "calls that this run made to the LLM, retries included"]
    run_llm_items: Annotated[int | None, "patterns that this run asked about"]
    run_llm_tokens_in: Annotated[int | None, "prompt tokens"]
    run_llm_tokens_out: Annotated[int | None, "completion tokens"]
    run_llm_failed: Annotated[int | None, "patterns that stay open because the LLM gave no sound answer, or none at all"]
    run_llm_waiting: Annotated[int | None, "patterns that wait in a batch"]
    run_llm_trouble: Annotated[str | None, "what went wrong with the LLM, null where nothing did"]
    run_seconds: Annotated[float | None, "wall time of this run's stages for the system"]
    run_at: Annotated[datetime, "when this run published, UTC"]


NIGHTS = table(NightRow, "gold.nights", ("ds", "system"), partition=(), retention="gold")


class TellingTemplate(TypedDict, total=False):
    """A template in which a finding differs from the nearest normal pattern."""

    template_id: str
    template: str | None
    change: str
    count: int
    usual: int
    n_normal: int
    severity: float


class FindingRow(TypedDict, total=False):
    """The anomalous sessions of one pattern in a night of a system."""

    ds: Ds
    system: SystemName
    finding_id: Annotated[str, "12 hex digits, the same on every night: a hash of system and pattern"]
    pattern_id: Annotated[str, "the pattern of its sessions"]
    status: Annotated[str, "open | suppressed | provisional"]
    decided_by: Annotated[str, "feedback | llm | student | history | small_model"]
    route: Annotated[str, "general | proprietary"]
    score: Annotated[float, "probability of an anomaly, by the judge that decided"]
    reason: Annotated[str, "why, in a sentence"]
    n_sessions: Annotated[int, "anomalous sessions of the night with this pattern"]
    share: Annotated[float, "their share of the night's sessions, 0 to 1"]
    example_session_id: Annotated[str, "the first of these sessions, by time"]
    severity: Annotated[float, "0 to 1, by wording and level of its telling templates"]
    level: Annotated[str | None, "the most severe level of its telling templates; null if they have none"]
    telling: Annotated[
        list[TellingTemplate],
        "the difference to the nearest normal pattern of the night, most telling first: `change` more | less, `count` "
        "here, `usual` there, `n_normal` sessions of normal patterns that have the template",
    ]
    is_new: Annotated[bool | None, "no earlier night in the lake has this pattern; null on the first night of the system"]
    first_seen: Annotated[str, "the first night in the lake with this pattern, YYYY-MM-DD"]
    last_seen: Annotated[str | None, "the last night before this one with it; null if there is none"]
    n_nights: Annotated[int, "nights in the lake with it up to this one, this one included"]
    trend: Annotated[list[int | None], "its sessions on the last 14 days, this night last; null for a day without a published night"]
    started_at: Annotated[datetime | None, "first event of its sessions, UTC"]
    ended_at: Annotated[datetime | None, "last event of its sessions, UTC"]
    hours: Annotated[list[int], "24 numbers: its sessions by the hour, UTC, in which the telling template was logged"]
    minutes: Annotated[list[int], "minutes of the day, 0 to 1439, UTC, in which the telling template was logged, in order"]
    impact: Annotated[float, "to rank findings by, over all systems: see rank_reason for its parts"]
    rank: Annotated[int, "place in the system's night, from 1: open findings first, then provisional, then suppressed ones"]
    rank_reason: Annotated[str, "the reason for the rank: novelty, sessions, severity, certainty"]
    run_id: RunId


FINDINGS = table(FindingRow, "gold.findings", ("ds", "system", "finding_id"), partition=("ds", "system"), retention="gold")


class IncidentRow(TypedDict, total=False):
    """Findings of a night, over systems, that have one cause or the same minutes."""

    ds: Ds
    incident_id: Annotated[str, "12 hex digits: a hash of the telling template that its findings share, the same on every night"]
    title: Annotated[str, "its first finding in a sentence"]
    status: Annotated[str, "open | suppressed | provisional: the status of its first finding"]
    systems: Annotated[list[str], "its systems, in order"]
    finding_ids: Annotated[list[str], "its findings, by rank"]
    n_findings: Annotated[int, "how many they are"]
    n_sessions: Annotated[int, "anomalous sessions of its findings"]
    severity: Annotated[float, "the greatest severity of its findings"]
    started_at: Annotated[datetime | None, "first event of its sessions, UTC"]
    ended_at: Annotated[datetime | None, "last event of its sessions, UTC"]
    hours: Annotated[list[int], "24 numbers: its sessions by the hour, UTC"]
    joined_by: Annotated[str | None, "the reason why its findings are one incident; null if it has one finding"]
    first_seen: Annotated[str, "the first night in the lake with it, YYYY-MM-DD"]
    is_new: Annotated[bool | None, "no earlier night in the lake has it; null on the first night of its systems"]
    impact: Annotated[float, "to rank incidents by"]
    rank: Annotated[int, "place in the night, from 1: open incidents first, then provisional, then suppressed ones"]
    rank_reason: Annotated[str, "the reason for the rank: novelty, sessions, systems, severity, certainty"]
    run_id: RunId


INCIDENTS = table(IncidentRow, "gold.incidents", ("ds", "incident_id"), partition=(), retention="gold")


class SignalRow(TypedDict, total=False):
    """Something in a night that is unlike the system's nights before, whatever its sessions are like."""

    ds: Ds
    system: SystemName
    kind: Annotated[
        str,
        "silence | outside_sessions | new_template | rate | variation | value; learning: too few nights before to compare with; "
        "unavailable: not computed",
    ]
    template_id: Annotated[str, "the template; empty where it is the whole system"]
    template: Annotated[str | None, "its text"]
    seen: Annotated[float, "tonight: how often it was logged, how many new wordings it had, or the value; of learning, nights seen"]
    usual: Annotated[float, "what is usual on nights alike; of a value the usual bound that is passed"]
    strength: Annotated[float, "to rank by within the kind"]
    reason: Annotated[str, "why, in a sentence"]
    first: Annotated[bool, "whether the system file wants them above the anomalies on the page"]
    run_id: RunId


SIGNALS = table(SignalRow, "gold.signals", ("ds", "system", "kind", "template_id"), partition=("ds", "system"), retention="gold")


GOLD: tuple[TableSpec, ...] = (ANOMALIES, FINDINGS, INCIDENTS, NIGHTS, SIGNALS)
