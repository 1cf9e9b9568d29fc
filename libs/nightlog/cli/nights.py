"""The command that runs a night."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from nightlog.cli.app import app
from nightlog.cli.options import DataOption, Ds, Format, FormatOption, LakeOption, Master, Systems
from nightlog.cli.output import err, out, print_rows, safe
from nightlog.sanitize import UNSEEN


@app.command()
def run(
    ds: Ds,
    systems: Systems = "",
    first: Annotated[str, typer.Option("--from", help="The first stage to run; what those before it wrote is taken as it is.")] = "ingest",
    as_run: Annotated[bool, typer.Option("--as-run", help="Judge by the models that judged the night when it was published.")] = False,
    fewer_lines: Annotated[bool, typer.Option("--fewer-lines", help="Replace a published night even if it has fewer lines now.")] = False,
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
        )
        _ = night.context.models  # with --as-run, a night whose model is not known any more does not begin
        for stage in night.stages_from(Stage(first)):
            started, totals, told = time.monotonic(), dict[str, int](), list[str]()
            with err.status(f"{stage}: {len(chosen)} systems"):
                for outcome in night.run_stage(stage):
                    kinds[outcome.system, stage] = outcome.exit_kind
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
        unjudged = night.unjudged()
    for line in unjudged:
        (out if form == Format.TABLE else err).print(safe(line), style="yellow", soft_wrap=True)
    if form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
    raise typer.Exit(exit_code(kinds.values(), len(chosen)))
