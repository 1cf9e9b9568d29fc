"""Stage publish: gold.anomalies, gold.findings and gold.nights, through the gates."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.detector.registry import Loaded
from nightlog.errors import ConfigError, GateFailed
from nightlog.feedback.questions import system_answers
from nightlog.feedback.store import statement, suppressions
from nightlog.ingest.ingest import look_back
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.parts import schema_of, write_part
from nightlog.lake.tables import (
    ANOMALIES,
    ANSWERS,
    EVENTS_TABLE,
    FINDINGS,
    HISTORY,
    LINES_TABLE,
    MESSAGES,
    NIGHTS,
    PATTERNS,
    QUARANTINE,
    ROUTES,
    SCORES,
    SESSIONS,
    WAITING,
    HistoryRow,
    NightRow,
    PatternRow,
    QuarantineRow,
    RouteRow,
    ScoreRow,
    VerdictRow,
)
from nightlog.llm.verdicts import latest_verdicts
from nightlog.outcomes import OutcomeKind, Stage, is_published
from nightlog.parsing.readings import Readings, rules_of
from nightlog.publishing.account import JUDGES, VerdictAccount, account, input_sentence, night_outcome, unjudged_sentence
from nightlog.publishing.decide import Decision, Thresholds, decisions, llm_cause, with_suppressions
from nightlog.publishing.evidence import TemplateFacts, with_evidence
from nightlog.publishing.findings import NightTelling, derive_findings, night_telling
from nightlog.publishing.student import with_student
from nightlog.publishing.telling import Telling
from nightlog.quality.approvals import Past, check_anomalies
from nightlog.quality.gates import (
    ACCOUNTED,
    JUDGED,
    PUBLISHED,
    Breach,
    check_slice,
    check_sums,
    judged_sums,
    narrow_frame,
    session_sums,
    stop_on_critical,
)
from nightlog.systems.spec import System

DECISIONS = pa.schema(
    [(name, pa.string()) for name in ("pattern_id", "route")]
    + [("score", pa.float64())]
    + [(name, pa.string()) for name in ("decided_by", "status", "reason")]
)

TAUS = tuple(n / 20 for n in range(2, 20))
WORK = (
    "run_n_templates_new",
    "run_n_embedded",
    "run_llm_calls",
    "run_llm_items",
    "run_llm_tokens_in",
    "run_llm_tokens_out",
    "run_llm_failed",
    "run_llm_waiting",
)
COUNTED = (
    "n_files",
    "n_hosts",
    "n_bytes",
    "n_lines",
    "n_blank",
    "n_continuation",
    "n_swallowed",
    "n_unparsed",
    "n_replaced",
    "n_untimed",
    "n_events",
    "n_without_session",
    "n_sessions",
    "n_waiting",
    "n_unchanged",
    "n_judged_again",
    "n_outside",
    "n_patterns",
    "n_templates",
    "n_proprietary",
)


@dataclass(frozen=True)
class Publication:
    """By which run, model, prompt and LLM a night is published, what went wrong with the LLM, the nights that it is held against, and what
    is broken in the tables of ops."""

    ds: str
    run_id: str
    model: Loaded
    prompt: str
    llm: str | None
    now: datetime
    trouble: str | None = None
    past: Past = Past({}, {})
    unsound: tuple[Breach, ...] = ()


def verdicts_and_answers(lake: Lake, system: System, prompt: str, llm: str | None) -> tuple[list[VerdictRow], list[dict[str, Any]]]:
    """Return what the LLM (see `latest_verdicts`) and what analysts say of the system's questions, as `decide` takes them."""
    found = latest_verdicts(lake, system, prompt, llm)
    answers = [
        {"question_id": name, "answer": row["label"], "told": statement(row)} for name, row in system_answers(lake, system, found).items()
    ]
    return list(found.values()), answers


@dataclass
class Judged:
    """The night's patterns, routes and scores, the texts of the templates in them, and its sessions
    (session_id, pattern_id, started_at, ended_at, n_events). `history`: the rows of silver.history; `student`: its version."""

    patterns: list[PatternRow]
    routes: list[RouteRow]
    scores: list[ScoreRow]
    texts: dict[str, str]
    sessions: pa.Table
    history: list[HistoryRow] = field(default_factory=list)
    student: str | None = None


def read_judged(lake: Lake, system: System, ds: str) -> Judged:
    """Return what the earlier stages made of the night, read once."""
    place = {"system": system.name, "ds": ds}
    patterns = lake.rows(PATTERNS, ["pattern_id", "question_id", "events", "n_sessions"], **place)
    routes = lake.rows(ROUTES, ["pattern_id", "route", "similarity", "nearest", "model"], **place)
    scores = lake.rows(SCORES, ["pattern_id", "probability", "weights", "model"], **place)
    history = lake.rows(HISTORY, None, **place)
    used = {event["template_id"] for row in patterns for event in row["events"] or ()}
    texts = template_texts(lake, system.name)
    sessions = lake.arrow(SESSIONS, system=system.name, ds=ds).select(["session_id", "pattern_id", "started_at", "ended_at", "n_events"])
    named = {name: text for name, text in texts.items() if name in used}
    return Judged(patterns, routes, scores, named, sessions, history)


def pattern_knowledge(judged: Judged, telling: Mapping[str, Sequence[Telling]]) -> dict[str, dict[str, TemplateFacts]]:
    """Return what is known of each template of the anomalous patterns: text, nearest source template, the model's weight, difference.

    Args: telling: pattern id → its telling templates; others are not anomalous.
    """
    near = {(row["pattern_id"], each["template_id"]): each for row in judged.routes for each in row["nearest"] or ()}
    weights = {(row["pattern_id"], each["template_id"]): each["weight"] for row in judged.scores for each in row["weights"] or ()}
    knowledge: dict[str, dict[str, TemplateFacts]] = {}
    for row in judged.patterns:
        pattern = row["pattern_id"]
        values = {each.template_id: each.value for each in telling.get(pattern, ()) if each.change == "more"}
        for name in (event["template_id"] for event in (row["events"] or () if pattern in telling else ())):
            nearest = near.get((pattern, name), {})
            source, similarity = nearest.get("nearest_source_template"), nearest.get("similarity")
            facts = TemplateFacts(judged.texts.get(name), source, similarity, weights.get((pattern, name)), values.get(name, 0.0))
            knowledge.setdefault(pattern, {})[name] = facts
    return knowledge


def learn(lake: Lake, system: System, ds: str, judged: Judged, verdicts: list[VerdictRow], answers: list[dict[str, Any]]) -> None:
    """Add to the rows of the history what the student knows of the night's patterns, and note its version."""
    given = (judged.patterns, judged.routes, judged.history, verdicts, answers)
    judged.history, judged.student = with_student(lake, system, ds, *given)


def decide(lake: Lake, system: System, by: Publication, judged: Judged) -> list[Decision]:
    """Return the decision about each pattern of the night. What the student adds is in `judged` afterwards."""
    verdicts, answers = verdicts_and_answers(lake, system, by.prompt, by.llm)
    learn(lake, system, by.ds, judged, verdicts, answers)
    thresholds, no_verdict = Thresholds.of(by.model.manifest), llm_cause(system, by.llm)
    return list(decisions(judged.patterns, judged.routes, judged.scores, verdicts, answers, thresholds, no_verdict, judged.history))


def anomalous_sessions(lake: Lake, system: System, by: Publication, judged: Judged, decided: Sequence[Decision]) -> pa.Table:
    """Return the night's sessions whose pattern is judged anomalous, each with the decision."""
    shown = with_suppressions(decided, judged.patterns, suppressions(lake.rows(ANSWERS, system=system.name), by.ds))
    rows = pa.Table.from_pylist([asdict(each) for each in shown], DECISIONS)
    names = judged.sessions.column("pattern_id").cast(pa.string())
    # The anomalous sessions are few, all sessions of a large night are not.
    sessions = judged.sessions.set_column(1, "pattern_id", names).filter(pc.is_in(names, rows.column("pattern_id").combine_chunks()))
    return sessions.join(rows, "pattern_id", join_type="inner")


def staged_anomalies(
    lake: Lake, system: System, by: Publication, judged: Judged, found: pa.Table, telling: NightTelling, versions: Mapping[str, str | None]
) -> pa.Table:
    """Return the rows that the night would publish: gold.anomalies without the partition's columns, in the order of session ids."""
    days = sorted({*look_back(system, by.ds), *Readings(lake, system).earlier_days(by.ds), by.ds})
    messages = {row["message_id"]: row["template_id"] for row in lake.rows(MESSAGES, ["message_id", "template_id"], system=system.name)}
    events, lines = (lake.parts(spec, system=system.name, ds=days) for spec in (EVENTS_TABLE, LINES_TABLE))
    start = system.record.start if system.record is not None else None
    shown = with_evidence(lake, found, pattern_knowledge(judged, telling.of), messages, sessions_by_template(judged), events, lines, start)
    schema = schema_of(ANOMALIES)
    same = {"versions": dict(versions), "run_id": by.run_id}
    for name, value in same.items():
        shown = shown.append_column(name, pa.array([value] * len(shown), schema.field(name).type))
    return shown.select(schema.names).cast(schema)


def sessions_by_pattern(judged: Judged) -> dict[str, int]:
    """Return how many of the night's sessions each pattern has."""
    counted = judged.sessions.column("pattern_id").cast(pa.string()).value_counts().to_pylist()
    return {str(each["values"]): int(each["counts"]) for each in counted}


def sessions_by_template(judged: Judged) -> Counter[str]:
    """Return how many of the night's sessions have each template."""
    found = Counter[str]()
    for row in judged.patterns:
        for name in {event["template_id"] for event in row["events"] or ()}:
            found[name] += row["n_sessions"]
    return found


def texts_hash(judged: Judged) -> str:
    """Hash of the texts of the night's templates: what vectors, verdicts and evidence were about."""
    return hashlib.sha256(json.dumps(sorted(map(list, judged.texts.items()))).encode()).hexdigest()[:16]


def tau_curve(judged: Judged, tau: float | None) -> tuple[list[dict[str, float]], float]:
    """Return the share of sessions whose pattern would be proprietary at other thresholds, and at the one in force.

    Without a trained model there is no similarity: the curve is empty, and all sessions are proprietary.
    """
    sizes = {row["pattern_id"]: row["n_sessions"] for row in judged.patterns}
    found = [
        (similarity, sizes[row["pattern_id"]])
        for row in judged.routes
        if row["pattern_id"] in sizes and (similarity := row["similarity"]) is not None
    ]
    total = max(1, sum(n for _, n in found))

    def share(threshold: float) -> float:
        return float(round(sum(n for similarity, n in found if similarity < threshold) / total, 6))

    curve = [{"tau": at, "proprietary_share": share(at)} for at in TAUS] if found else []
    return curve, share(tau) if tau is not None else 1.0


def stale_stage(model: str, routes: Iterable[Mapping[str, Any]], scores: Iterable[Mapping[str, Any]]) -> tuple[Stage, str] | None:
    """Return the first stage whose rows are of another model than this one, and that model; None if there is none."""
    for stage, rows in ((Stage.ROUTE, routes), (Stage.DETECT, scores)):
        if others := {row["model"] for row in rows} - {model, None}:
            return stage, min(others)
    return None


def check_models(system: System, by: Publication, judged: Judged) -> None:
    """Raise ConfigError if routes or scores are of another model than the one that the run has pinned."""
    found = stale_stage(by.model.version, judged.routes, judged.scores)
    if found is not None:
        stage, other = found
        raise ConfigError(
            f"{system.name} {by.ds}: the rows of stage {stage} are of model {other}, this run judges by model {by.model.version}: nothing "
            f"was published; clear task `{stage}` and those after it, or: nightlog run --ds {by.ds} --system {system.name} --from {stage}"
        )


def check_judged(system: System, by: Publication, verdicts: VerdictAccount, before: Mapping[str, Any] | None) -> None:
    """Raise GateFailed if the night is published already and this run would judge fewer of its sessions, and leave more unjudged.

    Args: before: the row of gold.nights, None if there is none.
    """
    names = set(JUDGES.values()) - {"n_unjudged"}
    if before is None or not is_published(before["outcome"]) or before["n_unjudged"] is None:
        return
    then, now = (sum(counts.get(name) or 0 for name in names) for counts in (before, verdicts.counts))
    if now < then and verdicts.n_unjudged > before["n_unjudged"]:
        raise GateFailed(
            f"{system.name} {by.ds}: this run judges {now:,} sessions and leaves {verdicts.n_unjudged:,} unjudged ({verdicts.why}); the "
            f"published night judged {then:,} and left {before['n_unjudged']:,}: it stays as it is"
        )


def publish(
    lake: Lake, system: System, by: Publication, counts: Mapping[str, int], seconds: float
) -> tuple[dict[str, int], str | None, OutcomeKind]:
    """Publish one system's night.

    Args: counts: the counts of the night's earlier stages; seconds: their wall time.
    Returns: the counts of anomalies and verdicts; the unjudged sessions and the warnings of the gates, in words; done or incomplete.
    Raises: ConfigError if routes or scores are of another model. GateFailed if a critical expectation is not met, or if the night was
    judged better before; then the slice that was published before stays, and the offending rows are in ops.quarantine.
    """
    place = {"system": system.name, "ds": by.ds}
    manifest = by.model.manifest
    stop_on_critical(system.name, by.ds, list(by.unsound), "`nightlog restore` takes a table back (docs/how-to/recover.md)")
    judged = read_judged(lake, system, by.ds)
    versions = {
        "model": by.model.version,
        "prompt": by.prompt,
        "llm": by.llm,
        "encoder": manifest.encoder,
        "templates": texts_hash(judged),
    }
    check_models(system, by, judged)
    stored = judged.history
    decided = decide(lake, system, by, judged)
    verdicts = account(decided, sessions_by_pattern(judged))
    check_judged(system, by, verdicts, next(iter(lake.rows(NIGHTS, None, **place)), None))
    sums = judged_sums(judged.sessions, judged.patterns, judged.routes, judged.scores)
    n_left = sum(part.n_rows for part in lake.parts(WAITING, **place))
    accounts = session_sums(counts, len(judged.sessions), n_left)
    accounts |= {"sessions_without_account": abs(len(judged.sessions) - verdicts.n_sessions)}
    unsound = [*check_sums(sums, JUDGED), *check_sums(accounts, ACCOUNTED), *by.unsound]
    found = anomalous_sessions(lake, system, by, judged, decided)
    telling = night_telling(lake, system.name, by.ds, found, judged.patterns, judged.texts, system.session.kind == "id")
    staged = staged_anomalies(lake, system, by, judged, found, telling, versions)
    findings = derive_findings(lake, system.name, by.ds, staged, len(judged.sessions), telling)
    unsound += check_sums({"anomalies_without_finding": abs(len(staged) - sum(row["n_sessions"] for row in findings))}, PUBLISHED)
    narrow = narrow_frame(ANOMALIES, staged).assign(**place)
    breaches = check_slice(ANOMALIES, staged)
    quarantine(lake, system.name, by, narrow, breaches)
    stop_on_critical(system.name, by.ds, unsound + breaches, f"Rows that would be published are in {QUARANTINE.name}")
    told_by_gate = check_anomalies(
        lake, system, by.ds, {"n_sessions": len(judged.sessions), "n_anomalies": len(narrow)}, by.past, kinds_of(narrow)
    )
    written = [write_part(lake.root, ANOMALIES, staged, **place)] if len(staged) else []
    lake.replace(ANOMALIES, written, **place)
    lake.replace(FINDINGS, [row | {"run_id": by.run_id} for row in findings], **place)
    if judged.history != stored:
        lake.replace(HISTORY, judged.history, **place)
    curve, share = tau_curve(judged, manifest.tau)
    done = {"n_anomalies": len(narrow)} | verdicts.counts
    left = {"n_unjudged": verdicts.n_unjudged, "n_sessions": len(judged.sessions), "unjudged_why": verdicts.why}
    outcome = night_outcome(system, verdicts.n_unjudged, is_input_missing="n_nights_before" in counts)
    left |= {"outcome": outcome, "n_files": counts.get("n_files")}
    told_first = [sentence for sentence in (input_sentence(left), unjudged_sentence(left)) if sentence is not None]
    detail = "; ".join([*told_first, *(breach.text for breach in unsound + breaches), *told_by_gate]) or None
    row: dict[str, Any] = {**place, "outcome": outcome.value, "detail": detail, "unjudged_why": verdicts.why}
    row |= {"run_id": by.run_id, "run_seconds": seconds, "run_at": by.now}
    row |= {"run_llm_trouble": by.trouble}
    row |= {name: counts.get(name, 0) for name in (*COUNTED, *WORK)} | done
    row |= {"proprietary_share": share, "tau": manifest.tau, "tau_curve": curve, "versions": versions}
    row |= {"rules": rules_of(lake, system.name, by.ds), "student": judged.student}
    lake.replace(NIGHTS, [cast("NightRow", row)], **place)  # its counts are named by variables
    return done, detail, outcome


def kinds_of(narrow: pd.DataFrame) -> list[tuple[str, int, str]]:
    """(pattern, sessions, reason) of what would be published, the commonest first."""
    if not len(narrow):
        return []
    grouped = narrow.groupby("pattern_id").agg(n=("session_id", "size"), reason=("reason", "first")).reset_index()
    ordered = grouped.sort_values(["n", "pattern_id"], ascending=[False, True])
    return [(str(row.pattern_id), int(row.n), str(row.reason)) for row in ordered.itertuples()]


def quarantine(lake: Lake, system: str, by: Publication, rows: pd.DataFrame, breaches: list[Breach]) -> None:
    """Set the offending rows aside, with the reason; an earlier run's are replaced."""
    shown = rows.astype(str)
    aside: list[QuarantineRow] = [
        {
            "system": system,
            "ds": by.ds,
            "stage": "publish",
            "reason": f"{found.severity}: {found.text}",
            "row": json.dumps(shown.iloc[number].to_dict(), ensure_ascii=False),
            "run_id": by.run_id,
        }
        for found in breaches
        for number in found.rows
    ]
    lake.replace(QUARANTINE, aside, system=system, ds=by.ds, stage="publish")


def publish_unfinished(lake: Lake, system: str, by_run: str, ds: str, outcome: str, detail: str | None, now: datetime) -> None:
    """Note in gold.nights that a system has nothing to show for the night; what an earlier run published stays."""
    if any(is_published(row["outcome"]) for row in lake.rows(NIGHTS, ["outcome"], system=system, ds=ds)):
        return
    row: NightRow = {"ds": ds, "system": system, "outcome": outcome, "detail": detail, "run_id": by_run, "run_at": now}
    lake.replace(NIGHTS, [row], system=system, ds=ds)
