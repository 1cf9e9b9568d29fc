"""The command line `nightlog`: one module per subject, imported in the order in which `nightlog --help` lists their commands."""

from __future__ import annotations

import sys

# isort: off
from nightlog.cli import nights, operators, analysts, stories, models, onboarding  # noqa: F401

# isort: on
from nightlog.cli.app import app, err, safe
from nightlog.errors import NightlogError


def main() -> None:
    """Entry point: Nightlog's own errors end as one message and their exit code."""
    try:
        app()
    except NightlogError as error:
        err.print(safe(f"nightlog: {error}"), style="red", soft_wrap=True)
        sys.exit(error.exit_code)
