"""The parts that all commands share: the application that they register with, their options, and how rows are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nightlog.sanitize import UNSEEN, as_json, cell_value, csv_lines, escaped

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake
    from nightlog.settings import Settings

EXIT_CODES = (
    "Exit codes: 0 done · 1 `replay`: it comes out differently; `doctor`: an error · 2 wrong usage · 4 not there: unknown, or never run · "
    "10 a quality gate stopped a system · 20 transient, try again · 30 configuration or permanent · "
    "40 incomplete: some sessions were judged by nobody. Commands that read a night end with its code. "
    "NO_COLOR=1 turns colours off; --format json is for programs."
)
# Former names of commands and options, which are still understood.
FORMER_NAMES = {"answer": "label", "systems": "system"}

app = typer.Typer(
    name="nightlog",
    help="Finds anomalies in the logs of systems that nobody has labelled, every night.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": lambda name: FORMER_NAMES.get(name, name)},
)
out = Console()
err = Console(stderr=True)
# Least width of a table's column, in characters, unless its own text is shorter.
READABLE_COLUMN = 12


def print_version(is_asked: bool) -> None:
    """Print the version and end."""
    if is_asked:
        from importlib.metadata import version

        print(f"nightlog {version('nightlog')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)] = False,
) -> None:
    """Options of the program itself."""


class Format(StrEnum):
    """Form in which rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def checked_day(context: typer.Context, ds: str) -> str:
    """Return a day, checked; an option that is not given is empty. Raises UsageError."""
    from nightlog.run.context import check_ds

    return ds if context.resilient_parsing or not ds else check_ds(ds)


Ds = Annotated[str, typer.Option("--ds", help="The night's day, YYYY-MM-DD.", callback=checked_day)]
NightOption = Annotated[str, typer.Option("--ds", help="The night, YYYY-MM-DD; default: the last published one.", callback=checked_day)]
LastNight = Annotated[str, typer.Option("--ds", help="Its night, YYYY-MM-DD; default: the last that has it.", callback=checked_day)]
SystemOption = Annotated[str, typer.Option("--system", help="One system alone.")]
ItsSystem = Annotated[str, typer.Option("--system", help="Its system; needed if several have such a session.")]
LakeOption = Annotated[Path | None, typer.Option("--lake", help="Folder of the tables (env NIGHTLOG_LAKE; default ./lake).")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the log files (env NIGHTLOG_DATA; default: the sample).")]
Systems = Annotated[str, typer.Option("--system", help="Names of systems, separated by commas; default: all targets.")]
Limit = Annotated[int, typer.Option("--limit", help="Rows of the table; json and csv have all.")]
FormatOption = Annotated[Format, typer.Option("--format", help="table, json or csv.")]
Master = Annotated[str | None, typer.Option("--master", help="Spark master (env NIGHTLOG_MASTER; default local[*]).")]


def settings_from(**given: object) -> Settings:
    """Return the settings, with the options that were given put first. Raises ConfigError."""
    from nightlog.settings import settings_from as read

    return read(**given)


def open_tables(lake: Path | None) -> Lake:
    """Return the lake of the option --lake, to be read without Spark."""
    from nightlog.lake.lake import Lake

    return Lake(settings_from(lake=lake).lake)


def safe(text: str) -> Text:
    """Return text for the terminal: without markup and control characters."""
    return Text(UNSEEN.sub("�", text))


def warn(text: str) -> None:
    """Print a message to standard error: standard output has rows alone."""
    err.print(safe(text), style="yellow", soft_wrap=True)


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Format, grouped: bool = True, limit: int | None = None
) -> None:
    """Print the named columns of rows as a table, as JSON, or as CSV with nested values in JSON.

    A table that is too wide for the terminal is printed as one block of lines per row. Args: grouped: separate thousands in the table;
    limit: rows of the table, JSON and CSV have all.
    """
    if form == Format.JSON:
        print(escaped(json.dumps(rows, default=as_json, ensure_ascii=False, indent=1)))
        return
    if form == Format.CSV:
        sys.stdout.write(csv_lines(rows, columns))
        return
    cells = [[cell(row.get(name), grouped) for name in columns] for row in rows[:limit]]
    longest = [max((len(each) for each in column), default=0) for column in zip(columns, *cells, strict=True)]
    if sum(min(n, READABLE_COLUMN) + 3 for n in longest) >= out.width:
        print_blocks(columns, cells)
    else:
        from rich.table import Table

        table = Table()
        for name in columns:
            table.add_column(safe(name), overflow="fold")
        for row in cells:
            table.add_row(*map(safe, row))
        out.print(table)
    if len(rows) > len(cells):
        out.print(f"{len(rows) - len(cells):,} more: --limit or --format json")


def print_blocks(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of a column's name and its value; empty values are left out."""
    width = max(map(len, columns), default=0)
    for number, row in enumerate(cells, 1):
        out.print(f"row {number:,}", style="bold")
        for name, value in zip(columns, row, strict=True):
            if value:
                out.print(safe(f"  {name:{width}}  {value}"), soft_wrap=True)
    if not cells:
        out.print(safe(f"no rows; columns: {', '.join(columns)}"), soft_wrap=True)


def cell(value: Any, grouped: bool) -> str:
    """Return a value as the text of a table's cell.

    >>> cell(2026, False), cell(2026, True), cell(True, True), cell(None, True), cell([1], True), cell(1234.56789, True)
    ('2026', '2,026', 'true', '', '[1]', '1,234.5679')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if grouped and isinstance(value, int | float):
        return f"{round(value, 4):,}"
    return str(cell_value(value))


def print_heading(text: str) -> None:
    """Print a line that begins a part."""
    out.print()
    out.print(safe(text), style="bold", soft_wrap=True)


class Messages:
    """Messages of long work: each is printed when it comes, or with json and csv all of them as rows at the end."""

    def __init__(self, form: Format):
        self.form = form
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)
        if self.form == Format.TABLE:
            out.print(safe(text), soft_wrap=True)

    def finish(self) -> None:
        """Print what was not printed yet."""
        if self.form != Format.TABLE:
            print_rows([{"message": text} for text in self.lines], ["message"], self.form)
