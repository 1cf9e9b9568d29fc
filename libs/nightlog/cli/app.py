"""The application that the commands register with."""

from __future__ import annotations

from typing import Annotated

import typer

EXIT_CODES = (
    "Exit codes: 0 done · 1 `replay` alone: it comes out differently · 2 wrong usage · 4 not there: unknown, or never run · "
    "10 a quality gate stopped a system · 20 transient, try again · 30 configuration or permanent · "
    "40 incomplete: some sessions were judged by nobody. Commands that read a night end with its code. "
    "NO_COLOR=1 turns colours off; --format json is for programs."
)

app = typer.Typer(
    name="nightlog",
    help="Finds anomalies in the logs of systems that nobody has labelled, every night.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


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
