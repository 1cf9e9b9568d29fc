"""`results.md`: what a user may expect, in ten lines, and the tables of a run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nightlog.evaluation.audit import Audit
from nightlog.evaluation.baselines import BASELINES
from nightlog.evaluation.corpus import MAIN
from nightlog.evaluation.metrics import family_mean
from nightlog.evaluation.run import mode_names

Record = Mapping[str, Any]

FIRST = ("hdfs_blocks", "bgl_nodes", "bgl_hours", "openstack_vms", "trainticket_traces", "dovecot", "postfix", "postgres")
ASIDE = ("ablation:", "cold_start:")
SHUFFLED = "+shuffled"
AP, F1, ALARMS = "average_precision", "f1", "alarms_clean"

ABOUT = (
    "Made by `nightlog evaluate`. Figures are about sessions of the test part: the last day if sessions have times, else half of them by a "
    "hash. No point adjustment. Means are over families, systems of a family averaged first. Intervals (95 %) are a bootstrap over "
    "patterns. Nothing is chosen by labels of a target, except as listed under Choices."
)
REPRODUCE = """```
nightlog evaluate --quick --answers 0,10,20     # all systems that are here
nightlog evaluate --quick --public DIR          # builds the session sets of HDFS_v1 and BGL from the published files below DIR
nightlog evaluate --targets mine.jsonl.gz       # your own labelled sessions, or the name of a labelled system in the lake
```

`--public` needs `HDFS.log` and `anomaly_label.csv` of HDFS_v1, and `BGL.log` (https://github.com/logpai/loghub). A
session of BGL is then a day of a node."""
CHOICES = (
    "The form of the history's score (the strongest of four channels, severity as a factor) has the best average precision, mean over "
    "families. Its first form was chosen on seven families. `ablation:form_of_other_families` repeats the choice without the target's.",
    "The words of severity are general English, but they were written after errors of BGL and PostgreSQL had been read.",
    "The threshold was chosen by F1 and by alarms on clean systems, means over families. `ablation:threshold_of_other_families` repeats "
    "the choice without the target's family.",
    "Tonight's sessions count half in the reference: a compromise between these systems and the raw HDFS nights, whose third differs.",
    "The student's similarity, scales and weight of a label were chosen by F1 with 3 to 20 answers, mean over families.",
    "The fusion of verdicts and history was chosen by F1 of HDFS, BGL nodes and OpenStack with recorded verdicts. One group of HDFS "
    "carries its gain.",
    "An LLM's `unclear` counts as no verdict, not as a doubtful one: chosen on the raw HDFS nights, whose F1 rose by it.",
    "MetaProto's features are the history's channels, and inherit these choices; its settings were chosen while looking at these systems.",
    "The constants of `nightlog compare` were chosen on 12 of 24 labelled pairs of build logs; docs/how-to/compare.md has both halves.",
)
KNOWN = {
    "history": "the adaptation part without labels",
    "history+Kanswers": "the same, and K answers of an analyst about patterns of the adaptation part",
    "generallog": "the history, and the LLM's verdicts on all patterns",
    "generallog+Qquestions": "the same, with verdicts on as many patterns as Q questions cover; the student judges the others",
    "generallog+stop_rule": "the LLM is asked until the open doubt is at most 3 %",
    "generallog+Kanswers": "all verdicts, and K answers of an analyst about groups of doubtful ones",
    "fusionlog": "the LLM judges the adaptation part alone; the student judges what is new in the test part",
    "llm_only, llm_two_rounds": "the LLM alone: each pattern once; uncertain ones a second time, side by side",
    "metaproto, learner:…, gru": "labels of the other families; the adaptation part without labels",
    "metaproto+Kanswers": "the same, and K labelled patterns of the adaptation part",
    "…+shuffled": "negative control: labels of the sources shuffled; what is left must be chance",
}


class Results:
    """Records of a run by mode and target; a measure is its mean over the seeds. `hidden` systems, not scorable, are left out of means."""

    def __init__(self, records: Sequence[Record]):
        self.hidden = tuple(dict.fromkeys(record["target"] for record in records if not record["scorable"]))
        self.held_out = tuple(dict.fromkeys(record["target"] for record in records if record["held_out"]))
        self.cells: dict[tuple[str, str, str], list[Record]] = {}
        self.families: dict[str, str] = {}
        for record in records:
            self.cells.setdefault((record["mode"], record["target"], record["sessions"]), []).append(record)
            self.families[record["target"]] = record["family"]
        self.modes = list(dict.fromkeys(mode for mode, _, _ in self.cells))

    def named(self, start: str) -> list[str]:
        """The modes whose names begin so."""
        return [mode for mode in self.modes if mode.startswith(start) and not mode.endswith(SHUFFLED)]

    def value(self, mode: str, target: str, measure: str, sessions: str = "all") -> float | None:
        """A measure of a mode on a target; None if it was not run or has no meaning."""
        known = [record[measure] for record in self.cells.get((mode, target, sessions), ()) if record[measure] is not None]
        return statistics.fmean(known) if known else None

    def values(self, mode: str, measure: str, sessions: str = "all", everything: bool = False) -> dict[str, float]:
        """A measure of a mode by target, without the hidden systems unless `everything`."""
        chosen = [target for target in self.families if everything or target not in self.hidden]
        found = {target: self.value(mode, target, measure, sessions) for target in chosen}
        return {target: value for target, value in found.items() if value is not None}

    def over(self, values: Mapping[str, float]) -> float | None:
        """The mean over families of values by target."""
        return family_mean((self.families[target], value) for target, value in values.items()) if values else None

    def mean(self, mode: str, measure: str, sessions: str = "all") -> float | None:
        """The mean over families, systems of a family averaged first."""
        return self.over(self.values(mode, measure, sessions))

    def main(self, mode: str, measure: str = F1, sessions: str = "all") -> float | None:
        """The mean over the main three systems; None if one of them was not run."""
        found = [value for target in MAIN if (value := self.value(mode, target, measure, sessions)) is not None]
        return statistics.fmean(found) if len(found) == len(MAIN) else None

    def worst(self, mode: str, measure: str) -> float | None:
        """The lowest value of a target."""
        return min(self.values(mode, measure).values(), default=None)

    def median(self, mode: str, measure: str) -> float | None:
        """The median over targets."""
        found = self.values(mode, measure)
        return statistics.median(found.values()) if found else None

    def span(self, mode: str, target: str, name: str, low: str, high: str) -> str:
        """A measure with its interval; of several seeds the widest."""
        rows = [row for row in self.cells.get((mode, target, "all"), ()) if row[low] is not None]
        around = f" ({min(row[low] for row in rows):.2f}–{max(row[high] for row in rows):.2f})" if rows else ""
        return shown(self.value(mode, target, name)) + around


def shown(value: float | None, digits: int = 3) -> str:
    """A number, or a dash.

    >>> shown(0.5), shown(None), shown(12.34, 1)
    ('0.500', '–', '12.3')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column of text, the others of numbers."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---", *["---:"] * (len(head) - 1)], *rows))


def expectations(results: Results) -> str:
    """Return the lines on what a user may expect: without an LLM, with answers, with an LLM; one line each."""
    ranks = results.values("history", AP)
    n, worst = len({results.families[name] for name in ranks}), min(ranks, key=ranks.__getitem__, default="")
    alarms, precision, flags = (
        shown(results.median("history", ALARMS), 0),
        shown(results.over(ranks), 2),
        shown(results.mean("history", F1), 2),
    )
    lines = [
        f"- **Without an LLM and without labels**, use the ranked list: its average precision is {precision} (mean over "
        f"{n} families of systems; worst {shown(ranks.get(worst), 2)}, {worst}). Its flags have F1 {flags}, and "
        f"raise {alarms} false alarms per 1,000 sessions on a system without anomalies (median)."
    ]
    for mode in results.named("history+"):
        k, f1, main = mode.removeprefix("history+").removesuffix("answers"), shown(results.mean(mode, F1), 2), shown(results.main(mode), 2)
        lines.append(f"- **With {k} answers of an analyst**, F1 is {f1} (HDFS, BGL and OpenStack alone: {main}).")
    if results.values("generallog", F1):
        few = [f"{shown(results.main(mode), 2)} with {mode[11:-9]}" for mode in results.named("generallog+") if mode.endswith("questions")]
        asked = ranged(value for name, value in results.values("generallog", "llm_items").items() if name in MAIN)
        lines.append(
            f"- **With an LLM**, F1 on HDFS, BGL and OpenStack is {shown(results.main('generallog'), 2)} with all "
            f"{asked} questions per system{''.join(f', {each}' for each in few)}. "
            "HDFS and BGL are famous logs, which a model has read about."
        )
    else:
        lines.append("- **With an LLM**: this run had no verdicts. Set an endpoint, or `--verdicts FILE`.")
    if results.hidden:
        precision, flags = (shown(results.over(results.values("history", key, everything=True)), 2) for key in (AP, F1))
        lines.append(
            f"- **{', '.join(results.hidden)}** is left out of all means: its patterns do not tell anomalous sessions apart, even with the "
            f"labels known. With it, and without an LLM: average precision {precision}, F1 {flags}."
        )
    return "\n".join(lines)


def results_markdown(records: Sequence[Record], audits: Sequence[Mapping[str, Any]]) -> str:
    """The page of a run. Args: audits, rows of `Audit`."""
    results = Results([record for record in records if record["protocol"] == "deployment"])
    left_out = [name for name in mode_names() if not any(mode.startswith(name) for mode in results.modes)]
    note = f" Left out of this run: {', '.join(f'`{name}`' for name in left_out)}." if left_out else ""
    own = [mode for mode in results.modes if not mode.startswith((*ASIDE, "baseline:")) and not mode.endswith(SHUFFLED)]
    own.sort(key=lambda mode: next((i for i, name in enumerate(mode_names()) if mode.startswith(name)), 0))
    parts = ["# Results", expectations(results), ABOUT + note]
    parts += ["## Summary", summary_table(results, own), *notes(results)]
    parts += ["## Without an LLM", history_table(results)]
    for title, modes in (
        (
            "F1 against answers of an analyst",
            [*results.named("history"), *(m for m in results.named("generallog+") if m.endswith("answers"))],
        ),
        ("F1 against questions to the LLM", [m for m in results.named("generallog") if not m.endswith("answers")]),
        ("Cold start: F1 against sessions in the reference", results.named("cold_start:")),
    ):
        parts += [f"## {title}", curve_table(results, modes)] if modes else []
    shown_modes = [*own, *results.named("baseline:")]
    parts += ["## F1 by system", wide_table(results, shown_modes, F1)]
    parts += ["## Average precision of the raw score by system", wide_table(results, shown_modes, AP)]
    parts += ["## F1 by system, on patterns that do not occur in the adaptation part", wide_table(results, shown_modes, F1, "unseen")]
    if ablations := results.named("ablation:"):
        parts += ["## Ablations of the history", ablation_table(results, ["history", *ablations])]
    if controls := [mode for mode in results.modes if mode.endswith(SHUFFLED)]:
        parts += ["## Negative control: labels of the sources shuffled", control_table(results, controls)]
    parts += ["## Choices that were made looking at a target", "\n".join(f"- {choice}" for choice in CHOICES)]
    parts += ["## Leakage audit", AUDITED, audit_table(audits)]
    known = {**KNOWN, **{f"baseline:{name}": note for name, (_, note) in BASELINES.items()}}
    parts += ["## How to reproduce", REPRODUCE]
    parts += ["## What each mode knows", "\n".join(f"- `{name}`: {note}." for name, note in known.items())]
    if paper_records := [record for record in records if record["protocol"] == "paper"]:
        paper = Results(paper_records)
        parts += ["## Paper protocol", PAPER, wide_table(paper, [mode for mode in paper.modes if not mode.startswith(ASIDE)], F1)]
    return "\n\n".join(parts) + "\n"


AUDITED = (
    "No source is cut from the target's lines or holds a copy of its sessions, no held-out family is a source, each session is in one "
    "part, and no mode sees labels of the target: otherwise the run would have stopped."
)
PAPER = (
    "**The classes are balanced on the target by its labels**, as the papers' published code does. Never compare these figures with the "
    "tables above."
)


def summary_table(results: Results, modes: Sequence[str]) -> str:
    """Means and worst values of the modes."""
    head = ("mode", "systems", "average precision", "worst", "F1", "worst", "F1, main three", "unseen patterns", "alarms, clean systems")
    rows = []
    for mode in modes:
        numbers = [results.mean(mode, AP), results.worst(mode, AP), results.mean(mode, F1), results.worst(mode, F1), results.main(mode)]
        numbers.append(results.main(mode, F1, "unseen"))
        rows.append([mode, str(len(results.values(mode, AP))), *map(shown, numbers), shown(results.median(mode, ALARMS), 1)])
    return table(head, rows)


def notes(results: Results) -> list[str]:
    """Figures of the systems that the first form was chosen on, and of the held-out ones."""
    lines = [
        f"The main three are {', '.join(MAIN)}. Alarms on clean systems are per 1,000 sessions, median over systems without anomalies."
    ]
    values = results.values("history", AP)
    if set(FIRST) <= set(values):
        eight = {name: values[name] for name in FIRST}
        figures = f"average precision {shown(results.over(eight))}, worst {shown(min(eight.values()))}"
        lines.append(f"`history` on the eight systems on which its first form was chosen: {figures}.")
    held_out = {name: (values[name], results.value("history", name, F1)) for name in results.held_out if name in values}
    figures = "; ".join(f"{name} {shown(ranked)}, {shown(flags)}" for name, (ranked, flags) in held_out.items())
    if figures:
        lines.append(f"Held-out families train nothing (average precision, F1 of `history`): {figures}.")
    return lines


def history_table(results: Results) -> str:
    """All measures of the history by system."""
    head = ("system", "sessions", "anomalous", "patterns", "average precision", "F1", "precision", "recall", "false alarms per 1,000")
    rows = []
    for target in results.families:
        for record in results.cells.get(("history", target, "all"), ())[:1]:
            sizes = [f"{record[name]:,}" for name in ("n_sessions", "n_anomalous", "n_patterns")]
            spans = [results.span("history", target, *names) for names in ((AP, "ap_low", "ap_high"), (F1, "f1_low", "f1_high"))]
            rates = [*(shown(record[name]) for name in ("precision", "recall")), shown(record["false_alarms_per_1000"], 1)]
            rows.append([target, *sizes, *spans, *rates, shown(record[ALARMS], 1)])
    return table((*head, "without its anomalies"), rows)


def curve_table(results: Results, modes: Sequence[str]) -> str:
    """Average precision and F1 of some modes, with the LLM's questions."""
    rows = []
    for mode in modes:
        asked = ranged(results.values(mode, "llm_items").values())
        numbers = [results.mean(mode, AP), results.mean(mode, F1), results.main(mode)]
        rows.append([mode, str(len(results.values(mode, AP))), asked, *map(shown, numbers)])
    return table(("mode", "systems", "questions to the LLM", "average precision", "F1", "F1, main three"), rows)


def ranged(values: Iterable[float]) -> str:
    """Return the range of some numbers.

    >>> ranged([80, 20, 41]), ranged([7])
    ('20 to 80', '7')
    """
    found = sorted({round(value) for value in values})
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else str(found[0]) if found else "–"


def wide_table(results: Results, modes: Sequence[str], measure: str, sessions: str = "all") -> str:
    """A measure by mode and system."""
    rows = []
    for mode in modes:
        cells = [shown(results.value(mode, target, measure, sessions)) for target in results.families]
        if set(cells) != {"–"}:
            rows.append([mode, *cells, shown(results.mean(mode, measure, sessions)), shown(results.main(mode, measure, sessions))])
    return table(("mode", *results.families, "families", "main three"), rows)


def ablation_table(results: Results, modes: Sequence[str]) -> str:
    """The ablations; those that only rank have no F1."""
    head = ("ablation", "average precision", "worst", "F1", "alarms, clean systems")
    return table(
        head,
        (
            [
                mode.removeprefix("ablation:"),
                *map(shown, (results.mean(mode, AP), results.worst(mode, AP), results.mean(mode, F1))),
                shown(results.median(mode, ALARMS), 1),
            ]
            for mode in modes
        ),
    )


def control_table(results: Results, modes: Sequence[str]) -> str:
    """The negative control beside chance."""
    chance = [results.mean("baseline:always_anomalous", measure) for measure in (AP, F1)]
    head = ("mode", "average precision", "chance", "F1", "F1 of always anomalous")
    return table(head, ([m, *map(shown, (results.mean(m, AP), chance[0], results.mean(m, F1), chance[1]))] for m in modes))


def audit_table(audits: Sequence[Mapping[str, Any]]) -> str:
    """The counts of the audit; it found no leak, or there were no results."""
    columns = [name for name in Audit.__dataclass_fields__ if name not in ("target", "sources")]
    rows = [[row["target"], *(f"{row[name]:,}" for name in columns)] for row in audits]
    return table(["target", *(name.replace("_", " ") for name in columns)], rows)


def summary(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a row for each protocol and mode: systems, average precision and F1 as means over families, worst F1, F1 of the main three."""
    found = []
    for protocol in dict.fromkeys(record["protocol"] for record in records):
        results = Results([record for record in records if record["protocol"] == protocol])
        for mode in results.modes:
            numbers = {"average_precision": results.mean(mode, AP), "f1": results.mean(mode, F1), "worst_f1": results.worst(mode, F1)}
            numbers |= {"f1_main_three": results.main(mode), "alarms_clean": results.median(mode, ALARMS)}
            row = {name: None if value is None else round(value, 4) for name, value in numbers.items()}
            found.append({"protocol": protocol, "mode": mode, "systems": len(results.values(mode, AP))} | row)
    return found
