"""The stages of a night, in order, and what becomes of a system in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nightlog.errors import EXIT_DONE, EXIT_GATE, EXIT_PERMANENT, EXIT_TRANSIENT


class Stage(StrEnum):
    """The stages of a night, in order."""

    INGEST = "ingest"
    PARSE = "parse"
    EMBED = "embed"
    ROUTE = "route"
    DETECT = "detect"
    LABEL = "label"
    PUBLISH = "publish"


NEEDS_SPARK = frozenset(Stage) - {Stage.LABEL}


@dataclass(frozen=True)
class Outcome:
    """What became of one system in one stage."""

    system: str
    stage: Stage
    outcome: str
    detail: str | None
    counts: dict[str, int]
    seconds: float


def exit_code(outcomes: Sequence[str]) -> int:
    """The exit code that says what became of a stage or a run: the worst of its systems, and transient where a retry may help."""
    if "transient" in outcomes:
        return EXIT_TRANSIENT
    if "failed" in outcomes:
        return EXIT_PERMANENT
    return EXIT_GATE if "gated" in outcomes else EXIT_DONE
