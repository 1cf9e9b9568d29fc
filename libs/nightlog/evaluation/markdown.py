"""`results.md`: the tables of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nightlog.evaluation.baselines import BASELINES
from nightlog.evaluation.corpus import MAIN
from nightlog.evaluation.matrix import Result
from nightlog.evaluation.modes import KNOWN
from nightlog.evaluation.summary import (
    Record,
    Stat,
    baselines_of,
    chosen,
    is_control,
    line,
    modes_of,
    stat,
    targets_of,
)

PROTOCOL = {
    "deployment": "natural prevalence, frozen threshold, test part; nothing chosen by labels of the target",
    "paper": "**classes balanced on the target by its labels**, as the papers' published code does; never comparable with the other tables",
}
RECALLED = (
    "HDFS and BGL are famous public logs: a large language model has read about them, and its verdicts cannot be called free of that "
    "memory. "
    "The virtual machines of OpenStack were recorded apart by normal and fault run, so events of a run give the label away."
)


def results_markdown(results: Sequence[Result]) -> str:
    """All tables of a run; F1 is mean ± standard deviation over the seeds."""
    records = [record for result in results for record in result.records]
    parts = ["# Benchmark", f"Every figure is about sessions, not patterns; no point adjustment. {RECALLED}"]
    for protocol in dict.fromkeys(record["protocol"] for record in records):
        own = chosen(records, protocol)
        parts.append(f"## F1, {protocol} protocol\n\n{PROTOCOL[protocol].capitalize()}.\n\n{f1_table(own)}")
        if unseen := [record for record in chosen(records, protocol, "unseen") if record["n_sessions"]]:
            parts.append(f"### Sessions whose pattern never occurred in the adaptation part\n\n{f1_table(unseen)}")
        parts.append(f"### Each target\n\n{detail_table(own)}")
        if controls := [record for record in own if is_control(record["mode"])]:
            parts.append(f"### Negative control: labels of the sources shuffled\n\n{control_table(controls)}")
    parts.append(f"## What was asked\n\n{cost_table(results)}")
    parts.append(f"## Leakage audit\n\n{audit_table(results)}")
    run = dict.fromkeys(result.cell.mode for result in results)
    parts.append("## What the modes know\n\n" + "\n".join(f"- `{name}`: {KNOWN[name]}." for name in run if name in KNOWN))
    parts.append("## What the baselines know\n\n" + "\n".join(f"- `{name}`: {baseline.note}." for name, baseline in BASELINES.items()))
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column of text, the others of numbers."""
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (head, ["---", *["---:"] * (len(head) - 1)], *rows)])


def shown(value: Stat | float | None, digits: int = 3) -> str:
    """A number, with its standard deviation where there were several runs; a dash where there is none.

    >>> shown(Stat(0.5, 0.01, 5)), shown(0.5), shown(None)
    ('0.500 ± 0.010', '0.500', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, Stat):
        return f"{value.mean:.{digits}f}" + (f" ± {value.sd:.{digits}f}" if value.n > 1 else "")
    return f"{value:.{digits}f}"


def f1_table(records: Sequence[Record]) -> str:
    """F1 by mode and target, the modes first, the baselines beside them."""
    targets = targets_of(records)
    rows = []
    for mode in [*modes_of(records), *baselines_of(records)]:
        found = line(records, mode)
        rows.append([mode, *(shown(found.by_target.get(target)) for target in targets), shown(found.mean), shown(found.worst)])
    return table(["mode", *targets, f"mean of {len(MAIN)}", f"worst of {len(MAIN)}"], rows)


def detail_table(records: Sequence[Record]) -> str:
    """All measures of the modes."""
    rows = []
    for target in targets_of(records):
        for mode in [*modes_of(records), *baselines_of(records)]:
            found = {
                name: stat(records, target, mode, name)
                for name in ("f1_low", "f1_high", "precision", "recall", "average_precision", "false_alarms_per_1000")
            }
            low, high = found.pop("f1_low"), found.pop("f1_high")
            interval = f"{low.mean:.3f} to {high.mean:.3f}" if low and high else "–"
            if found["precision"] is not None:
                rows.append([target, mode, interval, *(shown(value) for value in found.values())])
    return table(["target", "mode", "F1, 95 % interval", "precision", "recall", "average precision", "false alarms per 1,000"], rows)


def control_table(records: Sequence[Record]) -> str:
    """Return what is left of a mode whose sources lie: average precision against the share of anomalous sessions, which is chance."""
    rows = [
        [
            record["mode"],
            record["target"],
            shown(record["f1"]),
            shown(record["average_precision"]),
            shown(record["n_anomalous"] / record["n_sessions"]),
        ]
        for record in records
    ]
    return table(["mode", "target", "F1", "average precision", "chance"], rows)


def cost_table(results: Sequence[Result]) -> str:
    """Questions to the LLM, also as a share of the target's sessions, and seconds, by mode and target."""
    rows = []
    records = chosen((record for result in results for record in result.records), "deployment")
    for mode in modes_of(records):
        for target in targets_of(records):
            own = [r for r in results if (r.cell.name, r.cell.target, r.cell.protocol) == (mode, target, "deployment") and r.audit]
            if not own or own[0].audit is None:
                continue
            items, seconds = Stat.of(r.records[0]["llm_items"] for r in own), Stat.of(r.seconds for r in own)
            sessions = own[0].audit["adaptation_sessions"] + own[0].audit["test_sessions"]
            if items and seconds:
                rows.append([mode, target, shown(items, 0), f"{100 * items.mean / sessions:.2f} %", shown(seconds, 1)])
    return table(["mode", "target", "questions", "share of its sessions", "seconds"], rows)


def audit_table(results: Sequence[Result]) -> str:
    """Return what the audit of each target counted; it found no leak, or there were no results."""
    audits = {result.cell.target: result.audit for result in results if result.audit and result.cell.protocol == "deployment"}
    columns = ["sources", "source_sessions", "adaptation_sessions", "test_sessions", "templates", "templates_in_sources"]
    columns += ["test_patterns", "test_patterns_in_adaptation"]
    rows = [
        [target, *(f"{row[name]:,}" if isinstance(row[name], int) else row[name] for name in columns)] for target, row in audits.items()
    ]
    checks = (
        "No source is cut from the target's lines, no pattern of the target occurs in a source, no session is in both parts, no part that "
        "a mode sees carries labels: otherwise the run would have stopped."
    )
    return checks + "\n\n" + table(["target", *(name.replace("_", " ") for name in columns)], rows)
