"""The views: tables for queries that must go on working. A view's columns are only ever added to, whatever becomes of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightlog.lake.tables import ANOMALIES, ANSWERS, NIGHTS, SIGNALS, TEMPLATES, VERDICTS, TableSpec

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake


@dataclass(frozen=True)
class View:
    """Columns of one table under names that stay: view name, what a row is, the table, and the columns.

    `renamed`: name in the view → name in the table, where they differ.
    """

    name: str
    about: str
    over: TableSpec
    columns: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()

    def sources(self) -> list[tuple[str, str]]:
        """(name in the table, name in the view) of each column."""
        other = dict(self.renamed)
        return [(other.get(name, name), name) for name in self.columns]


VIEWS = (
    View(
        "v_anomalies",
        "an anomalous session of a night",
        ANOMALIES,
        (
            "ds",
            "system",
            "session_id",
            "pattern_id",
            "started_at",
            "ended_at",
            "n_events",
            "score",
            "decided_by",
            "route",
            "status",
            "reason",
            "evidence",
            "lines",
            "versions",
            "run_id",
        ),
    ),
    View(
        "v_nights",
        "a night of a system: what was read, found and spent",
        NIGHTS,
        (
            "ds",
            "system",
            "outcome",
            "detail",
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
            "proprietary_share",
            "n_anomalies",
            "n_by_analyst",
            "n_by_llm",
            "n_by_student",
            "n_by_model",
            "n_unjudged",
            "unjudged_why",
            "n_provisional",
            "versions",
            "run_id",
            "run_llm_calls",
            "run_llm_items",
            "run_llm_tokens_in",
            "run_llm_tokens_out",
            "run_seconds",
            "run_at",
        ),
    ),
    View(
        "v_templates",
        "a template of a system",
        TEMPLATES,
        ("system", "template_id", "template", "widened", "first_message", "token_count", "first_ds"),
        (("template", "text"),),
    ),
    View(
        "v_verdicts",
        "what an LLM said of a question",
        VERDICTS,
        (
            "system",
            "question_id",
            "label",
            "confidence",
            "reason",
            "asked_round",
            "group_name",
            "group_key",
            "added",
            "missing",
            "events",
            "prompt",
            "llm",
            "ds",
            "asked_at",
        ),
        (("asked_round", "round"), ("group_name", "group")),
    ),
    View(
        "v_signals",
        "something in a night that is unlike the nights before",
        SIGNALS,
        ("ds", "system", "kind", "template_id", "template", "seen", "usual", "strength", "reason", "run_id"),
    ),
    View(
        "v_feedback",
        "what an analyst said",
        ANSWERS,
        ("system", "kind", "about", "target", "name", "said", "until", "session_id", "ds", "note", "said_by", "said_at"),
        (("target", "group"), ("said", "label"), ("said_by", "answered_by"), ("said_at", "answered_at")),
    ),
)


def view_sql(view: View) -> str:
    """The view as a query of standard SQL.

    >>> view_sql(View("v", "a row", TEMPLATES, ("system", "template"), (("template", "text"),)))
    'select "system", "text" as "template" from silver.templates'
    """
    chosen = ", ".join(f'"{old}"' if old == name else f'"{old}" as "{name}"' for old, name in view.sources())
    return f"select {chosen} from {view.over.name}"


def spark_views(lake: Lake) -> list[str]:
    """Make the views of the lake's tables known to its Spark session, as temporary views. Returns their names."""
    made = [view for view in VIEWS if lake.exists(view.over)]
    for view in made:
        rows = lake.read(view.over)
        rows.select(*[rows[old].alias(name) for old, name in view.sources()]).createOrReplaceTempView(view.name)
    return [view.name for view in made]
