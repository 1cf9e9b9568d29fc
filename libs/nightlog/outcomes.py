"""Stages of a night, outcomes of a system in a stage, and the exit codes that follow from them: defined here alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

EXIT_DONE = 0
EXIT_DIFFERENT = 1  # of `nightlog replay` alone: a past verdict comes out otherwise now
EXIT_USAGE = 2
EXIT_NOT_THERE = 4
EXIT_GATE = 10
EXIT_TRANSIENT = 20
EXIT_PERMANENT = 30
EXIT_INCOMPLETE = 40


class Stage(StrEnum):
    """The stages of a night, in order. `nightlog.run.stages` has the function of each."""

    INGEST = "ingest"
    PARSE = "parse"
    EMBED = "embed"
    ROUTE = "route"
    DETECT = "detect"
    LABEL = "label"
    PUBLISH = "publish"
    REPORT = "report"

    @property
    def before(self) -> tuple[Stage, ...]:
        """The stages before this one.

        >>> [str(stage) for stage in Stage.EMBED.before]
        ['ingest', 'parse']
        """
        return tuple(Stage)[: tuple(Stage).index(self)]

    @property
    def onwards(self) -> tuple[Stage, ...]:
        """This stage and those after it.

        >>> [str(stage) for stage in Stage.PUBLISH.onwards]
        ['publish', 'report']
        """
        return tuple(Stage)[tuple(Stage).index(self) :]


class OutcomeKind(StrEnum):
    """The outcome of a system in a stage, and of its night.

    `incomplete`: published, but nobody judged some of its sessions, or no file came though one was due and only sessions that had waited
    were judged. `no_input`: there was no file to read, which is a failure if one was due. `gated`: a quality gate held the
    night back. `transient`: it failed, and may work when it is tried again.
    """

    DONE = "done"
    INCOMPLETE = "incomplete"
    NO_INPUT = "no_input"
    GATED = "gated"
    FAILED = "failed"
    TRANSIENT = "transient"


# The stages after such an outcome are run; a night with such an outcome is published.
SUCCESSES = frozenset({OutcomeKind.DONE, OutcomeKind.INCOMPLETE})

# From the worst on: the exit code of several outcomes is that of the worst. Transient comes first, because a retry may help.
EXIT_CODES = {
    OutcomeKind.TRANSIENT: EXIT_TRANSIENT,
    OutcomeKind.FAILED: EXIT_PERMANENT,
    OutcomeKind.GATED: EXIT_GATE,
    OutcomeKind.INCOMPLETE: EXIT_INCOMPLETE,
    OutcomeKind.NO_INPUT: EXIT_DONE,
    OutcomeKind.DONE: EXIT_DONE,
}


def is_published(outcome: str | None) -> bool:
    """Return True if a row of gold.nights with this outcome has published anomalies and counts.

    >>> is_published("incomplete"), is_published("gated"), is_published(None)
    (True, False, False)
    """
    return outcome in SUCCESSES


def exit_kind(outcome: str, counts: Mapping[str, int] | None) -> str:
    """Return the outcome that counts for the exit code: a night without input is a failure if files were due.

    So is one that goes on to judge sessions that waited for it. Args: counts: of the same row of ops.outcomes; n_nights_before says that
    files were due, see `errors.NoInput`.

    >>> exit_kind("no_input", {"n_nights_before": 3}), exit_kind("done", {"n_nights_before": 3}), exit_kind("no_input", {})
    ('failed', 'failed', 'no_input')
    """
    return OutcomeKind.FAILED.value if dict(counts or ()).get("n_nights_before") else outcome


def exit_code(kinds: Iterable[str], n_systems: int = 0) -> int:
    """Return the exit code of a stage or a run.

    Args: kinds: see `exit_kind`; n_systems: the systems of the run, of which at least one must have had input.

    >>> exit_code(["done", "incomplete"]), exit_code(["gated", "failed"]), exit_code(["failed", "transient"]), exit_code([])
    (40, 30, 20, 0)
    >>> exit_code(["no_input", "done"], 2), exit_code(["no_input", "no_input"], 2), exit_code(["no_input"])
    (0, 30, 0)
    """
    found = list(kinds)
    if n_systems and found.count(OutcomeKind.NO_INPUT) >= n_systems:
        found.append(OutcomeKind.FAILED)
    return next((code for kind, code in EXIT_CODES.items() if kind in found), EXIT_DONE)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one system in one stage."""

    system: str
    stage: Stage
    outcome: OutcomeKind
    detail: str | None
    counts: dict[str, int]
    seconds: float

    @property
    def exit_kind(self) -> str:
        """The outcome that counts for the exit code."""
        return exit_kind(self.outcome, self.counts)
