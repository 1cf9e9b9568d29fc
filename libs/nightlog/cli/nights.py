"""Commands of a night: run it, see its anomalies and outcomes."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from nightlog.cli.app import app
from nightlog.cli.options import DataOption, Ds, Format, FormatOption, LakeOption, Master, Systems
from nightlog.cli.output import err, out, print_rows, safe
from nightlog.sanitize import UNSEEN

SHOWN_LINES = 4  # of a session in the table of anomalies


@app.command()
def run(
    ds: Ds,
    systems: Systems = "",
    first: Annotated[str, typer.Option("--from", help="The first stage to run; what those before it wrote is taken as it is.")] = "ingest",
    as_run: Annotated[bool, typer.Option("--as-run", help="Judge by the models that judged the night when it was published.")] = False,
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run a night: all stages in one process.

    Example: nightlog run --ds 2026-03-04

    Example: nightlog run --ds 2026-03-04 --systems shop --as-run
    """
    from nightlog.errors import ConfigError
    from nightlog.outcomes import Stage, exit_code
    from nightlog.run.context import check_ds, utc_now
    from nightlog.run.entry import chosen_systems, new_run_id, open_lake, settings_from
    from nightlog.run.night import Night

    settings = settings_from(lake=lake, data=data, master=master)
    if first not in list(Stage):
        raise ConfigError(f"--from {first}: no such stage; expected one of {', '.join(Stage)}")
    chosen = chosen_systems(settings, systems)
    check_ds(ds)
    outcomes: dict[tuple[str, str], str] = {}
    rows: list[dict[str, Any]] = []
    with open_lake(settings, "nightlog run") as tables:
        night = Night(ds, new_run_id(ds), chosen, tables, settings, utc_now, as_run, lambda text: err.print(safe(text), soft_wrap=True))
        _ = night.context.models  # a night that no model can judge does not begin
        for stage in Stage(first).onwards:
            started, totals, told = time.monotonic(), dict[str, int](), list[str]()
            with err.status(f"{stage}: {len(chosen)} systems"):
                for outcome in night.run_stage(stage):
                    outcomes[outcome.system, stage] = outcome.outcome
                    rows.append(asdict(outcome) | {"stage": stage.value})
                    totals = {name: totals.get(name, 0) + outcome.counts.get(name, 0) for name in {**totals, **outcome.counts}}
                    if outcome.detail:
                        told.append(f"         {outcome.system}: {outcome.outcome}: {outcome.detail}")
            if form != Format.TABLE:
                continue
            counts = "  ".join(f"{name.removeprefix('n_').removeprefix('run_n_')} {n:,}" for name, n in totals.items())
            out.print(Text(f"{stage:8} {time.monotonic() - started:6.1f} s  {counts}"), soft_wrap=True)
            for line in told:
                out.print(Text(UNSEEN.sub("�", line)), style="yellow", soft_wrap=True)
    if form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
    raise typer.Exit(exit_code(outcomes.values()))


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
    from nightlog.lake.lake import Lake
    from nightlog.lake.query import anomalies as read
    from nightlog.run.context import check_ds
    from nightlog.run.entry import settings_from

    rows = read(Lake(settings_from(lake=lake).lake), check_ds(ds), system)
    if form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
        return
    show_anomalies(rows, ds, limit)
    if rows:
        best = max((row for row in rows if row["status"] == "open"), key=lambda row: row["score"], default=rows[0])
        there = "" if lake is None else f" --lake {lake}"
        told = f"The whole story of a kind, here the surest: nightlog show {best['pattern_id']} --system {best['system']} --ds {ds}{there}"
        out.print(safe(told), soft_wrap=True)


def show_anomalies(rows: list[dict[str, Any]], ds: str, limit: int) -> None:
    """One row a pattern, the most sessions first: what it is, who says so, why, its most telling template, a raw line."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["system"], row["pattern_id"]), []).append(row)
    ranked = sorted(
        groups.values(),
        key=lambda same: (same[0]["system"], ("open", "provisional", "suppressed").index(same[0]["status"]), -same[0]["score"], -len(same)),
    )
    from rich.table import Table

    table = Table(title=f"{len(rows):,} anomalous sessions of {len(groups):,} kinds on {ds}", show_lines=True, expand=True)
    table.add_column("session", ratio=2, overflow="fold")
    table.add_column("score", min_width=11)
    table.add_column("reason and evidence", ratio=5, overflow="fold")
    table.add_column("lines", ratio=6, overflow="fold")
    for same in ranked[:limit]:
        first = same[0]
        more = f"\nand {len(same) - 1:,} more alike" if len(same) > 1 else ""
        evidence = [f"{each['count']}× {each['template'][:100]}" for each in first["evidence"][:3]]
        lines = [f"{Path(line['file']).name}:{line['line_no']} {line['text'][:160]}" for line in first["lines"][:SHOWN_LINES]]
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
def outcomes(
    ds: Ds,
    run_id: Annotated[str, typer.Option("--run-id", help="The run.")],
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what became of each system of a run; the exit code is the run's.

    Example: nightlog outcomes --ds 2026-03-04 --run-id manual__1
    """
    from nightlog.lake.lake import Lake
    from nightlog.lake.query import run_outcomes
    from nightlog.outcomes import exit_code
    from nightlog.run.context import check_ds
    from nightlog.run.entry import settings_from

    found = run_outcomes(Lake(settings_from(lake=lake).lake), check_ds(ds), run_id)
    if form != Format.TABLE:
        names = ["system", "outcome", "why"]
        print_rows([dict(zip(names, row, strict=True)) for row in found], names, form)
    for system, outcome, why in found if form == Format.TABLE else ():
        out.print(safe(f"{system}: {outcome}: {why}"), soft_wrap=True)
    if not found and form == Format.TABLE:
        out.print(f"no stage of run {run_id} left an outcome for {ds}: see the log of its first task")
    raise typer.Exit(exit_code([outcome for _, outcome, _ in found] or ["failed"]))


@app.command()
def signals(
    ds: Ds,
    system: Annotated[str, typer.Option("--system", help="One system alone.")] = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what else is unlike the nights before: templates that are new, at another rate, silent, with a value far
    out of its range, or worded in many new ways.

    A system's first nights are for learning; then nothing is said.

    Example: nightlog signals --ds 2026-03-05
    """
    from nightlog.lake.lake import Lake
    from nightlog.run.context import check_ds
    from nightlog.run.entry import settings_from
    from nightlog.signals.night import signals as read

    rows = read(Lake(settings_from(lake=lake).lake), check_ds(ds), system)
    if form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
    elif rows:
        print_rows(
            [{name: row[name] for name in ("system", "kind", "template", "reason")} for row in rows],
            ["system", "kind", "template", "reason"],
            form,
        )
    else:
        out.print(f"nothing on {ds} is unlike the nights before")
