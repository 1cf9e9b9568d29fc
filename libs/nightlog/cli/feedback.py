"""Commands of what analysts say: label a session, suppress what is known, see what was said."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nightlog.cli.analysts import Label
from nightlog.cli.app import app
from nightlog.cli.options import Format, FormatOption, LakeOption
from nightlog.cli.output import out, print_rows, safe
from nightlog.errors import ConfigError

System = Annotated[str, typer.Option("--system", help="Its system; needed where several have such a session.")]
Night = Annotated[str, typer.Option("--ds", help="Its night, YYYY-MM-DD; default: the last that has it.")]
By = Annotated[str | None, typer.Option("--by", help="Who says so; default: the user.")]
Note = Annotated[str | None, typer.Option("--note", help="What else there is to say; it stands in the reason.")]


@app.command()
def label(
    session: Annotated[str, typer.Argument(help="The session, or a pattern's id.")],
    is_a: Annotated[Label | None, typer.Argument(metavar="[normal|anomalous]", help="What it is.")] = None,
    system: System = "",
    ds: Night = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the label back.")] = False,
    by: By = None,
    note: Note = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what a session is; that settles its pattern. The next publishing and retraining follow it; it outranks LLM and small model.

    Example: nightlog label s20 normal --note "a load test"

    Example: nightlog label s20 --undo
    """
    from getpass import getuser

    from nightlog.feedback.store import label_row, record, take_back
    from nightlog.lake.lake import Lake
    from nightlog.lake.lookup import find_target
    from nightlog.run.context import check_ds, utc_now
    from nightlog.run.entry import settings_from

    if (is_a is None) != undo:
        raise ConfigError("give either normal, anomalous or --undo")
    tables, who, now = Lake(settings_from(lake=lake).lake), by or getuser(), utc_now()
    place = find_target(tables, session, system, check_ds(ds) if ds else "")
    if is_a is None:
        row, is_new = take_back(tables, "label", "pattern", place.pattern_id, who, now, place.system, note), True
        said = "has no label any more"
    else:
        pointed = {"session_id": place.session_id, "ds": place.ds, "note": note}
        row, is_new = record(tables, label_row(place.system, place.pattern_id, is_a.value, who, now, **pointed))
        said = f"is {is_a.value}" + ("" if is_new else f", as {row['answered_by']} said on {row['answered_at']:%Y-%m-%d}")
    of = f" of session {session}" if place.session_id else ""
    tell(row, is_new, f"{place.system}: pattern {place.pattern_id}{of} {said}", f"nightlog label {session}", form)


@app.command()
def suppress(
    target: Annotated[str | None, typer.Argument(help="The session whose kind is to be hidden, or a pattern's id.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="The last night to hide it in, YYYY-MM-DD.")] = None,
    template: Annotated[str | None, typer.Option("--template", help="In its place: a template, by id or by part of its text.")] = None,
    system: System = "",
    ds: Night = "",
    undo: Annotated[bool, typer.Option("--undo", help="Let it be shown again.")] = False,
    by: By = None,
    note: Note = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Stop telling of a kind of session until some night: its anomalies are still found, with the status `suppressed`.

    A suppressed template hides an anomaly only where the rest of it is what the night's normal sessions are made of as well: other
    trouble beside it is still shown.

    Example: nightlog suppress s20 --until 2026-12-31 --note "ticket 4711"

    Example: nightlog suppress --template "fan slow" --system shop --until 2026-12-31
    """
    from getpass import getuser

    from nightlog.feedback.store import About, record, suppression_row, take_back
    from nightlog.lake.lake import Lake
    from nightlog.lake.lookup import find_target, find_template
    from nightlog.run.context import check_ds, utc_now
    from nightlog.run.entry import settings_from

    if (until is None) != undo:
        raise ConfigError("give either --until YYYY-MM-DD or --undo")
    if (target is None) == (template is None):
        raise ConfigError("give either a session or pattern, or --template with --system")
    if template is not None and not system:
        raise ConfigError("--template needs --system: a template is one system's own")
    tables, who, now = Lake(settings_from(lake=lake).lake), by or getuser(), utc_now()
    about: About
    pointed: dict[str, str | None] = {"note": note}
    if template is not None:
        about, (name, text) = "template", find_template(tables, system, template)
        shown, command = f"template {name} ({text})", f"nightlog suppress --template {name} --system {system}"
        pointed |= {"name": text}
    else:
        assert target is not None
        place = find_target(tables, target, system, check_ds(ds) if ds else "")
        about, name, system = "pattern", place.pattern_id, place.system
        shown, command = f"pattern {name}", f"nightlog suppress {target}"
        pointed |= {"session_id": place.session_id, "ds": place.ds}
    if until is None:
        row, is_new = take_back(tables, "suppression", about, name, who, now, system, note), True
        said = "is shown again"
    else:
        row, is_new = record(tables, suppression_row(system, about, name, check_ds(until), who, now, **pointed))
        said = f"is suppressed until {until}" + ("" if is_new else f", as {row['answered_by']} said on {row['answered_at']:%Y-%m-%d}")
        if until < f"{now:%Y-%m-%d}":
            said += "; that night is over: only nights up to it that are run again follow this"
    tell(row, is_new, f"{system}: {shown} {said}", command, form)


@app.command()
def feedback(
    system: Annotated[str, typer.Option("--system", help="One system alone.")] = "",
    with_all: Annotated[bool, typer.Option("--all/--holding", help="All that was ever said, or only what still holds.")] = True,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List what analysts said, newest first: what, by whom, when, and whether it still holds.

    Example: nightlog feedback --holding --format json
    """
    from nightlog.feedback.store import history
    from nightlog.lake.lake import Lake
    from nightlog.lake.tables import ANSWERS
    from nightlog.run.context import utc_now
    from nightlog.run.entry import settings_from

    equal = {"system": system} if system else {}
    rows = history(Lake(settings_from(lake=lake).lake).rows(ANSWERS, None, **equal), f"{utc_now():%Y-%m-%d}")
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
            "said": row["said"],
            "what": "; ".join(part for part in (row["what"], row["note"]) if part),
            "holds": "yes" if row["holds"] else f"no: {row['why']}",
        }
        for row in rows
    ]
    if not shown:
        out.print("nothing was said yet: `nightlog label`, `nightlog suppress` and `nightlog answer` do")
        return
    print_rows(shown, list(shown[0]), form)


def tell(row: dict[str, Any], is_new: bool, text: str, command: str, form: Format) -> None:
    """What was said, in a sentence or as a row, and how to take it back."""
    if form != Format.TABLE:
        shown = {name: value for name, value in row.items() if name != "questions"} | {"new": is_new}
        print_rows([shown], list(shown), form)
        return
    out.print(safe(text), soft_wrap=True)
    if row["label"] is not None:
        out.print(safe(f"take it back with: {command} --undo"), soft_wrap=True)
