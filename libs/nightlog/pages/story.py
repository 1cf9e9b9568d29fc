"""The whole story of a session's verdict, from the lake: what happened, who decided, why, and what else is known. No Spark."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import OF_GENERAL, known_threshold
from nightlog.feedback.groups import group_ids
from nightlog.feedback.questions import answers_by_question, keys_of
from nightlog.feedback.store import Statement, history, statement
from nightlog.history.channels import Templates
from nightlog.history.general import is_general_model
from nightlog.history.night import usual_levels
from nightlog.history.severity import severities
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import PatternNight, message_templates, template_texts
from nightlog.lake.tables import (
    ANOMALIES,
    ANSWERS,
    EVENTS_TABLE,
    FINDINGS,
    HISTORY,
    LINES_TABLE,
    MODELS,
    NIGHTS,
    PATTERNS,
    ROUTES,
    SCORES,
    SESSIONS,
    VERDICTS,
    AnomalyRow,
    AnswerRow,
    TableSpec,
    VerdictRow,
)
from nightlog.lake.tables.gold import TellingTemplate
from nightlog.llm.verdicts import stored_verdict
from nightlog.outcomes import is_published
from nightlog.pages.model import Gap, Line, day, sample_lines
from nightlog.pages.read import LOOK_BACK_DAYS, utc
from nightlog.publishing.decide import Cause, Decision, Thresholds, decisions
from nightlog.publishing.findings import difference_columns
from nightlog.publishing.raw_lines import records_of_part
from nightlog.publishing.telling import telling_templates
from nightlog.systems.spec import LONGEST_RECORD

Row = dict[str, Any]
LINE_SCHEMA = pa.schema([("file", pa.string()), ("line_no", pa.int64()), ("text", pa.string())])
CLOSEST_FIRST = ("label", "confidence", "reason", "round", "group", "first_label", "first_confidence", "prompt", "llm", "served_by")


@dataclass(frozen=True)
class About:
    """The rows of a session and of its pattern, as the night has them; empty where there is none."""

    place: PatternNight
    session: Row
    pattern: Row
    route: Row
    score: Row
    anomaly: Row
    night: Row
    history: Row
    texts: Mapping[str, str]


def read_story(lake: Lake, place: PatternNight, n_lines: int, today: str, record_start: str | None = None) -> Row:
    """Return the story of a session, as values that JSON can hold.

    Args: place, with a session; n_lines, the most events with their raw lines; today, YYYY-MM-DD; record_start, the expression that begins
    a record of the system, if its records span lines.
    Returns: session, verdict, router, small_model, history, llm (one a verdict), telling (see gold.findings), events, feedback, nights;
    events that are left out are counted by {"left_out": n}.
    """
    about = read_about(lake, place)
    verdicts = verdicts_of(lake, about)
    feedback = lake.rows(ANSWERS, system=place.system)
    telling = telling_of(lake, about)
    evidence = about.anomaly.get("evidence") or evidence_of(about)
    return {
        "session": {"system": place.system, "ds": place.ds, "pattern_id": place.pattern_id}
        | {name: about.session.get(name) for name in ("session_id", "started_at", "ended_at", "n_events")}
        | {"question_id": about.pattern.get("question_id"), "sessions_alike": about.pattern.get("n_sessions")},
        "verdict": verdict_of(lake, about, verdicts, feedback),
        "router": {"route": about.route.get("route"), "similarity": about.route.get("similarity"), "tau": about.night.get("tau")},
        "small_model": {"probability": about.score.get("probability"), "model": about.score.get("model")},
        "templates": evidence,
        "history": {name: about.history.get(name) for name in ("probability", "flagged", "reasons", "student", "overruled")},
        "llm": [
            {name: row.get(name) for name in CLOSEST_FIRST} | {"asked_at": row["asked_at"], "in_force": in_force(row, about.night)}
            for row in verdicts
        ],
        "telling": telling,
        "events": events_of(lake, about, {row["template_id"] for row in telling if row["change"] == "more"}, n_lines, record_start),
        "feedback": [row for row in history(feedback, today) if is_about(row, about, verdicts)],
        "nights": nights_of(lake, place),
    }


def read_about(lake: Lake, place: PatternNight) -> About:
    """The rows of a session and its pattern."""
    of_night = {"system": place.system, "ds": place.ds}
    of_pattern = of_night | {"pattern_id": place.pattern_id}
    texts = template_texts(lake, place.system)
    return About(
        place,
        first(lake, SESSIONS, session_id=place.session_id or "", **of_night),
        first(lake, PATTERNS, **of_pattern),
        first(lake, ROUTES, **of_pattern),
        first(lake, SCORES, **of_pattern),
        first(lake, ANOMALIES, session_id=place.session_id or "", **of_night),
        first(lake, NIGHTS, **of_night),
        first(lake, HISTORY, **of_pattern),
        texts,
    )


def first(lake: Lake, spec: TableSpec, **equal: str) -> Row:
    """The row with these values, empty where there is none."""
    return next(iter(lake.rows(spec, None, **equal)), {})


def in_force(row: Mapping[str, Any], night: Mapping[str, Any]) -> bool:
    """Return True if the night was published under this verdict's prompt and LLM."""
    versions = night.get("versions") or {}
    return row["prompt"] == versions.get("prompt") and versions.get("llm") in (None, row["llm"])


def verdicts_of(lake: Lake, about: About) -> list[VerdictRow]:
    """Return all verdicts of LLMs on the pattern's question, those in force first, then the newest."""
    question = about.pattern.get("question_id")
    rows = lake.rows(VERDICTS, system=about.place.system, question_id=question) if question else []
    newest = sorted(rows, key=lambda row: row["asked_at"], reverse=True)
    return sorted(newest, key=lambda row: not in_force(row, about.night))


def evidence_of(about: About) -> list[Row]:
    """The pattern's templates, most telling first, as gold.anomalies has them of an anomalous session."""
    near = {each["template_id"]: each for each in about.route.get("nearest") or ()}
    weights = {each["template_id"]: each["weight"] for each in about.score.get("weights") or ()}
    found = [
        {
            "template": about.texts.get(event["template_id"], event["template_id"]),
            "count": event["count"],
            "nearest_source_template": near.get(event["template_id"], {}).get("nearest_source_template"),
            "similarity": near.get(event["template_id"], {}).get("similarity"),
            "weight": weights.get(event["template_id"]),
            "template_id": event["template_id"],
        }
        for event in about.pattern.get("events") or ()
    ]
    return sorted(found, key=lambda row: (-(row["weight"] or 0), row["template_id"]))


def thresholds_of(lake: Lake, version: str | None) -> Thresholds | None:
    """Return the thresholds of a model, from its manifest in ops.models; None if it is not there."""
    if version is not None and is_general_model(version):
        return Thresholds.of(OF_GENERAL)
    row = next(iter(lake.rows(MODELS, ["manifest"], version=version or "")), None)
    if row is None:
        return None
    found = json.loads(row["manifest"])
    calibration = Calibration(**found["calibration"]) if "calibration" in found else Calibration()
    threshold, foreign_threshold = (known_threshold(found[name]) for name in ("threshold", "foreign_threshold"))
    return Thresholds(threshold, foreign_threshold, Calibration(**found["foreign"]), calibration, bool(found.get("system")))


def verdict_of(lake: Lake, about: About, verdicts: Sequence[VerdictRow], feedback: Sequence[AnswerRow]) -> Row:
    """Return the night's verdict on the session: the published row; for a normal session its judge and the reason.

    `held_to` is what the small model's probability must reach; `can_flag` is False if it cannot. A session that nobody judged has no label.
    """
    night, anomaly = about.night, about.anomaly
    names = ("score", "decided_by", "status", "route", "reason", "run_id", "versions")
    by = thresholds_of(lake, (night.get("versions") or {}).get("model") or about.score.get("model"))
    held_to = None if by is None else by.on(about.route.get("route") or "proprietary")[1]
    flags = by is None or held_to is not None or about.history.get("flagged") is not None
    model = {"held_to": held_to, "can_flag": flags}
    if anomaly:
        return {"label": "anomalous", "published": True} | {name: anomaly[name] for name in names} | model
    published = is_published(night.get("outcome"))
    then = night.get("run_at") if published else None
    decision = decided_then(about, [row for row in verdicts if in_force(row, night)], feedback, by, then)
    found: Row = {"label": None, "published": published} | model | dict.fromkeys(names)
    found |= {"run_id": night.get("run_id"), "versions": night.get("versions")}
    if decision is not None:
        told_of = {name: getattr(decision, name) for name in ("score", "decided_by", "status", "route", "reason")}
        label = None if decision.decided_by is None else "anomalous" if decision.anomalous else "normal"
        found |= told_of | {"label": label}
    elif published:
        found |= {"label": "normal", "reason": "no score or no verdict is left that says why"}
    if not published:
        found["reason"] = f"the night was not published: {night.get('outcome', 'no run of it got so far')}; {found['reason'] or ''}"
    return found


def decided_then(
    about: About, verdicts: Sequence[VerdictRow], feedback: Sequence[AnswerRow], by: Thresholds | None, then: datetime | None
) -> Decision | None:
    """Return the decision on the pattern by the rows of the time when the night was published; None if rows are missing."""
    if by is None or not about.pattern:
        return None
    known = [row for row in verdicts if then is None or utc(row["asked_at"]) <= utc(then)][:1]
    earlier = [row for row in feedback if then is None or utc(row["answered_at"]) <= utc(then)]
    by_question = {row["question_id"]: row for row in known}
    groups = group_ids(about.place.system, {name: stored_verdict(row) for name, row in by_question.items()}, keys_of(by_question))
    answers = [
        {"question_id": name, "answer": row["label"], "told": statement(row)} for name, row in answers_by_question(earlier, groups).items()
    ]
    if not about.route or not about.score:
        return None
    no_verdict: Cause = "off" if (about.night.get("versions") or {}).get("llm") is None else "not_answered"
    return next(
        decisions([about.pattern], [about.route], [about.score], known, answers, by, no_verdict, [about.history] if about.history else ())
    )


def telling_of(lake: Lake, about: About) -> list[TellingTemplate]:
    """Return the difference to the nearest normal pattern of the night, as in gold.findings: of a normal session, too."""
    of_night = {"system": about.place.system, "ds": about.place.ds}
    if finding := first(lake, FINDINGS, pattern_id=about.place.pattern_id, **of_night):
        return list(finding["telling"] or ())
    if not about.pattern:
        return []
    anomalous = set(lake.arrow(ANOMALIES, ["pattern_id"], **of_night).column("pattern_id").unique().to_pylist())
    templates = Templates(about.texts, usual_levels(lake, about.place.system, [about.place.ds]))
    counted = about.pattern["question_id"] == about.place.pattern_id
    severity = severities(templates.text, templates.level)
    patterns = lake.rows(PATTERNS, ["pattern_id", "events", "n_sessions"], **of_night)
    found = telling_templates(patterns, anomalous | {about.place.pattern_id}, severity, counted)
    return difference_columns(found.get(about.place.pattern_id, ()), templates)["telling"]


def events_of(lake: Lake, about: About, marked: set[str], limit: int, record_start: str | None) -> list[Row]:
    """Return the session's events in time with their raw lines, or {"left_out": n}.

    An event: at, file, line_no, template_id, template, text, continuation (the lines that continue its record), marked.
    """
    place, began = about.place, about.session.get("started_at")
    since = utc(began).date().isoformat() if began is not None else place.ds
    days = [at for at in (day(place.ds, -n) for n in range(LOOK_BACK_DAYS + 1)) if at >= since or at == place.ds]
    columns = ["ds", "file", "line_no", "at", "message_id"]
    rows = matching(lake, EVENTS_TABLE, columns, place.system, days, {"session_id": [place.session_id]})
    rows.sort(key=lambda row: (row["ds"], row["at"] is not None, row["at"], row["file"], row["line_no"]))
    template_of = message_templates(lake, place.system)
    by_line = {(row["file"], row["line_no"]): (row["ds"], template_of.get(row["message_id"], "")) for row in rows}
    lines = [Line(row["at"], row["file"], row["line_no"], "", template_of.get(row["message_id"]) in marked) for row in rows]
    kept = sample_lines(lines, limit, max(1, limit * 2 // 3))
    texts = published_texts(about.anomaly.get("lines") or (), by_line)
    wanted = [(by_line[each.file, each.line_no][0], each) for each in kept if isinstance(each, Line)]
    texts |= texts_of(lake, place.system, wanted, record_start)
    found: list[Row] = []
    for each in kept:
        if isinstance(each, Gap):
            found.append({"left_out": each.n_lines})
            continue
        _, template = by_line[each.file, each.line_no]
        text, *continuation = texts.get((each.file, each.line_no), [None])
        row = {"at": each.at, "file": each.file, "line_no": each.line_no, "template_id": template, "template": about.texts.get(template)}
        found.append(row | {"text": text, "continuation": continuation, "marked": each.marked})
    return found


def published_texts(lines: Iterable[Mapping[str, Any]], events: Collection[tuple[str, int]]) -> dict[tuple[str, int], list[str | None]]:
    """Return (file, line_no) of an event → its raw lines, of the lines that were published with a session."""
    found: dict[tuple[str, int], list[str | None]] = {}
    last: list[str | None] = []
    for each in lines:
        if (place := (each["file"], each["line_no"])) in events:
            last = found.setdefault(place, [])
        last.append(each["text"])
    return found


def texts_of(
    lake: Lake, system: str, wanted: Iterable[tuple[str, Line]], record_start: str | None
) -> dict[tuple[str, int], list[str | None]]:
    """Return (file, line_no) → raw text of lines (day, line) and of the lines that continue the record; dropped lines are not there."""
    by_file: dict[tuple[str, str], set[int]] = {}
    for ds, line in wanted:
        by_file.setdefault((ds, line.file), set()).add(line.line_no)
    found: dict[tuple[str, int], list[str | None]] = {}
    for (ds, file), numbers in by_file.items():
        near = numbers if record_start is None else {n + more for n in numbers for more in range(LONGEST_RECORD)}
        rows = matching(lake, LINES_TABLE, ["file", "line_no", "text"], system, [ds], {"file": [file], "line_no": sorted(near)})
        rows.sort(key=lambda row: row["line_no"])
        if record_start is not None:
            first_rows = np.flatnonzero([row["line_no"] in numbers for row in rows])
            lines = pa.Table.from_pylist(rows, LINE_SCHEMA)
            rows = records_of_part(ds, lines, first_rows, re.compile(record_start)).rows.to_pylist()
        for row in rows:
            found.setdefault((file, row["line_no"]), []).append(row["text"])
    return found


def matching(
    lake: Lake, spec: TableSpec, columns: list[str], system: str, days: Sequence[str], among: Mapping[str, Sequence[Any]]
) -> list[Row]:
    """Rows of some days of a system in which each named column has one of the values. Numbers in order let row groups be passed over."""
    import pyarrow.compute as pc

    if not lake.exists(spec):
        return []
    condition = (pc.field("system") == system) & pc.field("ds").isin(list(days))
    for name, values in among.items():
        if isinstance(values[0], int):
            condition &= (pc.field(name) >= values[0]) & (pc.field(name) <= values[-1])
        condition &= pc.field(name) == values[0] if len(values) == 1 else pc.field(name).isin(list(values))
    rows: list[Row] = lake.dataset(spec).to_table(columns=columns, filter=condition).to_pylist()
    return rows


def is_about(row: Statement, about: About, verdicts: Sequence[VerdictRow]) -> bool:
    """Return True if feedback is about the session's pattern, one of its templates, or the group of its question. `row`: see
    `history`.
    """
    if row["about"] == "pattern":
        return row["target"] == about.place.pattern_id
    if row["about"] == "template":
        return row["target"] in {event["template_id"] for event in about.pattern.get("events") or ()}
    by_question = {each["question_id"]: each for each in verdicts[:1]}
    groups = group_ids(about.place.system, {name: stored_verdict(each) for name, each in by_question.items()}, keys_of(by_question))
    return row["target"] in groups.values()


def nights_of(lake: Lake, place: PatternNight) -> list[Row]:
    """The nights with the pattern, newest first: ds, sessions, anomalous (how many of them were published so), decided_by, status."""
    columns = ["ds", "decided_by", "status"]
    flagged: dict[str, list[AnomalyRow]] = {}
    for row in lake.rows(ANOMALIES, columns, system=place.system, pattern_id=place.pattern_id):
        flagged.setdefault(row["ds"], []).append(row)
    seen = {
        row["ds"]: row["n_sessions"] for row in lake.rows(PATTERNS, ["ds", "n_sessions"], system=place.system, pattern_id=place.pattern_id)
    }
    found = []
    for ds in sorted(seen.keys() | flagged.keys(), reverse=True):
        rows = flagged.get(ds, [])
        one: AnomalyRow = rows[0] if rows else {}
        weekday = date.fromisoformat(ds).strftime("%a")
        told_of = {"ds": ds, "weekday": weekday, "sessions": seen.get(ds, len(rows)), "anomalous": len(rows)}
        found.append(told_of | {"decided_by": one.get("decided_by"), "status": one.get("status")})
    return found
