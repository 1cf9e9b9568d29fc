"""Commands of the analysts: questions, labels, suppressions, and the list of all feedback."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nightlog.cli.app import (
    Format,
    FormatOption,
    ItsSystem,
    LakeOption,
    LastNight,
    Limit,
    SystemOption,
    app,
    checked_day,
    open_tables,
    out,
    print_rows,
    safe,
    settings_from,
)
from nightlog.errors import NotThere, UsageError

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake
    from nightlog.lake.tables import AnswerRow

GROUP_ID = re.compile(r"[0-9a-f]{8}")
NO_GROUP = "; nor is it a group: `nightlog questions` lists the open ones, with --answered those that have a label"
LONGEST_EXAMPLE = 200  # characters
By = Annotated[str | None, typer.Option("--by", help="Your name; default: your user name.")]
Note = Annotated[str | None, typer.Option("--note", help="A note; it is shown with the reason.")]


class Label(StrEnum):
    """Label of a pattern, or of a group of patterns."""

    NORMAL = "normal"
    ANOMALOUS = "anomalous"


@app.command(rich_help_panel="Feedback")
def questions(
    system: SystemOption = "",
    with_answer: Annotated[bool, typer.Option("--answered", help="Those that were answered.")] = False,
    limit: Limit = 10,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the open questions to analysts, first those whose answers teach most.

    These are groups of patterns that the LLM is unsure of, and patterns that nobody has judged, at most 100 of a system.

    Example: nightlog questions --system shop
    """
    from nightlog.cli.night_state import open_night
    from nightlog.feedback.questions import COLUMNS
    from nightlog.feedback.questions import questions as read
    from nightlog.systems.catalog import load_catalog

    tables, state = open_night(lake, "", system)
    catalog = load_catalog(settings_from(lake=lake).systems)
    rows = read(tables, [each for name, each in catalog.items() if system in ("", name)], with_answer)
    if form != Format.TABLE:
        print_rows(rows, COLUMNS, form)
    elif rows:
        for row in rows[:limit]:
            print_question(row)
        if len(rows) > limit:
            out.print(f"{len(rows) - limit:,} more: --limit or --format json")
        out.print("Answer with: nightlog label GROUP normal, or anomalous")
    elif not state.exit_code:
        out.print("no question is open" if not with_answer else "no question was answered")
    raise typer.Exit(state.exit_code)


def print_question(row: dict[str, Any]) -> None:
    """Print a question: its group, the sessions that it is about, the decision so far, and what sets them apart."""
    from nightlog.pages.words import n_of
    from nightlog.sanitize import shortened

    decision = (
        f"answered {row['answer']}" if row["answer"] else f"so far {row['decision']}, probability of an anomaly {row['probability']:.2f}"
    )
    about = f"{row['system']}: {n_of(row['sessions'], 'session')} of {n_of(row['patterns'], 'pattern')}, {decision}"
    out.print(Text(row["group"], style="bold") + safe(f"  {about}"), soft_wrap=True)
    out.print(safe(f"  {row['what']}"), soft_wrap=True)
    for each in re.split("; (?=[+-])", row["example"]) if row["example"] else ():
        out.print(safe(f"    {shortened(each, LONGEST_EXAMPLE)}"), style="dim", soft_wrap=True)


@app.command(rich_help_panel="Feedback")
def label(
    target: Annotated[str, typer.Argument(help="A session, a pattern's id, or a group's id from `nightlog questions`.")],
    is_a: Annotated[Label | None, typer.Argument(metavar="[normal|anomalous]", help="normal or anomalous.")] = None,
    system: ItsSystem = "",
    ds: LastNight = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the label back.")] = False,
    by: By = None,
    note: Note = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Label a session, with all sessions of its pattern, or a group of questions as normal or anomalous.

    The next publishing and retraining follow the label; it outranks the LLM and the small model.

    Example: nightlog label s20 normal --note "a load test"

    Example: nightlog label 1934c6cd anomalous --by kim

    Example: nightlog label s20 --undo
    """
    from nightlog.feedback.store import label_row, record, take_back
    from nightlog.lake.lookup import find_target
    from nightlog.run.context import utc_now

    if (is_a is None) != undo:
        raise UsageError("give either normal, anomalous or --undo")
    tables, who, now = open_tables(lake), by or getuser(), utc_now()
    is_group = GROUP_ID.fullmatch(target) is not None and not ds
    if is_group and label_group(tables, target, is_a, system, who, now, note, form):
        return
    try:
        place = find_target(tables, target, system, ds)
    except NotThere as error:
        raise NotThere(f"{error}{NO_GROUP * is_group}") from None
    if is_a is None:
        row, is_new = take_back(tables, "label", "pattern", place.pattern_id, who, now, place.system, note), True
        state = "has no label any more"
    else:
        pointed = {"session_id": place.session_id, "ds": place.ds, "note": note}
        row, is_new = record(tables, label_row(place.system, place.pattern_id, is_a.value, who, now, **pointed))
        state = f"is {is_a.value}{earlier(row, is_new)}"
    of = f" of session {target}" if place.session_id else ""
    print_change(row, is_new, f"{place.system}: pattern {place.pattern_id}{of} {state}", f"nightlog label {target}", form)


def label_group(lake: Lake, group: str, is_a: Label | None, system: str, who: str, now: datetime, note: str | None, form: Format) -> bool:
    """Label a group of questions, or take its label back, and print what was recorded. Returns False if there is no such group."""
    from nightlog.feedback.questions import record_answer
    from nightlog.feedback.store import take_back
    from nightlog.pages.words import n_of
    from nightlog.systems.catalog import load_catalog

    try:
        if is_a is None:
            row, is_new = take_back(lake, "answer", "group", group, who, now, system, note), True
        else:
            catalog = load_catalog(settings_from().systems)
            chosen = [each for name, each in catalog.items() if system in ("", name)]
            row, is_new = record_answer(lake, chosen, group, is_a.value, who, now, note)
    except NotThere:
        return False
    state = "is open again" if is_a is None else f"is {is_a.value}{earlier(row, is_new)}"
    text = f"{row['system']}: group {group} ({row['name'] or 'one pattern'}; {n_of(len(row['questions'] or ()), 'pattern')}) {state}"
    print_change(row, is_new, text, f"nightlog label {group}", form)
    return True


@app.command(rich_help_panel="Feedback")
def suppress(
    target: Annotated[str | None, typer.Argument(help="The session whose finding is to be hidden, or a pattern's id.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="The last night to hide it in, YYYY-MM-DD.", callback=checked_day)] = None,
    template: Annotated[str | None, typer.Option("--template", help="Instead of a session: a template, by id or part of its text.")] = None,
    system: ItsSystem = "",
    ds: LastNight = "",
    undo: Annotated[bool, typer.Option("--undo", help="Let it be shown again.")] = False,
    by: By = None,
    note: Note = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Hide a finding until a date: its anomalies are still found, with the status `suppressed`.

    A suppressed template hides an anomaly only if the night's normal sessions have all of its other templates: other trouble beside it is
    still shown.

    Example: nightlog suppress s20 --until 2026-12-31 --note "ticket 4711"

    Example: nightlog suppress --template "fan slow" --system shop --until 2026-12-31
    """
    from nightlog.feedback.store import About, record, suppression_row, take_back
    from nightlog.lake.lookup import find_target, find_template
    from nightlog.run.context import utc_now

    if (until is None) != undo:
        raise UsageError("give either --until YYYY-MM-DD or --undo")
    if (target is None) == (template is None):
        raise UsageError("give either a session or pattern, or --template with --system")
    if template is not None and not system:
        raise UsageError("--template needs --system: a template is one system's own")
    tables, who, now = open_tables(lake), by or getuser(), utc_now()
    about: About
    pointed: dict[str, str | None] = {"note": note}
    if template is not None:
        about, (name, text) = "template", find_template(tables, system, template)
        shown, command = f"template {name} ({text})", f"nightlog suppress --template {name} --system {system}"
        pointed |= {"name": text}
    else:
        assert target is not None
        place = find_target(tables, target, system, ds)
        about, name, system = "pattern", place.pattern_id, place.system
        shown, command = f"pattern {name}", f"nightlog suppress {target}"
        pointed |= {"session_id": place.session_id, "ds": place.ds}
    if until is None:
        row, is_new = take_back(tables, "suppression", about, name, who, now, system, note), True
        state = "is shown again"
    else:
        row, is_new = record(tables, suppression_row(system, about, name, until, who, now, **pointed))
        state = f"is suppressed until {until}{earlier(row, is_new)}"
        if until < f"{now:%Y-%m-%d}":
            state += "; that night is over: only nights up to it that are run again follow this"
    print_change(row, is_new, f"{system}: {shown} {state}", command, form)


@app.command(rich_help_panel="Feedback")
def feedback(
    system: SystemOption = "",
    with_all: Annotated[bool, typer.Option("--all/--holding", help="All feedback, or only what is still in force.")] = True,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the analysts' feedback, newest first: what, by whom, when, and if it is still in force.

    Example: nightlog feedback --holding --format json
    """
    from nightlog.cli.night_state import check_known
    from nightlog.feedback.store import history
    from nightlog.lake.tables import ANSWERS
    from nightlog.run.context import utc_now

    equal = {"system": system} if system else {}
    tables = open_tables(lake)
    rows = history(tables.rows(ANSWERS, None, **equal), f"{utc_now():%Y-%m-%d}")
    if not rows:
        check_known(tables, system)
    rows = [row for row in rows if with_all or row["holds"]]
    if form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
        return
    shown = [
        {
            "when": f"{row['at']:%Y-%m-%d %H:%M}",
            "by": row["by"],
            "system": row["system"],
            "about": f"{row['about']} {row['target']}" + (f", session {row['session_id']}" if row["session_id"] else ""),
            "label": row["label"],
            "what": "; ".join(part for part in (row["what"], row["note"]) if part),
            "holds": "yes" if row["holds"] else f"no: {row['why']}",
        }
        for row in rows
    ]
    if not shown:
        out.print("no feedback yet: `nightlog label` and `nightlog suppress` give some")
        return
    print_rows(shown, list(shown[0]), form)


def earlier(row: AnswerRow, is_new: bool) -> str:
    """Return the author and the day of the same feedback before, empty if it is new."""
    return "" if is_new else f", by {row['answered_by']} since {row['answered_at']:%Y-%m-%d}"


def print_change(row: AnswerRow, is_new: bool, text: str, command: str, form: Format) -> None:
    """Print what was recorded, in a sentence or as a row, and how to take it back."""
    if form != Format.TABLE:
        shown = {name: value for name, value in row.items() if name != "questions"} | {"new": is_new}
        print_rows([shown], list(shown), form)
        return
    out.print(safe(text), soft_wrap=True)
    if row["label"] is not None:
        out.print(safe(f"take it back with: {command} --undo"), soft_wrap=True)
