"""A night as a table: for each stage its function, its needs, and the versions that it may pin again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nightlog.lake.lake import Lake
from nightlog.outcomes import OutcomeKind, Stage, exit_kind
from nightlog.run import steps
from nightlog.run.context import Context, Versions
from nightlog.run.progress import Progress
from nightlog.systems.spec import System

Need = Literal["spark", "gpu"]
Work = Callable[[Lake, Context, System, Versions, Progress], steps.Result]


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


@dataclass(frozen=True)
class Step:
    """One stage of a night.

    `work` handles one system; None for the report, which handles all systems at once. `needs`: a Spark session, for a large day; a GPU, if
    the profile has one. `pins`: the versions that this stage takes as they are now when it is run again (see `Versions.renewed`); it uses
    all others as the run pinned them when it began. `writes_at_once`: its rows are committed as they come, not after the stage.
    """

    stage: Stage
    description: str
    work: Work | None
    needs: frozenset[Need] = frozenset()
    pins: tuple[str, ...] = ()
    writes_at_once: bool = False


SPARK: frozenset[Need] = frozenset({"spark"})
SPARK_AND_GPU: frozenset[Need] = frozenset({"spark", "gpu"})

STEPS: dict[Stage, Step] = {
    step.stage: step
    for step in (
        Step(Stage.INGEST, "read the files of the day", steps.ingest, SPARK, ("model", "prompt", "llm")),
        Step(Stage.PARSE, "split lines into templates, sessions and patterns", steps.parse, SPARK),
        Step(Stage.EMBED, "embed the texts of new templates", steps.embed, SPARK_AND_GPU),
        Step(Stage.ROUTE, "choose who decides each pattern, small model or LLM", steps.route, SPARK),
        Step(Stage.DETECT, "score each pattern by the history and the trained model", steps.detect, SPARK_AND_GPU),
        Step(Stage.LABEL, "ask the LLM about patterns without a verdict", steps.label, pins=("prompt", "llm"), writes_at_once=True),
        Step(Stage.PUBLISH, "publish anomalies and the night's counts through the gates", steps.publish, SPARK),
        Step(Stage.REPORT, "find signals, write pages, hand the night off", None),
    )
}
