"""The application that the commands register with."""

from __future__ import annotations

import typer

EXIT_CODES = (
    "Exit codes: 0 done · 1 `replay` alone: it comes out differently · 2 wrong usage · 10 a quality gate stopped a system · "
    "20 transient, try again · 30 configuration or permanent. NO_COLOR=1 turns colours off; --format json is for programs."
)

app = typer.Typer(
    name="nightlog",
    help="Finds anomalies in the logs of systems that nobody has labelled, every night.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
