"""The commit window: the writes of several systems wait for each other for some seconds, so that small systems share their commits."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from nightlog.errors import LockLost, outcome_of
from nightlog.lake.lake import Lake
from nightlog.lake.storage import storage_error
from nightlog.lake.transaction import Transaction, commit_together
from nightlog.outcomes import Outcome
from nightlog.run.progress import Progress

log = logging.getLogger(__name__)

WINDOW_S = 5.0


class CommitWindow:
    """The outcomes and transactions that wait for a commit, and the locks of their systems.

    A run that is killed loses at most the work of one window. Locks are released when the window is committed or the block ends.
    """

    def __init__(self, lake: Lake, progress: Progress):
        self.lake = lake
        self.progress = progress
        self.waiting: list[tuple[Outcome | None, Transaction]] = []
        self.locks = ExitStack()
        self.since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.locks.close()

    @property
    def is_due(self) -> bool:
        """True if the first writes have waited long enough."""
        return time.monotonic() - self.since >= WINDOW_S

    def add(self, outcome: Outcome | None, transaction: Transaction) -> None:
        """Let the transaction of a system wait, and its outcome, if it is to be noted."""
        self.waiting.append((outcome, transaction))

    def commit(self) -> list[Outcome]:
        """Commit the waiting transactions with one commit per table, then the outcomes, and release the locks.

        Returns the outcomes; a system whose writes could not be committed has the error as its outcome. If a system's lock was lost, the
        outcome is not recorded: it would be read as that of the process that has the system now.
        """
        with self.locks:
            failed = commit_together(self.lake, [transaction for _, transaction in self.waiting])
            outcomes = outcomes_after(self.lake, [outcome for outcome, _ in self.waiting], failed)
            lost = {number for number in outcomes if isinstance(failed.get(number), LockLost)}
            for number in lost:
                self.progress.lose(outcomes[number])
            self.progress.add([each for number, each in outcomes.items() if number not in lost])
        self.waiting, self.locks, self.since = [], ExitStack(), time.monotonic()
        return list(outcomes.values())


def outcomes_after(lake: Lake, outcomes: Sequence[Outcome | None], failed: Mapping[int, Exception]) -> dict[int, Outcome]:
    """Return the outcomes of systems after their commits, by number: those whose writes failed are changed to the error."""
    after = {}
    for number, outcome in enumerate(outcomes):
        error = failed.get(number)
        if error is not None:
            log.error("the writes of %s could not be committed", outcome or "a system", exc_info=error)
        if outcome is not None and error is not None:
            kind, detail = outcome_of(storage_error(error, lake.root) or error)
            after[number] = replace(outcome, outcome=kind, detail=detail)
        elif outcome is not None:
            after[number] = outcome
    return after
