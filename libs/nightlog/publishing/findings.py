"""Findings: the anomalous sessions of one pattern in a night of a system, with novelty, severity and rank.

    impact = certainty * √sessions * (1 + share) * (1 + severity) * (1 + 1 / nights)

`certainty` is the score of the judge that decided, `share` that of the night's sessions, `severity` that of the telling templates, and
`nights` how many nights have had the pattern: 1 if it is new tonight. A finding of many sessions is worth more than one that is a little
more certain, and one that was there all week is worth half of one that is new.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.history.channels import Templates
from nightlog.history.night import usual_levels
from nightlog.history.severity import severities
from nightlog.lake.lake import Lake
from nightlog.lake.tables import FINDINGS, NIGHTS, PATTERNS, FindingRow
from nightlog.lake.tables.gold import TellingTemplate
from nightlog.outcomes import is_published
from nightlog.publishing.telling import Telling, telling_templates

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TREND_NIGHTS = 14
TROUBLE = 0.6  # from this severity on, the rank's reason says so
SEVERE_LEVELS = ("error", "critical", "fatal")
STATUSES = ("open", "provisional", "suppressed")
RANKED_BY = "impact: certainty, sessions, severity, novelty"
SAME = ("status", "decided_by", "route", "score", "reason")  # one value per pattern


def finding_id(system: str, pattern_id: str) -> str:
    """Return the id of a finding: 12 hex digits, the same on every night.

    >>> finding_id("shop", "0a1b") == finding_id("shop", "0a1b") != finding_id("mail", "0a1b")
    True
    """
    return short_hash(system, pattern_id)


def short_hash(*parts: str) -> str:
    """Return 12 hex digits of the hash of some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class EarlierNights:
    """The nights of a system before the one that is published.

    `nights`: those that are published; `sessions`: pattern id → night → its sessions, anomalous then or not; `first_seen`: pattern id →
    the first night with it, as far as earlier findings remember it.
    """

    nights: frozenset[str] = frozenset()
    sessions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    first_seen: Mapping[str, str] = field(default_factory=dict)


def night_findings(
    system: str,
    ds: str,
    sessions: pa.Table,
    n_sessions: int,
    telling: Mapping[str, Sequence[Telling]],
    templates: Templates,
    past: EarlierNights,
) -> list[FindingRow]:
    """Return the findings of a system's night, ranked: rows of gold.findings without system, night, incident and run.

    The order of the sessions does not matter, and their numbers add up to the rows given.

    Args:
        sessions: (session_id, pattern_id, started_at, ended_at, noticed_at, score, decided_by, route, status, reason), one row per
        anomalous session; `noticed_at`: when its telling template was logged, null if that is not known. n_sessions: all sessions of the
        night. telling: pattern id → its telling templates, see `nightlog.publishing.telling`.
    """
    if not len(sessions):
        return []
    ordered = sessions.sort_by([("pattern_id", "ascending"), ("started_at", "ascending"), ("session_id", "ascending")])
    names = ordered.column("pattern_id").cast(pa.string()).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    edges = [*starts.tolist(), len(names)]
    first = ordered.select(["pattern_id", "session_id", *SAME]).take(pa.array(starts)).to_pylist()
    began, ended = (microseconds(ordered.column(name)) for name in ("started_at", "ended_at"))
    noticed = microseconds(ordered.column("noticed_at"))
    minute = minutes_of_day(np.where(np.isnan(noticed), ended, noticed))
    rows = []
    for number, row in enumerate(first):
        own = slice(edges[number], edges[number + 1])
        pattern = row["pattern_id"]
        found = {
            "finding_id": finding_id(system, pattern),
            "example_session_id": row.pop("session_id"),
            "n_sessions": own.stop - own.start,
            "share": round((own.stop - own.start) / max(1, n_sessions), 6),
            "started_at": moment(began[own], np.fmin),
            "ended_at": moment(ended[own], np.fmax),
            "minutes": np.unique(minute[own][minute[own] >= 0]).tolist(),
            "hours": np.bincount(minute[own][minute[own] >= 0] // 60, minlength=24).tolist(),
        }
        found |= difference_columns(telling.get(pattern, ()), templates)
        found |= novelty_columns(ds, found["n_sessions"], past, pattern)
        rows.append(row | found)
    return ranked(rows)


@dataclass(frozen=True)
class NightTelling:
    """The telling templates of a night: `of`: anomalous pattern → its telling templates; `templates`: their texts and usual levels."""

    of: Mapping[str, Sequence[Telling]]
    templates: Templates


def night_telling(
    lake: Lake,
    system: str,
    ds: str,
    anomalies: pa.Table,
    patterns: Sequence[Mapping[str, Any]],
    texts: Mapping[str, str],
    counted: bool,
) -> NightTelling:
    """Return the telling templates of a night.

    Args: anomalies: (pattern_id, …), the anomalous sessions; patterns: the night's rows of silver.patterns; texts: of their templates;
    counted: counts in patterns mean something.
    """
    anomalous = set(anomalies.column("pattern_id").cast(pa.string()).unique().to_pylist())
    levels = usual_levels(lake, system, [ds])
    return NightTelling(telling_templates(patterns, anomalous, severities(texts, levels), counted), Templates(texts, levels))


def derive_findings(lake: Lake, system: str, ds: str, anomalies: pa.Table, n_sessions: int, telling: NightTelling) -> list[FindingRow]:
    """Return the rows of gold.findings, without run, of the anomalous sessions of a night.

    Args: anomalies: rows of gold.anomalies; n_sessions: all sessions of the night.
    """
    past = earlier_nights(lake, system, ds, set(anomalies.column("pattern_id").cast(pa.string()).unique().to_pylist()))
    rows = night_findings(system, ds, anomalies, n_sessions, telling.of, telling.templates, past)
    return [{"system": system, "ds": ds} | row for row in rows]


def earlier_nights(lake: Lake, system: str, ds: str, patterns: Collection[str]) -> EarlierNights:
    """Return on which nights before the patterns were seen, and in how many sessions, whatever they were judged then."""
    nights = frozenset(row["ds"] for row in lake.rows(NIGHTS, ["ds", "outcome"], system=system) if is_published(row["outcome"]))
    sessions: dict[str, dict[str, int]] = {}
    first_seen: dict[str, str] = {}
    wanted = {"system": system, "pattern_id": sorted(patterns)}
    earlier = lake.rows(FINDINGS, ["ds", "pattern_id", "n_sessions", "first_seen"], **wanted) if patterns else []
    for row in [*earlier, *(lake.rows(PATTERNS, ["ds", "pattern_id", "n_sessions"], **wanted) if patterns else [])]:
        if row["ds"] < ds:
            own = sessions.setdefault(row["pattern_id"], {})
            own[row["ds"]] = max(own.get(row["ds"], 0), row["n_sessions"] or 0)
            first_seen[row["pattern_id"]] = min(first_seen.get(row["pattern_id"], ds), str(row.get("first_seen") or row["ds"]))
    return EarlierNights(frozenset(night for night in nights if night < ds), sessions, first_seen)


def difference_columns(telling: Sequence[Telling], templates: Templates) -> FindingRow:
    """Return the columns about the difference to the nearest normal pattern."""
    shown: list[TellingTemplate] = [
        {
            "template_id": each.template_id,
            "template": templates.text.get(each.template_id),
            "change": each.change,
            "count": each.count,
            "usual": each.usual,
            "n_normal": each.n_normal,
            "severity": each.severity,
        }
        for each in telling
    ]
    severity = max((each.severity for each in telling), default=0.0)
    gravest = max((each for each in telling if each.change == "more"), key=lambda each: (each.severity, each.value), default=None)
    level = templates.level.get(gravest.template_id) if gravest is not None else None
    return {"telling": shown, "severity": severity, "level": level}


def novelty_columns(ds: str, n_sessions: int, past: EarlierNights, pattern: str) -> FindingRow:
    """Return on which nights the pattern was seen: the columns from is_new to trend.

    >>> past = EarlierNights(frozenset({"2026-03-02", "2026-03-03"}), {"p": {"2026-03-02": 7}})
    >>> row = novelty_columns("2026-03-04", 5, past, "p")
    >>> row["is_new"], row["first_seen"], row["last_seen"], row["n_nights"], row["trend"][-4:]
    (False, '2026-03-02', '2026-03-02', 2, [None, 7, 0, 5])
    """
    before = past.sessions.get(pattern, {})
    seen = sorted(night for night, n in before.items() if n and night < ds)
    known = {night for night in past.nights if night < ds} | set(seen)
    days = [(date.fromisoformat(ds) - timedelta(days=n)).isoformat() for n in range(TREND_NIGHTS - 1, 0, -1)]
    trend = [before.get(day, 0) if day in known else None for day in days]
    return {
        "is_new": not seen if known else None,
        "first_seen": min([ds, *seen, past.first_seen.get(pattern, ds)]),
        "last_seen": seen[-1] if seen else None,
        "n_nights": len(seen) + 1,
        "trend": [*trend, n_sessions],
    }


def ranked(rows: Sequence[FindingRow]) -> list[FindingRow]:
    """Return findings with impact, rank_reason and rank, in the order of their rank."""
    for row in rows:
        row["impact"] = impact(row["score"], row["n_sessions"], row["share"], row["severity"], row["n_nights"])
        row["rank_reason"] = rank_reason(row)
    return [row | {"rank": number} for number, row in enumerate(sorted(rows, key=rank_key), 1)]


def rank_key(row: Mapping[str, Any]) -> tuple[int, float, str]:
    """Return the key that ranks findings, over all systems: open, provisional, suppressed; then the impact; then the id."""
    place = STATUSES.index(row["status"]) if row["status"] in STATUSES else len(STATUSES)
    return place, -(row["impact"] or 0.0), row["finding_id"]


def impact(score: float | None, n_sessions: int, share: float, severity: float, n_nights: int) -> float:
    """Return the impact of a finding, see the module.

    >>> impact(0.9, 4, 0.0, 0.0, 1) > impact(0.9, 4, 0.0, 0.0, 14) and impact(0.6, 16, 0, 0, 1) > impact(0.9, 1, 0, 0, 1)
    True
    """
    certainty = 0.5 if score is None else score
    return round(certainty * math.sqrt(n_sessions) * (1 + share) * (1 + severity) * (1 + 1 / max(1, n_nights)), 6)


def rank_reason(row: Mapping[str, Any]) -> str:
    """Return the reason for a finding's rank in a sentence.

    >>> row = {"is_new": True, "n_sessions": 12, "share": 0.0075, "severity": 1.0, "level": "error", "score": 0.97}
    >>> rank_reason(row)
    'new tonight, 12 sessions (0.8 %), level error, certainty 0.97'
    >>> rank_reason(row | {"is_new": False, "n_nights": 3, "first_seen": "2026-03-02", "severity": 0.0})
    'seen on 3 nights since 2026-03-02, 12 sessions (0.8 %), certainty 0.97'
    """
    n, percent = row["n_sessions"], 100 * row["share"]
    parts = [novelty_words(row), f"{n:,} session{'s' * (n != 1)} ({f'{percent:.1f} %' if percent >= 0.1 else '< 0.1 %'})"]
    if row["severity"] >= TROUBLE:
        parts.append(f"level {row['level']}" if row["level"] in SEVERE_LEVELS else "its wording reports trouble")
    if row["score"] is not None:
        parts.append(f"certainty {row['score']:.2f}")
    return ", ".join(parts)


def novelty_words(row: Mapping[str, Any]) -> str:
    """Return the novelty of a finding in words."""
    if row["is_new"] is None:
        return "the first night of the system"
    return "new tonight" if row["is_new"] else f"seen on {row['n_nights']:,} nights since {row['first_seen']}"


def microseconds(column: pa.ChunkedArray) -> np.ndarray:
    """Return times as (n,) float microseconds since 1970, UTC; NaN for null."""
    values = pc.cast(column, pa.timestamp("us", column.type.tz)).cast(pa.int64())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def minutes_of_day(at: np.ndarray) -> np.ndarray:
    """Return the minute of the day, 0 to 1439, of times in microseconds; -1 for NaN."""
    known = ~np.isnan(at)
    return np.where(known, np.where(known, at, 0).astype(np.int64) // 60_000_000 % 1440, -1)


def moment(at: np.ndarray, least: np.ufunc) -> datetime | None:
    """Return the least (or greatest) of times in microseconds; None if none is known."""
    found = least.reduce(at)
    return None if np.isnan(found) else EPOCH + timedelta(microseconds=int(found))
