"""The command line `nightlog`: a module a subject, imported in the order in which `nightlog --help` lists their commands."""

from __future__ import annotations

import sys

# isort: off
from nightlog.cli import nights, reading, operators, tables, analysts, feedback, stories, models, llm, onboarding  # noqa: F401

# isort: on
from nightlog.cli.app import app
from nightlog.cli.output import err, safe
from nightlog.errors import NightlogError


def main() -> None:
    """Entry point: Nightlog's own errors end as one message and their exit code."""
    try:
        app()
    except NightlogError as error:
        err.print(safe(f"nightlog: {error}"), style="red", soft_wrap=True)
        sys.exit(error.exit_code)
