"""Reading the lake in the morning: the outcomes of nights, the views, and SQL over tables and views. No Spark, except for `spark_views`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Timer
from typing import TYPE_CHECKING, Any

from nightlog.errors import NotThere, UsageError
from nightlog.lake.lake import Lake
from nightlog.lake.schema import rows_table
from nightlog.lake.tables import (
    ALL_TABLES,
    ANOMALIES,
    ANSWERS,
    FINDINGS,
    INCIDENTS,
    NIGHTS,
    OUTCOMES,
    SIGNALS,
    TEMPLATES,
    VERDICTS,
    AnomalyRow,
    NightRow,
    TableSpec,
)
from nightlog.outcomes import SUCCESSES, Stage, exit_kind

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


@dataclass(frozen=True)
class View:
    """Columns of one table under names that stay. They are only ever added to, however the table changes.

    `about`: the meaning of a row. `columns`: names in the view, separated by blanks; `name=old` if the table has it under another name.
    """

    name: str
    about: str
    over: TableSpec
    columns: str

    def sources(self) -> list[tuple[str, str]]:
        """Return (name in the table, name in the view) of each column."""
        pairs = (each.partition("=") for each in self.columns.split())
        return [(old or name, name) for name, _, old in pairs]


VIEWS = (
    View(
        "v_anomalies",
        "an anomalous session of a night",
        ANOMALIES,
        """
            ds system session_id pattern_id started_at ended_at n_events score decided_by route status reason evidence
            lines versions run_id
        """,
    ),
    View(
        "v_findings",
        "the anomalous sessions of one pattern in a night of a system",
        FINDINGS,
        """
            ds system finding_id pattern_id status decided_by route score reason n_sessions share example_session_id severity level telling
            is_new first_seen last_seen n_nights trend started_at ended_at hours minutes impact rank rank_reason run_id
        """,
    ),
    View(
        "v_incidents",
        "findings of a night, over systems, that have one cause or the same minutes",
        INCIDENTS,
        """
            ds incident_id title status systems finding_ids n_findings n_sessions severity started_at ended_at hours joined_by first_seen
            is_new impact rank rank_reason run_id
        """,
    ),
    View(
        "v_nights",
        "a night of a system: what was read, found and spent",
        NIGHTS,
        """
            ds system outcome detail n_files n_lines n_blank n_unparsed n_replaced n_untimed n_events n_without_session
            n_sessions n_patterns n_templates n_proprietary proprietary_share n_anomalies n_by_analyst n_by_llm
            n_by_student n_by_model n_unjudged unjudged_why n_provisional versions run_id run_llm_calls run_llm_items
            run_llm_tokens_in run_llm_tokens_out run_seconds run_at
        """,
    ),
    View(
        "v_templates",
        "a template of a system",
        TEMPLATES,
        "system template_id template=text widened first_message token_count first_ds",
    ),
    View(
        "v_verdicts",
        "the verdict of an LLM on a question",
        VERDICTS,
        """
            system question_id label confidence reason asked_round=round group_name=group group_key added missing events prompt llm
            ds asked_at
        """,
    ),
    View(
        "v_signals",
        "something in a night that is unlike the nights before",
        SIGNALS,
        "ds system kind template_id template seen usual strength reason run_id",
    ),
    View(
        "v_feedback",
        "feedback of an analyst",
        ANSWERS,
        """
            system kind about target=group name said=label until session_id ds note said_by=answered_by said_at=answered_at
            label answered_by answered_at
        """,
    ),
    View(
        "v_outcomes",
        "the outcome of a stage of a run for a system",
        OUTCOMES,
        "run_id ds system stage outcome detail counts seconds ended_at=at",
    ),
)


def view_sql(view: View) -> str:
    """Return the view as a query of standard SQL.

    >>> view_sql(View("v", "a row", TEMPLATES, "system template=text"))
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


def anomalies(lake: Lake, ds: str, system: str = "") -> list[AnomalyRow]:
    """Return the night's rows of gold.anomalies, the surest first."""
    equal = {"ds": ds} | ({"system": system} if system else {})
    rows = lake.rows(ANOMALIES, None, **equal)
    return sorted(rows, key=lambda row: (row["system"], -(row["score"] or 0), row["session_id"]))


def incidents(lake: Lake, ds: str) -> list[dict[str, Any]]:
    """Return the night's rows of gold.incidents by rank, each with `findings`: its rows of gold.findings, by rank over all systems."""
    findings = {row["finding_id"]: row for row in lake.rows(FINDINGS, ds=ds)}
    found = []
    for row in sorted(lake.rows(INCIDENTS, ds=ds), key=lambda row: row["rank"]):
        found.append(row | {"findings": [findings[name] for name in row["finding_ids"] if name in findings]})
    return found


def connect(lake: Lake, with_absent: bool = False) -> duckdb.DuckDBPyConnection:
    """Return DuckDB over the lake's tables, named as everywhere (`gold.anomalies`), and the views; see `connect_tables`.

    Args: with_absent: tables that are not there yet are empty ones, instead of unknown.
    """
    found: dict[TableSpec, object] = {}
    for spec in ALL_TABLES:
        if lake.exists(spec):
            # A merge by delta-rs writes strings in a form that Arrow cannot compare in a filter, so DuckDB filters the small tables itself:
            # a scanner takes no filters.
            found[spec] = lake.dataset(spec) if "ds" in spec.partition else lake.dataset(spec).scanner()
        elif with_absent:
            found[spec] = rows_table(spec, [])
    return connect_tables(found)


def connect_tables(tables: Mapping[TableSpec, object]) -> duckdb.DuckDBPyConnection:
    """Return DuckDB over Arrow tables, datasets or scanners, under the names of the lake's tables, and their views.

    Its SQL reads the tables and nothing else: no file, no network, no extension, no setting; tables that it makes are gone with the answer.
    """
    import duckdb

    closed: dict[str, str | bool | int | float | list[str]] = dict.fromkeys(
        ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"), "false"
    )
    connection = duckdb.connect(config=closed | {"temp_directory": "", "allow_persistent_secrets": "false"})
    for spec, rows in tables.items():
        schema, name = spec.name.split(".")
        connection.execute(f"create schema if not exists {schema}")
        connection.register(f"_{schema}_{name}", rows)
        connection.execute(f"create view {spec.name} as select * from _{schema}_{name}")
        for view in (view for view in VIEWS if view.over is spec):
            connection.execute(f"create view {view.name} as {view_sql(view)}")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def query(lake: Lake, sql: str, limit: int | None = None) -> pa.Table:
    """Run SQL by DuckDB over the lake's tables and views, see `connect` and `run_query`."""
    return run_query(connect(lake), sql, limit)


def run_query(connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None = None, seconds: float | None = None) -> pa.Table:
    """Run SQL on a connection of `connect_tables`. Columns of the same name are numbered: a, a_2.

    Args: limit: the most rows that are returned; None returns all; seconds: a query that takes longer is stopped.
    Raises, with DuckDB's message: UsageError if the SQL is wrong or takes too long, NotThere if it names something that does not exist.
    """
    import duckdb

    timer = Timer(seconds or 0, connection.interrupt)
    timer.daemon = True
    try:
        if seconds is not None:
            timer.start()
        found = connection.sql(sql)
        if found is None:
            raise UsageError("that is no query: the lake is read only; start with select, with, describe or show")
        table = (found if limit is None else found.limit(limit)).to_arrow_table()
        return table.rename_columns(distinct_names(table.column_names))
    except duckdb.InterruptException:
        raise UsageError(f"the query was stopped after {seconds:g} seconds: ask for fewer nights or columns") from None
    except duckdb.Error as error:
        kind = NotThere if isinstance(error, duckdb.CatalogException) else UsageError
        named = connection.sql("select schema_name || '.' || view_name from duckdb_views() where schema_name not in ('main', 'pg_catalog')")
        known = sorted(str(name) for (name,) in named.fetchall() if not str(name).startswith("information_schema."))
        raise kind(f"{error}; tables: {', '.join(known)}") from error
    finally:
        timer.cancel()


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return the names, with a number behind each one that occurred before.

    >>> distinct_names(["a", "a", "a_2", "a"])
    ['a', 'a_3', 'a_2', 'a_4']
    """
    taken, found = set(names), list[str]()
    for name in names:
        number, new = 1, name
        while new in found or (number > 1 and new in taken):
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found


def night_rows(lake: Lake, system: str = "") -> list[NightRow]:
    """Return the rows of gold.nights, the last night first; a night that was begun and has no row there is `unfinished`."""
    equal = {"system": system} if system else {}
    rows = lake.rows(NIGHTS, None, **equal)
    there = {(row["ds"], row["system"]) for row in rows}
    last = {(row["ds"], row["system"]): row for row in sorted(lake.rows(OUTCOMES, None, **equal), key=lambda row: row["at"])}
    for place, row in last.items():
        if place not in there:
            detail = f"the last stage was {row['stage']}, {row['outcome']}" + (f": {row['detail']}" if row["detail"] else "")
            rows.append({"ds": place[0], "system": place[1], "outcome": "unfinished", "detail": detail, "run_id": row["run_id"]})
    rows.sort(key=lambda row: row["system"])
    return sorted(rows, key=lambda row: row["ds"], reverse=True)


def last_run(lake: Lake, ds: str = "", run_id: str = "") -> tuple[str, str] | None:
    """Return (night, run) of the last stage that ended, of those of a night and a run if they are given; None if there is none."""
    equal = {name: value for name, value in (("ds", ds), ("run_id", run_id)) if value}
    last = max(lake.rows(OUTCOMES, ["ds", "run_id", "at"], **equal), key=lambda row: row["at"], default=None)
    return (last["ds"], last["run_id"]) if last is not None else None


def is_input_missing(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return true if stage ingest last found no file though some were due. Args: rows of ops.outcomes of a system's night."""
    last = max((row for row in rows if row["stage"] == Stage.INGEST), key=lambda row: row["at"], default=None)
    return last is not None and exit_kind(last["outcome"], last["counts"]) != last["outcome"]


def systems_without_due_input(lake: Lake, ds: str, run_id: str) -> set[str]:
    """Return the systems of a run that had no files though some were due."""
    rows = lake.rows(OUTCOMES, ds=ds, run_id=run_id)
    return {system for system in {row["system"] for row in rows} if is_input_missing(row for row in rows if row["system"] == system)}


def run_outcomes(lake: Lake, ds: str, run_id: str) -> list[tuple[str, str, str]]:
    """Return (system, outcome, stage and reason) of each system of a run. A system that did not reach the end has failed."""
    rows = sorted((row for row in lake.rows(OUTCOMES, ds=ds, run_id=run_id)), key=lambda row: row["at"])
    found = []
    for system in sorted({row["system"] for row in rows}):
        last = {row["stage"]: row for row in rows if row["system"] == system}
        stages = [stage for stage in Stage if stage in last]
        failed = next((stage for stage in stages if last[stage]["outcome"] not in SUCCESSES), None)
        missing = next((stage for stage in stages[0].onwards if stage not in last), None)
        if failed is not None:
            found.append((system, last[failed]["outcome"], f"{failed}: {last[failed]['detail']}"))
        elif missing is not None:
            found.append((system, "failed", f"nothing is known of it after stage {missing.before[-1]}: see the log of stage {missing}"))
        else:
            published = last[Stage.PUBLISH]
            anomalies = f"{(published['counts'] or {})['n_anomalies']} anomalies"
            found.append((system, published["outcome"], "; ".join(filter(None, [anomalies, published["detail"]]))))
    return found
