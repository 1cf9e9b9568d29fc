"""Commands of nights: run one, list them, show anomalies, signals, outcomes and pages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from rich.text import Text

from nightlog.cli.app import (
    DataOption,
    Ds,
    Format,
    FormatOption,
    LakeOption,
    Limit,
    Master,
    NightOption,
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
from nightlog.outcomes import EXIT_DONE, EXIT_PERMANENT
from nightlog.sanitize import shortened

SHOWN_LINES = 4  # of a session in the table of anomalies
READABLE_TABLE = 100  # columns of the terminal; on a narrower one a finding is a block of lines
NIGHT_COLUMNS = ["ds", "system", "outcome", "n_lines", "n_sessions", "n_unjudged", "n_anomalies", "n_provisional", "detail", "run_id"]
SHOWN_COLUMNS = [name for name in NIGHT_COLUMNS if name not in ("n_provisional", "run_id")]


@app.command(rich_help_panel="Nights")
def run(
    ds: Ds,
    systems: Systems = "",
    first: Annotated[str, typer.Option("--from", help="The first stage to run; what those before it wrote is taken as it is.")] = "ingest",
    as_run: Annotated[bool, typer.Option("--as-run", help="Judge by the models that judged the night when it was published.")] = False,
    fewer_lines: Annotated[bool, typer.Option("--fewer-lines", help="Replace a published night even if it has fewer lines now.")] = False,
    read_again: Annotated[bool, typer.Option("--read-again", help="Read and parse the files even if they have not changed.")] = False,
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run a night: all stages in one process.

    Example: nightlog run --ds 2026-03-04

    Example: nightlog run --ds 2026-03-04 --system shop --as-run
    """
    from nightlog.doctor.machine import reads_only
    from nightlog.errors import ConfigError, UsageError
    from nightlog.outcomes import Stage, exit_code
    from nightlog.run.context import utc_now
    from nightlog.run.entry import chosen_systems, new_run_id, open_lake
    from nightlog.run.night import Night

    settings = settings_from(lake=lake, data=data, master=master)
    if first not in list(Stage):
        raise UsageError(f"--from {first}: no such stage; expected one of {', '.join(Stage)}")
    if reads_only():  # nothing is begun that a missing package would end
        raise ConfigError("this installation reads lakes, and has not the packages that run nights: pip install 'nightlog[jobs]'")
    chosen = chosen_systems(settings, systems)
    kinds: dict[tuple[str, str], str] = {}
    rows: list[dict[str, Any]] = []
    with open_lake(settings, "nightlog run") as tables:
        night = Night(
            ds,
            new_run_id(ds),
            chosen,
            tables,
            settings,
            utc_now,
            as_run,
            notify=lambda text: err.print(safe(text), soft_wrap=True),
            fewer_lines=fewer_lines,
            read_again=read_again,
        )
        _ = night.context.models  # with --as-run, a night whose model is not known any more does not begin
        for stage in night.stages_from(Stage(first)):
            started, totals, details = time.monotonic(), dict[str, int](), list[str]()
            with err.status(f"{stage}: {len(chosen)} systems"):
                for outcome in night.run_stage(stage):
                    kinds[outcome.system, stage] = outcome.exit_kind
                    rows.append(asdict(outcome) | {"stage": stage.value})
                    totals = {name: totals.get(name, 0) + outcome.counts.get(name, 0) for name in {**totals, **outcome.counts}}
                    if outcome.detail:
                        details.append(f"         {outcome.system}: {outcome.outcome}: {outcome.detail}")
            if form != Format.TABLE:
                continue
            counts = "  ".join(f"{name.removeprefix('n_').removeprefix('run_n_')} {n:,}" for name, n in totals.items())
            out.print(Text(f"{stage:8} {time.monotonic() - started:6.1f} s  {counts}"), soft_wrap=True)
            for line in details:
                out.print(safe(line), style="yellow", soft_wrap=True)
        remarks = night.remarks()
    for line in remarks:
        (out if form == Format.TABLE else err).print(safe(line), style="yellow", soft_wrap=True)
    if form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
    raise typer.Exit(exit_code(kinds.values(), len(chosen)))


@app.command(rich_help_panel="Investigate")
def anomalies(
    ds: NightOption = "",
    system: SystemOption = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
    limit: Limit = 20,
) -> None:
    """Show a night's anomalies: which sessions, why, on what evidence, and the raw lines.

    Example: nightlog anomalies --ds 2026-03-04 --format json
    """
    from nightlog.cli.night_state import open_night
    from nightlog.lake.query import anomalies as read
    from nightlog.lake.tables import ANOMALIES, FINDINGS, NIGHTS
    from nightlog.publishing.account import night_sentence
    from nightlog.publishing.findings import rank_key

    tables, state = open_night(lake, ds, system)
    rows = read(tables, state.ds, system) if state.published else []
    if form != Format.TABLE:
        print_rows(rows, ANOMALIES.names, form)
    elif state.published:
        nights = [row for row in tables.rows(NIGHTS, ds=state.ds) if row["system"] in state.published]
        findings = sorted(tables.rows(FINDINGS, ds=state.ds), key=rank_key)
        ranked = by_finding(rows, [(row["system"], row["pattern_id"]) for row in findings])
        show_anomalies(ranked, state.ds, limit, night_sentence(nights))
        if ranked:
            first = ranked[0][0]
            there = "" if lake is None else f" --lake {quote(str(lake))}"
            command = f"nightlog show {first['pattern_id']} --system {first['system']} --ds {state.ds}{there}"
            out.print(safe(f"The whole story of a finding, here the first: {command}"), soft_wrap=True)
    raise typer.Exit(state.exit_code)


def by_finding(rows: Sequence[Mapping[str, Any]], ranked: Sequence[tuple[str, str]]) -> list[list[Mapping[str, Any]]]:
    """Return rows of gold.anomalies by finding, in the order of `ranked` (system, pattern); those that it lacks come last.

    A version without gold.findings may have published them.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["system"], row["pattern_id"]), []).append(row)
    places = [place for place in ranked if place in groups]
    return [groups[place] for place in [*places, *sorted(groups.keys() - set(places))]]


def show_anomalies(ranked: Sequence[Sequence[Mapping[str, Any]]], ds: str, limit: int, unjudged: str | None) -> None:
    """Print one row per finding. Args: ranked: see `by_finding`; unjudged: the sentence about sessions that nobody judged."""
    from rich.table import Table

    from nightlog.publishing.findings import RANKED_BY

    n_sessions = sum(map(len, ranked))
    title = f"{n_sessions:,} anomalous sessions in {len(ranked):,} findings on {ds}"
    title = f"{unjudged}; {title}" if unjudged else title
    cells = [finding_cells(same) for same in ranked[:limit]]
    if out.width < READABLE_TABLE:
        out.print(safe(title), style="bold", soft_wrap=True)
        for number, (session, score, *parts) in enumerate(cells, 1):
            out.print(safe(f"{number}. {', '.join([*session, *score])}"), style="bold", soft_wrap=True)
            for line in (line for part in parts for line in part):
                out.print(safe(f"   {line}"), soft_wrap=True)
    else:
        table = Table(title=title, show_lines=True, expand=True)
        table.add_column("session", ratio=2, overflow="fold")
        table.add_column("score", min_width=11)
        table.add_column("reason and evidence", ratio=5, overflow="fold")
        table.add_column("lines", ratio=6, overflow="fold")
        for row in cells:
            table.add_row(*(safe("\n".join(lines)) for lines in row))
        out.print(table)
    if len(ranked) > limit:
        out.print(f"{limit:,} of {len(ranked):,} findings shown, ranked by {RANKED_BY}; more: --limit, --format json, or `nightlog query`")


def finding_cells(same: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Return the lines of each cell of a finding: session, score, reason with evidence, raw lines. Args: same: its anomalies."""
    first = same[0]
    session = [first["system"], first["session_id"], *([f"and {len(same) - 1:,} more alike"] if len(same) > 1 else [])]
    evidence = [f"{each['count']}× {shortened(each['template'], 100)}" for each in first["evidence"][:3]]
    lines = [f"{Path(line['file']).name}:{line['line_no']} {shortened(line['text'], 160)}" for line in first["lines"][:SHOWN_LINES]]
    return session, [f"{first['score']:.2f}", first["decided_by"], first["status"]], [first["reason"], *evidence], lines


@app.command(rich_help_panel="Nights")
def outcomes(
    ds: Annotated[str, typer.Option("--ds", help="The night, YYYY-MM-DD; default: the last that was begun.", callback=checked_day)] = "",
    run_id: Annotated[str, typer.Option("--run-id", help="The run; default: the last one of the night.")] = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the outcome of each system of a run; the exit code is the run's.

    Example: nightlog outcomes --ds 2026-03-04

    Example: nightlog outcomes --ds 2026-03-04 --run-id manual__1
    """
    from nightlog.errors import NotThere
    from nightlog.lake.query import last_run, run_outcomes, systems_without_due_input
    from nightlog.outcomes import exit_code

    tables = open_tables(lake)
    if not run_id or not ds:
        last = last_run(tables, ds, run_id)
        if last is None:
            raise NotThere(f"{f'night {ds} was never run' if ds else 'no night was run yet'} in {tables.root}")
        ds, run_id = last
        err.print(safe(f"night {ds}, run {run_id}"), soft_wrap=True)
    found = run_outcomes(tables, ds, run_id)
    if form != Format.TABLE:
        names = ["system", "outcome", "why"]
        print_rows([dict(zip(names, row, strict=True)) for row in found], names, form)
    for system, outcome, why in found if form == Format.TABLE else ():
        out.print(safe(f"{system}: {outcome}: {why}"), soft_wrap=True)
    if not found:
        raise NotThere(f"no stage of run {run_id} left an outcome for {ds} in {tables.root}: see the log of its first task")
    missing = systems_without_due_input(tables, ds, run_id)
    kinds = ["failed" if system in missing else outcome for system, outcome, _ in found]
    raise typer.Exit(exit_code(kinds, len(kinds)))


@app.command(rich_help_panel="Nights")
def nights(
    system: SystemOption = "",
    limit: Limit = 30,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the nights that are in the lake, the last first: outcome, lines, sessions and anomalies of each system.

    Example: nightlog nights --system shop
    """
    from nightlog.cli.night_state import open_night
    from nightlog.lake.query import night_rows

    rows = night_rows(open_tables(lake), system)
    if form != Format.TABLE:
        print_rows(rows, NIGHT_COLUMNS, form)
    elif rows:
        given = [name for name in SHOWN_COLUMNS if any(row.get(name) not in (None, "") for row in rows)]
        shown = [{name.removeprefix("n_"): row.get(name) for name in given} for row in rows]
        print_rows(shown, list(shown[0]), form, limit=limit)
    if not rows:
        _, state = open_night(lake, "", system)
        raise typer.Exit(state.exit_code)


@app.command(rich_help_panel="Investigate")
def signals(
    ds: NightOption = "",
    system: SystemOption = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what else is unlike the nights before: a system or templates at another rate or silent, templates that are new, that have
    a value far out of its range, or that are worded in many new ways.

    A system's first nights are for learning; of them there is trouble outside of sessions alone.

    Example: nightlog signals --ds 2026-03-05
    """
    from nightlog.cli.night_state import open_night
    from nightlog.lake.tables import SIGNALS
    from nightlog.signals.find import missing_signals
    from nightlog.signals.find import signals as read

    tables, state = open_night(lake, ds, system)
    rows = read(tables, state.ds, system) if state.ds else []
    missing = missing_signals(tables, state.ds, state.published)
    for name, reason in sorted(missing.items()):
        warn(f"{name} {state.ds}: {reason}")
    code = state.exit_code or (EXIT_PERMANENT if missing else EXIT_DONE)
    if form != Format.TABLE:
        print_rows(rows, SIGNALS.names, form)
    elif rows:
        print_rows(rows, ["system", "kind", "template", "reason"], form)
    elif not code:
        out.print(f"nothing on {state.ds} is unlike the nights before")
    raise typer.Exit(code)


@app.command(rich_help_panel="Nights")
def report(
    ds: NightOption = "",
    with_open: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Rebuild a night's pages from the lake and print their path; the night itself writes them in its last stage.

    Example: nightlog report --ds 2026-03-04 --open
    """
    import webbrowser

    from nightlog.cli.night_state import open_night
    from nightlog.lake.tables import FINDINGS, INCIDENTS
    from nightlog.pages.page import write_pages
    from nightlog.publishing.incidents import write_incidents
    from nightlog.run.entry import new_run_id

    tables, state = open_night(lake, ds, "")
    if not state.is_known:
        if form != Format.TABLE:
            print_rows([], ["page", "failed"], form)
        raise typer.Exit(state.exit_code)
    settings = settings_from(lake=lake)
    if tables.rows(FINDINGS, ["finding_id"], ds=state.ds) and not tables.rows(INCIDENTS, ["incident_id"], ds=state.ds):
        write_incidents(tables, state.ds, new_run_id(state.ds))  # the run broke off before its last stage joined them
    written = write_pages(tables, state.ds, settings.alerts_per_night, settings.lines_url)
    for system, why in sorted(written.failed.items()):
        warn(f"{system}: no page: {why}")
    if written.calendar is not None:
        warn(f"no calendar: {written.calendar}")
    if form == Format.TABLE:
        print(written.page)
    else:
        print_rows([{"page": written.page, "failed": written.failed}], ["page", "failed"], form)
    if with_open:
        webbrowser.open(written.page if "://" in written.page else Path(written.page).as_uri())
    raise typer.Exit(EXIT_PERMANENT if written.failed or written.calendar is not None else state.exit_code)


@app.command(rich_help_panel="Nights")
def notify(
    ds: Annotated[str, typer.Option("--ds", help="The night, YYYY-MM-DD; default: the last that was begun.", callback=checked_day)] = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Send a night's message to the webhook now, e.g. after quiet hours. A receiver that has the message already gets nothing.

    Example: nightlog notify --ds 2026-03-04
    """
    from nightlog.errors import ConfigError, NotThere
    from nightlog.handoff.handoff import notify as send
    from nightlog.lake.query import last_run
    from nightlog.run.context import utc_now
    from nightlog.run.entry import new_run_id

    settings, tables = settings_from(lake=lake), open_tables(lake)
    last = last_run(tables, ds)
    if last is None:
        raise NotThere(f"{f'night {ds} was never run' if ds else 'no night was run yet'} in {tables.root}")
    if settings.hand_off.webhook is None:
        raise ConfigError("no webhook to send to: set NIGHTLOG_WEBHOOK_URL")
    handed = send(tables, last[0], new_run_id(last[0]), settings.hand_off, utc_now())
    row = {"ds": last[0], "outcome": "done" if handed.again else handed.outcome, "sent": not handed.again and handed.outcome == "done"}
    row["detail"] = "the receiver has it already" if handed.again else handed.detail
    if form != Format.TABLE:
        print_rows([row], list(row), form)
    else:
        out.print(safe(f"{row['ds']}: {row['outcome']}: {row['detail']}"), soft_wrap=True)
