"""The LLM's verdicts and the small model's scores of some nights, pattern by pattern, held against the system's labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nightlog.evaluation.nights import read_labels
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, NIGHTS, PATTERNS, SCORES, SESSIONS, VERDICTS, VerdictRow
from nightlog.lake.tables.gold import JudgeVersions
from nightlog.systems.spec import System

Rows = list[dict[str, Any]]
BINS = 5


def judged_patterns(lake: Lake, system: System, nights: Sequence[str], truth: Mapping[str, bool]) -> Rows:
    """A row a pattern of the nights: its sessions by their label, the LLM's last word under the prompt of its last night, the small
    model's probability, and whether it was flagged. A session counts once, by its pattern on its last night; those that only occur on
    other nights, or have no label, are left out.

    Args: truth: session id → whether it is anomalous.
    """
    rows: dict[str, dict[str, Any]] = {}
    pattern_of: dict[str, str] = {}
    for ds in sorted(nights):
        place = {"system": system.name, "ds": ds}
        verdicts = verdicts_of(lake, **place)
        small = {row["pattern_id"]: row["probability"] for row in lake.rows(SCORES, ["pattern_id", "probability"], **place)}
        flagged = {row["pattern_id"] for row in lake.rows(ANOMALIES, ["pattern_id"], **place)}
        for row in lake.rows(PATTERNS, ["pattern_id", "question_id"], **place):
            name = row["pattern_id"]
            verdict: VerdictRow = verdicts.get(row["question_id"], {})
            rows[name] = row | {
                "label": verdict.get("label"),
                "confidence": verdict.get("confidence"),
                "reason": verdict.get("reason"),
                "small_model": small.get(name),
                "flagged": name in flagged,
            }
        pattern_of |= {row["session_id"]: row["pattern_id"] for row in lake.rows(SESSIONS, ["session_id", "pattern_id"], **place)}
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for session, pattern in pattern_of.items():
        if session in truth:
            counts[pattern][truth[session]] += 1
    return [row | {"n_normal": counts[name][0], "n_anomalous": counts[name][1]} for name, row in sorted(rows.items()) if name in counts]


def verdicts_of(lake: Lake, system: str, ds: str) -> dict[str, VerdictRow]:
    """Question → the verdict that a night was published by."""
    night = next(iter(lake.rows(NIGHTS, ["versions"], system=system, ds=ds)), None)
    versions: JudgeVersions = (night["versions"] if night is not None else None) or {}
    found = [
        row
        for row in lake.rows(VERDICTS, system=system)
        if row["prompt"] == versions.get("prompt") and versions.get("llm") in (None, row["llm"])
    ]
    return {row["question_id"]: row for row in sorted(found, key=lambda row: row["asked_at"])}


def label_audit(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return what labels and patterns allow: sessions that share their pattern with a session of the other label cannot all be right.

    Returns: n_patterns, n_mixed (patterns with both labels), n_mixed_sessions (those of the label that is rarer in its pattern), and
    best_f1 of anomalous sessions where every pattern is given the label that it has more often.

    >>> label_audit([{"n_normal": 9, "n_anomalous": 1}, {"n_normal": 0, "n_anomalous": 3}])
    {'n_patterns': 2, 'n_mixed': 1, 'n_mixed_sessions': 1, 'best_f1': 0.8571}
    """
    patterns = [(row["n_normal"], row["n_anomalous"]) for row in rows]
    mixed = [pair for pair in patterns if min(pair)]
    called = [pair for pair in patterns if pair[1] > pair[0]]
    true, false = sum(b for _, b in called), sum(a for a, _ in called)
    missed = sum(b for _, b in patterns) - true
    return {
        "n_patterns": len(patterns),
        "n_mixed": len(mixed),
        "n_mixed_sessions": sum(map(min, mixed)),
        "best_f1": round(2 * true / max(1, 2 * true + false + missed), 4),
    }


def reliability(rows: Iterable[Mapping[str, Any]], bins: int = BINS) -> list[tuple[float, float, int]]:
    """Return how often the LLM was right, by how sure it was: (mean confidence, share of sessions judged rightly, sessions) a bin of equal
    width that has any. "unclear" is no verdict.

    >>> reliability([{"label": "normal", "confidence": 0.9, "n_normal": 3, "n_anomalous": 1}])
    [(0.9, 0.75, 4)]
    """
    found: dict[int, list[tuple[float, int, int]]] = defaultdict(list)
    for row in rows:
        if row["label"] in ("normal", "anomalous"):
            right = row[f"n_{row['label']}"]
            found[min(bins - 1, int(row["confidence"] * bins))].append((row["confidence"], right, row["n_normal"] + row["n_anomalous"]))
    bins_found = []
    for _, cells in sorted(found.items()):
        n = sum(size for *_, size in cells)
        bins_found.append((round(sum(c * size for c, _, size in cells) / n, 4), round(sum(right for _, right, _ in cells) / n, 4), n))
    return bins_found


def against_labels(lake: Lake, system: System, nights: Sequence[str], data: Any) -> Rows:
    """`judged_patterns` by the label file under `data` that the system names. Raises ConfigError where it names none."""
    return judged_patterns(lake, system, nights, read_labels(system, data))
