"""Commands of the models: teach, distil, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nightlog.cli.app import app
from nightlog.cli.options import DataOption, Format, FormatOption, LakeOption, Master, Systems
from nightlog.cli.output import Teller, err, out, print_rows, safe

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
    from nightlog.run.entry import settings_from
    from nightlog.run.train import run_training

    tell = Teller(form)
    with err.status("training"):
        run_training(settings_from(lake=lake, data=data, master=master), systems, tell)
    tell.finish()


@app.command()
def retrain(
    systems: Systems = "",
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Distil what the LLM and the analysts said of systems into small models of their own, so that the LLM is asked less.

    Example: nightlog retrain --systems dovecot
    """
    from nightlog.run.entry import settings_from
    from nightlog.run.train import run_distillation

    tell = Teller(form)
    with err.status("distilling"):
        run_distillation(settings_from(lake=lake, data=data, master=master), systems, tell)
    tell.finish()


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
    from nightlog.run.entry import settings_from

    settings = settings_from(lake=lake, data=data)
    if (system is None) != (ds is None):
        raise ConfigError("what was flagged on real nights is evaluated by --system and --ds together; the benchmark needs neither")
    if system is not None and ds is not None:
        from nightlog.evaluation.nights import evaluate_nights
        from nightlog.lake.lake import Lake
        from nightlog.run.context import check_ds
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
