"""The command of a new system: propose its file from a sample of its lines, and show how they parse."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightlog.cli.app import DataOption, Format, FormatOption, app, err, out, print_heading, safe, settings_from
from nightlog.errors import UsageError

if TYPE_CHECKING:
    from nightlog.onboarding.trial import Trial

SHARES = (("matched", "matched"), ("swallowed", "swallowed"), ("timed", "timed"), ("in a session", "in_session"))


@app.command("try", rich_help_panel="Systems")
def try_files(
    files: Annotated[list[Path], typer.Argument(help="Log files of one system: plain, .gz, .xz, .bz2, .zst or .zip.")],
    to: Annotated[Path | None, typer.Option("--out", help="Write the proposed file here, e.g. my-systems/shop.toml.")] = None,
    given: Annotated[Path | None, typer.Option("--with", help="Try this system's file, e.g. after an edit, instead of a proposal.")] = None,
    name: Annotated[str, typer.Option("--name", help="The system's name; default: from the first file's name.")] = "",
    n_lines: Annotated[int, typer.Option("--lines", min=10, help="Lines that are looked at.")] = 20_000,
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Try a new system: propose its file from its logs, and show how they parse, what would be sent to the LLM, and what looks wrong.

    Nothing is written but the file of --out, nothing is sent, and Spark is not started.

    After an edit of the file, --with tries it again on the same logs.

    Example: nightlog try /var/log/shop/shop-2026-03-04.log --out my-systems/shop.toml
    """
    from nightlog.onboarding.report import report_of

    if form == Format.CSV:
        raise UsageError("a trial is printed as table or json")
    if given is not None and (to is not None or name):
        raise UsageError("--with tries a file as it is: leave out --out and --name")
    if to is not None and to.exists():
        raise UsageError(f"{to}: exists; give another name, or remove it")
    with err.status("reading"):
        settings = settings_from(data=data)
        report, trial = report_of(files, name, n_lines, settings, given)
    if to is not None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(report["toml"], encoding="utf-8")
    if form == Format.JSON:
        print(json.dumps(report, ensure_ascii=False, indent=1))
        return
    show(report, trial, to, given)
    if (file := to or given) is not None:
        out.print(safe(next_step(report, trial.system.name, file)), soft_wrap=True)


def next_step(report: dict[str, Any], name: str, to: Path) -> str:
    """Return what to type next."""
    settings = f"NIGHTLOG_SYSTEMS={quote(str(to.parent))} NIGHTLOG_DATA={quote(report['data'])}"
    return f"Next: {settings} nightlog run --ds {report['ds']} --system {name}"


def show(report: dict[str, Any], trial: Trial, to: Path | None, given: Path | None) -> None:
    """The trial on a terminal: how lines parse, templates, sessions, what would be sent, what looks wrong, the cost, the file."""
    looked, total = report["lines_looked_at"], report["lines"]
    about = "about " if report["lines_estimated"] else ""
    out.print(safe(f"{report['format']}: {looked:,} of {about}{total:,} lines looked at"), style="bold")
    out.print(safe(" · ".join(f"{words} {report[key]:.1%}" for words, key in SHARES)), soft_wrap=True)
    counts = " · ".join(f"{report[key]:,} {key}" for key in ("records", "templates", "sessions", "patterns", "questions"))
    out.print(safe(counts), soft_wrap=True)
    if report["example"]:
        print_heading("A record as it is split")
        for field, value in report["example"].items():
            out.print(safe(f"  {field:10} {value}"), overflow="ellipsis", no_wrap=True)
    print_heading("Templates, the most frequent first")
    for each in report["top_templates"]:
        out.print(safe(f"  {each['records']:>7,}  {each['template']}"), overflow="ellipsis", no_wrap=True)
    print_heading("What could make sessions")
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("score", "sessions", "records with id", "sessions alike", "field and pattern"):
        table.add_column(column, justify="left" if column.startswith("field") else "right", overflow="fold")
    for each in report["candidates"]:
        where = f"{each['field']}  {each['pattern'] or ''}"
        table.add_row(f"{each['score']:.2f}", f"{each['sessions']:,}", f"{each['coverage']:.0%}", f"{each['alike']:.0%}", safe(where))
    out.print(table)
    print_heading("What would be sent to the LLM, for example")
    for line in report["outgoing"]:
        out.print(safe(f"  {line}"), overflow="ellipsis", no_wrap=True)
    cost = report["cost"]
    print_heading("A first night of these files")
    out.print(
        safe(
            f"  about {cost['questions']:,} questions in {cost['calls']:,} calls ({cost['calls_allowed']:,} are allowed a night), "
            f"{cost['tokens_in']:,} tokens in, "
            f"{cost['tokens_out']:,} out, ${cost['money']:.2f} by the prices of the settings; later nights ask only about what is new"
        ),
        soft_wrap=True,
    )
    print_heading("What looks wrong" if report["findings"] else "Nothing looks wrong")
    for finding in report["findings"]:
        out.print(safe(f"  - {finding}"), style="yellow", soft_wrap=True)
    if given is None:
        print_heading(f"The proposed file, written to {to}" if to else "The proposed file (--out writes it)")
        out.print(safe(report["toml"]), soft_wrap=True)
