"""Stage publish: gold.anomalies, gold.findings and gold.nights, through the gates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

import pyarrow as pa

from nightlog.detector.registry import Loaded
from nightlog.errors import ConfigError, GateFailed
from nightlog.feedback.store import suppressions
from nightlog.ingest.ingest import look_back
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import message_templates
from nightlog.lake.tables import (
    ANOMALIES,
    ANSWERS,
    EVENTS_TABLE,
    FINDINGS,
    HISTORY,
    LINES_TABLE,
    NIGHTS,
    QUARANTINE,
    WAITING,
    FindingRow,
    NightRow,
    QuarantineRow,
)
from nightlog.outcomes import OutcomeKind, is_published
from nightlog.parsing.readings import Readings, rules_of
from nightlog.publishing.account import JUDGES, VerdictAccount, account, input_sentence, night_outcome, unjudged_sentence
from nightlog.publishing.decide import Decision, Thresholds, decisions, llm_cause, with_suppressions
from nightlog.publishing.evidence import Pairs, Sources
from nightlog.publishing.findings import NightTelling, derive_findings, night_telling
from nightlog.publishing.inputs import (
    Judged,
    learn,
    pattern_knowledge,
    read_judged,
    stale_stage,
    tau_curve,
    texts_hash,
    verdicts_and_answers,
)
from nightlog.publishing.night_sessions import read_sessions
from nightlog.publishing.staging import DECISIONS, stage_anomalies
from nightlog.quality.approvals import Past, check_anomalies
from nightlog.quality.gates import (
    ACCOUNTED,
    JUDGED,
    PUBLISHED,
    Breach,
    check_sums,
    judged_sums,
    session_sums,
    stop_on_critical,
)
from nightlog.systems.spec import System

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


def decide(lake: Lake, system: System, by: Publication, judged: Judged) -> list[Decision]:
    """Return the decision about each pattern of the night. What the student adds is in `judged` afterwards."""
    verdicts, answers = verdicts_and_answers(lake, system, by.prompt, by.llm)
    learn(lake, system, by.ds, judged, verdicts, answers)
    thresholds, no_verdict = Thresholds.of(by.model.manifest), llm_cause(system, by.llm)
    return list(decisions(judged.patterns, judged.routes, judged.scores, verdicts, answers, thresholds, no_verdict, judged.history))


def anomalous_patterns(lake: Lake, system: System, by: Publication, judged: Judged, decided: Sequence[Decision]) -> pa.Table:
    """Return the decisions that a pattern is anomalous (DECISIONS); their strings are coded by dictionaries."""
    shown = with_suppressions(decided, judged.patterns, suppressions(lake.rows(ANSWERS, system=system.name), by.ds))
    return pa.Table.from_pylist([asdict(each) for each in shown], DECISIONS)


def evidence_sources(lake: Lake, system: System, ds: str, judged: Judged, telling: NightTelling) -> Sources:
    """Return the sources of the night's evidence."""
    days = sorted({*look_back(system, ds), *Readings(lake, system).earlier_days(ds), ds})
    messages = message_templates(lake, system.name)
    events, lines = (lake.parts(spec, system=system.name, ds=days) for spec in (EVENTS_TABLE, LINES_TABLE))
    start = system.record.start if system.record is not None else None
    return Sources(Pairs.of(pattern_knowledge(judged, telling.of)), messages, events, lines, start)


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
    anomalous = anomalous_patterns(lake, system, by, judged, decided)
    sessions, found, _ = read_sessions(lake, system.name, by.ds, anomalous.column("pattern_id").to_pylist())
    verdicts = account(decided, sessions.of_pattern)
    check_judged(system, by, verdicts, next(iter(lake.rows(NIGHTS, None, **place)), None))
    sums = judged_sums(sessions, judged.patterns, judged.routes, judged.scores)
    n_left = sum(part.n_rows for part in lake.parts(WAITING, **place))
    accounts = session_sums(counts, sessions.n, n_left)
    accounts |= {"sessions_without_account": abs(sessions.n - verdicts.n_sessions)}
    unsound = [*check_sums(sums, JUDGED), *check_sums(accounts, ACCOUNTED), *by.unsound]
    telling = night_telling(lake, system.name, by.ds, found, judged.patterns, judged.texts, system.session.kind == "id")
    sources = evidence_sources(lake, system, by.ds, judged, telling)
    staged = stage_anomalies(lake, place, found, anomalous, sources, {"versions": versions, "run_id": by.run_id})
    findings = derive_findings(lake, system.name, by.ds, staged.found, sessions.n, telling)
    n_anomalies = len(staged.found)
    unsound += check_sums({"anomalies_without_finding": abs(n_anomalies - sum(row["n_sessions"] for row in findings))}, PUBLISHED)
    quarantine(lake, system.name, by, staged.aside)
    stop_on_critical(system.name, by.ds, unsound + staged.breaches, f"Rows that would be published are in {QUARANTINE.name}")
    told_by_gate = check_anomalies(lake, system, by.ds, {"n_sessions": sessions.n, "n_anomalies": n_anomalies}, by.past, kinds_of(findings))
    lake.replace(ANOMALIES, staged.parts, **place)
    lake.replace(FINDINGS, [row | {"run_id": by.run_id} for row in findings], **place)
    if judged.history != stored:
        lake.replace(HISTORY, judged.history, **place)
    curve, share = tau_curve(judged, manifest.tau)
    done = {"n_anomalies": n_anomalies} | verdicts.counts
    left = {"n_unjudged": verdicts.n_unjudged, "n_sessions": sessions.n, "unjudged_why": verdicts.why}
    outcome = night_outcome(system, verdicts.n_unjudged, is_input_missing="n_nights_before" in counts)
    left |= {"outcome": outcome, "n_files": counts.get("n_files")}
    told_first = [sentence for sentence in (input_sentence(left), unjudged_sentence(left)) if sentence is not None]
    detail = "; ".join([*told_first, *(breach.text for breach in unsound + staged.breaches), *told_by_gate]) or None
    row: dict[str, Any] = {**place, "outcome": outcome.value, "detail": detail, "unjudged_why": verdicts.why}
    row |= {"run_id": by.run_id, "run_seconds": seconds, "run_at": by.now}
    row |= {"run_llm_trouble": by.trouble}
    row |= {name: counts.get(name, 0) for name in (*COUNTED, *WORK)} | done
    row |= {"proprietary_share": share, "tau": manifest.tau, "tau_curve": curve, "versions": versions}
    row |= {"rules": rules_of(lake, system.name, by.ds), "student": judged.student}
    lake.replace(NIGHTS, [cast("NightRow", row)], **place)  # its counts are named by variables
    return done, detail, outcome


def kinds_of(findings: Sequence[FindingRow]) -> list[tuple[str, int, str]]:
    """Return (pattern, sessions, reason) of findings, the commonest first."""
    ordered = sorted(findings, key=lambda row: (-row["n_sessions"], row["pattern_id"]))
    return [(row["pattern_id"], row["n_sessions"], row["reason"]) for row in ordered]


def quarantine(lake: Lake, system: str, by: Publication, broken: Sequence[tuple[Breach, Mapping[str, str]]]) -> None:
    """Set the offending rows aside, with the reason; an earlier run's are replaced."""
    aside: list[QuarantineRow] = [
        {
            "system": system,
            "ds": by.ds,
            "stage": "publish",
            "reason": f"{found.severity}: {found.text}",
            "row": json.dumps(row, ensure_ascii=False),
            "run_id": by.run_id,
        }
        for found, row in broken
    ]
    lake.replace(QUARANTINE, aside, system=system, ds=by.ds, stage="publish")


def publish_unfinished(lake: Lake, system: str, by_run: str, ds: str, outcome: str, detail: str | None, now: datetime) -> None:
    """Note in gold.nights that a system has nothing to show for the night; what an earlier run published stays."""
    if any(is_published(row["outcome"]) for row in lake.rows(NIGHTS, ["outcome"], system=system, ds=ds)):
        return
    row: NightRow = {"ds": ds, "system": system, "outcome": outcome, "detail": detail, "run_id": by_run, "run_at": now}
    lake.replace(NIGHTS, [row], system=system, ds=ds)
