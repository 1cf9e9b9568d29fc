"""Evaluate the history detector on all labelled systems: `python -m nightlog.evaluation.history --data FOLDER [--verdicts FILE]`.

Protocol: natural prevalence; the adaptation part is the reference, without labels; figures are of the test part. Nothing is chosen by
labels of the target. Intervals are a bootstrap over patterns. Means are over families, systems of a family averaged first. Choices
that were made on averages over these systems are listed in CHOICES.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nightlog.evaluation.corpus import MAIN
from nightlog.evaluation.labelled import SCORABLE, Labelled, labelled_systems
from nightlog.evaluation.metrics import Scored as Cells
from nightlog.evaluation.metrics import average_precision
from nightlog.evaluation.simulate import ALL, STOP, Subject, Verdicts, fusionlog, read_verdicts, verdicts_of, with_answers, with_questions
from nightlog.history.channels import UNLIKENESS
from nightlog.history.score import THRESHOLD, combine

DRAWS = 400
TOP_SHARE = 0.03
ALARM_LIMIT = 28.0
CHOICES = (
    "score: strongest of the four channels, 0.7 for bern, severity as a factor: average precision, mean over families; the first form, "
    "square root of their mean, was chosen on seven families and had .53 on five new ones (.65 on the four that can be scored)",
    "words of severity: written with general phrases, after errors of BGL and PostgreSQL had been read",
    f"threshold {THRESHOLD} (or the top 3 %): F1 and alarms on clean systems, mean over families; the leave-one-family-out row checks it",
    "tonight's sessions count half in the reference: average precision over these systems, and the raw HDFS nights, whose third differs",
    "student: similarity, its length, scale, weight of a label, slope of the prior: F1 with 3 to 20 answers, mean over families",
    "fusion on the unlikeness channels alone: F1 of HDFS, BGL nodes and OpenStack with recorded verdicts",
)

COLUMNS = ("system", "sessions", "anomalous", "patterns", "AP", "F1", "precision", "recall", "alarms per 1,000", "alarms, clean")
SPANS = (("average_precision", "ap_low", "ap_high"), ("f1", "f1_low", "f1_high"))

UPPER_BOUND = "baseline:labels of patterns"  # knows the labels: what patterns allow
COLD_START = (50, 100, 200, 500, 1000, 2000)

STOPPED = ("generallog, stop rule", "generallog")

Record = dict[str, Any]


def baselines(subject: Subject) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, score, flags) of simpler detectors on the same parts."""
    words, levels = (
        subject.patterns.largest(severity[subject.patterns.template])[0]
        for severity in (subject.scorer.channels.wording(subject.patterns), subject.scorer.channels.log_level(subject.patterns))
    )
    yield UPPER_BOUND, subject.system.share, subject.system.share > 0.5
    yield "baseline:always_anomalous", np.zeros(len(words)), np.ones(len(words), dtype=bool)
    yield "baseline:severity_words", words, words >= 0.6
    yield "baseline:level_error", levels, levels >= 0.6
    raw = subject.scorer.channels.values(subject.patterns).raw
    own = subject.scorer.channels.values(subject.scorer.channels.known).raw
    sessions = subject.scorer.channels.sessions
    for name in UNLIKENESS:
        order = np.argsort(-own[name], kind="stable")
        held = np.cumsum(sessions[order]) / sessions.sum()
        limit = own[name][order][min(int(np.searchsorted(held, TOP_SHARE)), len(order) - 1)]
        yield f"baseline:{name}", raw[name], raw[name] > limit


def ablations(subject: Subject) -> Iterator[tuple[str, np.ndarray]]:
    """Scores without one part each."""
    scored, severity = subject.scored, np.maximum(subject.scored.words, subject.scored.level)
    for i, name in enumerate(UNLIKENESS):
        rest = scored.unlikeness.copy()
        rest[:, i] = 0
        yield f"history -{name}", combine(rest, severity)
    yield "history -severity", combine(scored.unlikeness, 0 * severity)
    yield "history -level", combine(scored.unlikeness, scored.words)
    yield "history -unlikeness", severity
    yield "history -strongest (mean)", scored.unlikeness.mean(axis=1) * (1 + severity)


def record(subject: Subject, mode: str, score: np.ndarray, flagged: np.ndarray, clean: np.ndarray | None = None) -> Record:
    """Return a flat record of a mode on a system: figures of the test part, with their intervals over patterns."""
    system = subject.system
    cells = Cells(score, flagged, system.anomalous, system.normal)
    has_both = system.anomalous.sum() > 0
    low, high, ap_low, ap_high = bootstrap(cells) if has_both else (0.0,) * 4
    return {
        "system": system.name,
        "family": system.family,
        "mode": mode,
        "f1": round(subject.f1(flagged), 4),
        "f1_low": round(low, 4),
        "f1_high": round(high, 4),
        "precision": round(float(system.anomalous[flagged].sum()) / max(1, int((system.anomalous + system.normal)[flagged].sum())), 4),
        "recall": round(float(system.anomalous[flagged].sum()) / max(1, int(system.anomalous.sum())), 4),
        "average_precision": round(average_precision(cells), 4) if has_both else None,
        "ap_low": round(ap_low, 4),
        "ap_high": round(ap_high, 4),
        "f1_unseen": round(subject.f1(flagged, system.unseen), 4) if system.anomalous[system.unseen].any() else None,
        "alarms_per_1000": round(1000 * float(system.normal[flagged].sum()) / max(1, int(system.normal.sum())), 2),
        "alarms_clean": round(subject.alarms(clean), 2) if clean is not None else None,
        "n_sessions": int((system.anomalous + system.normal).sum()),
        "n_anomalous": int(system.anomalous.sum()),
        "n_patterns": len(flagged),
    }


def bootstrap(cells: Cells, seed: int = 0) -> tuple[float, float, float, float]:
    """Return the middle 95 % of F1 and of average precision over patterns drawn with replacement."""
    random, kept = np.random.default_rng(seed), (cells.anomalous + cells.normal) > 0
    order = np.argsort(-cells.probability[kept], kind="stable")
    score, flag, bad, good = (
        values[kept][order].astype(float) for values in (cells.probability, cells.flagged, cells.anomalous, cells.normal)
    )
    last = np.append(score[1:] != score[:-1], True)
    drawn = random.multinomial(len(score), np.full(len(score), 1 / len(score)), size=DRAWS)
    true, all_bad = drawn @ (bad * flag), np.maximum(drawn @ bad, 1e-9)
    found = 2 * true / np.maximum(drawn @ ((bad + good) * flag) + all_bad, 1e-9)
    hit, shown = np.cumsum(drawn * bad, axis=1)[:, last], np.cumsum(drawn * (bad + good), axis=1)[:, last]
    gain = np.diff(np.concatenate([np.zeros((DRAWS, 1)), hit], axis=1), axis=1)
    precision = (gain * hit / np.maximum(shown, 1e-9)).sum(axis=1) / all_bad
    return tuple(float(value) for each in (found, precision) for value in np.quantile(each, [0.025, 0.975]))  # type: ignore[return-value]


def by_other_families(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, float]]:
    """For each system the threshold on suspicion that has the best F1 on the other families, with few alarms on clean ones."""
    grid = np.round(np.arange(0.6, 1.8, 0.05), 2)
    flagged = {subject.system.name: [subject.f1(subject.scored.suspicion >= at) for at in grid] for subject in subjects}
    alarms = {subject.system.name: [subject.alarms(subject.clean.suspicion >= at) for at in grid] for subject in subjects}
    for subject in subjects:
        others = [other for other in subjects if other.system.family != subject.system.family]
        gain = np.array([family_mean((o.system.family, flagged[o.system.name][i]) for o in others) for i in range(len(grid))])
        cost = np.array([statistics.median([alarms[o.system.name][i] for o in others]) if others else 0.0 for i in range(len(grid))])
        yield subject, float(grid[int(np.argmax(gain - 0.02 * np.maximum(0, cost - ALARM_LIMIT)))])


def learned_weights(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, np.ndarray]]:
    """For each system log-odds by a logistic regression on the channels, learned from the other families, each with the same weight."""
    from sklearn.linear_model import LogisticRegression

    features = {s.system.name: np.column_stack([s.scored.unlikeness, s.scored.words, s.scored.level]) for s in subjects}
    for subject in subjects:
        rows, labels, weights = [], [], []
        for other in subjects:
            if other.system.family == subject.system.family:
                continue
            alike = sum(each.system.family == other.system.family for each in subjects)
            for label, sessions in enumerate((other.system.normal, other.system.anomalous)):
                rows.append(features[other.system.name])
                labels.append(np.full(len(sessions), label))
                weights.append(sessions / max(1, sessions.sum()) / alike)
        if rows:
            weight = np.concatenate(weights)
            model = LogisticRegression(max_iter=2000).fit(np.concatenate(rows), np.concatenate(labels), sample_weight=1000 * weight)
            yield subject, model.decision_function(features[subject.system.name])


def evaluate(systems: Sequence[Labelled], verdicts: Verdicts | None) -> list[Record]:
    """Return the records of all modes on all systems."""
    subjects = [Subject.of(system) for system in systems]
    records = []
    for subject in subjects:
        scored = subject.scored
        records += [record(subject, name, score, flagged) for name, score, flagged in baselines(subject)]
        records += [record(subject, name, score, score < -1) for name, score in ablations(subject)]
        curve = with_answers(subject)
        for answers, flagged in curve.flagged.items():
            clean = subject.clean.flagged if answers == 0 else None
            name, score = (f"history+{answers}answers", curve.probability[answers]) if answers else ("history", scored.score)
            records.append(record(subject, name, score, flagged, clean))
        night = Subject.of(subject.system, with_test=True)
        records.append(record(night, "history, tonight in the reference", night.scored.score, night.scored.flagged, night.clean.flagged))
        known = verdicts_of(subject, verdicts) if verdicts is not None else None
        if known is None:
            continue
        verdict, group = known
        records.append(record(subject, "llm_two_rounds", verdict, verdict > 0.5))
        asked = with_questions(subject, verdict, group)
        for step, flagged in asked.flagged.items():
            name = {STOP: "generallog, stop rule", ALL: "generallog"}.get(step, f"generallog+{step}questions")
            row = record(subject, name, asked.probability[step], flagged)
            records.append(row | {"questions": asked.questions[step]})
        records.append(record(subject, "fusionlog", *fusionlog(subject, verdict)))
    records += [record(s, "history, weights of other families", score, score >= 0) for s, score in learned_weights(subjects)]
    for subject, threshold in by_other_families(subjects):
        flags = [each.suspicion >= threshold for each in (subject.scored, subject.clean)]
        records.append(record(subject, "history, threshold of other families", subject.scored.score, *flags) | {"threshold": threshold})
    return records


def cold_start(systems: Sequence[Labelled], sizes: Sequence[int] = COLD_START, seeds: int = 3) -> str:
    """Return a table of average precision and F1, mean over families, by the number of sessions in the reference."""
    lines = ["\n## Cold start\n", "| sessions in the reference | average precision | F1 |", "|---|---|---|"]
    for size in sizes:
        subjects = [Subject.of(system.shortened(size, seed)) for system in systems for seed in range(seeds)]
        cells = [Cells(each.scored.score, each.scored.flagged, each.system.anomalous, each.system.normal) for each in subjects]
        precision = family_mean((each.system.family, average_precision(cell)) for each, cell in zip(subjects, cells, strict=True))
        lines.append(f"| {size:,} | {precision:.3f} | {family_mean((s.system.family, s.f1(s.scored.flagged)) for s in subjects):.3f} |")
    return "\n".join(lines)


def family_mean(values: Iterable[tuple[str, float]]) -> float:
    """Return the mean over families of the means over their systems, of pairs (family, value).

    >>> round(family_mean([("bgl", 0.2), ("bgl", 0.4), ("hdfs", 0.9)]), 3)
    0.6
    """
    families: dict[str, list[float]] = {}
    for family, value in values:
        families.setdefault(family, []).append(value)
    return statistics.fmean(statistics.fmean(each) for each in families.values())


def report(records: Sequence[Record]) -> str:
    """Return the tables as Markdown: a row per mode, a column per system, mean over families, worst, and the three main systems."""
    hidden = [row["system"] for row in records if row["mode"] == UPPER_BOUND and (row["average_precision"] or 0) < SCORABLE]
    systems = list(dict.fromkeys(row["system"] for row in records if row["system"] not in hidden))
    lines = [f"Left out of all means, since their patterns do not tell anomalous sessions apart: {', '.join(hidden)}"] if hidden else []
    records = [row for row in records if row["system"] not in hidden]
    for title, measure in (("Average precision", "average_precision"), ("F1", "f1"), ("F1 of unseen patterns", "f1_unseen")):
        lines += [f"\n## {title}\n", f"| mode | {' | '.join(systems)} | families | worst | main 3 |", "|---" * (len(systems) + 4) + "|"]
        for mode in dict.fromkeys(row["mode"] for row in records):
            own = {row["system"]: row for row in records if row["mode"] == mode}
            found = {name: row[measure] for name, row in own.items() if row[measure] is not None}
            if not found or (measure != "average_precision" and mode.startswith("history -")):
                continue
            cells = [f"{found[name]:.3f}" if name in found else "" for name in systems]
            lines.append(f"| {mode} | {' | '.join(cells)} | {' | '.join(summary(own, found))} |")
    lines += ["\n## History without answers\n", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in records:
        if row["mode"] == "history":
            spans = [f"{row[name]:.3f} ({row[low]:.2f}–{row[high]:.2f})" for name, low, high in SPANS]
            sizes = [f"{row[name]:,}" for name in ("n_sessions", "n_anomalous", "n_patterns")]
            rates = [f"{row[name]:.3f}" for name in ("precision", "recall")]
            alarms = [f"{row[name]:.1f}" for name in ("alarms_per_1000", "alarms_clean")]
            lines.append(f"| {' | '.join([row['system'], *sizes, *spans, *rates, *alarms])} |")
    for mode in ("history", "history, tonight in the reference", "history, threshold of other families"):
        clean = [row["alarms_clean"] for row in records if row["mode"] == mode]
        lines.append(f"\n{mode}: median alarms per 1,000 sessions of systems without anomalies {statistics.median(clean):.1f}")
    asked = [f"{row['system']} {row['mode'].removeprefix('generallog')}: {row['questions']}" for row in records if row["mode"] in STOPPED]
    lines.append(f"\nQuestions asked, those of the second round included: {'; '.join(asked) or 'none'}")
    lines += ["\n## Choices made on averages over these systems\n", *(f"- {choice}" for choice in CHOICES)]
    return "\n".join(lines)


def summary(own: Mapping[str, Record], found: Mapping[str, float]) -> list[str]:
    """Return mean over families, worst, and mean of the main systems, if all of these were run."""
    mean = family_mean((own[name]["family"], value) for name, value in found.items())
    main = [found[name] for name in MAIN if name in found]
    return [f"**{mean:.3f}**", f"{min(found.values()):.3f}", f"{statistics.fmean(main):.3f}" if len(main) == len(MAIN) else ""]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; write the records to --out."""
    parser = argparse.ArgumentParser(prog="python -m nightlog.evaluation.history", description="Evaluate the history detector.")
    shared = os.environ.get("NIGHTLOG_SHARED")
    sessions, verdicts = (Path(shared, *parts) if shared else None for parts in (("data", "sessions"), ("llm", "verdicts.jsonl.gz")))
    parser.add_argument("--sessions", type=Path, default=sessions, help="folder of the session sets")
    parser.add_argument("--verdicts", type=Path, default=verdicts, help="file of recorded LLM verdicts")
    parser.add_argument("--systems", default="", help="names, separated by commas; all without")
    parser.add_argument("--cold-start", action="store_true", help="add the table by number of sessions in the reference")
    parser.add_argument("--out", type=Path, help="file for the records, JSON")
    given = parser.parse_args(argv)
    systems = list(labelled_systems(given.sessions, tuple(name for name in given.systems.split(",") if name)))
    records = evaluate(systems, read_verdicts(given.verdicts) if given.verdicts is not None else None)
    print(report(records))
    if given.cold_start:
        print(cold_start([system for system in systems if system.is_scorable]))
    if given.out is not None:
        given.out.write_text(json.dumps(records, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
