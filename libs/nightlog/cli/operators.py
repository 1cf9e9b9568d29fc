"""Commands of the operators: approve a night, check everything, restore, maintain, query and export the lake, list the systems."""

from __future__ import annotations

import getpass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nightlog.cli.app import (
    DataOption,
    Ds,
    Format,
    FormatOption,
    LakeOption,
    Master,
    Messages,
    SystemOption,
    Systems,
    app,
    checked_day,
    err,
    open_tables,
    out,
    print_rows,
    safe,
    settings_from,
    warn,
)

QUERY_ROWS = 100  # of an answer in a table, unless --limit says more


@app.command(rich_help_panel="Nights")
def approve(
    ds: Ds,
    system: Annotated[str, typer.Option("--system", help="The system that was held back.")],
    by: Annotated[str | None, typer.Option("--by", help="Who approves; default: your user name.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence.")] = "",
    new_normal: Annotated[bool, typer.Option("--new-normal", help="Reset the baseline: earlier nights no longer count.")] = False,
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
) -> None:
    """Publish a night that a gate held back. It goes on where it stopped: nothing that was done is done again.

    Who approved what, and how far outside it was, is recorded in ops.approvals. Rows that are broken cannot be approved.

    Example: nightlog approve --ds 2026-03-04 --system shop --reason "sale day, three times the usual orders"
    """
    from nightlog.outcomes import exit_code
    from nightlog.quality.approvals import Approval
    from nightlog.run.context import utc_now
    from nightlog.run.entry import new_run_id, open_lake
    from nightlog.run.night import Night
    from nightlog.run.upkeep import approve as go_on
    from nightlog.systems.catalog import choose, load_catalog

    settings = settings_from(lake=lake, data=data, master=master)
    chosen = choose(load_catalog(settings.systems), [system])
    outcomes: list[str] = []
    with open_lake(settings, "nightlog approve") as tables, err.status(f"{system} {ds}"):
        night = Night(ds, new_run_id(ds), chosen, tables, settings, utc_now)
        for each in go_on(night, Approval(by or getpass.getuser(), reason, new_normal)):
            outcomes.append(each.outcome)
            counts = "  ".join(f"{name.removeprefix('n_')} {n:,}" for name, n in each.counts.items())
            out.print(safe(f"{each.stage:8} {each.outcome}  {counts}  {each.detail or ''}".rstrip()), soft_wrap=True)
    raise typer.Exit(exit_code(outcomes))


@app.command(rich_help_panel="Lake and machine")
def restore(
    table: Annotated[str, typer.Argument(help="The table, e.g. gold.anomalies.")],
    to: Annotated[
        str, typer.Option("--to", help="A version, or a time in UTC such as `2026-03-04 06:00`; without it the versions are listed.")
    ] = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Put a table back to an earlier version, or list its versions; docs/how-to/recover.md lists what to run afterwards.

    Going back (`--to 12`, or `--to "2026-03-04 06:00"`) is a new version itself, so it can be undone. Versions can be read for
    NIGHTLOG_REPLAY_DAYS days.

    Example: nightlog restore gold.anomalies
    """
    from datetime import UTC, datetime

    from nightlog.errors import NotThere, UsageError
    from nightlog.lake.tables import ALL_TABLES
    from nightlog.lake.time_travel import restore as go_back
    from nightlog.lake.time_travel import versions
    from nightlog.systems.catalog import nearest

    specs = {spec.name: spec for spec in ALL_TABLES}
    if table not in specs:
        raise NotThere(f"no table `{table}`{nearest(table, specs)}; known: {', '.join(specs)}")
    tables = open_tables(lake)
    if not to:
        rows = [each._asdict() | {"at": f"{each.at:%Y-%m-%d %H:%M:%S}"} for each in versions(tables, specs[table])]
        print_rows(rows, list(rows[0]), form)
        return
    try:
        point = int(to) if to.isdigit() else datetime.fromisoformat(to)
    except ValueError:
        raise UsageError(f"--to {to}: neither a version nor a time such as `2026-03-04 06:00`") from None
    if isinstance(point, datetime) and point.tzinfo is None:
        point = point.replace(tzinfo=UTC)
    out.print(f"{table} is as it was in version {go_back(tables, specs[table], point)}")


@app.command(rich_help_panel="Lake and machine")
def init(to: Annotated[str, typer.Option("--out", help="The file to write; it must not exist yet.")] = "nightlog.toml") -> None:
    """Write a file for settings, each commented out with its meaning and default; edit it, then see `nightlog doctor`.

    Example: nightlog init
    """
    from nightlog.errors import ConfigError
    from nightlog.settings import file_text

    try:
        with Path(to).open("x", encoding="utf-8") as file:
            file.write(file_text())
    except OSError as error:
        raise ConfigError(f"{to} cannot be written: {error.strerror}; name another file by --out, or remove it first") from None
    out.print(f"{to}: edit it; it is read from the working folder, or from where NIGHTLOG_CONFIG says", soft_wrap=True)


@app.command(rich_help_panel="Lake and machine")
def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Ask the LLM's endpoint for its models and one made-up question; no log text is sent.")
    ] = False,
    lake: LakeOption = None,
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check everything that a night needs, and show what to do: machine, lake, tables, models, endpoint, systems and their last nights.

    Nothing is changed, Spark is not started. The exit code is 1 if something is an error.

    Example: nightlog doctor --online
    """
    from nightlog.doctor.look import look, of_settings, worst
    from nightlog.errors import SettingsError
    from nightlog.run.context import utc_now
    from nightlog.settings import java_home

    try:
        found = look(settings_from(lake=lake, data=data), java_home(), utc_now(), online)
    except SettingsError as trouble:
        found = of_settings(trouble)
    if form == Format.TABLE:
        area = ""
        for each in found:
            if each.area != area:
                area = each.area
                out.print(Text(f"\n{area}", style="bold"))
            colour = {"ok": "green", "warning": "yellow", "error": "red"}[each.state]
            place = f"  ({each.where})" if each.where and each.where not in each.what else ""
            out.print(Text(f"  {each.state:8}", style=colour) + safe(f"{each.what}{place}"), soft_wrap=True)
            if each.todo:
                out.print(safe(f"           → {each.todo}"), soft_wrap=True)
        n = {state: sum(each.state == state for each in found) for state in ("error", "warning")}
        out.print(f"\n{n['error']} errors, {n['warning']} warnings")
    else:
        print_rows([each._asdict() for each in found], list(found[0]._fields), form)
    raise typer.Exit(int(worst(found) == "error"))


@app.command(rich_help_panel="Investigate")
def query(
    sql: Annotated[str, typer.Argument(help="SQL of DuckDB, e.g. over gold.anomalies.")],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help=f"Rows; default: {QUERY_ROWS} in a table, else all.")] = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask the lake in SQL.

    Example: nightlog query "select system, ds, count(*) from gold.anomalies group by all"
    """
    from nightlog.lake.query import query as ask

    most = limit or (QUERY_ROWS if form == Format.TABLE else None)
    found = ask(open_tables(lake), sql, most and most + 1)
    print_rows(found.slice(0, most).to_pylist(), found.column_names, form, grouped=False)
    if most is not None and len(found) > most:
        warn(f"only the first {most:,} rows; more: --limit")


class Target(StrEnum):
    """Form of an export."""

    DUCKDB = "duckdb"


@app.command(rich_help_panel="Lake and machine")
def export(
    kind: Annotated[Target, typer.Argument(help="duckdb: one database with tables, views and the meaning of each column.")],
    file: Annotated[Path, typer.Argument(help="The file to write; a database of an earlier export is replaced.")],
    since: Annotated[str, typer.Option("--since", help="First night, YYYY-MM-DD; default: all.", callback=checked_day)] = "",
    until: Annotated[str, typer.Option("--until", help="Last night, YYYY-MM-DD; default: all.", callback=checked_day)] = "",
    system: SystemOption = "",
    with_sessions: Annotated[bool, typer.Option("--sessions", help="Also silver.sessions: all sessions, the normal ones too.")] = False,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Export nights for BI tools: the gold tables and their views as a DuckDB database.

    Example: nightlog export duckdb nightlog.duckdb

    Example: nightlog export duckdb march.duckdb --since 2026-03-01 --until 2026-03-31 --system shop --sessions
    """
    from nightlog.cli.night_state import check_known
    from nightlog.errors import NotThere
    from nightlog.handoff.export import export_duckdb
    from nightlog.lake.query import night_rows
    from nightlog.lake.tables import SESSIONS

    tables, last = open_tables(lake), until or "9999"
    check_known(tables, system)
    nights = sorted({row["ds"] for row in night_rows(tables, system) if since <= row["ds"] <= last})
    if not nights:
        raise NotThere(f"no night from {since or 'the first'} to {until or 'the last'} in {tables.root}: see `nightlog nights`")
    with err.status("exporting"):
        export_duckdb(tables, file, since, last, system, (SESSIONS,) if with_sessions else ())
    row = {"kind": kind.value, "file": str(file), "nights": len(nights), "first": nights[0], "last": nights[-1]}
    if form != Format.TABLE:
        print_rows([row], list(row), form)
    else:
        out.print(safe(f"{file}: {len(nights):,} nights, {nights[0]} to {nights[-1]}"), soft_wrap=True)


@app.command(rich_help_panel="Systems")
def systems(form: FormatOption = Format.TABLE) -> None:
    """List the known systems: their role, the path of their files, and if their text may go to the LLM.

    Example: nightlog systems
    """
    from nightlog.systems.catalog import load_catalog

    rows = [
        {
            "system": system.name,
            "role": system.role,
            "path": system.input.path,
            "sessions": system.session.kind,
            "labels": "file" if system.labels and system.labels.file else "field" if system.labels else "none",
            "llm": "allowed" if system.llm.allowed else "never",
            "description": system.description,
        }
        for system in load_catalog(settings_from().systems).values()
    ]
    print_rows(rows, list(rows[0]) if rows else [], form)


@app.command(rich_help_panel="Lake and machine")
def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the nights that are too old.")] = False,
    systems: Systems = "",
    lake: LakeOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Drop nights that are too old, compact small files, remove files that no version of the lake needs (weekly by Airflow).

    Days for which nights are kept: NIGHTLOG_BRONZE_DAYS (90), NIGHTLOG_SILVER_DAYS (180), NIGHTLOG_GOLD_DAYS (730); days for which earlier
    versions of tables can be read: NIGHTLOG_REPLAY_DAYS (14). Sources, verdicts, answers and models are kept permanently.

    Example: nightlog maintain --dry-run
    """
    from nightlog.run.upkeep import run_maintenance

    messages = Messages(form)
    with err.status("maintaining"):
        run_maintenance(settings_from(lake=lake, master=master), systems, messages, dry_run=dry_run)
    messages.finish()


@app.command(rich_help_panel="Lake and machine")
def jars() -> None:
    """Download Delta's JARs into this environment; large nights and clusters need them. `make setup` does the same.

    Needs Java 17 and a way to Maven Central, once: a night needs neither.

    Example: nightlog jars
    """
    from nightlog.spark_submit import resolve_jars

    with err.status("resolving Delta's JARs"):
        paths = resolve_jars()
    for path in paths:
        out.print(safe(str(path)), soft_wrap=True)


@app.command(
    "spark-submit",
    rich_help_panel="Lake and machine",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def submit(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[OPTIONS OF SPARK-SUBMIT] JOB [OPTIONS OF THE JOB]", help="JOB: a stage, train, retrain or maintain."),
    ],
) -> None:
    """Submit a job to Spark, with Delta's JARs; its exit code is the job's.

    Settings give master, properties file and driver memory; an option before JOB takes precedence. `nightlog run` needs no spark-submit.

    Example: nightlog spark-submit --master yarn parse --ds 2026-03-04 --systems shop
    """
    import os

    from nightlog.spark_submit import submit_command, submit_environment

    command = submit_command(words, settings_from())
    os.execve(command[0], command, submit_environment(command, os.environ))


@app.command(rich_help_panel="Investigate")
def mcp(
    raw: Annotated[
        bool, typer.Option("--raw", help="Give out raw lines and session ids, and all tables: for an assistant on this machine.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Serve the lake to an assistant by the Model Context Protocol, on standard input and output. Read-only; texts are redacted.

    Example: nightlog mcp --lake /srv/nightlog/lake
    """
    from importlib.util import find_spec

    from nightlog.errors import ConfigError

    if find_spec("mcp") is None:
        raise ConfigError("this command needs the package mcp: pip install 'nightlog[mcp]'")
    from nightlog.handoff.mcp_server import Reader, make_server

    settings = settings_from(lake=lake)
    make_server(Reader(open_tables(lake), settings.systems, raw)).run("stdio")
