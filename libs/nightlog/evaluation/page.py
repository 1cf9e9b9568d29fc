"""`index.html`: the run on one page, which loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nightlog.evaluation.curves import pooled, precision_recall, reliability, steps
from nightlog.evaluation.markdown import PROTOCOL, RECALLED, shown
from nightlog.evaluation.matrix import Result
from nightlog.evaluation.style import STYLE
from nightlog.evaluation.summary import ORDER, Record, baselines_of, chosen, line, modes_of, stat, targets_of
from nightlog.pages.charts import Bar, Series, bars, square


def results_page(results: Sequence[Result]) -> str:
    """The page of a run: scores, precision–recall curves, reliability and cost, for each protocol that was run."""
    records = [record for result in results for record in result.records]
    parts = [f"<h1>Benchmark</h1><p>{escape(RECALLED)}</p>", legend(modes_of(records))]
    for protocol in dict.fromkeys(record["protocol"] for record in records):
        own = [result for result in results if result.cell.protocol == protocol]
        parts.append(f"<h2>{protocol.capitalize()} protocol</h2><p>{escape(PROTOCOL[protocol].replace('*', '').capitalize())}.</p>")
        parts.append(score_table(chosen(records, protocol)))
        parts.append(
            section("F1 of all test sessions", "With the 95 % interval over sessions. Grey: baselines.", scores(records, protocol))
        )
        unseen = "Sessions whose pattern never occurred in the adaptation part."
        parts.append(section("F1 of unseen patterns", unseen, scores(records, protocol, "unseen")))
        told = "All seeds pooled; the dot is the frozen threshold."
        parts.append(section("Precision and recall", told, precision_recall_charts(own)))
        told = (
            "How often sessions of a probability are anomalous; on the diagonal a probability means what it says. Dots: tenths that occur."
        )
        parts.append(section("Reliability", told, reliability_charts(own)))
        told = "Different questions, and their share of the target's sessions."
        parts.append(section("Questions to the LLM", told, costs(own)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Nightlog benchmark</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def section(title: str, about: str, charts: Sequence[tuple[str, str]]) -> str:
    """Small multiples, one a target; nothing where there is no chart."""
    figures = "".join(f"<figure><figcaption>{escape(name)}</figcaption>{chart}</figure>" for name, chart in charts)
    return f"<section><h3>{escape(title)}</h3><p>{escape(about)}</p><div class=charts>{figures}</div></section>" if figures else ""


def colour(mode: str) -> int:
    """A mode has the same colour everywhere, with answers too."""
    base = mode.partition("+")[0]
    return ORDER.index(base) if base in ORDER else len(ORDER)


def legend(modes: Sequence[str]) -> str:
    """Return what the colours are."""
    return '<p class="legend">' + "".join(f'<span><i class="c{colour(mode)}"></i>{escape(mode)}</span>' for mode in modes) + "</p>"


def score_table(records: Sequence[Record]) -> str:
    """F1 by mode and target."""
    targets = targets_of(records)
    head = "".join(f"<th>{escape(name)}</th>" for name in ("mode", *targets, "mean of three", "worst of three"))
    rows = []
    for mode in [*modes_of(records), *baselines_of(records)]:
        found = line(records, mode)
        cells = [*(shown(found.by_target.get(target)) for target in targets), shown(found.mean), shown(found.worst)]
        rows.append(f"<tr><th>{escape(mode)}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def scores(records: Sequence[Record], protocol: str, sessions: str = "all") -> list[tuple[str, str]]:
    """F1 of modes and baselines, a chart a target."""
    own = chosen(records, protocol, sessions)
    charts = []
    for target in targets_of(own):
        rows = []
        for mode in [*modes_of(own), *baselines_of(own)]:
            f1, low, high = (stat(own, target, mode, name) for name in ("f1", "f1_low", "f1_high"))
            if f1 and low and high:
                which = None if mode.startswith("baseline:") else colour(mode)
                rows.append(Bar(mode.removeprefix("baseline:"), which, f1.mean, shown(f1), (low.mean, high.mean)))
        if rows:
            charts.append((target, bars(rows, 1.0, f"F1 on {target}")))
    return charts


def by_mode(results: Sequence[Result], target: str) -> dict[str, list[Result]]:
    """The runs of each mode on a target that have a curve."""
    own = [result for result in results if result.cell.target == target and result.curve]
    names = modes_of([record for result in own for record in result.records])
    return {name: [result for result in own if result.cell.name == name] for name in names}


def targets_with_curves(results: Sequence[Result]) -> list[str]:
    """The targets on which a mode was run."""
    return targets_of([record for result in results if result.curve for record in result.records])


def precision_recall_charts(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Precision by recall, a chart a target."""
    charts = []
    for target in targets_with_curves(results):
        series = []
        for mode, runs in by_mode(results, target).items():
            records = [result.records[0] for result in runs]
            recall, precision = (stat(records, target, mode, name) for name in ("recall", "precision"))
            mark = (recall.mean, precision.mean) if recall and precision else None
            points = steps(precision_recall(pooled(result.curve for result in runs)))
            series.append(Series(mode, colour(mode), points, "+" in mode, mark=mark))
        charts.append((target, square(series, "recall", "precision")))
    return charts


def reliability_charts(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Share of anomalous sessions by probability, a chart a target."""
    charts = []
    for target in targets_with_curves(results):
        series = [
            Series(mode, colour(mode), reliability(pooled(result.curve for result in runs)), "+" in mode, dots=True)
            for mode, runs in by_mode(results, target).items()
        ]
        charts.append((target, square(series, "probability", "share anomalous", diagonal=True)))
    return charts


def costs(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Questions by mode, a chart a target."""
    charts = []
    for target in targets_with_curves(results):
        rows = []
        for mode, runs in by_mode(results, target).items():
            items = stat([result.records[0] for result in runs], target, mode, "llm_items")
            checked = runs[0].audit
            if items and checked:
                sessions = checked["adaptation_sessions"] + checked["test_sessions"]
                rows.append(Bar(mode, colour(mode), items.mean, f"{items.mean:,.0f} ({100 * items.mean / sessions:.2f} %)"))
        if rows:
            charts.append((target, bars(rows, max(row.value for row in rows) or 1.0, f"questions on {target}")))
    return charts
