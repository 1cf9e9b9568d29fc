"""Commands of the analysts: what to ask them, and what they answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from nightlog.cli.app import app
from nightlog.cli.options import Format, FormatOption, LakeOption, SystemOption
from nightlog.cli.output import out, print_rows, safe
from nightlog.errors import ConfigError


class Label(StrEnum):
    """What a group of patterns can be."""

    NORMAL = "normal"
    ANOMALOUS = "anomalous"


@app.command()
def questions(
    system: SystemOption = "",
    with_answer: Annotated[bool, typer.Option("--answered", help="Those that were answered.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="Rows of the table; json and csv have all.")] = 10,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List what to ask the analysts: groups of patterns that the LLM is unsure of, first those where one answer changes most.

    Example: nightlog questions --system shop
    """
    from nightlog.cli.night_state import open_night
    from nightlog.feedback.questions import COLUMNS
    from nightlog.feedback.questions import questions as read
    from nightlog.run.entry import settings_from
    from nightlog.systems.catalog import load_catalog

    tables, state = open_night(lake, "", system)
    catalog = load_catalog(settings_from(lake=lake).systems)
    rows = read(tables, [each for name, each in catalog.items() if system in ("", name)], with_answer)
    if form != Format.TABLE:
        print_rows(rows, COLUMNS, form)
    elif rows:
        print_rows(rows[:limit], COLUMNS, form)
    elif not state.exit_code:
        out.print("no question is open" if not with_answer else "no question was answered")
    if form == Format.TABLE and len(rows) > limit:
        out.print(f"{len(rows) - limit:,} more: --limit or --format json")
    raise typer.Exit(state.exit_code)


@app.command()
def answer(
    group: Annotated[str, typer.Argument(help="The group, as `nightlog questions` names it.")],
    label: Annotated[Label | None, typer.Argument(help="normal or anomalous.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the answer back.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who answers; default: the user.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="What else there is to say; it stands in the reason.")] = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Answer about a group of patterns. The next publishing and retraining follow it; it outranks the LLM and the small model.

    Example: nightlog answer 1934c6cd normal --note "fans are slow on Sundays"

    Example: nightlog answer 1934c6cd --undo
    """
    from getpass import getuser

    from nightlog.feedback.questions import record_answer
    from nightlog.feedback.store import take_back
    from nightlog.lake.lake import Lake
    from nightlog.run.context import utc_now
    from nightlog.run.entry import settings_from
    from nightlog.systems.catalog import load_catalog

    if (label is None) != undo:
        raise ConfigError("give either normal, anomalous or --undo")
    settings, who = settings_from(lake=lake), by or getuser()
    tables = Lake(settings.lake)
    if label is None:
        row, said = take_back(tables, "answer", "group", group, who, utc_now(), note=note), "is open again"
    else:
        row = record_answer(tables, list(load_catalog(settings.systems).values()), group, label.value, who, utc_now(), note)
        said = f"is {label.value}; take it back with: nightlog answer {group} --undo"
    if form != Format.TABLE:
        print_rows([row], list(row), form)
        return
    out.print(safe(f"{row['system']}: {row['name'] or 'one pattern'} ({len(row['questions']):,} patterns) {said}"), soft_wrap=True)
