"""The command line `nightlog`: one module per subject, imported in the order in which `nightlog --help` lists their commands."""

from __future__ import annotations

import sys

# isort: off
from nightlog.cli import nights, operators, analysts, stories, comparing, models, evaluate, onboarding  # noqa: F401

# isort: on
from nightlog.cli.app import app, err, safe
from nightlog.errors import ConfigError, NightlogError


def main() -> None:
    """Entry point: Nightlog's own errors end as one message and their exit code."""
    try:
        run_command()
    except NightlogError as error:
        err.print(safe(f"nightlog: {error}"), style="red", soft_wrap=True)
        sys.exit(error.exit_code)


def run_command() -> None:
    """Run the command. Raises ConfigError if it needs packages that an installation of the reading side leaves out."""
    try:
        app()
    except ModuleNotFoundError as missing:
        from nightlog.doctor.machine import reads_only

        if not reads_only():
            raise
        raise ConfigError(
            f"this command needs the package {missing.name}; install what runs nights: pip install 'nightlog[jobs]'"
        ) from missing
