"""Commands of the night's page."""

from __future__ import annotations

from typing import Annotated

import typer

from nightlog.cli.app import app
from nightlog.cli.options import Ds, Format, FormatOption, LakeOption
from nightlog.cli.output import err, print_rows, safe
from nightlog.outcomes import EXIT_PERMANENT


@app.command()
def report(
    ds: Ds,
    with_open: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Rebuild a night's pages from the lake and say where they lie; the night itself writes them as it publishes.

    Example: nightlog report --ds 2026-03-04 --open
    """
    import webbrowser
    from pathlib import Path

    from nightlog.lake.lake import Lake
    from nightlog.pages.page import write_pages
    from nightlog.run.context import check_ds
    from nightlog.run.entry import settings_from

    written = write_pages(Lake(settings_from(lake=lake).lake), check_ds(ds))
    for system, why in sorted(written.failed.items()):
        err.print(safe(f"{system}: no page: {why}"), soft_wrap=True)
    if form == Format.TABLE:
        print(written.page)
    else:
        print_rows([{"page": written.page, "failed": written.failed}], ["page", "failed"], form)
    if with_open:
        webbrowser.open(written.page if "://" in written.page else Path(written.page).as_uri())
    if written.failed:
        raise typer.Exit(EXIT_PERMANENT)
