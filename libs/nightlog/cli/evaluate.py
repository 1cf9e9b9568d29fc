"""The command that evaluates: the modes on labelled systems, or what was flagged on nights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nightlog.cli.app import DataOption, Format, FormatOption, LakeOption, app, err, out, print_rows, safe, settings_from

if TYPE_CHECKING:
    from nightlog.evaluation.run import Options
    from nightlog.settings import Settings

TargetsOption = Annotated[
    str,
    typer.Option("--targets", help="Labelled systems: names, session files, or systems with nights in the lake; default: all that ship."),
]
ModesOption = Annotated[str, typer.Option("--modes", help="Separated by commas; default: all.")]
SharedOption = Annotated[
    Path | None,
    typer.Option("--shared", envvar="NIGHTLOG_SHARED", help="Folder with data/sessions (public sets) and llm (recorded verdicts)."),
]


@app.command(rich_help_panel="Models")
def evaluate(
    system: Annotated[str | None, typer.Option("--system", help="A labelled system whose nights were run; with --ds.")] = None,
    ds: Annotated[str | None, typer.Option("--ds", help="Nights, separated by commas; with --system.")] = None,
    targets: TargetsOption = "",
    modes: ModesOption = "",
    quick: Annotated[bool, typer.Option("--quick", help="One seed, all systems, without the GRU; minutes.")] = False,
    answers: Annotated[str, typer.Option("--answers", help="Numbers of an analyst's answers, separated by commas.")] = "0,10,20",
    questions: Annotated[str, typer.Option("--questions", help="Numbers of questions to the LLM, separated by commas.")] = "20,40,80",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Repetitions of what depends on chance.")] = 5,
    protocol: Annotated[str, typer.Option("--protocol", help="deployment, paper (classes balanced by labels) or both.")] = "deployment",
    verdicts: Annotated[Path | None, typer.Option("--verdicts", help="Recorded verdicts of an LLM; default: the endpoint.")] = None,
    results: Annotated[Path, typer.Option("--out", help="Folder of the results; it keeps other modes and targets.")] = Path(
        "build/evaluation"
    ),
    public: Annotated[Path | None, typer.Option("--public", help="Folder of HDFS.log, anomaly_label.csv, BGL.log as published.")] = None,
    shared: SharedOption = None,
    lake: LakeOption = None,
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Evaluate the modes on labelled systems, or compare what was flagged on some nights with the system's labels.

    Nothing else ever reads a target's labels. A session file has JSON lines: session_id, label (0 or 1), events (template texts, or text
    and count), and optionally time.

    Example: nightlog evaluate --quick --answers 0,10,20

    Example: nightlog evaluate --quick --public /data/loghub

    Example: nightlog evaluate --targets mine.jsonl.gz --modes history

    Example: nightlog evaluate --system hdfs --ds 2008-11-09,2008-11-10,2008-11-11
    """
    from nightlog.errors import UsageError
    from nightlog.evaluation.run import Options

    settings = settings_from(lake=lake, data=data)
    if (system is None) != (ds is None):
        raise UsageError("nights are evaluated by --system and --ds together; the evaluation of modes needs neither")
    if system is not None and ds is not None:
        from nightlog.evaluation.nights import evaluate_nights
        from nightlog.lake.lake import Lake
        from nightlog.run.context import check_ds
        from nightlog.systems.catalog import choose, load_catalog

        days = [check_ds(day.strip()) for day in ds.split(",")]
        chosen = choose(load_catalog(settings.systems), [system])[0]
        rows = evaluate_nights(Lake(settings.lake), chosen, days, settings.logs)
        print_rows(rows, list(rows[0]), form)
        return
    options = Options.of(targets, modes, protocol, seeds, answers, questions, quick)
    run_evaluation(settings, options, results, sets_of(settings, public, shared, results), shared, verdicts, form)


def cell(value: object) -> str:
    """A cell of the summary."""
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def sets_of(settings: Settings, public: Path | None, shared: Path | None, folder: Path) -> Path | None:
    """Return the folder of the public session sets, built from the published files if these are named."""
    from nightlog.evaluation.corpus import sessions_folder

    if public is not None:
        from nightlog.evaluation.public import build_sets

        with err.status("building session sets from the published files"):
            built, missing = build_sets(public, folder / "sessions")
        for text in (f"built in {folder / 'sessions'}: {', '.join(built)}", *missing):
            err.print(safe(text), soft_wrap=True)
        return folder / "sessions"
    sets = sessions_folder(settings.logs.resolve(), shared)
    if sets is None:
        err.print(safe("no public session sets: the recorded systems alone are evaluated; --public DIR builds them"), soft_wrap=True)
    return sets


def run_evaluation(
    settings: Settings, options: Options, folder: Path, sets: Path | None, shared: Path | None, verdicts: Path | None, form: Format
) -> None:
    """Run the modes, write the files, and print the summary."""
    from nightlog.evaluation.case import KeptVectors
    from nightlog.evaluation.corpus import Places
    from nightlog.evaluation.judged import source_of_verdicts
    from nightlog.evaluation.report import results_markdown, summary
    from nightlog.evaluation.run import merged, of_other_code, prepare, write

    places = Places(sets, settings.lake, settings.logs, settings.systems)
    recorded = verdicts or (shared / "llm" / "verdicts.jsonl.gz" if shared is not None else None)
    verdicts_of = source_of_verdicts(settings, recorded, explicit=verdicts is not None, folder=folder)
    for name in options.left_out:
        err.print(safe(f"left out of this run: {name}"), soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    run = prepare(options, places, verdicts_of, KeptVectors(folder, settings.device), settings.device)
    records: list[dict[str, Any]] = []
    with err.status("evaluating") as status:
        for number, found in enumerate(run.records(), 1):
            records += found
            status.update(f"{number} of {len(run.targets)} systems: {found[0]['target'] if found else ''}")
    if run.without_verdicts:
        names = ", ".join(dict.fromkeys(run.without_verdicts))
        err.print(safe(f"left out for lack of an LLM's verdicts: the modes with an LLM on {names}"), style="yellow", soft_wrap=True)
    paths = [folder / name for name in ("results.json", "audit.json")]
    earlier, audits = (json.loads(path.read_text("utf-8")) if path.is_file() else [] for path in paths)
    records = merged(earlier, records)
    rows_of_audit = {row["target"]: row for row in [*audits, *(each.row() for each in run.audits.values())]}
    write(folder / "results.json", json.dumps(records, indent=1))
    write(folder / "audit.json", json.dumps(list(rows_of_audit.values()), indent=1))
    write(folder / "results.md", results_markdown(records, list(rows_of_audit.values())))
    rows = summary(records)
    if form == Format.TABLE:
        from rich.table import Table

        for protocol in options.protocols:
            table = Table(title=f"{protocol} protocol: means over families of systems")
            for number, column in enumerate(list(rows[0])[1:]):
                table.add_column(column.replace("_", " "), no_wrap=not number)
            for row in rows:
                if row["protocol"] == protocol:
                    table.add_row(*[safe(cell(value)) for value in list(row.values())[1:]])
            out.print(table)
    else:
        print_rows(rows, list(rows[0]), form)
    for code, modes in of_other_code(records).items():
        text = f"of other code ({code}), kept from an earlier run: {', '.join(modes)}; run these modes again to compare them"
        err.print(safe(text), style="yellow", soft_wrap=True)
    for name, what in (("results.md", "tables"), ("results.json", "records"), ("audit.json", "leakage audit")):
        err.print(Text(f"{what}: {folder / name}"), soft_wrap=True)
