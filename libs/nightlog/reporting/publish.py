"""Stage publish: gold.anomalies and gold.nights, through the gates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyspark.sql import functions as F

from nightlog.detector.registry import Loaded
from nightlog.errors import GateFailed
from nightlog.lake.store import Lake
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
from nightlog.reporting.anomalies import decide, with_evidence
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

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


def verdicts_and_answers(lake: Lake, system: System, prompt: str, llm: str | None) -> tuple[DataFrame, DataFrame]:
    """What the LLM (see `latest_verdicts`) and what analysts say of the system's questions, as `decide` takes them."""
    assert lake.spark is not None
    found = latest_verdicts(lake, system, prompt, llm)
    verdicts = [(name, row["label"], row["confidence"], row["reason"]) for name, row in found.items()]
    answers = [(name, row["label"], told(row)) for name, row in system_answers(lake, system, found).items()]
    return (
        lake.spark.createDataFrame(verdicts, "question_id string, label string, confidence double, reason string"),
        lake.spark.createDataFrame(answers, "question_id string, answer string, told string"),
    )


def told(answer: Mapping[str, Any]) -> str:
    """An analyst's answer as the reason of a row.

    >>> told({"answered_by": "kim", "answered_at": datetime(2026, 3, 4), "label": "anomalous", "name": "fan stopped", "group": "1f"})
    'kim answered on 2026-03-04 that this is anomalous: fan stopped (group 1f)'
    """
    name = f": {answer['name']}" if answer["name"] else ""
    day = f"{answer['answered_at']:%Y-%m-%d}"
    return f"{answer['answered_by']} answered on {day} that this is {answer['label']}{name} (group {answer['group']})"


def pattern_knowledge(lake: Lake, system: System, ds: str) -> DataFrame:
    """What is known of each template of each pattern of the night: its text, nearest source template and attention."""
    routes = lake.read(ROUTES, system=system.name, ds=ds).select("pattern_id", F.explode("nearest").alias("near"))
    near = routes.select("pattern_id", "near.template_id", "near.nearest_source_template", "near.similarity")
    scores = lake.read(SCORES, system=system.name, ds=ds).select("pattern_id", F.explode("weights").alias("seen"))
    seen = scores.select("pattern_id", "seen.template_id", "seen.weight")
    texts = lake.read(TEMPLATES, system=system.name).select("template_id", F.col("text").alias("template"))
    return seen.join(near, ["pattern_id", "template_id"], "left").join(texts, "template_id", "left")


def anomalous_sessions(lake: Lake, system: System, by: Publication) -> DataFrame:
    """The night's sessions whose pattern is judged anomalous, each with the decision."""
    name, ds, manifest = system.name, by.ds, by.model.manifest
    decided = decide(
        lake.read(PATTERNS, system=name, ds=ds),
        lake.read(ROUTES, system=name, ds=ds),
        lake.read(SCORES, system=name, ds=ds),
        *verdicts_and_answers(lake, system, by.prompt, by.llm),
        manifest.threshold,
        manifest.foreign_threshold,
        manifest.foreign,
        manifest.calibration,
        system.llm.allowed,
    )
    return lake.read(SESSIONS, system=name, ds=ds).join(decided, "pattern_id")


def staged_anomalies(lake: Lake, system: System, by: Publication, found: DataFrame, versions: Mapping[str, str | None]) -> DataFrame:
    """The rows that the night would publish, all columns of gold.anomalies, for the anomalous sessions `found`."""
    days = [*look_back(system, by.ds), by.ds]
    templates = lake.read(MESSAGES, system=system.name).select("message_id", "template_id")
    events = lake.read(EVENTS_TABLE, system=system.name).where(F.col("ds").isin(days))
    placed = events.select("session_id", "ds", "file", "line_no", "at", "message_id")
    own = placed.join(found.select("session_id"), "session_id", "left_semi").join(F.broadcast(templates), "message_id")
    lines = lake.read(LINES_TABLE, system=system.name).where(F.col("ds").isin(days))
    told = with_evidence(found, own, lines, pattern_knowledge(lake, system, by.ds))
    stamp = F.struct(*[F.lit(version).cast("string").alias(name) for name, version in versions.items()])
    return told.withColumns({"versions": stamp, "run_id": F.lit(by.run_id)}).select(*ANOMALIES.schema.names)


def texts_hash(lake: Lake, system: System, ds: str) -> str:
    """Hash of the texts of the night's templates: what vectors, verdicts and evidence were about."""
    used = lake.read(PATTERNS, system=system.name, ds=ds).select(F.explode("events.template_id").alias("template_id")).distinct()
    texts = lake.read(TEMPLATES, system=system.name).join(used, "template_id", "left_semi").select("template_id", "text")
    rows = sorted((row["template_id"], row["text"]) for row in texts.collect())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def tau_curve(lake: Lake, system: System, ds: str, tau: float) -> tuple[list[dict[str, float]], float]:
    """The share of sessions whose pattern would be proprietary at other thresholds, and at the one in force."""
    sizes = lake.read(PATTERNS, system=system.name, ds=ds).select("pattern_id", "n_sessions")
    found = lake.read(ROUTES, system=system.name, ds=ds).join(sizes, "pattern_id").select("similarity", "n_sessions").collect()
    total = max(1, sum(row["n_sessions"] for row in found))

    def share(threshold: float) -> float:
        return float(round(sum(row["n_sessions"] for row in found if row["similarity"] < threshold) / total, 6))

    return [{"tau": at, "proprietary_share": share(at)} for at in TAUS], share(tau)


def publish(lake: Lake, system: System, by: Publication, counts: Mapping[str, int], seconds: float) -> tuple[dict[str, int], str | None]:
    """Publish one system's night.

    Args: counts: what the night's earlier stages counted; seconds: the wall time they took.
    Returns: (n_anomalies, n_provisional), and the warnings of the gates. Raises GateFailed where a critical expectation is
    not met; then the slice that was published before stays, and the offending rows are in ops.quarantine.
    """
    place = {"system": system.name, "ds": by.ds}
    manifest = by.model.manifest
    texts = texts_hash(lake, system, by.ds)
    versions = {"model": by.model.version, "prompt": by.prompt, "llm": by.llm, "encoder": manifest.encoder, "templates": texts}
    found = anomalous_sessions(lake, system, by).persist()
    staged = staged_anomalies(lake, system, by, found, versions).persist()
    try:
        narrow = lake.frame(
            staged.select(
                *[field.name for field in ANOMALIES.columns if field.name not in ("lines", "evidence", "versions")],
                F.coalesce(F.size("lines"), F.lit(0)).alias("n_lines"),
                F.coalesce(F.size("evidence"), F.lit(0)).alias("n_evidence"),
            )
        )
        breaches = check(narrow, anomaly_expectations(by.ds, system.name)) if len(narrow) else []
        quarantine(lake, system.name, by, narrow, breaches)
        stop_on_critical(system.name, by.ds, breaches, f"The rows are in {QUARANTINE.name}")
        lake.replace_slice(ANOMALIES, staged, **place)
    finally:
        staged.unpersist()
        found.unpersist()
    curve, share = tau_curve(lake, system, by.ds, manifest.tau)
    done = {"n_anomalies": len(narrow), "n_provisional": int((narrow["status"] == "provisional").sum()) if len(narrow) else 0}
    warnings = "; ".join(found.text for found in breaches) or None
    row: dict[str, Any] = {**place, "outcome": "done", "detail": warnings, "run_id": by.run_id, "run_seconds": seconds, "run_at": by.now}
    row |= {"run_llm_trouble": by.trouble}
    row |= {name: counts.get(name, 0) for name in (*COUNTED, *WORK)} | done
    row |= {"proprietary_share": share, "tau": manifest.tau, "tau_curve": curve, "versions": versions}
    lake.put(NIGHTS, [row], **place)
    return done, warnings


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
