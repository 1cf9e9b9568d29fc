"""What a check says."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How bad it is: an error stops or spoils a night, a warning will sooner or later."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One thing that was looked at: how it is, what it is, where, and what to do, empty where nothing is to be done."""

    state: State
    area: str
    what: str
    where: str = ""
    todo: str = ""


def ok(area: str, what: str, where: str = "") -> Finding:
    """All is well."""
    return Finding(State.OK, area, what, where)


def warning(area: str, what: str, where: str, todo: str) -> Finding:
    """A night runs, and somebody should look."""
    return Finding(State.WARNING, area, what, where, todo)


def error(area: str, what: str, where: str, todo: str) -> Finding:
    """A night fails, or is not what it should be."""
    return Finding(State.ERROR, area, what, where, todo)
