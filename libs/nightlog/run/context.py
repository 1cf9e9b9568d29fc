"""One run of one night: the arguments and versions that all of its stages share."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from nightlog.errors import UsageError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import OutcomeRow
from nightlog.settings import Settings
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from nightlog.detector.registry import Loaded, Model
    from nightlog.llm.batch import BatchQueue
    from nightlog.llm.items import Judge
    from nightlog.quality.approvals import Past
    from nightlog.quality.gates import Breach

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time. This is the clock of real runs; tests pass their own."""
    return datetime.now(UTC)


def check_ds(ds: str) -> str:
    """Return the day, checked to be YYYY-MM-DD. Raises UsageError."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", ds):
            return date.fromisoformat(ds).isoformat()
    except ValueError:
        pass
    raise UsageError(f"`{ds}` is not a valid date: expected YYYY-MM-DD, e.g. 2008-11-10")


@dataclass(frozen=True)
class Versions:
    """The versions by which a run judges a system.

    `model`: version of its model; None in rows of earlier versions of Nightlog, which had none until one was trained. `prompt`: hash of the
    prompt. `llm`: name of the LLM, None: off.
    """

    model: str | None
    prompt: str
    llm: str | None

    @staticmethod
    def from_row(row: OutcomeRow) -> Versions | None:
        """Return the versions of a row of ops.outcomes; None if it has none, as rows of older versions of Nightlog."""
        found = row.get("versions")
        return Versions(found.get("model"), found["prompt"], found.get("llm")) if found else None

    def as_map(self) -> dict[str, str]:
        """Return the versions as ops.outcomes stores them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def renewed(self, now: Versions, names: Sequence[str]) -> Versions:
        """Return these versions, with those of the given names taken from `now`.

        >>> Versions("m1", "p1", None).renewed(Versions("m2", "p2", "gpt"), ["llm"])
        Versions(model='m1', prompt='p1', llm='gpt')
        """
        return replace(self, **{name: getattr(now, name) for name in names})


@dataclass(frozen=True)
class Context:
    """One run of one night: day, run id, systems, lake, settings and clock.

    `as_run`: judge by the models that judged the night when it was published, not by those that serve today. `notify`: called with lines of
    text on the progress of long stages.
    `fewer_lines`: a published night may be replaced by one with fewer lines. `read_again`: files and lines are read and parsed even if they
    have not changed since an earlier run.
    The services (judge, history for the gates, …) are opened when they are first needed, once per run.
    """

    ds: str
    run_id: str
    systems: tuple[System, ...]
    lake: Lake
    settings: Settings
    clock: Callable[[], datetime]
    as_run: bool = False
    notify: Callable[[str], None] = log.info
    fewer_lines: bool = False
    read_again: bool = False

    def system(self, name: str) -> System:
        """Return the system of this name."""
        return next(system for system in self.systems if system.name == name)

    @cached_property
    def models(self) -> dict[str, Model]:
        """The model of each system as of now; with `as_run` that of then. Raises ConfigError if there is none of then."""
        from nightlog.detector.registry import as_then, serving

        return as_then(self.lake, self.systems, self.ds) if self.as_run else serving(self.lake, self.systems)

    def versions_now(self, system: System) -> Versions:
        """Return the versions by which a run that begins now judges the system."""
        from nightlog.llm.prompt import prompt_hash

        judge = self.judge.name if self.judge is not None else None
        return Versions(self.models[system.name].version, prompt_hash(system), judge)

    def model(self, system: System, versions: Versions) -> Model:
        """Return the pinned model of a system. Raises ConfigError if it is no longer known."""
        from nightlog.detector.registry import model_of

        if versions.model is None or ("models" in self.__dict__ and self.models[system.name].version == versions.model):
            return self.models[system.name]
        return model_of(self.lake, versions.model)

    def loaded(self, system: System, versions: Versions) -> Loaded:
        """Return the pinned model of a system, read from its file."""
        from nightlog.detector.registry import load

        return load(self.model(system, versions))

    @cached_property
    def judge(self) -> Judge | None:
        """The LLM, None if it is off."""
        from nightlog.llm.budget import spending
        from nightlog.llm.judge import make_judge

        return make_judge(self.settings, spent=spending(self.lake, self.ds, self.clock()))

    @cached_property
    def batches(self) -> BatchQueue | None:
        """Batches are submitted and collected here; None if no endpoint is asked."""
        from nightlog.llm.judge import make_batch_queue

        return make_batch_queue(self.settings, self.judge)

    @cached_property
    def past(self) -> Past:
        """The nights that the gates compare this one with, and the approvals, as of the first question of a gate."""
        from nightlog.quality.approvals import read_past

        return read_past(self.lake)

    @cached_property
    def unsound(self) -> dict[str, list[Breach]]:
        """The broken rules of the tables of ops, by system, and under the empty name those of all systems."""
        from nightlog.quality.rules import unsound_ops

        return unsound_ops(self.lake, self.ds)
