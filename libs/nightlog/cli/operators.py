"""Commands of the operators: publish a night that a gate held back, look whether all is well."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.text import Text

from nightlog.cli.app import app
from nightlog.cli.options import DataOption, Ds, Format, FormatOption, LakeOption, Master
from nightlog.cli.output import err, out, print_rows, safe
from nightlog.sanitize import UNSEEN


@app.command()
def approve(
    ds: Ds,
    system: Annotated[str, typer.Option("--system", help="The system that was held back.")],
    by: Annotated[str | None, typer.Option("--by", help="Who approves; default: your user name.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence.")] = "",
    new_normal: Annotated[bool, typer.Option("--new-normal", help="Nights before this one are no measure any more.")] = False,
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
) -> None:
    """Publish a night that a gate held back. It goes on where it stopped: nothing that was done is done again.

    Who approved what, and how far outside it was, is recorded in ops.approvals. Rows that are broken cannot be approved.

    Example: nightlog approve --ds 2026-03-04 --system shop --reason "sale day, three times the usual orders"
    """
    from nightlog.outcomes import exit_code
    from nightlog.quality.approvals import Approval
    from nightlog.run.approve import approve as go_on
    from nightlog.run.context import utc_now
    from nightlog.run.entry import new_run_id, open_lake, settings_from
    from nightlog.run.night import Night
    from nightlog.systems.catalog import choose, load_catalog

    settings = settings_from(lake=lake, data=data, master=master)
    chosen = choose(load_catalog(settings.systems), [system])
    outcomes: list[str] = []
    with open_lake(settings, "nightlog approve") as tables, err.status(f"{system} {ds}"):
        night = Night(ds, new_run_id(ds), chosen, tables, settings, utc_now)
        for each in go_on(night, Approval(by or getpass.getuser(), reason, new_normal)):
            outcomes.append(each.outcome)
            counts = "  ".join(f"{name.removeprefix('n_')} {n:,}" for name, n in each.counts.items())
            out.print(Text(UNSEEN.sub("�", f"{each.stage:8} {each.outcome}  {counts}  {each.detail or ''}".rstrip())), soft_wrap=True)
    raise typer.Exit(exit_code(outcomes))


@app.command()
def restore(
    table: Annotated[str, typer.Argument(help="The table, e.g. gold.anomalies.")],
    to: Annotated[
        str, typer.Option("--to", help="A version, or a time in UTC such as `2026-03-04 06:00`; without it the versions are listed.")
    ] = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Put a table back to an earlier version, or list its versions; docs/how-to/recover.md says what to run afterwards.

    Going back (`--to 12`, or `--to "2026-03-04 06:00"`) is a new version itself, so it can be undone. Versions can be read for
    NIGHTLOG_REPLAY_DAYS days.

    Example: nightlog restore gold.anomalies
    """
    from datetime import UTC, datetime

    from nightlog.errors import ConfigError
    from nightlog.lake.lake import Lake
    from nightlog.lake.tables import ALL_TABLES
    from nightlog.lake.time_travel import restore as go_back
    from nightlog.lake.time_travel import versions
    from nightlog.run.entry import settings_from
    from nightlog.systems.catalog import nearest

    specs = {spec.name: spec for spec in ALL_TABLES}
    if table not in specs:
        raise ConfigError(f"no table `{table}`{nearest(table, specs)}; known: {', '.join(specs)}")
    tables = Lake(settings_from(lake=lake).lake)
    if not to:
        rows = [each._asdict() | {"at": f"{each.at:%Y-%m-%d %H:%M:%S}"} for each in versions(tables, specs[table])]
        print_rows(rows, list(rows[0]), form)
        return
    try:
        point = int(to) if to.isdigit() else datetime.fromisoformat(to)
    except ValueError:
        raise ConfigError(f"--to {to}: neither a version nor a time such as `2026-03-04 06:00`") from None
    if isinstance(point, datetime) and point.tzinfo is None:
        point = point.replace(tzinfo=UTC)
    out.print(f"{table} is as it was in version {go_back(tables, specs[table], point)}")


@app.command()
def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Ask the LLM's endpoint for its models and one made-up question; no log text is sent.")
    ] = False,
    lake: LakeOption = None,
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Look at everything that a night needs, and say what to do: machine, lake, tables, models, endpoint, systems and their last nights.

    Nothing is changed, Spark is not started. The exit code is 1 where something is an error.

    Example: nightlog doctor --online
    """
    from nightlog.doctor.look import look, of_settings, worst
    from nightlog.errors import SettingsError
    from nightlog.run.context import utc_now
    from nightlog.run.entry import settings_from
    from nightlog.settings import java_home

    try:
        found = look(settings_from(lake=lake, data=data), java_home(), utc_now(), online)
    except SettingsError as trouble:
        found = of_settings(trouble)
    if form == Format.TABLE:
        area = ""
        for each in found:
            if each.area != area:
                area = each.area
                out.print(Text(f"\n{area}", style="bold"))
            colour = {"ok": "green", "warning": "yellow", "error": "red"}[each.state]
            place = f"  ({each.where})" if each.where and each.where not in each.what else ""
            out.print(Text(f"  {each.state:8}", style=colour) + safe(f"{each.what}{place}"), soft_wrap=True)
            if each.todo:
                out.print(safe(f"           → {each.todo}"), soft_wrap=True)
        n = {state: sum(each.state == state for each in found) for state in ("error", "warning")}
        out.print(f"\n{n['error']} errors, {n['warning']} warnings")
    else:
        print_rows([each._asdict() for each in found], list(found[0]._fields), form)
    raise typer.Exit(int(worst(found) == "error"))
