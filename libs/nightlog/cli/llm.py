"""Commands about the LLM: its cost, and the answers of batches."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nightlog.cli.app import app
from nightlog.cli.options import Format, FormatOption, LakeOption, Systems
from nightlog.cli.output import err, print_rows, safe


@app.command()
def collect(systems: Systems = "", lake: LakeOption = None, form: FormatOption = Format.TABLE) -> None:
    """Collect what batches of earlier nights have brought (NIGHTLOG_LLM_MODE=batch); every night does it by itself too.

    Example: nightlog collect --systems shop
    """
    from nightlog.errors import ConfigError
    from nightlog.llm.judge import make_batch_queue, make_judge
    from nightlog.outcomes import EXIT_DONE, EXIT_TRANSIENT
    from nightlog.run.context import utc_now
    from nightlog.run.entry import chosen_systems, open_lake, settings_from

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


@app.command()
def cost(
    since: Annotated[str | None, typer.Option("--since", help="First night, YYYY-MM-DD.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last night, YYYY-MM-DD.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="One system alone.")] = None,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what the LLM cost: calls, questions, tokens, US dollars and seconds by night, system, mode and model, and their total.

    Example: nightlog cost --since 2026-03-01
    """
    from nightlog.lake.lake import Lake
    from nightlog.llm.budget import cost as read
    from nightlog.llm.budget import with_total
    from nightlog.run.context import check_ds
    from nightlog.run.entry import settings_from

    first, last = check_ds(since) if since else "", check_ds(until) if until else "9999"
    rows = with_total(read(Lake(settings_from(lake=lake).lake), first, last, system))
    print_rows(rows, list(rows[0]) if rows else [], form)
