"""The command line `nightlog`."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import time
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightlog.errors import ConfigError, NightlogError

if TYPE_CHECKING:
    from nightlog.evaluation.bench import Wanted
    from nightlog.settings import Settings

app = typer.Typer(
    name="nightlog",
    help="Finds anomalies in the logs of systems that nobody has labelled, every night.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

# Control, bidirectional and zero-width characters: log text must not steer the terminal.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Label(StrEnum):
    """What a group of patterns can be."""

    NORMAL = "normal"
    ANOMALOUS = "anomalous"


Ds = Annotated[str, typer.Option("--ds", help="The night's day, YYYY-MM-DD.")]
LakeOption = Annotated[Path | None, typer.Option("--lake", help="Folder of the tables [env NIGHTLOG_LAKE; default ./lake].")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the log files [env NIGHTLOG_DATA; default: the sample].")]
Systems = Annotated[str, typer.Option("--systems", help="Names, separated by commas; default: all targets.")]
FormatOption = Annotated[Format, typer.Option("--format", help="table, json or csv.")]
Master = Annotated[str | None, typer.Option("--master", help="Spark master [env NIGHTLOG_MASTER; default local[*]].")]


@app.command()
def run(ds: Ds, systems: Systems = "", lake: LakeOption = None, data: DataOption = None, master: Master = None) -> None:
    """Run a night: all stages in one process.

    Example: nightlog run --ds 2026-03-04
    """
    from nightlog.job import chosen_systems, new_run_id, open_lake, settings_from
    from nightlog.night import Night, Stage, check_ds, exit_code, utc_now

    settings = settings_from(lake=lake, data=data, master=master)
    chosen = chosen_systems(settings, systems)
    check_ds(ds)
    outcomes: dict[str, str] = {}
    with err.status("starting Spark"), open_lake(settings, "nightlog run") as tables:
        night = Night(ds, new_run_id(ds), chosen, tables, settings, utc_now)
        for stage in Stage:
            started, totals, told = time.monotonic(), dict[str, int](), list[str]()
            with err.status(f"{stage}: {len(chosen)} systems"):
                for outcome in night.run_stage(stage):
                    outcomes[outcome.system] = outcome.outcome
                    totals = {name: totals.get(name, 0) + outcome.counts.get(name, 0) for name in {**totals, **outcome.counts}}
                    if outcome.detail:
                        told.append(f"         {outcome.system}: {outcome.outcome}: {outcome.detail}")
            counts = "  ".join(f"{name.removeprefix('n_').removeprefix('run_n_')} {n:,}" for name, n in totals.items())
            out.print(Text(f"{stage:8} {time.monotonic() - started:6.1f} s  {counts}"), soft_wrap=True)
            for line in told:
                out.print(Text(UNSEEN.sub("�", line)), style="yellow", soft_wrap=True)
    raise typer.Exit(exit_code(list(outcomes.values())))


@app.command()
def train(systems: Systems = "", lake: LakeOption = None, data: DataOption = None, master: Master = None) -> None:
    """Train the small model on the labelled systems, and let it serve.

    Example: nightlog train --data /var/log/archive
    """
    from nightlog.job import settings_from
    from nightlog.train import run_training

    with err.status("training"):
        run_training(settings_from(lake=lake, data=data, master=master), systems, lambda text: out.print(Text(text), soft_wrap=True))


@app.command()
def retrain(systems: Systems = "", lake: LakeOption = None, data: DataOption = None, master: Master = None) -> None:
    """Distil what the LLM and the analysts said of systems into small models of their own, so that the LLM is asked less.

    Example: nightlog retrain --systems dovecot
    """
    from nightlog.job import settings_from
    from nightlog.train import run_distillation

    with err.status("distilling"):
        run_distillation(settings_from(lake=lake, data=data, master=master), systems, lambda text: out.print(Text(text), soft_wrap=True))


@app.command()
def anomalies(
    ds: Ds,
    system: Annotated[str | None, typer.Option("--system", help="One system alone.")] = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
    limit: Annotated[int, typer.Option("--limit", help="Rows of the table; json and csv have all.")] = 20,
) -> None:
    """Show a night's anomalies: which sessions, why, on what evidence, and the raw lines.

    Example: nightlog anomalies --ds 2026-03-04 --format json
    """
    from nightlog.job import settings_from
    from nightlog.lake.store import Lake
    from nightlog.night import check_ds
    from nightlog.reporting.tables import anomalies as read

    rows = read(Lake(settings_from(lake=lake).lake), check_ds(ds), system)
    if form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
        return
    show_anomalies(rows, ds, limit)


def show_anomalies(rows: list[dict[str, Any]], ds: str, limit: int) -> None:
    """One row a pattern, the most sessions first: what it is, who says so, why, its most telling template, a raw line."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["system"], row["pattern_id"]), []).append(row)
    ranked = sorted(
        groups.values(), key=lambda same: (same[0]["system"], same[0]["status"] == "provisional", -same[0]["score"], -len(same))
    )
    table = Table(title=f"{len(rows):,} anomalous sessions of {len(groups):,} kinds on {ds}", show_lines=True, expand=True)
    table.add_column("session", ratio=2, overflow="fold")
    table.add_column("score", min_width=11)
    table.add_column("reason and evidence", ratio=5, overflow="fold")
    table.add_column("lines", ratio=6, overflow="fold")
    for same in ranked[:limit]:
        first = same[0]
        more = f"\nand {len(same) - 1:,} more alike" if len(same) > 1 else ""
        evidence = [f"{each['count']}× {each['template'][:100]}" for each in first["evidence"][:3]]
        lines = [f"{Path(line['file']).name}:{line['line_no']} {line['text'][:160]}" for line in first["lines"][-3:]]
        table.add_row(
            safe(f"{first['system']}\n{first['session_id']}{more}"),
            safe(f"{first['score']:.2f}\n{first['decided_by']}\n{first['status']}"),
            safe("\n".join([first["reason"], *evidence])),
            safe("\n".join(lines)),
        )
    out.print(table)
    if len(ranked) > limit:
        out.print(f"{len(ranked) - limit:,} kinds more: --limit, --format json, or `nightlog query`")


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="SQL of DuckDB, e.g. over gold.anomalies.")],
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask the lake in SQL.

    Example: nightlog query "select system, ds, count(*) from gold.anomalies group by all"
    """
    from nightlog.job import settings_from
    from nightlog.lake.store import Lake
    from nightlog.reporting.tables import query as ask

    found = ask(Lake(settings_from(lake=lake).lake), sql)
    print_rows(found.to_pylist(), found.column_names, form)


@app.command()
def systems(form: FormatOption = Format.TABLE) -> None:
    """List the known systems: what they are, where their files are looked for, and what may go to the LLM.

    Example: nightlog systems
    """
    from nightlog.job import settings_from
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


@app.command()
def outcomes(ds: Ds, run_id: Annotated[str, typer.Option("--run-id", help="The run.")], lake: LakeOption = None) -> None:
    """Say what became of each system of a run; the exit code is the run's.

    Example: nightlog outcomes --ds 2026-03-04 --run-id manual__1
    """
    from nightlog.job import settings_from
    from nightlog.lake.store import Lake
    from nightlog.night import check_ds, exit_code
    from nightlog.reporting.tables import run_outcomes

    found = run_outcomes(Lake(settings_from(lake=lake).lake), check_ds(ds), run_id)
    for system, outcome, why in found:
        out.print(safe(f"{system}: {outcome}: {why}"), soft_wrap=True)
    if not found:
        out.print(f"no stage of run {run_id} left an outcome for {ds}: see the log of its first task")
    raise typer.Exit(exit_code([outcome for _, outcome, _ in found] or ["failed"]))


@app.command()
def evaluate(
    system: Annotated[str | None, typer.Option("--system", help="A labelled system whose nights were run; with --ds.")] = None,
    ds: Annotated[str | None, typer.Option("--ds", help="Nights, separated by commas; with --system.")] = None,
    targets: Annotated[str, typer.Option("--targets", help="Systems of the benchmark, separated by commas; default: all.")] = "",
    modes: Annotated[str, typer.Option("--modes", help="Separated by commas; default: all.")] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How often what depends on chance is run.")] = 5,
    protocol: Annotated[str, typer.Option("--protocol", help="deployment, paper or both.")] = "deployment",
    quick: Annotated[bool, typer.Option("--quick", help="One seed, the deployment protocol, the three main targets.")] = False,
    answers: Annotated[str, typer.Option("--answers", help="How many questions an analyst answers, e.g. 0,1,3,5.")] = "0",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Targets that are run at the same time, each by a process.")] = 2,
    results: Annotated[Path, typer.Option("--out", help="Folder of the results; a second run goes on there.")] = Path("build/benchmark"),
    lake: LakeOption = None,
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Benchmark the modes on labelled systems, or hold what was flagged on some nights against the system's labels.

    Nothing else ever reads a target's labels.

    Example: nightlog evaluate --quick --out build/benchmark

    Example: nightlog evaluate --system hdfs --ds 2008-11-09,2008-11-10,2008-11-11
    """
    from nightlog.errors import ConfigError
    from nightlog.job import settings_from

    settings = settings_from(lake=lake, data=data)
    if (system is None) != (ds is None):
        raise ConfigError("what was flagged on real nights is evaluated by --system and --ds together; the benchmark needs neither")
    if system is not None and ds is not None:
        from nightlog.evaluation.nights import evaluate_nights
        from nightlog.lake.store import Lake
        from nightlog.night import check_ds
        from nightlog.systems.catalog import choose, load_catalog

        chosen = choose(load_catalog(settings.systems), [system])[0]
        rows = evaluate_nights(Lake(settings.lake), chosen, [check_ds(day.strip()) for day in ds.split(",")], settings.logs)
        print_rows(rows, list(rows[0]), form)
        return
    from nightlog.evaluation.bench import Wanted

    show_benchmark(settings, Wanted.of(targets, modes, protocol, seeds, answers, quick), results, form, workers)


def show_benchmark(settings: Settings, wanted: Wanted, folder: Path, form: Format, workers: int) -> None:
    """Run the benchmark under a progress bar, then print F1 of all test sessions by mode and target."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from nightlog.evaluation.bench import run_benchmark
    from nightlog.evaluation.summary import overview

    cells = wanted.cells()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    records: list[dict[str, Any]] = []
    if settings.provider == "openai":
        err.print("NIGHTLOG_LLM_CALLS_PER_NIGHT does not bound the LLM's calls here: all sessions of a system are asked about at once.")
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("reading", total=len(cells))
        for result in run_benchmark(settings, cells, folder, workers=workers):
            records += result.records
            progress.update(task, advance=1, description=f"{result.cell.target} {result.cell.name}")
    rows = overview(records)
    if form == Format.TABLE:
        for each in wanted.protocols:
            table = Table(title=f"F1, {each} protocol, all test sessions")
            for number, column in enumerate(list(rows[0])[1:]):
                table.add_column(column, no_wrap=not number, overflow="fold")
            for row in rows:
                if row["protocol"] == each:
                    table.add_row(*[safe("–" if value is None else str(value)) for value in list(row.values())[1:]])
            out.print(table)
    else:
        print_rows(rows, list(rows[0]), form)
    for name, what in (("index.html", "curves"), ("results.md", "tables"), ("results.json", "all records")):
        err.print(Text(f"{what}: {folder / name}"), soft_wrap=True)


@app.command()
def questions(
    system: Annotated[str, typer.Option("--system", help="One system alone.")] = "",
    with_answer: Annotated[bool, typer.Option("--answered", help="Those that were answered.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="Rows of the table; json and csv have all.")] = 10,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List what to ask the analysts: groups of patterns that the LLM is unsure of, first those where one answer changes most.

    Example: nightlog questions --system hdfs
    """
    from nightlog.job import settings_from
    from nightlog.lake.store import Lake
    from nightlog.llm.analysts import questions as read
    from nightlog.systems.catalog import choose, load_catalog

    settings = settings_from(lake=lake)
    catalog = load_catalog(settings.systems)
    rows = read(Lake(settings.lake), choose(catalog, [system]) if system else list(catalog.values()), with_answer)
    print_rows(rows[:limit] if form == Format.TABLE else rows, list(rows[0]) if rows else [], form)
    if form == Format.TABLE and len(rows) > limit:
        out.print(f"{len(rows) - limit:,} more: --limit or --format json")


@app.command()
def answer(
    group: Annotated[str, typer.Argument(help="The group, as `nightlog questions` names it.")],
    label: Annotated[Label | None, typer.Argument(help="normal or anomalous.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the answer back.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who answers; default: the user.")] = None,
    lake: LakeOption = None,
) -> None:
    """Answer about a group of patterns. The next publishing and retraining follow it; it outranks the LLM and the small model.

    Example: nightlog answer 1bb2dd1c normal
    """
    from getpass import getuser

    from nightlog.job import settings_from
    from nightlog.lake.store import Lake
    from nightlog.llm.analysts import record_answer, take_back
    from nightlog.night import utc_now
    from nightlog.systems.catalog import load_catalog

    if (label is None) != undo:
        raise ConfigError("give either normal, anomalous or --undo")
    settings, who = settings_from(lake=lake), by or getuser()
    tables = Lake(settings.lake)
    if label is None:
        row, said = take_back(tables, group, who, utc_now()), "is open again"
    else:
        row = record_answer(tables, list(load_catalog(settings.systems).values()), group, label.value, who, utc_now())
        said = f"is {label.value}; take it back with: nightlog answer {group} --undo"
    out.print(safe(f"{row['system']}: {row['name'] or 'one pattern'} ({len(row['questions']):,} patterns) {said}"), soft_wrap=True)


@app.command()
def cost(
    since: Annotated[str | None, typer.Option("--since", help="First night, YYYY-MM-DD.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last night, YYYY-MM-DD.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="One system alone.")] = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what the LLM cost: calls, questions, tokens, US dollars and seconds by night, system and mode.

    Example: nightlog cost --since 2026-03-01
    """
    from nightlog.job import settings_from
    from nightlog.lake.store import Lake
    from nightlog.llm.ledger import cost as read
    from nightlog.night import check_ds

    first, last = check_ds(since) if since else "", check_ds(until) if until else "9999"
    rows = read(Lake(settings_from(lake=lake).lake), first, last, system)
    print_rows(rows, list(rows[0]) if rows else [], form)


def safe(text: str) -> Text:
    """Text for the terminal: no markup, no control characters."""
    return Text(UNSEEN.sub("�", text))


def as_json(value: Any) -> Any:
    """What JSON has no form for, as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_rows(rows: list[dict[str, Any]], columns: list[str], form: Format) -> None:
    """Rows as a table, as JSON, or as CSV with nested values in JSON."""
    if form == Format.JSON:
        print(json.dumps(rows, default=as_json, ensure_ascii=False, indent=1))
        return
    flat = [
        [json.dumps(value, default=as_json, ensure_ascii=False) if isinstance(value, list | dict) else value for value in row.values()]
        for row in rows
    ]
    if form == Format.CSV:
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(columns)
        writer.writerows(flat)
        sys.stdout.write(buffer.getvalue())
        return
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in flat:
        table.add_row(*[safe("" if value is None else f"{value:,}" if isinstance(value, int) else str(value)) for value in row])
    out.print(table)


def main() -> None:
    """Entry point: Nightlog's own errors end as one message and their exit code."""
    try:
        app()
    except NightlogError as error:
        err.print(Text(f"nightlog: {error}"), style="red", soft_wrap=True)
        sys.exit(error.exit_code)
