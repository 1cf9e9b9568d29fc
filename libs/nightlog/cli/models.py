"""Commands of the models: train and distil small models; collect and sum up what the LLM answers and costs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nightlog.cli.app import (
    DataOption,
    Format,
    FormatOption,
    LakeOption,
    Master,
    Messages,
    SystemOption,
    Systems,
    app,
    checked_day,
    err,
    open_tables,
    print_rows,
    safe,
    settings_from,
)


@app.command(rich_help_panel="Models")
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


@app.command(rich_help_panel="Models")
def retrain(
    systems: Systems = "",
    lake: LakeOption = None,
    data: DataOption = None,
    master: Master = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Distil the verdicts of LLM and analysts into small models of the systems' own, so that the LLM is asked less.

    Example: nightlog retrain --system dovecot
    """
    from nightlog.run.train import run_distillation

    messages = Messages(form)
    with err.status("distilling"):
        run_distillation(settings_from(lake=lake, data=data, master=master), systems, messages)
    messages.finish()


@app.command(rich_help_panel="Nights")
def collect(systems: Systems = "", lake: LakeOption = None, form: FormatOption = Format.TABLE) -> None:
    """Collect what batches of earlier nights have brought (NIGHTLOG_LLM_MODE=batch); every night does it by itself too.

    Example: nightlog collect --system shop
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


@app.command(rich_help_panel="Nights")
def cost(
    since: Annotated[str | None, typer.Option("--since", help="First night, YYYY-MM-DD.", callback=checked_day)] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last night, YYYY-MM-DD.", callback=checked_day)] = None,
    system: SystemOption = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Sum up what the LLM cost: calls, questions, tokens, US dollars and seconds by night, system, mode and model, and their total.

    Example: nightlog cost --since 2026-03-01
    """
    from nightlog.cli.night_state import check_known
    from nightlog.llm.budget import cost as read
    from nightlog.llm.budget import with_total

    tables = open_tables(lake)
    rows = with_total(read(tables, since or "", until or "9999", system or None))
    if not rows:
        check_known(tables, system)
        err.print("no LLM was asked on these nights")
    if rows or form != Format.TABLE:
        print_rows(rows, list(rows[0]) if rows else [], form)
