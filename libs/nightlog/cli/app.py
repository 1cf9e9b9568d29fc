"""The application that the commands register with."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="nightlog",
    help="Finds anomalies in the logs of systems that nobody has labelled, every night.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
