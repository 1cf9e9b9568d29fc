"""Stage publish: gold.anomalies and gold.nights, through the gates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.detector.registry import Loaded
from nightlog.errors import GateFailed
from nightlog.lake.parts import commit_parts, parts_of, read_part, schema_of, write_part
from nightlog.lake.store import Lake, arrow_schema
from nightlog.lake.tables import (
    ANOMALIES,
    EVENTS_TABLE,
    LINES_TABLE,
    MESSAGES,
    NIGHTS,
    PATTERNS,
    QUARANTINE,
    ROUTES,
    SCORES,
    SESSIONS,
    TEMPLATES,
)
from nightlog.llm.analysts import system_answers
from nightlog.llm.questions import latest_verdicts
from nightlog.parsing.ingest import look_back
from nightlog.quality.gates import Breach, anomaly_expectations, check, night_expectations
from nightlog.reporting.anomalies import decide
from nightlog.reporting.evidence import Known, with_evidence
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
    "n_lines",
    "n_blank",
    "n_unparsed",
    "n_replaced",
    "n_untimed",
    "n_events",
    "n_without_session",
    "n_sessions",
    "n_patterns",
    "n_templates",
    "n_proprietary",
)


@dataclass(frozen=True)
class Publication:
    """By which run, model, prompt and LLM a night is published, and what went wrong with the LLM."""

    ds: str
    run_id: str
    model: Loaded
    prompt: str
    llm: str | None
    now: datetime
    trouble: str | None = None


def check_counts(system: str, ds: str, counts: Mapping[str, int]) -> list[Breach]:
    """The gate behind parsing: raise GateFailed where too many lines do not match the header; return the warnings."""
    with_text = max(1, counts["n_lines"] - counts["n_blank"])
    shares = {
        "unparsed_share": counts["n_unparsed"] / with_text,
        "replaced_share": counts["n_replaced"] / with_text,
        "without_session_share": counts["n_without_session"] / with_text,
    }
    return stop_on_critical(
        system,
        ds,
        check(pd.DataFrame([shares]), night_expectations()),
        f"{counts['n_unparsed']:,} of {with_text:,} lines do not match the header pattern; see {QUARANTINE.name} for the first of them, "
        "then mend the system file or the logs",
    )


def stop_on_critical(system: str, ds: str, breaches: list[Breach], advice: str) -> list[Breach]:
    """Raise GateFailed if one of the breaches is critical, else return them: they are warnings."""
    critical = [found.text for found in breaches if found.severity == "critical"]
    if critical:
        raise GateFailed(f"{system} {ds}: not published: {'; '.join(critical)}. {advice}")
    return breaches


def verdicts_and_answers(lake: Lake, system: System, prompt: str, llm: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the LLM (see `latest_verdicts`) and what analysts say of the system's questions, as `decide` takes them."""
    found = latest_verdicts(lake, system, prompt, llm)
    verdicts = [{"question_id": name} | {key: row[key] for key in ("label", "confidence", "reason")} for name, row in found.items()]
    answers = [
        {"question_id": name, "answer": row["label"], "told": told(row)} for name, row in system_answers(lake, system, found).items()
    ]
    return verdicts, answers


def told(answer: Mapping[str, Any]) -> str:
    """An analyst's answer as the reason of a row.

    >>> told({"answered_by": "kim", "answered_at": datetime(2026, 3, 4), "label": "anomalous", "name": "fan stopped", "group": "1f"})
    'kim answered on 2026-03-04 that this is anomalous: fan stopped (group 1f)'
    """
    name = f": {answer['name']}" if answer["name"] else ""
    day = f"{answer['answered_at']:%Y-%m-%d}"
    return f"{answer['answered_by']} answered on {day} that this is {answer['label']}{name} (group {answer['group']})"


@dataclass
class Judged:
    """The night's patterns, routes and scores, and the texts of the templates in them."""

    patterns: list[dict[str, Any]]
    routes: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    texts: dict[str, str]


def read_judged(lake: Lake, system: System, ds: str) -> Judged:
    """What the earlier stages made of the night, read once."""
    place = {"system": system.name, "ds": ds}
    patterns = lake.rows(PATTERNS, ["pattern_id", "question_id", "events", "n_sessions"], **place)
    routes = lake.rows(ROUTES, ["pattern_id", "route", "similarity", "nearest"], **place)
    scores = lake.rows(SCORES, ["pattern_id", "probability", "weights"], **place)
    used = {event["template_id"] for row in patterns for event in row["events"] or ()}
    texts = lake.rows(TEMPLATES, ["template_id", "text"], system=system.name)
    return Judged(patterns, routes, scores, {row["template_id"]: row["text"] for row in texts if row["template_id"] in used})


def pattern_knowledge(judged: Judged) -> dict[str, dict[str, Known]]:
    """What is known of each template of each pattern of the night: its text, nearest source template and attention."""
    near = {(row["pattern_id"], each["template_id"]): each for row in judged.routes for each in row["nearest"] or ()}
    knowledge: dict[str, dict[str, Known]] = {}
    for row in judged.scores:
        for each in row["weights"] or ():
            name = each["template_id"]
            nearest = near.get((row["pattern_id"], name), {})
            known = Known(judged.texts.get(name), nearest.get("nearest_source_template"), nearest.get("similarity"), each["weight"])
            knowledge.setdefault(row["pattern_id"], {})[name] = known
    return knowledge


def anomalous_sessions(lake: Lake, system: System, by: Publication, judged: Judged) -> pa.Table:
    """The night's sessions whose pattern is judged anomalous, each with the decision."""
    manifest = by.model.manifest
    decided = decide(
        judged.patterns,
        judged.routes,
        judged.scores,
        *verdicts_and_answers(lake, system, by.prompt, by.llm),
        manifest.threshold,
        manifest.foreign_threshold,
        manifest.foreign,
        manifest.calibration,
        system.llm.allowed,
    )
    rows = pa.Table.from_pylist([asdict(each) for each in decided], DECISIONS)
    # Part by part: the anomalous sessions are few, all sessions of a large night are not.
    columns = ["session_id", "pattern_id", "started_at", "ended_at", "n_events"]
    sessions = [pa.schema([arrow_schema(SESSIONS).field(name) for name in columns]).empty_table()]
    for part in parts_of(lake, SESSIONS, system=system.name, ds=by.ds):
        found = read_part(lake.root, SESSIONS, part.path, columns)
        sessions.append(found.filter(pc.is_in(found.column("pattern_id"), rows.column("pattern_id").combine_chunks())))
    return pa.concat_tables(sessions).join(rows, "pattern_id", join_type="inner")


def staged_anomalies(lake: Lake, system: System, by: Publication, judged: Judged, versions: Mapping[str, str | None]) -> pa.Table:
    """The rows that the night would publish: all columns of gold.anomalies but the partition's, in the order of session ids."""
    found = anomalous_sessions(lake, system, by, judged)
    days = [*look_back(system, by.ds), by.ds]
    messages = {row["message_id"]: row["template_id"] for row in lake.rows(MESSAGES, ["message_id", "template_id"], system=system.name)}
    events, lines = (parts_of(lake, spec, system=system.name, ds=days) for spec in (EVENTS_TABLE, LINES_TABLE))
    shown = with_evidence(lake, found, pattern_knowledge(judged), messages, events, lines)
    schema = schema_of(ANOMALIES)
    same = {"versions": dict(versions), "run_id": by.run_id}
    for name, value in same.items():
        shown = shown.append_column(name, pa.array([value] * len(shown), schema.field(name).type))
    return shown.select(schema.names).cast(schema)


def texts_hash(judged: Judged) -> str:
    """Hash of the texts of the night's templates: what vectors, verdicts and evidence were about."""
    return hashlib.sha256(json.dumps(sorted(map(list, judged.texts.items()))).encode()).hexdigest()[:16]


def tau_curve(judged: Judged, tau: float) -> tuple[list[dict[str, float]], float]:
    """The share of sessions whose pattern would be proprietary at other thresholds, and at the one in force."""
    sizes = {row["pattern_id"]: row["n_sessions"] for row in judged.patterns}
    found = [(row["similarity"], sizes[row["pattern_id"]]) for row in judged.routes if row["pattern_id"] in sizes]
    total = max(1, sum(n for _, n in found))

    def share(threshold: float) -> float:
        return float(round(sum(n for similarity, n in found if similarity < threshold) / total, 6))

    return [{"tau": at, "proprietary_share": share(at)} for at in TAUS], share(tau)


def publish(lake: Lake, system: System, by: Publication, counts: Mapping[str, int], seconds: float) -> tuple[dict[str, int], str | None]:
    """Publish one system's night.

    Args: counts: what the night's earlier stages counted; seconds: the wall time they took.
    Returns: (n_anomalies, n_provisional), and the warnings of the gates. Raises GateFailed where a critical expectation is
    not met; then the slice that was published before stays, and the offending rows are in ops.quarantine.
    """
    place = {"system": system.name, "ds": by.ds}
    manifest = by.model.manifest
    judged = read_judged(lake, system, by.ds)
    versions = {
        "model": by.model.version,
        "prompt": by.prompt,
        "llm": by.llm,
        "encoder": manifest.encoder,
        "templates": texts_hash(judged),
    }
    staged = staged_anomalies(lake, system, by, judged, versions)
    narrow = narrow_frame(staged, place)
    breaches = check(narrow, anomaly_expectations(by.ds, system.name)) if len(narrow) else []
    quarantine(lake, system.name, by, narrow, breaches)
    stop_on_critical(system.name, by.ds, breaches, f"The rows are in {QUARANTINE.name}")
    written = [write_part(lake.root, ANOMALIES, staged, **place)] if len(staged) else []
    commit_parts(lake, ANOMALIES, written, **place)
    curve, share = tau_curve(judged, manifest.tau)
    done = {"n_anomalies": len(narrow), "n_provisional": int((narrow["status"] == "provisional").sum()) if len(narrow) else 0}
    warnings = "; ".join(found.text for found in breaches) or None
    row: dict[str, Any] = {**place, "outcome": "done", "detail": warnings, "run_id": by.run_id, "run_seconds": seconds, "run_at": by.now}
    row |= {"run_llm_trouble": by.trouble}
    row |= {name: counts.get(name, 0) for name in (*COUNTED, *WORK)} | done
    row |= {"proprietary_share": share, "tau": manifest.tau, "tau_curve": curve, "versions": versions}
    lake.put(NIGHTS, [row], **place)
    return done, warnings


def narrow_frame(staged: pa.Table, place: Mapping[str, str]) -> pd.DataFrame:
    """What the gate looks at: no raw lines, no evidence, but how many of them."""
    narrow = staged.drop_columns(["lines", "evidence", "versions"])
    for name in ("lines", "evidence"):
        narrow = narrow.append_column(f"n_{name}", pc.list_value_length(staged.column(name)))
    frame: pd.DataFrame = narrow.to_pandas().assign(**place)
    return frame


def quarantine(lake: Lake, system: str, by: Publication, rows: pd.DataFrame, breaches: list[Breach]) -> None:
    """Set the offending rows aside, with the reason; an earlier run's are replaced."""
    shown = rows.astype(str)
    aside = [
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
    lake.put(QUARANTINE, aside, system=system, ds=by.ds, stage="publish")


def publish_unfinished(lake: Lake, system: str, by_run: str, ds: str, outcome: str, detail: str | None, now: datetime) -> None:
    """Note in gold.nights that a system has nothing to show for the night; what an earlier run published stays."""
    if any(row["outcome"] == "done" for row in lake.rows(NIGHTS, ["outcome"], system=system, ds=ds)):
        return
    row = {"ds": ds, "system": system, "outcome": outcome, "detail": detail, "run_id": by_run, "run_at": now}
    lake.put(NIGHTS, [row], system=system, ds=ds)
