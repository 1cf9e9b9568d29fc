"""Lakes to make pages of: a small one with every kind of thing in it, and one of 300,000 anomalous sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake
from nightlog.lake.lake import Lake
from nightlog.lake.schema import rows_table
from nightlog.lake.tables import (
    ANOMALIES,
    ANSWERS,
    EVENTS_TABLE,
    FINDINGS,
    LLM_CALLS,
    MESSAGES,
    NIGHTS,
    OUTCOMES,
    PATTERNS,
    QUARANTINE,
    SIGNALS,
    TEMPLATES,
    VERDICTS,
)
from nightlog.publishing.findings import derive_findings, night_telling
from nightlog.publishing.incidents import write_incidents

DS, BEFORE, WEEK = "2026-03-04", "2026-03-03", "2026-02-25"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
STAGES = ("ingest", "parse", "embed", "route", "detect", "label", "publish")
VERSIONS = {"model": "m1", "prompt": "pr1", "llm": "judge", "encoder": "e", "templates": "t"}
HOSTILE = (
    "</code><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m\x00 \u202egnp.exe\u2066 \u200b\ud7ff{{ 7*7 }} &amp; 'q\" "
    "\u05d0\u05d1"
)

TEXTS = {
    "t-open": "open <FILE>",
    "t-read": "read <NUM> bytes",
    "t-lost": "disk <NUM> lost",
    "t-slow": "slow answer <NUM>",
    "t-evil": f"evil {HOSTILE}",
}
# pattern → (events, sessions tonight, its row of gold.anomalies or None)
KINDS: dict[str, tuple[dict[str, int], int, dict[str, Any] | None]] = {
    "p-normal": ({"t-open": 1, "t-read": 4}, 40, None),
    "p-rare": ({"t-open": 1}, 2, None),
    "p-lost": (
        {"t-open": 1, "t-read": 4, "t-lost": 2},
        9,
        {"score": 0.9, "decided_by": "llm", "status": "open", "reason": "a disk was lost"},
    ),
    "p-slow": ({"t-open": 1, "t-slow": 1}, 1, {"score": 0.99, "decided_by": "small_model", "status": "provisional", "reason": "looks odd"}),
    "p-evil": ({"t-evil": 1}, 2, {"score": 0.7, "decided_by": "feedback", "status": "open", "reason": f"said so {HOSTILE}"}),
    "p-hush": ({"t-slow": 2}, 1, {"score": 1.0, "decided_by": "llm", "status": "suppressed", "reason": "known and accepted"}),
}


def put_night(lake: Lake, system: str, ds: str, patterns: list[str], **more: Any) -> None:
    """A published night of some of the KINDS, in all tables that a page reads."""
    place = {"system": system, "ds": ds}
    noon = datetime.fromisoformat(ds).replace(hour=12, tzinfo=UTC)
    sessions, rows, events, found = [], [], [], []
    line_no = 0
    for pattern in patterns:
        counts, n_sessions, judged = KINDS[pattern]
        rows.append(
            place
            | {
                "pattern_id": pattern,
                "question_id": pattern,
                "events": [{"template_id": name, "count": n} for name, n in counts.items()],
                "n_sessions": n_sessions,
            }
        )
        for number in range(n_sessions):
            session = f"{pattern}-{number}" + (HOSTILE if pattern == "p-evil" else "")
            sessions.append(session)
            lines = []
            for at, name in enumerate(name for name, n in counts.items() for _ in range(n)):
                line_no += 1
                lines.append({"file": "a.log", "line_no": line_no, "text": f"raw {session} {at} {TEXTS[name]}"})
                if judged is not None:
                    message = {"session_id": session, "message_id": list(TEXTS).index(name), "at": noon + timedelta(seconds=line_no)}
                    events.append(place | message | {"file": "a.log", "line_no": line_no})
            if judged is not None:
                evidence = [
                    {"template": TEXTS[name], "template_id": name, "count": n, "similarity": 0.2, "weight": 1 / len(counts)}
                    for name, n in counts.items()
                ]
                about = {
                    "started_at": noon + timedelta(minutes=number),
                    "ended_at": noon + timedelta(hours=1),
                    "n_events": len(lines),
                }
                about |= {"session_id": session, "pattern_id": pattern, "route": "proprietary", "versions": VERSIONS, "run_id": "r"}
                found.append(place | about | judged | {"lines": lines, "evidence": evidence})
    lake.replace(PATTERNS, rows, **place)
    lake.replace(EVENTS_TABLE, events, **place)
    lake.replace(ANOMALIES, found, **place)
    rows_found = lake.arrow(ANOMALIES, **place)
    telling = night_telling(lake, system, ds, rows_found, rows, TEXTS, counted=True)
    findings = derive_findings(lake, system, ds, rows_found, len(sessions), telling)
    lake.replace(FINDINGS, [row | {"run_id": "r"} for row in findings], **place)
    waiting = sum(row["status"] == "provisional" for row in found)
    counted = {
        "n_provisional": waiting,
        "n_files": 1,
        "n_lines": 1000,
        "n_unparsed": 3,
        "n_sessions": len(sessions),
        "n_anomalies": len(found),
        "n_replaced": 0,
    }
    curve = [{"tau": 0.2, "proprietary_share": 0.1}, {"tau": 0.8, "proprietary_share": 0.9}]
    of_night = {"outcome": "done", "versions": VERSIONS, "run_id": "r", "tau": 0.5, "tau_curve": curve, "proprietary_share": 0.4}
    lake.replace(NIGHTS, [place | counted | of_night | more], **place)


def note(
    lake: Lake, system: str, ds: str = DS, until: str = "publish", outcome: str = "done", detail: str | None = None, after: int = 0
) -> None:
    """Outcomes of the stages up to one that ended so; `after`: so many minutes later."""
    rows: list[dict[str, Any]] = []
    for number, stage in enumerate(STAGES[: STAGES.index(until) + 1]):
        last = stage == until
        told = {"outcome": outcome if last else "done", "detail": detail if last else None, "counts": {"n_anomalies": 1} if last else {}}
        rows.append(
            {"run_id": "r", "ds": ds, "system": system, "stage": stage, "seconds": 1.5, "at": NOON + timedelta(minutes=after + number)}
            | told
        )
    lake.append(OUTCOMES, rows)


def small_lake(root: str) -> Lake:
    """shop: three nights, every status and decider, hostile text; mail: failed; void: no input; index: nothing anomalous."""
    lake = Lake(root)
    lake.append(
        TEMPLATES, [{"system": "shop", "template_id": t, "text": x, "first_ds": DS if t == "t-lost" else WEEK} for t, x in TEXTS.items()]
    )
    lake.append(MESSAGES, [{"system": "shop", "message_id": n, "template_id": name} for n, name in enumerate(TEXTS)])
    put_night(lake, "shop", WEEK, ["p-normal", "p-slow"])
    put_night(lake, "shop", BEFORE, ["p-normal", "p-hush", "p-evil", "p-slow"])
    put_night(lake, "shop", DS, ["p-normal", "p-rare", "p-lost", "p-slow", "p-evil", "p-hush"])
    note(lake, "shop")
    said = {
        "label": "anomalous",
        "confidence": 0.7,
        "reason": "x",
        "round": 2,
        "group": "gone",
        "first_label": "unclear",
        "first_confidence": 0.5,
    }
    differs = {"added": [{"template": TEXTS["t-slow"], "count": 2}], "missing": [{"template": TEXTS["t-open"], "count": 1}], "events": []}
    asked = {"system": "shop", "question_id": "p-hush", "prompt": "pr1", "llm": "judge", "ds": DS, "run_id": "r", "asked_at": NOON}
    lake.merge(VERDICTS, [asked | said | differs])
    lake.merge(VERDICTS, [asked | said | differs])
    bill = {
        "calls": 2,
        "items": 30,
        "n_sessions": 9,
        "tokens_in": 900,
        "tokens_cached": 0,
        "tokens_out": 100,
        "money": 0.0123,
        "seconds": 2.0,
    }
    lake.append(
        LLM_CALLS, [{"system": "shop", "ds": DS, "run_id": "r", "mode": "generallog", "llm": "judge", "round": 1, "at": NOON} | bill]
    )
    lake.append(QUARANTINE, [{"system": "shop", "ds": DS, "stage": "parse", "reason": f"no header {HOSTILE}", "row": "{}", "run_id": "r"}])
    odd = {"kind": "rate", "template_id": "t-evil", "template": TEXTS["t-evil"], "seen": 90.0, "usual": 9.0, "strength": 8.0, "run_id": "r"}
    lake.append(SIGNALS, [{"system": "shop", "ds": DS, "reason": "logged 90 times, where 9 are usual"} | odd])
    suppressed = {"kind": "suppression", "about": "pattern", "group": "p-hush", "label": "suppressed", "until": "2026-04-01"}
    lake.append(ANSWERS, [{"system": "shop", "answered_by": "kim", "answered_at": NOON} | suppressed])
    note(lake, "mail", until="parse", outcome="gated", detail=f"20 of 61 lines do not match {HOSTILE}")
    lake.append(NIGHTS, [{"ds": DS, "system": "mail", "outcome": "gated", "detail": "20 of 61 lines"}])
    note(lake, "void", until="ingest", outcome="no_input", detail="no file matches void.log")
    put_night(lake, "index", DS, ["p-normal"])
    note(lake, "index")
    for ds in (WEEK, BEFORE, DS):
        write_incidents(lake, ds, "r")
    return lake


def big_lake(root: str, n: int = 300_000, kinds: int = 3_000, lines_each: int = 4) -> Lake:
    """One system, one night, `n` anomalous sessions of `kinds` kinds, each of the same size, with `lines_each` raw lines a session."""
    lake = Lake(root)
    schema = rows_table(ANOMALIES, []).schema

    def numbered(prefix: str, numbers: Any, width: int = 0) -> pa.Array:
        digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
        return pc.binary_join_element_wise(pa.scalar(prefix), digits, "")

    lines_type = schema.field("lines").type
    total = n * lines_each
    texts = numbered(
        "2026-03-04 12:00:00 WARN worker: the request took longer than it may, no answer came from the store; attempt ", np.arange(total)
    )
    parts = [numbered("app-", np.arange(total) // 100_000), pa.array(np.arange(total)), texts]
    lines = pa.StructArray.from_arrays(parts, fields=list(lines_type.value_type))
    each = np.arange(n) % kinds
    values = {
        "ds": pa.repeat(DS, n),
        "system": pa.repeat("big", n),
        "session_id": numbered("session-", np.arange(n)),
        "pattern_id": numbered("p", each, 15),
        "started_at": pa.array(np.datetime64("2026-03-04", "us") + np.arange(n).astype("timedelta64[ms]")),
        "n_events": pa.repeat(lines_each, n),
        "score": pa.array(each / kinds),
        "decided_by": pa.repeat("llm", n),
        "route": pa.repeat("proprietary", n),
        "status": pa.repeat("open", n),
        "reason": numbered("the store did not answer in time, kind ", each),
        "lines": pa.ListArray.from_arrays(pa.array(np.arange(0, total + 1, lines_each), pa.int32()), lines).cast(lines_type),
    }
    columns = [values[field.name].cast(field.type) if field.name in values else pa.nulls(n, field.type) for field in schema]
    write_deltalake(lake.path(ANOMALIES), pa.table(columns, schema=schema), partition_by=list(ANOMALIES.partition))
    found = lake.arrow(ANOMALIES, system="big", ds=DS)
    findings = derive_findings(lake, "big", DS, found, 10 * n, night_telling(lake, "big", DS, found, [], {}, counted=True))
    lake.replace(FINDINGS, findings, system="big", ds=DS)
    write_incidents(lake, DS, "r")
    lake.append(
        NIGHTS,
        [{"ds": DS, "system": "big", "outcome": "done", "n_sessions": 10 * n, "n_lines": 40 * n, "n_anomalies": n, "versions": VERSIONS}],
    )
    note(lake, "big")
    return lake
