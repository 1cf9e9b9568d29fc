"""Commands about the lake and the catalogue: SQL, systems, costs, upkeep."""

from __future__ import annotations

from typing import Annotated

import typer

from nightlog.cli.app import app
from nightlog.cli.options import Format, FormatOption, LakeOption, Master, Systems
from nightlog.cli.output import Teller, err, print_rows


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="SQL of DuckDB, e.g. over gold.anomalies.")],
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask the lake in SQL.

    Example: nightlog query "select system, ds, count(*) from gold.anomalies group by all"
    """
    from nightlog.lake.lake import Lake
    from nightlog.lake.query import query as ask
    from nightlog.run.entry import settings_from

    found = ask(Lake(settings_from(lake=lake).lake), sql)
    print_rows(found.to_pylist(), found.column_names, form, grouped=False)


@app.command()
def systems(form: FormatOption = Format.TABLE) -> None:
    """List the known systems: what they are, where their files are looked for, and what may go to the LLM.

    Example: nightlog systems
    """
    from nightlog.run.entry import settings_from
    from nightlog.systems.catalog import load_catalog

    rows = [
        {
            "system": system.name,
            "role": system.role,
            "path": system.input.path,
            "sessions": system.session.kind,
            "labels": "file" if system.labels and system.labels.file else "field" if system.labels else "none",
            "llm": "allowed" if system.llm.allowed else "never",
            "description": system.description,
        }
        for system in load_catalog(settings_from().systems).values()
    ]
    print_rows(rows, list(rows[0]) if rows else [], form)


@app.command()
def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which nights are too old.")] = False,
    systems: Systems = "",
    lake: LakeOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Drop nights that are too old, put small files together, remove files that no version of the lake needs (weekly by Airflow).

    For how many days nights are kept: NIGHTLOG_BRONZE_DAYS (90), NIGHTLOG_SILVER_DAYS (180), NIGHTLOG_GOLD_DAYS (730); for how many days
    earlier versions of tables can be read: NIGHTLOG_REPLAY_DAYS (14). Sources, verdicts, answers and models are kept for ever.

    Example: nightlog maintain --dry-run
    """
    from nightlog.run.entry import settings_from
    from nightlog.run.maintenance import run_maintenance

    tell = Teller(form)
    with err.status("maintaining"):
        run_maintenance(settings_from(lake=lake, master=master), systems, tell, dry_run=dry_run)
    tell.finish()
