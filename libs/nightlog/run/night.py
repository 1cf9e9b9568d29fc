"""A night: its stages, their order, and what becomes of a system that fails in one of them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightlog.errors import (
    ConfigError,
    GateFailed,
    NightlogError,
    first_line,
    outcome_of,
)
from nightlog.lake.lake import Lake
from nightlog.lake.lock import free, locked
from nightlog.lake.storage_errors import clear_storage_errors, storage_error
from nightlog.lake.tables import OUTCOMES
from nightlog.lake.transaction import Write, commit
from nightlog.run.stages import Outcome, Stage
from nightlog.settings import Settings
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from nightlog.detector.registry import Model
    from nightlog.llm.batch import BatchQueue
    from nightlog.llm.items import Judge
    from nightlog.quality.approvals import Past
    from nightlog.quality.gates import Breach

log = logging.getLogger(__name__)

# For so long the writes of systems wait for each other, so that small ones share their commits.
TOGETHER_S = 5.0

Counts = tuple[dict[str, int], str | None]


def check_ds(ds: str) -> str:
    """A day as YYYY-MM-DD. Raises ConfigError."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", ds):
            return date.fromisoformat(ds).isoformat()
    except ValueError:
        pass
    raise ConfigError(f"`{ds}` is no day: expected YYYY-MM-DD, e.g. 2008-11-10")


class Night:
    """One run of one night: the systems, the lake, the settings, and the model and judge that serve it.

    `as_run`: not the models that serve today but those that judged the night when it was published.
    """

    def __init__(
        self,
        ds: str,
        run_id: str,
        systems: Sequence[System],
        lake: Lake,
        settings: Settings,
        clock: Callable[[], datetime],
        as_run: bool = False,
    ):
        self.ds = check_ds(ds)
        self.run_id = run_id
        self.systems = list(systems)
        self.lake = lake
        self.settings = settings
        self.clock = clock
        self.data = Path(settings.logs).resolve()
        self.as_run = as_run
        self.noted: dict[tuple[str, str], dict[str, Any]] | None = None
        self.begun: set[str] = set()

    @cached_property
    def models(self) -> dict[str, Model]:
        """The model that serves each system, or served it then; the same ones in all stages that this process runs."""
        from nightlog.detector.registry import as_then, serving

        return as_then(self.lake, self.systems, self.ds) if self.as_run else serving(self.lake, self.systems)

    @cached_property
    def judge(self) -> Judge | None:
        """The LLM, None where it is off."""
        from nightlog.llm.budget import spending
        from nightlog.llm.judge import make_judge

        return make_judge(self.settings, spent=spending(self.lake, self.ds, self.clock()))

    @cached_property
    def batches(self) -> BatchQueue | None:
        """Where batches are submitted and collected, None where no endpoint is asked."""
        from nightlog.llm.judge import make_batch_queue

        return make_batch_queue(self.settings, self.judge)

    @cached_property
    def past(self) -> Past:
        """The nights that the gates compare this one with, and what was approved; as they were when a gate first asked."""
        from nightlog.quality.approvals import read_past

        return read_past(self.lake)

    @cached_property
    def unsound(self) -> dict[str, list[Breach]]:
        """What is broken in the tables of ops, by system and under the empty name for all; looked for once a run."""
        from nightlog.quality.rules import unsound_ops

        return unsound_ops(self.lake, self.ds)

    def rows(self) -> list[dict[str, Any]]:
        """All outcomes of the night so far, whatever run they are of, oldest first."""
        return sorted(self.lake.rows(OUTCOMES, ds=self.ds), key=lambda row: row["at"])

    def overtaken_by(self, system: System, latest: dict[tuple[str, str], dict[str, Any]]) -> str | None:
        """The run that has begun the system's night after this one did, None where there is none.

        Two runs of a night never mix: the later one does all of its stages, the earlier one does no more, and notes nothing more. A stage
        that is run by hand, under a name of its own, has begun nothing.
        """
        first = latest.get((system.name, Stage.INGEST))
        if first is None or first["run_id"] == self.run_id or system.name not in self.begun:
            return None
        return str(first["run_id"])

    def latest(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(system, stage) → its last outcome, as the table said when the stage began, and what this run has noted since."""
        if self.noted is None:
            rows = self.rows()
            self.noted = {(str(row["system"]), str(row["stage"])): row for row in rows}
            self.begun = {str(row["system"]) for row in rows if row["run_id"] == self.run_id and row["stage"] == Stage.INGEST}
        return self.noted

    def run_stage(self, stage: Stage) -> Iterator[Outcome]:
        """Run one stage for every system, each outcome noted in ops.outcomes.

        A system whose stage before did not end well is passed over. What small systems write waits for `TOGETHER_S`, and is then committed
        with one commit a table, their outcomes behind it: a run that is killed loses no more than that.
        """
        self.noted = None
        if stage in (Stage.ROUTE, Stage.DETECT, Stage.PUBLISH):
            _ = self.models
        if stage == Stage.LABEL:
            _ = self.judge
        waiting: list[tuple[Outcome | None, list[Write]]] = []
        holding, since = ExitStack(), time.monotonic()
        for system in self.systems:
            latest = self.latest()
            if self.finished(system, stage, latest):
                continue
            if stage != Stage.INGEST and (other := self.overtaken_by(system, latest)) is not None:
                detail = f"run {other} has begun this night anew since this run did; the night is left to it"
                yield Outcome(system.name, stage, "failed", detail, {}, 0.0)
            elif (before := self.unfinished(system, stage, latest)) is None:
                if waiting and not free(self.lake.root, system.name):  # who waits for another holds nothing
                    yield from self.note(waiting, holding)
                    waiting, since = [], time.monotonic()
                outcome, writes = self.attempt(stage, system, holding)
                if stage == Stage.PUBLISH and outcome.outcome != "done":
                    writes += self.unpublished(system, outcome.outcome, outcome.detail)
                waiting.append((outcome, writes))
            elif stage == Stage.PUBLISH:
                waiting.append((None, self.unpublished(system, before["outcome"], before["detail"])))
            if time.monotonic() - since >= TOGETHER_S:
                yield from self.note(waiting, holding)
                waiting, since = [], time.monotonic()
        yield from self.note(waiting, holding)
        if stage == Stage.PUBLISH:
            yield from self.report()

    def unpublished(self, system: System, outcome: str, detail: str | None) -> list[Write]:
        """The writes that note in gold.nights that the system is not published."""
        from nightlog.publishing.publish import publish_unfinished

        with self.lake.gathering() as writes:
            publish_unfinished(self.lake, system.name, self.run_id, self.ds, outcome, detail, self.clock())
        return writes

    def report(self) -> Iterator[Outcome]:
        """Write the night's pages, once all systems are published. A page that cannot be written fails nothing: the published system stays
        `done`, and its outcome says why there is no page; `nightlog report` tries again. Then the night is handed off."""
        from nightlog.pages.page import write_pages

        self.find_signals()
        try:
            failed = write_pages(self.lake, self.ds).failed
        except Exception as error:
            log.exception("%s: no pages", self.ds)
            failed = dict.fromkeys((system.name for system in self.systems), first_line(error))
        for name, why in failed.items():
            row = self.latest().get((name, Stage.PUBLISH))
            if row is not None and row["run_id"] == self.run_id and row["outcome"] == "done":
                detail = "; ".join(part for part in (row["detail"], f"no page: {why}") if part)
                (row,) = self.timed([row | {"detail": detail, "counts": dict(row["counts"] or ())}])
                self.lake.put(OUTCOMES, [row])
                self.latest()[name, Stage.PUBLISH.value] = row
                yield Outcome(name, Stage.PUBLISH, "done", detail, {}, 0.0)
        from nightlog.handoff.handoff import hand_off

        hand_off(self.lake, self.ds, self.run_id, self.settings.hand_off, self.clock)

    def find_signals(self) -> None:
        """Say what else is unlike the nights before, for the pages. What cannot be found fails nothing: the anomalies are published."""
        from nightlog.signals.night import find_signals

        try:
            find_signals(self.lake, self.systems, self.ds, self.run_id)
        except Exception:
            log.exception("%s: no signals", self.ds)

    def finished(self, system: System, stage: Stage, latest: dict[tuple[str, str], dict[str, Any]]) -> bool:
        """Whether this run has just done the stage for the system, and nothing before or behind it was done since.

        So a retry of a task goes on with the systems that are left, and a run that an operator starts over is done anew.
        """
        own = latest.get((system.name, stage))
        if own is None or own["run_id"] != self.run_id or own["outcome"] != "done":
            return False
        return all(row["at"] <= own["at"] for (name, _), row in latest.items() if name == system.name)

    def unfinished(self, system: System, stage: Stage, latest: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any] | None:
        """The first earlier stage that did not end well for the system, None where all did."""
        for earlier in list(Stage)[: list(Stage).index(stage)]:
            row = latest.get((system.name, earlier))
            if row is None:
                return {"outcome": "failed", "detail": f"stage {earlier} was never run for this night"}
            if row["outcome"] != "done":
                return row
        return None

    def attempt(self, stage: Stage, system: System, holding: ExitStack) -> tuple[Outcome, list[Write]]:
        """Run one stage for one system; whatever it raises becomes its outcome, so that the other systems go on. Returns the outcome and
        what waits to be committed before it is noted; answers of an LLM never wait. `holding` keeps the system's lock until then."""
        started = time.monotonic()
        counts: dict[str, int] = {}
        writes: list[Write] = []
        try:
            with clear_storage_errors(self.lake.root):
                holding.enter_context(locked(self.lake.root, system.name))
                if stage == Stage.LABEL:
                    counts, detail = self.work(stage, system)
                else:
                    with self.lake.gathering() as writes:
                        counts, detail = self.work(stage, system)
            outcome = "done"
        except GateFailed as error:
            (outcome, detail), counts = outcome_of(error), error.counts
        except Exception as error:
            outcome, detail = outcome_of(error)
            if not isinstance(error, NightlogError):
                log.exception("%s %s %s", system.name, self.ds, stage)
        return Outcome(system.name, stage, outcome, detail, counts, round(time.monotonic() - started, 3)), writes

    def note(self, waiting: Sequence[tuple[Outcome | None, list[Write]]], holding: ExitStack) -> Iterator[Outcome]:
        """Commit what some systems have written, then their outcomes, and let go of their locks; what cannot be committed is the outcome of
        its system."""
        with holding:
            outcomes = self.committed(waiting)
        yield from outcomes

    def committed(self, waiting: Sequence[tuple[Outcome | None, list[Write]]]) -> list[Outcome]:
        """The outcomes of some systems, once they and what waited for them are in the lake."""
        failed = commit(self.lake, [writes for _, writes in waiting])
        outcomes = []
        for number, (outcome, _) in enumerate(waiting):
            error = failed.get(number)
            if error is not None:
                log.error("%s: what %s wrote could not be committed", self.ds, outcome or "a system", exc_info=error)
            if outcome is not None:
                clear = error and (storage_error(error, self.lake.root) or error)
                what, detail = outcome_of(clear) if clear else (outcome.outcome, outcome.detail)
                outcomes.append(replace(outcome, outcome=what, detail=detail))
        rows = []
        for each in outcomes:
            row: dict[str, Any] = {"run_id": self.run_id, "ds": self.ds, "system": each.system, "stage": each.stage.value}
            rows.append(row | {"outcome": each.outcome, "detail": each.detail, "counts": each.counts, "seconds": each.seconds})
        rows = self.timed(rows)
        self.lake.put(OUTCOMES, rows)
        for row in rows:
            self.latest()[str(row["system"]), str(row["stage"])] = row
        return outcomes

    def timed(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return rows of ops.outcomes with their time `at`: now, and always later than the night's rows in the lake.

        Runs are ordered by `at`. A run on a machine whose clock was ahead must not look later than the runs after it.
        """
        last = max((row["at"] for row in self.lake.rows(OUTCOMES, ["at"], ds=self.ds)), default=None)
        found = []
        for row in rows:
            now = self.clock()
            last = now if last is None else max(now, last + timedelta(microseconds=1))
            found.append(row | {"at": last})
        return found

    def work(self, stage: Stage, system: System) -> Counts:
        """Call the one library function of a stage."""
        lake, ds, device = self.lake, self.ds, self.settings.device
        match stage:
            case Stage.INGEST:
                from nightlog.ingest.ingest import ingest
                from nightlog.quality.rules import check_lines

                counts, detail = ingest(lake, system, ds, self.data)
                check_lines(lake, system.name, ds, counts["n_lines"])
                return counts, detail
            case Stage.PARSE:
                return self.parse(system)
            case Stage.EMBED:
                from nightlog.encoding.encoder import embed

                return embed(lake, system, device), None
            case Stage.ROUTE:
                from nightlog.detector.registry import load
                from nightlog.routing.router import route

                model = load(self.models[system.name])
                return route(lake, system, ds, model.sources, model.manifest.tau, model.version, model.manifest.encoder), None
            case Stage.DETECT:
                from nightlog.detector.scoring import detect

                return detect(lake, system, ds, self.models[system.name], device), None
            case Stage.LABEL:
                from nightlog.llm.label import label_patterns

                return label_patterns(lake, system, ds, self.run_id, self.judge, self.clock, self.settings.prices, self.batches)
            case Stage.PUBLISH:
                return self.publish(system)

    def parse(self, system: System) -> Counts:
        """Parse, then let the gate look at the counts."""
        from nightlog.parsing.parse import LONG_SESSION, parse
        from nightlog.quality.approvals import check_parsed

        counts = parse(self.lake, system, self.ds, self.run_id)
        n_long = counts.pop("n_long_sessions")
        kept = {name: n for name, n in counts.items() if name != "n_beyond_cap"}
        try:
            notes = check_parsed(self.lake, system, self.ds, self.counted(system) | counts, self.past)
        except GateFailed as error:
            raise GateFailed(str(error), kept) from None
        if n_long:
            notes.append(f"{n_long:,} sessions have more than {LONG_SESSION:,} events; a few lines of each are shown")
        if n := counts.pop("n_beyond_cap"):
            notes.append(
                f"{n:,} distinct messages are beyond templates.messages = {system.templates.messages:,} and have no template of their own"
            )
        return counts, "; ".join(notes) or None

    def publish(self, system: System) -> Counts:
        """Publish what the earlier stages made."""
        from nightlog.detector.registry import load
        from nightlog.llm.prompt import prompt_hash
        from nightlog.publishing.publish import Publication, publish

        model, llm = load(self.models[system.name]), self.judge.name if self.judge is not None else None
        trouble = self.latest().get((system.name, Stage.LABEL), {}).get("detail")
        unsound = (*self.unsound.get(system.name, ()), *self.unsound.get("", ()))
        by = Publication(self.ds, self.run_id, model, prompt_hash(system), llm, self.clock(), trouble, self.past, unsound)
        counts = self.counted(system)
        counts |= {f"run_{name}": n for name, n in counts.items() if name.startswith("llm_")}
        seconds = sum(float(str(row["seconds"])) for (name, _), row in self.latest().items() if name == system.name)
        return publish(self.lake, system, by, counts, round(seconds, 3))

    def counted(self, system: System) -> dict[str, int]:
        """What the stages counted for a system, from their last outcomes."""
        found: dict[str, int] = {}
        for (name, _), row in self.latest().items():
            if name == system.name and row["outcome"] == "done":
                found |= {key: int(n) for key, n in dict(row["counts"] or ()).items()}
        return found


def utc_now() -> datetime:
    """The clock of real runs."""
    return datetime.now(UTC)
