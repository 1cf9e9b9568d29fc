"""The day's log files of a system: which they are, and their names in the lake."""

from __future__ import annotations

import re
from pathlib import Path

from nightlog.systems.spec import System

DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"


def find_files(system: System, data: Path, ds: str) -> list[Path]:
    """The files that hold the system's lines of one night, in order of their names; none is not an error here."""
    delivered = system.input.delivered
    if delivered is not None and delivered.isoformat() != ds:
        return []
    return sorted(path for path in data.glob(system.input.path.replace("{ds}", ds)) if path.is_file())


def find_days(system: System, data: Path) -> list[str]:
    """The nights for which the system has files, in order."""
    if system.input.delivered is not None:
        ds = system.input.delivered.isoformat()
        return [ds] if find_files(system, data, ds) else []
    wanted = system.input.path.replace("{ds}", DAY)
    # Names may hold other days than the one that {ds} stands for.
    seen = {day for path in data.glob(wanted) for day in re.findall(r"\d{4}-\d{2}-\d{2}", relative(path, data))}
    return sorted(day for day in seen if find_files(system, data, day))


def relative(path: Path, data: Path) -> str:
    """A file's name in the lake: relative to the data folder, so that a lake can be moved."""
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else path.as_posix()
