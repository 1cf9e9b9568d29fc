"""Commands of the models: train, distil and evaluate small models; collect and sum up what the LLM answers and costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nightlog.cli.app import (
    DataOption,
    Format,
    FormatOption,
    LakeOption,
    Master,
    Messages,
    Systems,
    app,
    checked_day,
    err,
    open_tables,
    out,
    print_rows,
    safe,
    settings_from,
)

if TYPE_CHECKING:
    from nightlog.evaluation.bench import Wanted
    from nightlog.settings import Settings


@app.command()
def train(
    systems: Systems = "",
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Train the small model on the labelled systems, and let it serve.

    Example: nightlog train --data /var/log/archive
    """
    from nightlog.run.train import run_training

    messages = Messages(form)
    with err.status("training"):
        run_training(settings_from(lake=lake, data=data, master=master), systems, messages)
    messages.finish()


@app.command()
def retrain(
    systems: Systems = "",
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Distil the verdicts of LLM and analysts into small models of the systems' own, so that the LLM is asked less.

    Example: nightlog retrain --systems dovecot
    """
    from nightlog.run.train import run_distillation

    messages = Messages(form)
    with err.status("distilling"):
        run_distillation(settings_from(lake=lake, data=data, master=master), systems, messages)
    messages.finish()


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
    """Benchmark the modes on labelled systems, or compare the anomalies of some nights with the system's labels.

    Nothing else reads a target's labels.

    Example: nightlog evaluate --quick --out build/benchmark

    Example: nightlog evaluate --system hdfs --ds 2008-11-09,2008-11-10,2008-11-11
    """
    from nightlog.errors import ConfigError

    settings = settings_from(lake=lake, data=data)
    if (system is None) != (ds is None):
        raise ConfigError("what was flagged on real nights is evaluated by --system and --ds together; the benchmark needs neither")
    if system is not None and ds is not None:
        from nightlog.evaluation.nights import evaluate_nights
        from nightlog.run.context import check_ds
        from nightlog.systems.catalog import choose, load_catalog

        chosen = choose(load_catalog(settings.systems), [system])[0]
        rows = evaluate_nights(open_tables(lake), chosen, [check_ds(day.strip()) for day in ds.split(",")], settings.logs)
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
        from rich.table import Table

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
def collect(systems: Systems = "", lake: LakeOption = None, form: FormatOption = Format.TABLE) -> None:
    """Collect what batches of earlier nights have brought (NIGHTLOG_LLM_MODE=batch); every night does it by itself too.

    Example: nightlog collect --systems shop
    """
    from nightlog.errors import ConfigError
    from nightlog.llm.judge import make_batch_queue, make_judge
    from nightlog.outcomes import EXIT_DONE, EXIT_TRANSIENT
    from nightlog.run.context import utc_now
    from nightlog.run.entry import chosen_systems, open_lake

    settings = settings_from(lake=lake)
    batches = make_batch_queue(settings, make_judge(settings))
    if batches is None:
        raise ConfigError("no endpoint to collect from: set OPENAI_API_KEY (and OPENAI_BASE_URL), and NIGHTLOG_LLM=openai")
    rows: list[dict[str, Any]] = []
    with open_lake(settings, "nightlog collect", with_spark=False) as tables:
        for system in chosen_systems(settings, systems):
            if not system.llm.allowed:
                continue
            found = batches.collect(tables, system, utc_now)
            if found.settled or found.still_open:
                names = {"settled": found.settled, "open": found.still_open, "verdicts": len(found.verdicts)}
                rows.append({"system": system.name} | names | {"nights": sorted(found.nights), "trouble": "; ".join(found.troubles)})
    if not rows:
        err.print("no batch is open")
    else:
        print_rows(rows, list(rows[0]), form)
    if nights := sorted({night for row in rows for night in row["nights"]}):
        err.print(safe(f"to publish these nights with the new verdicts: nightlog run --ds {nights[-1]}"), soft_wrap=True)
    raise typer.Exit(EXIT_TRANSIENT if any(row["trouble"] and row["open"] for row in rows) else EXIT_DONE)


@app.command()
def cost(
    since: Annotated[str | None, typer.Option("--since", help="First night, YYYY-MM-DD.", callback=checked_day)] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last night, YYYY-MM-DD.", callback=checked_day)] = None,
    system: Annotated[str | None, typer.Option("--system", help="One system alone.")] = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Sum up what the LLM cost: calls, questions, tokens, US dollars and seconds by night, system, mode and model, and their total.

    Example: nightlog cost --since 2026-03-01
    """
    from nightlog.llm.budget import cost as read
    from nightlog.llm.budget import with_total

    rows = with_total(read(open_tables(lake), since or "", until or "9999", system))
    print_rows(rows, list(rows[0]) if rows else [], form)
