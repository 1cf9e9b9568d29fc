"""The rows of real nights against the system's labels: what was flagged, and the LLM's verdicts, pattern by pattern."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightlog.errors import ConfigError, NotThere
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANOMALIES, NIGHTS, PATTERNS, SCORES, SESSIONS, VERDICTS, VerdictRow
from nightlog.lake.tables.gold import JudgeVersions
from nightlog.systems.catalog import read_label_file
from nightlog.systems.spec import System


def read_labels(system: System, data: Path) -> dict[str, bool]:
    """Session id → whether it is anomalous, from the system's label file."""
    if system.labels is None or system.labels.file is None:
        raise ConfigError(f"{system.name} has no label file: give `file` under [labels]")
    return {session: label == 1 for session, label in read_label_file(data / system.labels.file, system.name).items()}


def score(flagged: set[str], truth: dict[str, bool]) -> dict[str, float]:
    """Precision, recall, F1 and false alarms per 1,000 of flagged sessions among those with a label."""
    true = sum(truth[session] for session in flagged & truth.keys())
    false = len(flagged & truth.keys()) - true
    anomalous = sum(truth.values())
    precision, recall = true / max(1, true + false), true / max(1, anomalous)
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
        "found": true,
        "false": false,
        "anomalous": anomalous,
        "sessions": len(truth),
        "false_alarms_per_1000": round(1000 * false / max(1, len(truth)), 2),
    }


def evaluate_nights(lake: Lake, system: System, nights: list[str], data: Path) -> list[dict[str, Any]]:
    """One row for what Nightlog flagged on all these nights together, and one for "always anomalous" beside it.

    A session counts once, flagged if any of the nights flagged it; sessions that did not occur on the nights are left out.
    """
    truth = read_labels(system, data)
    seen = {row["session_id"] for ds in nights for row in lake.rows(SESSIONS, ["session_id"], system=system.name, ds=ds)}
    flagged = {row["session_id"] for ds in nights for row in lake.rows(ANOMALIES, ["session_id"], system=system.name, ds=ds)}
    occurring = {session: label for session, label in truth.items() if session in seen}
    if not occurring:
        raise NotThere(f"no labelled session of {system.name} occurs on {', '.join(nights)}: run these nights first")
    common = {"system": system.name, "nights": len(nights), "without_label": len(seen - truth.keys())}
    return [
        common | {"mode": "nightlog"} | score(flagged, occurring),
        common | {"mode": "baseline:always_anomalous"} | score(set(occurring), occurring),
    ]


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
