"""`nightlog doctor` checks everything that a night needs, changes nothing, and shows what to do. Here: the result of a check."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Severity: an error stops or spoils a night, a warning will sooner or later."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class CheckResult(NamedTuple):
    """The result of one check: its state, what was found and where, and what to do, empty if there is nothing to do."""

    state: State
    area: str
    what: str
    where: str = ""
    todo: str = ""


def ok(area: str, what: str, where: str = "") -> CheckResult:
    """Return a result without trouble."""
    return CheckResult(State.OK, area, what, where)


def warning(area: str, what: str, where: str, todo: str) -> CheckResult:
    """Return a result that somebody should see to, though a night runs."""
    return CheckResult(State.WARNING, area, what, where, todo)


def error(area: str, what: str, where: str, todo: str) -> CheckResult:
    """Return a result by which a night fails, or is not what it should be."""
    return CheckResult(State.ERROR, area, what, where, todo)
